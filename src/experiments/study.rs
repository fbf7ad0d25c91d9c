//! A study under way: its folder holds the [`Grid`] and one folder a cell; whatever is finished there is never done again.
//!
//! A study that was stopped, or killed, goes on where it was. Several processes, also on several machines that share the
//! folder, may work on one study: each takes cells that nobody is at.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::baseline;
use crate::data::Dataset;
use crate::data::cache::Cache;
use crate::data::fingerprint::Fingerprint;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files::{self, Lock};
use crate::models::Architecture;
use crate::report::{self, Section};
use crate::train::config::{Config, Data};
use crate::train::evaluate::Evaluation;
use crate::train::fit::{Observer, Options, Trainer};
use crate::train::results::{self, DataSummary, Results, Run, Saves};

use super::Loaded;
use super::grid::{Cell, Grid, Method};

/// Who watches a study.
pub trait Watcher {
    /// Data are about to be loaded; what is given is told (tracks done, tracks in all).
    fn loading(&self, data: &Data) -> Box<dyn Fn(usize, usize) + Sync + '_>;

    /// They are there.
    fn loaded(&mut self, loaded: &Loaded);

    /// A cell is about to be trained; `ahead` says what else is to be done.
    fn training(&self, cell: &Cell, ahead: Ahead) -> Box<dyn Observer + Send + '_>;

    /// Something that a person should know.
    fn note(&self, line: &str);

    /// Whether to begin nothing new.
    fn stops(&self) -> bool;

    /// From now on nothing is lost: `how` is the command that goes on.
    fn resumable(&self, how: &str);
}

/// Where in a study a cell stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ahead {
    /// Its number among the cells of the study, from 1.
    pub cell: usize,
    /// Cells of the study.
    pub cells: usize,
    /// What is to be done after it, in trainings of its own length (an estimate).
    pub after: f64,
}

/// A study's folder.
#[derive(Clone, Debug)]
pub struct Study {
    folder: PathBuf,
    grid: Grid,
}

/// What a study trains with.
#[derive(Clone, Copy, Debug)]
pub struct Means<'a> {
    /// Where made spectrograms are kept.
    pub cache: &'a Cache,
    /// The device, and its name.
    pub device: (&'a Device, &'a str),
    /// How trainings are kept.
    pub saves: &'a Saves,
    /// Nets that train side by side, of cells that differ in seeds and folds alone.
    pub at_once: usize,
    /// The flags that must be given again for a study to go on as it was: ` --device cpu`.
    pub again: &'a str,
}

/// `results.json` of a study: all that is finished.
#[derive(Serialize)]
struct Finished<'a> {
    runs: Vec<&'a Results>,
    baselines: Vec<baseline::Results>,
}

/// The data of the cells that are trained; cells that follow one another on the same data share them.
#[derive(Default)]
struct Shelf(Vec<(Data, Loaded)>);

impl Shelf {
    /// Loads what is wanted and lets go of everything else: data are large.
    fn load(&mut self, wanted: &[&Data], cache: &Cache, watcher: &mut dyn Watcher) -> Result<()> {
        self.0.retain(|(held, _)| wanted.contains(&held));
        for data in wanted {
            if self.0.iter().all(|(held, _)| held != *data) {
                let loaded = super::load(data, cache, &*watcher.loading(data))?;
                watcher.loaded(&loaded);
                self.0.push(((*data).clone(), loaded));
            }
        }
        Ok(())
    }

    /// What was loaded for `data`.
    fn get(&self, data: &Data) -> &Dataset {
        let held = self.0.iter().find(|(held, _)| held == data);
        held.map(|(_, loaded)| &loaded.dataset).unwrap_or_else(|| unreachable!("asked for what was loaded"))
    }
}

impl Study {
    /// Trains every cell of `grid` in `out` (default: the first free `runs/reproduce-N`).
    ///
    /// The folder is made once the first data are there, so that a mistake leaves none.
    ///
    /// # Errors
    /// Those of loading and training; what was finished is kept then, and [`Study::open`] takes it up.
    pub fn start(grid: Grid, out: Option<&Path>, means: Means, watcher: &mut dyn Watcher) -> Result<Study> {
        Study::check_free(out)?;
        let mut shelf = Shelf::default();
        if let Some(cell) = grid.cells.first() {
            shelf.load(&[&cell.config.data], means.cache, watcher)?;
        }
        let study = Study { folder: files::run_folder(out, "reproduce")?, grid };
        if !study.settle().inspect_err(|_| files::discard(&study.folder))? {
            Study::check_free(Some(&study.folder))?;
        }
        let cells = 0..study.grid.cells.len();
        study.train(cells, &mut shelf, means, watcher).inspect_err(|_| study.discard())?;
        Ok(study)
    }

    /// Writes the grid into the study's folder; false if there is one already.
    fn settle(&self) -> Result<bool> {
        loop {
            if Grid::is_in(&self.folder) {
                return Ok(false);
            }
            // others may begin the same study at the same moment
            match Lock::take(&self.folder)? {
                Some(_lock) if !Grid::is_in(&self.folder) => return self.grid.write(&self.folder).map(|()| true),
                Some(_) => return Ok(false),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Refuses a folder for a new study that holds something.
    ///
    /// # Errors
    /// [`Error::Config`], with what to do about it.
    pub fn check_free(out: Option<&Path>) -> Result<()> {
        match out {
            Some(folder) if Grid::is_in(folder) => {
                let (shown, folder) = (folder.display(), files::quoted(folder));
                let message =
                    format!("{shown}: holds a study already; go on with --resume {folder}, or name another --out");
                Err(Error::Config(message))
            }
            _ => files::check_free(out),
        }
    }

    /// The study in `folder`.
    ///
    /// # Errors
    /// Those of [`Grid::read`].
    pub fn open(folder: &Path) -> Result<Study> {
        Ok(Study { folder: folder.to_path_buf(), grid: Grid::read(folder)? })
    }

    /// Trains cell `number` of `grid`, from 0, in `folder`, unless it is finished there.
    ///
    /// The folder is made once the data are there, so that a mistake leaves none. Other processes may do the same with
    /// other cells at the same moment.
    ///
    /// # Errors
    /// Those of [`Grid::cell`]; [`Error::Config`] if something else is in the folder, another study included, or if
    /// another process is at the cell; those of loading and training.
    pub fn join(grid: Grid, folder: &Path, number: usize, means: Means, watcher: &mut dyn Watcher) -> Result<Study> {
        let cell = grid.cell(number)?;
        let mut shelf = Shelf::default();
        // Asked first: what another process puts there in between is the grid, and then its cells.
        let free = files::check_free(Some(folder));
        if !Grid::is_in(folder) {
            free?;
            shelf.load(&[&cell.config.data], means.cache, watcher)?;
            std::fs::create_dir_all(folder).map_err(Error::io("cannot create", folder))?;
            let study = Study { folder: folder.to_path_buf(), grid: grid.clone() };
            study.settle().inspect_err(|_| files::discard(folder))?;
        }
        let study = Study::open(folder)?;
        if study.grid != grid {
            let message = format!("{}: a study with other settings; name another --out", folder.display());
            return Err(Error::Config(message));
        }
        study.train(number..number + 1, &mut shelf, means, watcher)?;
        if !study.is_finished(cell) {
            return Err(Error::Config(format!("cell {number}, {}: another process is at it", cell.name)));
        }
        Ok(study)
    }

    /// From now on its data lie in `place`.
    ///
    /// # Errors
    /// Those of [`Data::move_to`], before anything is changed; those of files.
    pub fn move_data(&mut self, place: &Path) -> Result<()> {
        for cell in &mut self.grid.cells {
            cell.config.data.move_to(place)?;
        }
        self.grid.write(&self.folder)?;
        self.grid.cells.iter().try_for_each(|cell| results::move_data(&self.folder_of(cell), place))
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A cell's folder.
    fn folder_of(&self, cell: &Cell) -> PathBuf {
        self.folder.join(&cell.name)
    }

    /// Trains what is not finished.
    ///
    /// # Errors
    /// [`Error::Config`] if the data are not where they were; those of loading and training.
    pub fn resume(&self, means: Means, watcher: &mut dyn Watcher) -> Result<()> {
        let mut unfinished = self.grid.cells.iter().filter(|cell| !self.is_finished(cell));
        unfinished.try_for_each(|cell| cell.config.data.check_there())?;
        self.train(0..self.grid.cells.len(), &mut Shelf::default(), means, watcher)
    }

    /// Trains those of the cells `numbers` that are not finished and that no other process is at.
    ///
    /// A cell that cannot be trained (its data are none, it diverges) keeps no other from it; the first such error comes
    /// at the end, after the tables of what did finish.
    fn train(
        &self,
        numbers: std::ops::Range<usize>,
        shelf: &mut Shelf,
        means: Means,
        watcher: &mut dyn Watcher,
    ) -> Result<()> {
        let how = format!("genregrad reproduce --resume {}{}", files::quoted(&self.folder), means.again);
        watcher.resumable(&how);
        let mut failed: Option<Error> = None;
        for number in numbers.clone() {
            if watcher.stops() && !self.is_finished(&self.grid.cells[number]) {
                let name = &self.grid.cells[number].name;
                return Err(Error::Interrupted(format!("stopped before {name}; go on with: {how}")));
            }
            let mut taken = match self.take(number)? {
                Claim::Ours(taken) => vec![taken],
                Claim::Finished => continue,
                Claim::Elsewhere => {
                    watcher.note(&format!("{}: another process is at it", self.grid.cells[number].name));
                    continue;
                }
            };
            for other in number + 1..numbers.end {
                if taken.len() < means.at_once
                    && taken[0].cell.trains_beside(&self.grid.cells[other])
                    && let Claim::Ours(other) = self.take(other)?
                {
                    taken.push(other);
                }
            }
            let others = (number + 1..numbers.end).map(|other| &self.grid.cells[other]);
            let others = others.filter(|cell| taken.iter().all(|taken| taken.cell != *cell) && !self.is_finished(cell));
            let others: Vec<f64> = others.map(|cell| work(&cell.config)).collect();
            let ahead = others.iter().sum::<f64>() / taken.len() as f64;
            let done = self.train_taken(&taken, ahead, shelf, means, watcher);
            let cells: Vec<&Cell> = taken.iter().map(|taken| taken.cell).collect();
            match done.is_err() {
                true => taken.into_iter().for_each(|taken| results::discard(taken.lock)),
                false => drop(taken), // and with it the lock's file in each folder
            }
            // What finished beside a cell that failed is kept too.
            let written = match done.is_err() && self.is_fresh() {
                true => Ok(()),
                false => self.runs().and_then(|runs| self.write_results(&runs)),
            };
            match done {
                Ok(()) => {}
                Err(Error::Interrupted(what)) => return Err(Error::Interrupted(format!("{what}; go on with: {how}"))),
                Err(error) if !is_of_cell(&error) => return Err(error),
                Err(error) => {
                    let undone = cells.iter().filter(|cell| !self.is_finished(cell)).map(|cell| cell.name.as_str());
                    let undone: Vec<&str> = undone.collect();
                    // the first is said at the end, too: alone there
                    if failed.is_some() || !others.is_empty() {
                        watcher.note(&format!("{}: {}; left undone", undone.join(", "), error.one_line()));
                    }
                    failed.get_or_insert(error);
                }
            }
            written?;
        }
        failed.map_or(Ok(()), |error| {
            // there may be nothing to collect, and it is the first error that a person should know of
            let _ = self.collect();
            Err(error)
        })
    }

    /// Whether no cell is finished.
    fn is_fresh(&self) -> bool {
        self.grid.cells.iter().all(|cell| !self.is_finished(cell))
    }

    fn is_finished(&self, cell: &Cell) -> bool {
        results::is_finished(&self.folder_of(cell))
    }

    /// Makes cell `number` this process's, if there is anything to do and nobody else is at it.
    fn take(&self, number: usize) -> Result<Claim<'_>> {
        let cell = &self.grid.cells[number];
        let folder = self.folder_of(cell);
        std::fs::create_dir_all(&folder).map_err(Error::io("cannot create", &folder))?;
        let Some(lock) = Lock::take(&folder)? else { return Ok(Claim::Elsewhere) };
        files::sweep(&folder, Duration::ZERO);
        Ok(match results::is_finished(&folder) {
            true => {
                results::remove_state(&folder)?;
                Claim::Finished
            }
            false => Claim::Ours(Taken { number, cell, lock }),
        })
    }

    /// Trains cells that may train side by side; `ahead` is the work that is left after them.
    fn train_taken(
        &self,
        taken: &[Taken],
        ahead: f64,
        shelf: &mut Shelf,
        means: Means,
        watcher: &mut dyn Watcher,
    ) -> Result<()> {
        let wanted: Vec<&Data> = taken.iter().map(|taken| &taken.cell.config.data).collect();
        shelf.load(&wanted, means.cache, watcher)?;
        let dataset = |taken: &Taken| shelf.get(&taken.cell.config.data);
        for taken in taken {
            let data = Fingerprint::of(dataset(taken));
            let mut alike = self.grid.cells.iter().filter(|cell| cell.config.data == taken.cell.config.data);
            alike.try_for_each(|cell| results::check_data(&self.folder_of(cell), &data))?;
        }
        if let [Taken { cell: Cell { method: Method::Mixtures, config, .. }, lock, .. }] = taken {
            return mixtures(lock.folder(), config, dataset(&taken[0]));
        }
        let nets: Vec<_> = taken.iter().map(|taken| (&taken.cell.config, dataset(taken))).collect();
        let trainers = Trainer::several(&nets, means.device.0)?;
        let cells = self.grid.cells.len();
        let watcher = &*watcher;
        let done: Vec<Result<()>> = std::thread::scope(|scope| {
            let mut threads = Vec::new();
            let mut here = None;
            for (taken, trainer) in taken.iter().zip(trainers) {
                let ahead = Ahead { cell: taken.number + 1, cells, after: ahead / work(&taken.cell.config) };
                let mut observer = watcher.training(taken.cell, ahead);
                let (folder, config, dataset) = (taken.lock.folder(), &taken.cell.config, dataset(taken));
                let train = move || {
                    let how = (&Options::default(), means.saves);
                    super::train_ready(trainer, folder, config, dataset, means.device.1, how, observer.as_mut())
                        .map(drop)
                };
                // The first net trains on this thread: one net needs no other, and the pool may be this thread.
                if here.is_none() {
                    here = Some(train);
                    continue;
                }
                let refused = |error| Error::Device(format!("no thread for another net ({error}); use --at-once 1"));
                threads.push(std::thread::Builder::new().spawn_scoped(scope, train).map_err(refused));
            }
            let first = here.map_or(Ok(()), |train| train());
            let joined = |thread: Result<std::thread::ScopedJoinHandle<_>>| {
                thread?.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            std::iter::once(first).chain(threads.into_iter().map(joined)).collect()
        });
        // Of several errors a person should know that of the disk or the device first, then a training's own.
        let mut errors: Vec<Error> = done.into_iter().filter_map(Result::err).collect();
        errors.sort_by_key(|error| (matches!(error, Error::Interrupted(_)), is_of_cell(error)));
        errors.into_iter().next().map_or(Ok(()), Err)
    }

    /// Writes `results.json`.
    fn write_results(&self, runs: &[Run]) -> Result<()> {
        let finished = Finished { runs: runs.iter().map(|run| &run.results).collect(), baselines: self.baselines()? };
        files::replace_json(&self.folder.join("results.json"), &finished)
    }

    /// Removes the folder if nothing came of it.
    fn discard(&self) {
        if self.grid.cells.iter().all(|cell| !self.folder_of(cell).exists()) {
            Grid::remove(&self.folder);
            files::discard(&self.folder);
        }
    }

    /// The finished cells' runs at every milestone, in the grid's order.
    ///
    /// # Errors
    /// Those of [`results::read_all`].
    pub fn runs(&self) -> Result<Vec<Run>> {
        let finished = self.finished(Method::Net).map(|(_, folder)| results::read_all(&folder));
        Ok(finished.collect::<Result<Vec<_>>>()?.concat())
    }

    /// The finished baselines, in the grid's order.
    ///
    /// # Errors
    /// Their files cannot be read or are damaged.
    pub fn baselines(&self) -> Result<Vec<baseline::Results>> {
        self.finished(Method::Mixtures).map(|(_, folder)| baseline_in(&folder)).collect()
    }

    /// The finished cells of one method, with their folders.
    fn finished(&self, method: Method) -> impl Iterator<Item = (&Cell, PathBuf)> {
        let cells = self.grid.cells.iter().filter(move |cell| cell.method == method);
        let folders = cells.map(|cell| (cell, self.folder_of(cell)));
        folders.filter(|(_, folder)| results::is_finished(folder))
    }

    /// The names of the cells that are not finished.
    pub fn unfinished(&self) -> Vec<&str> {
        let cells = self.grid.cells.iter().filter(|cell| !results::is_finished(&self.folder_of(cell)));
        cells.map(|cell| cell.name.as_str()).collect()
    }

    /// The tables as far as their cells are finished, and writes everything that a person reads into the folder.
    ///
    /// # Errors
    /// [`Error::Config`] if nothing is finished; those of reading and of the disk.
    pub fn collect(&self) -> Result<Vec<Section>> {
        files::sweep(&self.folder, files::ABANDONED);
        if self.is_fresh() {
            let message = format!("{}: no cell is finished; go on with --resume", self.folder.display());
            return Err(Error::Config(message));
        }
        let runs = self.runs()?;
        let mut sections = Vec::new();
        for listed in &self.grid.tables {
            let is_in = |run: &&Run| {
                let name = run.folder.file_name().unwrap_or_default().to_string_lossy();
                listed.epochs.contains(&run.results.epochs) && listed.cells.iter().any(|cell| *cell == name)
            };
            let runs: Vec<Run> = runs.iter().filter(is_in).cloned().collect();
            let baselines = self.finished(Method::Mixtures).filter(|(cell, _)| listed.cells.contains(&cell.name));
            let baselines = baselines.map(|(_, folder)| baseline_in(&folder)).collect::<Result<Vec<_>>>()?;
            if !runs.is_empty() || !baselines.is_empty() {
                sections.push(Section { title: listed.table.title().to_string(), runs, baselines });
            }
        }
        self.write_results(&runs)?;
        report::write(&self.folder, &sections)?;
        Ok(sections)
    }
}

/// What comes of asking for a cell.
enum Claim<'s> {
    Finished,
    Elsewhere,
    Ours(Taken<'s>),
}

/// A cell that is this process's alone, until it is dropped.
struct Taken<'s> {
    number: usize,
    cell: &'s Cell,
    lock: Lock,
}

/// Whether `error` is of one cell alone: its data are none, or its training went wrong. Others may do better then; the
/// disk, the device and a person who interrupts stop them all.
fn is_of_cell(error: &Error) -> bool {
    matches!(error, Error::Data { .. } | Error::Audio { .. } | Error::Training(_) | Error::Config(_))
}

/// The results of the baseline in `folder`.
fn baseline_in(folder: &Path) -> Result<baseline::Results> {
    files::read_json(&folder.join("results.json"))
}

/// Fits the baseline and writes its results into `folder`.
fn mixtures(folder: &Path, config: &Config, dataset: &Dataset) -> Result<()> {
    let (started, settings) = (Instant::now(), baseline::Settings::default());
    let Evaluation { accuracies, confusion, tracks, .. } = baseline::fit(dataset, &settings, config.seed)?.evaluation;
    let (seed, split, data) = (config.seed, config.data.split, DataSummary::of(dataset));
    let fold = (config.data.folds > 0).then_some(config.data.fold);
    let seconds = started.elapsed().as_secs_f64();
    let results = baseline::Results { settings, seed, split, fold, data, accuracies, confusion, tracks, seconds };
    files::replace_json(&folder.join("results.json"), &results)
}

/// How long a training takes, in arbitrary units: a deep step takes some four shallow ones.
fn work(config: &Config) -> f64 {
    let step = if config.model == Architecture::Deep { 4.0 } else { 1.0 };
    let segments = if config.data.augment { 63.0 } else { 15.0 };
    f64::from(config.epochs) * step * segments
}

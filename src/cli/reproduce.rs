//! `genregrad reproduce`: the study.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::PossibleValue;
use clap::{ValueEnum, value_parser};
use serde::Serialize;

use crate::audio::Kind;
use crate::baseline;
use crate::data::load;
use crate::device::gpu::NETS;
use crate::error::{Error, Result};
use crate::experiments::grid::{Cell, Grid, MODELS, Method, Request, SYNTHETIC_EPOCHS, SYNTHETIC_TRACKS, Table};
use crate::experiments::study::{Means, Study};
use crate::models::Architecture;
use crate::report::{self, Section, tables};
use crate::train::config::Config;
use crate::train::results::{Results, Run};

use super::args::{DataArgs, DeviceArgs, FrontEndArgs, MAX_SEED, OutputArgs, SaveArgs, TrainingArgs};
use super::output::{self, print, print_json, width};
use super::progress::Progress;
use super::slurm::{self, SlurmArgs};

/// Train the nets and print the study's tables
///
/// Without --data, ten synthetic genres are made and learnt in about a minute on two cores. With it, both nets learn
/// your tracks for 200 epochs and are also tested after 100: hours on two cores (--epochs 20 gives a first look).
/// Accuracies (raw: single segments; max: the largest summed output of a track; maj: its segments' majority vote) stand
/// beside the published ones. The run's folder gets report.html, tables.md, results.json, curves and confusion matrices,
/// and one sub-folder a training, as `train` writes it. Of a folder of tracks the replication is done twice, on a random
/// split and on blocks of neighbouring tracks, unless --split or --folds is given.
///
/// Nothing is lost: Ctrl-C saves everything, a kill costs at most the time since the last save, and --resume goes on, bit
/// for bit as if nothing had happened, if it is given the same --device. Several processes can share a study: each
/// --resume takes trainings that nobody is at; --cell does a single one, and --slurm writes the script of a cluster's job.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  genregrad reproduce
  genregrad reproduce --data genres --seeds 1,2,3 --out runs/gtzan
  genregrad reproduce --resume runs/gtzan
  genregrad reproduce --data genres --table improvements,representations --epochs 50
  genregrad reproduce --data genres --table all --list     what would be trained
  genregrad reproduce --data genres --table all --out runs/all --slurm > study.slurm
  genregrad reproduce --collect runs/all                   the tables, as far as they are done
  genregrad reproduce --front-end mel,cqt,linear,cwt       every representation, beside each other
  genregrad reproduce --models shallow --preset paper --device cpu --json")]
pub struct Args {
    /// Which tables of the study
    #[arg(
        long,
        alias = "tables",
        value_enum,
        value_delimiter = ',',
        value_name = "TABLE,…",
        default_value = "replication"
    )]
    table: Vec<Choice>,
    /// Which nets
    #[arg(long, alias = "model", value_enum, value_delimiter = ',', value_name = "NET,…", default_values_t = MODELS)]
    models: Vec<Architecture>,
    /// Seeds of weights, shuffles and dropout, and of the splits; every net is trained once with each
    #[arg(long, alias = "seed", value_delimiter = ',', value_name = "N,…", default_value = "1",
          value_parser = value_parser!(u64).range(..=MAX_SEED))]
    seeds: Vec<u64>,
    #[command(flatten)]
    training: TrainingArgs,
    #[command(flatten)]
    data: DataArgs,
    /// Which representations of sound; every net is trained on each [default: mel]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND,…", help_heading = "Data")]
    front_end: Vec<Kind>,
    /// Rows of a spectrogram; 84 of cqt or cwt are seven whole octaves [default: 80]
    #[arg(long, value_name = "N", help_heading = "Data")]
    n_bins: Option<usize>,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Train up to K nets side by side where they differ in seed or fold alone: one is too small to fill a large GPU. Each
    /// gets the results that it gets alone, bit for bit, and keeps its own data in memory and on the GPU
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = value_parser!(u8).range(1..=NETS as i64),
          conflicts_with_all = ["cell", "slurm", "list", "collect"])]
    at_once: u8,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    saves: SaveArgs,
    /// The study's folder, new or empty [default: the first free runs/reproduce-N]
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    out: Option<PathBuf>,
    #[command(flatten)]
    way: WayArgs,
    /// --cell: refuse a study whose trainings are not these, as --slurm wrote them into its script
    #[arg(long, value_name = "DIGEST", requires = "cell", help_heading = "Studies that take long")]
    grid: Option<String>,
    #[command(flatten)]
    cluster: SlurmArgs,
}

/// What is done of a study.
#[derive(clap::Args, Clone, Debug)]
#[group(multiple = false)]
#[command(next_help_heading = "Studies that take long")]
struct WayArgs {
    /// Go on with the study in this folder: all settings are those it was started with, but for --device, --tensorboard
    /// and the like, which are to be given again; --data says where its data lie now, if they moved
    #[arg(long, value_name = "DIR", conflicts_with_all = FIXED)]
    resume: Option<PathBuf>,
    /// Make the tables of the study in this folder, as far as it is finished
    #[arg(long, value_name = "DIR", conflicts_with_all = FIXED)]
    collect: Option<PathBuf>,
    /// Print the trainings that the tables need, and train nothing
    #[arg(long)]
    list: bool,
    /// Do training K of --list alone, in the study's folder --out
    #[arg(long, value_name = "K", requires = "out")]
    cell: Option<usize>,
    /// Print a Slurm job script that does all of it, an array task a training, in the study's folder --out
    #[arg(long, requires = "out")]
    slurm: bool,
}

/// What is settled when a study starts.
const FIXED: [&str; 9] =
    ["table", "models", "seeds", "front_end", "n_bins", "out", "TrainingArgs", "MakingArgs", "split_seed"];

/// A table, or all of them.
#[derive(Clone, Copy, Debug)]
struct Choice(Option<Table>);

impl ValueEnum for Choice {
    fn value_variants<'a>() -> &'a [Self] {
        const CHOICES: [Choice; 7] = {
            let mut choices = [Choice(None); 7];
            let mut place = 0;
            while place < Table::ALL.len() {
                choices[place] = Choice(Some(Table::ALL[place]));
                place += 1;
            }
            choices
        };
        &CHOICES
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self.0 {
            Some(table) => table.to_possible_value(),
            None => Some(PossibleValue::new("all").help("every one of them")),
        }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(serialize_with = "output::path")]
    folder: &'a Path,
    runs: Vec<&'a Results>,
    baselines: Vec<baseline::Results>,
    /// Names of the trainings that are still to be done.
    unfinished: Vec<&'a str>,
    #[serde(serialize_with = "output::skipped")]
    skipped: Vec<(PathBuf, String)>,
}

impl Args {
    pub fn run(self) -> Result<ExitCode> {
        let WayArgs { resume, collect, list, cell, slurm } = &self.way;
        if let Some(folder) = collect.as_ref().or(resume.as_ref()) {
            let mut study = Study::open(folder)?;
            if let Some(place) = self.data.place() {
                study.move_data(&place)?;
            }
            return match resume {
                Some(_) => self.train(|means, progress| study.resume(means, progress).map(|()| study.clone())),
                None => self.finish(&study, Progress::new(self.output.quiet)),
            };
        }
        self.check_data()?;
        let grid = self.study(&Progress::new(self.output.quiet))?;
        if let Some(expected) = &self.grid {
            grid.check_digest(expected)?;
        }
        match (list, slurm, cell, self.out.as_deref()) {
            (true, ..) => print(&listing(&grid)).map(|()| ExitCode::SUCCESS),
            (_, true, _, Some(out)) => {
                print(&slurm::script(&grid, out, &self.device, &self.cluster)?).map(|()| ExitCode::SUCCESS)
            }
            (.., Some(number), Some(out)) => {
                grid.cell(*number)?;
                self.train(|means, progress| Study::join(grid, out, *number, means, progress))
            }
            (.., out) => {
                Study::check_free(out)?;
                self.train(|means, progress| Study::start(grid, out, means, progress))
            }
        }
    }

    /// Opens the device, trains, and prints what there is to see of the study.
    fn train(&self, work: impl FnOnce(Means, &mut Progress) -> Result<Study>) -> Result<ExitCode> {
        let mut progress = Progress::new(self.output.quiet);
        if self.way.cell.is_some() {
            progress = progress.with_needs();
        }
        let choice = self.device.open(&mut progress)?;
        let (cache, saves) = (self.data.cache.cache(), self.saves.saves());
        let device = (&choice.device, choice.description.as_str());
        let at_once = usize::from(self.at_once).min(choice.device.side_by_side());
        if at_once < self.at_once.into() {
            progress.note("--at-once: only a GPU trains several nets side by side; one after the other");
        }
        let beside = if self.at_once > 1 { format!(" --at-once {}", self.at_once) } else { String::new() };
        let again = format!("{}{}{beside}", self.device.again(), self.saves.again());
        let study = work(Means { cache: &cache, device, saves: &saves, at_once, again: &again }, &mut progress)?;
        self.finish(&study, progress)
    }

    /// Writes and prints the tables of what is finished.
    fn finish(&self, study: &Study, progress: Progress) -> Result<ExitCode> {
        let sections = study.collect()?;
        let unfinished = study.unfinished();
        if !unfinished.is_empty() {
            progress.note(&format!("not finished: {}", unfinished.join(", ")));
        }
        let skipped = progress.finish();
        if self.output.json {
            let runs = study.runs()?;
            let runs = runs.iter().map(|run| &run.results).collect();
            print_json(&Report { folder: study.folder(), runs, baselines: study.baselines()?, unfinished, skipped })?;
        } else {
            print(&summary(study.folder(), &sections))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Refuses data that are not there, because their kind decides which trainings there are. With --list and --slurm they
    /// may still be missing if --split or --folds decides it.
    ///
    /// # Errors
    /// Those of [`load::check`]; [`Error::Data`] if nothing is there.
    fn check_data(&self) -> Result<()> {
        let Some(path) = self.data.place() else { return Ok(()) };
        if path.exists() || !(self.way.list || self.way.slurm) {
            return load::check(&path);
        }
        match self.data.names_split() || self.data.names_folds() {
            true => Ok(()),
            false => Err(Error::data(
                path,
                "no such file or folder; the trainings depend on what it is: name data that exist, or say with --split how \
                 they will be split",
            )),
        }
    }

    /// What the tables need, with the settings asked for.
    ///
    /// # Errors
    /// Those of [`Grid::new`] and [`FrontEndArgs::settle`].
    fn study(&self, progress: &Progress) -> Result<Grid> {
        let all = self.table.iter().any(|choice| choice.0.is_none());
        let tables: Vec<Table> = Table::ALL
            .into_iter()
            .filter(|table| all || self.table.iter().any(|choice| choice.0 == Some(*table)))
            .collect();
        let (synthetic, fixed_learning_rate) = (self.data.data.is_none(), self.training.names_learning_rate());
        let mut epochs = self.training.epochs.clone();
        if epochs.is_empty() && synthetic {
            epochs.push(SYNTHETIC_EPOCHS);
        }
        let bases = self.bases()?;
        // Only a folder of tracks knows neighbours.
        let undivided =
            self.data.data.as_deref().is_some_and(Path::is_dir) && bases.iter().all(|base| base.data.folds == 0);
        let blocks = undivided && !self.data.names_split();
        let grid = |tables: &[Table]| {
            Grid::new(&Request { tables, bases: &bases, epochs: &epochs, fixed_learning_rate, blocks })
        };
        if !all {
            return grid(&tables);
        }
        // all that these data can give: not every kind holds whole tracks, or their sound
        let (mut fitting, mut left_out) = (Vec::new(), Vec::new());
        for &table in &tables {
            match grid(&[table]) {
                Ok(_) => fitting.push(table),
                Err(error) => left_out.push((table, error)),
            }
        }
        if fitting.is_empty() {
            return grid(&tables);
        }
        for (table, error) in left_out {
            progress.always(&format!("{} left out: {}", table.title(), error.one_line()));
        }
        grid(&fitting)
    }

    /// The settings that a table's rows start from: every seed's front ends, folds and nets, in an order that lets those
    /// on the same data follow one another.
    fn bases(&self) -> Result<Vec<Config>> {
        let mut front_ends: Vec<Option<Kind>> = self.front_end.iter().copied().map(Some).collect();
        if front_ends.is_empty() {
            front_ends.push(None);
        }
        let mut bases: Vec<Config> = Vec::new();
        for &seed in &self.seeds {
            for (&front_end, &model) in front_ends.iter().flat_map(|kind| self.models.iter().map(move |m| (kind, m))) {
                let front_end = FrontEndArgs { front_end, n_bins: self.n_bins };
                let mut config = self.training.config(model, seed, &self.data, front_end)?;
                if !self.data.names_synthetic_tracks() {
                    config.data.synthetic_tracks = SYNTHETIC_TRACKS;
                }
                config.check()?;
                let folds = if self.data.names_fold() { 0..1 } else { 0..config.data.folds.max(1) };
                for fold in folds {
                    let mut config = config.clone();
                    config.data.fold += fold;
                    if !bases.contains(&config) {
                        bases.push(config);
                    }
                }
            }
        }
        Ok(bases)
    }
}

/// The grid's cells, numbered as --cell takes them.
fn listing(grid: &Grid) -> String {
    let mut text = String::new();
    for (number, Cell { name, method, config }) in grid.cells.iter().enumerate() {
        let epochs: Vec<String> = config.milestones.iter().chain([&config.epochs]).map(u32::to_string).collect();
        let tables = grid.tables.iter().filter(|listed| listed.cells.contains(name));
        let tables: Vec<String> =
            tables.filter_map(|listed| Some(listed.table.to_possible_value()?.get_name().to_string())).collect();
        let tested = match method {
            Method::Net => format!("tested after {} epochs", epochs.join(", ")),
            Method::Mixtures => "MFCCs and Gaussian mixtures".to_string(),
        };
        let _ = writeln!(text, "{number:>4}  {name:<32}  {tested}  ({})", tables.join(", "));
    }
    text
}

/// The tables, and where everything is.
fn summary(folder: &Path, sections: &[Section]) -> String {
    let mut text = String::new();
    for section in sections {
        if sections.len() > 1 {
            text += &format!("{}\n\n", section.title);
        }
        text += &format!("{}\n", tables::section_text(section));
    }
    let runs = report::last_runs(sections);
    let better = |a: &&Run, b: &&Run| a.results.accuracies.max.total_cmp(&b.results.accuracies.max);
    if let Some(best) = runs.iter().max_by(better) {
        let name = format!("{}, seed {}", report::variant(best), best.results.seed);
        text += &format!("{name}: training\n{}", tables::curves_text(&best.epochs));
        text += &format!("\n{name}: test tracks by truth (rows) and prediction (max)\n");
        let whole = best.folder.join("confusion.csv").display().to_string();
        text += &tables::confusion_text(&best.results, width(), &whole);
    }
    text + &format!("\n{}\n", folder.display())
}

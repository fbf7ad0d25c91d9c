//! The run's folder: `run.toml`, `metrics.csv`, `checkpoint.safetensors`, `results.json`, `segments.csv`,
//! `confusion.csv`; for an earlier milestone `results-100.json` and so on; `data.json`, by which its data are known again;
//! while it is unfinished `state.safetensors`.
//!
//! `results.json` comes last: where it is, the run is finished.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::data::Dataset;
use crate::data::fingerprint::Fingerprint;
use crate::error::{Error, Result};
use crate::files::{self, Lock};
use crate::models::Architecture;

use super::checkpoint;
use super::config::{Config, Preset};
use super::evaluate::{Accuracies, Evaluation, TrackPrediction};
use super::events::{self, Events};
use super::fit::{self, Keeper, Observer, Options, Outcome, Trainer};
use super::metrics::Epoch;
use super::state::State;

/// What a net was trained and tested on, in numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataSummary {
    /// The corpus's name.
    pub name: String,
    /// True for the built-in corpus.
    pub synthetic: bool,
    /// Class names.
    pub classes: Vec<String>,
    /// Tracks in training.
    pub train_tracks: usize,
    /// Tracks in the test.
    pub test_tracks: usize,
    /// Segments in training.
    pub train_segments: usize,
    /// How many of them are deformed.
    #[serde(default)]
    pub train_deformed: usize,
    /// Segments in the test.
    pub test_segments: usize,
    /// `[bins, frames]` of a spectrogram.
    pub spectrogram: [usize; 2],
}

impl DataSummary {
    /// Of `dataset`.
    pub fn of(dataset: &Dataset) -> Self {
        let meta = &dataset.meta;
        DataSummary {
            name: meta.name.clone(),
            synthetic: meta.synthetic,
            classes: meta.classes.clone(),
            train_tracks: dataset.train.track_names.len(),
            test_tracks: dataset.test.track_names.len(),
            train_segments: dataset.train.len(),
            train_deformed: dataset.train.deformed(),
            test_segments: dataset.test.len(),
            spectrogram: [meta.bins, meta.frames],
        }
    }
}

/// `results.json`: everything but the time depends on nothing but the configuration, the data and the device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Which net.
    pub model: Architecture,
    /// Whose choices.
    pub preset: Preset,
    /// Seed of the run.
    pub seed: u64,
    /// Epochs trained.
    pub epochs: u32,
    /// Steps taken.
    pub steps: u32,
    /// Number of trainable parameters.
    pub parameters: usize,
    /// The data.
    pub data: DataSummary,
    /// The accuracies on the test set under the final weights, percent.
    pub accuracies: Accuracies,
    /// `confusion[truth][predicted by max]`, in tracks.
    pub confusion: Vec<Vec<u32>>,
    /// Every test track.
    pub tracks: Vec<TrackPrediction>,
    /// What it ran on, e.g. `CPU: AMD EPYC 7763, 2 threads`.
    pub device: String,
    /// Wall time of training and testing, s.
    pub seconds: f64,
}

impl Results {
    fn new(config: &Config, dataset: &Dataset, outcome: &Outcome, device: &str) -> Self {
        let Evaluation { accuracies, confusion, tracks, .. } = outcome.evaluation.clone();
        Results {
            model: config.model,
            preset: config.preset,
            seed: config.seed,
            epochs: outcome.epochs.len() as u32,
            steps: outcome.steps,
            parameters: outcome.params.count(),
            data: DataSummary::of(dataset),
            accuracies,
            confusion,
            tracks,
            device: device.to_string(),
            seconds: outcome.seconds,
        }
    }
}

/// A finished run with its curve, or a run up to one of its milestones.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its folder.
    pub folder: PathBuf,
    /// Its configuration.
    pub config: Config,
    /// Its results.
    pub results: Results,
    /// Its curve, up to there.
    pub epochs: Vec<Epoch>,
    /// Whether results are those of an earlier milestone than the last epoch.
    pub earlier: bool,
}

impl Run {
    /// The file `name.extension` of these results: `results.json`, or `results-100.json` where the run went on.
    fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.folder.join(file_name(name, self.earlier.then_some(self.results.epochs), extension))
    }
}

/// `name.extension`, or `name-milestone.extension`.
fn file_name(name: &str, milestone: Option<u32>, extension: &str) -> String {
    match milestone {
        None => format!("{name}.{extension}"),
        Some(epochs) => format!("{name}-{epochs}.{extension}"),
    }
}

/// One test segment as the net saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentPrediction {
    /// Its track's name.
    pub track: String,
    /// Its number within the track, from 0.
    pub segment: u32,
    /// Its class.
    pub label: u32,
    /// One a class.
    pub logits: Vec<f32>,
}

/// Where a run is kept while it is made: its folder, and who watches.
struct Saving<'a> {
    folder: &'a Path,
    config: &'a Config,
    dataset: &'a Dataset,
    device: &'a str,
    save_every: Duration,
    saved: Instant,
    events: Option<Events>,
    inner: &'a mut dyn Observer,
}

impl Observer for Saving<'_> {
    fn step(&mut self, epoch: u32, step: usize, steps: usize) {
        self.inner.step(epoch, step, steps);
    }

    fn epoch(&mut self, epochs: &[Epoch]) -> Result<()> {
        write_metrics(&self.folder.join(METRICS), epochs)?;
        self.inner.epoch(epochs)
    }

    fn stops(&self) -> bool {
        self.inner.stops()
    }
}

impl Keeper for Saving<'_> {
    fn timed(&mut self, epoch: &Epoch, time: f64) -> Result<()> {
        self.events.as_mut().map_or(Ok(()), |events| events.write(epoch, time))
    }

    fn wants_state(&self) -> bool {
        self.saved.elapsed() >= self.save_every
    }

    fn state(&mut self, state: &State) -> Result<()> {
        state.write(&self.folder.join(STATE))?;
        self.saved = Instant::now();
        Ok(())
    }

    fn milestone(&mut self, outcome: &Outcome) -> Result<()> {
        self.write(outcome, Some(outcome.epochs.len() as u32)).map(drop)
    }
}

impl Saving<'_> {
    /// Writes what a table needs of `outcome`: of a milestone the results too, of the end the weights.
    fn write(&self, outcome: &Outcome, milestone: Option<u32>) -> Result<Results> {
        let results = Results::new(self.config, self.dataset, outcome, self.device);
        let path = |name, extension| self.folder.join(file_name(name, milestone, extension));
        write_segments(&path("segments", "csv"), self.dataset, &outcome.logits)?;
        write_confusion(&path("confusion", "csv"), &results)?;
        match milestone {
            None => checkpoint::write(&self.folder.join(CHECKPOINT), &outcome.params)?,
            Some(_) => files::replace_json(&path("results", "json"), &results)?,
        }
        Ok(results)
    }
}

/// Most bytes of a file of settings, and of a curve, that are read.
const LONGEST_SETTINGS: u64 = 1 << 20;
const LONGEST_METRICS: u64 = 64 << 20;
/// Most bytes of a track's name in `segments.csv`, and of a logit or a class's name.
const LONGEST_NAME: u64 = 1 << 13;
const LONGEST_LOGIT: u64 = 600;

const RUN: &str = "run.toml";
const DATA: &str = "data.json";
const METRICS: &str = "metrics.csv";
const CHECKPOINT: &str = "checkpoint.safetensors";
const STATE: &str = "state.safetensors";
const RESULTS: &str = "results.json";

/// How a run is kept.
#[derive(Clone, Debug)]
pub struct Saves {
    /// The state is written after the first epoch that ends so long after the last time.
    pub every: Duration,
    /// Whether the curve is also written as TensorBoard's event file. A run that has one keeps it in any case.
    pub tensorboard: bool,
}

impl Default for Saves {
    fn default() -> Self {
        Saves { every: Duration::from_secs(30), tensorboard: false }
    }
}

/// Trains one net, for which `trainer` was made, into the (existing) `folder`, from the state that an earlier attempt
/// left there, if any; `device` is the name of what it runs on.
///
/// The curve is saved after every epoch, the state now and then and when `observer` stops the training. The run is not
/// finished before [`finish`] says so.
///
/// # Errors
/// Those of [`fit::fit`] and [`check_data`]; [`Error::Data`] if the folder is that of another run or its state is damaged.
pub fn train(
    trainer: Trainer,
    folder: &Path,
    config: &Config,
    dataset: &Dataset,
    device: &str,
    (options, saves): (&Options, &Saves),
    observer: &mut dyn Observer,
) -> Result<Run> {
    let path = folder.join(RUN);
    if path.exists() {
        let found = read_config(&path)?;
        if found != *config {
            return Err(Error::data(&path, "of a run with other settings; name another folder"));
        }
    } else {
        write_config(&path, config)?;
    }
    let data = Fingerprint::of(dataset);
    check_data(folder, &data)?;
    let path = folder.join(DATA);
    if !path.exists() {
        files::replace_json(&path, &data)?;
    }
    let path = folder.join(STATE);
    let state = match path.exists() {
        true => Some(State::read(&path, trainer.tape())?),
        false => None,
    };
    // a run that has an event file keeps it
    let watched = saves.tensorboard || Events::are_in(folder);
    let reached = state.as_ref().map(|state| state.reached.clone()).unwrap_or_default();
    let events = watched.then(|| Events::start(folder, &reached.epochs, &reached.times)).transpose()?;
    let (save_every, saved) = (saves.every, Instant::now());
    let mut saving = Saving { folder, config, dataset, device, save_every, saved, events, inner: observer };
    let outcome = fit::fit(trainer, config, dataset, options, state.as_ref(), &mut saving)?;
    let results = saving.write(&outcome, None)?;
    Ok(Run { folder: folder.to_path_buf(), config: config.clone(), results, epochs: outcome.epochs, earlier: false })
}

/// Writes `results.json` of a run whose other files are all there, and removes its state.
///
/// # Errors
/// [`Error::Io`] if the disk refuses.
pub fn finish(run: &Run) -> Result<()> {
    files::replace_json(&run.folder.join(RESULTS), &run.results)?;
    remove_state(&run.folder)
}

/// Refuses data other than those that the run in `folder`, if there is one, began with.
///
/// # Errors
/// [`Error::Training`] for other data; [`Error::Io`] or [`Error::Data`] if `data.json` cannot be read.
pub fn check_data(folder: &Path, data: &Fingerprint) -> Result<()> {
    let path = folder.join(DATA);
    if path.exists() && !files::read_json::<Fingerprint>(&path)?.is_alike(data) {
        let message = "its data are not those that it began with: other tracks, genres, segments or sound; give it those \
                       again (--data says where they lie), or start anew";
        return Err(Error::Training(format!("{}: {message}", folder.display())));
    }
    Ok(())
}

/// Says in the `run.toml` in `folder`, if there is one, that the run's data now lie in `place`.
///
/// # Errors
/// Those of [`read_config`] and [`Data::move_to`](super::config::Data::move_to); [`Error::Io`] if the disk refuses.
pub fn move_data(folder: &Path, place: &Path) -> Result<()> {
    let path = folder.join(RUN);
    if !path.exists() {
        return Ok(());
    }
    let mut config = read_config(&path)?;
    config.data.move_to(place)?;
    write_config(&path, &config)
}

/// Removes the state of a finished run, if it is still there.
///
/// # Errors
/// [`Error::Io`] if the disk refuses.
pub fn remove_state(folder: &Path) -> Result<()> {
    let path = folder.join(STATE);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("cannot remove", &path)(error)),
        _ => Ok(()),
    }
}

/// Whether `folder` holds a finished run.
pub fn is_finished(folder: &Path) -> bool {
    folder.join(RESULTS).exists()
}

/// Whether `folder` holds the state of an unfinished run.
pub fn has_state(folder: &Path) -> bool {
    folder.join(STATE).exists()
}

/// Removes the state and the temporary files that a kill left in a finished run, as far as nobody else is at it.
pub fn tidy(folder: &Path) {
    if is_finished(folder)
        && (folder.join(STATE).symlink_metadata().is_ok() || files::has_leftovers(folder))
        && let Ok(Some(_lock)) = Lock::take(folder)
    {
        files::sweep(folder, Duration::ZERO);
        // whether it could be removed or not, the run is read
        let _ = remove_state(folder);
    }
}

/// Takes the run's folder for this process alone.
///
/// # Errors
/// [`Error::Config`] if another process is training in it; those of [`Lock::take`].
pub fn claim(folder: &Path) -> Result<Lock> {
    Lock::take(folder)?.ok_or_else(|| {
        let message = "another process is training in it; wait for its end, or stop it first";
        Error::Config(format!("{}: {message}", folder.display()))
    })
}

/// Whether a run was begun in `folder`: from then on it can be taken up.
pub fn is_begun(folder: &Path) -> bool {
    folder.join(RUN).exists()
}

/// Gives a folder back. A run that came to nothing, one without a state or results, is removed; where other files are in
/// its folder, its settings stay, and it can be taken up.
pub fn discard(lock: Lock) {
    let folder = lock.folder();
    if is_finished(folder) || has_state(folder) {
        return;
    }
    files::sweep(folder, Duration::ZERO);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_own(&entry.file_name().to_string_lossy()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    // the settings and the lock
    if std::fs::read_dir(folder).is_ok_and(|entries| entries.count() <= 2) {
        let _ = std::fs::remove_file(folder.join(RUN));
    }
    lock.discard();
}

/// Whether a training makes a file of this name, other than its settings.
fn is_own(name: &str) -> bool {
    const NAMES: [&str; 8] =
        [DATA, METRICS, CHECKPOINT, events::FILE, "segments.csv", "confusion.csv", "curves.svg", "confusion.svg"];
    let of_milestone = |(stem, ending)| {
        let number = name.strip_prefix(stem).and_then(|name| name.strip_suffix(ending));
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    NAMES.contains(&name)
        || [("results-", ".json"), ("segments-", ".csv"), ("confusion-", ".csv")].into_iter().any(of_milestone)
}

/// Writes a `run.toml` (beside, then renamed).
fn write_config(path: &Path, config: &Config) -> Result<()> {
    let text = toml::to_string(config).map_err(|error| Error::Config(error.to_string()))?;
    files::replace(path, text.as_bytes())
}

/// What is wrong with `run.toml` where it holds a key that nobody reads: which, in which line, and which is meant.
fn explained(message: &str, text: &str) -> Option<String> {
    let (key, nearest) = files::unknown_key(message)?;
    let named = |line: &str| line.split_once('=').is_some_and(|(name, _)| name.trim().trim_matches('"') == key);
    // the same key may stand where it belongs as well: without the line that is meant, nothing is said of it
    let without = |out: usize| {
        let kept: Vec<&str> = text.lines().enumerate().filter(|(line, _)| *line != out).map(|(_, line)| line).collect();
        kept.join("\n")
    };
    let is_meant = |line: usize| match toml::from_str::<Config>(&without(line)) {
        Err(error) => files::unknown_key(error.message()).is_none_or(|(other, _)| other != key),
        Ok(_) => true,
    };
    let mut lines = text.lines().enumerate().filter(|(line, text)| named(text) && is_meant(*line));
    let line = lines.next().map_or(String::new(), |(line, _)| format!("line {}: ", line + 1));
    let known = toml::Table::try_from(Config::preset(Preset::Report, Architecture::Shallow)).ok()?;
    let of_data = known.get("data").and_then(toml::Value::as_table);
    let above = match &key {
        key if known.contains_key(key) => Some("above the first [table]"),
        key if of_data.is_some_and(|data| data.contains_key(key)) => Some("below [data]"),
        _ => None,
    };
    Some(match above {
        Some(place) => {
            format!("{line}{key} stands in the wrong table; a key belongs to the [table] above it: put it {place}")
        }
        None => format!("{line}unknown key {key}; the nearest known one is {nearest}"),
    })
}

/// Reads a `run.toml`.
///
/// # Errors
/// [`Error::Io`] if it cannot be read, [`Error::Data`] if it is no configuration, [`Error::Config`] if its values are nonsense.
pub fn read_config(path: &Path) -> Result<Config> {
    let text = files::read_text(path, LONGEST_SETTINGS)?;
    let config: Config = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
        Error::data(path, explained(error.message(), &text).unwrap_or(format!("line {line}: {}", error.message())))
    })?;
    config.check()?;
    Ok(config)
}

/// Reads a finished run's folder.
///
/// # Errors
/// [`Error::Config`] if there is no such folder; [`Error::Io`] or [`Error::Data`] if a file is missing or damaged.
pub fn read(folder: &Path) -> Result<Run> {
    if !is_begun(folder) {
        let message =
            format!("{}: not a run's folder (it has no run.toml); give the folder that train wrote", folder.display());
        return Err(Error::Config(message));
    }
    if !is_finished(folder) {
        let what = match has_state(folder) {
            true => "go on with train --resume, or with reproduce --resume of its study",
            false => "train again with its run.toml",
        };
        return Err(Error::data(folder, format!("not a finished run (it has no results.json); {what}")));
    }
    let (config, results) = (read_config(&folder.join(RUN))?, files::read_json(&folder.join(RESULTS))?);
    let path = folder.join(METRICS);
    let rows = files::read_csv(&path, LONGEST_METRICS)?.into_deserialize().collect::<std::result::Result<_, _>>();
    let epochs: Vec<Epoch> = rows.map_err(|error| Error::data(&path, error.to_string()))?;
    let Results { epochs: trained, .. } = results;
    if !epochs.iter().map(|epoch| epoch.epoch).eq(1..=trained) {
        let message = format!("not the curve of this run: {} lines for its {trained} epochs", epochs.len());
        return Err(Error::data(&path, message));
    }
    Ok(Run { folder: folder.to_path_buf(), config, results, epochs, earlier: false })
}

/// Reads a finished run's folder, at every milestone: the earliest first, the end last.
///
/// # Errors
/// As [`read`].
pub fn read_all(folder: &Path) -> Result<Vec<Run>> {
    let last = read(folder)?;
    let mut runs = Vec::new();
    for place in 0..last.epochs.len().saturating_sub(1) {
        let path = folder.join(file_name("results", Some(last.epochs[place].epoch), "json"));
        if path.exists() {
            let (results, epochs) = (files::read_json(&path)?, last.epochs[..=place].to_vec());
            runs.push(Run { results, epochs, earlier: true, ..last.clone() });
        }
    }
    runs.push(last);
    Ok(runs)
}

/// Reads the logits of a run's test segments, in the order of the test set: those of a track stand together.
///
/// # Errors
/// [`Error::Io`] if there is no such file: a run of an older version; [`Error::Data`] if it is damaged.
pub fn segments(run: &Run) -> Result<Vec<SegmentPrediction>> {
    let path = run.file("segments", "csv");
    let (classes, rows) = (run.results.data.classes.len(), run.results.data.test_segments);
    let longest = (rows as u64).saturating_add(1).saturating_mul(LONGEST_NAME + LONGEST_LOGIT * classes as u64);
    let mut segments = Vec::new();
    for row in files::read_csv(&path, longest)?.deserialize() {
        let (track, segment, label, logits): (String, u32, u32, Vec<f32>) =
            row.map_err(|error| Error::data(&path, error.to_string()))?;
        if logits.len() != classes || label as usize >= classes || !logits.iter().all(|z| z.is_finite()) {
            let message = format!("line {}: not a segment of {classes} classes", segments.len() + 2);
            return Err(Error::data(&path, message));
        }
        segments.push(SegmentPrediction { track, segment, label, logits });
    }
    Ok(segments)
}

fn write_segments(path: &Path, dataset: &Dataset, logits: &[f32]) -> Result<()> {
    let (test, classes) = (&dataset.test, &dataset.meta.classes);
    write_csv(path, |writer| {
        let fixed = ["track", "segment", "label"].map(String::from);
        writer.write_record(fixed.into_iter().chain(classes.iter().map(|class| format!("logit of {class}"))))?;
        let mut number = 0u32;
        for (row, logits) in logits.chunks_exact(classes.len()).enumerate() {
            number = if row > 0 && test.tracks[row] == test.tracks[row - 1] { number + 1 } else { 0 };
            let name = &test.track_names[test.tracks[row] as usize];
            writer.serialize((name, number, test.labels[row], logits))?;
        }
        Ok(())
    })
}

fn write_metrics(path: &Path, epochs: &[Epoch]) -> Result<()> {
    write_csv(path, |writer| epochs.iter().try_for_each(|epoch| writer.serialize(epoch)))
}

fn write_confusion(path: &Path, results: &Results) -> Result<()> {
    write_csv(path, |writer| {
        writer.write_record(std::iter::once("truth").chain(results.data.classes.iter().map(String::as_str)))?;
        for (class, row) in results.data.classes.iter().zip(&results.confusion) {
            writer.write_record(std::iter::once(class.clone()).chain(row.iter().map(u32::to_string)))?;
        }
        Ok(())
    })
}

fn write_csv(path: &Path, fill: impl FnOnce(&mut csv::Writer<Vec<u8>>) -> csv::Result<()>) -> Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    fill(&mut writer).map_err(|error| Error::data(path, error.to_string()))?;
    let bytes = writer.into_inner().map_err(|error| Error::data(path, error.to_string()))?;
    files::replace(path, &bytes)
}

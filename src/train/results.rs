//! The run's folder: `run.toml`, `metrics.csv`, `checkpoint.safetensors`, `results.json`, `confusion.csv`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::Dataset;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files;
use crate::models::Architecture;
use crate::tensor::Params;

use super::checkpoint;
use super::config::{Config, Preset};
use super::evaluate::{Accuracies, Evaluation, TrackPrediction};
use super::fit::{self, Epoch, Observer, Options, Outcome};

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
    /// The three accuracies on the test set under the final weights, percent.
    pub accuracies: Accuracies,
    /// `confusion[truth][predicted by max]`, in tracks.
    pub confusion: Vec<Vec<u32>>,
    /// Every test track.
    pub tracks: Vec<TrackPrediction>,
    /// What it ran on, e.g. `CPU, 2 threads`.
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

/// A finished run with its curve.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its folder.
    pub folder: PathBuf,
    /// Its configuration.
    pub config: Config,
    /// Its results.
    pub results: Results,
    /// Its curve.
    pub epochs: Vec<Epoch>,
}

/// Saves weights and curve after every epoch, and passes everything on.
struct Saving<'a> {
    folder: &'a Path,
    inner: &'a mut dyn Observer,
}

impl Observer for Saving<'_> {
    fn step(&mut self, epoch: u32, step: usize, steps: usize) {
        self.inner.step(epoch, step, steps);
    }

    fn epoch(&mut self, epochs: &[Epoch], params: &Params) -> Result<()> {
        checkpoint::write(&self.folder.join("checkpoint.safetensors"), params)?;
        write_metrics(&self.folder.join("metrics.csv"), epochs)?;
        self.inner.epoch(epochs, params)
    }
}

/// Trains one net into the (existing) `folder`. Weights and curve are saved after every epoch.
///
/// # Errors
/// Those of [`fit::fit`].
pub fn train(
    folder: &Path,
    config: &Config,
    dataset: &Dataset,
    device: (&Device, &str),
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Run> {
    let text = toml::to_string(config).map_err(|error| Error::Config(error.to_string()))?;
    files::replace(&folder.join("run.toml"), text.as_bytes())?;
    let outcome = fit::fit(config, dataset, device.0, options, &mut Saving { folder, inner: observer })?;
    let results = Results::new(config, dataset, &outcome, device.1);
    write_confusion(&folder.join("confusion.csv"), &results)?;
    files::replace_json(&folder.join("results.json"), &results)?;
    Ok(Run { folder: folder.to_path_buf(), config: config.clone(), results, epochs: outcome.epochs })
}

/// Reads a `run.toml`.
///
/// # Errors
/// [`Error::Io`] if it cannot be read, [`Error::Data`] if it is no configuration, [`Error::Config`] if its values are nonsense.
pub fn read_config(path: &Path) -> Result<Config> {
    let text = std::fs::read_to_string(path).map_err(Error::io("cannot read", path))?;
    let config: Config = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
        Error::data(path, format!("line {line}: {}", error.message()))
    })?;
    config.check()?;
    Ok(config)
}

/// Reads a finished run's folder.
///
/// # Errors
/// [`Error::Config`] if there is no such folder; [`Error::Io`] or [`Error::Data`] if a file is missing or damaged.
pub fn read(folder: &Path) -> Result<Run> {
    if !folder.join("run.toml").is_file() {
        let message =
            format!("{}: not a run's folder (it has no run.toml); give the folder that train wrote", folder.display());
        return Err(Error::Config(message));
    }
    if !folder.join("results.json").is_file() {
        return Err(Error::data(folder, "not a finished run (it has no results.json); train again with its run.toml"));
    }
    let path = folder.join("metrics.csv");
    let file = std::fs::File::open(&path).map_err(Error::io("cannot read", &path))?;
    let epochs = csv::Reader::from_reader(file).into_deserialize().collect::<std::result::Result<_, _>>();
    Ok(Run {
        folder: folder.to_path_buf(),
        config: read_config(&folder.join("run.toml"))?,
        results: files::read_json(&folder.join("results.json"))?,
        epochs: epochs.map_err(|error| Error::data(&path, error.to_string()))?,
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

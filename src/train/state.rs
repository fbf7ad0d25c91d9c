//! An unfinished training: all that its next step depends on, and its curve so far, in one file, `state.safetensors`.
//!
//! Shuffles, dropout and the learning rate are functions of seed and step, so that parameters, Adam's moments, running
//! sums and the number of steps are all there is: a training that goes on from its state with the same data gives, bit
//! for bit, what it would have given without the pause.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::tape::{Source, Tape};
use crate::tensor::Params;

use super::checkpoint;
use super::metrics::Epoch;

/// Where a training stands, between two steps.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// How far it came.
    pub reached: Reached,
    /// Parameters, Adam's moments, running sums.
    pub values: Params,
}

/// How far a training came.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reached {
    /// Steps taken.
    pub step: u32,
    /// Every finished epoch.
    pub epochs: Vec<Epoch>,
    /// When each of them ended, s since 1970. States of older versions have none; they are not part of `metrics.csv`, which
    /// is the same for the same training.
    #[serde(default)]
    pub times: Vec<f64>,
    /// Wall time so far, s.
    pub seconds: f64,
}

/// Its name among the safetensors' metadata.
const REACHED: &str = "reached";

impl State {
    /// Writes it to `path` (beside, then renamed).
    ///
    /// # Errors
    /// [`Error::Io`] if the disk refuses; the state written before is intact then.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string(&self.reached).map_err(|error| Error::data(path, error.to_string()))?;
        checkpoint::write_with(path, &self.values, &[(REACHED, text)])
    }

    /// Reads the state of a training of `tape` from `path`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`Error::Data`] if it is damaged or belongs to another net.
    pub fn read(path: &Path, tape: &Tape) -> Result<Self> {
        let (values, texts) = checkpoint::read_with(path, tape, &[Source::Param, Source::State])?;
        let text = texts.get(REACHED).ok_or_else(|| Error::data(path, "not the state of a training"))?;
        let mut reached: Reached =
            serde_json::from_str(text).map_err(|error| Error::data(path, format!("how far it came: {error}")))?;
        let numbered = reached.epochs.iter().zip(1..).all(|(epoch, number)| epoch.epoch == number);
        if reached.times.is_empty() {
            reached.times = guessed_times(path, &reached);
        }
        let timed = reached.times.len() == reached.epochs.len() && reached.times.iter().all(|time| time.is_finite());
        if !numbered || !timed || !reached.seconds.is_finite() {
            return Err(Error::data(path, "its epochs or its seconds make no sense"));
        }
        Ok(State { reached, values })
    }
}

/// When the epochs of a state without times ended: evenly over the training's seconds, up to when the state was written.
fn guessed_times(path: &Path, reached: &Reached) -> Vec<f64> {
    let written = path.metadata().and_then(|found| found.modified()).unwrap_or(SystemTime::now());
    let end = written.duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
    let (count, each) = (reached.epochs.len(), reached.seconds / reached.epochs.len().max(1) as f64);
    (1..=count).map(|epoch| end - each * (count - epoch) as f64).collect()
}

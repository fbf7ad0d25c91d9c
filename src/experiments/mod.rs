//! What is trained and what is reported: [`grid`] says which trainings the study's tables need, [`study`] does them.
//!
//! Not here: how a net is trained (see [`crate::train`]) and what a table looks like (see [`crate::report`]).

pub mod grid;
pub mod study;

use std::path::{Path, PathBuf};

use crate::data::cache::Cache;
use crate::data::load;
use crate::data::segments::Progress;
use crate::data::split::{self, Split};
use crate::data::{Content, Corpus, Dataset};
use crate::device::Device;
use crate::error::Result;
use crate::files::Lock;
use crate::report;
use crate::train::config::{Config, Data};
use crate::train::fit::{Observer, Options, Trainer};
use crate::train::results::{self, Run, Saves};

/// A data set, and what a person should know of how it came about.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What a net is trained and tested on.
    pub dataset: Dataset,
    /// Tracks left out, each with the reason.
    pub skipped: Vec<(PathBuf, String)>,
    /// What else there is to say, one line each.
    pub notes: Vec<String>,
}

/// Loads what `data` names, makes its segments and splits them.
///
/// # Errors
/// Whatever keeps the source from being a data set: see [`load::load_with`] and [`split::split`].
pub fn load(data: &Data, cache: &Cache, progress: Progress) -> Result<Loaded> {
    let split = match data.folds {
        0 => Split::Holdout { test_fraction: data.test_fraction },
        folds => Split::Folds { folds, fold: data.fold },
    };
    let mut corpus = load::load_with(cache, &data.source(), &data.settings(), progress)?;
    let Corpus { skipped, notes, .. } = &mut corpus;
    let (skipped, mut notes) = (std::mem::take(skipped), std::mem::take(notes));
    if matches!(corpus.content, Content::Split { .. }) {
        notes.push("comes with its own segments and split: settings of those do not apply".to_string());
    }
    Ok(Loaded { dataset: split::split(corpus, &split, data.split, data.seed)?, skipped, notes })
}

/// Trains one net into the folder of `lock`, which is empty or holds the same run, unfinished; draws its curve and its
/// confusion matrix.
///
/// A run that is begun here and comes to nothing before its first save leaves no folder.
///
/// # Errors
/// Those of [`results::train`] and of the disk.
pub fn train(
    lock: Lock,
    config: &Config,
    dataset: &Dataset,
    device: (&Device, &str),
    how: (&Options, &Saves),
    observer: &mut dyn Observer,
) -> Result<Run> {
    let begun = results::is_begun(lock.folder());
    let trained = Trainer::new(config, dataset, device.0)
        .and_then(|trainer| train_ready(trainer, lock.folder(), config, dataset, device.1, how, observer));
    if trained.is_err() && !begun {
        results::discard(lock);
    }
    trained
}

/// As [`train`], with a trainer at hand; what came to nothing is the caller's to discard.
fn train_ready(
    trainer: Trainer,
    folder: &Path,
    config: &Config,
    dataset: &Dataset,
    device: &str,
    how: (&Options, &Saves),
    observer: &mut dyn Observer,
) -> Result<Run> {
    let run = results::train(trainer, folder, config, dataset, device, how, observer)?;
    report::write_run(&run)?;
    // last of all: a kill before it costs the pictures nothing
    results::finish(&run)?;
    Ok(run)
}

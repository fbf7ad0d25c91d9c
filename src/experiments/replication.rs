//! The study's main table: both nets, one or more seeds, raw, max and maj (the report's section VII).

use std::path::{Path, PathBuf};

use crate::data::cache::Cache;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files;
use crate::models::Architecture;
use crate::report;
use crate::train::config::{Config, Data};
use crate::train::fit::{Observer, Options};
use crate::train::results::{Results, Run};

use super::Loaded;

/// The nets of the table, in its order.
pub const MODELS: [Architecture; 2] = [Architecture::Shallow, Architecture::Deep];

/// Epochs on real tracks: the report's shorter training.
pub const EPOCHS: u32 = 100;

/// Epochs on the built-in corpus: both nets are far above chance after so many, within minutes on two cores.
pub const SYNTHETIC_EPOCHS: u32 = 10;

/// Tracks a genre of the built-in corpus.
pub const SYNTHETIC_TRACKS: usize = 16;

/// Who watches a whole table being made.
pub trait Watcher {
    /// Data are about to be loaded; what is given is told (tracks done, tracks in all).
    fn loading(&self, data: &Data) -> Box<dyn Fn(usize, usize) + Sync + '_>;

    /// They are there.
    fn loaded(&mut self, loaded: &Loaded);

    /// A run is about to start.
    fn training(&self, config: &Config) -> Box<dyn Observer + '_>;
}

/// Trains every one of `configs` into a sub-folder `<model>-seed<k>` of `out` (default: the first free
/// `runs/reproduce-N`), and writes results.json after each of them, tables and pictures after the last. Where there are
/// several front ends, sub-folders are called `<model>-<front end>-seed<k>`.
///
/// Runs on the same data share them: what follows one another should have the same `data`.
///
/// # Errors
/// Those of loading and training; the folder is made once the first data are there.
pub fn run(
    configs: &[Config],
    out: Option<&Path>,
    cache: &Cache,
    device: (&Device, &str),
    watcher: &mut dyn Watcher,
) -> Result<(PathBuf, Vec<Run>)> {
    configs.iter().try_for_each(Config::check)?;
    files::check_free(out)?;
    let mut data: Option<(&Data, Loaded)> = None;
    let mut folder: Option<PathBuf> = None;
    let mut runs = Vec::new();
    for config in configs {
        let (_, loaded) = match data.take() {
            Some(same) if *same.0 == config.data => data.insert(same),
            other => {
                drop(other);
                let loaded = super::load(&config.data, cache, &*watcher.loading(&config.data))?;
                watcher.loaded(&loaded);
                data.insert((&config.data, loaded))
            }
        };
        let folder = match &mut folder {
            Some(folder) => folder,
            none => none.insert(files::run_folder(out, "reproduce")?),
        };
        let own = folder.join(sub_folder(config, configs));
        std::fs::create_dir(&own).map_err(Error::io("cannot create", &own))?;
        let mut observer = watcher.training(config);
        let run = super::train(&own, config, &loaded.dataset, device, &Options::default(), observer.as_mut());
        runs.push(run.inspect_err(|_| {
            // goes only if nothing is in it
            files::discard(folder);
        })?);
        let results: Vec<&Results> = runs.iter().map(|run| &run.results).collect();
        files::replace_json(&folder.join("results.json"), &results)?;
    }
    let folder = folder.unwrap_or_default();
    report::write(&folder, &runs)?;
    Ok((folder, runs))
}

/// A name for the run of `config`, unlike those of the other `configs`.
fn sub_folder(config: &Config, configs: &[Config]) -> String {
    let Config { model, seed, data, .. } = config;
    if configs.iter().all(|other| other.data.front_end == data.front_end) {
        return format!("{model}-seed{seed}");
    }
    format!("{model}-{}-seed{seed}", data.front_end.slug())
}

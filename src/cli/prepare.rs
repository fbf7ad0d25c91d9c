//! `genregrad prepare`: spectrograms for other tools.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use crate::data::{load, prepared};
use crate::error::{Error, Result};
use crate::experiments;
use crate::files;
use crate::models::Architecture;
use crate::train::config::{Config, Preset};
use crate::train::results::DataSummary;

use super::args::{CacheArgs, FrontEndArgs, MAX_SEED, MakingArgs, OutputArgs, ThreadArgs};
use super::output::{self, print, print_json};
use super::progress::Progress;

/// Write spectrograms and split to one safetensors file
///
/// Tensors: train.spectrograms [N, bins, frames] float32, train.labels [N] and train.tracks [N] int64, and the same
/// with test.; with --augment also train.deformed [N] int64, 0 or the number of the deformation; genres, track names,
/// split and front end are in the metadata. `--data FILE` takes it back, so that others can train on exactly what
/// genregrad trains on.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  genregrad prepare genres --out genres.safetensors
  genregrad prepare --out synthetic.safetensors        the built-in corpus
  genregrad prepare genres --augment --out augmented.safetensors
  genregrad prepare genres --front-end cqt --out cqt.safetensors
  genregrad prepare genres --split blocks --out blocks.safetensors
  genregrad prepare genres --folds 4 --fold 0 --seed 3 --out fold0.safetensors")]
pub struct Args {
    /// A folder whose sub-folders are the genres, or the course's pickle [default: the built-in corpus]
    path: Option<PathBuf>,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    /// Seed of the segments' places and of the split
    #[arg(long, alias = "split-seed", value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(..=MAX_SEED))]
    seed: u64,
    #[command(flatten, next_help_heading = "Data")]
    making: MakingArgs,
    #[command(flatten, next_help_heading = "Data")]
    front_end: FrontEndArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    pub threads: ThreadArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(serialize_with = "output::path")]
    file: &'a Path,
    #[serde(flatten)]
    data: DataSummary,
    #[serde(serialize_with = "output::skipped")]
    skipped: Vec<(PathBuf, String)>,
}

impl Args {
    pub fn run(self) -> Result<ExitCode> {
        // which net does not matter: only the data's settings are used
        let mut config = Config::preset(Preset::Report, Architecture::Shallow);
        config.data.path = self.path.clone();
        config.data.seed = self.seed;
        self.making.apply(&mut config.data);
        self.front_end.settle(&mut config.data)?;
        config.check()?;
        let out = &self.out;
        files::check_replaceable(out)?;
        if !self.force && out.symlink_metadata().is_ok() {
            return Err(Error::Config(format!("{}: exists already; use --force to replace it", out.display())));
        }
        if load::is_input(&config.data.source(), out)? {
            let message = "one of the files that are to be prepared; name another --out";
            return Err(Error::Config(format!("{}: {message}", out.display())));
        }
        if let Some(folder) = out.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
            return Err(Error::Config(format!("{}: no such folder; make it first", folder.display())));
        }
        let mut progress = Progress::new(self.output.quiet);
        let loaded = experiments::load(&config.data, &self.cache.cache(), &progress.tracks())?;
        progress.loaded(&loaded);
        let settings = toml::to_string(&config.data).map_err(|error| Error::Config(error.to_string()))?;
        prepared::write(
            out,
            &loaded.dataset,
            config.data.split,
            &BTreeMap::from([("settings".to_string(), settings)]),
        )?;
        let skipped = progress.finish();
        let data = DataSummary::of(&loaded.dataset);
        if self.output.json {
            print_json(&Report { file: out, data, skipped })?;
        } else {
            let [bins, frames] = data.spectrogram;
            let (train, test) = (data.train_segments, data.test_segments);
            print(&format!(
                "{}: [{train}, {bins}, {frames}] to train on, [{test}, {bins}, {frames}] to test on\n",
                out.display()
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

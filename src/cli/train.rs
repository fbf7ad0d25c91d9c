//! `genregrad train`: one net.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::experiments::{self, grid::Grid, study::Ahead};
use crate::files::{self, Lock};
use crate::models::Architecture;
use crate::report::tables;
use crate::train::config::Config;
use crate::train::fit::Options;
use crate::train::results::{self, Results};

use super::args::{DataArgs, DeviceArgs, FrontEndArgs, MAX_SEED, OutputArgs, SaveArgs, TrainingArgs};
use super::output::{self, print, print_json};
use super::progress::Progress;

/// Train one net and test it
///
/// The run's folder gets run.toml (every setting; --config takes it back), metrics.csv (one line an epoch),
/// checkpoint.safetensors (the weights after the last epoch), results.json, segments.csv (every test segment's outputs),
/// confusion.csv, data.json (by which its data are known again), and two pictures. The same settings, data, seed and
/// device give the same weights, bit for bit, also if the training was stopped or killed in between and went on with
/// --resume.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  genregrad train --model shallow --data genres --epochs 100 --out runs/first
  genregrad train --model deep --preset paper --data genres --folds 4 --fold 0
  genregrad train --model deep --data genres --front-end cqt --n-bins 84
  genregrad train --config runs/first/run.toml --epochs 200 --out runs/second
  genregrad train --resume runs/second
  genregrad train --model shallow --dropout 0 --trace trace --max-steps 20")]
pub struct Args {
    /// Which net
    #[arg(long, alias = "models", value_enum, required_unless_present_any = ["config", "resume"])]
    model: Option<Architecture>,
    /// Start from the settings of an earlier run instead of a preset; flags still change them
    #[arg(long, value_name = "RUN.TOML", conflicts_with = "preset")]
    config: Option<PathBuf>,
    /// Seed of weights, shuffles and dropout, and of the split [default: 1]
    #[arg(long, alias = "seeds", value_name = "N", value_parser = clap::value_parser!(u64).range(..=MAX_SEED))]
    seed: Option<u64>,
    #[command(flatten)]
    training: TrainingArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten, next_help_heading = "Data")]
    front_end: FrontEndArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    saves: SaveArgs,
    /// Go on with the unfinished run in this folder: all settings are those it was started with, but for --device and
    /// --tensorboard, which are to be given again; --data says where its data lie now, if they moved
    #[arg(long, value_name = "DIR", help_heading = "Output",
          conflicts_with_all = ["model", "config", "seed", "TrainingArgs", "MakingArgs", "split_seed", "FrontEndArgs", "out", "trace", "max_steps"])]
    resume: Option<PathBuf>,
    /// The run's folder, new or empty [default: the first free runs/train-N]
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    out: Option<PathBuf>,
    /// Write init.safetensors and steps.csv (loss and batch of every step) here, to follow the training elsewhere
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    trace: Option<PathBuf>,
    /// Stop after so many steps
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_steps: Option<u32>,
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(serialize_with = "output::path")]
    folder: &'a Path,
    #[serde(flatten)]
    results: &'a Results,
    #[serde(serialize_with = "output::skipped")]
    skipped: Vec<(PathBuf, String)>,
}

impl Args {
    pub fn run(self) -> Result<ExitCode> {
        let (taken_up, config) = match &self.resume {
            Some(folder) => {
                let (lock, config) = unfinished(folder, self.data.place().as_deref())?;
                (Some(lock), config)
            }
            None => (None, self.config()?),
        };
        config.check()?;
        files::check_free(self.out.as_deref())?;
        files::check_free(self.trace.as_deref())?;
        let mut progress = Progress::new(self.output.quiet);
        let choice = self.device.open(&mut progress)?;
        let loaded = experiments::load(&config.data, &self.data.cache.cache(), &progress.tracks())?;
        progress.loaded(&loaded);

        let lock = match taken_up {
            Some(lock) => lock,
            None => begin(self.out.as_deref())?,
        };
        let folder = lock.folder().to_path_buf();
        let options = Options { trace: self.trace, max_steps: self.max_steps };
        let name = format!("{}, seed {}", config.model, config.seed);
        let mut epochs = progress.epochs(&name, &config, self.max_steps, Ahead::default());
        let device = (&choice.device, choice.description.as_str());
        let how = (&options, &self.saves.saves());
        let run = experiments::train(lock, &config, &loaded.dataset, device, how, &mut epochs);
        let run = run.map_err(|error| match error {
            Error::Interrupted(what) => {
                let again = format!("{}{}{}", files::quoted(&folder), self.device.again(), self.saves.again());
                Error::Interrupted(format!("{what}; go on with: genregrad train --resume {again}"))
            }
            error => error,
        })?;
        drop(epochs);
        let skipped = progress.finish();
        if self.output.json {
            print_json(&Report { folder: &folder, results: &run.results, skipped })?;
        } else {
            print(&format!("{}\n{}\n", tables::replication_text(std::slice::from_ref(&run)), folder.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// A preset or a run.toml, then the flags.
    fn config(&self) -> Result<Config> {
        let Some(path) = &self.config else {
            let model = self.model.ok_or_else(|| Error::Config("--model is needed".to_string()))?;
            return self.training.config(model, self.seed.unwrap_or(1), &self.data, self.front_end);
        };
        let mut config = results::read_config(path)?;
        if let Some(model) = self.model.filter(|model| *model != config.model) {
            let message = format!(
                "--model {model}: {} is a run of the {} net; leave out --model, or use --preset",
                path.display(),
                config.model
            );
            return Err(Error::Config(message));
        }
        config.seed = self.seed.unwrap_or(config.seed);
        self.training.apply(&mut config);
        self.data.apply(&mut config.data);
        self.front_end.settle(&mut config.data)?;
        Ok(config)
    }
}

/// The folder of a new run, made and taken: `out`, or the first free `runs/train-N`.
fn begin(out: Option<&Path>) -> Result<Lock> {
    let folder = files::run_folder(out, "train")?;
    let lock = results::claim(&folder).inspect_err(|_| files::discard(&folder))?;
    // another process may have been there in between, and be done
    match files::check_free(Some(&folder)) {
        Ok(()) => Ok(lock),
        Err(error) => Err(error),
    }
}

/// The folder of an unfinished run, taken, and its settings; its data lie in `place` now, if they moved.
fn unfinished(folder: &Path, place: Option<&Path>) -> Result<(Lock, Config)> {
    if Grid::is_in(folder) {
        let (shown, folder) = (folder.display(), files::quoted(folder));
        return Err(Error::Config(format!("{shown}: a study; go on with: genregrad reproduce --resume {folder}")));
    }
    let check_unfinished = || match results::is_finished(folder) {
        true => Err(Error::Config(format!("{}: a finished run; there is nothing left to do", folder.display()))),
        false => Ok(()),
    };
    results::tidy(folder);
    check_unfinished()?;
    // no lock is left in what is no run's folder
    results::read_config(&folder.join("run.toml"))?;
    let lock = results::claim(folder)?;
    check_unfinished()?;
    files::sweep(folder, Duration::ZERO);
    if let Some(place) = place {
        results::move_data(folder, place)?;
    }
    let config = results::read_config(&folder.join("run.toml"))?;
    config.data.check_there()?;
    Ok((lock, config))
}

//! `genregrad reproduce`: the study.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::value_parser;
use serde::Serialize;

use crate::audio::Kind;
use crate::error::Result;
use crate::experiments::replication::{self, EPOCHS, MODELS, SYNTHETIC_EPOCHS, SYNTHETIC_TRACKS};
use crate::models::Architecture;
use crate::report::{self, tables};
use crate::train::config::Config;
use crate::train::results::{Results, Run};

use super::args::{DataArgs, DeviceArgs, FrontEndArgs, MAX_SEED, OutputArgs, TrainingArgs};
use super::output::{print, print_json};
use super::progress::Progress;

/// Train both nets and print the study's tables
///
/// Without --data, ten synthetic genres are made and learnt in about three minutes on two cores. With it, both nets
/// learn your tracks for 100 epochs: hours on two cores (--epochs 20 gives a first look). Accuracies (raw: single segments; max: the largest summed output of a track; maj: its segments'
/// majority vote) stand beside the published ones. The run's folder gets tables.md, results.json, curves and confusion
/// matrices, and one sub-folder a net and seed, each as `train` writes it.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  genregrad reproduce
  genregrad reproduce --data genres --epochs 100 --seeds 1,2,3 --out runs/gtzan
  genregrad reproduce --front-end mel,cqt,linear,cwt       every representation, beside each other
  genregrad reproduce --models shallow --preset paper --device cpu --json")]
pub struct Args {
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
    device: DeviceArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// The run's folder, new or empty [default: the first free runs/reproduce-N]
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    out: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report<'a> {
    folder: &'a Path,
    runs: Vec<&'a Results>,
    skipped: Vec<(PathBuf, String)>,
}

impl Args {
    pub fn run(self) -> Result<ExitCode> {
        let configs = self.configs()?;
        configs.iter().try_for_each(Config::check)?;
        crate::files::check_free(self.out.as_deref())?;
        let mut progress = Progress::new(self.output.quiet);
        let choice = self.device.open(&mut progress)?;
        let device = (&choice.device, choice.description.as_str());
        let cache = self.data.cache.cache();
        let (folder, runs) = replication::run(&configs, self.out.as_deref(), &cache, device, &mut progress)?;
        let skipped = progress.finish();
        if self.output.json {
            let runs = runs.iter().map(|run| &run.results).collect();
            print_json(&Report { folder: &folder, runs, skipped })?;
        } else {
            print(&summary(&folder, &runs))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Every seed's nets, seed by seed and front end by front end, so that they share their data.
    ///
    /// # Errors
    /// Those of [`FrontEndArgs::settle`].
    fn configs(&self) -> Result<Vec<Config>> {
        let mut front_ends: Vec<Option<Kind>> = self.front_end.iter().copied().map(Some).collect();
        if front_ends.is_empty() {
            front_ends.push(None);
        }
        let mut configs: Vec<Config> = Vec::new();
        for &seed in &self.seeds {
            for (&front_end, &model) in front_ends.iter().flat_map(|kind| self.models.iter().map(move |m| (kind, m))) {
                let front_end = FrontEndArgs { front_end, n_bins: self.n_bins };
                let mut config = self.training.config(model, seed, &self.data, front_end)?;
                if self.training.epochs.is_none() {
                    config.epochs = if self.data.data.is_some() { EPOCHS } else { SYNTHETIC_EPOCHS };
                }
                if !self.data.names_synthetic_tracks() {
                    config.data.synthetic_tracks = SYNTHETIC_TRACKS;
                }
                if !configs.contains(&config) {
                    configs.push(config);
                }
            }
        }
        Ok(configs)
    }
}

/// The tables, and where everything is.
fn summary(folder: &Path, runs: &[Run]) -> String {
    let mut text = tables::replication_text(runs);
    let better = |a: &&Run, b: &&Run| a.results.accuracies.max.total_cmp(&b.results.accuracies.max);
    if let Some(best) = runs.iter().max_by(better) {
        let name = format!("{}, seed {}", report::variant(best), best.results.seed);
        text += &format!("\n{name}: training\n{}\n", tables::curves(&best.epochs));
        text += &format!("\n{name}: test tracks by truth (rows) and prediction (max)\n");
        text += &format!("{}\n", tables::confusion(&best.results));
    }
    text + &format!("\n{}\n", folder.display())
}

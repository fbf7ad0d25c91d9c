//! `genregrad evaluate`: a finished run once more, from its checkpoint.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::experiments;
use crate::report::tables;
use crate::train::checkpoint;
use crate::train::evaluate::{self, Accuracies, Evaluation, Evaluator};
use crate::train::program::EvaluateProgram;
use crate::train::results::{self, DataSummary, Results, Run};

use super::args::{CacheArgs, DeviceArgs, OutputArgs};
use super::output::{self, print, print_json, width};
use super::progress::Progress;

/// Test a finished run again from its checkpoint
///
/// Loads the data that run.toml names, splits them as the run did, and computes raw, max and maj under the weights in
/// checkpoint.safetensors. On the same data they are compared with results.json, number for number; exit code 1 if one
/// differs.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  genregrad evaluate runs/train-1
  genregrad evaluate runs/train-1 --data /elsewhere/genres --device cpu --json")]
pub struct Args {
    /// The folder that `train` wrote
    run: PathBuf,
    /// Test on these tracks instead of those in run.toml
    #[arg(long, value_name = "PATH", help_heading = "Data")]
    data: Option<PathBuf>,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(serialize_with = "output::path")]
    run: &'a PathBuf,
    data: DataSummary,
    device: &'a str,
    #[serde(flatten)]
    evaluation: &'a Evaluation,
    /// None if the data are others than those of the run.
    identical: Option<bool>,
    differences: &'a [String],
    #[serde(serialize_with = "output::skipped")]
    skipped: Vec<(PathBuf, String)>,
}

impl Args {
    pub fn run(self) -> Result<ExitCode> {
        results::tidy(&self.run);
        let Run { mut config, results, .. } = results::read(&self.run)?;
        config.check()?;
        if self.data.is_some() {
            config.data.path.clone_from(&self.data);
        }
        let mut progress = Progress::new(self.output.quiet);
        let choice = self.device.open(&mut progress)?;
        let loaded = experiments::load(&config.data, &self.cache.cache(), &progress.tracks())?;
        progress.loaded(&loaded);
        let (meta, data) = (&loaded.dataset.meta, DataSummary::of(&loaded.dataset));
        if meta.front_end != config.data.front_end {
            let message = format!(
                "its spectrograms are {}; the run was trained on {}, or with other settings",
                meta.front_end, config.data.front_end
            );
            return Err(Error::data(self.data.unwrap_or_else(|| meta.name.clone().into()), message));
        }
        if meta.classes != results.data.classes {
            let (these, those) = (meta.classes.join(", "), results.data.classes.join(", "));
            let message = format!("its genres are {these}; the run was trained on {those}");
            return Err(Error::data(self.data.unwrap_or_else(|| meta.name.clone().into()), message));
        }

        let net = config.net(meta.classes.len());
        let program = EvaluateProgram::record(&net, [1, meta.bins, meta.frames])?;
        let params = checkpoint::read(&self.run.join("checkpoint.safetensors"), &program.tape)?;
        let test = &loaded.dataset.test;
        let mut evaluator = Evaluator::new(&net, [meta.bins, meta.frames], config.fuse, &choice.device, &params, test)?;
        let logits = evaluator.logits(&params)?;
        let evaluation = evaluate::evaluate(&logits, &loaded.dataset.test, meta.classes.len());
        let skipped = progress.finish();

        let same_data = data == results.data;
        let differences = if same_data { differences(&evaluation, &results) } else { Vec::new() };
        let identical = same_data.then_some(differences.is_empty());
        if self.output.json {
            let (run, device) = (&self.run, choice.description.as_str());
            let report =
                Report { run, data, device, evaluation: &evaluation, identical, differences: &differences, skipped };
            print_json(&report)?;
        } else {
            let whole = match identical {
                Some(true) => self.run.join("confusion.csv").display().to_string(),
                _ => "--json".to_string(),
            };
            let mut text = scores(&evaluation, data, &results, &whole);
            match identical {
                Some(true) => text += "identical to results.json\n",
                None => text += "other data than the run's: not compared with results.json\n",
                Some(false) => {
                    let _ = writeln!(text, "differs from results.json (computed on {}):", results.device);
                    differences.iter().for_each(|difference| text += &format!("  {difference}\n"));
                }
            }
            print(&text)?;
        }
        Ok(if identical == Some(false) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// The accuracies and the confusion matrix, of which `whole` has all if it is too wide.
fn scores(evaluation: &Evaluation, data: DataSummary, results: &Results, whole: &str) -> String {
    let Evaluation { accuracies, confusion, tracks, segments } = evaluation.clone();
    let Accuracies { raw, max, max_probabilities, maj } = accuracies;
    let header = format!("{}, {}: {segments} segments of {} tracks", results.model, data.name, tracks.len());
    let results = Results { accuracies, confusion, tracks, data, ..results.clone() };
    let matrix = tables::confusion_text(&results, width(), whole);
    let majority = tables::majority(&results).map_or_else(String::new, |line| format!("{line}\n"));
    format!(
        "{header}\nraw {raw:.2} %, max {max:.2} %, max (probabilities) {max_probabilities:.2} %, maj {maj:.2} \
         %\n{majority}{matrix}"
    )
}

/// What is not bit for bit the same, one line each.
fn differences(now: &Evaluation, then: &Results) -> Vec<String> {
    let mut lines = Vec::new();
    let (a, b) = (now.accuracies, then.accuracies);
    for (name, now, then) in [
        ("raw", a.raw, b.raw),
        ("max", a.max, b.max),
        ("max_probabilities", a.max_probabilities, b.max_probabilities),
        ("maj", a.maj, b.maj),
    ] {
        if now.to_bits() != then.to_bits() {
            lines.push(format!("{name}: {now} now, {then} then"));
        }
    }
    if now.tracks.len() != then.tracks.len() {
        lines.push(format!("tracks: {} now, {} then", now.tracks.len(), then.tracks.len()));
    }
    for (now, then) in now.tracks.iter().zip(&then.tracks).filter(|(now, then)| now != then) {
        lines.push(format!("track {}: {now:?} now, {then:?} then", then.track));
    }
    if now.confusion != then.confusion {
        lines.push("confusion matrix".to_string());
    }
    lines
}

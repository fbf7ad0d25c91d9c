//! `genregrad program`: a net's program as a table, the textbook's or the rewritten one.

use std::process::ExitCode;

use clap::value_parser;
use serde::Serialize;

use crate::device::memory;
use crate::error::Result;
use crate::fast;
use crate::models::Architecture;
use crate::tape::{Node, Source, Tape, Var};
use crate::train::config::{Config, Preset};
use crate::train::program::{EvaluateProgram, TrainProgram};

use super::args::RuleArgs;
use super::output::{print, print_json};

/// Print a net's program: every operation, its shapes, and the rule that made it
///
/// A program is recorded once and replayed for every batch. The table has one line per node: its number, its operation, the
/// shape that it writes, what it reads and what it writes. A node that replaces textbook nodes names its rule. Without --grad
/// the program is a forward pass, with --grad a whole training step: loss, gradients, Adam.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  genregrad program                                    the shallow net's forward pass
  genregrad program --model deep --grad --no-fuse      the deep net's training step, operation by operation
  genregrad program --grad --without dense_update      one rule left out")]
pub struct Args {
    /// Which net
    #[arg(long, value_enum, default_value = "shallow")]
    model: Architecture,
    /// Whose choices the net follows
    #[arg(long, value_enum, default_value = "report")]
    preset: Preset,
    /// Print a training step: the loss, its gradients and Adam
    #[arg(long)]
    grad: bool,
    #[command(flatten)]
    rules: RuleArgs,
    /// Batch size in segments
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = value_parser!(u16).range(1..=4096))]
    batch: u16,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct NodeReport<'t> {
    operation: &'t str,
    shape: Vec<usize>,
    reads: Vec<&'t str>,
    writes: Vec<&'t str>,
    rule: Option<&'t str>,
}

impl Args {
    pub fn run(self) -> Result<ExitCode> {
        let config = Config { batch: self.batch.into(), ..Config::preset(self.preset, self.model) };
        let (net, shape) = (config.net(10), [config.batch, 80, 80]);
        let tape = if self.grad {
            TrainProgram::record(&net, shape, config.l1, config.adam())?.tape
        } else {
            EvaluateProgram::record(&net, shape)?.tape
        };
        let tape = fast::rewrite(&tape, &self.rules.rules());
        if self.json {
            print_json(&report(&tape))?;
        } else {
            print(&format!("{tape}\n{}\n", totals(&tape)))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn report(tape: &Tape) -> Vec<NodeReport<'_>> {
    let names = |vars: &[Var]| vars.iter().map(|var| tape.values()[var.index()].name.as_str()).collect();
    let mut reports = Vec::new();
    for Node { op, reads, writes, rule } in tape.nodes() {
        let shape = writes.first().map_or(Vec::new(), |&var| tape.shape(var).dims().to_vec());
        reports.push(NodeReport {
            operation: op.name(),
            shape,
            reads: names(reads),
            writes: names(writes),
            rule: *rule,
        });
    }
    reports
}

/// Counts of nodes and parameters, and the memory of all values.
fn totals(tape: &Tape) -> String {
    let elements = |vars: &[Var]| vars.iter().map(|&var| tape.shape(var).len()).sum::<usize>();
    let live: Vec<Var> = (0..tape.values().len()).map(Var).filter(|&var| tape.is_live(var)).collect();
    format!(
        "{} nodes, {} parameters, {} of values, {:.2} GFLOP per run",
        tape.nodes().len(),
        elements(&tape.vars_of(&[Source::Param])),
        memory::size((elements(&live) * size_of::<f32>()) as u64),
        tape.flops() as f64 / 1e9
    )
}

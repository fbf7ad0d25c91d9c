//! `genregrad gradcheck`: is every gradient right, here, on this device?

use std::process::ExitCode;

use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::check::{self, Check};
use crate::device::{Choice, Device};
use crate::error::Result;
use crate::report::tables;

use super::args::{OutputArgs, ThreadArgs};
use super::output::{print, print_json};
use super::progress::Progress;

/// Check every operation and both nets: CPU against float64, GPU against CPU
///
/// CPU kernels are held to naive equations in float64, gradients to central differences of those, and a GPU to the CPU:
/// values, gradients, and ten Adam steps with dropout on. Errors are relative to the scale of what is compared. Exit
/// code 1 if one is beyond its tolerance.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  genregrad gradcheck
  genregrad gradcheck --device cpu
  genregrad gradcheck --device llvmpipe --json")]
pub struct Args {
    /// auto (any adapter, also a software one, else the CPU alone), cpu, gpu, or an adapter's number or part of its name
    #[arg(long, value_name = "NAME", default_value = "auto", help_heading = "Device")]
    device: String,
    #[command(flatten, next_help_heading = "Device")]
    pub threads: ThreadArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Report<'a> {
    passed: bool,
    cpu: String,
    /// The adapter that was checked.
    gpu: Option<String>,
    note: Option<&'a str>,
    checks: &'a [Check],
}

impl Args {
    pub fn run(self) -> Result<ExitCode> {
        let progress = Progress::new(self.output.quiet);
        let gpu = self.gpu()?;
        let bar = progress.bar("[{bar:30}] {pos}/{len} {msg}", 0);
        let checks = check::run(gpu.as_ref().map(|choice| &choice.device), &mut |done, total, subject| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            bar.set_message(subject.to_string());
        });
        bar.finish_and_clear();
        let checks = checks?;

        let failed = checks.iter().filter(|check| !check.passed).count();
        let missing =
            (gpu.is_none() && self.wanted() != "cpu").then_some("no GPU adapter found: only the CPU was checked");
        let (cpu, gpu) = (Device::describe_cpu(), gpu.map(|choice| choice.description));
        if self.output.json {
            print_json(&Report { passed: failed == 0, cpu, gpu, note: missing, checks: &checks })?;
        } else {
            let gpu = gpu.map_or(String::new(), |gpu| format!("GPU: {gpu}\n"));
            let note = missing.map_or(String::new(), |note| format!("{note}\n"));
            let verdict = if failed == 0 { "all passed".to_string() } else { format!("{failed} FAILED") };
            print(&format!("{cpu}\n{gpu}{}\n{note}{} checks, {verdict}\n", table(&checks), checks.len()))?;
        }
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn wanted(&self) -> String {
        self.device.trim().to_lowercase()
    }

    /// The adapter that is meant; none for the CPU alone.
    fn gpu(&self) -> Result<Option<Choice>> {
        Ok(match self.wanted().as_str() {
            "cpu" => None,
            "auto" if Device::list().is_empty() => None,
            "auto" => Some(Device::choose("gpu")?),
            name => Some(Device::choose(name)?),
        })
    }
}

fn table(checks: &[Check]) -> Table {
    let mut table = Table::new();
    table.load_style(tables::STYLE);
    table.set_header(["subject", "what", "error", "at most", "", ""]);
    for check in checks {
        table.add_row([
            check.subject.clone(),
            check.what.clone(),
            format!("{:.1e}", check.error),
            format!("{:.1e}", check.tolerance),
            if check.passed { "pass" } else { "FAIL" }.to_string(),
            // where the error is matters once there is one to look for
            if check.passed { String::new() } else { check.worst.clone().unwrap_or_default() },
        ]);
    }
    for column in table.column_iter_mut().skip(2).take(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

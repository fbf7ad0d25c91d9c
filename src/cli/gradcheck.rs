//! `genregrad gradcheck`: is every gradient right, here, on this device?

use std::fmt::Write;
use std::process::ExitCode;

use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::check::cases::Case;
use crate::check::{self, Check, Detail};
use crate::device::{Choice, Device};
use crate::error::{Error, Result};
use crate::report::tables;

use super::args::{OutputArgs, ThreadArgs};
use super::output::{print, print_json};
use super::progress::Progress;

/// Check every operation and both nets: CPU against float64, GPU against CPU
///
/// CPU kernels are held to naive equations in float64, gradients to central differences of those, and a GPU to the CPU:
/// values, gradients, and ten Adam steps with dropout on. Errors are relative to the scale of what is compared. Exit
/// code 1 if one is beyond its tolerance, or if a check compared nothing.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  genregrad gradcheck
  genregrad gradcheck --device cpu
  genregrad gradcheck --device llvmpipe --json
  genregrad gradcheck --explain conv2d     the worst number of an operation, and its neighbours")]
pub struct Args {
    /// auto (any adapter, also a software one, else the CPU alone), cpu, gpu, or an adapter's number or part of its name
    #[arg(long, value_name = "NAME", default_value = "auto", help_heading = "Device")]
    device: String,
    #[command(flatten, next_help_heading = "Device")]
    pub threads: ThreadArgs,
    /// Check one operation or net, and show where its worst number is: got, expected and the numbers around it
    #[arg(long, value_name = "OP")]
    explain: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Report<'a> {
    passed: bool,
    cpu: String,
    /// The adapter that was checked.
    gpu: Option<String>,
    note: Option<String>,
    checks: &'a [Check],
}

impl Args {
    pub fn run(self) -> Result<ExitCode> {
        let cases = self.cases()?;
        let progress = Progress::new(self.output.quiet);
        let gpu = self.gpu()?;
        let bar = progress.bar("[{bar:30}] {pos}/{len} {msg}", 0);
        let checks =
            check::run_cases(&cases, gpu.as_ref().map(|choice| &choice.device), &mut |done, total, subject| {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
                bar.set_message(subject.to_string());
            });
        bar.finish_and_clear();
        let checks = checks?;

        let failed = checks.iter().filter(|check| !check.passed).count();
        let missing = (gpu.is_none() && self.wanted() != "cpu")
            .then(|| format!("{}: only the CPU was checked", Device::why_none()));
        let (cpu, gpu) = (Device::describe_cpu(), gpu.map(|choice| choice.description));
        if self.output.json {
            print_json(&Report { passed: failed == 0, cpu, gpu, note: missing, checks: &checks })?;
        } else {
            let gpu = gpu.map_or(String::new(), |gpu| format!("GPU: {gpu}\n"));
            let note = missing.map_or(String::new(), |note| format!("{note}\n"));
            let verdict = if failed == 0 { "all passed".to_string() } else { format!("{failed} FAILED") };
            let explained = if self.explain.is_some() { explained(&checks) } else { String::new() };
            print(&format!("{cpu}\n{gpu}{}\n{explained}{note}{} checks, {verdict}\n", table(&checks), checks.len()))?;
        }
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// What is checked: everything, or what --explain names.
    fn cases(&self) -> Result<Vec<Case>> {
        let mut cases = check::all_cases()?;
        let Some(subject) = &self.explain else { return Ok(cases) };
        let mut subjects: Vec<String> = cases.iter().map(|case| case.subject.clone()).collect();
        subjects.dedup();
        cases.retain(|case| case.subject == *subject);
        if cases.is_empty() {
            let message = format!("--explain {subject}: no such operation or net; there are: {}", subjects.join("; "));
            return Err(Error::Config(message));
        }
        Ok(cases)
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
    table.set_header(["subject", "what", "compared", "error", "at most", "", ""]);
    for check in checks {
        table.add_row([
            check.subject.clone(),
            check.what.clone(),
            check.compared.to_string(),
            format!("{:.1e}", check.error),
            format!("{:.1e}", check.tolerance),
            if check.passed { "pass" } else { "FAIL" }.to_string(),
            // where the error is matters once there is one to look for
            if check.passed { String::new() } else { located(check) },
        ]);
    }
    for column in table.column_iter_mut().skip(2).take(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Where a check's worst number is, and what it is.
fn located(check: &Check) -> String {
    let at = check.worst.clone().unwrap_or_default();
    match &check.detail {
        Some(Detail { got, expected, .. }) => format!("{at}: got {got:e}, expected {expected:e}"),
        None => at,
    }
}

/// The worst number of every check, and the numbers around it.
fn explained(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let verdict = if check.passed { "pass" } else { "FAIL" };
        let Check { subject, what, compared, error, tolerance, .. } = check;
        let _ = writeln!(text, "{subject}: {what}: {verdict}, {compared} numbers compared");
        let _ = writeln!(text, "  error {error:.2e} of at most {tolerance:.2e}, at {}", located(check));
        if let Some(detail) = &check.detail {
            text += &neighbourhood(detail);
        }
        text.push('\n');
    }
    text
}

/// The numbers around the worst one: one line per row, each number as got / expected.
fn neighbourhood(detail: &Detail) -> String {
    let Detail { value, shape, index, neighbourhood, corner, .. } = detail;
    let axes = match (shape.len(), value.contains("weight")) {
        (4, true) => "[c_out, c_in, k_h, k_w] of ",
        (4, false) => "[n, c, h, w] of ",
        _ => "of ",
    };
    let mut text = format!("  {value} at {index:?} ({axes}{shape:?}) and the numbers around it, got / expected:\n");
    let mut table = Table::new();
    table.load_style(tables::STYLE);
    for (number, row) in neighbourhood.iter().enumerate() {
        let cells = row.iter().enumerate().map(|(column, [got, expected])| {
            let mut at = corner.clone();
            let last = at.len();
            if last > 1 {
                at[last - 2] += number;
            }
            if last > 0 {
                at[last - 1] += column;
            }
            let mark = if at == *index { "> " } else { "" };
            format!("{mark}{got:.6e} / {expected:.6e}")
        });
        table.add_row(cells);
    }
    let _ = writeln!(text, "{table}");
    text
}

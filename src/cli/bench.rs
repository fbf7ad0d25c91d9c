//! `genregrad bench`: how fast is it here?

use std::process::ExitCode;

use clap::{ValueEnum, value_parser};
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::audio::Kind as FrontEndKind;
use crate::bench::device_peak::DevicePeak;
use crate::bench::floor::Floor;
use crate::bench::net::{Kind, Subject};
use crate::bench::{self, Times};
use crate::device::Device;
use crate::device::gpu::NETS;
use crate::error::Result;
use crate::models::Architecture;
use crate::report::tables;
use crate::run::KernelTiming;
use crate::train::config::{Config, Preset};

use super::args::{DeviceArgs, OutputArgs, RuleArgs};
use super::output::{print, print_json};
use super::progress::Progress;

/// Time a training step, a forward pass, or a front end on this machine
///
/// The program timed is the one that a run replays: dropout, L1 penalty and Adam included, on random data of 80x80 and
/// ten genres. Each step on a CPU is timed by itself; a GPU is handed a tenth of the steps at a time and waited for once.
/// GFLOP/s count useful work: the convolutions and dense layers of the textbook algorithms, whatever is done instead.
///
/// --floor measures what the device can do at most in the same run (multiply-adds in registers, on a GPU a large matrix
/// product; a stream triad), and what a step would take if it did nothing else. The floor is that of the direct algorithms: better ones may pass it.
///
/// --front-end times spectrograms instead of nets.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  genregrad bench                                  the shallow net's training step, all cores
  genregrad bench --model deep --threads 1 --floor
  genregrad bench --forward --batch 150 --json
  genregrad bench --model deep --no-fuse --steps 10  the textbook operations
  genregrad bench --device gpu --batch 150 --floor --profile
  genregrad bench --device gpu --nets 8            eight nets side by side
  genregrad bench --front-end cqt --threads 1")]
pub struct Args {
    /// Which net
    #[arg(long, value_enum, default_value = "shallow")]
    model: Architecture,
    /// Whose choices of activation, biases and dropout
    #[arg(long, value_enum, default_value = "report")]
    preset: Preset,
    /// Segments of a step
    #[arg(long, value_name = "N", default_value_t = 15)]
    batch: usize,
    /// Time a forward pass without dropout instead of a training step
    #[arg(long)]
    forward: bool,
    /// Nets that step side by side, as `reproduce --at-once` trains them
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = value_parser!(u8).range(1..=NETS as i64))]
    nets: u8,
    #[command(flatten)]
    rules: RuleArgs,
    /// Steps (or passes of --front-end) timed
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = value_parser!(u32).range(1..=1_000_000))]
    steps: u32,
    /// Steps before those, not timed
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = value_parser!(u32).range(..=1_000_000))]
    warmup: u32,
    /// Time every kernel of a step too, each alone: the least of --steps
    #[arg(long)]
    profile: bool,
    /// Measure the device too, and say what a step would take at least
    #[arg(long)]
    floor: bool,
    /// Time this representation of --segments segments of 20,462 samples, on the CPU
    #[arg(long, value_enum, value_name = "KIND", help_heading = "Front end",
          conflicts_with_all = ["model", "preset", "batch", "forward", "nets", "no_fuse", "floor", "device", "without", "profile"])]
    front_end: Option<FrontEndKind>,
    /// Segments of a pass
    #[arg(long, value_name = "N", default_value_t = 1000, requires = "front_end", help_heading = "Front end",
          value_parser = value_parser!(u32).range(1..=100_000))]
    segments: u32,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct NetReport {
    model: Architecture,
    preset: Preset,
    /// `step` or `forward`.
    what: &'static str,
    batch: usize,
    /// Side by side.
    nets: usize,
    fused: bool,
    /// Rules that were left out.
    without: Vec<String>,
    device: String,
    threads: usize,
    steps: u32,
    warmup: u32,
    #[serde(flatten)]
    times: Times,
    samples_per_s: f64,
    /// Useful work of one step of all nets.
    gflop: f64,
    /// Useful work per second.
    gflops: f64,
    peak_rss_mb: Option<f64>,
    /// On a GPU: what translating the kernels took, and kernels of a step.
    compile_seconds: Option<f64>,
    dispatches: Option<usize>,
    floor: Option<Floor>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    profile: Vec<OperationTime>,
}

/// What an operation's kernels take in a step.
#[derive(Serialize)]
struct OperationTime {
    op: &'static str,
    kernel: String,
    dispatches: usize,
    ms: f64,
}

/// The time of every kind of kernel, the longest first.
fn by_operation(timings: Vec<KernelTiming>) -> Vec<OperationTime> {
    let mut times: Vec<OperationTime> = Vec::new();
    for KernelTiming { op, kernel, seconds } in timings {
        let known = times.iter().position(|time| time.op == op && time.kernel == kernel).unwrap_or_else(|| {
            times.push(OperationTime { op, kernel, dispatches: 0, ms: 0.0 });
            times.len() - 1
        });
        times[known].dispatches += 1;
        times[known].ms += seconds * 1e3;
    }
    times.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    times
}

#[derive(Serialize)]
struct FrontEndReport {
    front_end: String,
    segments: u32,
    device: String,
    threads: usize,
    steps: u32,
    warmup: u32,
    #[serde(flatten)]
    times: Times,
    segments_per_s: f64,
    peak_rss_mb: Option<f64>,
}

impl Args {
    pub fn run(self) -> Result<ExitCode> {
        match self.front_end {
            Some(kind) => self.front_end(kind),
            None => self.net(),
        }
    }

    fn net(self) -> Result<ExitCode> {
        let config = Config { batch: self.batch, ..Config::preset(self.preset, self.model) };
        config.check()?;
        let progress = Progress::new(self.output.quiet);
        let choice = Device::choose(&self.device.device)?;
        choice.note.iter().for_each(|note| progress.note(note));
        let device = choice.device;
        let kind = if self.forward { Kind::Forward } else { Kind::Train };
        let nets = usize::from(self.nets);
        if nets > device.side_by_side() {
            progress.note("--nets: only a GPU takes several nets side by side; one after the other");
        }
        let mut subject = Subject::several(&config, kind, &self.rules.rules(), &device, nets)?;
        let times = self.timed(&progress, |done| subject.time(self.warmup, self.steps, done))?;
        let profile = if self.profile { by_operation(subject.profile(self.steps)?) } else { Vec::new() };
        let compiled = subject.compiled();
        let (cost, peak_rss_mb) = (subject.cost(), bench::peak_rss_mb());
        drop(subject);
        let gflop = cost.flops as f64 / 1e9;
        let report = NetReport {
            model: self.model,
            preset: self.preset,
            what: if self.forward { "forward" } else { "step" },
            batch: self.batch,
            nets,
            fused: !self.rules.no_fuse,
            without: self.rules.without.clone(),
            device: choice.description,
            threads: rayon::current_num_threads(),
            steps: self.steps,
            warmup: self.warmup,
            times,
            samples_per_s: times.per_second(self.batch * nets),
            gflop,
            gflops: 1e3 * gflop / times.median_ms,
            peak_rss_mb,
            compile_seconds: compiled.map(|(seconds, _)| seconds),
            dispatches: compiled.map(|(_, dispatches)| dispatches),
            floor: if self.floor { Some(DevicePeak::measure(&device)?.floor(cost)) } else { None },
            profile,
        };
        if self.output.json {
            print_json(&report)?
        } else {
            print(&report.text())?
        }
        Ok(ExitCode::SUCCESS)
    }

    fn front_end(self, kind: FrontEndKind) -> Result<ExitCode> {
        let progress = Progress::new(self.output.quiet);
        let mut subject = bench::front_end::Subject::new(&kind.into(), self.segments as usize)?;
        let times = self.timed(&progress, |done| subject.time(self.warmup, self.steps, done))?;
        let report = FrontEndReport {
            front_end: name(kind),
            segments: self.segments,
            device: Device::describe_cpu(),
            threads: rayon::current_num_threads(),
            steps: self.steps,
            warmup: self.warmup,
            times,
            segments_per_s: times.per_second(self.segments as usize),
            peak_rss_mb: bench::peak_rss_mb(),
        };
        if self.output.json {
            print_json(&report)?
        } else {
            print(&report.text())?
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Runs `work` under a bar.
    fn timed(&self, progress: &Progress, work: impl FnOnce(&mut dyn FnMut(u32)) -> Result<Times>) -> Result<Times> {
        let bar = progress.bar("[{bar:30}] {pos}/{len} steps", (self.warmup + self.steps) as usize);
        let times = work(&mut |done| bar.set_position(done.into()));
        bar.finish_and_clear();
        times
    }
}

impl NetReport {
    fn text(&self) -> String {
        let NetReport { model, batch, device, .. } = self;
        let preset = name(self.preset);
        let what = if self.what == "step" { "training step" } else { "forward pass" };
        let fused = if self.fused { "fused" } else { "not fused" };
        let left_out = match self.without.as_slice() {
            [] => String::new(),
            rules => format!(" without {}", rules.join(", ")),
        };
        let nets = if self.nets > 1 { format!("{} nets side by side, ", self.nets) } else { String::new() };
        let mut rows = time_rows(&self.times, self.steps, self.warmup);
        rows.push(["samples".into(), format!("{:.0} / s", self.samples_per_s), String::new()]);
        let work = format!("{:.2} GFLOP a {}", self.gflop, if self.what == "step" { "step" } else { "pass" });
        rows.push(["useful work".into(), format!("{:.1} GFLOP/s", self.gflops), work]);
        rows.extend(memory_row(self.peak_rss_mb));
        if let (Some(seconds), Some(dispatches)) = (self.compile_seconds, self.dispatches) {
            let kernels = format!("{dispatches} kernels a {}", if self.what == "step" { "step" } else { "pass" });
            rows.push(["compiled in".into(), format!("{seconds:.2} s"), kernels]);
        }
        if let Some(floor) = &self.floor {
            let DevicePeak { peak_gflops, triad_gb_per_s } = floor.machine;
            let share = 100.0 * self.gflops / peak_gflops;
            rows.push(["share of the peak".into(), format!("{share:.1} %"), "of useful work".into()]);
            let times_floor = |ms: f64| format!("{ms:.2} ms");
            let peak = format!("{peak_gflops:.0} GFLOP/s measured");
            rows.push(["floor: arithmetic".into(), times_floor(floor.arithmetic_ms), peak]);
            if floor.arithmetic_at_winners_ms < floor.arithmetic_ms {
                let note = "gradients at the pools' winners only".to_string();
                rows.push([String::new(), times_floor(floor.arithmetic_at_winners_ms), note]);
            }
            let moved = if self.what == "step" { "parameters and moments" } else { "parameters" };
            let triad = format!("{triad_gb_per_s:.1} GB/s measured; {moved}");
            rows.push(["floor: memory".into(), times_floor(floor.memory_ms), triad]);
        }
        for time in &self.profile {
            let OperationTime { op, kernel, dispatches, ms } = time;
            let times = if *dispatches > 1 { format!(", {dispatches} times") } else { String::new() };
            rows.push([(*op).to_string(), format!("{ms:.3} ms"), format!("{kernel}{times}")]);
        }
        format!(
            "{nets}{model} net, preset {preset}, {what}, batch {batch}, {fused}{left_out}\n{device}\n{}\n",
            table(rows)
        )
    }
}

impl FrontEndReport {
    fn text(&self) -> String {
        let mut rows = time_rows(&self.times, self.steps, self.warmup);
        rows.push(["segments".into(), format!("{:.0} / s", self.segments_per_s), String::new()]);
        rows.extend(memory_row(self.peak_rss_mb));
        let FrontEndReport { front_end, segments, device, .. } = self;
        format!("front end {front_end}, {segments} segments of 20,462 samples a pass\n{device}\n{}\n", table(rows))
    }
}

/// A value as it is given on the command line.
fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or(String::new(), |value| value.get_name().to_string())
}

type Row = [String; 3];

fn time_rows(times: &Times, steps: u32, warmup: u32) -> Vec<Row> {
    let ms = |ms: f64| format!("{ms:.2} ms");
    let counted = format!("of {steps}, after {warmup} not timed");
    vec![
        ["median".into(), ms(times.median_ms), counted],
        ["min".into(), ms(times.min_ms), String::new()],
        ["max".into(), ms(times.max_ms), String::new()],
    ]
}

fn memory_row(peak_rss_mb: Option<f64>) -> Option<Row> {
    peak_rss_mb.map(|mb| ["memory".into(), format!("{mb:.0} MB"), "of the process, at its peak".into()])
}

fn table(rows: Vec<Row>) -> Table {
    let mut table = Table::new();
    table.load_style(tables::STYLE);
    table.add_rows(rows);
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

//! Every CPU kernel of both nets' training steps at batch 15, textbook and fused, by itself and with the values that it
//! meets in a step: `cargo bench --bench kernels`, or with `-- deep/fused/conv2d` those whose names begin so.
//!
//! Throughput is useful floating-point operations per second (criterion calls them elements), or bytes read and written
//! where an operation counts none. Kernels that take less than [`SHORTEST`] are left out.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};
use genregrad::bench::net::{Kind, Subject};
use genregrad::device::Device;
use genregrad::error::Result;
use genregrad::fast;
use genregrad::models::Architecture;
use genregrad::tape::{Node, Step, Tape};
use genregrad::train::config::{Config, Preset};

/// Kernels quicker than this matter to no step.
const SHORTEST: Duration = Duration::from_micros(20);

fn main() -> Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    for model in [Architecture::Shallow, Architecture::Deep] {
        for (rules, name) in [(fast::ALL, "fused"), (&[][..], "textbook")] {
            let mut group = criterion.benchmark_group(format!("{model}/{name}"));
            group.sample_size(10).sampling_mode(SamplingMode::Flat);
            group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(500));
            let mut subject = Subject::new(&Config::preset(Preset::Report, model), Kind::Train, rules, &Device::Cpu)?;
            subject.step()?;
            let tape = subject.tape().clone();
            let mut seen = HashSet::new();
            for node in tape.nodes() {
                let id = describe(&tape, node);
                if seen.insert(id.clone()) {
                    kernel(&mut subject, &tape, node, |throughput, run| {
                        group.throughput(throughput);
                        group.bench_function(&id, |bencher| bencher.iter(&mut *run));
                    })?;
                }
            }
            group.finish();
        }
    }
    criterion.final_summary();
    Ok(())
}

/// `conv2d [15, 1, 80, 80] [16, 1, 10, 23] to [15, 16, 80, 80]`: equal names are equal work.
fn describe(tape: &Tape, node: &Node) -> String {
    let shapes = |vars: &[_]| vars.iter().map(|&var| tape.shape(var).to_string()).collect::<Vec<_>>().join(" ");
    format!("{} {} to {}", node.op.name(), shapes(&node.reads), shapes(&node.writes))
}

/// Hands `bench` the kernel of `node` on copies of the values around it.
fn kernel(
    subject: &mut Subject,
    tape: &Tape,
    node: &Node,
    bench: impl FnOnce(Throughput, &mut dyn FnMut()),
) -> Result<()> {
    let mut copies = |vars: &[_]| vars.iter().map(|&var| subject.read(var)).collect::<Result<Vec<_>>>();
    let (read, mut write) = (copies(&node.reads)?, copies(&node.writes)?);
    let read: Vec<&[f32]> = read.iter().map(Vec::as_slice).collect();
    let mut write: Vec<&mut [f32]> = write.iter_mut().map(Vec::as_mut_slice).collect();
    let step = Step::new(2, 1, 5e-5);
    let mut run = || node.op.cpu(&read, &mut write, &step);
    run();
    let started = Instant::now();
    run();
    if started.elapsed() < SHORTEST {
        return Ok(());
    }
    let floats: usize = node.reads.iter().chain(&node.writes).map(|&var| tape.shape(var).len()).sum();
    let throughput = match node.op.flops() {
        0 => Throughput::BytesDecimal((floats * size_of::<f32>()) as u64),
        flops => Throughput::Elements(flops),
    };
    bench(throughput, &mut run);
    Ok(())
}

//! A training step and a forward pass of both nets, fused and textbook, on the CPU with all cores:
//! `cargo bench --bench train_step`, or with `-- 'shallow step/fused/15'` one of them.
//!
//! Criterion's throughput is segments per second. What a step takes at least on this machine is measured first and
//! printed; `genregrad bench --floor` prints it beside the time, with GFLOP/s.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use genregrad::bench::device_peak::DevicePeak;
use genregrad::bench::net::{Kind, Subject};
use genregrad::device::Device;
use genregrad::error::Result;
use genregrad::fast;
use genregrad::models::Architecture;
use genregrad::train::config::{Config, Preset};

fn main() -> Result<()> {
    let machine = DevicePeak::measure(&Device::Cpu)?;
    println!(
        "{}: {:.0} GFLOP/s of multiply-adds in registers, {:.1} GB/s of stream triad",
        Device::describe_cpu(),
        machine.peak_gflops,
        machine.triad_gb_per_s
    );
    let mut criterion = Criterion::default().configure_from_args();
    for model in [Architecture::Shallow, Architecture::Deep] {
        for (kind, name) in [(Kind::Train, "step"), (Kind::Forward, "forward")] {
            let mut group = criterion.benchmark_group(format!("{model} {name}"));
            group.sample_size(10).sampling_mode(SamplingMode::Flat);
            group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
            for batch in [15, 150] {
                for fused in [true, false] {
                    let config = Config { batch, ..Config::preset(Preset::Report, model) };
                    let mut subject = Subject::new(&config, kind, if fused { fast::ALL } else { &[] }, &Device::Cpu)?;
                    let cost = subject.cost();
                    let floor = machine.floor(cost);
                    if fused {
                        println!(
                            "{model} {name}, batch {batch}: {:.2} GFLOP; at least {:.2} ms of arithmetic ({:.2} ms with \
                             gradients at the pools' winners), {:.2} ms of memory",
                            cost.flops as f64 / 1e9,
                            floor.arithmetic_ms,
                            floor.arithmetic_at_winners_ms,
                            floor.memory_ms
                        );
                    }
                    group.throughput(Throughput::Elements(batch as u64));
                    let id = BenchmarkId::new(if fused { "fused" } else { "textbook" }, batch);
                    let mut outcome = Ok(());
                    group.bench_function(id, |bencher| {
                        bencher.iter(|| {
                            if outcome.is_ok() {
                                outcome = subject.step();
                            }
                        });
                    });
                    outcome.and_then(|()| subject.wait())?;
                }
            }
            group.finish();
        }
    }
    criterion.final_summary();
    Ok(())
}

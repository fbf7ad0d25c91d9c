//! The front ends on 200 segments of the study's length, on one thread and on all: `cargo bench --bench audio`.
//! Throughput is segments per second.

use std::time::Duration;

use clap::ValueEnum;
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use genregrad::audio::{FrontEnd, Kind};
use genregrad::bench::front_end::Subject;
use genregrad::error::{Error, Result};

const SEGMENTS: usize = 200;

fn main() -> Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("front end");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Elements(SEGMENTS as u64));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for &kind in Kind::value_variants() {
        let front_end = FrontEnd::from(kind);
        let mut subject = Subject::new(&front_end, SEGMENTS)?;
        for threads in if cores == 1 { vec![1] } else { vec![1, cores] } {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let pool = pool.map_err(|error| Error::Config(format!("{threads} threads: {error}")))?;
            let id = BenchmarkId::new(front_end.to_string(), format!("{threads} threads"));
            group.bench_function(id, |bencher| pool.install(|| bencher.iter(|| subject.pass())));
        }
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}

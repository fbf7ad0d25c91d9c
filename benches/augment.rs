//! The study's sixteen deformations of a 30 s track on one core: `cargo bench --bench augment`, and beside librosa's with
//! `benches/peers/augment.py`.

#![allow(clippy::unwrap_used, missing_docs)]

use std::f64::consts::TAU;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use genregrad::audio::SEGMENT_SAMPLES;
use genregrad::audio::augment::{DEFORMATIONS, Deformer, Wanted, deform};
use genregrad::data::augment::starts;
use genregrad::rng::pcg;

/// 30 s of a chord in noise.
fn track() -> Vec<f32> {
    let sample = |n: u32| {
        let t = f64::from(n) / 22_050.0;
        let chord: f64 = [220.0, 277.2, 329.6, 440.0].iter().map(|hz| 0.1 * (TAU * hz * t).sin()).sum();
        (chord + 0.05 * (f64::from(pcg(n)) / 2f64.powi(31) - 1.0)) as f32
    };
    (0..661_500).map(sample).collect()
}

fn augment(c: &mut Criterion) {
    let samples = track();
    let deformer = Deformer::new();
    let wanted = DEFORMATIONS.map(|deformation| {
        let starts = starts(1, "blues", "blues.00000", &deformation, samples.len());
        Wanted { deformation, ranges: starts.map(|start| start..start + SEGMENT_SAMPLES).to_vec() }
    });
    let mut group = c.benchmark_group("augment");
    group.sample_size(10);
    // what training needs: three segments of each
    group.bench_function("48 segments", |b| b.iter(|| black_box(deformer.pieces(&samples, &wanted).unwrap())));
    // what librosa makes: every deformed track, whole
    group.bench_function("16 whole tracks", |b| {
        b.iter(|| DEFORMATIONS.map(|deformation| black_box(deform(&samples, deformation).unwrap().len())))
    });
    group.finish();
}

criterion_group!(benches, augment);
criterion_main!(benches);

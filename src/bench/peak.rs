//! The matrix product and the stream triad that a GPU's floor is measured with: programs of one node each.

use std::time::Instant;

use super::device_peak::DevicePeak;
use crate::device::Device;
use crate::dispatch::Dispatch;
use crate::error::Result;
use crate::run::Plan;
use crate::shader;
use crate::tape::{Gradient, Op, Step, Tape};
use crate::tensor::{Params, Shape};

/// Rows of the product's tile.
const TILE: usize = 128;
/// The largest product, and the largest array of the triad in floats: 64 MiB, more than a GPU's cache in most cases.
const LARGEST: usize = 4096;
const LONGEST: usize = 1 << 24;
/// A try takes at least so long, seconds, or is of the largest size.
const ENOUGH: f64 = 0.02;
/// The best of so many tries: whatever disturbs a try makes it slower.
const TRIES: usize = 5;
/// Runs of a try: the device is waited for once.
const RUNS: usize = 4;

/// `c = a b` of square matrices.
#[derive(Debug)]
struct Product {
    size: usize,
}

/// `a = b + 3 c`.
#[derive(Debug)]
struct Triad {
    len: usize,
}

impl Op for Product {
    fn name(&self) -> &'static str {
        "product"
    }

    fn output_shapes(&self, _: &[&Shape]) -> Result<Vec<Shape>> {
        Ok(vec![[self.size, self.size].into()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        for (index, c) in write[0].iter_mut().enumerate() {
            let (row, column) = (index / self.size, index % self.size);
            *c = (0..self.size).map(|k| read[0][row * self.size + k] * read[1][k * self.size + column]).sum();
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        for (index, c) in write[0].iter_mut().enumerate() {
            let (row, column) = (index / self.size, index % self.size);
            *c = (0..self.size).map(|k| read[0][row * self.size + k] * read[1][k * self.size + column]).sum();
        }
    }

    fn gpu(&self) -> Vec<Dispatch> {
        let groups = [self.size / (TILE / 2), self.size / TILE];
        vec![Dispatch::grid(shader!("peak.wgsl"), "product", vec![("size", self.size as f64)], groups)]
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        Ok(()) // nothing is learnt here
    }
}

impl Op for Triad {
    fn name(&self) -> &'static str {
        "triad"
    }

    fn output_shapes(&self, _: &[&Shape]) -> Result<Vec<Shape>> {
        Ok(vec![[self.len].into()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        write[0].iter_mut().zip(read[0].iter().zip(read[1])).for_each(|(a, (b, c))| *a = b + 3.0 * c);
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        write[0].iter_mut().zip(read[0].iter().zip(read[1])).for_each(|(a, (b, c))| *a = b + 3.0 * c);
    }

    fn gpu(&self) -> Vec<Dispatch> {
        vec![Dispatch::linear(shader!("peak.wgsl"), "triad", vec![], self.len / 4)]
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        Ok(()) // nothing is learnt here
    }
}

/// A plan of `op` on two inputs of `shape`.
fn plan(op: impl Op + 'static, shape: Shape, device: &Device) -> Result<Plan> {
    let mut tape = Tape::new();
    let inputs = [tape.input("b", shape.clone()), tape.input("c", shape)];
    tape.one(op, &inputs)?;
    Plan::new(&tape, device, &Params::default())
}

/// Seconds of one run of the plan for `size`, which grows until a run takes long enough; and the size.
fn quickest(first: usize, largest: usize, make: impl Fn(usize) -> Result<Plan>) -> Result<(f64, usize)> {
    let step = Step::new(1, 0, 0.0);
    let mut size = first;
    loop {
        let mut plan = make(size)?;
        plan.step(&[], &step)?;
        plan.wait()?;
        let mut best = f64::INFINITY;
        for _ in 0..TRIES {
            let started = Instant::now();
            for _ in 0..RUNS {
                plan.step(&[], &step)?;
            }
            plan.wait()?;
            best = best.min(started.elapsed().as_secs_f64() / RUNS as f64);
        }
        if size >= largest || best >= ENOUGH {
            return Ok((best, size));
        }
        size = (2 * size).min(largest);
    }
}

/// Measures `device`: the largest matrices and arrays, unless smaller ones take long already.
///
/// # Errors
/// Those of the device.
pub(super) fn measure(device: &Device) -> Result<DevicePeak> {
    let (seconds, size) = quickest(2 * TILE, LARGEST, |size| plan(Product { size }, [size, size].into(), device))?;
    let peak_gflops = 2.0 * (size as f64).powi(3) / seconds / 1e9;
    let (seconds, len) = quickest(1 << 18, LONGEST, |len| plan(Triad { len }, [len].into(), device))?;
    Ok(DevicePeak { peak_gflops, triad_gb_per_s: (3 * len * size_of::<f32>()) as f64 / seconds / 1e9 })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::tape::Var;

    #[test]
    fn both_kernels_compute_what_they_are_timed_for() {
        let Ok(choice) = Device::choose("gpu") else { return };
        let size = 2 * TILE;
        let (b, c): (Vec<f32>, Vec<f32>) = (0..size * size).map(|i| ((i % 7) as f32, (i % 5) as f32 - 2.0)).unzip();
        for make in [
            |device: &Device| plan(Product { size: 256 }, [256, 256].into(), device).unwrap(),
            |device: &Device| plan(Triad { len: 256 * 256 }, [256 * 256].into(), device).unwrap(),
        ] {
            let results = [&Device::Cpu, &choice.device].map(|device| {
                let mut plan = make(device);
                let inputs = [(Var(0), &b[..]), (Var(1), &c[..])];
                plan.step(&inputs, &Step::new(1, 0, 0.0)).unwrap();
                plan.read(Var(2)).unwrap()
            });
            // Whole numbers below 2^24: exact in any order.
            assert!(results[0] == results[1]);
        }
    }
}

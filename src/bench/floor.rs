//! Lower bounds of a program's time, from the measured peak and bandwidth of the device: its operations over the peak, and
//! its bytes over the bandwidth.
//!
//! Both counts are of the direct algorithms. A better algorithm needs fewer operations and may pass below that floor,
//! and parameters that stay in a cache need not come from memory.

use std::time::Instant;

use rayon::prelude::*;
use serde::Serialize;

use super::device_peak::DevicePeak;
use super::net::Cost;
use crate::device::Device;
use crate::error::Result;
use crate::fast::simd::{self, Kernel, LANES, Vector};

/// What one replay takes at least, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Floor {
    /// The machine.
    #[serde(flatten)]
    pub machine: DevicePeak,
    /// All useful operations at the peak.
    pub arithmetic_ms: f64,
    /// The same, with gradients behind a pool taken at its winners only.
    pub arithmetic_at_winners_ms: f64,
    /// Parameters and moments through memory.
    pub memory_ms: f64,
}

/// The best of so many tries: whatever disturbs a try makes it slower.
const TRIES: usize = 12;

/// Rounds of multiply-adds in a try: some 10 ms.
const ROUNDS: u64 = 4_000_000;

/// Elements of each of the triad's arrays: 64 MiB, twice the largest cache in reach.
const ELEMENTS: usize = 1 << 24;

impl DevicePeak {
    /// Measures the CPU on the current number of threads, or the GPU; takes about a second.
    ///
    /// # Errors
    /// Those of the GPU.
    pub fn measure(device: &Device) -> Result<Self> {
        if matches!(device, Device::Cpu) {
            return Ok(DevicePeak { peak_gflops: peak(ROUNDS), triad_gb_per_s: triad(ELEMENTS) });
        }
        super::peak::measure(device)
    }

    /// What `cost` takes at least.
    pub fn floor(self, cost: Cost) -> Floor {
        let arithmetic = |flops: u64| flops as f64 / self.peak_gflops / 1e6;
        Floor {
            machine: self,
            arithmetic_ms: arithmetic(cost.flops),
            arithmetic_at_winners_ms: arithmetic(cost.flops_at_winners),
            memory_ms: cost.bytes as f64 / self.triad_gb_per_s / 1e6,
        }
    }
}

/// The shortest of some tries, in seconds.
fn quickest(mut work: impl FnMut()) -> f64 {
    let tries = (0..TRIES).map(|_| {
        let started = Instant::now();
        work();
        started.elapsed().as_secs_f64()
    });
    tries.fold(f64::INFINITY, f64::min)
}

/// Independent sums that [`multiply_adds`] keeps in registers: enough to hide the latency of two units.
const SUMS: usize = 12;

/// Multiply-adds in registers and nothing else. Returns the number of floating-point operations, two per multiply-add.
fn multiply_adds(rounds: u64) -> u64 {
    let mut flops = 0;
    simd::run(MultiplyAdds { rounds, flops: &mut flops });
    flops
}

struct MultiplyAdds<'a> {
    rounds: u64,
    flops: &'a mut u64,
}

impl Kernel for MultiplyAdds<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (factor, addend) = (V::splat(std::hint::black_box(0.999)), V::splat(std::hint::black_box(0.001)));
        let mut sums = [addend; SUMS];
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = sum.mul_add(factor, addend);
            }
        }
        let mut total = [0.0; LANES];
        for sum in sums {
            sum.add(V::load(&total)).store(&mut total);
        }
        std::hint::black_box(total);
        *self.flops = 2 * (SUMS * V::LANES) as u64 * self.rounds;
    }
}

fn peak(rounds: u64) -> f64 {
    let mut flops = 0;
    let seconds = quickest(|| flops = rayon::broadcast(|_| multiply_adds(rounds)).iter().sum());
    flops as f64 / seconds / 1e9
}

fn triad(elements: usize) -> f64 {
    let block = elements.div_ceil(rayon::current_num_threads()).max(1);
    // Written by the threads that will read them.
    let made = |value: f32| {
        let mut array = vec![0.0f32; elements];
        array.par_chunks_mut(block).for_each(|part| part.fill(value));
        array
    };
    let (mut a, b, c) = (made(0.0), made(1.0), made(2.0));
    let seconds = quickest(|| {
        a.par_chunks_mut(block).zip(b.par_chunks(block).zip(c.par_chunks(block))).for_each(|(a, (b, c))| {
            for (a, (b, c)) in a.iter_mut().zip(b.iter().zip(c)) {
                *a = b + 3.0 * c;
            }
        });
    });
    assert!(a.first() == Some(&7.0) && a.last() == Some(&7.0), "triad: 1 + 3 * 2 is 7");
    (3 * elements * size_of::<f32>()) as f64 / seconds / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_by_hand() {
        let machine = DevicePeak { peak_gflops: 200.0, triad_gb_per_s: 30.0 };
        let floor = machine.floor(Cost { flops: 4_000_000_000, flops_at_winners: 2_000_000_000, bytes: 60_000_000 });
        assert_eq!((floor.arithmetic_ms, floor.arithmetic_at_winners_ms, floor.memory_ms), (20.0, 10.0, 2.0));
    }

    #[test]
    fn operations_are_counted() {
        assert_eq!(multiply_adds(1), (2 * SUMS * simd::width()) as u64);
        assert_eq!(multiply_adds(1000), 1000 * multiply_adds(1));
    }

    #[test]
    fn a_machine_computes_and_remembers() {
        // between a slow emulator and the fastest machine there is
        assert!((0.01..1e6).contains(&peak(10_000)));
        assert!((0.01..1e5).contains(&triad(100_003)));
    }
}

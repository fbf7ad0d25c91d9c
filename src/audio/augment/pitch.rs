//! Resampling by a ratio that is no ratio of rates, of any part of a signal.
//!
//! rubato's FFT resampler does the work, block by block. A block of output depends on a block of input and the one before,
//! so that a part of the output is made of a part of the input, and is bit for bit that part of the whole.

use std::ops::Range;

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler, WindowFunction};

use crate::audio::resample::LOUDEST;

/// Half the length of the shorter of the input's and the output's block, samples.
const HALF_BLOCK: Range<usize> = 512..2049;

/// An FFT with a larger prime factor costs more than it is worth.
const LARGEST_PRIME: usize = 127;

/// A resampler by a fixed ratio.
pub(super) struct Pitch {
    fft: Fft<f32>,
    input: usize,
    output: usize,
    delay: usize,
    block: Vec<f32>,
}

impl Pitch {
    /// Makes `ratio` samples of one: the nearest fraction whose FFTs are fast, within 1e-5 of it (1/60 of a cent).
    pub(super) fn new(ratio: f64) -> Result<Self, String> {
        let fault = |error: &dyn std::fmt::Display| format!("cannot resample by {ratio}: {error}");
        let (input, output) = fraction(ratio).ok_or_else(|| fault(&"out of range"))?;
        // an even block: half of one, the filter's delay, is then a whole number of samples on both sides
        let (input, output) = (2 * input, 2 * output);
        let window = WindowFunction::BlackmanHarris2;
        let fft = Fft::new_custom(input, output, input, 1, 1, window, FixedSync::Both).map_err(|e| fault(&e))?;
        let (input, output, delay) = (fft.input_frames_next(), fft.output_frames_max(), fft.output_delay());
        Ok(Pitch { fft, input, output, delay, block: vec![0.0; input] })
    }

    /// The blocks that make `range` of the output: a first one whose output is incomplete, then the whole ones.
    fn blocks(&self, range: &Range<usize>) -> Range<usize> {
        let first = (range.start + self.delay) / self.output;
        first.saturating_sub(1)..(range.end + self.delay).div_ceil(self.output)
    }

    /// The samples of an input of `length` samples that `range` of the output is made of.
    pub(super) fn source(&self, range: &Range<usize>, length: usize) -> Range<usize> {
        if range.is_empty() {
            return 0..0;
        }
        let blocks = self.blocks(range);
        (blocks.start * self.input).min(length)..(blocks.end * self.input).min(length)
    }

    /// `range` of the output, of the samples that [`Pitch::source`] named.
    pub(super) fn resample(&mut self, source: &[f32], range: &Range<usize>) -> Result<Vec<f32>, String> {
        let fault = |error: &dyn std::fmt::Display| format!("cannot resample: {error}");
        if range.is_empty() {
            return Ok(Vec::new());
        }
        if !source.iter().all(|x| x.abs() <= LOUDEST) {
            return Err(fault(&"too loud; full scale is 1"));
        }
        let blocks = self.blocks(range);
        self.fft.reset();
        let mut out = vec![0.0; blocks.len() * self.output];
        let mut rest = source;
        for out in out.chunks_exact_mut(self.output) {
            let (now, later) = rest.split_at(rest.len().min(self.input));
            rest = later;
            self.block[..now.len()].copy_from_slice(now);
            self.block[now.len()..].fill(0.0);
            let input = InterleavedSlice::new(&self.block, 1, self.input).map_err(|e| fault(&e))?;
            let mut output = InterleavedSlice::new_mut(out, 1, self.output).map_err(|e| fault(&e))?;
            self.fft.process_into_buffer(&input, &mut output, None).map_err(|e| fault(&e))?;
        }
        let skipped = range.start + self.delay - blocks.start * self.output;
        out.drain(..skipped);
        out.truncate(range.len());
        Ok(out)
    }
}

/// The fraction (from, to) nearest to `ratio = to / from` in which neither number has a large prime factor.
fn fraction(ratio: f64) -> Option<(usize, usize)> {
    let error = |&(from, to): &(usize, usize)| (to as f64 / from as f64 / ratio - 1.0).abs();
    HALF_BLOCK
        .map(|n| {
            if ratio < 1.0 {
                ((n as f64 / ratio).round() as usize, n)
            } else {
                (n, (n as f64 * ratio).round() as usize)
            }
        })
        .filter(|&(from, to)| from > 0 && to > 0 && is_smooth(from) && is_smooth(to))
        .min_by(|a, b| error(a).total_cmp(&error(b)))
}

fn is_smooth(mut n: usize) -> bool {
    for prime in 2..=LARGEST_PRIME {
        while n.is_multiple_of(prime) {
            n /= prime;
        }
    }
    n == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_near_and_their_ffts_fast() {
        assert_eq!(fraction(0.5), Some((1024, 512)));
        assert_eq!(fraction(2.0), Some((512, 1024)));
        for steps in -240..=240 {
            let ratio = 2f64.powf(-f64::from(steps) / 120.0);
            let (from, to) = fraction(ratio).unwrap();
            assert!((to as f64 / from as f64 / ratio - 1.0).abs() < 1e-5, "{steps} tenths of a semitone: {from}, {to}");
            assert!(is_smooth(from) && is_smooth(to) && (512..=2048).contains(&from.min(to)));
        }
    }

    #[test]
    fn a_part_is_bit_for_bit_that_part_of_the_whole() {
        let samples: Vec<f32> = (0..30_000).map(|i| crate::rng::pcg(i) as f32 / 2f32.powi(31) - 1.0).collect();
        for ratio in [0.749, 1.26] {
            let mut pitch = Pitch::new(ratio).unwrap();
            let length = (samples.len() as f64 * ratio) as usize;
            let whole = pitch.resample(&samples, &(0..length)).unwrap();
            assert_eq!(whole.len(), length);
            for range in [0..1, 0..5_000, 3..4, 1_000..9_000, 12_345..length, length - 1..length, 700..700] {
                let source = pitch.source(&range, samples.len());
                let part = pitch.resample(&samples[source], &range).unwrap();
                assert_eq!(part, whole[range.clone()], "{range:?} by {ratio}");
            }
        }
    }
}

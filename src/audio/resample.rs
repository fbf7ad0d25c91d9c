//! Band-limited resampling to the study's rate, fed block by block.
//!
//! rubato's FFT resampler does the work; this file keeps time and length right: no delay, and
//! `round(samples * SAMPLE_RATE / rate)` samples come out.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler, WindowFunction};

use super::SAMPLE_RATE;

/// Output samples per FFT block. The low-pass filter is one block long: its edge lies within 2 % of the Nyquist
/// frequency.
const BLOCK: usize = 2048;

/// The largest sample that is resampled. rubato panics where a transform overflows: with this, sums over millions of samples,
/// twice and multiplied, stay far below the largest f32.
pub(super) const LOUDEST: f32 = 1e18;

/// A mono resampler from some rate to [`SAMPLE_RATE`].
pub(super) struct Resample {
    fft: Fft<f32>,
    rate: u32,
    /// Input that does not fill a block yet.
    pending: Vec<f32>,
    block: Vec<f32>,
    /// Leading output samples still to be dropped: the filter's delay.
    drop: usize,
}

impl Resample {
    /// From `rate` Hz.
    pub(super) fn new(rate: u32) -> Result<Self, String> {
        // Blocks hold whole periods of the two rates, and an even number of them: half a block, the filter's delay, is
        // then a whole number of samples on both sides.
        let period = rate as usize / gcd(rate, SAMPLE_RATE) as usize;
        let wanted = (BLOCK * rate.div_ceil(SAMPLE_RATE) as usize).next_multiple_of(2 * period);
        let window = WindowFunction::BlackmanHarris2;
        let fft = Fft::new_custom(rate as usize, SAMPLE_RATE as usize, wanted, 1, 1, window, FixedSync::Both)
            .map_err(|error| format!("cannot resample from {rate} Hz: {error}"))?;
        let (block, drop) = (vec![0.0; fft.output_frames_max()], fft.output_delay());
        Ok(Resample { fft, rate, pending: Vec::new(), block, drop })
    }

    /// Starts in the middle, before anything is pushed: so that output sample `sample` will be the same as if all had been
    /// pushed. Returns the input sample to push first and the output sample that will come first.
    pub(super) fn start_before(&mut self, sample: u64) -> (u64, u64) {
        let (input, output) = (self.fft.input_frames_next() as u64, self.block.len() as u64);
        // A block of output is made of a block of input and the one before.
        let delay = self.drop as u64;
        let block = (sample.saturating_add(delay) / output).saturating_sub(1);
        if block == 0 {
            return (0, 0);
        }
        self.drop = self.block.len();
        (block.saturating_mul(input), (block + 1) * output - delay)
    }

    /// Appends to `out` what `samples` complete.
    pub(super) fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) -> Result<(), String> {
        self.pending.extend_from_slice(samples);
        let wanted = self.fft.input_frames_next();
        let mut done = 0;
        while self.pending.len() - done >= wanted {
            let input = InterleavedSlice::new(&self.pending[done..done + wanted], 1, wanted).map_err(fault)?;
            let frames = self.block.len();
            let mut output = InterleavedSlice::new_mut(&mut self.block, 1, frames).map_err(fault)?;
            let (read, written) = self.fft.process_into_buffer(&input, &mut output, None).map_err(fault)?;
            done += read;
            let skip = self.drop.min(written);
            self.drop -= skip;
            out.extend_from_slice(&self.block[skip..written]);
        }
        self.pending.drain(..done);
        Ok(())
    }

    /// Flushes the filter: appends the rest of the output of `received` input samples, of which `at` have come out
    /// (both counted from the start of the recording).
    pub(super) fn finish(mut self, received: u64, at: u64, out: &mut Vec<f32>) -> Result<(), String> {
        let rest = resampled_length(received, self.rate).saturating_sub(at) as usize;
        let zeros = vec![0.0; self.fft.input_frames_next()];
        while out.len() < rest {
            self.push(&zeros, out)?;
        }
        out.truncate(rest);
        Ok(())
    }
}

/// How many samples `frames` frames at `rate` Hz become: `round(frames * SAMPLE_RATE / rate)`.
pub(super) fn resampled_length(frames: u64, rate: u32) -> u64 {
    let (frames, rate) = (u128::from(frames), u128::from(rate));
    ((frames * u128::from(SAMPLE_RATE) + rate / 2) / rate) as u64
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn fault(error: impl std::fmt::Display) -> String {
    format!("cannot resample: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    fn resample(rate: u32, samples: &[f32]) -> Vec<f32> {
        let (mut resample, mut out) = (Resample::new(rate).unwrap(), Vec::new());
        samples.chunks(1_152).for_each(|block| resample.push(block, &mut out).unwrap());
        let at = out.len();
        let mut rest = Vec::new();
        resample.finish(samples.len() as u64, at as u64, &mut rest).unwrap();
        out.extend(rest);
        out
    }

    #[test]
    fn length_is_rounded_and_a_click_stays_in_place() {
        for rate in [8_000, 11_025, 16_000, 32_000, 44_100, 48_000, 96_000, 192_000, 44_101] {
            for length in [1, 2, 100, 30_001] {
                let out = resample(rate, &vec![0.0; length]);
                let expected = (length as f64 * 22_050.0 / f64::from(rate)).round() as usize;
                assert_eq!(out.len(), expected, "{length} samples at {rate} Hz");
            }
            let mut click = vec![0.0; 2 * rate as usize];
            click[rate as usize] = 1.0;
            let out = resample(rate, &click);
            let peak = (0..out.len()).max_by(|&a, &b| out[a].abs().total_cmp(&out[b].abs())).unwrap();
            assert!(peak.abs_diff(22_050) <= 1, "{rate} Hz: the click is at {peak}");
        }
    }

    #[test]
    fn a_tone_keeps_its_phase_and_amplitude_and_nothing_folds_back() {
        for rate in [8_000, 11_025, 16_000, 22_051, 44_100, 48_000, 96_000] {
            let tone = |hz: f64, rate: f64, n: usize| (0.5 * (TAU * hz * n as f64 / rate).sin()) as f32;
            let input: Vec<f32> = (0..2 * rate).map(|n| tone(1_234.5, f64::from(rate), n as usize)).collect();
            let out = resample(rate, &input);
            for (n, &y) in out.iter().enumerate().skip(4_000).take(36_000) {
                assert!((y - tone(1_234.5, 22_050.0, n)).abs() < 1e-4, "{rate} Hz, sample {n}");
            }
        }
        // 15 kHz cannot exist at 22,050 Hz
        let input: Vec<f32> = (0..88_200).map(|n| (TAU * 15_000.0 * f64::from(n) / 44_100.0).sin() as f32).collect();
        let peak = resample(44_100, &input)[4_000..40_000].iter().fold(0f32, |a, x| a.max(x.abs()));
        assert!(peak < 1e-4, "an alias of amplitude {peak}");
    }
}

//! The linear front end: `ln(W |STFT(x)| + 1e-6)` with bands of equal width in Hz.
//!
//! The plainest picture of a sound: the transform of the log-mel front end, its 257 bins averaged down to 80 rows.
//!
//! # Source
//! M. Huzaifah, "Comparison of time-frequency representations for environmental sound classification using
//! convolutional neural networks" (2017), arXiv:1706.07156: "linear-scaled STFT spectrogram".

use serde::{Deserialize, Serialize};

use super::stft::{MAX_N_FFT, Stft};
use crate::error::{Error, Result};

/// Settings of the linear front end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Sample rate, Hz.
    pub sr: u32,
    /// FFT and window length, samples.
    pub n_fft: usize,
    /// Hop, samples.
    pub hop_length: usize,
    /// Number of rows.
    pub n_bins: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { sr: 22_050, n_fft: 512, hop_length: 256, n_bins: 80 }
    }
}

impl Settings {
    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting.
    pub fn validate(&self) -> Result<()> {
        let Settings { sr, n_fft, hop_length, n_bins } = *self;
        let most = 1 + n_fft / 2;
        let fault = if sr == 0 {
            "linear: a sample rate of 0 Hz".to_string()
        } else if !(2..=MAX_N_FFT).contains(&n_fft) {
            format!("linear: n_fft must be 2 to {MAX_N_FFT} samples, got {n_fft}")
        } else if hop_length == 0 {
            "linear: hop_length must be at least 1 sample, got 0".to_string()
        } else if n_bins == 0 {
            "linear: n_bins must be at least 1, got 0".to_string()
        } else if n_bins > most {
            format!("linear: {n_bins} rows from only {most} FFT bins: fewer rows or a longer n_fft")
        } else {
            return Ok(());
        };
        Err(Error::Config(fault))
    }

    /// The middle of row `r`, Hz.
    pub fn frequency(&self, r: usize) -> f64 {
        (r as f64 + 0.5) / self.n_bins as f64 * f64::from(self.sr) / 2.0
    }
}

/// The bands: row r averages the amplitudes between `r` and `r + 1` times `sr / 2 / n_bins`.
///
/// FFT bin k stands for the frequencies within half a bin of its own, cut off at 0 and at `sr / 2`; it counts in a row by
/// the share of the row that it covers. A row's weights sum to 1, so a constant spectrum keeps its value.
///
/// # Shapes
/// `[n_bins, 1 + n_fft / 2]`, row by row.
pub fn filters(settings: &Settings) -> Result<Vec<f32>> {
    settings.validate()?;
    let bins = 1 + settings.n_fft / 2;
    // in units of FFT bins
    let top = settings.n_fft as f64 / 2.0;
    let width = top / settings.n_bins as f64;
    let weight = |i: usize| {
        let (row, k) = ((i / bins) as f64, (i % bins) as f64);
        let from = (row * width).max(k - 0.5);
        let to = ((row + 1.0) * width).min(k + 0.5);
        ((to - from).max(0.0) / width) as f32
    };
    Ok((0..settings.n_bins * bins).map(weight).collect())
}

/// A planned linear transform.
///
/// `out[r, t] = ln(sum_k W[r, k] |X[t, k]| + 1e-6)`, with [`filters`] `W` and the log-mel front end's `X`.
///
/// # Shapes
/// `[samples] → [n_bins, 1 + samples / hop_length]`.
///
/// # Units
/// Samples have full scale 1; values are nepers of amplitude, never below ln(1e-6).
pub struct Linear {
    stft: Stft,
}

impl Linear {
    /// Plans window, bands and FFT.
    ///
    /// # Errors
    /// Those of [`Settings::validate`].
    pub fn new(settings: &Settings) -> Result<Self> {
        Ok(Linear { stft: Stft::new(settings.n_fft, settings.hop_length, &filters(settings)?) })
    }
}

impl super::transform::Transform for Linear {
    fn transform(&self, samples: &[f32], out: &mut [f32]) {
        self.stft.run(samples, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::Transform;
    use crate::audio::log::{FLOOR, ln};
    use std::f64::consts::TAU;

    fn linear(settings: &Settings, samples: &[f32]) -> Vec<f32> {
        let mut out = vec![f32::NAN; settings.n_bins * (1 + samples.len() / settings.hop_length)];
        Linear::new(settings).unwrap().transform(samples, &mut out);
        out
    }

    #[test]
    fn bands_small_enough_to_work_out() {
        // bins 0 to 4, four units wide; rows of 4/3: bin 1 (0.5 to 1.5) lies 5/6 in row 0 and 1/6 in row 1
        let got = filters(&Settings { sr: 8, n_fft: 8, hop_length: 1, n_bins: 3 }).unwrap();
        let twelfths = [4.5, 7.5, 0.0, 0.0, 0.0, 0.0, 1.5, 9.0, 1.5, 0.0, 0.0, 0.0, 0.0, 7.5, 4.5];
        for (got, twelfths) in got.iter().zip(twelfths) {
            assert!((got - twelfths / 12.0).abs() < 1e-6, "{got} instead of {twelfths} / 12");
        }
    }

    #[test]
    fn every_bin_counts_and_every_row_averages() {
        for n_bins in [1, 7, 80, 84, 257] {
            let settings = Settings { n_bins, ..Settings::default() };
            let weights = filters(&settings).unwrap();
            for (r, row) in weights.chunks(257).enumerate() {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "row {r} of {n_bins}");
            }
            for k in 0..257 {
                let covered: f32 = weights.iter().skip(k).step_by(257).sum();
                let expected = n_bins as f32 / 256.0 * if k == 0 || k == 256 { 0.5 } else { 1.0 };
                assert!((covered - expected).abs() < 1e-5, "bin {k} in {n_bins} rows: {covered}");
            }
        }
    }

    #[test]
    fn a_tone_peaks_in_its_row_and_an_impulse_is_flat() {
        let settings = Settings::default();
        for row in [3, 20, 41, 60, 77] {
            let hz = settings.frequency(row);
            let samples: Vec<f32> = (0..20_462).map(|n| (TAU * hz * f64::from(n) / 22_050.0).sin() as f32).collect();
            let out = linear(&settings, &samples);
            let at = |r: usize| out[r * 80 + 40];
            let peak = (0..80).max_by(|&a, &b| at(a).total_cmp(&at(b))).unwrap();
            assert_eq!(peak, row, "{hz} Hz");
        }
        let mut samples = vec![0.0; 2_048];
        samples[4 * 256] = 0.5;
        let out = linear(&settings, &samples);
        for r in 0..80 {
            assert!((out[r * 9 + 4] - (0.5f32 + FLOOR).ln()).abs() < 1e-5, "row {r}");
            assert_eq!((out[r * 9 + 3], out[r * 9 + 5]), (ln(FLOOR), ln(FLOOR)), "row {r}");
        }
    }

    #[test]
    fn it_is_the_sum_itself() {
        let settings = Settings { sr: 8_000, n_fft: 45, hop_length: 7, n_bins: 6 };
        let samples: Vec<f32> = (0..100u32).map(|i| crate::rng::pcg(i) as f32 / 2f32.powi(31) - 1.0).collect();
        let out = linear(&settings, &samples);
        for (r, row) in filters(&settings).unwrap().chunks(23).enumerate() {
            for t in 0..15 {
                let mut sum = 1e-6;
                for (k, &w) in row.iter().enumerate() {
                    let (mut re, mut im) = (0.0, 0.0);
                    for n in 0..45usize {
                        let x = (t * 7 + n).checked_sub(22).and_then(|i| samples.get(i)).map_or(0.0, |&x| f64::from(x));
                        let hann = 0.5 - 0.5 * (TAU * n as f64 / 45.0).cos();
                        let angle = TAU * (k * n) as f64 / 45.0;
                        (re, im) = (re + x * hann * angle.cos(), im - x * hann * angle.sin());
                    }
                    sum += f64::from(w) * re.hypot(im);
                }
                assert!((f64::from(out[r * 15 + t]) - sum.ln()).abs() < 1e-5, "row {r}, frame {t}");
            }
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let good = Settings::default();
        for (bad, word) in [
            (Settings { sr: 0, ..good.clone() }, "sample rate"),
            (Settings { n_fft: 1, ..good.clone() }, "n_fft"),
            (Settings { n_fft: usize::MAX, ..good.clone() }, "n_fft"),
            (Settings { hop_length: 0, ..good.clone() }, "hop_length"),
            (Settings { n_bins: 0, ..good.clone() }, "n_bins"),
            (Settings { n_bins: 258, ..good.clone() }, "fewer rows"),
        ] {
            let error = Linear::new(&bad).err().unwrap_or_else(|| panic!("{bad:?} was accepted")).one_line();
            assert!(error.contains(word), "{bad:?}: {error}");
        }
    }
}

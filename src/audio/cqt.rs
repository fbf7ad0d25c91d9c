//! The constant-Q front end: `ln(|C| + 1e-6)` with one filter a semitone.
//!
//! A bin is a piece of a complex tone at the bin's frequency under a Hann window; its length is a fixed number of
//! periods, so that the ratio Q of frequency to bandwidth is the same everywhere and an interval looks the same in
//! every octave. Read `halves` for the definition and [`ConstantQ`] for the transform.
//!
//! # Beside librosa
//!
//! Windows, lengths, norms and scale are those of librosa 0.10 and 0.11 `cqt` (`filter_scale=1, norm=1, window="hann",
//! scale=True, pad_mode="constant"`). librosa reaches its values by halving the sample rate octave by octave; its
//! resampler's edges, its lengths rounded anew at every rate and its kernels without their smallest values (`sparsity`
//! 0.01) all leave their traces. Here the filters are summed as they are defined. On music librosa's values differ from
//! the definition's by 0.07 dB at the median and by some 2 dB for one cell in a hundred, mostly near a segment's ends;
//! ours by less than 1e-5 dB. So ours are nearer the truth, and no table of the study should notice the difference. For a
//! lone tone the distance is larger, in the bins where next to nothing is: there librosa shows its own short cuts, and
//! the definition the filters' side lobes (ours: to 1e-3 dB). `tests/cqt.rs` holds these numbers.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

use super::bank::{Bank, Half};
use crate::error::{Error, Result};

/// C1 in equal temperament with A4 = 440 Hz.
pub const C1: f64 = 32.703_195_662_574_83;

/// The longest hop that is accepted, samples (3 s at 22,050 Hz).
const MAX_HOP: usize = 1 << 16;

/// The longest filter that is accepted, samples (24 s at 22,050 Hz).
const MAX_LENGTH: f64 = (1 << 19) as f64;

/// All filters together, samples: a bound on memory and on the time to plan.
const MAX_TAPS: f64 = (1 << 22) as f64;

/// The width of a Hann window's main lobe in units of its length's inverse, as librosa has it.
const HANN_BANDWIDTH: f64 = 1.500_185_265_209_923_3;

/// Settings of the front ends whose bins are notes: constant-Q and wavelets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Sample rate, Hz.
    pub sr: u32,
    /// Hop, samples.
    pub hop_length: usize,
    /// Number of bins.
    pub n_bins: usize,
    /// Bins an octave.
    pub bins_per_octave: usize,
    /// Centre of the lowest bin, Hz.
    pub fmin: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { sr: 22_050, hop_length: 256, n_bins: 80, bins_per_octave: 12, fmin: C1 }
    }
}

impl Settings {
    /// The centre of bin `k`, Hz: `fmin 2^(k / bins_per_octave)`.
    pub fn frequency(&self, k: usize) -> f64 {
        self.fmin * (k as f64 / self.bins_per_octave as f64).exp2()
    }

    /// The ratio of a bin's frequency to its bandwidth: `(r^2 + 1) / (r^2 - 1)` with `r = 2^(1 / bins_per_octave)`.
    ///
    /// # Source
    /// librosa 0.11 `filters.wavelet_lengths`.
    pub fn q(&self) -> f64 {
        let r2 = (2.0 / self.bins_per_octave as f64).exp2();
        (r2 + 1.0) / (r2 - 1.0)
    }

    /// The length of bin `k`'s filter in samples, with its fraction: `Q sr / f`.
    pub fn length(&self, k: usize) -> f64 {
        self.q() * f64::from(self.sr) / self.frequency(k)
    }

    /// Refuses what makes no sense; `name` is the front end's.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting.
    pub fn validate(&self, name: &str) -> Result<()> {
        let Settings { sr, hop_length, n_bins, bins_per_octave, fmin } = *self;
        let nyquist = f64::from(sr) / 2.0;
        // the upper edge of the highest band, as librosa reckons
        let top = |n_bins: usize| self.frequency(n_bins - 1) * (1.0 + 0.5 * HANN_BANDWIDTH / self.q());
        let taps = || (0..n_bins).map(|k| self.length(k)).sum::<f64>();
        let fault = if sr == 0 {
            "a sample rate of 0 Hz".to_string()
        } else if !(1..=MAX_HOP).contains(&hop_length) {
            format!("hop_length must be 1 to {MAX_HOP} samples, got {hop_length}")
        } else if n_bins == 0 {
            "n_bins must be at least 1, got 0".to_string()
        } else if !(1..=1200).contains(&bins_per_octave) {
            format!("bins_per_octave must be 1 to 1200, got {bins_per_octave}")
        } else if !(fmin > 0.0 && fmin.is_finite()) {
            format!("fmin must be a positive number of Hz, got {fmin}")
        } else if top(1) > nyquist {
            format!("fmin {fmin} Hz is too near half the sample rate ({nyquist} Hz) or above it")
        } else if top(n_bins) > nyquist {
            let octaves = (nyquist / top(1)).log2();
            let most = 1 + (octaves * bins_per_octave as f64) as usize;
            format!("{n_bins} bins from {fmin} Hz reach above half the sample rate ({nyquist} Hz): at most {most}")
        } else if self.length(0) > MAX_LENGTH {
            let length = self.length(0);
            format!("a filter of {length:.0} samples for {fmin} Hz is too long (at most {MAX_LENGTH}): raise fmin")
        } else if taps() > MAX_TAPS {
            format!("filters of {:.0} samples in all are too long (at most {MAX_TAPS}): raise fmin", taps())
        } else {
            return Ok(());
        };
        Err(Error::Config(format!("{name}: {fault}")))
    }
}

/// The filters, as the sums over sample pairs that [`Bank`] takes.
///
/// With `L = Q sr / f` and `N = 2 floor(L / 2) + 1`, bin k's amplitude in frame t is
///
/// `|C[k, t]| = sqrt(L) |sum_o w[o] exp(2 pi i f o / sr) x[t hop - o]| / sum_o w[o]`, `o` from `-(N + 1) / 2` to `(N - 3) / 2`,
///
/// with the periodic Hann window `w` of N points, which sums to N / 2 and is highest between the samples `t hop` and
/// `t hop + 1`. Samples before the first and after the last count as zero. A tone of amplitude A at the bin's frequency
/// gives `A sqrt(L) / 2`.
///
/// # Source
/// J. C. Brown, "Calculation of a constant Q spectral transform" (1991); window, length, norm and scale as librosa 0.11.
pub(super) fn halves(settings: &Settings) -> Vec<Half> {
    let half = |k: usize| {
        let length = settings.length(k);
        let m = (length / 2.0).floor().max(1.0) as usize;
        let n = (2 * m + 1) as f64;
        let step = TAU * settings.frequency(k) / f64::from(settings.sr);
        let tap = |i: usize, wave: fn(f64) -> f64| {
            let away = i as f64 + 0.5;
            let window = 0.5 + 0.5 * (TAU * away / n).cos();
            length.sqrt() * window / (n / 2.0) * wave(step * away)
        };
        Half { even: (0..m).map(|i| tap(i, f64::cos)).collect(), odd: (0..m).map(|i| tap(i, f64::sin)).collect() }
    };
    (0..settings.n_bins).map(half).collect()
}

/// A planned constant-Q transform: `out[k, t] = ln(|C[k, t]| + 1e-6)`, `C` as in [`Settings`]' filters.
///
/// # Shapes
/// `[samples] → [n_bins, 1 + samples / hop_length]`, for any number of samples, in the memory of a few seconds of sound.
///
/// # Units
/// Samples have full scale 1; values are nepers of amplitude, never below ln(1e-6).
///
/// # Source
/// librosa 0.11 `cqt(hop_length=256, n_bins=80, bins_per_octave=12, tuning=0)`, then `np.log(np.abs(_) + 1e-6)`.
pub struct ConstantQ {
    bank: Bank,
    hop_length: usize,
}

impl ConstantQ {
    /// Plans the filters.
    ///
    /// # Errors
    /// Those of [`Settings::validate`].
    pub fn new(settings: &Settings) -> Result<Self> {
        settings.validate("cqt")?;
        Ok(ConstantQ { bank: Bank::new(settings.hop_length, &halves(settings)), hop_length: settings.hop_length })
    }
}

impl super::transform::Transform for ConstantQ {
    fn transform(&self, samples: &[f32], out: &mut [f32]) {
        self.bank.run(samples, 1 + samples.len() / self.hop_length, out);
    }
}

//! The wavelet front end: `ln(|W| + 1e-6)`, a continuous wavelet transform with the analytic Morlet wavelet.
//!
//! Its bins stand where the constant-Q's stand, and its frames too. What differs is the shape of a filter: a Gaussian
//! instead of a Hann window, a third as long in effect, so that it sees time more finely and pitch less.
//!
//! # Source
//! C. Torrence and G. P. Compo, "A practical guide to wavelet analysis" (1998), table 1, Morlet with ω0 = 6; as a
//! representation of sound for convolutional nets: M. Huzaifah (2017), arXiv:1706.07156.

use std::f64::consts::{PI, TAU};

use super::bank::{Bank, Half};
use super::cqt::Settings;
use crate::error::Result;

/// The wavelet's centre frequency, radians per width.
const OMEGA_0: f64 = 6.0;

/// Widths after which the Gaussian counts as zero: there it is exp(-28) = 6e-13.
const REACH: f64 = 7.5;

/// The width of bin `k`'s Gaussian, samples.
fn width(settings: &Settings, k: usize) -> f64 {
    OMEGA_0 * f64::from(settings.sr) / (TAU * settings.frequency(k))
}

/// How many samples on either side of a frame's middle bin `k`'s wavelet takes.
pub(super) fn half_length(settings: &Settings, k: usize) -> usize {
    (REACH * width(settings, k)).ceil() as usize
}

/// The wavelets, as the sums over sample pairs that [`Bank`] takes.
///
/// With the width `s = ω0 sr / (2 pi f)` in samples,
///
/// `|W[k, t]| = pi^(-1/4) s^(-1/2) |sum_n x[n] (exp(i ω0 u) - exp(-ω0^2 / 2)) exp(-u^2 / 2)|`, `u = (n - t hop - 1/2) / s`:
///
/// unit energy, no answer to a constant, and next to none (1e-8) to negative frequencies. Frames are centred half a
/// sample after `t hop`, as the constant-Q's are.
fn halves(settings: &Settings) -> Vec<Half> {
    let half = |k: usize| {
        let width = width(settings, k);
        let scale = PI.powf(-0.25) / width.sqrt();
        let m = half_length(settings, k);
        let taps = |wave: fn(f64) -> f64, mean: f64| {
            let tap = |i: usize| {
                let u = (i as f64 + 0.5) / width;
                scale * (wave(OMEGA_0 * u) - mean) * (-u * u / 2.0).exp()
            };
            (0..m).map(tap).collect()
        };
        Half { even: taps(f64::cos, (-OMEGA_0 * OMEGA_0 / 2.0).exp()), odd: taps(f64::sin, 0.0) }
    };
    (0..settings.n_bins).map(half).collect()
}

/// A planned wavelet transform: `out[k, t] = ln(|W[k, t]| + 1e-6)`.
///
/// # Shapes
/// `[samples] → [n_bins, 1 + samples / hop_length]`, for any number of samples, in the memory of a few seconds of sound.
///
/// # Units
/// Samples have full scale 1; values are nepers of amplitude, never below ln(1e-6).
pub struct Wavelets {
    bank: Bank,
    hop_length: usize,
}

impl Wavelets {
    /// Plans the wavelets.
    ///
    /// # Errors
    /// Those of [`Settings::validate`].
    pub fn new(settings: &Settings) -> Result<Self> {
        settings.validate("cwt")?;
        Ok(Wavelets { bank: Bank::new(settings.hop_length, &halves(settings)), hop_length: settings.hop_length })
    }
}

impl super::transform::Transform for Wavelets {
    fn transform(&self, samples: &[f32], out: &mut [f32]) {
        self.bank.run(samples, 1 + samples.len() / self.hop_length, out);
    }
}

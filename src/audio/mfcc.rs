//! Mel-frequency cepstral coefficients: the shape of a log-mel spectrum in a few numbers, nearly uncorrelated ones.
//!
//! Not a front end: nets see spectrograms. This is what genre recognition stood on before them, and what the
//! [baseline](crate::baseline) hears.

use std::f64::consts::PI;

use crate::error::{Error, Result};

/// The orthonormal type-II cosine transform of every column of a log-mel spectrogram, its first rows only.
///
/// `c[t, k] = s_k sum_b x[b, t] cos(pi k (2 b + 1) / (2 n_mels))` with `s_0 = sqrt(1 / n_mels)` and
/// `s_k = sqrt(2 / n_mels)`. Coefficient 0 is loudness, 1 the balance of lows and highs, and so on to finer ripples.
///
/// # Shapes
/// `[n_mels, frames] → [frames, n_mfcc]`.
///
/// # Units
/// Those of the spectrogram: here nepers of amplitude (natural logarithms of mel bands of `|S|`), where librosa's
/// default is decibels of mel bands of `|S|²`.
///
/// # Source
/// librosa 0.11 `feature.mfcc(S=spectrogram, dct_type=2, norm="ortho")`; no liftering.
pub struct Mfcc {
    n_mels: usize,
    /// `[n_mfcc, n_mels]`
    basis: Vec<f64>,
}

impl Mfcc {
    /// Plans the first `n_mfcc` coefficients of `n_mels` bands.
    ///
    /// # Errors
    /// [`Error::Config`] for no coefficients, or for more than there are bands.
    pub fn new(n_mels: usize, n_mfcc: usize) -> Result<Self> {
        if n_mfcc == 0 || n_mfcc > n_mels {
            return Err(Error::Config(format!(
                "mfcc: expected 1 to {n_mels} coefficients of {n_mels} bands, got {n_mfcc}"
            )));
        }
        let bands = n_mels as f64;
        let weight = |i: usize| {
            let (k, b) = ((i / n_mels) as f64, (i % n_mels) as f64);
            let scale = if i < n_mels { 1.0 } else { 2.0 };
            (scale / bands).sqrt() * (PI * k * (2.0 * b + 1.0) / (2.0 * bands)).cos()
        };
        Ok(Mfcc { n_mels, basis: (0..n_mfcc * n_mels).map(weight).collect() })
    }

    /// Number of coefficients.
    pub fn n_mfcc(&self) -> usize {
        self.basis.len() / self.n_mels
    }

    /// Writes `[frames, n_mfcc]` of `spectrogram [n_mels, frames]` to `out`.
    pub fn transform(&self, spectrogram: &[f32], out: &mut [f32]) {
        let frames = spectrogram.len() / self.n_mels;
        let n_mfcc = self.n_mfcc();
        assert!(spectrogram.len() == frames * self.n_mels && out.len() == frames * n_mfcc);
        let mut sums = vec![0.0f64; frames];
        for (k, weights) in self.basis.chunks_exact(self.n_mels).enumerate() {
            sums.fill(0.0);
            for (weight, row) in weights.iter().zip(spectrogram.chunks_exact(frames.max(1))) {
                sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += weight * f64::from(x));
            }
            out.iter_mut().skip(k).step_by(n_mfcc).zip(&sums).for_each(|(out, &sum)| *out = sum as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mfcc(n_mels: usize, n_mfcc: usize, spectrogram: &[f32]) -> Vec<f32> {
        let mut out = vec![f32::NAN; spectrogram.len() / n_mels * n_mfcc];
        Mfcc::new(n_mels, n_mfcc).unwrap().transform(spectrogram, &mut out);
        out
    }

    #[test]
    fn two_bands_by_hand() {
        // sum and difference of the bands over sqrt(2); frames (3, 1) and (-1, 5)
        let root = 2f32.sqrt();
        let expected = [4.0 / root, 2.0 / root, 4.0 / root, -6.0 / root];
        for (c, expected) in mfcc(2, 2, &[3.0, -1.0, 1.0, 5.0]).into_iter().zip(expected) {
            assert!((c - expected).abs() < 1e-6, "{c} {expected}");
        }
    }

    #[test]
    fn a_flat_spectrum_is_loudness_and_energy_is_kept() {
        let flat = mfcc(80, 13, &[-13.8; 80 * 3]);
        for frame in flat.chunks_exact(13) {
            assert!((frame[0] + 13.8 * 80f32.sqrt()).abs() < 1e-4);
            assert!(frame[1..].iter().all(|c| c.abs() < 1e-5), "{frame:?}");
        }
        let x: Vec<f32> = (0..80).map(|b| (b as f32 * 1.7).sin() - 4.0).collect();
        let energy = |values: &[f32]| values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
        assert!((energy(&mfcc(80, 80, &x)) / energy(&x) - 1.0).abs() < 1e-6);
        assert_eq!(mfcc(80, 80, &x)[..13], mfcc(80, 13, &x), "fewer are the first of more");
        assert_eq!(mfcc(80, 13, &[]), [0.0; 0]);
    }

    #[test]
    fn it_is_librosas() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/baseline.json");
        let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let (frames, at) = (5, |i: usize| ((i / 5) as f64, (i % 5) as f64));
        let value = |(b, t): (f64, f64)| (3.0 * (0.37 * (b + 1.0) * (t + 1.0)).sin() - 0.05 * b - 4.0) as f32;
        let spectrogram: Vec<f32> = (0..80 * frames).map(|i| value(at(i))).collect();
        for (t, frame) in mfcc(80, 13, &spectrogram).chunks_exact(13).enumerate() {
            for (k, &c) in frame.iter().enumerate() {
                let expected = golden["mfcc"][k][t].as_f64().unwrap();
                assert!((f64::from(c) - expected).abs() < 1e-5, "[{t}, {k}]: {c} {expected}");
            }
        }
    }

    #[test]
    fn coefficients_that_are_not_there_are_refused() {
        for n_mfcc in [0, 81] {
            let message = Mfcc::new(80, n_mfcc).err().unwrap().to_string();
            assert_eq!(message, format!("mfcc: expected 1 to 80 coefficients of 80 bands, got {n_mfcc}"));
        }
        assert!(Mfcc::new(0, 1).is_err());
    }
}

//! The log-mel front end: `ln(M |STFT(x)| + 1e-6)`.
//!
//! Read [`LogMel`] first, then [`filters`]. There is no normalisation and no decibel: values are natural logarithms of
//! amplitudes (nepers), as the study's nets were trained on.

use serde::{Deserialize, Serialize};

use super::stft::{MAX_N_FFT, Stft};
use crate::error::{Error, Result};

pub use super::log::FLOOR;

/// Settings of the log-mel front end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Sample rate, Hz.
    pub sr: u32,
    /// FFT and window length, samples.
    pub n_fft: usize,
    /// Hop, samples.
    pub hop_length: usize,
    /// Number of bands.
    pub n_mels: usize,
    /// Lowest frequency, Hz.
    pub fmin: f32,
    /// Highest frequency, Hz.
    pub fmax: f32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { sr: 22_050, n_fft: 512, hop_length: 256, n_mels: 80, fmin: 0.0, fmax: 11_025.0 }
    }
}

impl Settings {
    /// Number of FFT bins, `1 + n_fft / 2`.
    pub fn n_bins(&self) -> usize {
        1 + self.n_fft / 2
    }

    /// The frequency in Hz at which each band peaks.
    pub fn centres(&self) -> Vec<f64> {
        points(self)[1..=self.n_mels].to_vec()
    }

    /// Refuses what makes no sense by itself; [`filters`] finds the rest.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting.
    pub fn validate(&self) -> Result<()> {
        let Settings { sr, n_fft, hop_length, n_mels, fmin, fmax } = *self;
        let nyquist = f64::from(sr) / 2.0;
        let fault = if sr == 0 {
            "mel: a sample rate of 0 Hz".to_string()
        } else if !(2..=MAX_N_FFT).contains(&n_fft) {
            format!("mel: n_fft must be 2 to {MAX_N_FFT} samples, got {n_fft}")
        } else if hop_length == 0 {
            "mel: hop_length must be at least 1 sample, got 0".to_string()
        } else if n_mels == 0 {
            "mel: n_mels must be at least 1, got 0".to_string()
        } else if n_mels > self.n_bins() {
            format!("mel: {n_mels} bands from only {} FFT bins: fewer bands or a longer n_fft", self.n_bins())
        } else if !(fmin >= 0.0 && fmin < fmax) {
            format!("mel: expected 0 <= fmin < fmax, got fmin {fmin} Hz and fmax {fmax} Hz")
        } else if f64::from(fmax) > nyquist {
            format!("mel: fmax {fmax} Hz is above half the sample rate ({nyquist} Hz)")
        } else {
            return Ok(());
        };
        Err(Error::Config(fault))
    }
}

// Slaney's scale: linear below 1 kHz (3 mel per 200 Hz), logarithmic above (27 mel per factor of 6.4).
const LINEAR_HZ_PER_MEL: f64 = 200.0 / 3.0;
const BREAK_HZ: f64 = 1000.0;
const BREAK_MEL: f64 = BREAK_HZ / LINEAR_HZ_PER_MEL;

fn log_step() -> f64 {
    6.4_f64.ln() / 27.0
}

/// Hz to mel on Slaney's scale.
///
/// `3 f / 200` below 1 kHz, `15 + 27 ln(f / 1000) / ln 6.4` from there.
///
/// # Source
/// librosa 0.11 `hz_to_mel(htk=False)`; M. Slaney, Auditory Toolbox (1998).
pub fn hz_to_mel(hz: f64) -> f64 {
    if hz < BREAK_HZ { hz / LINEAR_HZ_PER_MEL } else { BREAK_MEL + (hz / BREAK_HZ).ln() / log_step() }
}

/// Mel on Slaney's scale to Hz: the inverse of [`hz_to_mel`].
///
/// # Source
/// librosa 0.11 `mel_to_hz(htk=False)`.
pub fn mel_to_hz(mel: f64) -> f64 {
    if mel < BREAK_MEL { mel * LINEAR_HZ_PER_MEL } else { BREAK_HZ * (log_step() * (mel - BREAK_MEL)).exp() }
}

/// The mel filter bank: triangles between neighbouring points of the mel scale, each of unit area in Hz.
///
/// Point `i` of `n_mels + 2` lies at `f_i = mel_to_hz(mel(fmin) + i (mel(fmax) - mel(fmin)) / (n_mels + 1))`; band `b`
/// rises from `f_b` to `f_{b+1}`, falls to `f_{b+2}` and peaks at `2 / (f_{b+2} - f_b)`.
///
/// # Shapes
/// `[n_mels, 1 + n_fft / 2]`, row by row.
///
/// # Units
/// 1 / Hz. The filters are meant for amplitudes here.
///
/// # Errors
/// Settings that make no sense, or bands so narrow that one holds no FFT bin.
///
/// # Source
/// librosa 0.11 `filters.mel(htk=False, norm="slaney")`.
pub fn filters(settings: &Settings) -> Result<Vec<f32>> {
    settings.validate()?;
    let Settings { n_mels, n_fft, .. } = *settings;
    let points = points(settings);
    let hz_per_bin = f64::from(settings.sr) / n_fft as f64;
    let mut weights = Vec::with_capacity(n_mels * settings.n_bins());
    for (band, edge) in points.windows(3).enumerate() {
        let peak = 2.0 / (edge[2] - edge[0]);
        let row = weights.len();
        weights.extend((0..settings.n_bins()).map(|bin| {
            let hz = bin as f64 * hz_per_bin;
            let rise = (hz - edge[0]) / (edge[1] - edge[0]);
            let fall = (edge[2] - hz) / (edge[2] - edge[1]);
            (peak * rise.min(fall).max(0.0)) as f32
        }));
        if weights[row..].iter().all(|&w| w == 0.0) {
            return Err(Error::Config(format!(
                "mel: band {} of {n_mels} ({:.0} to {:.0} Hz) holds no FFT bin: fewer bands or a longer n_fft",
                band + 1,
                edge[0],
                edge[2]
            )));
        }
    }
    Ok(weights)
}

/// The `n_mels + 2` points of [`filters`] in Hz: band b rises from point b, peaks at b + 1 and ends at b + 2.
fn points(settings: &Settings) -> Vec<f64> {
    let (low, high) = (hz_to_mel(settings.fmin.into()), hz_to_mel(settings.fmax.into()));
    let parts = (settings.n_mels + 1) as f64;
    (0..settings.n_mels + 2).map(|i| mel_to_hz(low + (high - low) * i as f64 / parts)).collect()
}

/// A planned log-mel transform.
///
/// `out[b, t] = ln(sum_k M[b, k] |X[t, k]| + 1e-6)` with
/// `X[t, k] = sum_n w[n] x[t hop + n - n_fft / 2] exp(-2 pi i k n / n_fft)`.
///
/// The window `w` is a periodic Hann window, samples before the first and after the last count as zero, and frame `t`
/// is centred on sample `t * hop_length`.
///
/// # Shapes
/// `[samples] → [n_mels, 1 + samples / hop_length]`.
///
/// # Units
/// Samples have full scale 1; values are nepers of amplitude, never below ln(1e-6).
///
/// # Source
/// librosa 0.11 `feature.melspectrogram(power=1, center=True, pad_mode="constant")`, then `np.log(_ + 1e-6)`.
pub struct LogMel {
    stft: Stft,
}

impl LogMel {
    /// Plans the transform: window, filters and FFT.
    ///
    /// # Errors
    /// Those of [`filters`].
    pub fn new(settings: &Settings) -> Result<Self> {
        Ok(LogMel { stft: Stft::new(settings.n_fft, settings.hop_length, &filters(settings)?) })
    }
}

impl super::transform::Transform for LogMel {
    fn transform(&self, samples: &[f32], out: &mut [f32]) {
        self.stft.run(samples, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::Transform;
    use crate::audio::log::ln;
    use std::f64::consts::TAU;

    fn log_mel(settings: &Settings, samples: &[f32]) -> Vec<f32> {
        let mut out = vec![f32::NAN; settings.n_mels * (1 + samples.len() / settings.hop_length)];
        LogMel::new(settings).unwrap().transform(samples, &mut out);
        out
    }

    fn tone(hz: f64, amplitude: f64, samples: usize) -> Vec<f32> {
        (0..samples).map(|n| (amplitude * (TAU * hz * n as f64 / 22_050.0).sin()) as f32).collect()
    }

    #[test]
    fn slaneys_scale_by_hand() {
        // linear part: 3 mel per 200 Hz; logarithmic part: 27 mel per factor of 6.4
        for (hz, mel) in [(0.0, 0.0), (60.0, 0.9), (200.0, 3.0), (1000.0, 15.0), (6400.0, 42.0)] {
            assert!((hz_to_mel(hz) - mel).abs() < 1e-12, "{hz} Hz");
            assert!((mel_to_hz(mel) - hz).abs() < 1e-9, "{mel} mel");
        }
        for i in 0..=110 {
            let hz = 100.0 * f64::from(i);
            assert!((mel_to_hz(hz_to_mel(hz)) - hz).abs() < 1e-9 * (1.0 + hz));
        }
    }

    #[test]
    fn a_filter_bank_small_enough_to_work_out() {
        // Four bands over 0 … 1000 Hz: 15 mel in 5 steps of 3 mel = 200 Hz; bins every 100 Hz. Band 0 is 0-200-400 with
        // its peak at 2 / 400.
        let settings = Settings { sr: 2_000, n_fft: 20, hop_length: 1, n_mels: 4, fmin: 0.0, fmax: 1_000.0 };
        let peaks = settings.centres();
        assert!(peaks.iter().zip([200.0, 400.0, 600.0, 800.0]).all(|(a, b)| (a - b).abs() < 1e-9), "{peaks:?}");
        let got = filters(&settings).unwrap();
        let expected = [0.0, 0.0025, 0.005, 0.0025, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(got.len(), 44);
        for (b, row) in got.chunks(11).enumerate() {
            for (k, w) in row.iter().enumerate() {
                let e = if k >= 2 * b { expected[k - 2 * b] } else { 0.0 };
                assert!((w - e).abs() < 1e-8, "band {b}, bin {k}: {w} instead of {e}");
            }
        }
    }

    #[test]
    fn filters_have_unit_area() {
        let settings = Settings { n_fft: 1 << 15, ..Settings::default() };
        let hz_per_bin = 22_050.0 / f64::from(1 << 15);
        for (b, row) in filters(&settings).unwrap().chunks(settings.n_bins()).enumerate() {
            let area: f64 = row.iter().map(|&w| f64::from(w) * hz_per_bin).sum();
            assert!((area - 1.0).abs() < 1e-3, "band {b}: area {area}");
        }
    }

    #[test]
    fn a_tone_peaks_in_its_band_and_doubles_with_its_amplitude() {
        let settings = Settings::default();
        let top = hz_to_mel(11_025.0);
        for band in [5, 20, 40, 60, 79] {
            let hz = mel_to_hz(top * (band + 1) as f64 / 81.0);
            let (soft, loud) = (tone(hz, 0.25, 20_462), tone(hz, 0.5, 20_462));
            let (soft, loud) = (log_mel(&settings, &soft), log_mel(&settings, &loud));
            let at = |out: &[f32], b: usize| out[b * 80 + 40];
            let peak = (0..80).max_by(|&a, &b| at(&loud, a).total_cmp(&at(&loud, b))).unwrap();
            // the lowest bands are narrower than an FFT bin, so a tone may stand one beside its own
            assert!(peak.abs_diff(band) <= 1, "{hz} Hz: peak in band {peak}, expected {band}");
            assert!((at(&loud, peak) - at(&soft, peak) - 2f32.ln()).abs() < 1e-3);
        }
    }

    #[test]
    fn an_impulse_is_flat() {
        // An impulse in the middle of frame 4 has magnitude w[256] = 1 in every bin: band b is the sum of its weights.
        let settings = Settings::default();
        let mut samples = vec![0.0; 2_048];
        samples[4 * 256] = 1.0;
        let out = log_mel(&settings, &samples);
        for (b, row) in filters(&settings).unwrap().chunks(257).enumerate() {
            let expected = (row.iter().sum::<f32>() + FLOOR).ln();
            assert!((out[b * 9 + 4] - expected).abs() < 1e-4, "band {b}");
            // frames 3 and 5 have it at the window's edge, where the periodic window is w[0] = 0 (and 512 is outside)
            assert_eq!((out[b * 9 + 3], out[b * 9 + 5]), (ln(FLOOR), ln(FLOOR)));
        }
    }

    #[test]
    fn silence_is_the_floor_and_short_inputs_work() {
        let settings = Settings::default();
        for samples in [0, 1, 255, 256, 300, 511, 20_462] {
            let out = log_mel(&settings, &vec![0.0; samples]);
            assert_eq!(out.len(), 80 * (1 + samples / 256));
            assert!(out.iter().all(|&v| v == ln(FLOOR)), "{samples} samples");
        }
        // padding by hand equals the zeros outside: a short input is the start of a longer one
        let short = tone(3_000.0, 1.0, 200);
        let mut long = short.clone();
        long.resize(1_024, 0.0);
        let (short, long) = (log_mel(&settings, &short), log_mel(&settings, &long));
        for b in 0..80 {
            assert_eq!(short[b], long[b * 5]);
        }
    }

    #[test]
    fn odd_and_uncommon_sizes_agree_with_the_sum_itself() {
        let settings = Settings { sr: 8_000, n_fft: 45, hop_length: 7, n_mels: 6, fmin: 100.0, fmax: 3_500.0 };
        let samples: Vec<f32> = (0..100u32).map(|i| crate::rng::pcg(i) as f32 / 2f32.powi(31) - 1.0).collect();
        let out = log_mel(&settings, &samples);
        let frames = 1 + 100 / 7;
        for (b, row) in filters(&settings).unwrap().chunks(23).enumerate() {
            for t in 0..frames {
                let mut sum = 0.0;
                for (k, &w) in row.iter().enumerate() {
                    let (mut re, mut im) = (0.0, 0.0);
                    for n in 0..45usize {
                        let x = (t * 7 + n).checked_sub(22).and_then(|i| samples.get(i)).map_or(0.0, |&x| f64::from(x));
                        let angle = TAU * (k * n) as f64 / 45.0;
                        let hann = 0.5 - 0.5 * (TAU * n as f64 / 45.0).cos();
                        re += x * hann * angle.cos();
                        im -= x * hann * angle.sin();
                    }
                    sum += f64::from(w) * re.hypot(im);
                }
                let expected = (sum + 1e-6).ln();
                assert!((f64::from(out[b * frames + t]) - expected).abs() < 1e-4, "band {b}, frame {t}");
            }
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let good = Settings::default();
        for (bad, word) in [
            (Settings { sr: 0, ..good.clone() }, "sample rate"),
            (Settings { n_fft: 0, ..good.clone() }, "n_fft"),
            (Settings { n_fft: usize::MAX, ..good.clone() }, "n_fft"),
            (Settings { hop_length: 0, ..good.clone() }, "hop_length"),
            (Settings { n_mels: 0, ..good.clone() }, "n_mels"),
            (Settings { n_mels: usize::MAX, ..good.clone() }, "fewer bands"),
            (Settings { n_mels: 200, ..good.clone() }, "holds no FFT bin"),
            (Settings { fmin: 500.0, fmax: 500.0, ..good.clone() }, "fmin"),
            (Settings { fmin: -1.0, ..good.clone() }, "fmin"),
            (Settings { fmin: f32::NAN, ..good.clone() }, "fmin"),
            (Settings { fmax: f32::INFINITY, ..good.clone() }, "above half"),
            (Settings { fmax: 11_026.0, ..good.clone() }, "above half"),
        ] {
            let error = LogMel::new(&bad).err().unwrap_or_else(|| panic!("{bad:?} was accepted")).one_line();
            assert!(error.contains(word), "{bad:?}: {error}");
        }
    }
}

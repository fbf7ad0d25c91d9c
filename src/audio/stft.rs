//! Short-time Fourier magnitudes gathered into bands: the engine under the log-mel and the linear front end.
//!
//! It runs in f64, as librosa does: where a loud low note leaves the top bands empty, the rounding of an f32 transform
//! would stand above the floor. Two real frames share one complex FFT, and the bands are summed for many frames at once.

use std::cell::RefCell;
use std::f64::consts::TAU;
use std::sync::Arc;

use pulp::{Arch, Simd, WithSimd};
use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

use super::log::{FLOOR, ln};

/// The longest window that is accepted, samples (47 s at 22,050 Hz: beyond any use, and a bound on memory).
pub(super) const MAX_N_FFT: usize = 1 << 20;

/// Frames come in multiples of this: two of the widest vectors' lanes.
const COLUMNS: usize = 32;

/// Frames that are done in one go: the study's 80 and a little more, and fewer where a frame is long.
fn tile(n_fft: usize) -> usize {
    (49_152 / n_fft).next_multiple_of(COLUMNS).clamp(COLUMNS, 1_024)
}

/// A band's weights: `weights[from..to]` for the FFT bins from `bin` on.
struct Band {
    bin: usize,
    from: usize,
    to: usize,
}

/// A planned `ln(W |STFT(x)| + 1e-6)`.
///
/// `X[t, k] = sum_n w[n] x[t hop + n - n_fft / 2] exp(-2 pi i k n / n_fft)` with a periodic Hann window `w`; samples before
/// the first and after the last count as zero, and frame `t` is centred on sample `t * hop_length`.
pub(super) struct Stft {
    n_fft: usize,
    hop: usize,
    fft: Arc<dyn Fft<f64>>,
    window: Vec<f64>,
    bands: Vec<Band>,
    weights: Vec<f32>,
}

/// What one thread works in.
#[derive(Default)]
struct Scratch {
    pair: Vec<Complex<f64>>,
    fft: Vec<Complex<f64>>,
    /// `[1 + n_fft / 2, tile]`.
    magnitude: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Stft {
    /// Plans window, FFT and bands; `weights` is `[bands, 1 + n_fft / 2]`, mostly zeros.
    pub fn new(n_fft: usize, hop: usize, dense: &[f32]) -> Self {
        let (mut bands, mut weights) = (Vec::new(), Vec::new());
        for row in dense.chunks_exact(1 + n_fft / 2) {
            let first = row.iter().position(|&w| w > 0.0).unwrap_or(0);
            let last = row.iter().rposition(|&w| w > 0.0).unwrap_or(0);
            let from = weights.len();
            weights.extend_from_slice(&row[first..=last]);
            bands.push(Band { bin: first, from, to: weights.len() });
        }
        let hann = |n: usize| 0.5 - 0.5 * (TAU * n as f64 / n_fft as f64).cos();
        Stft {
            n_fft,
            hop,
            fft: FftPlanner::new().plan_fft_forward(n_fft),
            window: (0..n_fft).map(hann).collect(),
            bands,
            weights,
        }
    }

    /// Writes the logarithms `[bands, 1 + samples / hop]` to `out`.
    pub fn run(&self, samples: &[f32], out: &mut [f32]) {
        let frames = 1 + samples.len() / self.hop;
        let bands = self.bands.len();
        assert_eq!(out.len(), bands * frames, "the output must be [{bands}, {frames}]");
        SCRATCH.with_borrow_mut(|scratch| {
            let arch = Arch::new();
            let tile = tile(self.n_fft);
            for first in (0..frames).step_by(tile) {
                let count = (frames - first).min(tile);
                arch.dispatch(Tile { stft: self, samples, first, count, frames, scratch, out });
            }
        });
    }

    /// Writes the windowed frame `t` to the real (`PART` 0) or imaginary parts of `pair`.
    #[inline(always)]
    fn cut<const PART: usize>(&self, samples: &[f32], t: usize, pair: &mut [Complex<f64>]) {
        let (half, centre) = (self.n_fft / 2, t * self.hop);
        let part = |z: &mut Complex<f64>, x: f64| if PART == 0 { z.re = x } else { z.im = x };
        // The frame starts at sample `centre - half`: `missing` of its samples lie before the first one.
        let missing = half.saturating_sub(centre).min(pair.len());
        let from = (centre + missing).saturating_sub(half).min(samples.len());
        let present = (samples.len() - from).min(pair.len() - missing);
        pair[..missing].iter_mut().for_each(|z| part(z, 0.0));
        pair[missing + present..].iter_mut().for_each(|z| part(z, 0.0));
        let inside = missing..missing + present;
        for ((z, x), w) in pair[inside.clone()].iter_mut().zip(&samples[from..]).zip(&self.window[inside]) {
            part(z, f64::from(*x) * w);
        }
    }
}

/// One tile on its way.
struct Tile<'a> {
    stft: &'a Stft,
    samples: &'a [f32],
    /// Its first frame.
    first: usize,
    /// Its number of frames.
    count: usize,
    /// All frames, the rows' length in `out`.
    frames: usize,
    scratch: &'a mut Scratch,
    out: &'a mut [f32],
}

impl WithSimd for Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Tile { stft, samples, first, count, frames, scratch, out } = self;
        let Scratch { pair, fft, magnitude } = scratch;
        let (n_fft, stride) = (stft.n_fft, count.next_multiple_of(COLUMNS));
        pair.resize(n_fft, Complex::default());
        fft.resize(stft.fft.get_inplace_scratch_len(), Complex::default());
        magnitude.resize((1 + n_fft / 2) * stride, 0.0);
        for t in (0..count).step_by(2) {
            let start = ((first + t) * stft.hop).checked_sub(n_fft / 2);
            let inside = start.and_then(|start| Some((samples.get(start..)?, samples.get(start + stft.hop..)?)));
            if let Some((one, other)) = inside.filter(|(_, other)| other.len() >= n_fft && t + 1 < count) {
                for (((z, x), y), w) in pair.iter_mut().zip(&one[..n_fft]).zip(&other[..n_fft]).zip(&stft.window) {
                    *z = Complex::new(f64::from(*x) * w, f64::from(*y) * w);
                }
            } else if t + 1 < count {
                stft.cut::<0>(samples, first + t, pair);
                stft.cut::<1>(samples, first + t + 1, pair);
            } else {
                // an odd one out has silence for company
                stft.cut::<0>(samples, first + t, pair);
                pair.iter_mut().for_each(|z| z.im = 0.0);
            }
            stft.fft.process_with_scratch(pair, fft);
            // even and odd parts of the pair's spectrum are the frames' spectra
            let mut store = |k: usize, z: Complex<f64>, mirrored: Complex<f64>| {
                let (a, b) = (z + mirrored.conj(), z - mirrored.conj());
                let place = &mut magnitude[k * stride + t..][..2];
                place[0] = (0.25 * (a.re * a.re + a.im * a.im)) as f32;
                place[1] = (0.25 * (b.re * b.re + b.im * b.im)) as f32;
            };
            store(0, pair[0], pair[0]);
            let (front, back) = (&pair[1..], &pair[n_fft - n_fft / 2..]);
            for (k, (&z, &mirrored)) in front.iter().zip(back.iter().rev()).enumerate() {
                store(k + 1, z, mirrored);
            }
        }
        // all roots at once, as vectors; a square fits into f32 from amplitudes of 1e-19 to 1e19
        magnitude.iter_mut().for_each(|m| *m = m.sqrt());
        for (band, row) in stft.bands.iter().zip(out.chunks_exact_mut(frames)) {
            let weights = &stft.weights[band.from..band.to];
            let row = &mut row[first..first + count];
            for (column, row) in (0..).step_by(COLUMNS).zip(row.chunks_mut(COLUMNS)) {
                let mut sums = [0.0f32; COLUMNS];
                for (k, &w) in (band.bin..).zip(weights) {
                    let magnitudes = &magnitude[k * stride + column..][..COLUMNS];
                    sums.iter_mut().zip(magnitudes).for_each(|(sum, m)| *sum += w * m);
                }
                sums.iter_mut().for_each(|x| *x = ln(*x + FLOOR));
                row.copy_from_slice(&sums[..row.len()]);
            }
        }
    }
}

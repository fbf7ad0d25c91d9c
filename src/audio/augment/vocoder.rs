//! The phase vocoder: one short-time Fourier transform, listened to by any number of stretched voices.
//!
//! librosa makes the whole transform, stretches all of it and inverts all of it. Here the analysis runs once, column by
//! column, and every voice follows it; a voice only adds up phases (whole numbers, see [`phase`]) until a frame is heard in
//! one of the ranges that are wanted of it, and only such frames are made.

use std::f64::consts::TAU;
use std::ops::Range;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

use super::phase;

/// Window and FFT, samples: librosa's default.
pub(super) const N_FFT: usize = 2048;

/// Hop, samples: a quarter of the window, so that a bin's own phase advance is a whole number of quarter turns and that
/// four squared windows add up to 3/2 everywhere.
pub(super) const HOP: usize = N_FFT / 4;

/// FFT bins.
const BINS: usize = N_FFT / 2 + 1;

/// What is wanted of one stretched signal.
pub(super) struct Request {
    /// Speed: 2 halves the duration.
    pub rate: f64,
    /// Samples of the stretched signal; none of it lies beyond [`stretched_length`].
    pub ranges: Vec<Range<usize>>,
}

/// Samples of `samples` samples at `rate`: librosa's `round(samples / rate)`, halves to even.
pub(super) fn stretched_length(samples: usize, rate: f64) -> usize {
    (samples as f64 / rate).round_ties_even() as usize
}

/// A planned phase vocoder.
///
/// With `X[c, k]` the short-time Fourier transform (periodic Hann window of 2048, hop 512, centred, zero padding), output
/// frame t reads at column `t rate = c + a` with `0 <= a < 1` and has
///
/// `|Y[t, k]| = (1 - a) |X[c, k]| + a |X[c + 1, k]|`, `arg Y[0, k] = arg X[0, k]`,
/// `arg Y[t + 1, k] = arg Y[t, k] + arg X[c + 1, k] - arg X[c, k]`,
///
/// columns beyond the last being zero. The output is the least-squares inverse of Y (windowed overlap-add divided by the
/// sum of the squared windows). librosa wraps the phase difference to the nearest turn around the bin's own advance;
/// as phases are only added whole, that changes nothing, and neither does its expected advance.
///
/// # Source
/// librosa 0.11 `stft`, `phase_vocoder`, `istft`; D. Ellis, A phase vocoder in Matlab (2002).
pub(super) struct Vocoder {
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
    /// Periodic Hann.
    window: Vec<f32>,
    /// The window over `N_FFT`: the inverse FFT leaves that factor.
    synthesis: Vec<f32>,
}

/// One column of the analysis, magnitudes and phases apart.
struct Column {
    magnitude: Vec<f32>,
    phase: Vec<u32>,
}

impl Column {
    fn new() -> Self {
        Column { magnitude: vec![0.0; BINS], phase: vec![0; BINS] }
    }
}

/// One stretched signal on its way.
struct Voice {
    rate: f64,
    /// The output frame to come.
    next: usize,
    /// Output frames in all.
    frames: usize,
    /// The frame after the last one that is heard.
    end: usize,
    /// The phase of frame `next`.
    phase: Vec<u32>,
    pieces: Vec<Piece>,
}

/// Samples `from .. from + samples.len()` of a stretched signal.
struct Piece {
    from: usize,
    samples: Vec<f32>,
}

impl Piece {
    /// The frames that are heard in it: frame t spans samples `t HOP - N_FFT / 2 .. t HOP + N_FFT / 2`.
    fn frames(&self) -> Range<usize> {
        if self.samples.is_empty() {
            return 0..0;
        }
        let first = (self.from + HOP).saturating_sub(N_FFT / 2) / HOP;
        first..(self.from + self.samples.len() + N_FFT / 2).div_ceil(HOP)
    }

    /// Adds frame `t`, windowed.
    fn add(&mut self, t: usize, frame: &[f32], window: &[f32]) {
        let start = self.from + N_FFT / 2;
        let (skipped, silent) = (start.saturating_sub(t * HOP), (t * HOP).saturating_sub(start));
        if skipped >= N_FFT || silent >= self.samples.len() {
            return;
        }
        for ((y, x), w) in self.samples[silent..].iter_mut().zip(&frame[skipped..]).zip(&window[skipped..]) {
            *y += x * w;
        }
    }

    /// Divides by the sum of the squared windows of the `frames` frames that there are.
    ///
    /// It is 3/2 but for the ends, and nowhere below 1/4: the last frame's centre is no more than a hop before the end.
    fn normalise(&mut self, frames: usize, window: &[f32]) {
        let square = |n: usize| window[n] * window[n];
        for (i, y) in self.samples.iter_mut().enumerate() {
            let place = self.from + i + N_FFT / 2;
            let (block, offset) = (place / HOP, place % HOP);
            if block >= 3 && block < frames {
                *y *= 2.0 / 3.0;
            } else {
                let sum: f32 =
                    (0..4).filter(|q| (*q..frames + q).contains(&block)).map(|q| square(q * HOP + offset)).sum();
                *y /= sum;
            }
        }
    }
}

/// What one track is worked in.
struct Scratch {
    frame: Vec<f32>,
    spectrum: Vec<Complex<f32>>,
    fft: Vec<Complex<f32>>,
}

impl Vocoder {
    pub(super) fn new() -> Self {
        let mut planner = RealFftPlanner::new();
        let hann = |n: usize| 0.5 - 0.5 * (TAU * n as f64 / N_FFT as f64).cos();
        Vocoder {
            forward: planner.plan_fft_forward(N_FFT),
            inverse: planner.plan_fft_inverse(N_FFT),
            window: (0..N_FFT).map(|n| hann(n) as f32).collect(),
            synthesis: (0..N_FFT).map(|n| (hann(n) / N_FFT as f64) as f32).collect(),
        }
    }

    /// Starts to stretch a signal of `length` samples, once for every request.
    pub(super) fn begin(&self, length: usize, requests: &[Request]) -> Stretch<'_> {
        let columns = 1 + length / HOP;
        Stretch {
            vocoder: self,
            columns,
            voices: requests.iter().map(|request| voice(length, columns, request)).collect(),
            scratch: Scratch {
                frame: vec![0.0; N_FFT],
                spectrum: vec![Complex::default(); BINS],
                fft: vec![Complex::default(); self.forward.get_scratch_len().max(self.inverse.get_scratch_len())],
            },
            last: Column::new(),
            this: Column::new(),
            advance: vec![0; BINS],
            next: 0,
            held: Vec::new(),
            base: 0,
        }
    }

    /// Column `c` of the short-time Fourier transform.
    ///
    /// `samples` are those from sample `base` on, to its frame's end or to the signal's.
    fn analyse(&self, (samples, base): (&[f32], usize), c: usize, scratch: &mut Scratch, column: &mut Column) {
        let Scratch { frame, spectrum, fft } = scratch;
        // the frame starts half a window before sample c HOP
        let missing = (N_FFT / 2).saturating_sub(c * HOP);
        let from = ((c * HOP + missing).saturating_sub(N_FFT / 2) - base).min(samples.len());
        let present = (samples.len() - from).min(N_FFT - missing);
        frame[..missing].fill(0.0);
        frame[missing + present..].fill(0.0);
        let inside = missing..missing + present;
        for ((y, x), w) in frame[inside.clone()].iter_mut().zip(&samples[from..]).zip(&self.window[inside]) {
            *y = x * w;
        }
        if let Err(error) =
            self.forward.process_with_scratch(frame, spectrum, &mut fft[..self.forward.get_scratch_len()])
        {
            unreachable!("the buffers have the FFT's own lengths: {error}");
        }
        for ((m, p), x) in column.magnitude.iter_mut().zip(&mut column.phase).zip(spectrum.iter()) {
            *m = (x.re * x.re + x.im * x.im).sqrt();
            *p = phase::of(x.re, x.im);
        }
    }

    /// Makes the frames of `voice` that lie between columns `c` and `c + 1`.
    fn follow(&self, voice: &mut Voice, c: usize, pair: [&Column; 2], advance: &[u32], scratch: &mut Scratch) {
        let mut passed = 0u32;
        while voice.next < voice.end {
            let place = voice.next as f64 * voice.rate;
            if place as usize > c {
                break;
            }
            let t = voice.next;
            if voice.pieces.iter().any(|piece| piece.frames().contains(&t)) {
                turn(&mut voice.phase, advance, passed);
                passed = 0;
                self.synthesise(&voice.phase, pair, place.fract() as f32, scratch);
                for piece in voice.pieces.iter_mut().filter(|piece| piece.frames().contains(&t)) {
                    piece.add(t, &scratch.frame, &self.synthesis);
                }
            }
            voice.next += 1;
            passed += 1;
        }
        turn(&mut voice.phase, advance, passed);
    }

    /// Writes the frame of these phases, its magnitudes `a` of the way from one column to the next, to `scratch.frame`.
    fn synthesise(&self, phases: &[u32], [this, following]: [&Column; 2], a: f32, scratch: &mut Scratch) {
        let Scratch { frame, spectrum, fft } = scratch;
        let magnitudes = this.magnitude.iter().zip(&following.magnitude);
        for ((x, phase), (from, to)) in spectrum.iter_mut().zip(phases).zip(magnitudes) {
            let magnitude = (1.0 - a) * from + a * to;
            let (cos, sin) = phase::cos_sin(*phase);
            *x = Complex::new(magnitude * cos, magnitude * sin);
        }
        // a real signal has real ends
        spectrum[0].im = 0.0;
        spectrum[BINS - 1].im = 0.0;
        if let Err(error) =
            self.inverse.process_with_scratch(spectrum, frame, &mut fft[..self.inverse.get_scratch_len()])
        {
            unreachable!("the buffers have the FFT's own lengths: {error}");
        }
    }
}

/// Signals that are being stretched. The samples come block by block, and those that no later column needs are dropped.
pub(super) struct Stretch<'a> {
    vocoder: &'a Vocoder,
    voices: Vec<Voice>,
    /// Columns in all.
    columns: usize,
    /// The column before the next one, once there is one.
    last: Column,
    /// Room for the next column.
    this: Column,
    /// How far phases turn from one column to the next.
    advance: Vec<u32>,
    scratch: Scratch,
    /// The next column.
    next: usize,
    /// Samples from `base` on.
    held: Vec<f32>,
    base: usize,
}

impl Stretch<'_> {
    /// Takes the next samples.
    pub(super) fn push(&mut self, samples: &[f32]) {
        /// Samples taken at a time.
        const BLOCK: usize = 1 << 16;
        for block in samples.chunks(BLOCK) {
            if self.is_done() {
                return;
            }
            self.held.extend_from_slice(block);
            while self.next * HOP + N_FFT / 2 <= self.base + self.held.len() && self.next < self.columns {
                self.column();
            }
            let needed = (self.next * HOP).saturating_sub(N_FFT / 2);
            self.held.drain(..needed - self.base);
            self.base = needed;
        }
    }

    /// The wanted ranges of every stretched signal, in the order of the requests, once all samples have come.
    pub(super) fn finish(mut self) -> Vec<Vec<Vec<f32>>> {
        while self.next < self.columns && !self.is_done() {
            self.column();
        }
        if self.next > 0 {
            // behind the last column there is silence
            self.this = Column::new();
            self.step();
        }
        let window = &self.vocoder.window;
        let finish = |mut voice: Voice| {
            voice.pieces.iter_mut().for_each(|piece| piece.normalise(voice.frames, window));
            voice.pieces.into_iter().map(|piece| piece.samples).collect()
        };
        self.voices.into_iter().map(finish).collect()
    }

    /// True if nothing more is heard.
    fn is_done(&self) -> bool {
        self.voices.iter().all(|voice| voice.next >= voice.end)
    }

    /// Analyses the next column, and makes the frames between it and the one before.
    fn column(&mut self) {
        self.vocoder.analyse((&self.held, self.base), self.next, &mut self.scratch, &mut self.this);
        if self.next == 0 {
            self.voices.iter_mut().for_each(|voice| voice.phase.copy_from_slice(&self.this.phase));
        } else {
            self.step();
        }
        std::mem::swap(&mut self.last, &mut self.this);
        self.next += 1;
    }

    /// Makes the frames between the last column and this one.
    fn step(&mut self) {
        for ((advance, to), from) in self.advance.iter_mut().zip(&self.this.phase).zip(&self.last.phase) {
            *advance = to.wrapping_sub(*from);
        }
        for voice in &mut self.voices {
            self.vocoder.follow(voice, self.next - 1, [&self.last, &self.this], &self.advance, &mut self.scratch);
        }
    }
}

fn voice(samples: usize, columns: usize, request: &Request) -> Voice {
    let length = stretched_length(samples, request.rate);
    let piece = |range: &Range<usize>| {
        assert!(range.end <= length, "samples {range:?} of {length} are wanted");
        Piece { from: range.start, samples: vec![0.0; range.len()] }
    };
    let pieces: Vec<Piece> = request.ranges.iter().map(piece).collect();
    // as many steps of `rate` as begin before the last column ends, but none that is not heard
    let frames = ((columns as f64 / request.rate).ceil() as usize).min((length + N_FFT).div_ceil(HOP));
    let end = pieces.iter().map(|piece| piece.frames().end).max().unwrap_or(0).min(frames);
    Voice { rate: request.rate, next: 0, frames, end, phase: vec![0; BINS], pieces }
}

/// Adds `times` times the advance.
fn turn(phases: &mut [u32], advance: &[u32], times: u32) {
    if times > 0 {
        for (phase, advance) in phases.iter_mut().zip(advance) {
            *phase = phase.wrapping_add(advance.wrapping_mul(times));
        }
    }
}

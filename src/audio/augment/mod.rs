//! Augmentation: the same music slower or faster, higher or lower.
//!
//! The study trains on sixteen deformations of every training track ([`DEFORMATIONS`]): time stretch (the pitch stays)
//! and pitch shift (the duration stays) by a phase vocoder, as librosa defines them. Read [`Deformation`] first, then
//! `vocoder.rs`. Which segments are cut out of a deformed track is decided in [`crate::data::augment`].

mod phase;
mod pitch;
mod vocoder;

use std::fmt;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

use pitch::Pitch;
use vocoder::{Request, Stretch, Vocoder, stretched_length};

/// The slowest and the fastest time stretch that is accepted.
pub const RATES: [f64; 2] = [0.05, 20.0];

/// The largest pitch shift that is accepted, semitones up or down: two octaves.
pub const MAX_STEPS: f64 = 24.0;

/// A time stretch and a pitch shift, done at once.
///
/// A stretch by `rate` is a phase vocoder that reads `rate` times as fast; a shift by `steps` semitones is a stretch by
/// `r = 2^(-steps / 12)`, resampled by r, which restores the duration and moves every frequency by `1 / r`. Both together
/// are one pass of the vocoder at `rate r`, then resampled by r: a second pass would only blur what the first one made.
/// `round(samples / rate)` samples come out, halves to even.
///
/// # Source
/// librosa 0.11 `effects.time_stretch` (steps 0) and `effects.pitch_shift` (rate 1) at their defaults, n_fft 2048 and hop
/// 512; resampled by rubato instead of soxr.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deformation {
    /// Speed, librosa's `rate`: 0.5 lasts twice as long.
    pub rate: f64,
    /// Semitones up, librosa's `n_steps`.
    pub steps: f64,
}

/// The study's: every time stretch with every pitch shift.
pub const DEFORMATIONS: [Deformation; 16] = {
    let (rates, steps) = ([0.2, 0.5, 1.2, 1.5], [-5.0, -2.0, 2.0, 5.0]);
    let mut all = [Deformation { rate: 1.0, steps: 0.0 }; 16];
    let mut i = 0;
    while i < all.len() {
        all[i] = Deformation { rate: rates[i / 4], steps: steps[i % 4] };
        i += 1;
    }
    all
};

impl fmt::Display for Deformation {
    /// `speed x0.2, pitch -5`.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "speed x{}, pitch {:+}", self.rate, self.steps)
    }
}

impl Deformation {
    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// [`Error::Config`]: a rate outside [`RATES`], a shift beyond [`MAX_STEPS`], NaN.
    pub fn check(&self) -> Result<()> {
        let Deformation { rate, steps } = *self;
        let [slowest, fastest] = RATES;
        if !(slowest..=fastest).contains(&rate) {
            return Err(Error::Config(format!(
                "time stretch: expected a rate from {slowest} to {fastest}, got {rate}"
            )));
        }
        if !(-MAX_STEPS..=MAX_STEPS).contains(&steps) {
            let message = format!("pitch shift: expected -{MAX_STEPS} to {MAX_STEPS} semitones, got {steps}");
            return Err(Error::Config(message));
        }
        Ok(())
    }

    /// How many samples become of `samples`.
    pub fn length(&self, samples: usize) -> usize {
        stretched_length(samples, self.rate)
    }

    /// `2^(-steps / 12)`: resampling by it restores the duration.
    fn ratio(&self) -> f64 {
        (-self.steps / 12.0).exp2()
    }
}

/// Stretches in time: the duration is divided by `rate`, the pitch stays.
///
/// # Errors
/// As [`deform`].
pub fn time_stretch(samples: &[f32], rate: f64) -> Result<Vec<f32>> {
    deform(samples, Deformation { rate, steps: 0.0 })
}

/// Shifts the pitch by `steps` semitones: every frequency is multiplied by `2^(steps / 12)`, the duration stays.
///
/// # Errors
/// As [`deform`].
pub fn pitch_shift(samples: &[f32], steps: f64) -> Result<Vec<f32>> {
    deform(samples, Deformation { rate: 1.0, steps })
}

/// Deforms a whole signal; for parts of many, see [`Deformer`].
///
/// # Errors
/// As [`Deformer::pieces`].
pub fn deform(samples: &[f32], deformation: Deformation) -> Result<Vec<f32>> {
    let whole = Wanted { deformation, ranges: std::iter::once(0..deformation.length(samples.len())).collect() };
    let pieces = Deformer::new().pieces(samples, &[whole])?;
    Ok(pieces.into_iter().flatten().flatten().collect())
}

/// What is wanted of one deformation of a track.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Which.
    pub deformation: Deformation,
    /// Samples of the deformed signal, none beyond [`Deformation::length`].
    pub ranges: Vec<Range<usize>>,
}

/// Tables and FFT plans of the phase vocoder, computed once and shared by threads.
pub struct Deformer {
    vocoder: Vocoder,
    /// Resamplers that no thread is using, with the steps they are for: to plan one takes longer than to use it.
    pitches: Mutex<Vec<(f64, Pitch)>>,
}

impl Default for Deformer {
    fn default() -> Self {
        Self::new()
    }
}

impl Deformer {
    /// Plans the vocoder.
    pub fn new() -> Self {
        Deformer { vocoder: Vocoder::new(), pitches: Mutex::default() }
    }

    /// The wanted pieces of a track, as `[wanted][range]`: each is bit for bit what stands there in the whole deformed
    /// track, but only what is heard in the pieces is computed, and all deformations share one analysis.
    ///
    /// # Units
    /// Samples of any rate; the rate is the same before and after.
    ///
    /// # Errors
    /// [`Error::Config`]: a deformation that makes no sense, a range beyond the deformed track's end, samples that are not
    /// finite or so loud that the result is not.
    pub fn pieces(&self, samples: &[f32], wanted: &[Wanted]) -> Result<Vec<Vec<Vec<f32>>>> {
        let mut deforming = self.begin(samples.len(), wanted)?;
        deforming.push(samples)?;
        deforming.finish()
    }

    /// [`Deformer::pieces`] of a track of `length` samples that come block by block.
    ///
    /// # Errors
    /// [`Error::Config`]: a deformation that makes no sense, a range beyond the deformed track's end.
    pub fn begin<'a>(&'a self, length: usize, wanted: &'a [Wanted]) -> Result<Deforming<'a>> {
        let mut pitches: Vec<(f64, Pitch)> = Vec::new();
        let mut requests = Vec::with_capacity(wanted.len());
        for Wanted { deformation, ranges } in wanted {
            deformation.check()?;
            let deformed = deformation.length(length);
            if let Some(range) = ranges.iter().find(|range| range.start > range.end || range.end > deformed) {
                let message = format!("cannot deform: samples {range:?} of {deformed} ({deformation}) do not exist");
                return Err(Error::Config(message));
            }
            let (steps, rate) = (deformation.steps, deformation.rate * deformation.ratio());
            if steps != 0.0 && !pitches.iter().any(|(known, _)| *known == steps) {
                pitches.push((steps, self.pitch(deformation)?));
            }
            let stretched = stretched_length(length, rate);
            let source = |range: &Range<usize>| match pitches.iter().find(|(known, _)| *known == steps) {
                Some((_, pitch)) => pitch.source(range, stretched),
                None => range.clone(),
            };
            requests.push(Request { rate, ranges: ranges.iter().map(source).collect() });
        }
        Ok(Deforming { deformer: self, wanted, pitches, stretch: self.vocoder.begin(length, &requests), seen: 0 })
    }

    /// The resampler of a deformation, for one thread alone.
    fn pitch(&self, deformation: &Deformation) -> Result<Pitch> {
        let mut free = self.pitches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = free.iter().position(|(steps, _)| *steps == deformation.steps) {
            return Ok(free.swap_remove(place).1);
        }
        drop(free);
        Pitch::new(deformation.ratio()).map_err(Error::Config)
    }
}

/// A track on its way through a [`Deformer`].
pub struct Deforming<'a> {
    deformer: &'a Deformer,
    wanted: &'a [Wanted],
    pitches: Vec<(f64, Pitch)>,
    stretch: Stretch<'a>,
    /// Samples that have come.
    seen: usize,
}

impl Deforming<'_> {
    /// Takes the next samples of the track.
    ///
    /// # Errors
    /// [`Error::Config`]: samples that are not finite.
    pub fn push(&mut self, samples: &[f32]) -> Result<()> {
        if let Some(at) = samples.iter().position(|sample| !sample.is_finite()) {
            return Err(Error::Config(format!("cannot deform: sample {} is {}", self.seen + at, samples[at])));
        }
        self.seen += samples.len();
        self.stretch.push(samples);
        Ok(())
    }

    /// The wanted pieces, as `[wanted][range]`, once all samples have come.
    ///
    /// # Errors
    /// [`Error::Config`]: samples so loud that the result is not finite.
    pub fn finish(self) -> Result<Vec<Vec<Vec<f32>>>> {
        let Deforming { deformer, wanted, mut pitches, stretch, .. } = self;
        let mut all = stretch.finish();
        for (Wanted { deformation, ranges }, pieces) in wanted.iter().zip(&mut all) {
            if let Some((_, pitch)) = pitches.iter_mut().find(|(known, _)| *known == deformation.steps) {
                for (piece, range) in pieces.iter_mut().zip(ranges) {
                    *piece = pitch.resample(piece, range).map_err(Error::Config)?;
                }
            }
            if pieces.iter().flatten().any(|sample| !sample.is_finite()) {
                return Err(Error::Config(format!("cannot deform ({deformation}): too loud; full scale is 1")));
            }
        }
        deformer.pitches.lock().unwrap_or_else(PoisonError::into_inner).extend(pitches);
        Ok(all)
    }
}

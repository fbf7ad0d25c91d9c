//! The spectrogram of a file of any length: decoded, transformed and forgotten block by block.

use std::collections::TryReserveError;
use std::path::Path;

use rayon::prelude::*;

use super::decode::{self, Part, Silence};
use super::{FrontEnd, Transform};
use crate::error::{Error, Result};

/// Frames that one thread transforms at a time.
const BLOCK: usize = 1024;

/// Why a spectrogram does not fit into memory, and what to do.
const TOO_LONG: &str = "too long: its spectrogram does not fit into memory; take a part with --start and --seconds";

/// The spectrogram of a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Log amplitudes (nepers) `[bins, frames]`, row by row; frame t is centred on sample `t * hop_length`.
    pub values: Vec<f32>,
    /// Frequency bins.
    pub bins: usize,
    /// Frames.
    pub frames: usize,
    /// Samples at [`SAMPLE_RATE`](super::SAMPLE_RATE) that they were made of.
    pub samples: u64,
    /// What is wrong with the file and how it was bridged, one line each.
    pub notes: Vec<String>,
}

impl Features {
    /// Of `part` of the audio file `path`, in parallel and in little more memory than the result needs.
    ///
    /// Outside of the part is silence, as it is outside of the file.
    ///
    /// # Errors
    /// Those of [`decode::stream`]; settings that make no sense; samples so loud that the spectrogram overflows.
    pub fn of_file(path: &Path, front_end: &FrontEnd, part: Part) -> Result<Features> {
        let mut blocks = Blocks::new(front_end)?;
        let full = |error: TryReserveError| Error::audio(path, format!("{TOO_LONG} ({error})"));
        let heard = decode::stream(path, part, &mut |samples| blocks.push(samples).map_err(full))?;
        let mut notes = heard.notes;
        notes.extend(heard.silence.filter(|silence| *silence == Silence::Cancelled).map(|silence| silence.to_string()));
        let features = Features { notes, ..blocks.finish().map_err(full)? };
        if features.values.iter().any(|value| !value.is_finite()) {
            return Err(Error::audio(path, "too loud: its spectrogram overflows; full scale is 1"));
        }
        Ok(features)
    }
}

/// A transform fed block by block. A frame only depends on the samples around it, so blocks of frames are transformed
/// with as many frames more on either side as reach that far, which are then dropped.
struct Blocks {
    plan: Box<dyn Transform>,
    hop: usize,
    /// Frames more on either side.
    margin: usize,
    /// The first sample that is still held is that of this frame.
    base: usize,
    held: Vec<f32>,
    /// Frames done.
    done: usize,
    rows: Vec<Vec<f32>>,
}

impl Blocks {
    fn new(front_end: &FrontEnd) -> Result<Self> {
        let plan = front_end.plan()?;
        let hop = front_end.hop_length();
        let margin = front_end.reach().div_ceil(hop);
        let rows = vec![Vec::new(); front_end.bins()];
        Ok(Blocks { plan, hop, margin, base: 0, held: Vec::new(), done: 0, rows })
    }

    fn push(&mut self, samples: &[f32]) -> std::result::Result<(), TryReserveError> {
        self.held.try_reserve(samples.len())?;
        self.held.extend_from_slice(samples);
        let batch = BLOCK * rayon::current_num_threads();
        while self.held.len() >= self.at(self.done + batch + self.margin) {
            self.transform(batch)?;
        }
        Ok(())
    }

    /// Where the centre of `frame` lies in `held`.
    fn at(&self, frame: usize) -> usize {
        (frame - self.base).saturating_mul(self.hop)
    }

    /// Transforms the next `frames` frames, and forgets the samples that no later frame needs.
    fn transform(&mut self, frames: usize) -> std::result::Result<(), TryReserveError> {
        let block = |first: usize| {
            let last = (first + BLOCK).min(self.done + frames);
            let from = first.saturating_sub(self.margin);
            let samples = &self.held[self.at(from)..self.held.len().min(self.at(last + self.margin))];
            let columns = 1 + samples.len() / self.hop;
            let mut values = vec![0.0; self.rows.len() * columns];
            self.plan.transform(samples, &mut values);
            (values, columns, first - from..last - from)
        };
        let firsts: Vec<usize> = (self.done..self.done + frames).step_by(BLOCK).collect();
        let blocks: Vec<_> = firsts.into_par_iter().map(block).collect();
        for (values, columns, kept) in blocks {
            for (row, values) in self.rows.iter_mut().zip(values.chunks_exact(columns)) {
                row.try_reserve(kept.len())?;
                row.extend_from_slice(&values[kept.clone()]);
            }
        }
        self.done += frames;
        let base = self.done.saturating_sub(self.margin);
        self.held.drain(..self.at(base).min(self.held.len()));
        self.base = base;
        Ok(())
    }

    fn finish(mut self) -> std::result::Result<Features, TryReserveError> {
        let samples = self.base * self.hop + self.held.len();
        let frames = 1 + samples / self.hop;
        self.transform(frames - self.done)?;
        let bins = self.rows.len();
        let mut values = Vec::new();
        values.try_reserve_exact(bins.saturating_mul(frames))?;
        // each row is freed as soon as it is copied
        self.rows.into_iter().for_each(|row| values.extend(row));
        Ok(Features { values, bins, frames, samples: samples as u64, notes: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::Kind;

    #[test]
    fn blocks_make_what_the_whole_makes() {
        let batch = BLOCK * rayon::current_num_threads();
        for (kind, lengths) in [
            (Kind::Mel, vec![0, 1, 255, 256, 20_462, 256 * BLOCK - 1, 256 * (batch + 1), 256 * 2 * batch + 77]),
            (Kind::Linear, vec![3, 256 * (batch + 2)]),
            (Kind::Cqt, vec![3, 256 * (batch + 50)]),
            (Kind::Cwt, vec![3, 256 * (batch + 50)]),
        ] {
            let front_end = FrontEnd::from(kind);
            for samples in lengths {
                let signal: Vec<f32> =
                    (0..samples as u32).map(|i| crate::rng::pcg(i) as f32 / 2f32.powi(31) - 1.0).collect();
                let mut whole = vec![0.0; front_end.bins() * front_end.frames(samples)];
                front_end.plan().unwrap().transform(&signal, &mut whole);
                for pieces in [70_001, usize::MAX] {
                    let mut blocks = Blocks::new(&front_end).unwrap();
                    signal.chunks(pieces).for_each(|piece| blocks.push(piece).unwrap());
                    let features = blocks.finish().unwrap();
                    assert_eq!((features.frames, features.samples), (front_end.frames(samples), samples as u64));
                    let error = features.values.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(error < 1e-5, "{kind:?}, {samples} samples in pieces of {pieces}: off by {error}");
                }
            }
        }
    }
}

//! The samples of one track, of any length, in bounded memory.
//!
//! A corpus needs the drawn segments of a track and no more, but where they are drawn depends on the track's length. A
//! track of up to ten minutes is decoded once and held. A longer one is decoded twice: once for its length, and once for
//! the segments.

use std::path::{Path, PathBuf};

use crate::audio::decode::{self, Part};
use crate::audio::{SAMPLE_RATE, SEGMENT_SAMPLES};
use crate::error::{Error, Result};

/// Longer tracks are not held: ten minutes, 53 MB.
const HELD: usize = 600 * SAMPLE_RATE as usize;

/// A track that has been decoded and found usable.
pub(super) struct Recording {
    path: PathBuf,
    /// All samples, unless the track is too long.
    held: Option<Vec<f32>>,
    length: usize,
    /// A digest of the samples of a file.
    pub digest: Option<blake3::Hash>,
}

impl Recording {
    /// Decodes the audio file `path`. Also returns the notes of [`decode::stream`].
    ///
    /// # Errors
    /// The errors of [`decode::stream`]; a track that is shorter than a segment, or silent.
    pub fn read(path: &Path) -> Result<(Recording, Vec<String>)> {
        Self::read_holding(path, HELD)
    }

    /// [`Recording::read`], where tracks of up to `most` samples are held.
    fn read_holding(path: &Path, most: usize) -> Result<(Recording, Vec<String>)> {
        let (mut held, mut length, mut digest) = (Some(Vec::new()), 0, blake3::Hasher::new());
        let heard = decode::stream(path, Part::default(), &mut |block| {
            length += block.len();
            digest.update(bytemuck::cast_slice(block));
            // without memory for all samples, the segments alone may still fit
            held = held.take().filter(|held: &Vec<f32>| held.len() + block.len() <= most).and_then(|mut held| {
                held.try_reserve(block.len()).ok()?;
                held.extend_from_slice(block);
                Some(held)
            });
            Ok(())
        })?;
        if length < SEGMENT_SAMPLES {
            return Err(Error::audio(path, too_short(length)));
        }
        if let Some(silence) = heard.silence {
            return Err(Error::audio(path, silence.to_string()));
        }
        Ok((Recording { path: path.to_owned(), held, length, digest: Some(digest.finalize()) }, heard.notes))
    }

    /// A track whose samples are at hand.
    pub fn of(samples: Vec<f32>) -> Recording {
        Recording { path: PathBuf::new(), length: samples.len(), held: Some(samples), digest: None }
    }

    /// How many samples it has.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Passes all samples to `sink`, block by block.
    ///
    /// # Errors
    /// The errors of [`decode::stream`], a file that has changed since, what `sink` returns.
    pub fn stream(&self, sink: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        if let Some(samples) = &self.held {
            return sink(samples);
        }
        let mut length = 0;
        decode::stream(&self.path, Part::default(), &mut |block| {
            length += block.len();
            if length > self.length { Err(self.changed()) } else { sink(block) }
        })?;
        if length == self.length { Ok(()) } else { Err(self.changed()) }
    }

    /// Calls `each` with the number of every segment and its [`SEGMENT_SAMPLES`] samples, in the order in which they
    /// lie in the track. `starts` says where each begins.
    ///
    /// # Errors
    /// Those of [`Recording::stream`]; what `each` returns.
    pub fn segments(&self, starts: &[usize], each: &mut dyn FnMut(usize, &[f32]) -> Result<()>) -> Result<()> {
        if let Some(samples) = &self.held {
            return starts.iter().enumerate().try_for_each(|(i, &start)| each(i, &samples[start..][..SEGMENT_SAMPLES]));
        }
        let mut order: Vec<usize> = (0..starts.len()).collect();
        order.sort_by_key(|&i| starts[i]);
        let mut order = order.into_iter().peekable();
        // the samples from `base` on that a segment may still need
        let (mut window, mut base) = (Vec::new(), 0);
        self.stream(&mut |block| {
            window.extend_from_slice(block);
            let end = base + window.len();
            while let Some(i) = order.next_if(|&i| starts[i] + SEGMENT_SAMPLES <= end) {
                each(i, &window[starts[i] - base..][..SEGMENT_SAMPLES])?;
            }
            let next = order.peek().map_or(end, |&i| starts[i].min(end));
            window.drain(..next - base);
            base = next;
            Ok(())
        })
    }

    fn changed(&self) -> Error {
        Error::data(&self.path, "changed while it was read: start again")
    }
}

fn too_short(length: usize) -> String {
    let seconds = SEGMENT_SAMPLES as f64 / f64::from(SAMPLE_RATE);
    format!("too short: {length} samples at {SAMPLE_RATE} Hz, one segment needs {SEGMENT_SAMPLES} ({seconds:.2} s)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::wav;

    #[test]
    fn a_long_track_has_the_segments_of_a_short_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        let samples: Vec<f32> = (0..70_001).map(|i| (crate::rng::pcg(i) as u16 as i16) as f32 / 32_768.0).collect();
        std::fs::write(&path, wav::bytes(&samples).unwrap()).unwrap();
        let (short, _) = Recording::read(&path).unwrap();
        let (long, _) = Recording::read_holding(&path, 50_000).unwrap();
        assert!(short.held.is_some() && long.held.is_none());
        assert_eq!((short.length(), long.length(), short.digest), (70_001, 70_001, long.digest));

        let last = samples.len() - SEGMENT_SAMPLES;
        let starts = [last, 7, 0, 30_000, 30_001, 7, last];
        let heard = |recording: &Recording| {
            let mut heard = vec![Vec::new(); starts.len()];
            let mut each = |i: usize, segment: &[f32]| {
                heard[i] = segment.to_vec();
                Ok(())
            };
            recording.segments(&starts, &mut each).unwrap();
            heard
        };
        let expected: Vec<_> = starts.iter().map(|&start| samples[start..start + SEGMENT_SAMPLES].to_vec()).collect();
        assert!(heard(&short) == expected);
        assert!(heard(&long) == expected);

        // another length in the meantime
        for length in [60_000, 70_002] {
            let samples: Vec<f32> = (0..length).map(|i| (i as f32 / 9.0).sin()).collect();
            std::fs::write(&path, wav::bytes(&samples).unwrap()).unwrap();
            let error = long.segments(&[0, 69_000 - SEGMENT_SAMPLES], &mut |_, _| Ok(())).unwrap_err().one_line();
            assert!(error.ends_with("changed while it was read: start again"), "{error}");
        }
    }

    #[test]
    fn a_track_of_less_than_a_segment_is_too_short() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        let tone: Vec<f32> = (0..SEGMENT_SAMPLES).map(|i| (i as f32 / 9.0).sin()).collect();
        std::fs::write(&path, wav::bytes(&tone[1..]).unwrap()).unwrap();
        let error = Recording::read(&path).err().unwrap().one_line();
        assert!(error.contains("too short: 20461 samples at 22050 Hz, one segment needs 20462 (0.93 s)"), "{error}");
        std::fs::write(&path, wav::bytes(&tone).unwrap()).unwrap();
        assert_eq!(Recording::read(&path).unwrap().0.length(), SEGMENT_SAMPLES);
    }
}

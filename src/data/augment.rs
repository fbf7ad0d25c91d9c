//! Augmentation of a corpus: three random segments of each of a track's sixteen deformations.
//!
//! Deformed segments are made of every track and kept with it (and with it in the cache, whatever the split); when the
//! corpus is split ([`super::split`]) those of the training tracks join the training set and the others are dropped, so
//! that nothing deformed is ever tested on, and nothing that is tested on is ever trained on in disguise.

use std::ops::Range;

use rand::RngExt;

use super::recording::Recording;
use crate::audio::augment::{DEFORMATIONS, Deformation, Deformer, Wanted};
use crate::audio::{SEGMENT_SAMPLES, Transform};
use crate::error::Result;
use crate::rng;

/// Random segments of each deformation of a track; the study's 3.
pub const SEGMENTS: usize = 3;

/// Deformed segments of a track: the study's 48.
pub const ROWS: usize = DEFORMATIONS.len() * SEGMENTS;

/// What [`Set::deformed`](super::Set::deformed) says of the deformed rows of a track, in their order.
pub(super) fn marks() -> impl Iterator<Item = u8> {
    (0..ROWS).map(|row| (row / SEGMENTS) as u8 + 1)
}

/// Where the segments of a deformed track start: uniform over `0 ..= length - SEGMENT_SAMPLES`, or 0 where it is shorter
/// than a segment.
///
/// They depend on the seed, on the track's class and file stem and on the deformation alone. `samples` is the length of
/// the track before it is deformed.
pub fn starts(seed: u64, class: &str, stem: &str, deformation: &Deformation, samples: usize) -> [usize; SEGMENTS] {
    let last = deformation.length(samples).saturating_sub(SEGMENT_SAMPLES);
    let mut rng = rng::stream(seed, &format!("augment/{class}/{stem}/{deformation}"));
    std::array::from_fn(|_| rng.random_range(0..=last as u64) as usize)
}

/// Writes the spectrograms of a track's deformed segments to `out`, `[ROWS, bins, frames]`: deformation by deformation, in
/// the order of [`DEFORMATIONS`]. A segment that runs over the end of its deformed track is filled up with zeros.
///
/// # Errors
/// The errors of [`Deformer::pieces`] and of [`Recording::stream`].
pub(super) fn transform(
    deformer: &Deformer,
    plan: &dyn Transform,
    recording: &Recording,
    (seed, class, stem): (u64, &str, &str),
    out: &mut [f32],
) -> Result<()> {
    let samples = recording.length();
    let wanted = DEFORMATIONS.map(|deformation| {
        let length = deformation.length(samples);
        let range = |start: usize| -> Range<usize> { start..(start + SEGMENT_SAMPLES).min(length) };
        Wanted { deformation, ranges: starts(seed, class, stem, &deformation, samples).map(range).to_vec() }
    });
    let mut deforming = deformer.begin(samples, &wanted)?;
    recording.stream(&mut |block| deforming.push(block))?;
    let pieces = deforming.finish()?;
    let row = out.len() / ROWS;
    for (mut piece, out) in pieces.into_iter().flatten().zip(out.chunks_exact_mut(row)) {
        piece.resize(SEGMENT_SAMPLES, 0.0);
        plan.transform(&piece, out);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::FrontEnd;
    use crate::audio::augment::deform;

    #[test]
    fn starts_stay_inside_and_depend_on_track_and_deformation_alone() {
        let [a, b] = [DEFORMATIONS[0], DEFORMATIONS[1]];
        let drawn = starts(1, "blues", "blues.00000", &a, 661_500);
        assert!(drawn.iter().all(|&start| start + SEGMENT_SAMPLES <= 3_307_500), "{drawn:?}");
        assert_eq!(drawn, starts(1, "blues", "blues.00000", &a, 661_500));
        for other in [
            starts(1, "blues", "blues.00000", &b, 661_500),
            starts(2, "blues", "blues.00000", &a, 661_500),
            starts(1, "blues", "blues.00001", &a, 661_500),
            starts(1, "jazz", "blues.00000", &a, 661_500),
        ] {
            assert_ne!(drawn, other);
        }
        // 25,000 samples at 1.5 times the speed are 16,667: less than a segment
        assert_eq!(starts(1, "a", "b", &DEFORMATIONS[15], 25_000), [0; 3]);
    }

    #[test]
    fn a_row_is_a_piece_of_the_deformed_track_filled_up_with_zeros() {
        let samples: Vec<f32> = (0..25_000).map(|i| crate::rng::pcg(i) as f32 / 2f32.powi(32) - 0.5).collect();
        let recording = Recording::of(samples.clone());
        let front_end = FrontEnd::default();
        let plan = front_end.plan().unwrap();
        let row = front_end.bins() * front_end.frames(SEGMENT_SAMPLES);
        let mut rows = vec![f32::NAN; ROWS * row];
        transform(&Deformer::new(), &*plan, &recording, (7, "a", "b"), &mut rows).unwrap();
        for (i, mark) in marks().enumerate() {
            let deformation = DEFORMATIONS[usize::from(mark) - 1];
            let whole = deform(&samples, deformation).unwrap();
            let start = starts(7, "a", "b", &deformation, samples.len())[i % SEGMENTS];
            let mut piece = whole[start..whole.len().min(start + SEGMENT_SAMPLES)].to_vec();
            assert_eq!(piece.len() < SEGMENT_SAMPLES, deformation.rate > 1.2, "{deformation}");
            piece.resize(SEGMENT_SAMPLES, 0.0);
            let mut expected = vec![0.0; row];
            plan.transform(&piece, &mut expected);
            assert_eq!(rows[i * row..(i + 1) * row], expected, "row {i}, {deformation}");
        }
    }
}

//! From tracks to a corpus: random segments of every track, each through the front end.
//!
//! Where a track's samples come from is the caller's affair: a decoder ([`folder`](super::folder)) or the built-in
//! synthesiser ([`load`](super::load)).

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Content, Corpus, Meta, Set, augment};
use crate::audio::augment::Deformer;
use crate::audio::{FrontEnd, SAMPLE_RATE, SEGMENT_SAMPLES, decode};
use crate::error::{Error, Result};
use crate::rng;

/// How a corpus is made of tracks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The representation.
    pub front_end: FrontEnd,
    /// Random segments a track; the study's 15.
    pub segments: usize,
    /// Decides where the segments start.
    pub seed: u64,
    /// Whether every track also gets its [`augment::ROWS`] deformed segments.
    pub augment: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { front_end: FrontEnd::default(), segments: 15, seed: 1, augment: false }
    }
}

/// Called with (done, total) from any thread, not always in order.
pub type Progress<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// Where the random segments of a track of `samples` samples start: `segments` numbers, uniform over
/// `0 ..= samples - SEGMENT_SAMPLES`.
///
/// They depend on the seed and on the track's class and file stem alone, not on its neighbours, their order or the
/// number of threads. A track shorter than one segment has none.
pub fn starts(seed: u64, class: &str, stem: &str, samples: usize, segments: usize) -> Vec<usize> {
    let Some(last) = samples.checked_sub(SEGMENT_SAMPLES) else { return Vec::new() };
    let mut rng = rng::stream(seed, &format!("segments/{class}/{stem}"));
    (0..segments).map(|_| rng.random_range(0..=last as u64) as usize).collect()
}

/// The random segments of a track: where each starts, in samples, and its [`SEGMENT_SAMPLES`] samples.
pub(super) fn pieces<'a>(
    settings: &Settings,
    class: &str,
    stem: &str,
    samples: &'a [f32],
) -> impl Iterator<Item = (usize, &'a [f32])> {
    let starts = starts(settings.seed, class, stem, samples.len(), settings.segments);
    starts.into_iter().map(|start| (start, &samples[start..start + SEGMENT_SAMPLES]))
}

/// Why finite samples have no finite spectrogram.
pub(super) const TOO_LOUD: &str = "too loud: its spectrogram overflows; full scale is 1";

/// What is known of a corpus of the study's segments in this front end.
pub(super) fn meta(name: String, classes: Vec<String>, front_end: &FrontEnd) -> Meta {
    let frames = front_end.frames(SEGMENT_SAMPLES);
    Meta { name, synthetic: false, classes, bins: front_end.bins(), frames, front_end: front_end.clone() }
}

/// A track before it is decoded.
pub(super) struct Track {
    /// Index into the classes.
    pub class: usize,
    /// The file's name without its ending.
    pub stem: String,
    /// The track's file relative to the corpus, for messages.
    pub path: PathBuf,
}

/// Makes [`Settings::segments`] spectrograms of every track, and those of its deformed segments where they are wanted, in
/// the order of `tracks` and in parallel.
///
/// `samples` gives the samples of track i, mono at 22,050 Hz. A track that it refuses, or that is too short, silent or
/// not finite, is left out and listed with the reason.
///
/// # Errors
/// A setting that makes no sense, or a class with fewer than two good tracks (it could not be split).
pub(super) fn gather(
    meta: Meta,
    tracks: &[Track],
    samples: impl Fn(usize) -> Result<Vec<f32>> + Sync,
    settings: &Settings,
    progress: Progress,
) -> Result<Corpus> {
    let row = meta.bins * meta.frames;
    if settings.segments == 0 || row == 0 {
        let (segments, Meta { bins, frames, .. }) = (settings.segments, &meta);
        let message =
            format!("{segments} segments a track of {bins} bins x {frames} frames: at least 1 each is needed");
        return Err(Error::Config(message));
    }
    let classes = &meta.classes;
    let plan = settings.front_end.plan()?;
    let deformer = settings.augment.then(Deformer::new);
    let rows = settings.segments + if settings.augment { augment::ROWS } else { 0 };
    let mut spectrograms = zeros(&[tracks.len(), rows, row])?;

    let done = AtomicUsize::new(0);
    let one = |(i, (out, track)): (usize, (&mut [f32], &Track))| {
        let result = samples(i).map_err(reason).and_then(|samples| {
            check(&samples)?;
            let (seed, class, stem) = (settings.seed, &classes[track.class], &track.stem);
            let (original, deformed) = out.split_at_mut(settings.segments * row);
            for ((_, piece), out) in pieces(settings, class, stem, &samples).zip(original.chunks_exact_mut(row)) {
                plan.transform(piece, out);
            }
            if let Some(deformer) = &deformer {
                augment::transform(deformer, &*plan, &samples, (seed, class, stem), deformed).map_err(reason)?;
            }
            // absurdly loud floats can overflow in the front end
            if out.iter().all(|value| value.is_finite()) { Ok(()) } else { Err(TOO_LOUD.into()) }
        });
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, tracks.len());
        result
    };
    let track_length = rows * row;
    let results: Vec<_> = spectrograms.par_chunks_exact_mut(track_length).zip(tracks).enumerate().map(one).collect();

    // close the gaps that bad tracks left
    let (mut set, mut skipped, mut good) = (Set::default(), Vec::new(), vec![0; classes.len()]);
    for (i, (track, result)) in tracks.iter().zip(results).enumerate() {
        if let Err(reason) = result {
            skipped.push((track.path.clone(), reason));
            continue;
        }
        let number = set.track_names.len();
        spectrograms.copy_within(i * track_length..(i + 1) * track_length, number * track_length);
        set.labels.extend(std::iter::repeat_n(track.class as u32, rows));
        set.tracks.extend(std::iter::repeat_n(number as u32, rows));
        if settings.augment {
            set.deformed.extend(std::iter::repeat_n(0, settings.segments).chain(augment::marks()));
        }
        set.track_names.push(track_name(&classes[track.class], &track.stem));
        good[track.class] += 1;
    }
    spectrograms.truncate(set.len() * row);
    spectrograms.shrink_to_fit();
    set.spectrograms = spectrograms;

    if let Some(class) = good.iter().position(|&n| n < 2) {
        let all = tracks.iter().filter(|track| track.class == class).count();
        let mut message = format!(
            "class {} has {} usable of {all} tracks; at least 2 are needed, one to train on and one to test on",
            classes[class], good[class]
        );
        let mut of_class = tracks.iter().filter(|track| track.class == class).map(|track| &track.path);
        if let Some((path, reason)) = of_class.find_map(|path| skipped.iter().find(|(skipped, _)| skipped == path)) {
            message += &format!(" ({}: {reason})", path.display());
        }
        return Err(Error::data(&meta.name, message));
    }
    Ok(Corpus { meta, content: Content::Whole(set), skipped, notes: Vec::new() })
}

/// A zeroed vector of the product of `sizes`; an error where it does not fit into memory.
pub(super) fn zeros(sizes: &[usize]) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    sizes
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(size))
        .and_then(|length| values.try_reserve_exact(length).ok().map(|()| values.resize(length, 0.0)))
        .ok_or_else(|| Error::Config(format!("spectrograms {sizes:?} do not fit into memory; take fewer segments")))?;
    Ok(values)
}

/// `blues.00012` as it is; `12` of class blues becomes `blues/12`.
pub(super) fn track_name(class: &str, stem: &str) -> String {
    if stem.strip_prefix(class).is_some_and(|rest| rest.starts_with('.')) {
        stem.to_owned()
    } else {
        format!("{class}/{stem}")
    }
}

/// An error without its path, which stands beside it in the list of skipped tracks.
pub(super) fn reason(error: Error) -> String {
    match error {
        Error::Audio { message, .. } | Error::Data { message, .. } => message,
        other => other.one_line(),
    }
}

/// What a track must be: long enough, finite, not silent.
pub(super) fn check(samples: &[f32]) -> std::result::Result<(), String> {
    let length = samples.len();
    if length < SEGMENT_SAMPLES {
        return Err(format!(
            "too short: {length} samples at {SAMPLE_RATE} Hz, one segment needs {SEGMENT_SAMPLES} ({:.2} s)",
            SEGMENT_SAMPLES as f64 / f64::from(SAMPLE_RATE)
        ));
    }
    if let Some(at) = samples.iter().position(|sample| !sample.is_finite()) {
        return Err(format!("sample {at} is {}", samples[at]));
    }
    if decode::is_silent(samples) { Err("silent".into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_cover_the_track_evenly_and_only_depend_on_their_own_track() {
        let samples = SEGMENT_SAMPLES + 9;
        let drawn = starts(1, "blues", "blues.00000", samples, 10_000);
        let mut counts = [0; 10];
        drawn.iter().for_each(|&start| counts[start] += 1);
        // each of the 10 places is drawn 1000 times, within 5 standard deviations of 30
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
        assert_eq!(drawn, starts(1, "blues", "blues.00000", samples, 10_000));
        assert_eq!(drawn[..3], starts(1, "blues", "blues.00000", samples, 3), "more segments keep the first ones");
        assert_ne!(drawn, starts(2, "blues", "blues.00000", samples, 10_000));
        assert_ne!(drawn, starts(1, "blues", "blues.00001", samples, 10_000));
        assert_ne!(drawn, starts(1, "jazz", "blues.00000", samples, 10_000));
    }

    #[test]
    fn a_track_of_one_segment_starts_at_zero_and_a_shorter_one_nowhere() {
        assert_eq!(starts(1, "a", "b", SEGMENT_SAMPLES, 3), [0, 0, 0]);
        assert_eq!(starts(1, "a", "b", SEGMENT_SAMPLES - 1, 3), [0; 0]);
    }

    #[test]
    fn tracks_are_checked() {
        let tone: Vec<f32> = (0..SEGMENT_SAMPLES).map(|i| (i as f32 / 9.0).sin()).collect();
        assert_eq!(check(&tone), Ok(()));
        assert!(check(&tone[1..]).unwrap_err().contains("too short: 20461 samples"));
        assert_eq!(check(&vec![0.0; SEGMENT_SAMPLES]), Err("silent".into()));
        let mut broken = tone;
        broken[7] = f32::NAN;
        assert_eq!(check(&broken), Err("sample 7 is NaN".into()));
    }

    #[test]
    fn names_are_unique_across_classes() {
        assert_eq!(track_name("blues", "blues.00012"), "blues.00012");
        assert_eq!(track_name("blues", "00012"), "blues/00012");
        assert_eq!(track_name("pop", "popular"), "pop/popular");
    }

    #[test]
    fn sizes_that_do_not_fit_are_an_error() {
        assert!(zeros(&[usize::MAX, 2]).is_err());
        assert!(zeros(&[usize::MAX / 8]).is_err());
        assert_eq!(zeros(&[2, 3]).unwrap(), [0.0; 6]);
    }
}

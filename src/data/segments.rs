//! From tracks to a corpus: random segments of every track, each through the front end.
//!
//! Where a track's samples come from is the caller's affair: a decoder ([`folder`](super::folder)) or the built-in
//! synthesiser ([`load`](super::load)).

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::recording::Recording;
use super::{Content, Corpus, Meta, Set, augment};
use crate::audio::augment::Deformer;
use crate::audio::{FrontEnd, SEGMENT_SAMPLES, Transform};
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
    /// The file's path within the class, without its ending: with the class and the seed it decides where segments start.
    pub stem: String,
    /// The track's name in results; no other track of the corpus has it.
    pub name: String,
    /// The track's file relative to the corpus, for messages.
    pub path: PathBuf,
}

/// Makes [`Settings::segments`] spectrograms of every track, and those of its deformed segments where they are wanted, in
/// the order of `tracks` and in parallel.
///
/// `recording` gives track i. A track that it refuses, or whose spectrograms are not finite, is left out and listed with
/// the reason. Tracks of one sound are all used; a note names them.
///
/// # Errors
/// A setting that makes no sense, a class with fewer than two good tracks (it could not be split), or a file that could
/// not be read although nothing is known to be wrong with it.
pub(super) fn gather(
    meta: Meta,
    tracks: &[Track],
    recording: impl Fn(usize) -> Result<Recording> + Sync,
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
    let track_length = rows * row;
    let mut spectrograms = zeros(&[tracks.len(), rows, row])?;

    let done = AtomicUsize::new(0);
    let one = |(i, (out, track)): (usize, (&mut [f32], &Track))| {
        let result = recording(i).and_then(|recording| {
            let class = &classes[track.class];
            fill(&recording, (settings, class, &track.stem), (&*plan, deformer.as_ref()), out)?;
            Ok(recording.digest)
        });
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, tracks.len());
        match result {
            // the fault of the disk or of the machine, which may be gone next time
            Err(error) if !is_of_content(&error) => Err(error),
            result => Ok(result.map_err(reason)),
        }
    };
    let results = spectrograms.par_chunks_exact_mut(track_length).zip(tracks).enumerate().map(one);
    let results: Vec<_> = results.collect::<Result<_>>()?;

    // close the gaps that bad tracks left
    let (mut set, mut skipped, mut good) = (Set::default(), Vec::new(), vec![0; classes.len()]);
    let mut sounds: Vec<(blake3::Hash, &Path)> = Vec::new();
    for (i, (track, result)) in tracks.iter().zip(results).enumerate() {
        match result {
            Ok(digest) => sounds.extend(digest.map(|digest| (digest, track.path.as_path()))),
            Err(reason) => {
                skipped.push((track.path.clone(), reason));
                continue;
            }
        }
        let number = set.track_names.len();
        spectrograms.copy_within(i * track_length..(i + 1) * track_length, number * track_length);
        set.labels.extend(std::iter::repeat_n(track.class as u32, rows));
        set.tracks.extend(std::iter::repeat_n(number as u32, rows));
        if settings.augment {
            set.deformed.extend(std::iter::repeat_n(0, settings.segments).chain(augment::marks()));
        }
        set.track_names.push(track.name.clone());
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
    Ok(Corpus { meta, content: Content::Whole(set), skipped, notes: repetitions(&sounds) })
}

/// Writes the spectrograms of a track's segments to `out`, then those of its deformed ones.
fn fill(
    recording: &Recording,
    (settings, class, stem): (&Settings, &str, &str),
    (plan, deformer): (&dyn Transform, Option<&Deformer>),
    out: &mut [f32],
) -> Result<()> {
    let rows = settings.segments + if deformer.is_some() { augment::ROWS } else { 0 };
    let row = out.len() / rows;
    let (original, deformed) = out.split_at_mut(settings.segments * row);
    let starts = starts(settings.seed, class, stem, recording.length(), settings.segments);
    recording.segments(&starts, &mut |i, segment| {
        plan.transform(segment, &mut original[i * row..][..row]);
        Ok(())
    })?;
    if let Some(deformer) = deformer {
        augment::transform(deformer, plan, recording, (settings.seed, class, stem), deformed)?;
    }
    // absurdly loud floats can overflow in the front end
    if out.iter().all(|value| value.is_finite()) { Ok(()) } else { Err(Error::Config(TOO_LOUD.into())) }
}

/// Whether an error says that a file's content is at fault, so that reading it again gives the same error. A file that
/// is closed to this user, or gone, counts as well.
pub(super) fn is_of_content(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => matches!(source.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound),
        // a file that has changed meanwhile
        Error::Data { .. } => false,
        _ => true,
    }
}

/// Names the tracks that are the same sound, sample by sample.
fn repetitions(sounds: &[(blake3::Hash, &Path)]) -> Vec<String> {
    const NAMED: usize = 20;
    let mut groups: HashMap<&blake3::Hash, Vec<&Path>> = HashMap::new();
    sounds.iter().for_each(|(digest, path)| groups.entry(digest).or_default().push(path));
    let mut groups: Vec<Vec<&Path>> = groups.into_values().filter(|paths| paths.len() > 1).collect();
    groups.sort_unstable();
    let line = |paths: &Vec<&Path>| {
        let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        format!("the same sound, and all are used: {}", paths.join(", "))
    };
    let mut notes: Vec<String> = groups.iter().take(NAMED).map(line).collect();
    if groups.len() > NAMED {
        notes.push(format!("{} more sounds are there more than once", groups.len() - NAMED));
    }
    notes
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

/// The names of tracks of `(class, stem)` in results: `blues.00012` as it is, `12` of class blues becomes `blues/12`.
///
/// A name stands for one track alone. Where two would have one (`a.b.0` of class a and of class a.b), both are named
/// after their classes.
pub(super) fn names(tracks: &[(&str, String)]) -> Vec<String> {
    let long = |class: &str, stem: &str| format!("{class}/{stem}");
    let short = |class: &str, stem: &str| {
        let is_of_class = !stem.contains('/') && stem.strip_prefix(class).is_some_and(|rest| rest.starts_with('.'));
        if is_of_class { stem.to_owned() } else { long(class, stem) }
    };
    let mut times: HashMap<String, usize> = HashMap::new();
    for (class, stem) in tracks {
        *times.entry(short(class, stem)).or_default() += 1;
    }
    let unique = |(class, stem): &(&str, String)| {
        Some(short(class, stem)).filter(|name| times[name] == 1).unwrap_or_else(|| long(class, stem))
    };
    tracks.iter().map(unique).collect()
}

/// An error without its path, which stands beside it in the list of skipped tracks.
pub(super) fn reason(error: Error) -> String {
    match error {
        Error::Audio { message, .. } | Error::Data { message, .. } => message,
        other => other.one_line(),
    }
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
    fn names_are_unique_across_classes() {
        let tracks = [
            ("blues", "blues.00012"),
            ("blues", "00012"),
            ("pop", "popular"),
            ("blues", "one/blues.00012"),
            ("a", "a.b.0"),
            ("a.b", "a.b.0"),
            ("a.b", "a.b.1"),
        ];
        let expected =
            ["blues.00012", "blues/00012", "pop/popular", "blues/one/blues.00012", "a/a.b.0", "a.b/a.b.0", "a.b.1"];
        assert_eq!(names(&tracks.map(|(class, stem)| (class, stem.to_owned()))), expected);
    }

    #[test]
    fn a_fault_of_the_disk_fails_and_one_of_the_file_skips() {
        let noise =
            || Recording::of((0..SEGMENT_SAMPLES as u32).map(|i| crate::rng::pcg(i) as f32 / 2f32.powi(32)).collect());
        let tracks: Vec<Track> = (0..6)
            .map(|i| {
                let name = format!("{i}");
                Track { class: i % 2, stem: name.clone(), path: PathBuf::from(&name), name }
            })
            .collect();
        let settings = Settings { segments: 1, ..Settings::default() };
        let gathered = |failing: &(dyn Fn() -> Error + Sync)| {
            let meta = meta("a corpus".into(), vec!["a".into(), "b".into()], &settings.front_end);
            let recording = |i: usize| if i == 3 { Err(failing()) } else { Ok(noise()) };
            gather(meta, &tracks, recording, &settings, &|_, _| {})
        };
        let of_kind = |kind: ErrorKind| move || Error::io("cannot read", "3")(kind.into());
        let corpus = gathered(&|| Error::audio("3", "damaged")).unwrap();
        assert_eq!(corpus.skipped, [(PathBuf::from("3"), "damaged".to_owned())]);
        for kind in [ErrorKind::PermissionDenied, ErrorKind::NotFound] {
            assert_eq!(gathered(&of_kind(kind)).unwrap().skipped.len(), 1);
        }
        // EIO, EMFILE
        for code in [5, 24] {
            let failing = move || Error::io("cannot read", "3")(std::io::Error::from_raw_os_error(code));
            let line = gathered(&failing).unwrap_err().one_line();
            assert!(line.starts_with("3: cannot read: "), "{line}");
        }
    }

    #[test]
    fn equal_sounds_are_named_once() {
        let [a, b] = [blake3::hash(b"a"), blake3::hash(b"b")];
        let sounds = [(a, "x/1.wav"), (b, "x/2.wav"), (a, "y/3.wav"), (a, "y/4.wav")].map(|(d, p)| (d, Path::new(p)));
        assert_eq!(repetitions(&sounds), ["the same sound, and all are used: x/1.wav, y/3.wav, y/4.wav"]);
        assert_eq!(repetitions(&sounds[..2]), [""; 0]);
    }

    #[test]
    fn sizes_that_do_not_fit_are_an_error() {
        assert!(zeros(&[usize::MAX, 2]).is_err());
        assert!(zeros(&[usize::MAX / 8]).is_err());
        assert_eq!(zeros(&[2, 3]).unwrap(), [0.0; 6]);
    }
}

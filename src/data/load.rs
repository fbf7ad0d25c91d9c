//! The front door: a corpus from whatever `--data` names, or the built-in one.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::cache::{self, Cache, Key};
use super::prepared::{self, number_tracks, numbered_classes};
use super::recording::Recording;
use super::segments::{Progress, Settings, TOO_LOUD, Track, gather, meta, zeros};
use super::{Content, Corpus, Meta, Set, folder, pickle, split, synthetic};
use crate::audio::{FrontEnd, SEGMENT_SAMPLES};
use crate::error::{Error, Result};
use crate::files;

/// Where segments come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// What `--data` named: a folder of genres, a prepared file, or the course's pickle.
    Path(PathBuf),
    /// The built-in corpus.
    Synthetic {
        /// Tracks of each of the ten genres.
        tracks_per_genre: usize,
    },
}

/// GTZAN's genres; the course's pickle has their numbers only.
pub const GTZAN: [&str; 10] =
    ["blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock"];

/// The built-in corpus's own seed. It is one fixed corpus, as GTZAN is: a run's seed draws segments and splits of it.
pub const SYNTHETIC_SEED: u64 = 2016;

/// The name of the built-in corpus wherever results are shown.
pub const SYNTHETIC_NAME: &str = "synthetic corpus";

/// Loads a corpus through the standard cache; see [`load_with`].
///
/// # Errors
/// As [`load_with`].
pub fn load(source: &Source, settings: &Settings, progress: Progress) -> Result<Corpus> {
    load_with(&Cache::standard(), source, settings, progress)
}

/// Loads a corpus: the kind of a path is decided by its content, not by its name.
///
/// A prepared file is taken as it is, with its own front end; everything else is made with `settings`.
///
/// # Errors
/// Whatever keeps the source from being a corpus, in one line.
pub fn load_with(cache: &Cache, source: &Source, settings: &Settings, progress: Progress) -> Result<Corpus> {
    settings.front_end.check()?;
    let path = match source {
        Source::Path(path) => path,
        &Source::Synthetic { tracks_per_genre } => {
            let key = || synthetic_key(settings, tracks_per_genre).map(Some);
            return cache.corpus(key, || synthetic_corpus(settings, tracks_per_genre, progress));
        }
    };
    match kind(path)? {
        Kind::Folder => {
            let listing = folder::scan(path)?;
            let make = || folder::corpus(&listing, settings, progress);
            let made = cache.corpus(|| folder_key(&listing, settings), make)?;
            Ok(named(made, listing.name))
        }
        Kind::Prepared => {
            let mut corpus = prepared::read(path)?;
            let deformed = match &corpus.content {
                Content::Whole(set) | Content::Split { train: set, .. } => set.deformed(),
            };
            if settings.augment && deformed == 0 {
                let message =
                    "holds no deformed segments, and augmentation needs audio: prepare the tracks with --augment";
                return Err(Error::data(path, message));
            }
            if deformed > 0 && !settings.augment {
                corpus.notes.push(format!("{}: its {deformed} deformed segments are trained on", path.display()));
            }
            if corpus.meta.front_end != settings.front_end {
                corpus.notes.push(format!("{}: its own front end is used, not the one asked for", path.display()));
            }
            Ok(corpus)
        }
        Kind::Pickle => {
            if settings.augment {
                let message =
                    "holds single segments, and augmentation needs the audio of whole tracks: give their folder";
                return Err(Error::data(path, message));
            }
            let key = || {
                let mut key = Key::new("pickle", &settings.front_end)?;
                key.add(cache::digest(path)?.as_bytes());
                Ok(Some(key))
            };
            let make = || from_pickle(pickle::read(path)?, path, &settings.front_end, progress);
            Ok(named(cache.corpus(key, make)?, super::name_of(path)))
        }
    }
}

/// Whether a file that replaces `path` replaces one that `source` is made of.
///
/// # Errors
/// Those of [`folder::scan`].
pub fn is_input(source: &Source, path: &Path) -> Result<bool> {
    // where a name is, whatever a link of that name leads to
    let place = |path: &Path| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some((folder.canonicalize().ok()?, path.file_name()?.to_owned()))
    };
    let Source::Path(input) = source else { return Ok(false) };
    if path.symlink_metadata().is_err() {
        return Ok(false);
    }
    // a link to the input may be replaced, the input may not
    if !input.is_dir() {
        return Ok(place(input) == place(path)
            || input.canonicalize().ok() == place(path).map(|(folder, name)| folder.join(name)));
    }
    let listing = folder::scan(input)?;
    let copies = listing.copies.iter().map(|(_, copy)| copy);
    let mut files = listing.classes.iter().flat_map(|class| &class.files).chain(copies);
    Ok(files.any(|file| place(&listing.root.join(file)) == place(path)))
}

/// What lies at a path.
pub(super) enum Kind {
    /// A folder, of genres it is hoped.
    Folder,
    /// A file that `prepare` wrote.
    Prepared,
    /// The course's pickle.
    Pickle,
}

/// Refuses a path that [`load`] would refuse at its first look.
///
/// # Errors
/// Nothing is there, it cannot be read, or it is no known kind of data.
pub fn check(path: &Path) -> Result<()> {
    kind(path).map(drop)
}

/// The kind of data at `path`, by its content.
///
/// # Errors
/// Nothing is there, it cannot be read, or it is none of them.
pub(super) fn kind(path: &Path) -> Result<Kind> {
    let found = std::fs::metadata(path).map_err(|e| match e.kind() {
        ErrorKind::NotFound => Error::data(path, format!("no such file or folder; {ACCEPTED}")),
        _ => Error::io("cannot read", path)(e),
    })?;
    if found.is_dir() {
        return Ok(Kind::Folder);
    }
    let unknown = || Error::data(path, format!("not a known kind of data; {ACCEPTED}"));
    files::open(path)?;
    if prepared::is_prepared(path) {
        Ok(Kind::Prepared)
    } else if pickle::is_pickle(path) {
        Ok(Kind::Pickle)
    } else {
        Err(unknown())
    }
}

const ACCEPTED: &str =
    "give a folder whose sub-folders are genres of audio files, a file that `prepare` wrote, or the course's pickle";

/// The same bytes may lie under another name than when they were cached.
fn named(mut corpus: Corpus, name: String) -> Corpus {
    corpus.meta.name = name;
    corpus
}

/// The key of a folder; none if a file cannot be read, be it for now or for good.
fn folder_key(listing: &folder::Listing, settings: &Settings) -> Result<Option<Key>> {
    let mut key = Key::new("folder", &settings.front_end)?;
    key.settings(settings)?;
    let copies = listing.copies.iter().map(|(_, copy)| copy);
    let files: Vec<&PathBuf> = listing.classes.iter().flat_map(|class| &class.files).chain(copies).collect();
    key.add(&files.len().to_le_bytes());
    let digests: Vec<_> = files.par_iter().map(|file| cache::digest(&listing.root.join(file))).collect();
    for (file, digest) in files.into_iter().zip(digests) {
        let Ok(digest) = digest else { return Ok(None) };
        key.add(file.to_string_lossy().as_bytes());
        key.add(digest.as_bytes());
    }
    for (path, reason) in &listing.ignored {
        key.add(path.to_string_lossy().as_bytes());
        key.add(reason.as_bytes());
    }
    Ok(Some(key))
}

fn synthetic_key(settings: &Settings, tracks_per_genre: usize) -> Result<Key> {
    let mut key = Key::new("synthetic", &settings.front_end)?;
    key.settings(settings)?;
    key.add(&tracks_per_genre.to_le_bytes());
    key.add(&synthetic::VERSION.to_le_bytes());
    // one track a genre betrays a generator that was changed without a new version
    let tracks: Vec<_> =
        (0..synthetic::GENRES.len()).into_par_iter().map(|genre| synthetic::track(genre, 0, SYNTHETIC_SEED)).collect();
    tracks.iter().for_each(|track| key.floats(track));
    Ok(key)
}

/// The name of track `index` of genre `class` of the built-in corpus.
pub(super) fn synthetic_stem(class: usize, index: usize) -> String {
    format!("{}.{index:05}", synthetic::GENRES[class])
}

/// Makes the built-in corpus.
///
/// # Errors
/// Fewer than 2 tracks a genre or too many, or settings that make no sense.
pub fn synthetic_corpus(settings: &Settings, tracks_per_genre: usize, progress: Progress) -> Result<Corpus> {
    if !(2..100_000).contains(&tracks_per_genre) {
        return Err(Error::Config(format!("{tracks_per_genre} tracks a genre: at least 2, at most 99999")));
    }
    let classes = synthetic::GENRES.map(str::to_owned).to_vec();
    let track = |i: usize| (i / tracks_per_genre, i % tracks_per_genre);
    let tracks: Vec<Track> = (0..classes.len() * tracks_per_genre)
        .map(|i| {
            let (class, index) = track(i);
            let stem = synthetic_stem(class, index);
            Track { class, path: PathBuf::from(&stem), name: stem.clone(), stem }
        })
        .collect();
    let recording = |i: usize| {
        let (class, index) = track(i);
        Ok(Recording::of(synthetic::track(class, index, SYNTHETIC_SEED)))
    };
    let mut meta = meta(SYNTHETIC_NAME.into(), classes, &settings.front_end);
    meta.synthetic = true;
    gather(meta, &tracks, recording, settings, progress)
}

/// Makes a corpus of the course's pickle, which comes with its own segments and its own split.
///
/// Up to ten classes are GTZAN's, in alphabetical order; more are called `class 0`, `class 1`, ….
///
/// # Errors
/// An empty side, a segment shorter than 20,462 samples (of a longer one the beginning is used) or with a number that is not finite, labels that are
/// no class numbers, rows of a track that do not stand together.
pub fn from_pickle(raw: pickle::Raw, path: &Path, front_end: &FrontEnd, progress: Progress) -> Result<Corpus> {
    let total = raw.train.segments.len() + raw.test.segments.len();
    let labels = || raw.train.labels.iter().chain(&raw.test.labels);
    let Some(&largest) = labels().max() else { return Err(Error::data(path, "holds no segments")) };
    let classes = if (largest as usize) < GTZAN.len() {
        GTZAN.map(str::to_owned).to_vec()
    } else {
        numbered_classes(largest).map_err(|message| Error::data(path, message))?
    };
    let meta = meta(super::name_of(path), classes, front_end);
    let mut notes = vec![raw.scale_note];
    for (side, set) in [("train", &raw.train), ("test", &raw.test)] {
        let longest = set.segments.iter().map(Vec::len).max().unwrap_or(0);
        if longest > SEGMENT_SAMPLES {
            notes.push(format!(
                "{side} set: segments have up to {longest} samples, the first {SEGMENT_SAMPLES} are used"
            ));
        }
    }
    let trained = raw.train.segments.len();
    let train = raw_set(raw.train, "train", path, &meta, &|done| progress(done, total))?;
    let test = raw_set(raw.test, "test", path, &meta, &|done| progress(trained + done, total))?;
    let content = Content::Split { train, test, kind: split::Kind::Random };
    Ok(Corpus { meta, content, skipped: Vec::new(), notes })
}

/// The name of track `id` of the pickle's train or test set.
pub(super) fn pickle_name(side: &str, id: u32) -> String {
    format!("{side} track {id}")
}

fn raw_set(
    raw: pickle::RawSet,
    side: &str,
    path: &Path,
    meta: &Meta,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Set> {
    let refuse = |message: String| Error::data(path, format!("{side} set: {message}"));
    let rows = raw.segments.len();
    if rows == 0 || raw.labels.len() != rows || raw.tracks.len() != rows {
        let (labels, tracks) = (raw.labels.len(), raw.tracks.len());
        return Err(refuse(format!("{rows} segments, {labels} labels and {tracks} tracks do not make a set")));
    }
    for (row, segment) in raw.segments.iter().enumerate() {
        if segment.len() < SEGMENT_SAMPLES {
            let length = segment.len();
            return Err(refuse(format!("segment {row} has {length} samples, {SEGMENT_SAMPLES} are needed")));
        }
        if let Some(at) = segment.iter().position(|sample| !sample.is_finite()) {
            return Err(refuse(format!("segment {row}: sample {at} is {}", segment[at])));
        }
    }
    let (tracks, ids) = number_tracks(&raw.labels, &raw.tracks).map_err(refuse)?;
    let plan = meta.front_end.plan()?;
    let mut spectrograms = zeros(&[rows, meta.bins, meta.frames])?;
    let done = AtomicUsize::new(0);
    raw.segments.into_par_iter().zip(spectrograms.par_chunks_exact_mut(meta.bins * meta.frames)).for_each(
        |(segment, out)| {
            plan.transform(&segment[..SEGMENT_SAMPLES], out);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        },
    );
    if let Some(at) = spectrograms.iter().position(|value| !value.is_finite()) {
        return Err(refuse(format!("segment {}: {TOO_LOUD}", at / (meta.bins * meta.frames))));
    }
    let track_names = ids.iter().map(|&id| pickle_name(side, id)).collect();
    Ok(Set { spectrograms, labels: raw.labels, tracks, track_names, deformed: Vec::new() })
}

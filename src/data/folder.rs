//! The folder form of a corpus: one sub-folder a class, one audio file a track.
//!
//! `--data PATH` may name the folder that holds the classes, or one that holds it under a name in common use: `genres`
//! (the original distribution), `genres_original`, `Data/genres_original` (Kaggle's). Hidden files and files that are no
//! audio are ignored. A track that is there twice, as `.au` and `.wav` say, counts once: the first copy that is good.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::Corpus;
use super::segments::{Progress, Settings, Track, check, gather, meta, reason};
use crate::audio::decode::{self, Part};
use crate::error::{Error, Result};

/// File name endings taken for audio, in any letter case.
pub const EXTENSIONS: [&str; 7] = ["au", "wav", "ogg", "flac", "mp3", "aif", "aiff"];

/// Where the classes may be below the folder that was named.
const NESTINGS: [&str; 4] = ["", "genres", "genres_original", "Data/genres_original"];

/// What a folder holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// The last component of the path that was asked for.
    pub name: String,
    /// The folder whose sub-folders are the classes.
    pub root: PathBuf,
    /// The classes in alphabetical order.
    pub classes: Vec<Class>,
    /// What was left out, relative to `root`, with the reason: sub-folders without audio, second copies of a track.
    pub ignored: Vec<(PathBuf, String)>,
    /// The second copies among them, each after the file that it is a copy of.
    pub copies: Vec<(PathBuf, PathBuf)>,
}

/// A class: a sub-folder with audio in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// The sub-folder's name.
    pub name: String,
    /// Audio files relative to [`Listing::root`], sorted by name.
    pub files: Vec<PathBuf>,
}

/// The samples of a track, and the notes of [`decode::stream`] on it.
pub(super) type Heard = (Vec<f32>, Vec<String>);

/// The copy of a track that was taken, and what is wrong with the first one.
type Instead<'a> = (&'a Path, Error);

impl Listing {
    /// The samples of the track that is `file` and the notes on it, or those of its first good copy: then with that, and
    /// what is wrong with `file`.
    ///
    /// # Errors
    /// What is wrong with `file`, where no copy is good.
    pub(super) fn samples(&self, file: &Path) -> Result<(Heard, Option<Instead<'_>>)> {
        let error = match usable(&self.root, file) {
            Ok(heard) => return Ok((heard, None)),
            Err(error) => error,
        };
        let mut copies = self.copies.iter().filter(|(of, _)| of == file);
        match copies.find_map(|(_, copy)| Some((usable(&self.root, copy).ok()?, copy))) {
            Some((heard, copy)) => Ok((heard, Some((copy, error)))),
            None => Err(error),
        }
    }
}

/// Lists the classes and tracks of a folder; reads no audio.
///
/// # Errors
/// A path that is missing, a file or unreadable; a folder that is empty, has no sub-folder with audio, or only one.
pub fn scan(path: &Path) -> Result<Listing> {
    match std::fs::metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(Error::data(path, "no such folder; give the one whose sub-folders are the genres"));
        }
        Err(e) => return Err(Error::io("cannot read", path)(e)),
        Ok(found) if !found.is_dir() => {
            return Err(Error::data(path, "a file, but a folder whose sub-folders are the genres is needed"));
        }
        Ok(_) => {}
    }
    let mut best: Option<Listing> = None;
    for nesting in NESTINGS {
        let root = if nesting.is_empty() { path.to_owned() } else { path.join(nesting) };
        if root.is_dir() {
            let listing = list(super::name_of(path), root)?;
            if best.as_ref().is_none_or(|best| best.classes.len() < listing.classes.len().min(2)) {
                best = Some(listing);
            }
        }
    }
    match best {
        Some(listing) if listing.classes.len() >= 2 => Ok(listing),
        Some(Listing { classes, .. }) if classes.len() == 1 => {
            let message = format!("only one genre with audio, {}; at least 2 sub-folders are needed", classes[0].name);
            Err(Error::data(path, message))
        }
        _ => Err(Error::data(path, nothing_found(path)?)),
    }
}

/// Decodes every track of a folder and makes random segments of it.
///
/// # Errors
/// A setting that makes no sense, or a class left with fewer than two good tracks. One bad track is no error: it is in
/// [`Corpus::skipped`].
pub fn corpus(listing: &Listing, settings: &Settings, progress: Progress) -> Result<Corpus> {
    let classes: Vec<String> = listing.classes.iter().map(|class| class.name.clone()).collect();
    let tracks: Vec<Track> = listing
        .classes
        .iter()
        .enumerate()
        .flat_map(|(class, Class { files, .. })| files.iter().map(move |file| (class, file)))
        .map(|(class, file)| Track { class, stem: stem(file), path: file.clone() })
        .collect();
    // (the copy that was used instead, the bad first one, what is wrong with that)
    let replaced: Mutex<Vec<(&Path, &Path, String)>> = Mutex::default();
    let notes: Mutex<Vec<(&Path, String)>> = Mutex::default();
    let samples = |i: usize| {
        let first = &tracks[i].path;
        let ((samples, said), instead) = listing.samples(first)?;
        let heard = instead.as_ref().map_or(first.as_path(), |(copy, _)| copy);
        notes.lock().unwrap_or_else(PoisonError::into_inner).extend(said.into_iter().map(|note| (heard, note)));
        if let Some((copy, error)) = instead {
            let message = reason(error);
            replaced.lock().unwrap_or_else(PoisonError::into_inner).push((copy, first, message));
        }
        Ok(samples)
    };
    let meta = meta(listing.name.clone(), classes, &settings.front_end);
    let mut corpus = gather(meta, &tracks, samples, settings, progress)?;
    let replaced = replaced.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut notes = notes.into_inner().unwrap_or_else(PoisonError::into_inner);
    notes.sort();
    corpus.notes.extend(notes.iter().map(|(path, note)| format!("{}: {note}", path.display())));
    corpus.skipped.extend(listing.ignored.iter().map(
        |(path, why)| match replaced.iter().find(|(copy, ..)| copy == path) {
            Some((copy, first, why)) => (first.to_path_buf(), format!("{why}; {} is used instead", copy.display())),
            None => (path.clone(), why.clone()),
        },
    ));
    Ok(corpus)
}

/// Decodes and checks a track.
fn usable(root: &Path, path: &Path) -> Result<Heard> {
    let path = root.join(path);
    let mut samples = Vec::new();
    let notes = decode::stream(&path, Part::default(), &mut |block| {
        samples.extend_from_slice(block);
        Ok(())
    })?;
    check(&samples).map_err(|message| Error::audio(path, message))?;
    Ok((samples, notes))
}

/// Lists the classes right below `root`.
fn list(name: String, root: PathBuf) -> Result<Listing> {
    let (mut classes, mut ignored, mut copies) = (Vec::new(), Vec::new(), Vec::new());
    for (class, folder) in entries(&root)? {
        if !folder.is_dir() {
            continue;
        }
        let mut files: Vec<PathBuf> = Vec::new();
        let mut stems: HashMap<String, String> = HashMap::new();
        for (file, path) in entries(&folder)? {
            if !is_audio(&path) {
                continue;
            }
            let relative = Path::new(&class).join(&file);
            // the same track as .au and .wav would stand on both sides of a split
            match stems.get(&stem(&path)) {
                Some(first) => {
                    copies.push((Path::new(&class).join(first), relative.clone()));
                    ignored.push((relative, format!("a second copy of {first}")));
                }
                None => {
                    stems.insert(stem(&path), file);
                    files.push(relative);
                }
            }
        }
        if files.is_empty() {
            ignored.push((class.into(), "a sub-folder without audio".into()));
        } else {
            classes.push(Class { name: class, files });
        }
    }
    Ok(Listing { name, root, classes, ignored, copies })
}

/// What a folder without classes holds instead, and what to do.
fn nothing_found(path: &Path) -> Result<&'static str> {
    let found = entries(path)?;
    Ok(if found.is_empty() {
        "an empty folder; give the one whose sub-folders are the genres"
    } else if found.iter().any(|(_, path)| is_audio(path)) {
        "holds audio itself, but no sub-folder does; give the folder above, whose sub-folders are the genres"
    } else {
        "no sub-folder holds audio (.au, .wav, .ogg, .flac, .mp3, .aif); give the folder whose sub-folders are the genres"
    })
}

/// Name and path of everything in a folder that is not hidden, sorted by name.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let failed = |e| Error::io("cannot read this folder", folder)(e);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // a name that is not Unicode cannot be shown or kept in a file: passed over like a hidden one
        if let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
        {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

fn is_audio(path: &Path) -> bool {
    let known = |ending: &str| EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(ending));
    path.extension().and_then(|ending| ending.to_str()).is_some_and(known) && path.is_file()
}

/// The file's name without its ending.
pub(super) fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

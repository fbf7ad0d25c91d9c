//! The folder form of a corpus: each sub-folder is a class, and each audio file in it or below it is a track.
//!
//! `--data PATH` may name the folder that holds the classes, or one that holds it under a name in common use: `genres`
//! (the original distribution), `genres_original`, `Data/genres_original` (Kaggle's).
//!
//! A file is a track if it can be decoded: its first bytes count, not its name. What else may be meant as sound is listed
//! with the reason why it is not used; text, pictures and the like, and hidden files, are ignored. A track that is there
//! twice, as `.au` and `.wav` say, counts once: the first copy that is good.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use walkdir::WalkDir;

use super::Corpus;
use super::prepared::MAX_CLASSES;
use super::recording::Recording;
use super::segments::{Progress, Settings, Track, gather, is_of_content, meta, names, reason};
use crate::audio::decode::{self, Sniffed};
use crate::error::{Error, Result};

/// File name endings taken for audio, in any letter case.
pub const EXTENSIONS: [&str; 15] =
    ["au", "snd", "wav", "wave", "bwf", "rf64", "w64", "ogg", "oga", "flac", "mp3", "aif", "aiff", "aifc", "afc"];

/// Endings of sound that cannot be decoded, unless the first bytes say that it can.
const UNSUPPORTED: [&str; 53] = [
    "m4a", "m4b", "m4p", "m4r", "mp4", "m4v", "mov", "3gp", "3g2", "aac", "opus", "spx", "wma", "wmv", "asf", "mka",
    "mkv", "webm", "avi", "flv", "caf", "ac3", "eac3", "dts", "ape", "wv", "mpc", "mpp", "tta", "tak", "ofr", "shn",
    "dsf", "dff", "amr", "ra", "rm", "ram", "mid", "midi", "kar", "mp1", "mp2", "mpa", "mpg", "mpeg", "voc", "8svx",
    "iff", "gsm", "sph", "xm", "mod",
];

/// Endings of files that nobody means as sound.
const NO_SOUND: [&str; 75] = [
    "txt",
    "md",
    "rst",
    "csv",
    "tsv",
    "json",
    "jsonl",
    "xml",
    "html",
    "htm",
    "yaml",
    "yml",
    "toml",
    "ini",
    "cfg",
    "log",
    "nfo",
    "sfv",
    "md5",
    "sha1",
    "sha256",
    "m3u",
    "m3u8",
    "pls",
    "xspf",
    "wpl",
    "cue",
    "lrc",
    "srt",
    "jpg",
    "jpeg",
    "png",
    "gif",
    "bmp",
    "tif",
    "tiff",
    "webp",
    "svg",
    "ico",
    "heic",
    "psd",
    "pdf",
    "doc",
    "docx",
    "xls",
    "xlsx",
    "odt",
    "rtf",
    "pkl",
    "pickle",
    "npy",
    "npz",
    "h5",
    "hdf5",
    "mat",
    "pt",
    "pth",
    "safetensors",
    "arff",
    "mf",
    "lab",
    "py",
    "ipynb",
    "m",
    "sh",
    "zip",
    "gz",
    "tar",
    "rar",
    "7z",
    "db",
    "url",
    "lnk",
    "tmp",
    "part",
];

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
    /// What was left out, relative to `root`, with the reason: sub-folders without audio, sound that cannot be decoded,
    /// second copies of a track.
    pub ignored: Vec<(PathBuf, String)>,
    /// The second copies among them, each after the file that it is a copy of.
    pub copies: Vec<(PathBuf, PathBuf)>,
}

/// A class: a sub-folder with audio in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// The sub-folder's name.
    pub name: String,
    /// Audio files relative to [`Listing::root`], folder by folder, sorted by name.
    pub files: Vec<PathBuf>,
}

/// The copy of a track that was taken, and what is wrong with the first one.
type Instead<'a> = (&'a Path, Error);

impl Listing {
    /// All tracks, class by class.
    pub(super) fn tracks(&self) -> Vec<Track> {
        let mut tracks = Vec::new();
        for (class, Class { name, files }) in self.classes.iter().enumerate() {
            tracks.extend(files.iter().map(|file| (class, stem(name, file), file)));
        }
        let keys: Vec<_> =
            tracks.iter().map(|(class, stem, _)| (self.classes[*class].name.as_str(), stem.clone())).collect();
        let name = |((class, stem, file), name): ((usize, String, &PathBuf), String)| Track {
            class,
            stem,
            name,
            path: file.clone(),
        };
        tracks.into_iter().zip(names(&keys)).map(name).collect()
    }

    /// The track that is `file` with the notes on it, or its first good copy: then with that, and what is wrong with
    /// `file`.
    ///
    /// # Errors
    /// What is wrong with `file`, where no copy is good.
    pub(super) fn recording(&self, file: &Path) -> Result<(Recording, Vec<String>, Option<Instead<'_>>)> {
        let error = match Recording::read(&self.root.join(file)) {
            Ok((recording, notes)) => return Ok((recording, notes, None)),
            Err(error) if !is_of_content(&error) => return Err(error),
            Err(error) => error,
        };
        let copies = self.copies.iter().filter(|(of, _)| of == file);
        for (_, copy) in copies {
            match Recording::read(&self.root.join(copy)) {
                Ok((recording, notes)) => return Ok((recording, notes, Some((copy, error)))),
                Err(error) if !is_of_content(&error) => return Err(error),
                Err(_) => {}
            }
        }
        Err(error)
    }
}

/// Lists the classes and tracks of a folder. Decodes nothing.
///
/// # Errors
/// A path that is missing, a file or unreadable; a folder that is empty, has no sub-folder with audio, only one, or more
/// than 1000.
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
    let listing = nested(path)?;
    match listing.classes.len() {
        2..=MAX_CLASSES => Ok(listing),
        0 => Err(Error::data(path, nothing_found(path, &listing)?)),
        1 => {
            let only = &listing.classes[0].name;
            let message = format!("only one genre with audio, {only}; at least 2 sub-folders are needed");
            Err(Error::data(path, message + &first_reason(&listing)))
        }
        many => {
            let message = format!("{many} genres, but at most {MAX_CLASSES} are accepted");
            Err(Error::data(path, message + "; give the folder whose sub-folders are the genres"))
        }
    }
}

/// The listing of `path` or of a folder below it of a name in common use.
fn nested(path: &Path) -> Result<Listing> {
    // files right in the class's folder: a folder of folders of classes has none
    let flat = |listing: &Listing| {
        let is_flat = |class: &&Class| class.files.iter().any(|file| file.components().count() == 2);
        listing.classes.iter().filter(is_flat).count()
    };
    let own = list(super::name_of(path), path.to_owned())?;
    if flat(&own) >= 2 {
        return Ok(own);
    }
    for nesting in NESTINGS.iter().filter(|nesting| !nesting.is_empty()) {
        let root = path.join(nesting);
        if root.is_dir() {
            let listing = list(super::name_of(path), root)?;
            if flat(&listing) >= 2 || listing.classes.len() >= own.classes.len().max(2) {
                return Ok(listing);
            }
        }
    }
    Ok(own)
}

/// Decodes every track of a folder and makes random segments of it.
///
/// # Errors
/// A setting that makes no sense, or a class left with fewer than two good tracks. One bad track is no error: it is in
/// [`Corpus::skipped`]. A file that cannot be read for another reason than its content is an error.
pub fn corpus(listing: &Listing, settings: &Settings, progress: Progress) -> Result<Corpus> {
    let classes: Vec<String> = listing.classes.iter().map(|class| class.name.clone()).collect();
    let tracks = listing.tracks();
    // (the copy that was used instead, the bad first one, what is wrong with that)
    let replaced: Mutex<Vec<(&Path, &Path, String)>> = Mutex::default();
    let notes: Mutex<Vec<(&Path, String)>> = Mutex::default();
    let recording = |i: usize| {
        let first = &tracks[i].path;
        let (recording, said, instead) = listing.recording(first)?;
        let heard = instead.as_ref().map_or(first.as_path(), |(copy, _)| copy);
        notes.lock().unwrap_or_else(PoisonError::into_inner).extend(said.into_iter().map(|note| (heard, note)));
        if let Some((copy, error)) = instead {
            let message = reason(error);
            replaced.lock().unwrap_or_else(PoisonError::into_inner).push((copy, first, message));
        }
        Ok(recording)
    };
    let meta = meta(listing.name.clone(), classes, &settings.front_end);
    let mut corpus = gather(meta, &tracks, recording, settings, progress)?;
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

/// Lists the classes below `root`.
fn list(name: String, root: PathBuf) -> Result<Listing> {
    let mut listing = Listing { name, root, classes: Vec::new(), ignored: Vec::new(), copies: Vec::new() };
    for (class, path) in entries(&listing.root)? {
        match class.to_str() {
            Some(class) if path.is_dir() => list_class(&mut listing, class, &path)?,
            None if path.is_dir() => {
                listing.ignored.push((shown(Path::new(&class)), "its name is not UTF-8: rename the folder".into()));
            }
            _ => {
                let reason = match judge(&path)? {
                    Found::Track => "beside the genres' folders, not in one".to_owned(),
                    Found::Unusable(reason) => reason,
                    Found::Nothing => continue,
                };
                listing.ignored.push((shown(Path::new(&class)), reason));
            }
        }
    }
    Ok(listing)
}

/// Adds the class in `folder`, with all that is below it.
fn list_class(listing: &mut Listing, name: &str, folder: &Path) -> Result<()> {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut stems: HashMap<String, PathBuf> = HashMap::new();
    let root = listing.root.clone();
    let relative = |path: &Path| path.strip_prefix(&root).unwrap_or(path).to_owned();
    // an error in a folder that cannot be listed at all
    entries(folder)?;
    let all = WalkDir::new(folder).min_depth(1).follow_links(true).sort_by_file_name();
    let mut walk = all.into_iter().filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry.file_name()));
    while let Some(entry) = walk.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                if let Some((path, reason)) = unwalkable(error)? {
                    listing.ignored.push((shown(&relative(&path)), reason));
                }
                continue;
            }
        };
        let path = relative(entry.path());
        if entry.file_type().is_dir() {
            if entry.path_is_symlink() && lies_in(folder, entry.path()) {
                listing.ignored.push((shown(&path), ABOVE.into()));
                walk.skip_current_dir();
            }
            continue;
        }
        match judge(entry.path())? {
            Found::Nothing => continue,
            Found::Unusable(reason) => listing.ignored.push((shown(&path), reason)),
            Found::Track if path.to_str().is_none() => {
                listing.ignored.push((shown(&path), "its name is not UTF-8: rename the file".into()));
            }
            // the same track as .au and .wav would stand on both sides of a split
            Found::Track => match stems.get(&stem(name, &path)) {
                Some(first) => {
                    let of = first.file_name().unwrap_or_default().to_string_lossy();
                    listing.ignored.push((path.clone(), format!("a second copy of {of}")));
                    listing.copies.push((first.clone(), path));
                }
                None => {
                    stems.insert(stem(name, &path), path.clone());
                    files.push(path);
                }
            },
        }
    }
    if files.is_empty() {
        listing.ignored.push((name.into(), "a sub-folder without audio".into()));
    } else {
        listing.classes.push(Class { name: name.to_owned(), files });
    }
    Ok(())
}

/// Why a link to a folder is not followed.
const ABOVE: &str = "a link to a folder that it lies in";

/// Whether `path` is `folder` or lies in it, links followed.
fn lies_in(path: &Path, folder: &Path) -> bool {
    path.canonicalize().is_ok_and(|path| folder.canonicalize().is_ok_and(|folder| path.starts_with(folder)))
}

/// A path of a walk that leads nowhere, with the reason; none where nobody would mean it as sound.
///
/// # Errors
/// A folder cannot be read although nothing is known to be wrong with it.
fn unwalkable(error: walkdir::Error) -> Result<Option<(PathBuf, String)>> {
    let path = error.path().map(Path::to_owned).unwrap_or_default();
    if path.file_name().is_some_and(is_hidden) || has_ending(&path, &NO_SOUND) {
        return Ok(None);
    }
    let is_loop = error.loop_ancestor().is_some();
    match error.into_io_error() {
        _ if is_loop => Ok(Some((path, ABOVE.into()))),
        Some(error) => leads_nowhere(&path, error).map(|reason| Some((path, reason))),
        None => Ok(Some((path, "cannot be read".into()))),
    }
}

/// Why a file or folder cannot be opened, where that is its own fault.
fn leads_nowhere(path: &Path, error: std::io::Error) -> Result<String> {
    match error.kind() {
        ErrorKind::NotFound => Ok("a link that leads nowhere".into()),
        ErrorKind::PermissionDenied => Ok("cannot be read: permission denied".into()),
        // a link to itself; its kind has no name in stable Rust
        _ if path.is_symlink() && path.canonicalize().is_err() => Ok(format!("a link that leads nowhere: {error}")),
        _ => Err(Error::io("cannot read", path)(error)),
    }
}

/// What a file is to a corpus.
enum Found {
    Track,
    /// It could be meant as sound; the reason why it is not used.
    Unusable(String),
    /// It has nothing to do with sound.
    Nothing,
}

/// Decides what to do with a file, by its first bytes, or by its name where these say nothing.
fn judge(path: &Path) -> Result<Found> {
    if has_ending(path, &NO_SOUND) {
        return Ok(Found::Nothing);
    }
    let is_named_audio = has_ending(path, &EXTENSIONS);
    match std::fs::metadata(path) {
        Err(error) => return leads_nowhere(path, error).map(Found::Unusable),
        Ok(about) if !about.is_file() => {
            let is_meant = is_named_audio || has_ending(path, &UNSUPPORTED);
            return Ok(if is_meant { Found::Unusable("not a file".into()) } else { Found::Nothing });
        }
        // decoding will tell
        Ok(_) if is_named_audio => return Ok(Found::Track),
        Ok(about) if about.len() == 0 && !has_ending(path, &UNSUPPORTED) => return Ok(Found::Nothing),
        Ok(_) => {}
    }
    let sniffed = match decode::sniff(path) {
        Ok(sniffed) => sniffed,
        Err(Error::Io { source, .. }) => return leads_nowhere(path, source).map(Found::Unusable),
        Err(error) => return Ok(Found::Unusable(reason(error))),
    };
    Ok(match sniffed {
        Sniffed::Readable => Found::Track,
        Sniffed::Foreign(format) => Found::Unusable(decode::unsupported(format)),
        Sniffed::Unknown(head) if !has_ending(path, &UNSUPPORTED) && (is_text(&head) || is_picture(&head)) => {
            Found::Nothing
        }
        Sniffed::Unknown(_) => Found::Unusable(decode::NOT_AUDIO.into()),
    })
}

/// Whether `head`, the first bytes of a file, is text or nothing at all.
fn is_text(head: &[u8]) -> bool {
    let whole = match std::str::from_utf8(head) {
        Ok(text) => text,
        // the last character may be cut off
        Err(error) if head.len() - error.valid_up_to() < 4 => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff"),
    };
    whole.chars().all(|c| !c.is_control() || c.is_whitespace())
}

/// Whether `head` is that of a picture, a document or an archive.
fn is_picture(head: &[u8]) -> bool {
    const MAGIC: [&[u8]; 12] = [
        b"\x89PNG",
        b"\xff\xd8\xff",
        b"GIF8",
        b"BM",
        b"II*\0",
        b"MM\0*",
        b"%PDF",
        b"PK\x03\x04",
        b"\x1f\x8b",
        b"\x80\x02",
        b"\x93NUMPY",
        b"SQLite",
    ];
    MAGIC.iter().any(|magic| head.starts_with(magic)) || head.get(8..12) == Some(b"WEBP")
}

/// What a folder without classes holds instead, and what to do.
fn nothing_found(path: &Path, listing: &Listing) -> Result<String> {
    let found = entries(path)?;
    let mut is_audio = found.iter().map(|(_, path)| Ok(!path.is_dir() && matches!(judge(path)?, Found::Track)));
    Ok(if found.is_empty() {
        "an empty folder; give the one whose sub-folders are the genres".into()
    } else if is_audio.any(|is_audio: Result<bool>| is_audio.unwrap_or(false)) {
        "holds audio itself, but no sub-folder does; give the folder above, whose sub-folders are the genres".into()
    } else {
        let kinds = "wav, aiff, au, flac, mp3, ogg";
        let message = format!("no sub-folder holds audio ({kinds}); give the folder whose sub-folders are the genres");
        message + &first_reason(listing)
    })
}

/// The first file that could be meant as sound and is not used, in brackets.
fn first_reason(listing: &Listing) -> String {
    let of_file = |(path, _): &&(PathBuf, String)| path.components().count() > 1;
    let first = listing.ignored.iter().find(of_file);
    first.map(|(path, reason)| format!(" ({}: {reason})", path.display())).unwrap_or_default()
}

/// Name and path of everything in a folder that is not hidden, sorted by name.
fn entries(folder: &Path) -> Result<Vec<(std::ffi::OsString, PathBuf)>> {
    let failed = |e| Error::io("cannot read this folder", folder)(e);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !is_hidden(&entry.file_name()) {
            found.push((entry.file_name(), entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// A path that can be shown and kept in a file.
fn shown(path: &Path) -> PathBuf {
    path.to_string_lossy().into_owned().into()
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let known = |ending: &str| endings.iter().any(|known| known.eq_ignore_ascii_case(ending));
    path.extension().and_then(|ending| ending.to_str()).is_some_and(known)
}

/// The path of `file` within its class's folder, without the ending of an audio file.
fn stem(class: &str, file: &Path) -> String {
    let within = file.strip_prefix(class).unwrap_or(file);
    let stem = if has_ending(file, &EXTENSIONS) { within.with_extension("") } else { within.to_owned() };
    let parts: Vec<_> = stem.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    parts.join("/")
}

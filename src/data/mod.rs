//! Corpora: where segments come from, how tracks are split, how batches are drawn.
//!
//! [`load`] is the front door: from a [`folder`], the course's [`pickle`], a [`prepared`] file or the [`synthetic`]
//! tracks it makes a [`Corpus`], through the [`cache`]; [`split`] makes a [`Dataset`] of it; [`sound`] gives a track's
//! segments once more, to be heard. Read [`segments`] first.

pub mod augment;
pub mod cache;
pub mod fingerprint;
pub mod folder;
pub mod load;
pub mod pickle;
pub mod prepared;
mod recording;
pub mod segments;
pub mod sound;
pub mod split;
mod split_kind;
pub mod synthetic;

use std::path::{Path, PathBuf};

use crate::audio::FrontEnd;
use crate::error::{Error, Result};

/// What is known of a corpus besides its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    /// Where it came from, as shown in results: a path's last component, or `synthetic corpus`.
    pub name: String,
    /// True for the built-in corpus: results on it are labelled synthetic everywhere.
    pub synthetic: bool,
    /// Class names; a label is an index into them.
    pub classes: Vec<String>,
    /// The representation.
    pub front_end: FrontEnd,
    /// Rows of a spectrogram.
    pub bins: usize,
    /// Columns of a spectrogram.
    pub frames: usize,
}

/// Segments: one row is one spectrogram with its label and its track.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Set {
    /// `[N, bins, frames]`, contiguous.
    pub spectrograms: Vec<f32>,
    /// `[N]`, indices into [`Meta::classes`].
    pub labels: Vec<u32>,
    /// `[N]`, indices into [`Set::track_names`]; the segments of a track stand together.
    pub tracks: Vec<u32>,
    /// One name a track, e.g. `blues.00012`.
    pub track_names: Vec<String>,
    /// `[N]`: 0 for a segment of the track as it is, else 1 + the index of its deformation in
    /// [`DEFORMATIONS`](crate::audio::augment::DEFORMATIONS); empty where nothing is deformed.
    pub deformed: Vec<u8>,
}

impl Set {
    /// Number of segments.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Number of deformed segments.
    pub fn deformed(&self) -> usize {
        self.deformed.iter().filter(|&&deformation| deformation > 0).count()
    }

    /// True without segments.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// A corpus before the split, or one that comes with its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Corpus {
    /// What is known of it.
    pub meta: Meta,
    /// Its segments.
    pub content: Content,
    /// Tracks left out, each with the reason; paths are relative to the corpus.
    pub skipped: Vec<(PathBuf, String)>,
    /// What a person should know besides, one line each: the scale of a pickle's samples, a cache that cannot be written.
    pub notes: Vec<String>,
}

/// Segments with or without a given split.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// No split yet: [`split`] makes one.
    Whole(Set),
    /// The source's own split (the course's pickle, a prepared file).
    Split {
        /// Training segments.
        train: Set,
        /// Test segments.
        test: Set,
        /// How that split was made, as far as is known.
        kind: split_kind::Kind,
    },
}

/// What a net is trained and tested on.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// What is known of it.
    pub meta: Meta,
    /// Training segments.
    pub train: Set,
    /// Test segments.
    pub test: Set,
}

impl Dataset {
    /// Refuses sets that no net can be trained on: of sizes that do not agree, or with labels that are no classes.
    ///
    /// # Errors
    /// [`Error::Data`] naming the set, and the first label that is no class.
    pub fn check(&self) -> Result<()> {
        let Meta { name, classes, bins, frames, .. } = &self.meta;
        for (side, set) in [("train", &self.train), ("test", &self.test)] {
            let rows = set.labels.len();
            if set.spectrograms.len() != rows * bins * frames || set.tracks.len() != rows {
                let (numbers, tracks) = (set.spectrograms.len(), set.tracks.len());
                let message =
                    format!("{side}: {rows} labels, but {tracks} tracks and {numbers} numbers of spectrograms");
                return Err(Error::data(name, format!("{message} of {bins}x{frames}")));
            }
            if let Some(row) = set.labels.iter().position(|&label| label as usize >= classes.len()) {
                let label = set.labels[row];
                let message = format!("{side}: row {row} has label {label}, but there are {} classes", classes.len());
                return Err(Error::data(name, message));
            }
        }
        Ok(())
    }
}

/// A path's last component, also of `.` and `..`.
fn name_of(path: &Path) -> String {
    let named = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    named(path)
        .or_else(|| path.canonicalize().ok().and_then(|path| named(&path)))
        .unwrap_or_else(|| path.display().to_string())
}

//! Corpora: where segments come from, how tracks are split, how batches are drawn.
//!
//! [`folder`], [`pickle`], [`prepared`] and [`synthetic`] each make a [`Corpus`]; [`split`] makes a [`Dataset`] of it.

pub mod folder;
pub mod pickle;
pub mod prepared;
pub mod split;
pub mod synthetic;

use std::path::PathBuf;

use crate::audio::FrontEnd;

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
}

impl Set {
    /// Number of segments.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// True without segments.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// A corpus before the split, or one that comes with its own.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// What is known of it.
    pub meta: Meta,
    /// Its segments.
    pub content: Content,
    /// Tracks left out, each with the reason.
    pub skipped: Vec<(PathBuf, String)>,
}

/// Segments with or without a given split.
#[derive(Clone, Debug)]
pub enum Content {
    /// No split yet: [`split`] makes one.
    Whole(Set),
    /// The source's own split (the course's pickle, a prepared file).
    Split {
        /// Training segments.
        train: Set,
        /// Test segments.
        test: Set,
    },
}

/// What a net is trained and tested on.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// What is known of it.
    pub meta: Meta,
    /// Training segments.
    pub train: Set,
    /// Test segments.
    pub test: Set,
}

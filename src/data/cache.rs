//! The cache: a corpus that was made once is there at once the next time.
//!
//! A corpus is found by what it was made of, not by where it lay: the digest of every file, the settings, and what the
//! front end makes of a probe. Anything that changes makes another key, so nothing here is ever out of date; old files
//! may be deleted at any time. A cache that cannot be read or written costs time, never a run.

use std::path::{Path, PathBuf};

use rand::RngExt;

use super::recording::Recording;
use super::segments::Settings;
use super::{Corpus, augment, prepared};
use crate::audio::augment::Deformer;
use crate::audio::{FrontEnd, SEGMENT_SAMPLES};
use crate::error::{Error, Result};
use crate::files;
use crate::rng;

/// To be raised whenever the same input makes other numbers than before and [`Key`] would not notice: a change to
/// decoding, resampling, the choice of segments or the file's form.
const VERSION: &str = "genregrad.cache.2";

/// A folder of prepared corpora, or none.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    /// `$GENREGRAD_CACHE`, else `genregrad` in the user's cache folder; none if the variable is set but empty.
    pub fn standard() -> Self {
        let folder = match std::env::var_os("GENREGRAD_CACHE") {
            Some(folder) => Some(folder).filter(|folder| !folder.is_empty()).map(PathBuf::from),
            None => dirs::cache_dir().map(|folder| folder.join("genregrad")),
        };
        Cache { folder }
    }

    /// The cache in `folder`, which is made when it is first written to.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Cache { folder: Some(folder.into()) }
    }

    /// No cache: everything is made anew.
    pub fn none() -> Self {
        Cache { folder: None }
    }

    /// The corpus of this key: the stored one, or else the one that `make` makes, which is then stored. Without a key,
    /// nothing is looked up or stored.
    ///
    /// # Errors
    /// Those of `make`. A stored file that cannot be read is replaced; if it cannot be written, the corpus's notes say so.
    pub(super) fn corpus(
        &self,
        key: impl FnOnce() -> Result<Option<Key>>,
        make: impl FnOnce() -> Result<Corpus>,
    ) -> Result<Corpus> {
        let Some(folder) = &self.folder else { return make() };
        let Some(key) = key()? else { return make() };
        let path = folder.join(format!("{}.safetensors", key.0.finalize()));
        if let Ok(corpus) = prepared::read(&path) {
            return Ok(corpus);
        }
        let mut corpus = make()?;
        files::sweep(folder, files::ABANDONED);
        let stored = std::fs::create_dir_all(folder)
            .map_err(Error::io("cannot create", folder))
            .and_then(|()| prepared::write_corpus(&path, &corpus));
        if let Err(error) = stored {
            corpus
                .notes
                .push(format!("the cache could not be written, the next run starts anew ({})", error.one_line()));
        }
        Ok(corpus)
    }
}

/// What a corpus is made of.
pub(super) struct Key(blake3::Hasher);

impl Key {
    /// A key of `kind` of source and of the front end: its settings, and its output for a fixed noise, so that a change
    /// of its code counts as well.
    pub fn new(kind: &str, front_end: &FrontEnd) -> Result<Self> {
        let mut key = Key(blake3::Hasher::new());
        for text in [VERSION, kind, &format!("{front_end:?}")] {
            key.add(text.as_bytes());
        }
        let noise = noise();
        let mut probe = vec![0.0; front_end.bins() * front_end.frames(noise.len())];
        front_end.plan()?.transform(&noise, &mut probe);
        key.floats(&probe);
        Ok(key)
    }

    /// Adds how segments are made: their number and places, and, where they are deformed as well, what becomes of that noise.
    pub fn settings(&mut self, settings: &Settings) -> Result<()> {
        self.add(&settings.segments.to_le_bytes());
        self.add(&settings.seed.to_le_bytes());
        if settings.augment {
            let front_end = &settings.front_end;
            let mut probe = vec![0.0; augment::ROWS * front_end.bins() * front_end.frames(SEGMENT_SAMPLES)];
            let (deformer, plan) = (Deformer::new(), front_end.plan()?);
            augment::transform(&deformer, &*plan, &Recording::of(noise()), (0, "cache", "probe"), &mut probe)?;
            self.add(b"augment");
            self.floats(&probe);
        }
        Ok(())
    }

    /// Adds one part, with its length, so that parts cannot run into each other.
    pub fn add(&mut self, part: &[u8]) {
        self.0.update(&(part.len() as u64).to_le_bytes()).update(part);
    }

    /// Adds numbers.
    pub fn floats(&mut self, values: &[f32]) {
        self.add(bytemuck::cast_slice(values));
    }
}

/// A segment of noise, always the same.
fn noise() -> Vec<f32> {
    let mut rng = rng::stream(0, "cache/probe");
    (0..SEGMENT_SAMPLES).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// The digest of a file's content, read in pieces.
///
/// # Errors
/// The file cannot be read.
pub(super) fn digest(path: &Path) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(files::open(path)?).map_err(Error::io("cannot read", path))?;
    Ok(hasher.finalize())
}

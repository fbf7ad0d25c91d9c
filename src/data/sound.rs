//! A track once more: its segments as they are heard, and as the nets see them.
//!
//! What [`load`] made of a track can be made again of it alone: segments depend on the seed and on the
//! track's class and name, not on its neighbours. Nothing here is cached; the tracks are read as they lie there now.

use std::path::{Path, PathBuf};

use super::load::{self, Kind, Source};
use super::recording::Recording;
use super::segments::{Settings, starts};
use super::{Content, Set, folder, pickle, prepared, synthetic};
use crate::audio::{SAMPLE_RATE, SEGMENT_SAMPLES, Transform};
use crate::error::{Error, Result};

/// One segment of a track.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// Where it starts within its track, in seconds; the course's pickle and prepared files do not say.
    pub start: Option<f64>,
    /// Its [`SEGMENT_SAMPLES`] samples, mono at [`SAMPLE_RATE`] Hz, -1 to 1; none where only the spectrogram is left of
    /// it, in a prepared file.
    pub samples: Option<Vec<f32>>,
    /// What the nets see, `[bins, frames]`: bit for bit the row of the data set.
    pub spectrogram: Vec<f32>,
}

/// Tracks, ready to be asked for.
pub struct Sound {
    tracks: Tracks,
    settings: Settings,
    plan: Box<dyn Transform>,
}

enum Tracks {
    Folder(folder::Listing),
    Synthetic { tracks_per_genre: usize },
    Pickle { path: PathBuf, test: pickle::RawSet },
    Prepared { path: PathBuf, sets: Vec<Set>, row: usize },
}

impl Sound {
    /// The tracks of `source`; `settings` are those that the data set was made with. A pickle or a prepared file is read
    /// whole; of a pickle the test set is kept.
    ///
    /// # Errors
    /// There is no such data, or they cannot be read.
    pub fn open(source: &Source, settings: &Settings) -> Result<Self> {
        let tracks = match source {
            &Source::Synthetic { tracks_per_genre } => Tracks::Synthetic { tracks_per_genre },
            Source::Path(path) => match load::kind(path)? {
                Kind::Folder => Tracks::Folder(folder::scan(path)?),
                Kind::Pickle => Tracks::Pickle { path: path.clone(), test: pickle::read(path)?.test },
                Kind::Prepared => {
                    let corpus = prepared::read(path)?;
                    let sets = match corpus.content {
                        Content::Whole(set) => vec![set],
                        Content::Split { train, test, .. } => vec![test, train],
                    };
                    Tracks::Prepared { path: path.clone(), sets, row: corpus.meta.bins * corpus.meta.frames }
                }
            },
        };
        Ok(Sound { tracks, settings: settings.clone(), plan: settings.front_end.plan()? })
    }

    /// Whether segments have samples.
    pub fn is_audible(&self) -> bool {
        !matches!(self.tracks, Tracks::Prepared { .. })
    }

    /// The segments of the track that is called `name` in the data set, in their order there.
    ///
    /// # Errors
    /// There is no such track (of a pickle: no such test track), or it cannot be decoded any more.
    pub fn segments(&self, name: &str) -> Result<Vec<Segment>> {
        let missing = |path: &Path| Error::data(path, format!("has no track {name} any more"));
        match &self.tracks {
            Tracks::Folder(listing) => {
                let tracks = listing.tracks();
                let track = tracks.iter().find(|track| track.name == name).ok_or_else(|| missing(&listing.root))?;
                let (recording, ..) = listing.recording(&track.path)?;
                self.cut(&listing.classes[track.class].name, &track.stem, &recording)
            }
            &Tracks::Synthetic { tracks_per_genre } => {
                let number = |(class, genre): (usize, &&str)| {
                    let index = name.strip_prefix(genre)?.strip_prefix('.')?.parse().ok()?;
                    (index < tracks_per_genre && load::synthetic_stem(class, index) == name).then_some((class, index))
                };
                let found = synthetic::GENRES.iter().enumerate().find_map(number);
                let (class, index) = found.ok_or_else(|| missing(Path::new(load::SYNTHETIC_NAME)))?;
                let recording = Recording::of(synthetic::track(class, index, load::SYNTHETIC_SEED));
                self.cut(synthetic::GENRES[class], name, &recording)
            }
            Tracks::Pickle { path, test } => {
                let rows = test.tracks.iter().zip(&test.segments);
                let segments: Vec<Segment> = rows
                    .filter(|(track, _)| load::pickle_name("test", **track) == name)
                    .map(|(_, segment)| self.segment(None, &segment[..SEGMENT_SAMPLES]))
                    .collect();
                if segments.is_empty() { Err(missing(path)) } else { Ok(segments) }
            }
            Tracks::Prepared { path, sets, row } => {
                let found = sets.iter().find_map(|set| {
                    let track = set.track_names.iter().position(|track| track == name)? as u32;
                    let is_deformed = |row: usize| set.deformed.get(row).is_some_and(|&deformation| deformation > 0);
                    let rows = (0..set.len()).filter(|&row| set.tracks[row] == track && !is_deformed(row));
                    let segment = |number: usize| {
                        let spectrogram = set.spectrograms[number * row..(number + 1) * row].to_vec();
                        Segment { start: None, samples: None, spectrogram }
                    };
                    Some(rows.map(segment).collect())
                });
                found.ok_or_else(|| missing(path))
            }
        }
    }

    /// The random segments of a whole track.
    fn cut(&self, class: &str, stem: &str, recording: &Recording) -> Result<Vec<Segment>> {
        let seconds = |samples: usize| samples as f64 / f64::from(SAMPLE_RATE);
        let starts = starts(self.settings.seed, class, stem, recording.length(), self.settings.segments);
        let mut segments: Vec<(usize, Segment)> = Vec::with_capacity(starts.len());
        recording.segments(&starts, &mut |i, samples| {
            segments.push((i, self.segment(Some(seconds(starts[i])), samples)));
            Ok(())
        })?;
        segments.sort_by_key(|(i, _)| *i);
        Ok(segments.into_iter().map(|(_, segment)| segment).collect())
    }

    fn segment(&self, start: Option<f64>, samples: &[f32]) -> Segment {
        let front_end = &self.settings.front_end;
        let mut spectrogram = vec![0.0; front_end.bins() * front_end.frames(SEGMENT_SAMPLES)];
        self.plan.transform(samples, &mut spectrogram);
        Segment { start, samples: Some(samples.to_vec()), spectrogram }
    }
}

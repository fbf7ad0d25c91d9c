//! The course's `music_genres_dataset.pkl`: two consecutive pickles, train then test, each a dict `data`, `labels`,
//! `track_id`.
//!
//! What it is: a streaming reader. `machine` runs the few opcodes that such a file needs, `numpy` turns an array's
//! bytes into numbers the moment the array is complete, so memory holds the samples once. What it is not: an unpickler.
//! A global other than numpy's array constructors is an error; nothing in the file is ever executed.
//!
//! Read: both writers of protocol 2 (Python 2's `str`, Python 3's `_codecs.encode`), protocols 0 to 5, numpy 1 and 2;
//! arrays of integers or floats of either byte order, or plain lists and tuples.

mod machine;
mod numpy;
mod scale;
mod value;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::audio::SEGMENT_SAMPLES;
use crate::error::Result;
use crate::files;
use machine::{Heap, Input, Object};
use scale::{Loudness, Scale, Stored};
use value::{Items, Value};

/// Labels must lie below this.
const MAX_CLASSES: i64 = 1000;

/// Both sets of the file, samples in -1..1.
#[derive(Clone, Debug, PartialEq)]
pub struct Raw {
    /// The first pickle.
    pub train: RawSet,
    /// The second pickle.
    pub test: RawSet,
    /// What was decided about the samples' scale, in words: their type says it or their peak.
    pub scale_note: String,
}

/// The segments of one set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawSet {
    /// `[N]` segments, all of one length.
    pub segments: Vec<Vec<f32>>,
    /// `[N]`, 0-based, as the file has them.
    pub labels: Vec<u32>,
    /// `[N]`, numbered from 0 in order of appearance; the segments of a track stand together. A track is what has one
    /// `track_id` and one label, so ids that restart at every genre are kept apart.
    pub tracks: Vec<u32>,
}

/// True if the file begins as a pickle does: the mark of protocols 2 to 5, or a dict of protocol 0 or 1.
///
/// A file that cannot be read is no pickle.
pub fn is_pickle(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = files::open(path).is_ok_and(|file| file.take(3).read_to_end(&mut head).is_ok());
    read && matches!(head.as_slice(), [0x80, 2..=5, _] | [b'(', b'd', b'p'] | [b'}', b'q', _])
}

/// Reads the file; segments must have at least [`SEGMENT_SAMPLES`] samples.
///
/// # Errors
/// One line that says what is wrong and where: a truncated file, an opcode or a global that no such file holds, a missing
/// key, no segments, lists that differ in length, segments too short or of unequal length, labels that are no class, samples that are
/// no numbers, only one pickle, something after the second.
pub fn read(path: &Path) -> Result<Raw> {
    read_with(path, SEGMENT_SAMPLES)
}

/// [`read`], with segments of at least `segment_samples` samples.
///
/// # Errors
/// Those of [`read`].
pub fn read_with(path: &Path, segment_samples: usize) -> Result<Raw> {
    read_from(path, BufReader::with_capacity(1 << 16, files::open(path)?), segment_samples)
}

/// [`read_with`] from any source of bytes; `path` is only named in errors.
///
/// # Errors
/// Those of [`read`].
pub fn read_from(path: &Path, source: impl BufRead, segment_samples: usize) -> Result<Raw> {
    let mut input = Input::new(path, source);
    let (mut train, stored) = read_set(&mut input, "train", segment_samples)?;
    if input.at_end()? {
        return Err(input.bad("has only one pickle; expected train then test"));
    }
    let (mut test, tested) = read_set(&mut input, "test", segment_samples)?;
    if !input.at_end()? {
        return Err(input.bad(format!("has more data after its second pickle, from byte {}", input.at)));
    }
    if let (Some(a), Some(b)) = (train.segments.first(), test.segments.first())
        && a.len() != b.len()
    {
        let lengths = format!("train segments have {} samples, test segments {}", a.len(), b.len());
        return Err(input.bad(format!("{lengths}; they must be alike")));
    }
    let mut loudness = Loudness::default();
    train.segments.iter().chain(&test.segments).for_each(|segment| loudness.add(segment));
    let several =
        || input.bad(format!("its train samples are {stored}, its test samples {tested}; they must be alike"));
    let stored = stored.with(tested).ok_or_else(several)?;
    let (Scale { offset, full }, scale_note) = scale::of(stored, &loudness).map_err(|message| input.bad(message))?;
    for segment in train.segments.iter_mut().chain(&mut test.segments) {
        segment.iter_mut().for_each(|sample| *sample = (*sample - offset) / full);
    }
    Ok(Raw { train, test, scale_note })
}

/// Runs one pickle and takes its lists apart.
fn read_set<R: BufRead>(input: &mut Input<'_, R>, which: &str, segment_samples: usize) -> Result<(RawSet, Stored)> {
    let (top, mut heap) = machine::run(input)?;
    let bad = |message: String| input.bad(format!("{which} pickle: {message}"));
    let Some(Object::Dict(entries)) = heap.get(top) else {
        return Err(bad("holds no dict with the keys data, labels, track_id".into()));
    };
    let key = |name: &str| {
        let found =
            entries.iter().rev().find(|(k, _)| matches!(heap.get(*k), Some(Object::Bytes(b)) if b == name.as_bytes()));
        let value = found.ok_or_else(|| bad(format!("its dict has no `{name}`; expected data, labels, track_id")))?.1;
        let items = heap.items(value).ok_or_else(|| bad(format!("its `{name}` is neither a list nor an array")))?;
        Ok((value, items.len()))
    };
    let ((data, n), (labels, n_labels), (ids, n_ids)) = (key("data")?, key("labels")?, key("track_id")?);
    if n_labels != n || n_ids != n {
        let lengths = format!("data {n}, labels {n_labels}, track_id {n_ids}");
        return Err(bad(format!("its lists differ in length: {lengths}")));
    }
    if n == 0 {
        return Err(bad("holds no segments".into()));
    }
    let integers = |name: &str, list: Value| -> Result<Vec<i64>> {
        let value = |i| match heap.items(list).and_then(|items| items.get(i)) {
            Some(Value::Int(int)) => Ok(int),
            Some(Value::Float(_)) => Err(bad(fraction(name, heap.items(list), n))),
            _ => Err(bad(format!("{name}[{i}] is no integer"))),
        };
        (0..n).map(value).collect()
    };
    let label = |(i, label): (usize, i64)| match u32::try_from(label) {
        Ok(class) if label < MAX_CLASSES => Ok(class),
        _ => Err(bad(format!("labels[{i}] is {label}; expected 0 to {}", MAX_CLASSES - 1))),
    };
    let labels: Vec<u32> = integers("labels", labels)?.into_iter().enumerate().map(label).collect::<Result<_>>()?;
    let ids = integers("track_id", ids)?;
    let (segments, stored) = take_segments(&mut heap, data, input.at, segment_samples).map_err(bad)?;
    Ok((group(segments, labels, &ids), stored))
}

/// Says which number of a list of floats is no integer, or that the first is none.
fn fraction(name: &str, items: Option<&Items>, n: usize) -> String {
    let float = |i| match items?.get(i)? {
        Value::Float(x) => Some((i, x)),
        _ => None,
    };
    let mut fractions = (0..n).filter_map(float).filter(|(_, x)| x.fract() != 0.0);
    let (i, x) = fractions.next().or_else(|| float(0)).unwrap_or_default();
    format!("{name}[{i}] is {x}; expected an integer")
}

/// Moves the segments out of the heap and checks each.
fn take_segments(
    heap: &mut Heap,
    data: Value,
    bytes_read: u64,
    at_least: usize,
) -> std::result::Result<(Vec<Vec<f32>>, Stored), String> {
    let n = heap.items(data).map_or(0, Items::len);
    let mut segments: Vec<Vec<f32>> = Vec::new();
    let mut all: Option<Stored> = None;
    let mut copied = 0;
    for i in 0..n {
        let entry = heap.items(data).and_then(|items| items.get(i));
        let segment = match entry.and_then(|value| heap.get_mut(value)) {
            Some(Object::Taken(earlier)) => {
                // one array entered twice: fine, but a few bytes must not blow up to any number of copies
                let segment = segments[*earlier].clone();
                copied += 4 * segment.len() as u64;
                if copied > bytes_read {
                    return Err(format!("data[{i}] repeats an array that is there too often"));
                }
                segment
            }
            Some(object @ (Object::Items(_) | Object::Array(..))) => {
                let (stored, items) = match std::mem::replace(object, Object::Taken(i)) {
                    Object::Items(items) => (Stored::of_list(&items), items),
                    Object::Array(items, dtype) => (Stored::of_array(dtype), items),
                    _ => (Stored::Floats, Items::Floats(Vec::new())),
                };
                let before = all.unwrap_or(stored);
                let several =
                    || format!("data[{i}] has samples that are {stored}, others are {before}; they must be alike");
                all = Some(before.with(stored).ok_or_else(several)?);
                items.into_f32().ok_or_else(|| format!("data[{i}] holds what is no number"))?
            }
            _ => return Err(format!("data[{i}] is neither a list nor an array")),
        };
        let len = segment.len();
        if len < at_least {
            return Err(format!("data[{i}] has {len} samples; expected at least {at_least}"));
        }
        if let Some(first) = segments.first().filter(|first| first.len() != len) {
            return Err(format!("data[{i}] has {len} samples, data[0] has {}; they must be alike", first.len()));
        }
        if let Some(at) = segment.iter().position(|s| !s.is_finite()) {
            return Err(format!("data[{i}] has a sample that is no finite number: {} at {at}", segment[at]));
        }
        segments.push(segment);
    }
    Ok((segments, all.unwrap_or(Stored::Floats)))
}

/// Numbers the tracks and puts the segments of each together (they already are, in the course's file).
fn group(segments: Vec<Vec<f32>>, labels: Vec<u32>, ids: &[i64]) -> RawSet {
    let mut numbers = HashMap::new();
    let tracks = ids.iter().zip(&labels).map(|track| {
        let next = numbers.len() as u32;
        *numbers.entry(track).or_insert(next)
    });
    let tracks: Vec<u32> = tracks.collect();
    let mut rows: Vec<_> = segments.into_iter().zip(labels.iter().copied()).zip(tracks).collect();
    rows.sort_by_key(|(_, track)| *track);
    let (pairs, tracks): (Vec<_>, _) = rows.into_iter().unzip();
    let (segments, labels) = pairs.into_iter().unzip();
    RawSet { segments, labels, tracks }
}

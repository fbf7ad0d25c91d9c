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

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::audio::SEGMENT_SAMPLES;
use crate::error::{Error, Result};
use machine::{Heap, Input, Items, Object, Value};

/// Labels must lie below this.
const MAX_CLASSES: i64 = 1000;

/// A peak above this means that samples are at 16-bit integer scale, not in -1..1.
const FLOAT_PEAK: f32 = 2.0;

/// Both sets of the file, samples in -1..1.
#[derive(Clone, Debug, PartialEq)]
pub struct Raw {
    /// The first pickle.
    pub train: RawSet,
    /// The second pickle.
    pub test: RawSet,
    /// What was decided about the samples' scale, in words: it is not written in the file but found by the peak.
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
    let read = File::open(path).and_then(|file| file.take(3).read_to_end(&mut head));
    read.is_ok() && matches!(head.as_slice(), [0x80, 2..=5, _] | [b'(', b'd', b'p'] | [b'}', b'q', _])
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
    let file = File::open(path).map_err(Error::io("cannot read", path))?;
    read_from(path, BufReader::with_capacity(1 << 16, file), segment_samples)
}

/// [`read_with`] from any source of bytes; `path` is only named in errors.
///
/// # Errors
/// Those of [`read`].
pub fn read_from(path: &Path, source: impl BufRead, segment_samples: usize) -> Result<Raw> {
    let mut input = Input::new(path, source);
    let mut train = read_set(&mut input, "train", segment_samples)?;
    if input.at_end()? {
        return Err(input.bad("has only one pickle; expected train then test"));
    }
    let mut test = read_set(&mut input, "test", segment_samples)?;
    if !input.at_end()? {
        return Err(input.bad(format!("has more data after its second pickle, from byte {}", input.at)));
    }
    if let (Some(a), Some(b)) = (train.segments.first(), test.segments.first())
        && a.len() != b.len()
    {
        let lengths = format!("train segments have {} samples, test segments {}", a.len(), b.len());
        return Err(input.bad(format!("{lengths}; they must be alike")));
    }
    let scale_note = normalise(&mut train, &mut test);
    Ok(Raw { train, test, scale_note })
}

/// Brings samples at integer scale to -1..1, and says so.
fn normalise(train: &mut RawSet, test: &mut RawSet) -> String {
    let samples = |set: &RawSet| set.segments.iter().flatten().fold(0f32, |peak, s| peak.max(s.abs()));
    let peak = samples(train).max(samples(test));
    let shown = (f64::from(peak) * 1000.0).round() / 1000.0;
    if peak <= FLOAT_PEAK {
        return format!("samples look like floats in -1..1 (peak {shown}): used as they are");
    }
    for segment in train.segments.iter_mut().chain(&mut test.segments) {
        segment.iter_mut().for_each(|s| *s /= 32_768.0);
    }
    format!("samples look like 16-bit integers (peak {shown}): divided by 32,768")
}

/// Runs one pickle and takes its lists apart.
fn read_set<R: BufRead>(input: &mut Input<'_, R>, which: &str, segment_samples: usize) -> Result<RawSet> {
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
            Some(Value::Float(x)) => Err(bad(format!("{name}[{i}] is {x}; expected an integer"))),
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
    let segments = take_segments(&mut heap, data, input.at, segment_samples).map_err(bad)?;
    Ok(group(segments, labels, &ids))
}

/// Moves the segments out of the heap and checks each.
fn take_segments(
    heap: &mut Heap,
    data: Value,
    bytes_read: u64,
    at_least: usize,
) -> std::result::Result<Vec<Vec<f32>>, String> {
    let n = heap.items(data).map_or(0, Items::len);
    let mut segments: Vec<Vec<f32>> = Vec::new();
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
            Some(object @ Object::Items(_)) => match std::mem::replace(object, Object::Taken(i)) {
                Object::Items(items) => items.into_f32().ok_or_else(|| format!("data[{i}] holds what is no number"))?,
                _ => Vec::new(),
            },
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
    Ok(segments)
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

//! Prepared files: spectrograms on disk, for this program's next run and for other tools.
//!
//! A prepared file is a safetensors file (a JSON header, then raw little-endian numbers) with these tensors:
//!
//! | name | shape | type |
//! |---|---|---|
//! | `train.spectrograms` | `[N, bins, frames]` | f32 |
//! | `train.labels` | `[N]` | i64, indices into `classes` |
//! | `train.tracks` | `[N]` | i64, indices into `train.track_names` |
//! | `train.deformed` | `[N]` | i64, 0 or 1 + an index into `deformations`; only where some segments are deformed |
//! | `test.…` | the same for the test set, which has no `deformed` | |
//!
//! and these strings in the header's metadata: `format` ([`FORMAT`]), `name`, `synthetic` (`true` or `false`),
//! `classes`, `front_end`, `split`, `deformations`, `train.track_names` and `test.track_names` (JSON each), `checksum` of all
//! of it, numbers and strings.
//! The cache keeps a corpus that has no split yet in the same form, under the prefix `all.`.
//!
//! Writing streams the borrowed numbers to a temporary file beside the target and renames it. Reading trusts nothing:
//! no size is believed before it has been held against the length of the file, and every value is checked. Metadata may
//! be missing, as in a file that another tool wrote.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::segments::zeros;
use super::{Content, Corpus, Dataset, Meta, Set, split};
use crate::audio::augment::DEFORMATIONS;
use crate::audio::{FrontEnd, mel};
use crate::error::{Error, Result};
use crate::files;

/// What the metadata entry `format` says in the files written here.
pub const FORMAT: &str = "genregrad.prepared.2";

/// The same before the checksum was of the metadata too.
const FORMAT_1: &str = "genregrad.prepared.1";

/// How every version of it begins.
const FORMATS: &str = "genregrad.prepared.";

/// More classes are a mistake.
pub(super) const MAX_CLASSES: usize = 1000;

/// Longer headers are refused, as by every safetensors reader.
const MAX_HEADER: u64 = 100_000_000;

/// Writes a data set, divided by `kind`, for this program's `--data` and for other tools; `extra` goes into the
/// metadata as it is.
///
/// # Errors
/// The folder cannot be written to, or the disk is full: nothing is left behind then.
pub fn write(path: &Path, dataset: &Dataset, kind: split::Kind, extra: &BTreeMap<String, String>) -> Result<()> {
    let mut texts = extra.clone();
    texts.insert("split".to_owned(), json(path, &kind)?);
    save(path, &dataset.meta, &[("train", &dataset.train), ("test", &dataset.test)], texts)
}

/// Writes a corpus, split or not, with its list of skipped tracks and its notes: what the cache keeps.
///
/// # Errors
/// As [`write()`].
pub fn write_corpus(path: &Path, corpus: &Corpus) -> Result<()> {
    let skipped: Vec<_> = corpus.skipped.iter().map(|(track, reason)| (track.to_string_lossy(), reason)).collect();
    let mut extra = BTreeMap::from([
        ("skipped".to_owned(), json(path, &skipped)?),
        ("notes".to_owned(), json(path, &corpus.notes)?),
    ]);
    match &corpus.content {
        Content::Whole(set) => save(path, &corpus.meta, &[("all", set)], extra),
        Content::Split { train, test, kind } => {
            extra.insert("split".to_owned(), json(path, kind)?);
            save(path, &corpus.meta, &[("train", train), ("test", test)], extra)
        }
    }
}

/// True if the file begins like a safetensors file: the length of a header, then the header's opening brace.
pub fn is_prepared(path: &Path) -> bool {
    let mut start = [0u8; 9];
    let read = files::open(path).is_ok_and(|mut file| file.read_exact(&mut start).is_ok());
    let [length @ .., brace] = start;
    read && brace == b'{' && u64::from_le_bytes(length) <= MAX_HEADER
}

/// Reads a prepared file, written here or by another tool.
///
/// Labels and tracks may be of any integer type. Without `classes` the classes are called `class 0`, `class 1`, …;
/// without `front_end` the spectrograms are taken for log-mel ones of as many bins, the other settings the study's; without `split` the tracks
/// for divided at random; without `….track_names`
/// track 7 of the training set is called `train track 7`.
///
/// # Errors
/// Whatever is wrong with the file: truncated, damaged, lying about its sizes, tensors missing or of the wrong type or
/// shape, labels out of range, numbers that are not finite, rows of a track that do not stand together.
pub fn read(path: &Path) -> Result<Corpus> {
    let mut reader = Reader::open(path)?;
    let content = if reader.tensors.info("all.spectrograms").is_some() {
        Content::Whole(reader.set("all")?)
    } else {
        let kind = reader.json("split")?.unwrap_or_default();
        Content::Split { train: reader.set("train")?, test: reader.set("test")?, kind }
    };
    reader.check()?;

    let sets = match &content {
        Content::Whole(set) => vec![("all", set)],
        Content::Split { train, test, .. } => vec![("train", train), ("test", test)],
    };
    let mut notes: Vec<String> = reader.json("notes")?.unwrap_or_default();
    let classes = match reader.json::<Vec<String>>("classes")? {
        Some(classes) => classes,
        None => {
            let largest = sets.iter().flat_map(|(_, set)| &set.labels).max().copied().unwrap_or(0);
            numbered_classes(largest).map_err(|message| reader.error(message))?
        }
    };
    if !(2..=MAX_CLASSES).contains(&classes.len()) {
        return Err(reader.error(format!("{} classes; expected 2 to {MAX_CLASSES}", classes.len())));
    }
    for (prefix, set) in &sets {
        if let Some(row) = set.labels.iter().position(|&label| label as usize >= classes.len()) {
            let label = set.labels[row];
            let message =
                format!("{prefix}.labels: row {row} has label {label}, but there are {} classes", classes.len());
            return Err(reader.error(message));
        }
    }

    let [bins, frames] = reader.image;
    let front_end = match reader.json::<FrontEnd>("front_end")? {
        Some(front_end) if front_end.bins() != bins => {
            let message = format!("front_end has {} bins, but the spectrograms have {bins}", front_end.bins());
            return Err(reader.error(message));
        }
        Some(front_end) => front_end,
        None => {
            let front_end = assumed(bins);
            notes.push(format!("{}: names no front end, taken for {front_end}", path.display()));
            front_end
        }
    };
    let skipped: Vec<(PathBuf, String)> = reader.json("skipped")?.unwrap_or_default();
    let name = reader.texts.get("name").cloned().unwrap_or_else(|| super::name_of(path));
    let synthetic = reader.texts.get("synthetic").is_some_and(|text| text == "true");
    Ok(Corpus { meta: Meta { name, synthetic, classes, front_end, bins, frames }, content, skipped, notes })
}

/// The front end of a prepared file, as [`read`] takes it, from its header alone.
///
/// # Errors
/// As [`read`], as far as the header goes.
pub fn front_end(path: &Path) -> Result<FrontEnd> {
    let reader = Reader::open(path)?;
    if let Some(named) = reader.json("front_end")? {
        return Ok(named);
    }
    let info = reader.info("all.spectrograms").or_else(|_| reader.info("train.spectrograms"))?;
    Ok(info.shape.get(1).map_or_else(FrontEnd::default, |&bins| assumed(bins)))
}

/// What spectrograms of so many bins are taken for where nothing says what they are: the study's log-mel, of windows long
/// enough for as many bands.
fn assumed(bins: usize) -> FrontEnd {
    let usual = mel::Settings::default();
    FrontEnd::Mel(mel::Settings { n_mels: bins, n_fft: usual.n_fft.max(2 * bins.next_power_of_two()), ..usual })
}

/// How the tracks of a prepared file were divided, from its header alone.
///
/// # Errors
/// As [`read`], as far as the header goes.
pub fn split(path: &Path) -> Result<split::Kind> {
    Ok(Reader::open(path)?.json("split")?.unwrap_or_default())
}

/// Whether a prepared file holds deformed segments, from its header alone.
///
/// # Errors
/// As [`read`], as far as the header goes.
pub fn is_augmented(path: &Path) -> Result<bool> {
    let reader = Reader::open(path)?;
    Ok(["all.deformed", "train.deformed"].iter().any(|name| reader.tensors.info(name).is_some()))
}

/// Checks that the rows of each track stand together and share one label, and numbers the tracks 0, 1, … in order of
/// appearance: returns the new number of every row, and every track's old number.
///
/// # Errors
/// The message, without the file's name.
pub(super) fn number_tracks(labels: &[u32], tracks: &[u32]) -> std::result::Result<(Vec<u32>, Vec<u32>), String> {
    let (mut seen, mut old, mut new) = (HashSet::new(), Vec::new(), Vec::with_capacity(tracks.len()));
    for (row, (&label, &track)) in labels.iter().zip(tracks).enumerate() {
        if old.last() != Some(&track) {
            if !seen.insert(track) {
                return Err(format!("the rows of track {track} do not stand together; sort the rows by track"));
            }
            old.push(track);
        } else if labels[row - 1] != label {
            return Err(format!("track {track} has rows of class {} and of class {label}", labels[row - 1]));
        }
        new.push(old.len() as u32 - 1);
    }
    Ok((new, old))
}

/// `class 0`, `class 1`, … up to the largest label, for a source that names no classes.
///
/// # Errors
/// The message, where the label is too large to be a class's number.
pub(super) fn numbered_classes(largest: u32) -> std::result::Result<Vec<String>, String> {
    if (largest as usize) < MAX_CLASSES {
        Ok((0..=largest).map(|label| format!("class {label}")).collect())
    } else {
        Err(format!("label {largest} is no class's number: classes count from 0"))
    }
}

/// One digest of all tensors, whatever their order in the file: the only one in files of [`FORMAT_1`].
fn digest_of_tensors(hashes: &BTreeMap<String, blake3::Hash>) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    for (name, hash) in hashes {
        hasher.update(format!("{name} {hash}\n").as_bytes());
    }
    hasher
}

/// One digest of all tensors, their `layout` (a line each, sorted) and all strings but itself.
fn checksum<'t>(
    hashes: &BTreeMap<String, blake3::Hash>,
    layout: &BTreeSet<String>,
    texts: impl IntoIterator<Item = (&'t String, &'t String)>,
) -> String {
    let mut hasher = digest_of_tensors(hashes);
    let texts: BTreeMap<&String, &String> = texts.into_iter().filter(|(key, _)| *key != CHECKSUM).collect();
    for text in layout.iter().chain(texts.into_iter().flat_map(|(key, text)| [key, text])) {
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }
    hasher.finalize().to_string()
}

/// A tensor's line in the layout.
fn line(name: &str, dtype: Dtype, shape: &[usize]) -> String {
    format!("{name} {dtype} {shape:?}")
}

/// The metadata entry of the checksum.
const CHECKSUM: &str = "checksum";

fn json(path: &Path, value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::data(path, format!("cannot write metadata: {e}")))
}

/// A tensor on its way to the file.
struct Tensor<'a> {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Cow<'a, [u8]>,
}

fn save(path: &Path, meta: &Meta, sets: &[(&str, &Set)], mut texts: BTreeMap<String, String>) -> Result<()> {
    // 8-byte types first, so that every tensor is aligned to its type
    let mut tensors = Vec::new();
    for (prefix, set) in sets {
        let mut integers = |what, values: &mut dyn Iterator<Item = i64>| {
            let (name, shape) = (format!("{prefix}.{what}"), vec![set.len()]);
            let bytes = Cow::Owned(values.flat_map(i64::to_le_bytes).collect());
            tensors.push(Tensor { name, dtype: Dtype::I64, shape, bytes });
        };
        integers("labels", &mut set.labels.iter().map(|&v| v.into()));
        integers("tracks", &mut set.tracks.iter().map(|&v| v.into()));
        if set.deformed() > 0 {
            integers("deformed", &mut set.deformed.iter().map(|&v| v.into()));
            texts.insert("deformations".into(), json(path, &DEFORMATIONS)?);
        }
    }
    for (prefix, set) in sets {
        let (name, shape) = (format!("{prefix}.spectrograms"), vec![set.len(), meta.bins, meta.frames]);
        let bytes = Cow::Borrowed(bytemuck::cast_slice(&set.spectrograms));
        tensors.push(Tensor { name, dtype: Dtype::F32, shape, bytes });
        texts.insert(format!("{prefix}.track_names"), json(path, &set.track_names)?);
    }
    let hashes = tensors.iter().map(|tensor| (tensor.name.clone(), blake3::hash(&tensor.bytes))).collect();
    texts.insert("format".into(), FORMAT.into());
    texts.insert("name".into(), meta.name.clone());
    texts.insert("synthetic".into(), meta.synthetic.to_string());
    texts.insert("classes".into(), json(path, &meta.classes)?);
    texts.insert("front_end".into(), json(path, &meta.front_end)?);
    let layout = tensors.iter().map(|tensor| line(&tensor.name, tensor.dtype, &tensor.shape)).collect();
    let digest = checksum(&hashes, &layout, &texts);
    texts.insert(CHECKSUM.into(), digest);

    // the header in a fixed order: equal data make equal files
    let mut header = serde_json::Map::from_iter([("__metadata__".to_owned(), serde_json::json!(texts))]);
    let mut offset = 0;
    for Tensor { name, dtype, shape, bytes } in &tensors {
        let data_offsets = (offset, offset + bytes.len());
        header
            .insert(name.clone(), serde_json::json!(TensorInfo { dtype: *dtype, shape: shape.clone(), data_offsets }));
        offset += bytes.len();
    }
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');

    files::replace_with(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        tensors.iter().try_for_each(|tensor| file.write_all(&tensor.bytes))
    })
}

/// An open safetensors file whose header has been held against the file's length.
struct Reader {
    path: PathBuf,
    file: File,
    /// Where the numbers begin, bytes.
    start: u64,
    tensors: Metadata,
    texts: HashMap<String, String>,
    /// Digests of the tensors read so far.
    hashes: BTreeMap<String, blake3::Hash>,
    /// `[bins, frames]` of the sets read so far; zeros before the first.
    image: [usize; 2],
}

impl Reader {
    fn open(path: &Path) -> Result<Self> {
        let mut file = files::open(path)?;
        let length = file.metadata().map_err(Error::io("cannot read", path))?.len();
        let mut start = [0u8; 8];
        if length < 8 {
            return Err(Error::data(path, format!("not a prepared file: only {length} bytes")));
        }
        file.read_exact(&mut start).map_err(Error::io("cannot read", path))?;
        let header_length = u64::from_le_bytes(start);
        if header_length > MAX_HEADER {
            return Err(Error::data(path, "not a prepared file: it does not begin like safetensors"));
        }
        if 8 + header_length > length {
            let message = format!("truncated: its header should have {header_length} bytes, the file has {length}");
            return Err(Error::data(path, message));
        }
        let mut header = vec![0; header_length as usize];
        file.read_exact(&mut header).map_err(Error::io("cannot read", path))?;
        let tensors: Metadata = serde_json::from_slice(&header)
            .map_err(|e| Error::data(path, format!("damaged: its safetensors header cannot be read: {e}")))?;
        let expected = (8 + header_length).checked_add(tensors.data_len() as u64);
        if expected != Some(length) {
            let promised = expected.map_or("too many".to_owned(), |n| n.to_string());
            let message = format!("truncated or damaged: its header promises {promised} bytes, the file has {length}");
            return Err(Error::data(path, message));
        }
        let texts = tensors.metadata().clone().unwrap_or_default();
        let start = 8 + header_length;
        Ok(Reader { path: path.to_owned(), file, start, tensors, texts, hashes: BTreeMap::new(), image: [0, 0] })
    }

    fn error(&self, message: impl Into<String>) -> Error {
        Error::data(&self.path, message)
    }

    /// Holds what was read against the checksum; a file of this program must have one.
    fn check(&self) -> Result<()> {
        let format = self.texts.get("format").map_or("", String::as_str);
        let matches = |expected: &String| match format {
            FORMAT_1 => *expected == digest_of_tensors(&self.hashes).finalize().to_string(),
            other if other.starts_with(FORMATS) && other != FORMAT => false,
            _ => {
                let tensors = self.tensors.tensors();
                let layout = tensors.iter().map(|(name, info)| line(name, info.dtype, &info.shape)).collect();
                *expected == checksum(&self.hashes, &layout, &self.texts)
            }
        };
        match self.texts.get(CHECKSUM) {
            None if !format.starts_with(FORMATS) => Ok(()),
            Some(expected) if matches(expected) => Ok(()),
            _ => Err(self.error("damaged, or of another version: it does not match its checksum; prepare it again")),
        }
    }

    /// The metadata entry `key`, if it is there.
    fn json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let Some(text) = self.texts.get(key) else { return Ok(None) };
        let value = serde_json::from_str(text).map_err(|e| self.error(format!("metadata `{key}`: {e}")))?;
        Ok(Some(value))
    }

    fn info(&self, name: &str) -> Result<TensorInfo> {
        self.tensors.info(name).cloned().ok_or_else(|| {
            self.error(format!(
                "no tensor `{name}`; a prepared file has spectrograms, labels and tracks of train and test"
            ))
        })
    }

    /// Fills `bytes`, which is as long as the tensor.
    fn fill(&mut self, name: &str, info: &TensorInfo, bytes: &mut [u8]) -> Result<()> {
        let start = SeekFrom::Start(self.start + info.data_offsets.0 as u64);
        self.file.seek(start).map_err(Error::io("cannot read", &self.path))?;
        self.file.read_exact(bytes).map_err(Error::io("cannot read", &self.path))?;
        self.hashes.insert(name.to_owned(), blake3::hash(bytes));
        Ok(())
    }

    /// The set whose tensors' names begin with `prefix`.
    fn set(&mut self, prefix: &str) -> Result<Set> {
        let labels = self.integers(&format!("{prefix}.labels"))?;
        let tracks = self.integers(&format!("{prefix}.tracks"))?;
        let name = format!("{prefix}.spectrograms");
        let info = self.info(&name)?;
        let &[rows, bins, frames] = &info.shape[..] else {
            return Err(self.error(format!("{name}: expected [N, bins, frames], got {:?}", info.shape)));
        };
        if info.dtype != Dtype::F32 {
            return Err(self.error(format!("{name}: expected F32, got {}", info.dtype)));
        }
        if rows == 0 || bins == 0 || frames == 0 {
            return Err(self.error(format!("{name}: empty, {:?}", info.shape)));
        }
        if labels.len() != rows || tracks.len() != rows {
            let message = format!("{prefix}: {rows} spectrograms, {} labels, {} tracks", labels.len(), tracks.len());
            return Err(self.error(message));
        }
        if self.image != [0, 0] && self.image != [bins, frames] {
            let [b, f] = self.image;
            return Err(self.error(format!("{name}: {bins} x {frames}, but the training set's are {b} x {f}")));
        }
        self.image = [bins, frames];

        // the header's sizes agree with the length of the file, so this allocates no more than the file holds
        let mut spectrograms = zeros(&[rows, bins, frames])?;
        self.fill(&name, &info, bytemuck::cast_slice_mut(&mut spectrograms))?;
        if let Some(at) = spectrograms.iter().position(|value| !value.is_finite()) {
            return Err(self.error(format!("{name}: row {} holds {}", at / (bins * frames), spectrograms[at])));
        }
        let deformed = self.deformed(prefix, rows)?;
        let (numbered, ids) =
            number_tracks(&labels, &tracks).map_err(|message| self.error(format!("{prefix}: {message}")))?;
        match self.json::<Vec<String>>(&format!("{prefix}.track_names"))? {
            Some(track_names) => {
                if let Some(id) = ids.iter().find(|&&id| id as usize >= track_names.len()) {
                    let names = track_names.len();
                    return Err(self.error(format!("{prefix}.tracks: track {id}, but only {names} track names")));
                }
                Ok(Set { spectrograms, labels, tracks, track_names, deformed })
            }
            None => {
                let track_names = ids.iter().map(|id| format!("{prefix} track {id}")).collect();
                Ok(Set { spectrograms, labels, tracks: numbered, track_names, deformed })
            }
        }
    }

    /// Which of the set's rows are deformed, and how; empty where none is.
    fn deformed(&mut self, prefix: &str, rows: usize) -> Result<Vec<u8>> {
        let name = format!("{prefix}.deformed");
        if self.tensors.info(&name).is_none() {
            return Ok(Vec::new());
        }
        let values = self.integers(&name)?;
        if values.len() != rows {
            return Err(self.error(format!("{name}: {} values for {rows} spectrograms", values.len())));
        }
        if let Some(row) = values.iter().position(|&value| value as usize > DEFORMATIONS.len()) {
            let message = format!("row {row} has deformation {}, there are {}", values[row], DEFORMATIONS.len());
            return Err(self.error(format!("{name}: {message}")));
        }
        if prefix == "test" && values.iter().any(|&value| value > 0) {
            return Err(self.error(format!("{name}: the test set must hold no deformed segments")));
        }
        Ok(values.into_iter().map(|value| value as u8).collect())
    }

    /// A vector of integers of any type.
    fn integers(&mut self, name: &str) -> Result<Vec<u32>> {
        let info = self.info(name)?;
        if info.shape.len() != 1 {
            return Err(self.error(format!("{name}: expected [N], got {:?}", info.shape)));
        }
        let mut bytes = vec![0; info.data_offsets.1 - info.data_offsets.0];
        self.fill(name, &info, &mut bytes)?;
        macro_rules! values {
            ($type:ty) => {
                bytes.as_chunks().0.iter().map(|&b| i128::from(<$type>::from_le_bytes(b))).collect::<Vec<_>>()
            };
        }
        let values = match info.dtype {
            Dtype::U8 => values!(u8),
            Dtype::I8 => values!(i8),
            Dtype::U16 => values!(u16),
            Dtype::I16 => values!(i16),
            Dtype::U32 => values!(u32),
            Dtype::I32 => values!(i32),
            Dtype::U64 => values!(u64),
            Dtype::I64 => values!(i64),
            other => return Err(self.error(format!("{name}: expected integers (I64), got {other}"))),
        };
        let number =
            |(row, value)| u32::try_from(value).map_err(|_| self.error(format!("{name}: row {row} is {value}")));
        values.into_iter().enumerate().map(number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::number_tracks;

    #[test]
    fn tracks_are_numbered_in_order_of_appearance() {
        let (new, old) = number_tracks(&[0, 0, 1, 1, 1, 0], &[7, 7, 2, 2, 2, 0]).unwrap();
        assert_eq!(new, [0, 0, 1, 1, 1, 2]);
        assert_eq!(old, [7, 2, 0]);
    }

    #[test]
    fn scattered_rows_and_two_classes_in_one_track_are_refused() {
        let scattered = number_tracks(&[0, 0, 0], &[4, 5, 4]).unwrap_err();
        assert!(scattered.contains("rows of track 4 do not stand together"), "{scattered}");
        let mixed = number_tracks(&[0, 1], &[4, 4]).unwrap_err();
        assert!(mixed.contains("track 4 has rows of class 0 and of class 1"), "{mixed}");
    }
}

//! The curve as TensorBoard's event file: `tensorboard --logdir FOLDER` draws it.
//!
//! The file is a sequence of TFRecords (a length, its checksum, the bytes, their checksum, little-endian). The bytes of each
//! are an `Event` in protobuf's encoding (tensorflow/core/util/event.proto, summary.proto). Written by hand: four fields.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crc::{CRC_32_ISCSI, Crc};

use crate::error::{Error, Result};
use crate::files;

use super::metrics::Epoch;

/// The event file within the run's folder.
pub(super) const FILE: &str = "events.out.tfevents.genregrad";

/// An event file that is being written.
pub(super) struct Events {
    path: PathBuf,
    file: File,
    /// Whether nothing has been written yet.
    empty: bool,
}

impl Events {
    /// Creates the run's event file, with the epochs that an earlier attempt finished and when they ended, s since 1970.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub(super) fn start(folder: &Path, epochs: &[Epoch], times: &[f64]) -> Result<Self> {
        let path = folder.join(FILE);
        let (file, _) = files::open_own(&path)?;
        file.set_len(0).map_err(Error::io("cannot write", &path))?;
        let mut events = Events { path, file, empty: true };
        epochs.iter().zip(times).try_for_each(|(epoch, &time)| events.write(epoch, time))?;
        Ok(events)
    }

    /// Whether the run in `folder` has an event file.
    pub(super) fn are_in(folder: &Path) -> bool {
        folder.join(FILE).is_file()
    }

    /// Adds an epoch that ended at `time`, s since 1970.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub(super) fn write(&mut self, epoch: &Epoch, time: f64) -> Result<()> {
        let scalars = [
            ("loss", epoch.loss),
            ("learning_rate", epoch.learning_rate),
            ("raw_accuracy/train", epoch.train_accuracy),
            ("raw_accuracy/test", epoch.test_accuracy),
        ];
        // The first record has the first epoch's time: a file that is written again begins with the same bytes.
        let first = if std::mem::take(&mut self.empty) { record(&version_event(time)) } else { Vec::new() };
        let records = scalars.map(|(tag, value)| record(&scalar_event(time, epoch.epoch, tag, value as f32)));
        self.file.write_all(&[first, records.concat()].concat()).map_err(Error::io("cannot write", &self.path))
    }
}

/// `bytes` as a TFRecord.
fn record(bytes: &[u8]) -> Vec<u8> {
    const CASTAGNOLI: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
    let masked = |bytes: &[u8]| CASTAGNOLI.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes();
    let length = (bytes.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), bytes, &masked(bytes)].concat()
}

/// Protobuf's wire types.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;

/// A field's number and wire type, then its value.
fn field(number: u8, wire: u8, value: &[u8]) -> Vec<u8> {
    [&[number << 3 | wire], value].concat()
}

/// Seven bits per byte, the lowest first; all but the last byte have their high bit set.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A field of bytes, text or a message, with its length.
fn delimited(number: u8, bytes: &[u8]) -> Vec<u8> {
    field(number, BYTES, &[&varint(bytes.len() as u64), bytes].concat())
}

/// `Event { wall_time = 1, file_version = 3 }`: the first one of every file.
fn version_event(time: f64) -> Vec<u8> {
    [field(1, FIXED64, &time.to_le_bytes()), delimited(3, b"brain.Event:2")].concat()
}

/// `Event { wall_time = 1, step = 2, summary = 5 { value = 1 { tag = 1, simple_value = 2 } } }`.
fn scalar_event(time: f64, step: u32, tag: &str, value: f32) -> Vec<u8> {
    let value = [delimited(1, tag.as_bytes()), field(2, FIXED32, &value.to_le_bytes())].concat();
    let (time, step) = (field(1, FIXED64, &time.to_le_bytes()), field(2, VARINT, &varint(step.into())));
    [time, step, delimited(5, &delimited(1, &value))].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that TensorBoard 2.21's own writer makes of the same events (tensorboard.summary.writer.record_writer and
    /// tensorboard.compat.proto.event_pb2).
    #[test]
    fn records_are_tensorboards() {
        let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(
            hex(record(&version_event(1_700_000_000.5))),
            "1800000000000000a37f4b220900002040fc54d9411a0d627261696e2e4576656e743a322b353110"
        );
        assert_eq!(
            hex(record(&scalar_event(1_700_000_012.25, 300, "raw_accuracy/test", 61.5))),
            "2800000000000000ff70164a0900001043fc54d94110ac022a1a0a180a117261775f61636375726163792f7465737415000076423a910b61"
        );
    }
}

//! FLAC files.

use std::fs::File;
use std::path::Path;

use super::decode::{Mono, decode_container};
use crate::error::Result;

/// Decodes a FLAC file into `mono`.
pub(super) fn decode(path: &Path, file: File, mono: &mut Mono) -> Result<()> {
    decode_container(path, file, mono)
}

//! MP3 files.

use std::path::Path;

use super::decode::{Mono, decode_container};
use super::section::Section;
use crate::error::Result;

/// Decodes an MP3 file into `mono`.
pub(super) fn decode(path: &Path, file: Section, mono: &mut Mono) -> Result<()> {
    decode_container(path, file, mono)
}

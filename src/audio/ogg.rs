//! Ogg: pages around Vorbis packets.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::decode::{Mono, decode_container};
use super::section::Section;
use crate::error::{Error, Result};

/// Decodes an Ogg file of `length` bytes into `mono`.
pub(super) fn decode(path: &Path, mut file: Section, length: u64, mono: &mut Mono) -> Result<()> {
    check_end(path, &mut file, length)?;
    decode_container(path, file, mono)
}

/// Refuses an Ogg file of `length` bytes that does not end with a page marked as its stream's last.
fn check_end(path: &Path, file: &mut Section, length: u64) -> Result<()> {
    // A page: "OggS", version, flags (4 = last), 20 bytes, a count of segments, their lengths, their bytes.
    const HEAD: u64 = 27;
    const LONGEST: u64 = HEAD + 255 + 255 * 255;
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(length.saturating_sub(2 * LONGEST)))
        .and_then(|_| file.read_to_end(&mut tail))
        .map_err(Error::io("cannot read", path))?;
    let pages = |from: &mut usize| {
        let at = *from + tail.get(*from..)?.windows(5).position(|bytes| bytes == b"OggS\0")?;
        *from = at + 1;
        Some(at)
    };
    let mut from = 0;
    let ends = std::iter::from_fn(|| pages(&mut from)).any(|at| {
        let page = &tail[at..];
        let is_last = page.get(5).is_some_and(|flags| flags & 4 != 0);
        let segments = page.get(26).map_or(0, |&count| usize::from(count));
        let lengths = page.get(HEAD as usize..HEAD as usize + segments);
        let bytes = lengths.map(|lengths| lengths.iter().map(|&n| usize::from(n)).sum::<usize>());
        is_last && bytes.is_some_and(|bytes| page.len() >= HEAD as usize + segments + bytes)
    });
    if ends { Ok(()) } else { Err(Error::audio(path, "truncated: the last page of the ogg file is missing")) }
}

//! The frames of an MP3 stream, one after the other, and what lies between them.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::header::{Count, Header};
use crate::audio::section::Section;
use crate::audio::tags;
use crate::error::{Error, Result};

/// Bytes read at a time, and bytes searched at a time. The rest holds the frames that a search looks ahead to.
const BLOCK: usize = 1 << 17;
const SEARCH: usize = 1 << 15;

/// The first frame starts within so many bytes.
const SEARCHED: u64 = 1 << 20;

/// So many headers, each at the end of the frame before it, are no accident.
const SURE: usize = 4;

/// Frames over which their mean length is taken.
const MEMORY: f64 = 16.0;

/// Longest frame of free format that is looked for, bytes.
const FREE: usize = 1 << 13;

/// A file that is read at increasing positions, mostly.
pub(super) struct Window<'a> {
    path: &'a Path,
    file: Section,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(super) fn new(path: &'a Path, file: Section) -> Self {
        Window { path, file, start: 0, bytes: Vec::new() }
    }

    fn end(&self) -> u64 {
        self.file.length()
    }

    /// The `length` bytes at `at`, or as many as there are.
    pub(super) fn get(&mut self, at: u64, length: usize) -> Result<&[u8]> {
        let end = (at + length as u64).min(self.end());
        if at < self.start || end > self.start + self.bytes.len() as u64 {
            self.bytes.clear();
            self.start = at;
            let wanted = length.max(BLOCK) as u64;
            let read = self.file.seek(SeekFrom::Start(at));
            let read = read.and_then(|_| self.file.by_ref().take(wanted).read_to_end(&mut self.bytes));
            read.map_err(Error::io("cannot read", self.path))?;
        }
        let from = ((at - self.start) as usize).min(self.bytes.len());
        Ok(&self.bytes[from..self.bytes.len().min(from + length)])
    }

    fn header(&mut self, at: u64) -> Result<Option<Header>> {
        Ok(Header::of(self.get(at, Header::LENGTH)?))
    }

    /// The header at `at`, if `count` frames that are alike follow one another from there on, or as many as there are
    /// before the end of the file.
    fn chain(&mut self, at: u64, count: usize) -> Result<Option<Header>> {
        let Some(first) = self.header(at)?.filter(|header| header.length > 0) else { return Ok(None) };
        let mut next = at + first.length as u64;
        for confirmed in 0..count - 1 {
            if next + Header::LENGTH as u64 > self.end() {
                return Ok(Some(first).filter(|_| confirmed > 0 || next == self.end()));
            }
            match self.header(next)? {
                Some(header) if header.length > 0 && header.is_like(&first) => next += header.length as u64,
                _ => return Ok(None),
            }
        }
        Ok(Some(first))
    }

    /// The first place in `from..to` at which `count` frames of layer III, like `like`, follow one another.
    fn find(&mut self, from: u64, to: u64, count: usize, like: Option<&Header>) -> Result<Option<u64>> {
        let mut at = from;
        while at < to.min(self.end()) {
            let Some(ahead) = self.get(at, SEARCH)?.iter().position(|&byte| byte == 0xff) else {
                at += SEARCH as u64;
                continue;
            };
            at += ahead as u64;
            if at < to
                && let Some(found) = self.chain(at, count)?
                && found.layer == 3
                && like.is_none_or(|like| found.is_like(like))
            {
                return Ok(Some(at));
            }
            at += 1;
        }
        Ok(None)
    }

    /// The first place in `from..to` at which an ID3v2 tag starts that ends within the file.
    fn find_tag(&mut self, from: u64, to: u64) -> Result<Option<u64>> {
        let (mut at, end) = (from, self.end());
        while at < to {
            let bytes = self.get(at, SEARCH)?;
            match bytes.windows(3).position(|word| word == b"ID3") {
                Some(ahead) => at += ahead as u64,
                None => {
                    // the last two bytes may start one
                    at += (bytes.len() as u64).saturating_sub(2).max(1);
                    continue;
                }
            }
            let length = tags::length(self.get(at, tags::LONGEST_START)?);
            if at < to && length.is_some_and(|length| at + length <= end) {
                return Ok(Some(at));
            }
            at += 1;
        }
        Ok(None)
    }

    /// Where the first frame starts, and its header; `None` if there are no frames. Layers I and II are only looked for at
    /// the start of the file.
    pub(super) fn first(&mut self) -> Result<Option<(u64, Header)>> {
        if let Some(header) = self.chain(0, SURE)? {
            return Ok(Some((0, header)));
        }
        let Some(sure) = self.find(0, SEARCHED, SURE, None)? else { return Ok(None) };
        let Some(like) = self.header(sure)? else { return Ok(None) };
        // a damaged frame may follow after one or two good ones
        let at = self.find(0, sure, 2, Some(&like))?.unwrap_or(sure);
        Ok(self.header(at)?.map(|header| (at, header)))
    }

    /// Whether the first bytes are frames of equal length whose headers do not say how long they are.
    pub(super) fn is_free_format(&mut self) -> Result<bool> {
        let bytes = self.get(0, 2 * FREE + 2 * Header::LENGTH)?;
        let Some(first) = Header::of(bytes).filter(|header| header.length == 0) else { return Ok(false) };
        let alike = |at: usize| {
            let header = bytes.get(at..).and_then(Header::of);
            header.is_some_and(|header| header.length == 0 && header.is_like(&first))
        };
        // with and without a byte of padding
        Ok((24..FREE)
            .any(|length| alike(length) && (alike(2 * length - 1) || alike(2 * length) || alike(2 * length + 1))))
    }
}

/// What comes next in a stream.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    /// A frame of sound.
    Sound(Header, Vec<u8>),
    /// A header frame: the start of a recording.
    Count(Count),
    /// About so many frames that are not there, or not whole.
    Lost(u64),
    /// The last frame is not whole, or so many bytes without frames end the file.
    Rest(u64),
}

/// A place in a stream from which it can be read again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    at: u64,
    /// Length of the last frame, and mean length of the last frames, bytes.
    last: u64,
    mean: f64,
}

/// Walks over a stream.
pub(super) struct Frames<'a> {
    pub(super) window: Window<'a>,
    like: Header,
    mark: Mark,
}

impl<'a> Frames<'a> {
    /// The frames from `at` on, which are like `like`.
    pub(super) fn new(window: Window<'a>, at: u64, like: Header) -> Self {
        Frames { window, like, mark: Mark { at, last: like.length as u64, mean: like.length as f64 } }
    }

    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    /// Goes on at `mark`.
    pub(super) fn go(&mut self, mark: Mark) {
        self.mark = mark;
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read, or another stream begins.
    pub(super) fn next(&mut self) -> Result<Option<Piece>> {
        loop {
            let (at, end) = (self.mark.at, self.window.end());
            if at >= end {
                return Ok(None);
            }
            match self.window.header(at)? {
                Some(header) if header.length > 0 && header.is_like(&self.like) => return self.frame(header).map(Some),
                // a tag between two recordings
                _ => match tags::length(self.window.get(at, tags::LONGEST_START)?) {
                    Some(length) => self.mark.at = at.saturating_add(length),
                    None => return self.gap().map(Some),
                },
            }
        }
    }

    /// The frame that starts here.
    fn frame(&mut self, header: Header) -> Result<Piece> {
        let (at, end) = (self.mark.at, self.window.end());
        let next = at + header.length as u64;
        if next > end {
            self.mark.at = end;
            return Ok(Piece::Rest(end - at));
        }
        let follows = next == end || self.window.header(next)?.is_some_and(|next| next.is_like(&header));
        if !follows && let Some(after) = self.after_damaged(&header)? {
            self.mark.at = after;
            return Ok(Piece::Lost(1));
        }
        self.mark.at = next;
        let bytes = self.window.get(at, header.length)?;
        if let Some(count) = Count::of(bytes, &header) {
            return Ok(Piece::Count(count));
        }
        let piece = Piece::Sound(header, bytes.to_vec());
        self.mark.last = header.length as u64;
        self.mark.mean += (header.length as f64 - self.mark.mean) / MEMORY;
        Ok(piece)
    }

    /// Where the next frame starts, if the frame here, which no frame follows, is not as long as its header says.
    fn after_damaged(&mut self, header: &Header) -> Result<Option<u64>> {
        let at = self.mark.at;
        let next = at + header.length as u64;
        // it has lost its end
        if let Some(inner) = self.window.find(at + Header::LENGTH as u64, next, SURE, Some(header))? {
            return Ok(Some(inner));
        }
        // it is as long as the one before it
        let last = self.mark.last;
        let later = self.window.find(next, at + last + 2, 2, Some(header))?;
        Ok(later.filter(|later| (later - at).abs_diff(last) <= 1))
    }

    /// The bytes from here to the next frame.
    fn gap(&mut self) -> Result<Piece> {
        let (at, end) = (self.mark.at, self.window.end());
        let path = self.window.path;
        let next = self.window.find(at, end, 2, Some(&self.like))?;
        // a tag further on may hold a picture that looks like frames
        if let Some(tag) = self.window.find_tag(at, next.unwrap_or(end))? {
            self.mark.at = tag;
            return Ok(Piece::Lost(0));
        }
        let Some(next) = next else {
            // what is not like this stream can be another one
            if self.window.find(at, end.min(at + SEARCHED), SURE, None)?.is_some() {
                return Err(changed(path));
            }
            self.mark.at = end;
            return Ok(Piece::Rest(end - at));
        };
        if self.window.find(at, next, SURE, None)?.is_some() {
            return Err(changed(path));
        }
        let frames = self.fitting(at, next)?;
        self.mark.at = next;
        let header = self.window.header(next)?.unwrap_or(self.like);
        let is_start = Count::of(self.window.get(next, header.length)?, &header).is_some();
        Ok(Piece::Lost(if is_start { 0 } else { frames }))
    }

    /// How many frames the bytes `from..to` were, where a frame starts at `to`.
    fn fitting(&mut self, from: u64, to: u64) -> Result<u64> {
        let (bytes, Mark { last, mean, .. }) = (to - from, self.mark);
        let &[sync, version, rate, mode] = self.window.get(to, Header::LENGTH)? else { return Ok(1) };
        let length = |bits: u8| Header::of(&[sync, version, rate & 0x0d | bits, mode]).map_or(0, |h| h.length as u64);
        // frames of one bitrate differ by a byte of padding
        let count = ((bytes as f64 / last as f64).round() as u64).max(1);
        if length(rate & 0xf2).abs_diff(last) <= 1 && bytes.abs_diff(count * last) <= count {
            return Ok(count);
        }
        let is_one = (1..15).flat_map(|bitrate| [bitrate << 4, bitrate << 4 | 2]).any(|bits| length(bits) == bytes);
        Ok(if is_one { 1 } else { (bytes as f64 / mean).round() as u64 })
    }
}

fn changed(path: &Path) -> Error {
    Error::audio(
        path,
        "its sample rate or its number of channels changes: several recordings are joined, split the file",
    )
}

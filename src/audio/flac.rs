//! FLAC: frames that each say where they belong, with a checksum over their header and one over all their bytes.
//!
//! Every frame is found and checked, also where only a part of the file is wanted; symphonia decodes those that are wanted.
//! A frame's number tells its first sample. A file that was cut out of another one starts with a higher number than 0:
//! sample 0 is the first sample of the first frame. Frames that are missing or damaged become silence of their length.
//! Bytes behind the last frame are ignored, unless they are the start of another frame.

use std::io::{self, Read, Seek};
use std::path::Path;

use symphonia::core::checksum::{Crc8Ccitt, Crc16Ansi};
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, well_known};
use symphonia::core::io::Monitor;
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Timestamp};

use super::mono::{Mono, is_bridgeable, make_decoder, truncated, undecodable};
use super::section::Section;
use crate::error::{Error, Result};

/// Bytes of the longest frame: 65,535 samples of 8 channels, not compressed, and some headers.
const LONGEST: usize = 65_535 * 8 * 33 / 8 + 256;

/// Bytes of the longest frame header.
const LONGEST_HEADER: usize = 16;

/// Bytes of the shortest frame.
const SHORTEST: u64 = 9;

/// Headers that are passed in the search for a frame's end. Sound hardly ever looks like a header.
const HEADERS_PASSED: usize = 2;

/// Times that bytes are decoded to find out whether they are a whole frame.
const TRIES: usize = 16;

/// Decodes the FLAC file `file` into `mono`.
///
/// # Errors
/// A file with damaged headers, with more damage than [`is_bridgeable`], or with fewer samples than its header says.
pub(super) fn decode(path: &Path, mut file: Section, mono: &mut Mono) -> Result<()> {
    file.rewind().map_err(Error::io("cannot read", path))?;
    decode_stream(path, file, mono)
}

/// Decodes a FLAC stream into `mono`; see [`decode`].
pub(super) fn decode_stream(path: &Path, mut file: impl Read, mono: &mut Mono) -> Result<()> {
    let fault = |error: io::Error| match error.kind() {
        io::ErrorKind::InvalidData => Error::audio(path, "the headers of the flac stream are damaged"),
        io::ErrorKind::UnexpectedEof => truncated(path),
        _ => Error::io("cannot read", path)(error),
    };
    let info = Info::read(&mut file).map_err(fault)?;
    mono.check(info.rate, info.channels)?;
    mono.expect(info.samples)?;
    let mut frames = Frames { file, info, bytes: Vec::new(), at: 0, is_at_end: false, rest: Vec::new() };
    let mut track = Track::default();
    let mut decoder = make_decoder(path, &frames.info.parameters())?;
    while let Some(frame) = frames.next(decoder.as_mut()).map_err(fault)? {
        let bytes = &frames.bytes[frames.at - frame.length..frames.at];
        if !frame.header.fits(&frames.info) {
            return Err(Error::audio(path, "sample rate, channels or bits change within the file"));
        }
        let samples = frame.header.samples.into();
        let lost = track.place(&frame, mono);
        mono.silence(lost)?;
        if mono.needs(samples) {
            let packet = Packet::new(0, Timestamp::new(0), Duration::from(samples), bytes);
            mono.push(&decoder.decode(&packet).map_err(|fault| undecodable(path, &fault))?)?;
        } else {
            mono.skip(samples);
        }
    }
    track.finish(path, &frames, mono)
}

/// What the header says of the stream.
struct Info {
    rate: u32,
    channels: usize,
    bits: u32,
    /// Samples per channel; 0 if not known.
    samples: u64,
    bytes: [u8; 34],
}

impl Info {
    /// Reads the mark and all blocks of metadata, up to the first frame.
    fn read(file: &mut impl Read) -> io::Result<Info> {
        let damaged = || io::Error::from(io::ErrorKind::InvalidData);
        let mut mark = [0; 4];
        file.read_exact(&mut mark)?;
        let mut info = None;
        loop {
            let mut head = [0; 4];
            file.read_exact(&mut head)?;
            let length = u32::from_be_bytes([0, head[1], head[2], head[3]]);
            match (head[0] & 0x7f, &info) {
                (0, None) if length == 34 => {
                    let mut bytes = [0; 34];
                    file.read_exact(&mut bytes)?;
                    info = Some(Info::parse(bytes));
                }
                (1..=126, Some(_)) => {
                    let skipped = io::copy(&mut file.take(length.into()), &mut io::sink())?;
                    if skipped < length.into() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                _ => return Err(damaged()),
            }
            if head[0] & 0x80 != 0 {
                return info.ok_or_else(damaged);
            }
        }
    }

    fn parse(bytes: [u8; 34]) -> Info {
        let packed = bytes[10..18].iter().fold(0, |packed, &byte| packed << 8 | u64::from(byte));
        Info {
            rate: (packed >> 44) as u32,
            channels: (packed >> 41 & 7) as usize + 1,
            bits: (packed >> 36 & 31) as u32 + 1,
            samples: packed & 0xf_ffff_ffff,
            bytes,
        }
    }

    /// For symphonia, which rejects block and frame sizes that other decoders do not use: the widest ones.
    fn parameters(&self) -> AudioCodecParameters {
        let mut extra = self.bytes;
        extra[..10].copy_from_slice(&[0, 16, 0xff, 0xff, 0, 0, 0, 0, 0, 0]);
        let mut parameters = AudioCodecParameters::new();
        parameters.for_codec(well_known::CODEC_ID_FLAC).with_extra_data(extra.into());
        parameters
    }
}

/// A frame's header.
#[derive(Debug, PartialEq)]
struct Header {
    /// True if `number` counts samples, false if it counts frames.
    is_variable: bool,
    number: u64,
    samples: u32,
    /// `None` is the stream's.
    rate: Option<u32>,
    channels: usize,
    /// `None` is the stream's.
    bits: Option<u32>,
}

impl Header {
    /// The header at the start of `bytes`, if its checksum is right.
    fn parse(bytes: &[u8]) -> Option<Header> {
        let [0xff, second @ (0xf8 | 0xf9), sizes, layout, lead, ..] = *bytes else { return None };
        let (extra, mut number) = match lead.leading_ones() {
            0 => (0, u64::from(lead)),
            ones @ 2..=7 => (ones as usize - 1, u64::from(lead) & (0x7f >> ones)),
            _ => return None,
        };
        for &byte in bytes.get(5..5 + extra)? {
            number = number << 6 | u64::from(byte & 0x3f);
        }
        let mut at = 5 + extra;
        let mut next = |count: usize| {
            at += count;
            Some(bytes.get(at - count..at)?.iter().fold(0, |value, &byte| value << 8 | u32::from(byte)))
        };
        let samples = match sizes >> 4 {
            1 => 192,
            code @ 2..=5 => 576 << (code - 2),
            6 => next(1)? + 1,
            7 => next(2)? + 1,
            code @ 8..=15 => 256 << (code - 8),
            _ => return None,
        };
        const RATES: [u32; 11] =
            [88_200, 176_400, 192_000, 8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000];
        let rate = match sizes & 15 {
            0 => None,
            code @ 1..=11 => Some(RATES[usize::from(code) - 1]),
            12 => Some(next(1)? * 1_000),
            13 => Some(next(2)?),
            14 => Some(next(2)? * 10),
            _ => return None,
        };
        let channels = match layout >> 4 {
            code @ 0..=7 => usize::from(code) + 1,
            8..=10 => 2,
            _ => return None,
        };
        let bits = match layout >> 1 & 7 {
            0 => None,
            3 => return None,
            code => Some([0, 8, 12, 0, 16, 20, 24, 32][usize::from(code)]),
        };
        let mut crc = Crc8Ccitt::new(0);
        let end = at;
        crc.process_buf_bytes(bytes.get(..end)?);
        let is_right = layout & 1 == 0 && samples < 65_536 && *bytes.get(end)? == crc.crc();
        is_right.then_some(Header { is_variable: second == 0xf9, number, samples, rate, channels, bits })
    }

    /// True if it is of the stream that `info` describes.
    fn fits(&self, info: &Info) -> bool {
        let has = |said: Option<u32>, expected| said.is_none_or(|said| said == expected);
        self.channels == info.channels && has(self.rate, info.rate) && has(self.bits, info.bits)
    }
}

/// A whole frame.
struct Frame {
    header: Header,
    /// Bytes.
    length: usize,
    /// Bytes before it that are no frame.
    skipped: u64,
}

/// Reads the whole frames of a file, and skips all other bytes.
struct Frames<R> {
    file: R,
    info: Info,
    bytes: Vec<u8>,
    at: usize,
    is_at_end: bool,
    /// The first bytes behind the last frame.
    rest: Vec<u8>,
}

impl<R: Read> Frames<R> {
    /// The next frame, whose last byte is the one before `self.at`.
    fn next(&mut self, decoder: &mut dyn AudioDecoder) -> io::Result<Option<Frame>> {
        let mut skipped = 0;
        loop {
            self.fill()?;
            let ahead = &self.bytes[self.at..];
            if skipped == 0 {
                self.rest = ahead.iter().copied().take(LONGEST_HEADER).collect();
            }
            let header = Header::parse(ahead).filter(|header| skipped == 0 || header.fits(&self.info));
            if let Some(header) = header
                && let Some(length) = self.length(ahead, decoder)
            {
                self.at += length;
                return Ok(Some(Frame { header, length, skipped }));
            }
            let next = ahead.windows(2).skip(1).position(|pair| pair[0] == 0xff && pair[1] & 0xfe == 0xf8);
            if next.is_none() && self.is_at_end {
                return Ok(None);
            }
            // the last byte may be the start of a header
            let step = next.map_or(ahead.len().saturating_sub(1).max(1), |next| next + 1);
            self.at += step;
            skipped += step as u64;
        }
    }

    /// The length of the frame at the start of `ahead`, if it is whole.
    fn length(&self, ahead: &[u8], decoder: &mut dyn AudioDecoder) -> Option<usize> {
        let (mut crc, mut passed, mut tries) = (Crc16Ansi::new(0), 0, 0);
        for (at, &byte) in ahead.iter().enumerate().take(LONGEST) {
            let is_mark = byte == 0xff && at > 0;
            if is_mark && Header::parse(&ahead[at..]).is_some_and(|header| header.fits(&self.info)) {
                if crc.crc() == 0 {
                    return Some(at);
                }
                passed += 1;
                if passed > HEADERS_PASSED {
                    return None;
                }
            } else if crc.crc() == 0 && at as u64 >= SHORTEST && tries < TRIES {
                // no other frame follows at once: its bytes may be damaged, or this is the last frame
                tries += 1;
                if is_frame(&ahead[..at], decoder) {
                    return Some(at);
                }
            }
            crc.process_byte(byte);
        }
        (crc.crc() == 0 && is_frame(ahead, decoder)).then_some(ahead.len())
    }

    /// Reads on until the longest frame and the header after it are there, or to the end.
    fn fill(&mut self) -> io::Result<()> {
        let wanted = LONGEST + LONGEST_HEADER;
        if self.is_at_end || self.bytes.len() - self.at >= wanted {
            return Ok(());
        }
        self.bytes.drain(..self.at);
        self.at = 0;
        let more = 2 * wanted as u64;
        let read = self.file.by_ref().take(more).read_to_end(&mut self.bytes)?;
        self.is_at_end = (read as u64) < more;
        Ok(())
    }
}

/// True if `bytes` decode: too few bytes do not.
fn is_frame(bytes: &[u8], decoder: &mut dyn AudioDecoder) -> bool {
    decoder.decode(&Packet::new(0, Timestamp::new(0), Duration::from(0u64), bytes)).is_ok()
}

/// Where frames belong, and what is missing between them.
#[derive(Default)]
struct Track {
    /// Samples of a frame in a stream that numbers its frames.
    block: Option<u64>,
    /// The first sample of the first frame, as its number says.
    first: u64,
    /// The sample behind the last frame, as numbers say.
    next: Option<u64>,
    frames: u64,
    lost_frames: u64,
    lost: u64,
}

impl Track {
    /// Finds out where `frame` belongs; returns how many samples are missing before it.
    fn place(&mut self, frame: &Frame, mono: &mut Mono) -> u64 {
        let samples = u64::from(frame.header.samples);
        let block = *self.block.get_or_insert(samples);
        let unit = if frame.header.is_variable { 1 } else { block };
        let start = frame.header.number.saturating_mul(unit);
        let lost = match self.next {
            Some(next) if start >= next => start - next,
            Some(next) => {
                let seconds = mono.format().map_or(0.0, |(rate, _)| next as f64 / f64::from(rate));
                mono.note(format!(
                    "the numbers of its FLAC frames go back at {seconds:.2} s: it was joined from several"
                ));
                0
            }
            // damaged frames at the start, or the start of a file that was cut out of another one
            None if start / block.max(1) <= frame.skipped / SHORTEST => start,
            None => {
                self.first = start;
                0
            }
        };
        self.next = Some(start.saturating_add(samples));
        self.frames += 1;
        self.lost_frames += lost.div_ceil(block.max(1));
        self.lost += lost;
        lost
    }

    /// Judges the file after its last frame.
    fn finish(self, path: &Path, frames: &Frames<impl Read>, mono: &mut Mono) -> Result<()> {
        let (said, there) = (frames.info.samples, mono.frames);
        let rest = &frames.rest[..];
        let is_cut = said > there && (self.first == 0 || said < self.first.saturating_add(there));
        if rest.starts_with(b"fLaC") {
            return Err(Error::audio(path, "several flac files one after the other: split the file"));
        }
        // a file that was cut out of another one often has the other's count
        if said > there && self.first == 0 {
            let fault = format!("truncated: header says {said} samples, {there} could be decoded");
            return Err(Error::audio(path, fault));
        }
        if Header::parse(rest).is_some_and(|header| header.fits(&frames.info)) && (said == 0 || is_cut) {
            return Err(truncated(path));
        }
        if self.lost == 0 {
            return Ok(());
        }
        let all = self.frames + self.lost_frames;
        let what = format!("{} of {all} FLAC frames are damaged or missing", self.lost_frames);
        if !is_bridgeable(self.lost_frames, all) {
            return Err(Error::audio(path, what));
        }
        mono.note(format!("{what}: silence replaces them"));
        Ok(())
    }
}

//! Ogg: pages that carry the packets of one or several streams.
//!
//! Every page is read and checked, also where only a part of the file is wanted. A page has a checksum, a number and a
//! position (the samples that end with it). The positions and the decoded samples are compared: what is missing between
//! two pages becomes silence of the same length. The first position need not be 0: sample 0 is the first decoded sample.

use std::collections::HashSet;
use std::io::{self, Read, Seek};
use std::path::Path;

use symphonia::core::checksum::Crc32;
use symphonia::core::io::Monitor;

use super::flac;
use super::mono::{Mono, is_bridgeable};
use super::section::Section;
use super::vorbis::{Block, Vorbis};
use crate::error::{Error, Result};

/// Bytes of a page's fixed header.
const HEAD: usize = 27;

/// Bytes of the longest page.
const LONGEST: usize = HEAD + 255 + 255 * 255;

/// Bytes of packets that wait for the position of a page. A page without a position is followed by one with a position.
const WAITING: usize = 1 << 24;

/// Decodes the Ogg file `file` into `mono`: its Vorbis stream or, if it has none, its FLAC stream.
///
/// # Errors
/// A file without Vorbis sound, with damaged headers, with more damage than [`is_bridgeable`], or without its last page.
pub(super) fn decode(path: &Path, mut file: Section, mono: &mut Mono) -> Result<()> {
    file.rewind().map_err(Error::io("cannot read", path))?;
    let mut codecs = Vec::new();
    let mut pages = Pages::new(&mut file);
    while let Some(page) = pages.next().map_err(Error::io("cannot read", path))?.filter(Page::is_first) {
        codecs.extend(codec(&page.body));
    }
    file.rewind().map_err(Error::io("cannot read", path))?;
    let mut pages = Pages::new(file);
    if codecs.contains(&"FLAC") && !codecs.contains(&"Vorbis") {
        let (packets, bytes) = (Packets::default(), Vec::new());
        return flac::decode_stream(
            path,
            OggFlac { pages, serial: None, packets, bytes, at: 0, is_finished: false },
            mono,
        );
    }
    let mut chain = Chain::default();
    while let Some(page) = pages.next().map_err(Error::io("cannot read", path))? {
        chain.page(path, &page, mono)?;
    }
    chain.finish(path, mono)
}

/// What is wrong with a file that does not start as an Ogg file but has a page near its start; `None` if it has none.
pub(super) fn damaged_start(path: &Path, start: impl Read) -> Option<Error> {
    let page = Pages::new(start).next().ok()??;
    Some(if page.is_first() {
        Error::audio(path, "other bytes stand before the first page of the ogg file: remove them")
    } else {
        headless(path)
    })
}

/// The first page of a stream has a header, without which nothing can be decoded.
fn headless(path: &Path) -> Error {
    Error::audio(path, "the first page of the ogg file is damaged or missing: get the file again")
}

/// One page.
struct Page {
    flags: u8,
    /// The position of the last sample that is complete with this page; -1 if there is none.
    position: i64,
    serial: u32,
    number: u32,
    checksum: u32,
    lengths: Vec<u8>,
    body: Vec<u8>,
    /// True if the bytes before it are no whole page.
    is_after_damage: bool,
}

impl Page {
    /// The page at the start of `bytes` and its length, if it is whole and its checksum is right.
    fn parse(bytes: &[u8]) -> Option<(Page, usize)> {
        let head = bytes.get(..HEAD)?;
        let lengths = bytes.get(HEAD..HEAD + usize::from(head[26]))?;
        let start = HEAD + lengths.len();
        let end = start + lengths.iter().map(|&length| usize::from(length)).sum::<usize>();
        let body = bytes.get(start..end)?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let checksum = number(22);
        let mut crc = Crc32::new(0);
        crc.process_buf_bytes(&head[..22]);
        crc.process_buf_bytes(&[0; 4]);
        crc.process_buf_bytes(&bytes[26..end]);
        if !head.starts_with(b"OggS\0") || crc.crc() != checksum {
            return None;
        }
        let position = (u64::from(number(10)) << 32 | u64::from(number(6))) as i64;
        let (serial, number) = (number(14), number(18));
        let (flags, lengths, body) = (head[5], lengths.into(), body.into());
        Some((Page { flags, position, serial, number, checksum, lengths, body, is_after_damage: false }, end))
    }

    /// True if it begins with the rest of a packet.
    fn continues(&self) -> bool {
        self.flags & 1 != 0
    }

    fn is_first(&self) -> bool {
        self.flags & 2 != 0
    }

    fn is_last(&self) -> bool {
        self.flags & 4 != 0
    }
}

/// Reads the whole pages of a file, and skips all other bytes.
struct Pages<R> {
    file: R,
    bytes: Vec<u8>,
    at: usize,
    is_at_end: bool,
}

impl<R: Read> Pages<R> {
    fn new(file: R) -> Self {
        Pages { file, bytes: Vec::new(), at: 0, is_at_end: false }
    }

    fn next(&mut self) -> io::Result<Option<Page>> {
        let mut is_after_damage = false;
        loop {
            self.fill()?;
            let ahead = &self.bytes[self.at..];
            if let Some((page, length)) = Page::parse(ahead) {
                self.at += length;
                return Ok(Some(Page { is_after_damage, ..page }));
            }
            is_after_damage = true;
            let next = ahead.windows(4).skip(1).position(|bytes| bytes == b"OggS");
            // the last three bytes may be the start of a mark
            self.at += next.map_or(ahead.len().saturating_sub(3).max(1).min(ahead.len()), |next| next + 1);
            if self.is_at_end && next.is_none() {
                return Ok(None);
            }
        }
    }

    /// Reads on until the longest page would be whole, or to the end.
    fn fill(&mut self) -> io::Result<()> {
        if self.bytes.len() - self.at >= LONGEST || self.is_at_end {
            return Ok(());
        }
        self.bytes.drain(..self.at);
        self.at = 0;
        let wanted = (4 * LONGEST - self.bytes.len()) as u64;
        let read = self.file.by_ref().take(wanted).read_to_end(&mut self.bytes)?;
        self.is_at_end = (read as u64) < wanted;
        Ok(())
    }
}

/// The streams of a file, one after the other.
#[derive(Default)]
struct Chain {
    /// The Vorbis stream that is being read.
    link: Option<Link>,
    /// The codecs of the streams beside it, which are not read.
    others: Vec<&'static str>,
    /// The streams whose first page was read.
    serials: HashSet<u32>,
    /// True after the first page of a stream.
    is_in_group: bool,
    damage: Damage,
}

/// What was lost.
#[derive(Default)]
struct Damage {
    pages: u64,
    samples: u64,
    /// The samples that a packet gives at most.
    packet: u64,
}

impl Chain {
    fn page(&mut self, path: &Path, page: &Page, mono: &mut Mono) -> Result<()> {
        let was_in_group = std::mem::replace(&mut self.is_in_group, page.is_first());
        if page.is_first() {
            self.serials.insert(page.serial);
            // the streams of a group all begin before the first of them goes on
            if !was_in_group {
                self.end_group(path)?;
            }
            let Some(codec) = codec(&page.body) else { return Ok(()) };
            if codec != "Vorbis" {
                self.others.push(codec);
            } else if self.link.is_some() {
                mono.note("holds several Vorbis streams side by side: the first is used");
            } else {
                self.link = Some(Link::new(page));
            }
        }
        match &mut self.link {
            Some(link) if link.serial == page.serial => link.page(path, page, mono, &mut self.damage),
            _ if !self.serials.contains(&page.serial) => Err(headless(path)),
            _ => Ok(()),
        }
    }

    /// Judges the streams that were read side by side.
    fn end_group(&mut self, path: &Path) -> Result<()> {
        let codecs = std::mem::take(&mut self.others);
        match self.link.take() {
            Some(link) => link.finish(path),
            None if codecs.is_empty() => Ok(()),
            None => {
                let codecs = codecs.join(" and ");
                Err(Error::audio(
                    path,
                    format!("an Ogg file with {codecs} inside is not supported: convert it to FLAC or WAV"),
                ))
            }
        }
    }

    /// Judges the file after its last page.
    fn finish(mut self, path: &Path, mono: &mut Mono) -> Result<()> {
        if self.link.is_none() && self.others.is_empty() {
            return Err(headless(path));
        }
        self.end_group(path)?;
        let Damage { pages, samples, packet } = self.damage;
        if samples == 0 {
            return Ok(());
        }
        let seconds = |samples: u64| mono.format().map_or(0.0, |(rate, _)| samples as f64 / f64::from(rate));
        let (lost, total) = (seconds(samples), seconds(mono.frames));
        let pages = if pages <= 1 { "1 Ogg page is".into() } else { format!("{pages} Ogg pages are") };
        let packet = packet.max(1);
        if !is_bridgeable(samples.div_ceil(packet), mono.frames / packet) {
            return Err(Error::audio(
                path,
                format!("{pages} damaged or missing: {lost:.2} s of {total:.2} s are lost"),
            ));
        }
        mono.note(format!("{pages} damaged or missing: {lost:.2} s of silence replace the lost sound"));
        Ok(())
    }
}

/// The codec of a stream that starts with `packet`, or `None` if the stream is no sound or picture.
fn codec(packet: &[u8]) -> Option<&'static str> {
    const CODECS: [(&[u8], &str); 12] = [
        (b"\x01vorbis", "Vorbis"),
        (b"OpusHead", "Opus"),
        (b"\x7fFLAC", "FLAC"),
        (b"fLaC", "FLAC"),
        (b"Speex   ", "Speex"),
        (b"CELT    ", "CELT"),
        (b"PCM     ", "PCM"),
        (b"\x80theora", "Theora video"),
        (b"BBCD", "Dirac video"),
        (b"OVP80", "VP8 video"),
        (b"\x80kate", "Kate subtitles"),
        (b"\x01video", "OGM video"),
    ];
    if packet.starts_with(b"fishead\0") || packet.starts_with(b"index\0") {
        return None;
    }
    Some(CODECS.iter().find(|(start, _)| packet.starts_with(start)).map_or("an unknown codec", |(_, name)| name))
}

/// Joins the parts of packets that go on from page to page.
#[derive(Default)]
struct Packets {
    /// The start of a packet that goes on in the next page.
    unfinished: Option<Vec<u8>>,
}

impl Packets {
    /// The packets that are complete with `page`, and whether one is lost since its other part is not there.
    fn of(&mut self, page: &Page) -> (Vec<Vec<u8>>, bool) {
        let begun = self.unfinished.take();
        let is_broken = begun.is_some() != page.continues();
        let mut packet = if page.continues() { begun } else { Some(Vec::new()) };
        let (mut packets, mut at) = (Vec::new(), 0);
        for &length in &page.lengths {
            let end = at + usize::from(length);
            if let Some(packet) = &mut packet {
                packet.extend_from_slice(&page.body[at..end]);
            }
            at = end;
            if length < 255 {
                packets.extend(packet.replace(Vec::new()));
            }
        }
        if page.lengths.last() == Some(&255) {
            self.unfinished = packet;
        }
        (packets, is_broken)
    }
}

/// The FLAC stream inside an Ogg file, as if it were a file of its own.
struct OggFlac<R> {
    pages: Pages<R>,
    /// The stream's serial number, once its first page was read.
    serial: Option<u32>,
    packets: Packets,
    bytes: Vec<u8>,
    at: usize,
    is_finished: bool,
}

impl<R: Read> Read for OggFlac<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.bytes.len() {
            self.bytes.clear();
            self.at = 0;
            let Some(page) = self.pages.next()? else {
                // a stream without its last page was cut
                return if self.is_finished { Ok(0) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            };
            if page.is_first() && codec(&page.body) == Some("FLAC") {
                self.serial = Some(page.serial);
            }
            if self.serial != Some(page.serial) {
                continue;
            }
            self.is_finished = page.is_last();
            for packet in self.packets.of(&page).0 {
                // 9 bytes of the first packet are Ogg's, the others are those of a FLAC file
                self.bytes
                    .extend_from_slice(packet.get(9..).filter(|_| packet.starts_with(b"\x7fFLAC")).unwrap_or(&packet));
            }
        }
        let count = buffer.len().min(self.bytes.len() - self.at);
        buffer[..count].copy_from_slice(&self.bytes[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// One Vorbis stream, from its first page to its last.
struct Link {
    serial: u32,
    /// Number and checksum of the page before.
    before: Option<(u32, u32)>,
    packets: Packets,
    headers: Vec<Vec<u8>>,
    vorbis: Option<Vorbis>,
    /// Samples of the block before.
    block: Option<u64>,
    /// The position of the next sample, as pages count, once known.
    position: Option<i64>,
    /// The position at which packets are missing.
    lost_at: Option<i64>,
    /// Packets whose position is not known yet.
    waiting: Vec<Vec<u8>>,
    waiting_bytes: usize,
    /// The packet before the next one, not decoded since its sound was not wanted.
    skipped: Option<(Vec<u8>, Block)>,
    is_finished: bool,
}

impl Link {
    fn new(first: &Page) -> Link {
        Link {
            serial: first.serial,
            before: None,
            packets: Packets::default(),
            headers: Vec::new(),
            vorbis: None,
            block: None,
            position: None,
            lost_at: None,
            waiting: Vec::new(),
            waiting_bytes: 0,
            skipped: None,
            is_finished: false,
        }
    }

    fn page(&mut self, path: &Path, page: &Page, mono: &mut Mono, damage: &mut Damage) -> Result<()> {
        let before = self.before.replace((page.number, page.checksum));
        if self.is_finished || before == self.before {
            return Ok(());
        }
        let missing = before.map_or(0, |(number, _)| page.number.wrapping_sub(number).wrapping_sub(1));
        if missing != 0 {
            self.packets = Packets::default();
        }
        let (packets, is_broken) = self.packets.of(page);
        let mut packets = packets.into_iter();
        if self.vorbis.is_none() {
            if missing != 0 || is_broken {
                return Err(Error::audio(path, "the header pages of the ogg file are damaged or missing"));
            }
            self.headers.extend(packets.by_ref().take(3 - self.headers.len()));
            let [ident, _, setup] = &self.headers[..] else { return Ok(()) };
            let vorbis =
                Vorbis::new(ident, setup).map_err(|fault| Error::audio(path, format!("{fault}: convert it again")))?;
            mono.check(vorbis.rate(), vorbis.channels())?;
            damage.packet = damage.packet.max(vorbis.longest_block() / 2);
            self.vorbis = Some(vorbis);
            self.headers = Vec::new();
        }
        self.is_finished = page.is_last();
        let packets: Vec<Vec<u8>> = packets.collect();
        if self.has_hole(page, &packets, missing != 0 || is_broken) {
            // a number that goes back tells nothing
            damage.pages += u64::from(if missing < 1 << 16 { missing.max(1) } else { 1 });
            self.open_hole(mono, damage)?;
        }
        self.place(path, page, packets, mono, damage)
    }

    /// Whether sound is missing before `page`: by its position or, if it has none, by its number.
    fn has_hole(&self, page: &Page, packets: &[Vec<u8>], is_suspect: bool) -> bool {
        let (Some(position), Some(vorbis)) = (self.position, &self.vorbis) else {
            // before the first sound nothing tells a damaged file from one that was cut out of another one
            return is_suspect && (page.is_after_damage || !self.waiting.is_empty());
        };
        if page.position < 0 {
            return is_suspect;
        }
        let expected = position.saturating_add_unsigned(self.samples(packets));
        // encoders differ by less than a block about the first and the last position
        let slack = if is_suspect { 0 } else { vorbis.longest_block() };
        page.position > expected.saturating_add_unsigned(slack)
    }

    /// Samples that `packets` give after the block before.
    fn samples(&self, packets: &[Vec<u8>]) -> u64 {
        let (mut before, mut samples) = (self.block, 0);
        for packet in packets {
            if let Some(block) = self.vorbis.as_ref().and_then(|vorbis| vorbis.block(packet)) {
                samples += before.replace(block.length).map_or(0, |before| before / 4 + block.length / 4);
            }
        }
        samples
    }

    /// Sound is missing from here on, up to the next position.
    fn open_hole(&mut self, mono: &mut Mono, damage: &mut Damage) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        if self.position.is_none() && self.lost_at.is_none() {
            let samples = self.samples(&waiting);
            self.position = Some(samples as i64);
            self.play(&waiting, 0..samples, mono, damage)?;
        }
        self.lost_at = self.position.take().or(self.lost_at);
        self.restart();
        Ok(())
    }

    /// Forgets the packet before.
    fn restart(&mut self) {
        self.block = None;
        self.skipped = None;
        if let Some(vorbis) = &mut self.vorbis {
            vorbis.restart();
        }
    }

    /// Finds out where the packets of `page` belong, and plays them.
    fn place(
        &mut self,
        path: &Path,
        page: &Page,
        packets: Vec<Vec<u8>>,
        mono: &mut Mono,
        damage: &mut Damage,
    ) -> Result<()> {
        self.waiting_bytes += packets.iter().map(|packet| packet.len() + size_of::<Vec<u8>>()).sum::<usize>();
        self.waiting.extend(packets);
        // the position of a page without sound, such as the last page of headers, tells nothing
        let known = (page.position >= 0 && !self.waiting.is_empty()).then_some(page.position);
        if known.is_none() && self.position.is_none() && !page.is_last() {
            return if self.waiting_bytes <= WAITING {
                Ok(())
            } else {
                Err(Error::audio(path, "damaged: the pages of the ogg file have no positions"))
            };
        }
        let packets = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let samples = self.samples(&packets);
        let before = |end: i64| end.saturating_sub_unsigned(samples);
        // encoders cut off a part of one packet; other decoders never cut more
        let last = samples - self.samples(&packets[..packets.len().saturating_sub(1)]);
        let (mut trim_start, mut start) = (0, 0);
        match (self.position, self.lost_at.take(), known) {
            (Some(position), ..) => start = position,
            (None, Some(lost_at), Some(end)) => {
                start = before(end).max(lost_at);
                let lost = start.abs_diff(lost_at);
                damage.samples += lost;
                mono.silence(lost)?;
            }
            (None, Some(lost_at), None) => start = lost_at,
            // the first position: samples that it does not count are cut off, at the end if the stream has but this page
            (None, None, Some(end)) if page.is_last() => start = before(end).max(0),
            (None, None, Some(end)) => {
                start = before(end);
                trim_start = last.min(0i64.saturating_sub(start).max(0) as u64);
            }
            (None, None, None) => {}
        }
        let end = start.saturating_add_unsigned(samples);
        let beyond = known.filter(|_| page.is_last()).map_or(0, |known| end.saturating_sub(known).max(0) as u64);
        let wanted = trim_start.min(samples)..samples - beyond.min(last);
        self.position = Some(known.unwrap_or(end));
        self.play(&packets, wanted, mono, damage)
    }

    /// Decodes `packets` and passes on the samples `wanted` of them, as far as `mono` needs them.
    fn play(
        &mut self,
        packets: &[Vec<u8>],
        wanted: std::ops::Range<u64>,
        mono: &mut Mono,
        damage: &mut Damage,
    ) -> Result<()> {
        let Some(vorbis) = &mut self.vorbis else { return Ok(()) };
        let mut first = 0;
        for packet in packets {
            // what is no sound is skipped, as libvorbis does
            let Some(block) = vorbis.block(packet) else { continue };
            let samples = self.block.replace(block.length).map_or(0, |before| before / 4 + block.length / 4);
            let clip = |sample: u64| sample.clamp(wanted.start.min(wanted.end), wanted.end).saturating_sub(first);
            let part = clip(first).min(samples)..clip(first + samples).min(samples);
            first += samples;
            let needed = part.end.saturating_sub(part.start);
            if !mono.needs(needed) {
                mono.skip(needed);
                vorbis.restart();
                self.skipped = Some((packet.clone(), block));
                continue;
            }
            if let Some((before, block)) = self.skipped.take() {
                vorbis.decode(&before, block, 0);
            }
            damage.samples += vorbis.decode(packet, block, samples);
            mono.push_planar(vorbis.decoded(), part.start as usize..part.end as usize)?;
        }
        Ok(())
    }

    /// Judges the stream after its last page.
    fn finish(self, path: &Path) -> Result<()> {
        if self.vorbis.is_none() {
            return Err(Error::audio(path, "truncated: the ogg file ends within its headers"));
        }
        if !self.is_finished {
            return Err(Error::audio(path, "truncated: the last page of the ogg file is missing"));
        }
        Ok(())
    }
}

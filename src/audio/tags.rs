//! Tags around a file's content: ID3v2 and APE in front, ID3v1, Lyrics3, APE and ID3v2 at the end.
//!
//! A tag may hold a picture, and a picture may hold bytes that look like sound. Tags are therefore removed before
//! anything looks for sound. Nothing in a tag is used.
//!
//! # Source
//! id3.org (ID3v1, ID3v2.2 to 2.4, Lyrics3 v1 and v2); the Hydrogenaudio wiki (APEv1 and APEv2).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

/// Bytes of an ID3v1 tag, and of its extension in front of it.
const ID3V1: u64 = 128;
const ID3V1_EXTENSION: u64 = 227;

/// Bytes of an ID3v2 header or footer.
const ID3V2: u64 = 10;

/// Bytes of an APE header or footer.
const APE: u64 = 32;

/// A Lyrics3 v1 tag has at most so many bytes of lyrics.
const LYRICS: u64 = 5100;

/// The range of `file`, of `length` bytes, that lies between its tags.
///
/// `is_content` tells from the first bytes whether sound starts there. It decides where the size of a tag is doubtful.
///
/// # Errors
/// The file cannot be read.
pub(super) fn content(file: &mut File, length: u64, is_content: impl Fn(&[u8]) -> bool) -> io::Result<Range<u64>> {
    let mut bytes = Bytes { file, range: 0..length };
    while let Some(end) = front(&mut bytes, &is_content)? {
        bytes.range.start = end;
        skip_zeros(&mut bytes)?;
    }
    while let Some(start) = back(&mut bytes)? {
        bytes.range.end = start;
    }
    Ok(bytes.range)
}

/// So many bytes are enough for [`length`].
pub(super) const LONGEST_START: usize = ID3V1 as usize;

/// The length of the tag that starts with `bytes`, whatever follows it; `None` without one.
pub(super) fn length(bytes: &[u8]) -> Option<u64> {
    if let &[b'I', b'D', b'3', 2..=4, _, flags, a, b, c, d, ..] = bytes
        && [a, b, c, d].iter().all(|&byte| byte < 0x80)
    {
        return Some(ID3V2 + with_bits(7, [a, b, c, d]) + if flags & 0x10 != 0 { ID3V2 } else { 0 });
    }
    let ape = bytes.first_chunk::<32>().and_then(Ape::of);
    if let Some(ape) = ape.filter(|ape| ape.is_header) {
        return Some(APE + ape.size);
    }
    bytes.first_chunk::<128>().filter(|tag| is_id3v1(tag)).map(|_| ID3V1)
}

/// The number whose digits of `bits` bits are the bytes of `size`.
fn with_bits(bits: u32, size: [u8; 4]) -> u64 {
    size.iter().fold(0, |sum, &byte| (sum << bits) | u64::from(byte))
}

/// A file and the range of it that is not known to be tags.
struct Bytes<'a> {
    file: &'a mut File,
    range: Range<u64>,
}

impl Bytes<'_> {
    /// The `N` bytes at `at`, or `None` if they do not lie within the range.
    fn at<const N: usize>(&mut self, at: u64) -> io::Result<Option<[u8; N]>> {
        if at < self.range.start || at.checked_add(N as u64).is_none_or(|end| end > self.range.end) {
            return Ok(None);
        }
        let mut bytes = [0; N];
        self.file.seek(SeekFrom::Start(at))?;
        self.file.read_exact(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// The `N` bytes that end `back` bytes before the end of the range.
    fn before_end<const N: usize>(&mut self, back: u64) -> io::Result<Option<[u8; N]>> {
        match self.range.end.checked_sub(back + N as u64) {
            Some(at) => self.at(at),
            None => Ok(None),
        }
    }
}

/// Where the tag at the start of the range ends; `None` without one.
fn front(bytes: &mut Bytes, is_content: &impl Fn(&[u8]) -> bool) -> io::Result<Option<u64>> {
    let start = bytes.range.start;
    if let Some(head) = bytes.at::<10>(start)?
        && let [b'I', b'D', b'3', 2..=4, _, flags, size @ ..] = head
    {
        return id3v2_end(bytes, flags, size, is_content).map(Some);
    }
    if let Some(head) = bytes.at::<32>(start)?
        && let Some(ape) = Ape::of(&head)
        && ape.is_header
    {
        return Ok(Some((start + APE + ape.size).min(bytes.range.end)));
    }
    Ok(None)
}

/// Where the ID3v2 tag at the start of the range ends.
///
/// The size is stored with 7 bits per byte. Some programs store 8 bits, or count the header as well. Where the bytes at
/// the end of the tag are not the start of anything, the other readings of the size are tried.
fn id3v2_end(bytes: &mut Bytes, flags: u8, size: [u8; 4], is_content: &impl Fn(&[u8]) -> bool) -> io::Result<u64> {
    let [seven, eight] = [7, 8].map(|bits| with_bits(bits, size));
    let (start, end) = (bytes.range.start, bytes.range.end);
    let footer = if flags & 0x10 != 0 { ID3V2 } else { 0 };
    let after = |size: u64| start + ID3V2 + size + footer;
    let said = if size.iter().all(|&byte| byte < 0x80) { after(seven) } else { after(eight) };
    let readings = [said, after(seven), after(eight), said - ID3V2, said + ID3V2];
    for reading in readings {
        // padding that the size leaves out, another tag, or sound
        if reading > start
            && let Some(first) = bytes.at::<12>(reading)?
            && (first == [0; 12] || first.starts_with(b"ID3") || first.starts_with(b"APETAGEX") || is_content(&first))
        {
            return Ok(reading);
        }
    }
    Ok(said.min(end))
}

/// Passes over zeros at the start of the range, unless there is nothing else in it.
fn skip_zeros(bytes: &mut Bytes) -> io::Result<()> {
    bytes.file.seek(SeekFrom::Start(bytes.range.start))?;
    let mut buffer = [0; 4096];
    let mut at = bytes.range.start;
    while at < bytes.range.end {
        let wanted = (bytes.range.end - at).min(buffer.len() as u64) as usize;
        bytes.file.read_exact(&mut buffer[..wanted])?;
        if let Some(other) = buffer[..wanted].iter().position(|&byte| byte != 0) {
            bytes.range.start = at + other as u64;
            break;
        }
        at += wanted as u64;
    }
    Ok(())
}

/// Where the tag at the end of the range starts; `None` without one.
fn back(bytes: &mut Bytes) -> io::Result<Option<u64>> {
    let end = bytes.range.end;
    if let Some(tag) = bytes.before_end::<128>(0)?
        && is_id3v1(&tag)
    {
        let extended = bytes.before_end::<4>(ID3V1 + ID3V1_EXTENSION - 4)?.is_some_and(|word| &word == b"TAG+");
        return Ok(Some(end - ID3V1 - if extended { ID3V1_EXTENSION } else { 0 }));
    }
    if let Some(foot) = bytes.before_end::<32>(0)?
        && let Some(ape) = Ape::of(&foot)
    {
        let start = end.checked_sub(ape.size + if ape.has_header { APE } else { 0 });
        return Ok(start.filter(|&start| start >= bytes.range.start));
    }
    if let Some([b'3', b'D', b'I', _, _, _, size @ ..]) = bytes.before_end::<10>(0)? {
        let size = with_bits(7, size.map(|byte| byte & 0x7f));
        let start = end.saturating_sub(size + 2 * ID3V2);
        return Ok(bytes.at::<3>(start)?.is_some_and(|word| &word == b"ID3").then_some(start));
    }
    lyrics(bytes)
}

/// Whether these bytes are an ID3v1 tag. Control characters show that sound resembles one by chance.
fn is_id3v1(tag: &[u8; 128]) -> bool {
    let texts = 3..93;
    tag.starts_with(b"TAG") && !tag[texts].iter().any(|byte| (1..0x09).contains(byte) || (0x0e..0x20).contains(byte))
}

/// Where the Lyrics3 tag at the end of the range starts.
fn lyrics(bytes: &mut Bytes) -> io::Result<Option<u64>> {
    const FIRST: &[u8; 11] = b"LYRICSBEGIN";
    let end = bytes.range.end;
    let start = match bytes.before_end::<15>(0)? {
        Some([size @ .., b'L', b'Y', b'R', b'I', b'C', b'S', b'2', b'0', b'0']) if size.is_ascii() => {
            let size = std::str::from_utf8(&size).ok().and_then(|digits| digits.parse::<u64>().ok());
            size.and_then(|size| end.checked_sub(size + 15))
        }
        Some([.., b'L', b'Y', b'R', b'I', b'C', b'S', b'E', b'N', b'D']) => {
            let from = end.saturating_sub(LYRICS + 20).max(bytes.range.start);
            let mut tail = Vec::new();
            bytes.file.seek(SeekFrom::Start(from))?;
            bytes.file.by_ref().take(end - from).read_to_end(&mut tail)?;
            tail.windows(FIRST.len()).rposition(|word| word == FIRST).map(|at| from + at as u64)
        }
        _ => None,
    };
    match start {
        Some(start) if bytes.at::<11>(start)?.is_some_and(|word| &word == FIRST) => Ok(Some(start)),
        _ => Ok(None),
    }
}

/// What an APE header or footer says.
struct Ape {
    /// Bytes of the items and the footer.
    size: u64,
    has_header: bool,
    is_header: bool,
}

impl Ape {
    fn of(bytes: &[u8; 32]) -> Option<Ape> {
        let word = |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        let (version, size, flags) = (word(8), word(12), word(20));
        let is_ape = bytes.starts_with(b"APETAGEX") && (version == 1000 || version == 2000);
        // version 1 has a footer alone, and its flags have no meaning
        let [has_header, is_header] = [31, 29].map(|bit| version == 2000 && flags >> bit & 1 == 1);
        is_ape.then(|| Ape { size: size.into(), has_header, is_header })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// What is left of `bytes` between its tags; `fLaC` is the only content.
    fn left(bytes: &[u8]) -> Vec<u8> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let range = content(&mut file, bytes.len() as u64, |first| first.starts_with(b"fLaC")).unwrap();
        bytes[range.start as usize..range.end as usize].to_vec()
    }

    fn seven_bits(size: usize) -> [u8; 4] {
        [21, 14, 7, 0].map(|shift| (size >> shift) as u8 & 0x7f)
    }

    fn id3v2(version: u8, flags: u8, body: &[u8]) -> Vec<u8> {
        let head = [&[version, 0, flags][..], &seven_bits(body.len())].concat();
        let footer = if flags & 0x10 != 0 { [b"3DI", &head[..]].concat() } else { Vec::new() };
        [b"ID3", &head[..], body, &footer].concat()
    }

    fn id3v1() -> Vec<u8> {
        let mut tag = [&b"TAG"[..], b"A title"].concat();
        tag.resize(128, 0);
        tag
    }

    fn ape(version: u32, has_header: bool, items: &[u8]) -> Vec<u8> {
        let end = |flags: u32| {
            let numbers = [version, items.len() as u32 + 32, 1, flags].map(u32::to_le_bytes).concat();
            [&b"APETAGEX"[..], &numbers, &[0; 8]].concat()
        };
        let flag = if has_header { 1 << 31 } else { 0 };
        let header = if has_header { end(flag | 1 << 29) } else { Vec::new() };
        [header, items.to_vec(), end(flag)].concat()
    }

    fn lyrics(text: &[u8], is_second: bool) -> Vec<u8> {
        let size = format!("{:06}", text.len() + 11);
        let end = if is_second { [size.as_bytes(), b"LYRICS200"].concat() } else { b"LYRICSEND".to_vec() };
        [b"LYRICSBEGIN", text, &end].concat()
    }

    const SOUND: &[u8] = b"fLaC and then the sound";

    #[test]
    fn every_tag_is_removed_alone_and_among_others() {
        let picture = [b"PIC", &b"fLaCID3TAGAPETAGEX"[..]].concat().repeat(9);
        let big = vec![0x77; 3_000_000];
        let fronts = [
            id3v2(2, 0, &picture),
            id3v2(3, 0x80, &picture),
            id3v2(3, 0x40, &picture),
            id3v2(4, 0x10, &picture),
            id3v2(4, 0, &big),
            // padding within the tag, and behind it
            [id3v2(3, 0, &[&picture[..], &[0; 5_000]].concat()), vec![0; 9_999]].concat(),
            ape(2000, true, &picture),
        ];
        let extended = [[&b"TAG+"[..], &[b'x'; 223]].concat(), id3v1()].concat();
        let backs = [
            id3v1(),
            extended,
            ape(1000, false, &picture),
            ape(2000, false, &picture),
            ape(2000, true, &big),
            lyrics(b"la la", true),
            lyrics(b"la la", false),
            id3v2(4, 0x10, &picture),
        ];
        for one in &fronts {
            assert_eq!(left(&[one, SOUND].concat()), SOUND, "{:?}", &one[..8]);
            for two in &fronts {
                assert_eq!(left(&[one, two, SOUND].concat()), SOUND, "{:?} {:?}", &one[..8], &two[..8]);
            }
        }
        for one in &backs {
            assert_eq!(left(&[SOUND, one].concat()), SOUND, "{:?}", &one[..8]);
            for two in &backs {
                // an extension belongs to the ID3v1 tag that follows it, and lyrics of the first version to no other
                assert_eq!(left(&[&fronts[0], SOUND, one, two].concat()), SOUND, "{:?} {:?}", &one[..8], &two[..8]);
            }
        }
    }

    #[test]
    fn what_is_no_tag_stays() {
        let mut by_chance = id3v1();
        by_chance[40] = 0x13;
        let cut = &ape(2000, true, b"items")[..40];
        let beyond = ape(2000, false, b"items").split_off(5);
        for bytes in [SOUND, b"", b"ID", b"TAG", b"fLaC ID3", &[SOUND, &by_chance].concat(), &[SOUND, cut].concat()] {
            assert_eq!(left(bytes), bytes);
        }
        // a footer that says more than there is
        assert_eq!(left(&beyond), beyond);
        assert_eq!(left(b"fLaC 999999LYRICS200"), b"fLaC 999999LYRICS200");
        // nothing but zeros behind a tag
        assert_eq!(left(&[id3v2(3, 0, b"x"), vec![0; 5_000]].concat()), vec![0; 5_000]);
    }

    #[test]
    fn a_size_written_in_another_way_is_understood() {
        let with_size = |size: [u8; 4], body: &[u8]| [&b"ID3\x03\0\0"[..], &size, body, SOUND].concat();
        for length in [100usize, 200, 70_000] {
            let body = vec![b'x'; length];
            assert_eq!(left(&with_size((length as u32).to_be_bytes(), &body)), SOUND, "8 bits a byte, {length}");
            assert_eq!(left(&with_size(seven_bits(length + 10), &body)), SOUND, "with the header, {length}");
            assert_eq!(left(&with_size(seven_bits(length - 10), &body)), SOUND, "ten too few, {length}");
        }
        // larger than the file: all of it is the tag
        assert_eq!(left(&with_size([0x7f; 4], b"")), b"");
        assert_eq!(left(&with_size([0xff; 4], b"")), b"");
    }
}

//! Headers of WAV, AU and AIFF files: where the samples are, how they are coded, and whether they are all there.
//!
//! Read here and not by symphonia, because a header that claims more samples than the file holds must be rejected before
//! anything is decoded, and because the real files deviate from the standards in many ways. symphonia's PCM decoder
//! decodes the samples themselves.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use symphonia::core::codecs::audio::AudioCodecId;
use symphonia::core::codecs::audio::well_known as codec;

use crate::error::{Error, Result};

/// A run of interleaved PCM samples in a file.
#[derive(Debug, PartialEq)]
pub(super) struct Pcm {
    /// symphonia's name of the sample format.
    pub codec: AudioCodecId,
    /// Hz.
    pub rate: u32,
    /// Interleaved channels.
    pub channels: u16,
    /// Bytes of one sample of one channel.
    pub width: u16,
    /// Whether the samples are the lower 24 bits of 32, little-endian. `codec` then is that of 32 bits.
    pub is_low_24: bool,
    /// Where the samples start, bytes.
    pub start: u64,
    /// How many bytes of them there are.
    pub bytes: u64,
}

/// How a Wave64 file starts: a GUID.
pub(super) const WAVE64: &[u8] = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb";

/// True for the lengths of samples that programs write into a pipe, where they cannot return to the header. Every one is
/// a little below, or exactly, 2^31 or 2^32: 0x7ffff000 (sox, rounded down to whole frames), 0x7fffffff (lame),
/// 0x7fffffd3 (oggdec), 0x80000000 (arecord), 0xffffffff (ffmpeg, flac). Only sox's AIFF has 0x7f000000.
fn is_unknown(said: u64) -> bool {
    const LARGEST_FRAME: u64 = 8 * 64;
    [0x7f00_0000 - LARGEST_FRAME..=0x7f00_0010, 0x7fff_f000 - LARGEST_FRAME..=0x8000_0000, 0xffff_f000..=0xffff_ffff]
        .iter()
        .any(|range| range.contains(&said))
        // 64-bit lengths
        || said >= 1 << 62
}

/// A file, with its path for messages.
struct Source<'a, R> {
    path: &'a Path,
    file: &'a mut R,
    length: u64,
}

impl<R: Read + Seek> Source<'_, R> {
    /// The `N` bytes at `at`, or `None` if they do not end by `end`.
    fn read<const N: usize>(&mut self, at: u64, end: u64) -> Result<Option<[u8; N]>> {
        if at.checked_add(N as u64).is_none_or(|last| last > end.min(self.length)) {
            return Ok(None);
        }
        let mut bytes = [0; N];
        self.file
            .seek(SeekFrom::Start(at))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(Error::io("cannot read", self.path))?;
        Ok(Some(bytes))
    }

    fn fault<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Error::audio(self.path, message))
    }

    /// How many bytes of samples there are from `start` on, where the header says `said`.
    ///
    /// # Errors
    /// The file holds fewer.
    fn extent(&mut self, layout: Layout, start: u64, said: u64) -> Result<u64> {
        let held = self.length.saturating_sub(start);
        // Zero is an empty recording where only chunks follow. Otherwise the encoder could not return to its header.
        let is_streamed = if said == 0 { !layout.chunks_fill(self, start)? } else { said > held && is_unknown(said) };
        if is_streamed {
            return Ok(held);
        }
        if said > held {
            return self.fault(format!("truncated: header says {said} bytes of samples, the file holds {held}"));
        }
        Ok(said)
    }
}

/// How chunks are laid out.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    /// RIFF, RF64 and BW64: four letters, a little-endian length, even positions.
    Little,
    /// RIFX and AIFF: the same, big-endian.
    Big,
    /// Sony's Wave64: GUIDs that begin with the four letters, 64-bit lengths that include the 24 bytes of the head,
    /// positions divisible by eight.
    Wave64,
}

/// A chunk of a file.
struct Chunk {
    tag: [u8; 4],
    /// Where its content starts.
    start: u64,
    /// How long its content is, as its head says.
    size: u64,
}

impl Layout {
    /// The chunk whose head is at `at`, if one fits there.
    fn chunk<R: Read + Seek>(self, source: &mut Source<R>, at: u64) -> Result<Option<Chunk>> {
        if self == Layout::Wave64 {
            return Ok(source.read::<24>(at, u64::MAX)?.map(|head| {
                let [t0, t1, t2, t3, _, _, _, _, _, _, _, _, _, _, _, _, size @ ..] = head;
                let size = u64::from_le_bytes(size).saturating_sub(24);
                Chunk { tag: [t0, t1, t2, t3], start: at + 24, size }
            }));
        }
        Ok(source.read::<8>(at, u64::MAX)?.map(|[t0, t1, t2, t3, size @ ..]| {
            let size = if self == Layout::Big { u32::from_be_bytes(size) } else { u32::from_le_bytes(size) };
            Chunk { tag: [t0, t1, t2, t3], start: at + 8, size: size.into() }
        }))
    }

    /// Where the chunk after `chunk` starts.
    fn after<R: Read + Seek>(self, source: &mut Source<R>, chunk: &Chunk) -> Result<u64> {
        let end = chunk.start.saturating_add(chunk.size);
        if end >= source.length {
            return Ok(end);
        }
        if self == Layout::Wave64 {
            return Ok(end.next_multiple_of(8));
        }
        if end.is_multiple_of(2) {
            return Ok(end);
        }
        // a byte fills an odd chunk up, but some programs leave it out
        let known = |tag: Option<[u8; 4]>| tag.is_some_and(|tag| KNOWN.contains(&&tag));
        let is_unpadded = known(source.read(end, u64::MAX)?) && !known(source.read(end + 1, u64::MAX)?);
        Ok(if is_unpadded { end } else { end + 1 })
    }

    /// Whether there is nothing but whole chunks from `at` to the end of the file.
    fn chunks_fill<R: Read + Seek>(self, source: &mut Source<R>, mut at: u64) -> Result<bool> {
        while at < source.length {
            let Some(chunk) = self.chunk(source, at)? else { return Ok(false) };
            let is_named = chunk.tag.iter().all(|byte| matches!(byte, b' '..=b'~'));
            if !is_named || chunk.size > source.length - chunk.start {
                return Ok(false);
            }
            at = self.after(source, &chunk)?;
        }
        Ok(true)
    }

    /// Rejects a file that has more samples in a second chunk `tag` after `at`.
    fn check_single<R: Read + Seek>(self, source: &mut Source<R>, first: &Chunk) -> Result<()> {
        let mut at = self.after(source, first)?;
        while let Some(chunk) = self.chunk(source, at)? {
            if chunk.tag == first.tag && chunk.size > 0 {
                let name = String::from_utf8_lossy(&first.tag).into_owned();
                return source.fault(format!(
                    "two {name} chunks, of {} and {} bytes: join them into one with another program",
                    first.size, chunk.size
                ));
            }
            at = self.after(source, &chunk)?;
        }
        Ok(())
    }
}

/// Chunks that programs write around the samples.
const KNOWN: [&[u8; 4]; 32] = [
    b"data", b"fmt ", b"fact", b"LIST", b"list", b"JUNK", b"junk", b"PAD ", b"bext", b"id3 ", b"ID3 ", b"cue ",
    b"smpl", b"inst", b"PEAK", b"iXML", b"_PMX", b"ds64", b"levl", b"cart", b"acid", b"minf", b"SSND", b"COMM",
    b"FVER", b"NAME", b"ANNO", b"AUTH", b"MARK", b"INST", b"CHAN", b"APPL",
];

/// What a WAV file holds.
#[derive(Debug, PartialEq)]
pub(super) enum Wav {
    /// PCM, float, A-law or mu-law.
    Pcm(Pcm),
    /// An MP3 stream in the `bytes` bytes from `start` on.
    Mp3 {
        /// Where the stream starts, bytes.
        start: u64,
        /// Its length in bytes.
        bytes: u64,
    },
    /// ADPCM in a RIFF file, complete as far as its header says.
    Adpcm,
}

/// Reads a WAV header of a file of `length` bytes: RIFF, RIFX, RF64, BW64 or Wave64.
pub(super) fn wav<R: Read + Seek>(path: &Path, file: &mut R, length: u64) -> Result<Wav> {
    let mut source = Source { path, file, length };
    let (layout, mut at) = match source.read::<4>(0, length)? {
        Some([b'r', b'i', b'f', b'f']) => (Layout::Wave64, 40),
        Some([b'R', b'I', b'F', b'X']) => (Layout::Big, 12),
        _ => (Layout::Little, 12),
    };
    let (mut format, mut long) = (None, None);
    while let Some(chunk) = layout.chunk(&mut source, at)? {
        let end = chunk.start.saturating_add(chunk.size);
        match &chunk.tag {
            b"fmt " => format = Some(wav_format(&mut source, layout, &chunk)?),
            // RF64: the lengths that do not fit into 32 bits, first that of the file
            b"ds64" => long = source.read::<8>(chunk.start + 8, end)?.map(u64::from_le_bytes),
            b"data" => {
                let said = long.filter(|_| chunk.size == u64::from(u32::MAX)).unwrap_or(chunk.size);
                let bytes = source.extent(layout, chunk.start, said)?;
                layout.check_single(&mut source, &Chunk { size: bytes, ..chunk })?;
                return match format {
                    None => source.fault("a damaged wav: no format chunk before the samples"),
                    Some(Coding::Mp3) => Ok(Wav::Mp3 { start: chunk.start, bytes }),
                    Some(Coding::Adpcm(_)) if layout == Layout::Little && long.is_none() => Ok(Wav::Adpcm),
                    Some(Coding::Adpcm(name)) => unread(&source, name),
                    Some(Coding::Pcm(pcm)) => {
                        wav_samples(&mut source, Pcm { start: chunk.start, bytes, ..pcm }).map(Wav::Pcm)
                    }
                };
            }
            _ => {}
        }
        at = layout.after(&mut source, &chunk)?;
    }
    source.fault("truncated: the header ends before the samples start")
}

/// What a `fmt ` chunk says.
enum Coding {
    /// Start and length are still to be found.
    Pcm(Pcm),
    Mp3,
    /// A coding of blocks, by its name.
    Adpcm(&'static str),
}

fn unread<T, R: Read + Seek>(source: &Source<R>, name: &str) -> Result<T> {
    source.fault(format!("coded as {name}, which is not supported: convert it to 16-bit pcm"))
}

/// The coding of a `fmt ` chunk.
fn wav_format<R: Read + Seek>(source: &mut Source<R>, layout: Layout, chunk: &Chunk) -> Result<Coding> {
    let end = chunk.start.saturating_add(chunk.size);
    let too_short = "truncated: the wav's format chunk is too short";
    let Some(body) = source.read::<16>(chunk.start, end)? else { return source.fault(too_short) };
    let is_big = layout == Layout::Big;
    let word = |bytes: [u8; 2]| if is_big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) };
    let long = |bytes: [u8; 4]| if is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
    let [c0, c1, n0, n1, r0, r1, r2, r3, a0, a1, a2, a3, k0, k1, b0, b1] = body;
    let (mut coding, channels, block, bits) = (word([c0, c1]), word([n0, n1]), word([k0, k1]), word([b0, b1]));
    let (rate, byte_rate) = (long([r0, r1, r2, r3]), long([a0, a1, a2, a3]));
    if coding == 0xfffe {
        // WAVE_FORMAT_EXTENSIBLE: the coding opens the GUID at byte 24
        let Some(guid) = source.read::<2>(chunk.start + 24, end)? else { return source.fault(too_short) };
        coding = word(guid);
    }
    let width: u16 = match (coding, bits) {
        (1, 8) | (6 | 7, 8) => 1,
        (1, 9..=16) => 2,
        (1, 17..=24) => 3,
        (1, 25..=32) | (3, 32) => 4,
        (3, 64) => 8,
        (1 | 3 | 6 | 7, _) => {
            return source.fault(format!("a wav with {bits} bits a sample: convert it to 16 bits"));
        }
        _ => return other_coding(source, coding),
    };
    let codec = match coding {
        1 if width == 1 => codec::CODEC_ID_PCM_U8,
        1 => integers(width, is_big),
        3 => floats(width, is_big),
        6 => codec::CODEC_ID_PCM_ALAW,
        _ => codec::CODEC_ID_PCM_MULAW,
    };
    let frame = width.saturating_mul(channels);
    // 0 and 1 are what careless programs write; the rate of bytes is a second witness
    let is_known = matches!(block, 0 | 1) || byte_rate == rate.wrapping_mul(frame.into());
    let pcm = Pcm { codec, rate, channels, width, is_low_24: false, start: 0, bytes: 0 };
    if (coding, width) == (1, 3) && block == channels.saturating_mul(4) {
        return Ok(Coding::Pcm(Pcm { codec: integers(4, is_big), width: 4, is_low_24: !is_big, ..pcm }));
    }
    if block != frame && !is_known {
        let fault = format!("a damaged wav: {channels} channels of {bits} bits do not make blocks of {block} bytes");
        return source.fault(fault);
    }
    Ok(Coding::Pcm(pcm))
}

/// A coding other than PCM, float, A-law and mu-law.
fn other_coding<R: Read + Seek>(source: &Source<R>, coding: u16) -> Result<Coding> {
    let name = match coding {
        0x0002 => return Ok(Coding::Adpcm("Microsoft ADPCM")),
        0x0011 => return Ok(Coding::Adpcm("IMA ADPCM")),
        0x0010 => "OKI ADPCM",
        0x0014 | 0x0040 | 0x0045 | 0x0064 => "G.721, G.723 or G.726 ADPCM",
        0x0020 => "Yamaha ADPCM",
        0x0022 => "TrueSpeech",
        0x0031 => "GSM 6.10",
        0x0042 | 0x0083 | 0x0084 => "G.723.1, G.729 or G.728",
        0x0050 => "MPEG layer 1 or 2",
        0x0055 => return Ok(Coding::Mp3),
        0x0092 | 0x2000 => "AC-3",
        0x00ff | 0x1600..=0x1610 | 0x706d | 0xa106 => "AAC",
        0x0160..=0x0163 => "Windows Media Audio",
        0x0200 => "Creative ADPCM",
        0x2001 => "DTS",
        0x564c | 0x566f | 0x674f..=0x6771 => "Vorbis",
        0xf1ac => "FLAC",
        _ => return source.fault(format!("a wav of the unknown coding {coding:#06x}: convert it to 16-bit pcm")),
    };
    unread(source, name)
}

/// Settles where 24 bits lie in samples of four bytes: the header does not say, and programs differ.
///
/// The upper three bytes of a sample are used (the lowest is 0 then), or the lower three (the highest is 0 then, or
/// repeats the sign: ALSA's arecord); or only the block size is wrong, and samples have three bytes.
fn wav_samples<R: Read + Seek>(source: &mut Source<R>, pcm: Pcm) -> Result<Pcm> {
    const PLACES: u64 = 64;
    const SAMPLES: u64 = 256;
    if !pcm.is_low_24 {
        return Ok(pcm);
    }
    let (mut is_high, mut is_signed, mut is_filled, mut is_float) = (true, true, true, true);
    for place in 0..PLACES {
        // whole samples, spread over all of them
        let at = pcm.start + pcm.bytes / 4 * place / PLACES * 4;
        let mut bytes = Vec::new();
        source
            .file
            .seek(SeekFrom::Start(at))
            .and_then(|_| {
                source.file.by_ref().take((4 * SAMPLES).min(pcm.start + pcm.bytes - at)).read_to_end(&mut bytes)
            })
            .map_err(Error::io("cannot read", source.path))?;
        for &sample in bytes.as_chunks::<4>().0 {
            is_high &= sample[0] == 0;
            is_signed &= sample[3] == if sample[2] < 0x80 { 0 } else { 0xff };
            is_filled &= sample[3] == 0;
            let float = f32::from_le_bytes(sample).abs();
            is_float &= float == 0.0 || (1e-12..=1e8).contains(&float);
        }
    }
    if is_signed || is_filled {
        Ok(pcm)
    } else if is_high {
        Ok(Pcm { is_low_24: false, ..pcm })
    } else if is_float {
        source.fault("a wav of 24 bits a sample that are floating-point numbers (Cool Edit's): convert it to 16 bits")
    } else {
        Ok(Pcm { codec: integers(3, false), width: 3, is_low_24: false, ..pcm })
    }
}

/// Integers of `width` bytes, 2 to 4.
fn integers(width: u16, is_big: bool) -> AudioCodecId {
    match (width, is_big) {
        (2, false) => codec::CODEC_ID_PCM_S16LE,
        (2, true) => codec::CODEC_ID_PCM_S16BE,
        (3, false) => codec::CODEC_ID_PCM_S24LE,
        (3, true) => codec::CODEC_ID_PCM_S24BE,
        (_, false) => codec::CODEC_ID_PCM_S32LE,
        (_, true) => codec::CODEC_ID_PCM_S32BE,
    }
}

/// Floating-point numbers of `width` bytes, 4 or 8.
fn floats(width: u16, is_big: bool) -> AudioCodecId {
    match (width, is_big) {
        (4, false) => codec::CODEC_ID_PCM_F32LE,
        (4, true) => codec::CODEC_ID_PCM_F32BE,
        (_, false) => codec::CODEC_ID_PCM_F64LE,
        (_, true) => codec::CODEC_ID_PCM_F64BE,
    }
}

/// Reads an AU header (Sun's `.snd`, big-endian) of a file of `length` bytes.
pub(super) fn au<R: Read + Seek>(path: &Path, file: &mut R, length: u64) -> Result<Pcm> {
    let mut source = Source { path, file, length };
    let Some(head) = source.read::<24>(0, length)? else {
        return source.fault("truncated: the file ends within its au header");
    };
    let word = |i: usize| u32::from_be_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
    let (start, size, encoding, rate, channels) = (word(4), word(8), word(12), word(16), word(20));
    let (codec, width) = match encoding {
        1 => (codec::CODEC_ID_PCM_MULAW, 1),
        2 => (codec::CODEC_ID_PCM_S8, 1),
        3..=5 => (integers(encoding as u16 - 1, true), encoding as u16 - 1),
        6 => (floats(4, true), 4),
        7 => (floats(8, true), 8),
        27 => (codec::CODEC_ID_PCM_ALAW, 1),
        _ => {
            let name = match encoding {
                23 => " (G.721 ADPCM)",
                24 => " (G.722 ADPCM)",
                25 | 26 => " (G.723 ADPCM)",
                _ => "",
            };
            let remedy = "convert it to 16-bit pcm (encoding 3)";
            return source.fault(format!("au encoding {encoding}{name} is not supported: {remedy}"));
        }
    };
    let start = u64::from(start);
    if start < 24 || start > length {
        return source.fault(format!("a damaged au: samples cannot start at byte {start} of {length}"));
    }
    let bytes = source.extent(Layout::Big, start, size.into())?;
    // more than 65,535 channels are refused like any number above the limit
    let channels = channels.try_into().unwrap_or(u16::MAX);
    Ok(Pcm { codec, rate, channels, width, is_low_24: false, start, bytes })
}

/// Reads an AIFF or AIFF-C header of a file of `length` bytes.
pub(super) fn aiff<R: Read + Seek>(path: &Path, file: &mut R, length: u64) -> Result<Pcm> {
    let mut source = Source { path, file, length };
    let is_compressed = source.read::<12>(0, length)?.is_some_and(|head| head.ends_with(b"AIFC"));
    let (mut common, mut sound, mut at) = (None, None, 12);
    while let Some(chunk) = Layout::Big.chunk(&mut source, at)? {
        at = Layout::Big.after(&mut source, &chunk)?;
        match &chunk.tag {
            b"COMM" => common = Some(aiff_common(&mut source, &chunk, is_compressed)?),
            // of a length that is not known, or of one that the file does not hold, nothing follows
            b"SSND" if chunk.size == 0 || at > length => {
                sound = Some(chunk);
                break;
            }
            b"SSND" => sound = Some(chunk),
            _ => {}
        }
        if sound.is_some() && common.is_some() {
            break;
        }
    }
    let (Some((pcm, frames)), Some(chunk)) = (common, sound) else {
        return source.fault("truncated: the header ends before the samples start");
    };
    let held = source.extent(Layout::Big, chunk.start, chunk.size)?;
    if held > 0 && held == chunk.size {
        Layout::Big.check_single(&mut source, &chunk)?;
    }
    if held == 0 {
        return Ok(Pcm { start: chunk.start, ..pcm });
    }
    // the samples may begin later, to suit a disk's blocks
    let Some(offset) = source.read::<4>(chunk.start, length)? else {
        return source.fault("truncated: the header ends before the samples start");
    };
    let head = 8 + u64::from(u32::from_be_bytes(offset));
    let Some(held_samples) = held.checked_sub(head) else {
        return source.fault(format!("a damaged aiff: its samples start {head} bytes into a chunk of {held}"));
    };
    let said = u64::from(frames) * u64::from(pcm.width) * u64::from(pcm.channels);
    let bytes = match said {
        0 => held_samples,
        said if held != chunk.size || is_unknown(chunk.size) => held_samples.min(said),
        said if said > held_samples => {
            return source
                .fault(format!("truncated: header says {said} bytes of samples, the file holds {held_samples}"));
        }
        said => said,
    };
    Ok(Pcm { start: chunk.start + head, bytes, ..pcm })
}

/// What a `COMM` chunk says: the coding, and how many frames there are.
fn aiff_common<R: Read + Seek>(source: &mut Source<R>, chunk: &Chunk, is_compressed: bool) -> Result<(Pcm, u32)> {
    let end = chunk.start.saturating_add(chunk.size);
    let too_short = "truncated: the aiff's common chunk is too short";
    let Some(body) = source.read::<18>(chunk.start, end)? else { return source.fault(too_short) };
    let [c0, c1, f0, f1, f2, f3, b0, b1, rate @ ..] = body;
    let (channels, frames, bits) =
        (u16::from_be_bytes([c0, c1]), u32::from_be_bytes([f0, f1, f2, f3]), u16::from_be_bytes([b0, b1]));
    let coding = match source.read::<4>(chunk.start + 18, end)? {
        Some(coding) if is_compressed => coding,
        None if is_compressed => return source.fault(too_short),
        _ => *b"NONE",
    };
    let unsupported = |source: &Source<R>| {
        let coding = String::from_utf8_lossy(&coding).trim_end().to_owned();
        source.fault(format!("an aiff of {bits} bits a sample in coding {coding}: convert it to 16 bits"))
    };
    let (codec, width) = match (&coding, bits) {
        (b"NONE" | b"twos" | b"sowt", 1..=8) => (codec::CODEC_ID_PCM_S8, 1),
        (b"NONE" | b"twos", 9..=32) => (integers(bits.div_ceil(8), true), bits.div_ceil(8)),
        (b"sowt", 9..=32) => (integers(bits.div_ceil(8), false), bits.div_ceil(8)),
        (b"raw ", 1..=8) => (codec::CODEC_ID_PCM_U8, 1),
        (b"in16", _) => (integers(2, true), 2),
        (b"in24", _) => (integers(3, true), 3),
        (b"42ni", _) => (integers(3, false), 3),
        (b"in32", _) => (integers(4, true), 4),
        (b"23ni", _) => (integers(4, false), 4),
        (b"fl32" | b"FL32", _) => (floats(4, true), 4),
        (b"fl64" | b"FL64", _) => (floats(8, true), 8),
        (b"ulaw" | b"ULAW", _) => (codec::CODEC_ID_PCM_MULAW, 1),
        (b"alaw" | b"ALAW", _) => (codec::CODEC_ID_PCM_ALAW, 1),
        (b"NONE" | b"twos" | b"sowt" | b"raw ", _) => return unsupported(source),
        (b"ima4", _) => return unread(source, "IMA ADPCM (ima4)"),
        (b"MAC3" | b"MAC6", _) => return unread(source, "MACE"),
        (b"GSM " | b"agsm", _) => return unread(source, "GSM 6.10"),
        _ => {
            let name = String::from_utf8_lossy(&coding).trim_end().to_owned();
            return unread(source, &name);
        }
    };
    let rate = extended(rate);
    Ok((Pcm { codec, rate, channels, width, is_low_24: false, start: 0, bytes: 0 }, frames))
}

/// An 80-bit floating-point number, rounded; 0 for one that is negative or beyond 32 bits.
fn extended(bytes: [u8; 10]) -> u32 {
    let [e0, e1, mantissa @ ..] = bytes;
    let exponent = i32::from(u16::from_be_bytes([e0, e1]));
    // a sign, and the bias of the exponent and of the 63 bits behind the mantissa's first
    let value = u64::from_be_bytes(mantissa) as f64 * f64::from(exponent - 16_383 - 63).exp2();
    if value <= f64::from(u32::MAX) { value.round() as u32 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_eighty_bits() {
        // 44100 = 0xac44: as Apple's own files have it
        assert_eq!(extended([0x40, 0x0e, 0xac, 0x44, 0, 0, 0, 0, 0, 0]), 44_100);
        assert_eq!(extended([0x40, 0x0d, 0xac, 0x44, 0, 0, 0, 0, 0, 0]), 22_050);
        for odd in [[0; 10], [0xff; 10], [0x7f, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(extended(odd), 0);
        }
    }

    #[test]
    fn lengths_that_pipes_leave() {
        for said in
            [0x7fff_f000, 0x7fff_effa, 0x7fff_ffff, 0x7fff_ffd3, 0x8000_0000, 0xffff_ffff, 0x7f00_0008, u64::MAX / 2]
        {
            assert!(is_unknown(said), "{said:#x}");
        }
        for said in [1, 2_000_000_000, 0x8000_0001, 0x9000_0000, 0x1_0000_0000] {
            assert!(!is_unknown(said), "{said:#x}");
        }
    }
}

//! The headers of WAV and AU files: where the samples are, how they are coded, and whether they are all there; and
//! whether an AIFF or Ogg file is.
//!
//! By hand, because symphonia knows no AU, and because a WAV header that promises more than the file holds must be
//! refused before anything is decoded. The samples themselves are decoded by symphonia's PCM decoder.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use symphonia::core::codecs::audio::AudioCodecId;
use symphonia::core::codecs::audio::well_known as codec;

use super::section::Section;
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
    /// Where the samples start, bytes.
    pub start: u64,
    /// How many bytes of them there are.
    pub bytes: u64,
}

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
    /// Another coding (say ADPCM), complete as far as its header says.
    Other,
}

/// A sample format as its `fmt ` chunk gives it.
enum Coding {
    /// Codec, channels, rate in Hz, bytes per sample of one channel.
    Pcm(AudioCodecId, u16, u32, u16),
    Mp3,
    Other,
}

/// What streaming encoders write for a length that they do not know yet.
const UNKNOWN: u32 = u32::MAX;

/// Reads a WAV header of a file of `length` bytes.
pub(super) fn wav(path: &Path, file: &mut Section, length: u64) -> Result<Wav> {
    let mut format = None;
    let mut at = 12;
    loop {
        let Some(head) = read::<8>(path, file, at, length)? else {
            return Err(Error::audio(path, "truncated: the header ends before the samples start"));
        };
        let [tag @ .., s0, s1, s2, s3] = head;
        let size = u32::from_le_bytes([s0, s1, s2, s3]);
        at += 8;
        if tag == *b"data" {
            // 0 at the very end is an empty recording; 0 before samples is an encoder that could not seek back
            let bytes = if size == UNKNOWN || size == 0 { length - at } else { u64::from(size) };
            complete(path, bytes, length - at)?;
            return match format {
                None => Err(Error::audio(path, "a damaged wav: no format chunk before the samples")),
                Some(Coding::Mp3) => Ok(Wav::Mp3 { start: at, bytes }),
                Some(Coding::Other) => Ok(Wav::Other),
                Some(Coding::Pcm(codec, channels, rate, width)) => {
                    Ok(Wav::Pcm(Pcm { codec, rate, channels, width, start: at, bytes }))
                }
            };
        }
        if tag == *b"fmt " {
            format = Some(wav_format(path, file, at, length.min(at + u64::from(size)))?);
        }
        // chunks start at even positions
        at += u64::from(size) + u64::from(size % 2);
    }
}

/// The coding of a `fmt ` chunk that lies in `at..end`.
fn wav_format(path: &Path, file: &mut Section, at: u64, end: u64) -> Result<Coding> {
    let Some(body) = read::<16>(path, file, at, end)? else {
        return Err(Error::audio(path, "truncated: the wav's format chunk is too short"));
    };
    let word = |i: usize| u16::from_le_bytes([body[i], body[i + 1]]);
    let (mut coding, channels, block, bits) = (word(0), word(2), word(12), word(14));
    let rate = u32::from_le_bytes([body[4], body[5], body[6], body[7]]);
    if coding == 0xfffe {
        // WAVE_FORMAT_EXTENSIBLE: the coding opens the GUID at byte 24
        let Some(guid) = read::<2>(path, file, at + 24, end)? else {
            return Err(Error::audio(path, "truncated: the wav's format chunk is too short"));
        };
        coding = u16::from_le_bytes(guid);
    }
    let (codec, width): (_, u16) = match (coding, bits) {
        (1, 8) => (codec::CODEC_ID_PCM_U8, 1),
        (1, 9..=16) => (codec::CODEC_ID_PCM_S16LE, 2),
        (1, 17..=24) => (codec::CODEC_ID_PCM_S24LE, 3),
        (1, 25..=32) => (codec::CODEC_ID_PCM_S32LE, 4),
        (3, 32) => (codec::CODEC_ID_PCM_F32LE, 4),
        (3, 64) => (codec::CODEC_ID_PCM_F64LE, 8),
        (6, 8) => (codec::CODEC_ID_PCM_ALAW, 1),
        (7, 8) => (codec::CODEC_ID_PCM_MULAW, 1),
        (1 | 3 | 6 | 7, _) => {
            return Err(Error::audio(path, format!("a wav with {bits} bits a sample: convert it to 16 bits")));
        }
        (0x55, _) => return Ok(Coding::Mp3),
        _ => return Ok(Coding::Other),
    };
    if block != width.saturating_mul(channels) {
        let fault = format!("a damaged wav: {channels} channels of {bits} bits do not make blocks of {block} bytes");
        return Err(Error::audio(path, fault));
    }
    Ok(Coding::Pcm(codec, channels, rate, width))
}

/// Reads an AU header (Sun's `.snd`, big-endian) of a file of `length` bytes.
pub(super) fn au(path: &Path, file: &mut Section, length: u64) -> Result<Pcm> {
    let Some(head) = read::<24>(path, file, 0, length)? else {
        return Err(Error::audio(path, "truncated: the file ends within its au header"));
    };
    let word = |i: usize| u32::from_be_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
    let (start, size, encoding, rate, channels) = (word(4), word(8), word(12), word(16), word(20));
    let (codec, width) = match encoding {
        1 => (codec::CODEC_ID_PCM_MULAW, 1),
        2 => (codec::CODEC_ID_PCM_S8, 1),
        3 => (codec::CODEC_ID_PCM_S16BE, 2),
        4 => (codec::CODEC_ID_PCM_S24BE, 3),
        5 => (codec::CODEC_ID_PCM_S32BE, 4),
        6 => (codec::CODEC_ID_PCM_F32BE, 4),
        7 => (codec::CODEC_ID_PCM_F64BE, 8),
        27 => (codec::CODEC_ID_PCM_ALAW, 1),
        _ => {
            let fault = format!("au encoding {encoding} is not supported: convert it to 16-bit pcm (encoding 3)");
            return Err(Error::audio(path, fault));
        }
    };
    let start = u64::from(start);
    if start < 24 || start > length {
        let fault = format!("a damaged au: samples cannot start at byte {start} of {length}");
        return Err(Error::audio(path, fault));
    }
    let held = length - start;
    let bytes = if size == UNKNOWN { held } else { u64::from(size) };
    complete(path, bytes, held)?;
    // more than 65,535 channels are refused like any number above the limit
    Ok(Pcm { codec, rate, channels: channels.try_into().unwrap_or(u16::MAX), width, start, bytes })
}

/// Refuses an AIFF of `length` bytes whose sound chunk promises more than the file holds.
pub(super) fn check_aiff(path: &Path, file: &mut Section, length: u64) -> Result<()> {
    let mut at = 12;
    while let Some(head) = read::<8>(path, file, at, length)? {
        let [tag @ .., s0, s1, s2, s3] = head;
        let size = u64::from(u32::from_be_bytes([s0, s1, s2, s3]));
        at += 8;
        if tag == *b"SSND" {
            return complete(path, size, length - at);
        }
        at += size + size % 2;
    }
    Err(Error::audio(path, "truncated: the header ends before the samples start"))
}

fn complete(path: &Path, said: u64, held: u64) -> Result<()> {
    if said > held {
        let fault = format!("truncated: header says {said} bytes of samples, the file holds {held}");
        return Err(Error::audio(path, fault));
    }
    Ok(())
}

/// The `N` bytes at `at`, or `None` if they do not end by `end`.
fn read<const N: usize>(path: &Path, file: &mut Section, at: u64, end: u64) -> Result<Option<[u8; N]>> {
    if at + N as u64 > end {
        return Ok(None);
    }
    let mut bytes = [0; N];
    file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut bytes)).map_err(Error::io("cannot read", path))?;
    Ok(Some(bytes))
}

//! Any audio file to mono samples at the study's rate.
//!
//! What a file is, its first bytes say, not its name. Packets are decoded one by one, mixed down and resampled as they
//! come: [`stream`] hands them on at once, [`decode`] gathers them, and only the result is ever held whole. A file that
//! is not entirely there is refused, not used as far as it goes: a training set should not depend on how a download
//! ended. (An MP3 without a Xing or Info header does not say how long it is: one that ends early is a shorter one.)

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use symphonia::core::audio::Channels;
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::errors::Error as Fault;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Timestamp};

use super::mono::{Mono, PCM_FRAMES, make_decoder, not_audio, truncated, undecodable};
use super::pcm::{self, Pcm, Wav};
use super::section::Section;
use super::{flac, foreign, mp3, ogg, tags};
use crate::error::{Error, Result};
use crate::files;

pub use super::mono::{Heard, NOT_AUDIO, Part, Silence};

/// A file of unknown format may be a damaged Ogg file: so many of its first bytes are searched for pages.
const UNKNOWN_START: u64 = 1 << 17;

/// Decodes the audio file `path`: mono, [`SAMPLE_RATE`](crate::audio::SAMPLE_RATE), full scale = 1.
///
/// WAV (8 to 32 bits, float, A-law, mu-law, ADPCM), AU, AIFF, FLAC, MP3 and Ogg Vorbis. Channels are averaged; another
/// rate is resampled without delay, so that `n` frames at `sr` Hz become `round(n * 22050 / sr)` samples.
///
/// Silence is decoded like anything else. [`stream`] says whether there is nothing else, and what was bridged.
///
/// # Errors
/// A file that cannot be read, is not audio, is truncated or says more than it holds, has no samples, or has samples
/// that are not numbers.
pub fn decode(path: &Path) -> Result<Vec<f32>> {
    let mut samples = Vec::new();
    stream(path, Part::default(), &mut |block| {
        let full = |_| Error::audio(path, "too long to be held in memory");
        samples.try_reserve(block.len()).map_err(full)?;
        samples.extend_from_slice(block);
        Ok(())
    })?;
    Ok(samples)
}

/// Hands `part` of what [`decode`] yields to `sink`, block by block: a file of any length in little memory.
///
/// A part is sought, not decoded up to; its samples are those of the whole file's.
///
/// # Errors
/// Those of [`decode`], as far as the file was read; a part that reaches beyond its end; what `sink` returns. A whole file
/// that is longer than 24 hours, or longer than its bytes can be, is refused once that is known.
pub fn stream(path: &Path, part: Part, sink: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<Heard> {
    let Content { section: file, head, bytes } = open(path)?;
    let trouble = file.trouble();
    let mut mono = Mono::new(path, part, bytes, sink);
    let decoded = decode_content(path, file, &head, &mut mono).and_then(|()| mono.finish());
    // decoders take a failing disk for a damaged file, or for its end
    match trouble.get() {
        Some(error) => Err(Error::io("cannot read", path)(error)),
        None => decoded,
    }
}

/// Tells what kind of file `path` is by its first bytes.
///
/// # Errors
/// The file cannot be read, or holds nothing but tags.
pub fn sniff(path: &Path) -> Result<Sniffed> {
    let head = open(path)?.head;
    Ok(match (Kind::known(&head), foreign::name(&head)) {
        (_, Some(format)) => Sniffed::Foreign(format),
        (Some(_), None) => Sniffed::Readable,
        (None, None) => Sniffed::Unknown(head),
    })
}

/// What a file's first bytes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// It begins like a file that can be decoded.
    Readable,
    /// A format of sound that is not supported: "an MPEG-4 file (AAC or ALAC)".
    Foreign(&'static str),
    /// Neither; these are the first bytes.
    Unknown(Vec<u8>),
}

/// Why a file in a `format` of [`Sniffed::Foreign`] is refused.
pub fn unsupported(format: &str) -> String {
    format!("{format}, which is not supported: convert it to flac or wav")
}

/// A file without its tags.
struct Content {
    section: Section,
    /// Its first bytes, up to 512.
    head: Vec<u8>,
    /// Its length with tags.
    bytes: u64,
}

fn open(path: &Path) -> Result<Content> {
    let mut file = files::open(path)?;
    let bytes = file.metadata().map_err(Error::io("cannot read", path))?.len();
    let content = tags::content(&mut file, bytes, |first| Kind::known(first).is_some());
    let mut section = content.and_then(|range| Section::new(file, range)).map_err(Error::io("cannot read", path))?;
    if section.length() == 0 {
        return Err(Error::audio(path, if bytes == 0 { "an empty file" } else { "holds tags and no sound" }));
    }
    let mut head = Vec::new();
    let read = Read::by_ref(&mut section).take(512).read_to_end(&mut head);
    read.map_err(Error::io("cannot read", path))?;
    Ok(Content { section, head, bytes })
}

fn decode_content(path: &Path, mut file: Section, head: &[u8], mono: &mut Mono) -> Result<()> {
    let length = file.length();
    match Kind::known(head) {
        None => match foreign::name(head) {
            Some(format) => Err(Error::audio(path, unsupported(format))),
            None => decode_unknown(path, file, mono),
        },
        Some(Kind::Wav) => match pcm::wav(path, &mut file, length)? {
            Wav::Pcm(pcm) => decode_pcm(path, file, &pcm, mono),
            Wav::Mp3 { start, bytes } => {
                let file = file.part(start, bytes).map_err(Error::io("cannot read", path))?;
                mp3::decode(path, file, mono)
            }
            Wav::Adpcm => decode_adpcm(path, file, mono),
        },
        Some(Kind::Au) => {
            let pcm = pcm::au(path, &mut file, length)?;
            decode_pcm(path, file, &pcm, mono)
        }
        Some(Kind::Aiff) => {
            let pcm = pcm::aiff(path, &mut file, length)?;
            decode_pcm(path, file, &pcm, mono)
        }
        Some(Kind::Ogg) => ogg::decode(path, file, mono),
        Some(Kind::Flac) => flac::decode(path, file, mono),
        Some(Kind::Mp3) => mp3::decode(path, file, mono),
    }
}

/// Decodes a file whose first bytes are of no known format: bytes of something else may come before the sound.
fn decode_unknown(path: &Path, mut file: Section, mono: &mut Mono) -> Result<()> {
    file.rewind().map_err(Error::io("cannot read", path))?;
    match ogg::damaged_start(path, (&mut file).take(UNKNOWN_START)) {
        Some(error) => Err(error),
        None => mp3::decode(path, file, mono),
    }
}

/// The formats that can be read.
enum Kind {
    Wav,
    Au,
    Aiff,
    Ogg,
    Flac,
    Mp3,
}

impl Kind {
    /// What the first bytes of the content, which has no tags any more, say that it is.
    fn known(magic: &[u8]) -> Option<Kind> {
        match magic {
            [b'R', b'I', b'F', b'F' | b'X', _, _, _, _, b'W', b'A', b'V', b'E', ..] => Some(Kind::Wav),
            [b'R' | b'B', b'F' | b'W', b'6', b'4', _, _, _, _, b'W', b'A', b'V', b'E', ..] => Some(Kind::Wav),
            bytes if bytes.starts_with(pcm::WAVE64) => Some(Kind::Wav),
            [b'F', b'O', b'R', b'M', _, _, _, _, b'A', b'I', b'F', b'F' | b'C', ..] => Some(Kind::Aiff),
            [b'.', b's', b'n', b'd', ..] => Some(Kind::Au),
            [b'O', b'g', b'g', b'S', ..] => Some(Kind::Ogg),
            [b'f', b'L', b'a', b'C', ..] => Some(Kind::Flac),
            // MPEG: eleven set bits, any version, then the layer, which is not 0
            [0xff, b, ..] if b & 0xe0 == 0xe0 && b & 6 != 0 => Some(Kind::Mp3),
            _ => None,
        }
    }
}

fn decode_pcm(path: &Path, mut file: Section, pcm: &Pcm, mono: &mut Mono) -> Result<()> {
    mono.check(pcm.rate, pcm.channels.into())?;
    let mut parameters = AudioCodecParameters::new();
    parameters.for_codec(pcm.codec).with_sample_rate(pcm.rate).with_channels(Channels::Discrete(pcm.channels));
    let mut decoder = make_decoder(path, &parameters)?;
    let frame = u64::from(pcm.width) * u64::from(pcm.channels);
    let total = pcm.bytes / frame;
    mono.expect(total)?;
    let from = mono.from.min(total);
    mono.seek(from);
    file.seek(SeekFrom::Start(pcm.start + from * frame)).map_err(Error::io("cannot read", path))?;
    let mut reader = BufReader::new(file);
    let mut left = total - from;
    while left > 0 && !mono.is_done() {
        let frames = left.min(PCM_FRAMES);
        let mut bytes = Vec::with_capacity((frames * frame) as usize);
        reader.by_ref().take(frames * frame).read_to_end(&mut bytes).map_err(Error::io("cannot read", path))?;
        if bytes.len() as u64 != frames * frame {
            return Err(truncated(path));
        }
        if pcm.is_low_24 {
            // to the upper 24 bits
            bytes.as_chunks_mut::<4>().0.iter_mut().for_each(|sample| *sample = [0, sample[0], sample[1], sample[2]]);
        }
        let packet = Packet::new(0, Timestamp::new(0), Duration::from(frames), bytes);
        mono.push(&decoder.decode(&packet).map_err(|fault| undecodable(path, &fault))?)?;
        left -= frames;
    }
    Ok(())
}

/// Decodes the ADPCM of a WAV file, whose blocks symphonia finds.
fn decode_adpcm(path: &Path, mut file: Section, mono: &mut Mono) -> Result<()> {
    file.rewind().map_err(Error::io("cannot read", path))?;
    let stream = MediaSourceStream::new(Box::new(file), Default::default());
    let mut format = symphonia::default::get_probe()
        .probe(&Hint::new(), stream, FormatOptions::default(), MetadataOptions::default())
        .map_err(|fault| match fault {
            Fault::IoError(_) => undecodable(path, &fault),
            _ => not_audio(path),
        })?;
    let track = format.default_track(TrackType::Audio);
    let Some(CodecParameters::Audio(parameters)) = track.and_then(|track| track.codec_params.as_ref()) else {
        return Err(Error::audio(path, "holds no audio stream"));
    };
    let mut decoder = make_decoder(path, parameters)?;
    let mut damage = None;
    while !mono.is_done()
        && let Some(packet) = format.next_packet().map_err(|fault| undecodable(path, &fault))?
    {
        match decoder.decode(&packet) {
            Ok(buffer) if buffer.frames() == 0 => {}
            Ok(buffer) => mono.push(&buffer)?,
            // one bad packet is skipped, as players do
            Err(fault @ Fault::DecodeError(_)) => damage = Some(fault),
            Err(fault) => return Err(undecodable(path, &fault)),
        }
    }
    match damage {
        Some(fault) if mono.frames == 0 => Err(undecodable(path, &fault)),
        _ => Ok(()),
    }
}

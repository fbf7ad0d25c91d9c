//! Any audio file to mono samples at the study's rate.
//!
//! What a file is, its first bytes say, not its name. Packets are decoded one by one, mixed down and resampled as they
//! come: only the result is ever held whole. A file that is not entirely there is refused, not used as far as it goes:
//! a training set should not depend on how a download ended.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use symphonia::core::audio::{Channels, GenericAudioBufferRef};
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions, well_known};
use symphonia::core::errors::Error as Fault;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Timestamp};

use super::SAMPLE_RATE;
use super::pcm::{self, Pcm};
use super::resample::Resample;
use crate::error::{Error, Result};

/// Sample rates that are believed, Hz.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=768_000;

/// Channels that are believed.
const CHANNELS: std::ops::RangeInclusive<usize> = 1..=64;

/// Frames of PCM decoded at a time.
const PCM_FRAMES: u64 = 4096;

/// Decodes the audio file `path`: mono, [`SAMPLE_RATE`], full scale = 1.
///
/// WAV (8 to 32 bits, float, A-law, mu-law, ADPCM), AU, AIFF, FLAC, MP3 and Ogg Vorbis. Channels are averaged; another
/// rate is resampled without delay, so that `n` frames at `sr` Hz become `round(n * 22050 / sr)` samples.
///
/// Silence is decoded like anything else: ask [`is_silent`].
///
/// # Errors
/// A file that cannot be read, is not audio, is truncated or says more than it holds, has no samples, or has samples
/// that are not numbers.
pub fn decode(path: &Path) -> Result<Vec<f32>> {
    let mut file = File::open(path).map_err(Error::io("cannot open", path))?;
    let about = file.metadata().map_err(Error::io("cannot read", path))?;
    if !about.is_file() {
        return Err(Error::audio(path, "not a file: name one audio file"));
    }
    let length = about.len();
    let mut magic = Vec::with_capacity(12);
    Read::by_ref(&mut file).take(12).read_to_end(&mut magic).map_err(Error::io("cannot read", path))?;
    let mut mono = Mono::new(path);
    match Kind::of(path, &magic)? {
        Kind::Wav => match pcm::wav(path, &mut file, length)? {
            Some(pcm) => decode_pcm(path, file, &pcm, &mut mono)?,
            None => decode_container(path, file, &mut mono)?,
        },
        Kind::Au => {
            let pcm = pcm::au(path, &mut file, length)?;
            decode_pcm(path, file, &pcm, &mut mono)?;
        }
        Kind::Aiff => {
            pcm::check_aiff(path, &mut file, length)?;
            decode_container(path, file, &mut mono)?;
        }
        Kind::Compressed => decode_container(path, file, &mut mono)?,
    }
    mono.finish()
}

/// True if nothing can be heard: all samples are equal (zero, or a constant offset).
pub fn is_silent(samples: &[f32]) -> bool {
    samples.windows(2).all(|pair| pair[0] == pair[1])
}

/// What a file's first bytes say it is.
enum Kind {
    Wav,
    Au,
    Aiff,
    /// FLAC, Ogg or MP3: symphonia finds out.
    Compressed,
}

impl Kind {
    fn of(path: &Path, magic: &[u8]) -> Result<Kind> {
        // MPEG layer III: eleven set bits, any version, then the layer
        let mp3 = |bytes: &[u8]| matches!(bytes, [0xff, b, ..] if b & 0xe6 == 0xe2);
        match magic {
            [] => Err(Error::audio(path, "an empty file")),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E'] => Ok(Kind::Wav),
            [b'F', b'O', b'R', b'M', _, _, _, _, b'A', b'I', b'F', b'F' | b'C'] => Ok(Kind::Aiff),
            [b'.', b's', b'n', b'd', ..] => Ok(Kind::Au),
            [b'f', b'L', b'a', b'C', ..] | [b'O', b'g', b'g', b'S', ..] | [b'I', b'D', b'3', ..] => {
                Ok(Kind::Compressed)
            }
            bytes if mp3(bytes) => Ok(Kind::Compressed),
            _ => Err(not_audio(path)),
        }
    }
}

fn not_audio(path: &Path) -> Error {
    Error::audio(path, "not an audio file that can be read (wav, aiff, au, flac, mp3, ogg)")
}

fn truncated(path: &Path) -> Error {
    Error::audio(path, "truncated: the file ends in the middle of its audio")
}

/// symphonia's fault as ours.
fn undecodable(path: &Path, fault: &Fault) -> Error {
    match fault {
        Fault::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => truncated(path),
        Fault::ResetRequired => Error::audio(path, "several streams one after the other: split the file"),
        fault => Error::audio(path, format!("cannot be decoded: {fault}")),
    }
}

fn decode_pcm(path: &Path, mut file: File, pcm: &Pcm, mono: &mut Mono) -> Result<()> {
    mono.check(pcm.rate, pcm.channels.into())?;
    let mut parameters = AudioCodecParameters::new();
    parameters.for_codec(pcm.codec).with_sample_rate(pcm.rate).with_channels(Channels::Discrete(pcm.channels));
    let mut decoder = make_decoder(path, &parameters)?;
    file.seek(SeekFrom::Start(pcm.start)).map_err(Error::io("cannot read", path))?;
    let mut reader = BufReader::new(file);
    let frame = u64::from(pcm.width) * u64::from(pcm.channels);
    let mut left = pcm.bytes / frame;
    while left > 0 {
        let frames = left.min(PCM_FRAMES);
        let mut bytes = Vec::new();
        reader.by_ref().take(frames * frame).read_to_end(&mut bytes).map_err(Error::io("cannot read", path))?;
        if bytes.len() as u64 != frames * frame {
            return Err(truncated(path));
        }
        let packet = Packet::new(0, Timestamp::new(0), Duration::from(frames), bytes);
        mono.push(&decoder.decode(&packet).map_err(|fault| undecodable(path, &fault))?)?;
        left -= frames;
    }
    Ok(())
}

fn decode_container(path: &Path, mut file: File, mono: &mut Mono) -> Result<()> {
    file.rewind().map_err(Error::io("cannot read", path))?;
    let stream = MediaSourceStream::new(Box::new(file), Default::default());
    let mut format = symphonia::default::get_probe()
        .probe(&Hint::new(), stream, FormatOptions::default(), MetadataOptions::default())
        .map_err(|fault| match fault {
            Fault::IoError(_) => undecodable(path, &fault),
            _ => not_audio(path),
        })?;
    let (id, frames, parameters) = match format.default_track(TrackType::Audio) {
        Some(track) => match &track.codec_params {
            Some(CodecParameters::Audio(parameters)) => (track.id, track.num_frames, parameters.clone()),
            _ => return Err(Error::audio(path, "an audio stream of unknown coding")),
        },
        None => return Err(Error::audio(path, "holds no audio stream")),
    };
    let mut decoder = make_decoder(path, &parameters)?;
    let mut damage = None;
    while let Some(packet) = format.next_packet().map_err(|fault| undecodable(path, &fault))? {
        if packet.track_id != id {
            continue;
        }
        match decoder.decode(&packet) {
            Ok(buffer) => mono.push(&buffer)?,
            // one bad packet is skipped, as players do: an mp3 cut from a stream starts with some
            Err(fault @ Fault::DecodeError(_)) => damage = Some(fault),
            Err(fault) => return Err(undecodable(path, &fault)),
        }
    }
    if let (0, Some(fault)) = (mono.frames, damage) {
        return Err(undecodable(path, &fault));
    }
    // only FLAC says beforehand, and exactly, how much there is
    if parameters.codec == well_known::CODEC_ID_FLAC
        && let Some(said) = frames
        && said > mono.frames
    {
        let fault = format!("truncated: header says {said} samples, {} could be decoded", mono.frames);
        return Err(Error::audio(path, fault));
    }
    Ok(())
}

fn make_decoder(path: &Path, parameters: &AudioCodecParameters) -> Result<Box<dyn AudioDecoder>> {
    symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default())
        .map_err(|fault| undecodable(path, &fault))
}

/// Gathers decoded packets: mixed down, checked, resampled.
struct Mono<'a> {
    path: &'a Path,
    /// Rate in Hz and number of channels, once known.
    format: Option<(u32, usize)>,
    resample: Option<Resample>,
    samples: Vec<f32>,
    /// Frames received, at the file's rate.
    frames: u64,
    interleaved: Vec<f32>,
    mixed: Vec<f32>,
}

impl<'a> Mono<'a> {
    fn new(path: &'a Path) -> Self {
        let (samples, interleaved, mixed) = (Vec::new(), Vec::new(), Vec::new());
        Mono { path, format: None, resample: None, samples, frames: 0, interleaved, mixed }
    }

    fn fault(&self, message: impl Into<String>) -> Error {
        Error::audio(self.path, message)
    }

    /// Refuses what no recording has, and a format that changes on the way.
    fn check(&mut self, rate: u32, channels: usize) -> Result<()> {
        match self.format {
            Some(format) if format == (rate, channels) => return Ok(()),
            Some(_) => return Err(self.fault("sample rate or channels change within the file")),
            None => {}
        }
        if !RATES.contains(&rate) {
            let (low, high) = (RATES.start(), RATES.end());
            return Err(self.fault(format!("a sample rate of {rate} Hz: expected {low} to {high} Hz")));
        }
        if !CHANNELS.contains(&channels) {
            return Err(self.fault(format!(
                "{channels} channels: expected {} to {}",
                CHANNELS.start(),
                CHANNELS.end()
            )));
        }
        if rate != SAMPLE_RATE {
            self.resample = Some(Resample::new(rate).map_err(|message| self.fault(message))?);
        }
        self.format = Some((rate, channels));
        Ok(())
    }

    fn push(&mut self, buffer: &GenericAudioBufferRef) -> Result<()> {
        let channels = buffer.spec().channels().count();
        self.check(buffer.spec().rate(), channels)?;
        buffer.copy_to_vec_interleaved(&mut self.interleaved);
        self.mixed.clear();
        let scale = 1.0 / channels as f32;
        self.mixed.extend(self.interleaved.chunks_exact(channels).map(|frame| frame.iter().sum::<f32>() * scale));
        if let Some(bad) = self.mixed.iter().position(|x| !x.is_finite()) {
            return Err(self.fault(format!("sample {} is not a number", self.frames + bad as u64)));
        }
        self.frames += self.mixed.len() as u64;
        match &mut self.resample {
            None => self.samples.extend_from_slice(&self.mixed),
            Some(resample) => {
                resample.push(&self.mixed, &mut self.samples).map_err(|message| Error::audio(self.path, message))?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<f32>> {
        if let Some(resample) = self.resample.take() {
            resample.finish(&mut self.samples).map_err(|message| self.fault(message))?;
            // absurdly loud floats can overflow in the filter
            if let Some(bad) = self.samples.iter().position(|x| !x.is_finite()) {
                return Err(self.fault(format!("sample {bad} is not a number after resampling")));
            }
        }
        if self.samples.is_empty() {
            return Err(self.fault("holds no samples"));
        }
        Ok(self.samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_a_constant() {
        assert!(is_silent(&[]) && is_silent(&[0.0]) && is_silent(&[0.0, -0.0, 0.0]) && is_silent(&[0.25; 9]));
        assert!(!is_silent(&[0.0, 0.0, 1e-30]));
    }
}

//! From decoded packets to mono samples at the study's rate: mixed down, checked, resampled, cut to a part.
//!
//! Every format's reader passes what it decodes to a [`Mono`]. What readers refuse is here as well.

use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;

use symphonia::core::audio::GenericAudioBufferRef;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as Fault;

use super::SAMPLE_RATE;
use super::resample::{LOUDEST, Resample, resampled_length};
use crate::error::{Error, Result};

/// Accepted sample rates, Hz.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=768_000;

/// Accepted numbers of channels.
const CHANNELS: std::ops::RangeInclusive<usize> = 1..=64;

/// The longest gap that becomes silence, s.
const LONGEST_GAP: u64 = 10;

/// Frames of PCM decoded at a time.
pub(super) const PCM_FRAMES: u64 = 4096;

/// The longest recording, hours: a longer one is taken in parts.
const LONGEST: u64 = 24;

/// No recording takes fewer bytes for a second of sound.
const LEAST_RATE: u64 = 2;

/// So many seconds are believed of any file, whatever its length.
const BELIEVED: u64 = 600;

/// A part of a recording, in samples at [`SAMPLE_RATE`]; the default is all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Part {
    /// The first sample.
    pub start: u64,
    /// How many samples; `None` is all that follow.
    pub length: Option<u64>,
}

impl Part {
    /// From `start` seconds on, `seconds` long.
    ///
    /// # Errors
    /// [`Error::Config`] for a time that is negative or not finite, or a length of nothing.
    pub fn seconds(start: f64, seconds: Option<f64>) -> Result<Part> {
        // 100 years: beyond any recording, and well within 64 bits
        const LONGEST: f64 = 3e9;
        let samples = |seconds: f64| (seconds * f64::from(SAMPLE_RATE)).round() as u64;
        // no field of digits for a number that is far off
        let said = |seconds: f64| if seconds.abs() > LONGEST { format!("{seconds:e}") } else { seconds.to_string() };
        if !(0.0..=LONGEST).contains(&start) {
            return Err(Error::Config(format!("a start of {} s: expected 0 to {LONGEST:e} s", said(start))));
        }
        match seconds {
            Some(seconds) if !(seconds <= LONGEST && samples(seconds) > 0) => {
                let (said, least) = (said(seconds), 1.0 / f64::from(SAMPLE_RATE));
                Err(Error::Config(format!("a length of {said} s: expected one sample ({least:.6} s) to {LONGEST:e} s")))
            }
            _ => Ok(Part { start: samples(start), length: seconds.map(samples) }),
        }
    }

    /// The sample after the last one.
    fn end(&self) -> u64 {
        self.length.map_or(u64::MAX, |length| self.start.saturating_add(length))
    }
}

/// What is known of a file once it has been decoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    /// What is wrong with the file and how it was bridged, one line each, without the file's name: "2 of 231 frames are
    /// damaged: silence replaces them". A file without faults has none.
    pub notes: Vec<String>,
    /// Why nothing can be heard in the part that was decoded, if so.
    pub silence: Option<Silence>,
}

/// Why nothing can be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Every channel is constant, zero or not.
    Constant,
    /// The mean of the channels is constant, although they are not: it is 60 dB below their peaks, or less.
    Cancelled,
}

impl std::fmt::Display for Silence {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Silence::Constant => "silent",
            Silence::Cancelled => "its channels cancel out: mixed down to one, nothing is left of them",
        })
    }
}

/// Why a file of unknown content is refused.
pub const NOT_AUDIO: &str = "not an audio file that can be read (wav, aiff, au, flac, mp3, ogg)";

pub(super) fn not_audio(path: &Path) -> Error {
    Error::audio(path, NOT_AUDIO)
}

pub(super) fn truncated(path: &Path) -> Error {
    Error::audio(path, "truncated: the file ends in the middle of its audio")
}

/// Whether a file may have `damaged` damaged packets among `total`: 2, or 1 in 100. Silence replaces them, and a note says
/// so; a file with more is refused.
pub(super) fn is_bridgeable(damaged: u64, total: u64) -> bool {
    damaged <= (total / 100).max(2)
}

/// symphonia's fault as ours.
pub(super) fn undecodable(path: &Path, fault: &Fault) -> Error {
    match fault {
        Fault::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => truncated(path),
        Fault::ResetRequired => Error::audio(path, "several streams one after the other: split the file"),
        fault => Error::audio(path, format!("cannot be decoded: {fault}")),
    }
}

pub(super) fn make_decoder(path: &Path, parameters: &AudioCodecParameters) -> Result<Box<dyn AudioDecoder>> {
    symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default().gapless(true))
        .map_err(|fault| undecodable(path, &fault))
}

/// Turns decoded packets into the part that is wanted: mixed down, checked, resampled, cut, handed on.
pub(super) struct Mono<'a> {
    path: &'a Path,
    pub(super) part: Part,
    sink: &'a mut dyn FnMut(&[f32]) -> Result<()>,
    /// Rate in Hz and number of channels, once known.
    format: Option<(u32, usize)>,
    resample: Option<Resample>,
    /// The first frame, at the file's rate, that the part depends on; known after [`Mono::check`].
    pub(super) from: u64,
    /// The next frame that will come, at the file's rate.
    pub(super) frames: u64,
    /// The next sample that will come out of the resampler.
    at: u64,
    interleaved: Vec<f32>,
    mixed: Vec<f32>,
    resampled: Vec<f32>,
    /// What was bridged, one line each.
    notes: Vec<String>,
    /// Whether anything can be heard.
    loudness: Loudness,
    /// Length of the file.
    bytes: u64,
}

impl<'a> Mono<'a> {
    pub(super) fn new(path: &'a Path, part: Part, bytes: u64, sink: &'a mut dyn FnMut(&[f32]) -> Result<()>) -> Self {
        Mono {
            path,
            part,
            sink,
            bytes,
            format: None,
            resample: None,
            from: 0,
            frames: 0,
            at: 0,
            interleaved: Vec::new(),
            mixed: Vec::new(),
            resampled: Vec::new(),
            notes: Vec::new(),
            loudness: Loudness::default(),
        }
    }

    /// Says what is wrong with the file and how it was bridged: a line without the file's name.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    fn fault(&self, message: impl Into<String>) -> Error {
        Error::audio(self.path, message)
    }

    /// True if all that is wanted has been handed on.
    pub(super) fn is_done(&self) -> bool {
        let end = self.part.end();
        end > self.part.start && self.at >= end
    }

    /// Refuses what no recording has, and a format that changes on the way.
    pub(super) fn check(&mut self, rate: u32, channels: usize) -> Result<()> {
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
            let (low, high) = (CHANNELS.start(), CHANNELS.end());
            return Err(self.fault(format!("{channels} channels: expected {low} to {high}")));
        }
        self.format = Some((rate, channels));
        if rate == SAMPLE_RATE {
            (self.from, self.at) = (self.part.start, self.part.start);
        } else {
            let mut resample = Resample::new(rate).map_err(|message| self.fault(message))?;
            (self.from, self.at) = resample.start_before(self.part.start);
            self.resample = Some(resample);
        }
        Ok(())
    }

    /// Refuses a whole file of `frames` frames that is longer than is accepted; to be asked as soon as that is known.
    pub(super) fn expect(&self, frames: u64) -> Result<()> {
        let Some((rate, _)) = self.format.filter(|_| self.part.length.is_none()) else { return Ok(()) };
        let seconds = frames.saturating_sub(self.from) / u64::from(rate);
        let (longest, bytes) = (LONGEST * 3_600, self.bytes);
        if seconds > longest {
            let remedy = "split the file, or take a part of it";
            return Err(self.fault(format!("longer than {LONGEST} hours: {remedy}")));
        }
        if seconds > BELIEVED.max(bytes / LEAST_RATE) {
            let minutes = seconds / 60;
            let fault = format!("{minutes} minutes or more in {bytes} bytes: too little for any sound; record it anew");
            return Err(self.fault(fault));
        }
        Ok(())
    }

    /// The next frame will be `frame`.
    pub(super) fn seek(&mut self, frame: u64) {
        self.frames = frame;
    }

    /// True if the part depends on one of the next `frames` frames.
    pub(super) fn needs(&self, frames: u64) -> bool {
        frames > 0 && self.frames.saturating_add(frames) > self.from && !self.is_done()
    }

    /// Counts `frames` frames that are not needed.
    pub(super) fn skip(&mut self, frames: u64) {
        self.frames = self.frames.saturating_add(frames);
    }

    /// Sample rate in Hz and number of channels, once known.
    pub(super) fn format(&self) -> Option<(u32, usize)> {
        self.format
    }

    /// Passes on a decoded packet.
    pub(super) fn push(&mut self, buffer: &GenericAudioBufferRef) -> Result<()> {
        let channels = buffer.spec().channels().count();
        self.check(buffer.spec().rate(), channels)?;
        let Some(unneeded) = self.advance(buffer.frames()) else { return Ok(()) };
        buffer.copy_to_vec_interleaved(&mut self.interleaved);
        self.interleaved.drain(..unneeded * channels);
        self.mix(channels)
    }

    /// Passes on the samples `part` of decoded channels, `[channel][sample]`. The format must have been checked.
    pub(super) fn push_planar(&mut self, channels: &[Vec<f32>], part: Range<usize>) -> Result<()> {
        let Some(unneeded) = self.advance(part.len()) else { return Ok(()) };
        self.interleaved.clear();
        for sample in part.start + unneeded..part.end {
            self.interleaved.extend(channels.iter().map(|channel| channel[sample]));
        }
        self.mix(channels.len())
    }

    /// Mixes `interleaved` down to one channel, and passes it on.
    fn mix(&mut self, channels: usize) -> Result<()> {
        let scale = 1.0 / channels as f32;
        self.mixed.clear();
        self.mixed.extend(self.interleaved.chunks_exact(channels).map(|frame| frame.iter().sum::<f32>() * scale));
        self.loudness.hear(&self.interleaved, &self.mixed);
        self.resample()
    }

    /// Passes on `frames` frames of silence in the place of sound that cannot be decoded.
    ///
    /// # Errors
    /// A gap that no file may have; those of the sink.
    pub(super) fn silence(&mut self, frames: u64) -> Result<()> {
        let rate = self.format.map_or(SAMPLE_RATE, |(rate, _)| rate);
        if frames > LONGEST_GAP * u64::from(rate) {
            let seconds = |frames: u64| frames as f64 / f64::from(rate);
            let (at, gap) = (seconds(self.frames), seconds(frames));
            return Err(self.fault(format!("damaged: after {at:.2} s, {gap:.2} s of sound are missing")));
        }
        let mut left = frames;
        while left > 0 && !self.is_done() {
            let block = left.min(PCM_FRAMES);
            left -= block;
            let Some(unneeded) = self.advance(block as usize) else { continue };
            self.mixed.clear();
            self.mixed.resize(block as usize - unneeded, 0.0);
            self.resample()?;
        }
        self.skip(left);
        Ok(())
    }

    /// Counts `frames` frames; returns how many of them come before those that are needed, or `None` if all do.
    fn advance(&mut self, frames: usize) -> Option<usize> {
        let unneeded = self.from.saturating_sub(self.frames).min(frames as u64);
        self.frames += frames as u64;
        (unneeded < frames as u64).then_some(unneeded as usize)
    }

    /// Checks and resamples `mixed`, whose last frame is the one before `frames`, and hands it on.
    fn resample(&mut self) -> Result<()> {
        self.expect(self.frames)?;
        let first = self.frames - self.mixed.len() as u64;
        if let Some(bad) = self.mixed.iter().position(|x| !x.is_finite()) {
            return Err(self.fault(format!("sample {} is not a finite number", first + bad as u64)));
        }
        if self.resample.is_some()
            && let Some(bad) = self.mixed.iter().position(|x| x.abs() > LOUDEST)
        {
            return Err(
                self.fault(format!("sample {} is too loud to be resampled; full scale is 1", first + bad as u64))
            );
        }
        if let Some(resample) = &mut self.resample {
            self.resampled.clear();
            resample.push(&self.mixed, &mut self.resampled).map_err(|message| Error::audio(self.path, message))?;
        } else {
            std::mem::swap(&mut self.mixed, &mut self.resampled);
        }
        self.hand_on()
    }

    /// Hands on what of `resampled` belongs to the part.
    fn hand_on(&mut self) -> Result<()> {
        let before = self.at;
        self.at += self.resampled.len() as u64;
        let within = |sample: u64| sample.clamp(before, self.at) - before;
        let wanted = within(self.part.start) as usize..within(self.part.end()) as usize;
        if wanted.is_empty() {
            return Ok(());
        }
        let first = before + wanted.start as u64;
        let block = &self.resampled[wanted];
        // absurdly loud floats can overflow in the filter
        if let Some(bad) = block.iter().position(|x| !x.is_finite()) {
            return Err(self.fault(format!("sample {} is not a finite number after resampling", first + bad as u64)));
        }
        (self.sink)(block)
    }

    pub(super) fn finish(mut self) -> Result<Heard> {
        if let Some(resample) = self.resample.take()
            && !self.is_done()
        {
            self.resampled.clear();
            let rest = resample.finish(self.frames, self.at, &mut self.resampled);
            rest.map_err(|message| self.fault(message))?;
            self.hand_on()?;
        }
        let rate = self.format.map_or(SAMPLE_RATE, |(rate, _)| rate);
        let total = resampled_length(self.frames, rate);
        if total == 0 {
            return Err(self.fault("holds no samples"));
        }
        let (Part { start, length }, end) = (self.part, self.part.end());
        if !self.is_done() && (start >= total || length.is_some()) {
            let seconds = |samples: u64| samples as f64 / f64::from(SAMPLE_RATE);
            let (total, start) = (seconds(total), seconds(start));
            let asked = match length {
                Some(_) => format!("{start:.3} s to {:.3} s", seconds(end)),
                None => format!("what follows {start:.3} s"),
            };
            return Err(
                self.fault(format!("only {total:.3} s long, but {asked} was asked for: start earlier or take less"))
            );
        }
        Ok(Heard { notes: self.notes, silence: self.loudness.silence() })
    }
}

/// How far samples lie from the first one.
#[derive(Default)]
struct Loudness {
    /// The first frame, and its mean.
    first: Vec<f32>,
    first_mixed: f32,
    /// The largest distance of a channel's sample from its first.
    apart: f32,
    /// The largest distance of a frame's mean from the first.
    apart_mixed: f32,
}

impl Loudness {
    /// Takes the next frames, `interleaved`, and their means, `mixed`.
    fn hear(&mut self, interleaved: &[f32], mixed: &[f32]) {
        let Some(channels) = interleaved.len().checked_div(mixed.len()) else { return };
        if self.first.is_empty() {
            (self.first, self.first_mixed) = (interleaved[..channels].to_vec(), mixed[0]);
        }
        let largest = |a: f32, (x, first): (&f32, &f32)| a.max((x - first).abs());
        self.apart = interleaved
            .chunks_exact(channels)
            .fold(self.apart, |a, frame| frame.iter().zip(&self.first).fold(a, largest));
        self.apart_mixed = mixed.iter().fold(self.apart_mixed, |a, x| largest(a, (x, &self.first_mixed)));
    }

    fn silence(&self) -> Option<Silence> {
        /// 60 dB.
        const FAINT: f32 = 1e-3;
        if self.apart == 0.0 {
            Some(Silence::Constant)
        } else {
            (self.apart_mixed <= FAINT * self.apart).then_some(Silence::Cancelled)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_a_constant_in_every_channel() {
        let silence = |frames: &[&[f32]]| {
            let mut loudness = Loudness::default();
            for frame in frames {
                loudness.hear(frame, &[frame.iter().sum::<f32>() / frame.len() as f32]);
            }
            loudness.silence()
        };
        let constants: [&[&[f32]]; 5] =
            [&[], &[&[0.0]], &[&[0.0], &[-0.0]], &[&[0.25], &[0.25]], &[&[0.5, -0.1], &[0.5, -0.1]]];
        for constant in constants {
            assert_eq!(silence(constant), Some(Silence::Constant), "{constant:?}");
        }
        assert_eq!(silence(&[&[0.5, -0.5], &[0.25, -0.25]]), Some(Silence::Cancelled));
        // a step of 16 bits is left of it
        assert_eq!(silence(&[&[0.5, -0.5], &[0.25, -0.24997]]), Some(Silence::Cancelled));
        let sounds: [&[&[f32]]; 3] = [&[&[0.0], &[1e-30]], &[&[0.5, -0.5], &[0.5, -0.25]], &[&[0.0, 0.0], &[0.0, 0.1]]];
        for heard in sounds {
            assert_eq!(silence(heard), None, "{heard:?}");
        }
    }
}

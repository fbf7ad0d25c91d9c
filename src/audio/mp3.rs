//! MP3 files: what their frames are, which of them can be decoded, and what the sound is without the encoder's padding.
//!
//! symphonia decodes the frames. Everything around them is done here, because a decoder that is fed a damaged file goes on
//! with whatever it finds: it leaves frames out without a word, or turns them into noise. A first pass over the headers
//! finds the frames and the recordings. A second pass decodes. A frame that is damaged, or that needs data which are not
//! there, is decoded as silence, so that every frame yields its samples.

mod frames;
mod header;

use std::path::Path;

use symphonia::core::audio::{Audio, GenericAudioBufferRef};
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, well_known};
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Timestamp};

use super::mono::{Mono, is_bridgeable, make_decoder, not_audio};
use super::section::Section;
use crate::error::{Error, Result};
use frames::{Frames, Mark, Piece, Window};
use header::{Count, Header, SideInfo, crc_is_right};

/// An MP3 may lack so many samples of what its header says: encoders disagree about counting the header itself.
const SLACK: u64 = 2 * 1_152;

/// Frames between two marks.
const MARKED: u64 = 512;

/// Frames decoded before the one that is sought. Up to 511 bytes of earlier frames belong to a frame, and some frames
/// have 1 byte of data only.
const RUN_UP: u64 = 600;

/// Recordings that a file may join.
const MOST_RECORDINGS: usize = 1000;

/// No sound is so many times as loud as full scale: a frame that is has been damaged.
const TOO_LOUD: f32 = 4.0;

/// Checksums are believed after so many of them were right. Some encoders write wrong ones.
const BELIEVED: u32 = 8;

/// Decodes an MP3 file into `mono`.
pub(super) fn decode(path: &Path, file: Section, mono: &mut Mono) -> Result<()> {
    let length = file.length();
    let mut window = Window::new(path, file);
    let Some((start, like)) = window.first()? else {
        if window.is_free_format()? {
            return Err(Error::audio(path, "an mp3 of free format, which is not supported: convert it to wav or flac"));
        }
        return Err(not_audio(path));
    };
    if like.layer != 3 {
        let layer = like.layer;
        let message =
            format!("MPEG audio of layer {layer} (mp{layer}), which is not supported: convert it to wav or flac");
        return Err(Error::audio(path, message));
    }
    mono.check(like.rate, like.channels)?;
    let mut frames = Frames::new(window, start, like);
    let plan = Plan::of(path, &mut frames, like.samples())?;
    if start > like.length as u64 {
        mono.note(format!("its first {start} of {length} bytes are no sound: left out"));
    }
    plan.say(mono);
    let (mark, frame) = plan.mark_before(mono.from);
    frames.go(mark);
    mono.seek(plan.position(frame));
    Player::new(path, mono, &plan, frame)?.play(&mut frames)
}

/// One of the recordings that a file joins: usually its only one.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Recording {
    /// Frames, lost ones as well.
    frames: u64,
    /// The first sample that is sound.
    start: u64,
    /// The sample after the last one that is sound.
    end: u64,
}

impl Recording {
    fn samples(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// What a file holds.
struct Plan {
    /// Samples per frame.
    samples: u64,
    recordings: Vec<Recording>,
    /// Every [`MARKED`]th frame, as far as frames are there.
    marks: Vec<(Mark, u64)>,
    /// Frames, lost ones as well.
    frames: u64,
    /// Frames that a header counts, where there are more.
    too_few: Option<u64>,
    /// Bytes at the end that are no frames.
    rest: u64,
}

impl Plan {
    /// Walks over all frames.
    fn of(path: &Path, frames: &mut Frames, samples: u64) -> Result<Plan> {
        let marks = vec![(frames.mark(), 0)];
        let mut plan = Plan { samples, recordings: Vec::new(), marks, frames: 0, too_few: None, rest: 0 };
        let mut open = Open::default();
        loop {
            let mark = frames.mark();
            match frames.next()? {
                Some(Piece::Sound(header, bytes)) => {
                    if plan.marks.last().is_none_or(|(_, frame)| plan.frames >= frame + MARKED) {
                        plan.marks.push((mark, plan.frames));
                    }
                    open.look(&header, &bytes);
                    plan.frames += 1;
                }
                Some(Piece::Lost(count)) => {
                    open.frames = open.frames.saturating_add(count);
                    plan.frames = plan.frames.saturating_add(count);
                }
                Some(Piece::Count(count)) => {
                    plan.close(path, &std::mem::take(&mut open))?;
                    open.count = Some(count);
                }
                Some(Piece::Rest(bytes)) => plan.rest = bytes,
                None => break,
            }
        }
        plan.close(path, &open)?;
        Ok(plan)
    }

    /// Adds a recording whose frames have all been seen.
    fn close(&mut self, path: &Path, open: &Open) -> Result<()> {
        let Open { count, frames, fresh } = *open;
        let Count { frames: said, delay, padding } = count.unwrap_or_default();
        let there = frames * self.samples;
        let said = said.map(|frames| frames * self.samples);
        if let Some(said) = said
            && said.saturating_sub(padding) > there + SLACK
        {
            let (said, could) = (said.saturating_sub(delay + padding), there.saturating_sub(delay));
            return Err(Error::audio(path, format!("truncated: header says {said} samples, {could} could be decoded")));
        }
        let whole = Recording { frames, start: delay, end: there };
        match said {
            _ if frames == 0 => {}
            None => self.recordings.push(Recording { end: there.saturating_sub(padding), ..whole }),
            // a frame more than the header counts is taken for padding
            Some(said) if there <= said + self.samples => {
                self.recordings.push(Recording { end: there.min(said.saturating_sub(padding)), ..whole });
            }
            // a recording of its own, without a header, follows
            Some(said) if fresh => {
                let counted = said / self.samples;
                self.recordings.push(Recording { frames: counted, start: delay, end: said.saturating_sub(padding) });
                self.recordings.push(Recording { frames: frames - counted, start: 0, end: there - said });
            }
            Some(said) => {
                self.too_few = Some(said / self.samples);
                self.recordings.push(whole);
            }
        }
        if self.recordings.len() > MOST_RECORDINGS {
            return Err(Error::audio(path, format!("joins more than {MOST_RECORDINGS} recordings: split the file")));
        }
        Ok(())
    }

    /// Notes what is unusual.
    fn say(&self, mono: &mut Mono) {
        if self.recordings.len() > 1 {
            mono.note(format!("joins {} mp3 recordings: decoded one after the other", self.recordings.len()));
        }
        if let Some(said) = self.too_few {
            mono.note(format!("its header counts {said} frames, but there are {}: all are decoded", self.frames));
        }
        // a byte or two of padding are not worth a word
        if self.rest > 4 {
            mono.note(format!("its last {} bytes are no whole frame: left out", self.rest));
        }
    }

    /// The sample of the result at which frame number `frame` starts.
    fn position(&self, frame: u64) -> u64 {
        let (mut left, mut position) = (frame, 0);
        for recording in &self.recordings {
            if left < recording.frames {
                let within = (left * self.samples).min(recording.end);
                return position + within.saturating_sub(recording.start);
            }
            left -= recording.frames;
            position += recording.samples();
        }
        position
    }

    /// The last mark that is far enough before `sample` of the result, and its frame.
    fn mark_before(&self, sample: u64) -> (Mark, u64) {
        let early = |&&(_, frame): &&(Mark, u64)| self.position(frame + RUN_UP) <= sample;
        *self.marks.iter().rev().find(early).unwrap_or(&self.marks[0])
    }
}

/// A recording of which not all frames have been seen.
#[derive(Clone, Copy, Default)]
struct Open {
    count: Option<Count>,
    frames: u64,
    /// Whether the first frame that `count` does not count is independent of those before it, as an encoder's first is.
    fresh: bool,
}

impl Open {
    /// Looks at the next frame.
    fn look(&mut self, header: &Header, bytes: &[u8]) {
        if self.count.and_then(|count| count.frames) == Some(self.frames) {
            self.fresh = SideInfo::of(bytes, header).is_some_and(|side| side.main_data_begin == 0);
        }
        self.frames += 1;
    }
}

/// A frame before it is decoded, with the place of its data in the stream of all frames' data.
struct Frame {
    header: Header,
    bytes: Vec<u8>,
    /// What is said of it; `None` if that is impossible.
    side: Option<Data>,
    /// Where its own bytes of data begin and end.
    own: std::ops::Range<u64>,
}

/// Where a frame's data begin and end in the stream of all frames' data.
#[derive(Clone, Copy)]
struct Data {
    begin: u64,
    end: u64,
}

/// The second pass.
struct Player<'a, 'b> {
    path: &'a Path,
    mono: &'a mut Mono<'b>,
    decoder: Box<dyn AudioDecoder>,
    plan: &'a Plan,
    /// The recording that is decoded, and the next of its frames.
    recording: usize,
    number: u64,
    /// Bytes of data seen, counted from far above 0: data may begin before the first frame.
    seen: u64,
    /// Data before this one are not there.
    from: u64,
    /// What the last frame's data were, unless it was damaged.
    before: Option<Data>,
    /// Checksums that were right.
    right: u32,
    damaged: u64,
    silent: u64,
    cuts: u64,
}

impl<'a, 'b> Player<'a, 'b> {
    /// Starts at frame number `frame` of the file.
    fn new(path: &'a Path, mono: &'a mut Mono<'b>, plan: &'a Plan, frame: u64) -> Result<Self> {
        let mut parameters = AudioCodecParameters::new();
        parameters.for_codec(well_known::CODEC_ID_MP3);
        let decoder = make_decoder(path, &parameters)?;
        let (mut recording, mut number) = (0, frame);
        while let Some(passed) = plan.recordings.get(recording)
            && number >= passed.frames
        {
            number -= passed.frames;
            recording += 1;
        }
        let seen = 1 << 32;
        let (before, right, damaged, silent, cuts) = (None, 0, 0, 0, 0);
        Ok(Player {
            path,
            mono,
            decoder,
            plan,
            recording,
            number,
            seen,
            from: seen,
            before,
            right,
            damaged,
            silent,
            cuts,
        })
    }

    fn play(mut self, frames: &mut Frames) -> Result<()> {
        let mut waiting: Option<Frame> = None;
        while !self.mono.is_done() {
            let piece = frames.next()?;
            let next = match &piece {
                Some(Piece::Sound(header, bytes)) => Some(self.place(*header, bytes)),
                _ => None,
            };
            if let Some(frame) = waiting.take() {
                self.frame(frame, next.as_ref())?;
            }
            waiting = next;
            match piece {
                Some(Piece::Lost(count)) => self.lose(count)?,
                Some(Piece::Count(_)) => self.from = self.seen,
                Some(Piece::Sound(..) | Piece::Rest(_)) => {}
                None => break,
            }
        }
        self.say()
    }

    /// Refuses a file with too many damaged frames, and notes the others.
    fn say(self) -> Result<()> {
        let (damaged, frames, silent) = (self.damaged, self.plan.frames, self.silent);
        let are = |count: u64| if count == 1 { "is" } else { "are" };
        if !is_bridgeable(damaged, frames) {
            let message = format!("damaged: {damaged} of its {frames} frames cannot be decoded");
            return Err(Error::audio(self.path, message));
        }
        if damaged > 0 {
            let note =
                format!("{damaged} of {frames} frames {} damaged: {silent} {} silent", are(damaged), are(silent));
            self.mono.note(note);
        } else if self.cuts > 0 {
            let (cuts, s) = (self.cuts, if self.cuts == 1 { "" } else { "s" });
            self.mono.note(format!(
                "cut at {cuts} place{s}, where data are missing: {silent} of {frames} frames {} silent",
                are(silent)
            ));
        }
        Ok(())
    }

    /// The samples of the next frame that are sound.
    fn next(&mut self) -> std::ops::Range<u64> {
        let samples = self.plan.samples;
        let Some(recording) = self.plan.recordings.get(self.recording) else { return 0..0 };
        let first = self.number * samples;
        let within = |sample: u64| sample.clamp(first, first + samples) - first;
        let range = within(recording.start)..within(recording.end).max(within(recording.start));
        self.number += 1;
        if self.number == recording.frames {
            (self.recording, self.number) = (self.recording + 1, 0);
        }
        range
    }

    /// Silence in the place of frames that are not there.
    fn lose(&mut self, count: u64) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        for _ in 0..count {
            if self.mono.is_done() {
                break;
            }
            let sound = self.next();
            self.mono.silence(sound.end - sound.start)?;
        }
        self.damaged += count;
        self.silent += count;
        self.from = self.seen;
        self.before = None;
        self.decoder.reset();
        Ok(())
    }

    /// Finds the place of the next frame's data.
    fn place(&mut self, header: Header, bytes: &[u8]) -> Frame {
        let length = bytes.len().saturating_sub(header.side_info().end) as u64;
        let own = self.seen..self.seen + length;
        self.seen = own.end;
        let side = SideInfo::of(bytes, &header).and_then(|side| {
            let begin = own.start - side.main_data_begin as u64;
            let data = Data { begin, end: begin + side.length as u64 };
            (data.end <= own.end).then_some(data)
        });
        let is_right = match crc_is_right(bytes, &header) {
            Some(true) => {
                self.right = self.right.saturating_add(1);
                true
            }
            Some(false) => self.right < BELIEVED,
            None => true,
        };
        Frame { header, bytes: bytes.to_vec(), side: side.filter(|_| is_right), own }
    }

    /// Decodes a frame; `next` follows it.
    fn frame(&mut self, mut frame: Frame, next: Option<&Frame>) -> Result<()> {
        let next = next.and_then(|next| next.side);
        let before = self.before.take();
        let good = frame.side.filter(|data| {
            if data.begin == data.end {
                // silence, unless it was zeros that took the place of the data that the next frame needs
                let blank = frame.bytes[frame.header.side_info().start..].iter().all(|&byte| byte == 0);
                return !(blank && next.is_some_and(|next| next.begin < frame.own.end));
            }
            let overlaps = before.is_some_and(|before| data.begin < before.end);
            let fits_next = next.is_some_and(|next| next.begin == data.end);
            let overlaps_next = next.is_some_and(|next| next.begin < data.end);
            let fits = before.is_none_or(|before| before.end == data.begin);
            // of two frames that claim the same data the one is damaged that does not fit its other neighbour
            let is_damaged = (overlaps && !fits_next) || (overlaps_next && !fits);
            if overlaps && !is_damaged {
                // both fit: the stream was cut between them
                self.cuts += 1;
                self.from = frame.own.start;
            }
            !is_damaged
        });
        let sound = self.next();
        let is_empty = good.is_some_and(|data| data.begin == data.end);
        let is_whole = good.is_some_and(|data| data.begin >= self.from);
        if is_empty || !is_whole {
            frame.header.mute(&mut frame.bytes);
            self.silent += u64::from(!is_empty);
        }
        let is_decoded = self.push(&frame, sound)?;
        if good.is_none() || !is_decoded {
            self.damaged += 1;
            self.from = frame.own.end;
            self.silent += u64::from(is_whole);
        } else {
            self.before = if is_empty { before } else { good };
        }
        Ok(())
    }

    /// Passes on the samples `sound` of a frame; silence, and `false`, if it cannot be decoded.
    fn push(&mut self, frame: &Frame, sound: std::ops::Range<u64>) -> Result<bool> {
        let (length, bytes) = (sound.end - sound.start, frame.bytes.clone());
        let mut packet = Packet::new(0, Timestamp::new(0), Duration::from(length), bytes);
        packet.trim_start = Duration::from(sound.start);
        packet.trim_end = Duration::from(self.plan.samples - sound.end);
        if let Ok(GenericAudioBufferRef::F32(buffer)) = self.decoder.decode(&packet) {
            let is_sound = |sample: &f32| sample.abs() <= TOO_LOUD;
            if buffer.iter_planes().all(|plane| plane.iter().all(is_sound)) {
                if buffer.frames() > 0 {
                    self.mono.push(&GenericAudioBufferRef::F32(buffer))?;
                }
                return Ok(true);
            }
        }
        self.decoder.reset();
        self.mono.silence(length)?;
        Ok(false)
    }
}

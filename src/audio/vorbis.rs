//! Vorbis packets: headers are checked here, sound is decoded by lewton.
//!
//! lewton decodes what libvorbis decodes, for all channel counts and with or without coupling. It trusts sizes in the
//! setup header, and some legal but unused features make it panic. [`Setup`] therefore reads the whole setup header first
//! and rejects what lewton must not see.

use lewton::audio::{PreviousWindowRight, read_audio_packet_generic};
use lewton::header::{IdentHeader, SetupHeader, read_header_ident, read_header_setup};
use symphonia::core::io::{BitReaderRtl, ReadBitsRtl};

/// The numbers that all codebooks of a stream may hold together. The encoders' codebooks hold some 100,000.
const CODEBOOK_NUMBERS: u64 = 1 << 22;

/// A decoder of one Vorbis stream.
pub(super) struct Vorbis {
    ident: IdentHeader,
    setup: SetupHeader,
    /// Whether the mode's blocks are long, for each mode.
    modes: Vec<bool>,
    window: PreviousWindowRight,
    /// `[channel][sample]`: what has been decoded, from the last packet's first sample on.
    decoded: Vec<Vec<f32>>,
    /// The last packet's samples; what follows belongs to the next packet.
    used: usize,
}

impl Vorbis {
    /// From the first and the third header packet.
    ///
    /// # Errors
    /// What is wrong with a header, or which feature is not supported.
    pub(super) fn new(ident: &[u8], setup: &[u8]) -> Result<Vorbis, String> {
        let ident = read_header_ident(ident).map_err(|fault| format!("its first Vorbis header is damaged: {fault}"))?;
        let checked = Setup::read(setup, ident.audio_channels)?;
        let longest = u32::from(ident.audio_channels) << ident.blocksize_1;
        if checked.interleaves && longest > u32::from(u16::MAX) {
            let channels = ident.audio_channels;
            return Err(format!(
                "Vorbis with {channels} channels in blocks of {} is not supported",
                1 << ident.blocksize_1
            ));
        }
        let blocks = (ident.blocksize_0, ident.blocksize_1);
        let setup = read_header_setup(setup, ident.audio_channels, blocks).map_err(|_| broken())?;
        let (modes, window) = (checked.modes, PreviousWindowRight::new());
        Ok(Vorbis { ident, setup, modes, window, decoded: Vec::new(), used: 0 })
    }

    /// Sample rate, Hz.
    pub(super) fn rate(&self) -> u32 {
        self.ident.audio_sample_rate
    }

    pub(super) fn channels(&self) -> usize {
        self.ident.audio_channels.into()
    }

    /// Samples of a long block.
    pub(super) fn longest_block(&self) -> u64 {
        1 << self.ident.blocksize_1
    }

    /// The block of `packet`, or `None` if it is no sound.
    pub(super) fn block(&self, packet: &[u8]) -> Option<Block> {
        let mut bits = BitReaderRtl::new(packet);
        let is_header = bits.read_bool().ok()?;
        let mode = bits.read_bits_leq32(width(self.modes.len() as u32 - 1)).ok()?;
        if is_header {
            return None;
        }
        let (short, long) = (1 << self.ident.blocksize_0, 1 << self.ident.blocksize_1);
        if !*self.modes.get(mode as usize)? {
            return Some(Block { length: short, ahead: 0 });
        }
        bits.read_bool().ok()?;
        let is_before_long = bits.read_bool().ok()?;
        Some(Block { length: long, ahead: if is_before_long { 0 } else { (long - short) / 4 } })
    }

    /// Forgets the packet before: the next packet starts anew.
    pub(super) fn restart(&mut self) {
        self.window = PreviousWindowRight::new();
        self.decoded.iter_mut().for_each(Vec::clear);
        self.used = 0;
    }

    /// Decodes a packet whose block is `block`, which gives `samples` samples: the first ones of [`Vorbis::decoded`].
    /// Returns how many of these, at their start, could not be decoded and are silence.
    pub(super) fn decode(&mut self, packet: &[u8], block: Block, samples: u64) -> u64 {
        let used = self.used;
        self.decoded.iter_mut().for_each(|channel| drop(channel.drain(..used)));
        // The first packet gives nothing, as it is to be added to the one before. But where its window has a flat part,
        // which belongs to the next packet's samples, its own second half serves as the one before.
        if self.window.is_empty() && block.ahead > 0 {
            self.read(packet);
        }
        match self.read(packet) {
            Some(decoded) if self.decoded.len() == decoded.len() => {
                self.decoded.iter_mut().zip(decoded).for_each(|(channel, decoded)| channel.extend(decoded));
            }
            Some(decoded) => self.decoded = decoded,
            None => self.restart(),
        }
        self.decoded.resize(self.channels(), Vec::new());
        let wanted = (samples + block.ahead) as usize;
        let there = self.decoded[0].len();
        for channel in &mut self.decoded {
            channel.splice(..there.saturating_sub(wanted), std::iter::repeat_n(0.0, wanted.saturating_sub(there)));
        }
        self.used = samples as usize;
        wanted.saturating_sub(there).min(self.used) as u64
    }

    fn read(&mut self, packet: &[u8]) -> Option<Vec<Vec<f32>>> {
        read_audio_packet_generic(&self.ident, &self.setup, packet, &mut self.window).ok()
    }

    /// `[channel][sample]`
    pub(super) fn decoded(&self) -> &[Vec<f32>] {
        &self.decoded
    }
}

/// A packet's block. With the block before it, it gives a quarter of both lengths: the samples from one's middle to the
/// other's.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// Samples.
    pub(super) length: u64,
    /// Samples behind its middle that lewton gives with this packet and not with the next one.
    ahead: u64,
}

/// What was read of a setup header, with every size checked.
struct Setup {
    /// True if some residue interleaves the channels (type 2).
    interleaves: bool,
    modes: Vec<bool>,
}

fn broken() -> String {
    "its Vorbis setup header is damaged".into()
}

impl Setup {
    fn read(packet: &[u8], channels: u8) -> Result<Setup, String> {
        let mut bits = Bits(BitReaderRtl::new(packet));
        if bits.read(8)? != 5 || bits.skip(48).is_err() {
            return Err(broken());
        }
        let codebooks = bits.read(8)? + 1;
        let mut numbers = 0;
        for _ in 0..codebooks {
            numbers += bits.codebook(numbers)?;
        }
        bits.skip_times(16)?;
        for _ in 0..bits.read(6)? + 1 {
            bits.floor()?;
        }
        let mut interleaves = false;
        for _ in 0..bits.read(6)? + 1 {
            interleaves |= bits.residue()? == 2;
        }
        for _ in 0..bits.read(6)? + 1 {
            bits.mapping(channels)?;
        }
        let mut modes = Vec::new();
        for _ in 0..bits.read(6)? + 1 {
            modes.push(bits.read(1)? == 1);
            bits.skip(16 + 16 + 8)?;
        }
        Ok(Setup { interleaves, modes })
    }
}

/// Bits needed to write `number`.
fn width(number: u32) -> u32 {
    u32::BITS - number.leading_zeros()
}

/// The bits of a setup header, read from the lowest bit of each byte on.
struct Bits<'a>(BitReaderRtl<'a>);

impl Bits<'_> {
    fn read(&mut self, width: u32) -> Result<u32, String> {
        self.0.read_bits_leq32(width).map_err(|_| broken())
    }

    fn skip(&mut self, mut bits: u64) -> Result<(), String> {
        while bits > 0 {
            let width = bits.min(32) as u32;
            self.read(width)?;
            bits -= u64::from(width);
        }
        Ok(())
    }

    /// Skips a list of `width` bits per item, whose length stands before it.
    fn skip_times(&mut self, width: u64) -> Result<(), String> {
        let count = u64::from(self.read(6)?) + 1;
        self.skip(count * width)
    }

    /// Reads a codebook; returns how many numbers it holds. All codebooks before it hold `before`.
    fn codebook(&mut self, before: u64) -> Result<u64, String> {
        if self.read(24)? != 0x56_4342 {
            return Err(broken());
        }
        let dimensions = self.read(16)?;
        let entries = self.read(24)?;
        let numbers = u64::from(dimensions) * u64::from(entries);
        if dimensions == 0 || before + numbers > CODEBOOK_NUMBERS {
            return Err(broken());
        }
        let is_ordered = self.read(1)? == 1;
        let used = if is_ordered { self.ordered_lengths(entries)? } else { self.lengths(entries)? };
        if used == 0 {
            return Err("a Vorbis codebook without entries is not supported".into());
        }
        let values = match self.read(4)? {
            0 => return Ok(numbers),
            1 => lookup_values(entries, dimensions),
            2 => numbers,
            _ => return Err(broken()),
        };
        self.skip(64)?;
        let width = self.read(4)? + 1;
        self.skip(1 + values * u64::from(width))?;
        Ok(numbers)
    }

    /// Reads the codewords' lengths; returns how many entries have one.
    fn lengths(&mut self, entries: u32) -> Result<u32, String> {
        let is_sparse = self.read(1)? == 1;
        let mut used = 0;
        for _ in 0..entries {
            if !is_sparse || self.read(1)? == 1 {
                self.skip(5)?;
                used += 1;
            }
        }
        Ok(used)
    }

    /// Reads how many codewords there are of each length; returns how many there are.
    fn ordered_lengths(&mut self, entries: u32) -> Result<u32, String> {
        let mut length = self.read(5)? + 1;
        let mut entry = 0;
        while entry < entries {
            entry += self.read(width(entries - entry))?;
            if length > 32 || entry > entries {
                return Err(broken());
            }
            length += 1;
        }
        Ok(entry)
    }

    fn floor(&mut self) -> Result<(), String> {
        match self.read(16)? {
            1 => {}
            0 => return Err("Vorbis of an encoder before 2002 (floor type 0) is not supported".into()),
            _ => return Err(broken()),
        }
        let mut partitions = Vec::new();
        for _ in 0..self.read(5)? {
            partitions.push(self.read(4)? as usize);
        }
        let mut dimensions = Vec::new();
        for _ in 0..partitions.iter().max().map_or(0, |class| class + 1) {
            dimensions.push(self.read(3)? + 1);
            let subclasses = self.read(2)?;
            self.skip(if subclasses > 0 { 8 } else { 0 })?;
            self.skip(8 << subclasses)?;
        }
        self.skip(2)?;
        let width = u64::from(self.read(4)?);
        let points: u32 = partitions.iter().map(|&class| dimensions[class]).sum();
        self.skip(u64::from(points) * width)
    }

    /// Reads a residue; returns its type.
    fn residue(&mut self) -> Result<u32, String> {
        let kind = self.read(16)?;
        self.skip(3 * 24)?;
        let classes = self.read(6)? + 1;
        self.skip(8)?;
        let mut books = 0;
        for _ in 0..classes {
            let low = self.read(3)?;
            let high = if self.read(1)? == 1 { self.read(5)? } else { 0 };
            if high & 16 != 0 {
                return Err("Vorbis with residues of eight passes is not supported".into());
            }
            books += u64::from((low | high << 3).count_ones());
        }
        self.skip(8 * books)?;
        Ok(kind)
    }

    fn mapping(&mut self, channels: u8) -> Result<(), String> {
        self.skip(16)?;
        let submaps = if self.read(1)? == 1 { self.read(4)? + 1 } else { 1 };
        let couplings = if self.read(1)? == 1 { self.read(8)? + 1 } else { 0 };
        let width = width(u32::from(channels).saturating_sub(1));
        self.skip(u64::from(couplings) * u64::from(2 * width) + 2)?;
        self.skip(if submaps > 1 { 4 * u64::from(channels) } else { 0 })?;
        self.skip(24 * u64::from(submaps))
    }
}

/// The largest number whose power of `dimensions` is at most `entries`.
fn lookup_values(entries: u32, dimensions: u32) -> u64 {
    let fits = |base: u64| base.checked_pow(dimensions).is_some_and(|power| power <= u64::from(entries));
    // at most one more than the root, which floating point may round down
    let near = f64::from(entries).powf(1.0 / f64::from(dimensions)) as u64;
    (near.saturating_sub(1)..=near + 1).rev().find(|&base| fits(base)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookup_values_are_the_integer_root() {
        for (entries, dimensions, expected) in [
            (1025, 10, 2),
            (1024, 10, 2),
            (1023, 10, 1),
            (3126, 5, 5),
            (3125, 5, 5),
            (3124, 5, 4),
            (1, 1, 1),
            (7, 1, 7),
        ] {
            assert_eq!(lookup_values(entries, dimensions), expected, "{entries}, {dimensions}");
        }
    }
}

//! The header and the side information of an MPEG audio frame, and the header frames that count the frames of an MP3.
//!
//! # Source
//! ISO/IEC 11172-3 §2.4.1 and 13818-3 §2.4.1; the Xing, LAME and VBRI headers as LAME, FFmpeg and Fraunhofer write them.

/// Bitrates in kbit/s by index - 1: MPEG-1 layers I, II and III, then MPEG-2 layer I, then MPEG-2 layers II and III.
const BITRATES: [[u32; 14]; 5] = [
    [32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
    [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
    [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    [32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
    [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

/// A decoder's own delay in samples, which encoders leave out of the delay that they count.
const DECODER_DELAY: u64 = 529;

/// Largest number of pairs of values that a granule of 576 holds.
const MOST_PAIRS: u32 = 288;

/// What a frame header says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Header {
    /// MPEG-1, not MPEG-2 or 2.5.
    pub is_first: bool,
    /// 1 to 3.
    pub layer: u8,
    /// Hz; it also tells MPEG-2 from 2.5.
    pub rate: u32,
    pub channels: usize,
    /// Whether a checksum follows the header.
    pub has_crc: bool,
    /// Length of the whole frame in bytes; 0 if the header does not say (free format).
    pub length: usize,
}

impl Header {
    /// Bytes of a header.
    pub(super) const LENGTH: usize = 4;

    /// The header at the start of `bytes`.
    pub(super) fn of(bytes: &[u8]) -> Option<Header> {
        let &[0xff, b1, b2, b3, ..] = bytes else { return None };
        let (version, layer, bitrate, rate) = (b1 >> 3 & 3, 4 - (b1 >> 1 & 3), b2 >> 4, usize::from(b2 >> 2 & 3));
        if b1 >> 5 != 7 || version == 1 || layer == 4 || bitrate == 15 || rate == 3 || b3 & 3 == 2 {
            return None;
        }
        let is_first = version == 3;
        let rate = [44_100, 48_000, 32_000][rate] >> [2, 0, 1, 0][usize::from(version)];
        let table = if is_first { usize::from(layer) - 1 } else { usize::from(layer.min(2)) + 2 };
        let bits = match bitrate {
            0 => 0,
            index => 1000 * BITRATES[table][usize::from(index) - 1],
        };
        let padding = u32::from(b2 >> 1 & 1);
        let length = match layer {
            _ if bits == 0 => 0,
            1 => 4 * (12 * bits / rate + padding),
            3 if !is_first => 72 * bits / rate + padding,
            _ => 144 * bits / rate + padding,
        };
        let channels = if b3 >> 6 == 3 { 1 } else { 2 };
        Some(Header { is_first, layer, rate, channels, has_crc: b1 & 1 == 0, length: length as usize })
    }

    /// True if both can belong to one stream.
    pub(super) fn is_like(&self, other: &Header) -> bool {
        (self.is_first, self.layer, self.rate, self.channels)
            == (other.is_first, other.layer, other.rate, other.channels)
    }

    /// Samples per channel of a layer III frame.
    pub(super) fn samples(&self) -> u64 {
        if self.is_first { 1152 } else { 576 }
    }

    /// Where the side information of a layer III frame lies.
    pub(super) fn side_info(&self) -> std::ops::Range<usize> {
        let start = Self::LENGTH + if self.has_crc { 2 } else { 0 };
        let length = match (self.is_first, self.channels) {
            (true, 1) => 17,
            (true, _) => 32,
            (false, 1) => 9,
            (false, _) => 17,
        };
        start..start + length
    }

    /// Takes the data away from a layer III frame, which makes it silent. Its bytes stay, and so do those of earlier
    /// frames as far back as a frame can refer to them, because the next frames may need them.
    pub(super) fn mute(&self, frame: &mut [u8]) {
        let Some(side) = frame.get_mut(self.side_info()) else { return };
        side.fill(0);
        // main_data_begin, of 9 or 8 bits
        side[0] = 0xff;
        side[1] = if self.is_first { 0x80 } else { 0 };
    }
}

/// What is needed of a frame's side information.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SideInfo {
    /// How many bytes before the frame's own its data begin.
    pub main_data_begin: usize,
    /// Length of its data in bytes. A frame without data is silent.
    pub length: usize,
}

impl SideInfo {
    /// That of a layer III frame; `None` if no frame can be described so.
    pub(super) fn of(frame: &[u8], header: &Header) -> Option<SideInfo> {
        let mut bits = Bits { bytes: frame.get(header.side_info())?, at: 0 };
        let (begin, private) = if header.is_first { (9, [5, 3]) } else { (8, [1, 2]) };
        let main_data_begin = bits.take(begin)? as usize;
        bits.take(private[header.channels - 1])?;
        let granules = if header.is_first { 2 } else { 1 };
        if header.is_first {
            bits.take(4 * header.channels)?;
        }
        let (mut length, mut is_possible) = (0, true);
        for _ in 0..granules * header.channels {
            length += bits.take(12)? as usize;
            let pairs = bits.take(9)?;
            // gain and scale factors
            bits.take(if header.is_first { 12 } else { 17 })?;
            let switches_window = bits.take(1)? == 1;
            let block_type = bits.take(2)?;
            bits.take(if header.is_first { 23 } else { 22 })?;
            is_possible &= pairs <= MOST_PAIRS && !(switches_window && block_type == 0);
        }
        // some encoders describe silence in impossible ways
        (is_possible || length == 0).then_some(SideInfo { main_data_begin, length: length.div_ceil(8) })
    }
}

/// Reads big-endian numbers of up to 32 bits.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }
}

/// Whether a frame's checksum is right; `None` without one.
///
/// CRC-16 with the polynomial 0x8005, over the last two bytes of the header and the side information.
pub(super) fn crc_is_right(frame: &[u8], header: &Header) -> Option<bool> {
    if !header.has_crc {
        return None;
    }
    let said = u16::from_be_bytes([*frame.get(4)?, *frame.get(5)?]);
    let covered = frame.get(2..4)?.iter().chain(frame.get(header.side_info())?);
    let crc = covered.fold(0xffff_u16, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| if crc >> 15 == 1 { crc << 1 ^ 0x8005 } else { crc << 1 })
    });
    Some(crc == said)
}

/// A header frame: it has no sound, and tells how much follows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Count {
    /// Frames that follow.
    pub frames: Option<u64>,
    /// Samples that encoder and decoder put in front of the sound.
    pub delay: u64,
    /// Samples that the encoder put behind the sound.
    pub padding: u64,
}

impl Count {
    /// The Xing, Info or VBRI header in a frame.
    pub(super) fn of(frame: &[u8], header: &Header) -> Option<Count> {
        let word = |at: usize| Some(u32::from_be_bytes(frame.get(at..at + 4)?.try_into().ok()?));
        let silent = |end: usize| frame.get(header.side_info().start..end).is_some_and(|b| b.iter().all(|&b| b == 0));
        // both count from the header, whether or not a checksum follows it
        let xing = Header::LENGTH + header.side_info().len();
        if silent(xing) && matches!(frame.get(xing..xing + 4), Some(b"Xing" | b"Info")) {
            return Some(Self::xing(&frame[xing + 4..]).unwrap_or_default());
        }
        let vbri = Header::LENGTH + 32;
        if silent(vbri) && frame.get(vbri..vbri + 6) == Some(b"VBRI\0\x01") {
            return Some(Count { frames: word(vbri + 14).map(u64::from), ..Count::default() });
        }
        None
    }

    /// What follows the name of a Xing or Info header: flags, then what they announce, then the encoder's own.
    fn xing(bytes: &[u8]) -> Option<Count> {
        let flags = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
        let sizes = [4, 4, 100, 4].into_iter().enumerate().map(|(bit, size)| (flags >> bit & 1) as usize * size);
        let encoder = 4 + sizes.sum::<usize>();
        let mut count = Count::default();
        if flags & 1 == 1 {
            // 0 is left by an encoder that could not go back
            count.frames =
                Some(u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?).into()).filter(|&frames| frames > 0);
        }
        if let Some(&[high, middle, low]) = bytes.get(encoder + 21..encoder + 24)
            && matches!(&bytes[encoder..encoder + 4], b"LAME" | b"Lavf" | b"Lavc")
        {
            let (high, middle, low) = (u64::from(high), u64::from(middle), u64::from(low));
            count.delay = DECODER_DELAY + (high << 4 | middle >> 4);
            count.padding = ((middle & 15) << 8 | low).saturating_sub(DECODER_DELAY);
        }
        Some(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_say_what_the_standard_says() {
        let header = |bytes: [u8; 4]| Header::of(&bytes).map(|h| (h.is_first, h.layer, h.rate, h.channels, h.length));
        // MPEG-1 layer III: 128 kbit/s at 44.1 kHz is 417 bytes, or 418 with padding
        assert_eq!(header([0xff, 0xfb, 0x90, 0x64]), Some((true, 3, 44_100, 2, 417)));
        assert_eq!(header([0xff, 0xfb, 0x92, 0xc4]), Some((true, 3, 44_100, 1, 418)));
        // MPEG-2 at 22.05 kHz, 64 kbit/s, and 2.5 at 8 kHz, 8 kbit/s
        assert_eq!(header([0xff, 0xf3, 0x80, 0xc4]), Some((false, 3, 22_050, 1, 208)));
        assert_eq!(header([0xff, 0xe3, 0x18, 0xc4]), Some((false, 3, 8_000, 1, 72)));
        // MPEG-1 layer II at 48 kHz, 192 kbit/s; layer I at 32 kHz, 32 kbit/s
        assert_eq!(header([0xff, 0xfd, 0xa4, 0x00]), Some((true, 2, 48_000, 2, 576)));
        assert_eq!(header([0xff, 0xff, 0x18, 0x00]), Some((true, 1, 32_000, 2, 48)));
        // free format; then reserved versions, layers, bitrates, rates and emphases
        assert_eq!(header([0xff, 0xfb, 0x00, 0x64]), Some((true, 3, 44_100, 2, 0)));
        for bytes in [[0xff, 0xeb, 0x90, 0x64], [0xff, 0xf9, 0x90, 0x64], [0xff, 0xfb, 0xf0, 0x64]] {
            assert_eq!(header(bytes), None);
        }
        assert_eq!(header([0xff, 0xfb, 0x9c, 0x64]), None);
        assert_eq!(header([0xff, 0xfb, 0x90, 0x66]), None);
        assert_eq!(header([0xfe, 0xfb, 0x90, 0x64]), None);
    }

    #[test]
    fn header_frames_count_what_follows() {
        // MPEG-1, stereo, 417 bytes: the side information is 32 bytes, and both kinds of header frame start behind it
        let mut frame = vec![0xff, 0xfb, 0x90, 0x64];
        frame.resize(417, 0);
        let header = Header::of(&frame).unwrap();
        assert_eq!(Count::of(&frame, &header), None);
        let with = |parts: &[&[u8]]| {
            let (mut frame, bytes) = (frame.clone(), parts.concat());
            frame[36..36 + bytes.len()].copy_from_slice(&bytes);
            frame
        };
        // version, delay, quality, bytes, frames
        let vbri = with(&[b"VBRI", &[0, 1, 0x12, 0x34, 0, 75], &[0, 1, 0, 0], &[0, 0, 1, 2]]);
        assert_eq!(Count::of(&vbri, &header), Some(Count { frames: Some(258), delay: 0, padding: 0 }));
        // frames and bytes, then LAME's header: a delay of 576 and a padding of 1,000, of which the decoder takes 529
        let lame = [&b"LAME3.100"[..], &[0; 12], &[0x24, 0x03, 0xe8]].concat();
        let xing = |name: &[u8], flags: u8| with(&[name, &[0, 0, 0, flags], &[0, 0, 0, 9], &[0; 4], &lame]);
        let counted = Count { frames: Some(9), delay: 1_105, padding: 471 };
        assert_eq!(Count::of(&xing(b"Xing", 3), &header), Some(counted));
        assert_eq!(Count::of(&xing(b"Info", 3), &header), Some(counted));
        // without a count: the header of the encoder follows at once
        let bare = with(&[b"Info", &[0; 4], &lame]);
        assert_eq!(Count::of(&bare, &header), Some(Count { frames: None, ..counted }));
        // a frame of sound may hold the word, but not after empty side information
        let mut sound = xing(b"Xing", 3);
        sound[20] = 1;
        assert_eq!(Count::of(&sound, &header), None);
    }
}

//! What numpy puts into a pickle: dtypes and raw bytes.

use super::value::Items;

/// A number's type: kind (`i`, `u` or `f`), size in bytes, byte order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dtype {
    pub kind: u8,
    pub size: usize,
    pub big_endian: bool,
}

impl Dtype {
    /// Of numpy's code: `f4`, `<i2`; `None` for what is no number of a size read here.
    pub fn parse(code: &[u8]) -> Option<Self> {
        let (big_endian, code) = match code {
            [b'>', rest @ ..] => (true, rest),
            [b'<' | b'=' | b'|', rest @ ..] => (false, rest),
            _ => (false, code),
        };
        match code {
            [kind @ (b'i' | b'u'), size @ (b'1' | b'2' | b'4' | b'8')] | [kind @ b'f', size @ (b'4' | b'8')] => {
                Some(Self { kind: *kind, size: usize::from(size - b'0'), big_endian })
            }
            _ => None,
        }
    }

    /// The numbers in `bytes`; a rest shorter than one number is left.
    pub fn decode(self, bytes: &[u8]) -> Items {
        let big = self.big_endian;
        match (self.kind, self.size) {
            (b'f', 4) => Items::Floats(each(bytes, big, f32::from_le_bytes)),
            (b'f', _) => Items::Floats(each(bytes, big, |b| f64::from_le_bytes(b) as f32)),
            (b'i', 1) => Items::Ints(each(bytes, big, |b| i8::from_le_bytes(b).into())),
            (b'i', 2) => Items::Ints(each(bytes, big, |b| i16::from_le_bytes(b).into())),
            (b'i', 4) => Items::Ints(each(bytes, big, i32::from_le_bytes)),
            (b'i', _) => Items::integers(each(bytes, big, i64::from_le_bytes)),
            (_, 1) => Items::Ints(each(bytes, big, |b| u8::from_le_bytes(b).into())),
            (_, 2) => Items::Ints(each(bytes, big, |b| u16::from_le_bytes(b).into())),
            (_, 4) => Items::integers(each(bytes, big, |b| u32::from_le_bytes(b).into())),
            _ => Items::integers(each(bytes, big, |b| i64::try_from(u64::from_le_bytes(b)).unwrap_or(i64::MAX))),
        }
    }
}

/// One `T` of every `N` bytes, which are put in little-endian order first.
fn each<const N: usize, T>(bytes: &[u8], big_endian: bool, number: impl Fn([u8; N]) -> T) -> Vec<T> {
    let little = |mut chunk: [u8; N]| {
        if big_endian {
            chunk.reverse();
        }
        chunk
    };
    bytes.as_chunks().0.iter().map(|chunk| number(little(*chunk))).collect()
}

/// Text of the characters 0 to 255 in UTF-8 to one byte a character, in place; false if it is anything else.
///
/// Such text has one or two bytes a character: C2 or C3, which holds the two upper bits, leads one continuation byte.
/// No branch depends on the data, as an array's bytes are as good as random.
pub(super) fn latin1(text: &mut Vec<u8>) -> bool {
    let (mut written, mut lead, mut wrong) = (0, 0u8, 0u8);
    for i in 0..text.len() {
        let byte = text[i];
        let leads = u8::from(byte & 0xFE == 0xC2);
        let continues = u8::from(byte & 0xC0 == 0x80);
        wrong |= (continues ^ (lead >> 7)) | ((byte >> 7) ^ (continues | leads));
        text[written] = (byte ^ (continues << 7)) | (lead << 6);
        written += usize::from(1 - leads);
        lead = byte * leads;
    }
    text.truncate(written);
    wrong == 0 && lead == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latin1_is_the_inverse_of_utf8_for_every_byte_and_refuses_the_rest() {
        let all: Vec<u8> = (0..=255).collect();
        let mut text: Vec<u8> = all.iter().map(|&b| char::from(b)).collect::<String>().into_bytes();
        assert!(latin1(&mut text));
        assert_eq!(text, all);
        for wrong in [&b"\xC4\x80"[..], b"\xC2", b"\x80", b"\xC3\xC3\x80", b"\xC3a", b"\xE2\x82\xAC", b"\xFF"] {
            assert!(!latin1(&mut wrong.to_vec()), "{wrong:x?}");
        }
    }

    #[test]
    fn dtypes() {
        for good in ["f4", "<f8", ">i2", "|u1", "=i8"] {
            assert!(Dtype::parse(good.as_bytes()).is_some(), "{good}");
        }
        for bad in ["", "f", "f2", "O8", "b1", "c8", "U4", "f44", "i3"] {
            assert!(Dtype::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}

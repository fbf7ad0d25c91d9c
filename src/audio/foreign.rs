//! Names of sound formats that are recognised and not supported.

/// The format that a file begins with, if it is one of sound and not supported: "an MPEG-4 file (AAC or ALAC)".
pub(super) fn name(head: &[u8]) -> Option<&'static str> {
    let from = |at: usize| head.get(at..).unwrap_or_default();
    let begins = |magic: &[u8]| head.starts_with(magic);
    Some(match head {
        _ if from(4).starts_with(b"ftyp") => "an MPEG-4 file (AAC or ALAC)",
        _ if begins(b"\x1a\x45\xdf\xa3") => "a Matroska or WebM file",
        _ if begins(b"caff") => "a Core Audio file",
        _ if begins(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11") => "a Windows Media file",
        _ if begins(b"OggS") && from(28).starts_with(b"OpusHead") => "an Ogg file of Opus",
        _ if begins(b"OggS") && from(28).starts_with(b"Speex   ") => "an Ogg file of Speex",
        _ if begins(b"OggS") && from(28).starts_with(b"\x7fFLAC") => "an Ogg file of FLAC",
        _ if begins(b"OggS") && from(28).starts_with(b"\x80theora") => "an Ogg file with video (Theora)",
        _ if begins(b"MAC ") => "a Monkey's Audio file",
        _ if begins(b"wvpk") => "a WavPack file",
        _ if begins(b"MPCK") || begins(b"MP+") => "a Musepack file",
        _ if begins(b"TTA1") || begins(b"TTA2") => "a True Audio file",
        _ if begins(b"tBaK") => "a TAK file",
        _ if begins(b"OFR ") => "an OptimFROG file",
        _ if begins(b"ajkg") => "a Shorten file",
        _ if begins(b"DSD ") || begins(b"FRM8") => "a DSD file",
        _ if begins(b"MThd") => "a MIDI file (notes, no sound)",
        _ if begins(b"#!AMR") => "an AMR file",
        _ if begins(b".RMF") || begins(b".ra\xfd") => "a RealAudio file",
        _ if begins(b"Creative Voice File") => "a Creative Voice file",
        _ if begins(b"NIST_1A") => "a NIST SPHERE file",
        _ if begins(b"dns.") => "a little-endian AU file (DEC's)",
        _ if begins(b"FORM") && from(8).starts_with(b"8SVX") => "an 8SVX file",
        _ if begins(b"RIFF") && from(8).starts_with(b"AVI ") => "an AVI file",
        _ if begins(b"RIFF") && from(8).starts_with(b"RMID") => "a MIDI file (notes, no sound)",
        _ if begins(b"FLV") => "a Flash video",
        _ if begins(b"Extended Module:") || begins(b"IMPM") => "a tracker module",
        _ if begins(b"\x0b\x77") => "an AC-3 file",
        _ if begins(b"\x7f\xfe\x80\x01") => "a DTS file",
        // MPEG sync, then layer 0 (ADTS) or layer II
        [0xff, second, ..] if second & 0xf6 == 0xf0 => "an AAC file (ADTS)",
        [0xff, second, third, ..] if second & 0xe6 == 0xe4 && second & 0x18 != 8 && is_rated(*third) => {
            "an MPEG audio file of layer II"
        }
        _ => return None,
    })
}

/// Whether the third byte of an MPEG header has a bit rate and a sample rate.
fn is_rated(third: u8) -> bool {
    !matches!(third >> 4, 0 | 15) && third & 0x0c != 0x0c
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_name_the_format() {
        let opus = [b"OggS".as_slice(), &[0; 24], b"OpusHead"].concat();
        for (head, word) in [
            (b"\0\0\0\x20ftypM4A \0\0\0\0".as_slice(), "MPEG-4"),
            (b"\x1a\x45\xdf\xa3\x01", "Matroska"),
            (b"caff\0\x01", "Core Audio"),
            (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9", "Windows Media"),
            (&opus, "Opus"),
            (b"RIFF\0\0\0\0AVI LIST", "AVI"),
            (b"\xff\xf1\x50\x80", "ADTS"),
            (b"\xff\xfd\xa4\x00", "layer II"),
        ] {
            assert!(name(head).is_some_and(|name| name.contains(word)), "{word}: {:?}", name(head));
        }
        // text of UTF-16, a JPEG, a WAV, an MP3, plain Ogg, nothing
        for head in [
            b"\xff\xfeT\0h\0e\0".as_slice(),
            b"\xff\xd8\xff\xe0\0\x10JFIF",
            b"RIFF\0\0\0\0WAVE",
            b"\xff\xfb\x90\x64",
            b"OggS\0\x02",
            b"",
        ] {
            assert_eq!(name(head), None);
        }
    }
}

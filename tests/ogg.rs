//! Ogg Vorbis and FLAC files: every kind of channels, and files that are damaged, cut, joined or do not start at 0.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use genregrad::audio::decode::{Part, decode, stream};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// What a file of these bytes says: samples and notes, or the error.
fn heard(bytes: &[u8], part: Part) -> Result<(Vec<f32>, Vec<String>), String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    std::fs::write(&path, bytes).unwrap();
    let mut samples = Vec::new();
    let notes = stream(&path, part, &mut |block| {
        samples.extend_from_slice(block);
        Ok(())
    });
    notes.map(|heard| (samples, heard.notes)).map_err(|error| error.one_line())
}

/// The samples of a file without faults; a part of it is the same as in the whole.
fn clean(bytes: &[u8]) -> Vec<f32> {
    let (samples, notes) = heard(bytes, Part::default()).unwrap();
    assert!(notes.is_empty(), "{notes:?}");
    same_parts(bytes, &samples);
    samples
}

fn same_parts(bytes: &[u8], samples: &[f32]) {
    let length = samples.len();
    for start in [1, length / 3, length / 2 + 77, length - 900] {
        let part = Part { start: start as u64, length: Some(800) };
        let got = heard(bytes, part).unwrap().0;
        assert!(got == samples[start..start + 800], "800 samples from {start} on");
    }
}

fn refused(bytes: &[u8], words: &str) {
    let line = heard(bytes, Part::default()).unwrap_err();
    assert!(line.contains(words), "{line}: expected {words:?}");
}

#[test]
fn vorbis_of_any_channels_is_libvorbiss() {
    let text = std::fs::read_to_string(golden("vorbis.json")).unwrap();
    let truths: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(truths.len(), 9);
    for (name, truth) in truths {
        let samples = decode(&golden(&name)).unwrap();
        assert_eq!(samples.len() as u64, truth["samples"].as_u64().unwrap(), "{name}");
        let values = truth["values"].as_array().unwrap();
        let got = samples.iter().step_by(truth["step"].as_u64().unwrap() as usize);
        let apart = got.zip(values).map(|(x, y)| (f64::from(*x) - y.as_f64().unwrap()).abs()).fold(0.0, f64::max);
        // oggdec rounds to 16 bits
        assert!(values.len() > 100 && apart < 5e-5, "{name}: off by {apart}");
        let loudest = samples.iter().fold(0f32, |a, x| a.max(x.abs()));
        assert!(loudest > 0.1, "{name}: {loudest}");
    }
}

// ---- pages ----

/// The checksum of an Ogg page, bit by bit.
fn ogg_crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| crc << 1 ^ if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 })
    })
}

/// The pages of `tests/golden/pages.ogg`: 2 of headers, then one per packet.
fn pages() -> Vec<Vec<u8>> {
    let bytes = std::fs::read(golden("pages.ogg")).unwrap();
    let (mut pages, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let count = usize::from(bytes[at + 26]);
        let body: usize = bytes[at + 27..at + 27 + count].iter().map(|&n| usize::from(n)).sum();
        pages.push(bytes[at..at + 27 + count + body].to_vec());
        at += 27 + count + body;
    }
    assert!(pages.len() == 133 && position(&pages[2]) == 0 && position(&pages[4]) > 0);
    pages
}

const HEADERS: usize = 2;

fn position(page: &[u8]) -> i64 {
    i64::from_le_bytes(page[6..14].try_into().unwrap())
}

/// `page` after `change`, with its checksum.
fn changed(page: &[u8], change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut page = page.to_vec();
    change(&mut page);
    page[22..26].fill(0);
    let crc = ogg_crc(&page);
    page[22..26].copy_from_slice(&crc.to_le_bytes());
    page
}

fn at_position(page: &[u8], position: i64) -> Vec<u8> {
    changed(page, |page| page[6..14].copy_from_slice(&position.to_le_bytes()))
}

/// All pages after `change`, which is told each sound page's number.
fn with_sound_pages(change: impl Fn(usize, &[u8]) -> Vec<u8>) -> Vec<u8> {
    let pages = pages();
    let sound = pages[HEADERS..].iter().enumerate().map(|(number, page)| change(number, page));
    pages[..HEADERS].iter().cloned().chain(sound).collect::<Vec<_>>().concat()
}

fn whole() -> Vec<f32> {
    let samples = clean(&pages().concat());
    assert_eq!(samples.len(), 66_150);
    samples
}

#[test]
fn positions_count_from_the_first_one() {
    let whole = whole();
    for by in [3_600 * 22_050, 507, 1] {
        assert!(clean(&with_sound_pages(|_, page| at_position(page, position(page) + by))) == whole, "{by} later");
    }
    // recorded from the middle on: the headers, then later pages
    let pages = pages();
    let later = clean(&[pages[..HEADERS].concat(), pages[60..].concat()].concat());
    assert!(later == whole[position(&pages[60]) as usize..], "{} samples", later.len());
}

#[test]
fn pages_without_positions_twice_or_between_other_bytes_are_decoded() {
    let whole = whole();
    for keep in [2, 7, 1_000] {
        let unplaced =
            with_sound_pages(
                |number, page| {
                    if number % keep == 0 && number < 130 { at_position(page, -1) } else { page.to_vec() }
                },
            );
        assert!(clean(&unplaced) == whole, "every {keep}th page without a position");
    }
    assert!(clean(&with_sound_pages(|number, page| page.repeat(if number == 40 { 2 } else { 1 }))) == whole);
    let other =
        with_sound_pages(|number, page| if number == 40 { [&b"OggS junk"[..], page].concat() } else { page.to_vec() });
    assert!(clean(&other) == whole);
    assert!(clean(&[pages().concat(), b"junk".repeat(100_000)].concat()) == whole);
}

#[test]
fn the_last_position_cuts_the_last_packet() {
    let whole = whole();
    let pages = pages();
    let (last, rest) = pages.split_last().unwrap();
    let shorter = clean(&[rest.concat(), at_position(last, position(last) - 100)].concat());
    assert!(shorter == whole[..66_050], "{} samples", shorter.len());
}

#[test]
fn a_few_lost_packets_become_silence_and_more_are_refused() {
    let whole = whole();
    let pages = pages();
    // a damaged page, a page that is not there, and one that is not there although the others are numbered on
    let damaged = with_sound_pages(|number, page| {
        let mut page = page.to_vec();
        page[28] ^= u8::from(number == 50);
        page
    });
    let without = |gone: std::ops::Range<usize>, renumber: bool| {
        let left = pages[..gone.start].iter().chain(&pages[gone.end..]);
        let number = |(number, page): (usize, &Vec<u8>)| {
            let number = number as u32;
            if renumber {
                changed(page, |page| page[18..22].copy_from_slice(&number.to_le_bytes()))
            } else {
                page.clone()
            }
        };
        left.enumerate().map(number).collect::<Vec<_>>().concat()
    };
    let place = position(&pages[HEADERS + 49]) as usize;
    for (name, bytes) in [("damaged", damaged), ("missing", without(HEADERS + 50..HEADERS + 51, false))] {
        let (samples, notes) = heard(&bytes, Part::default()).unwrap();
        assert_eq!(samples.len(), 66_150, "{name}");
        assert!(
            notes.len() == 1 && notes[0].contains("1 Ogg page is damaged or missing: 0.05 s of silence"),
            "{notes:?}"
        );
        assert!(samples[..place] == whole[..place] && samples[place + 1_024..] == whole[place + 1_024..], "{name}");
        assert!(samples[place..place + 1_024].iter().all(|&x| x == 0.0), "{name}");
        same_parts(&bytes, &samples);
    }
    for renumber in [false, true] {
        refused(&without(40..70, renumber), "damaged or missing: 0.7");
    }
    refused(&without(pages.len() - 1..pages.len(), false), "truncated: the last page of the ogg file is missing");
}

#[test]
fn a_damaged_start_is_named() {
    let bytes = pages().concat();
    for at in [0, 3, 5, 30] {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0xff;
        refused(&bytes, "the first page of the ogg file is damaged or missing");
    }
    let headers = pages()[..HEADERS].concat().len();
    let mut damaged = bytes.clone();
    damaged[headers - 100] ^= 1;
    refused(&damaged, "the header pages of the ogg file are damaged or missing");
    refused(&[&b"other bytes"[..], &bytes].concat(), "other bytes stand before the first page");
    refused(&bytes[..headers], "truncated");
}

#[test]
fn streams_in_a_row_are_decoded_and_other_codecs_named() {
    let whole = whole();
    let bytes = pages().concat();
    let other: Vec<u8> =
        pages().iter().flat_map(|page| changed(page, |page| page[14..18].copy_from_slice(b"next"))).collect();
    let both = [whole.clone(), whole].concat();
    assert!(clean(&[&bytes[..], &other].concat()) == both);
    assert!(clean(&[&bytes[..], &bytes].concat()) == both, "two streams of one serial number");
    let codecs: [(&[u8], &str); 5] = [
        (b"OpusHead", "Opus"),
        (b"Speex   ", "Speex"),
        (b"\x80theora", "Theora video"),
        (b"OVP80", "VP8 video"),
        (b"Nobody's", "an unknown codec"),
    ];
    for (start, name) in codecs {
        // flags: a stream's first and last page
        let head = b"OggS\0\x06\0\0\0\0\0\0\0\0else\0\0\0\0\0\0\0\0\x01";
        let page = changed(&[&head[..], &[start.len() as u8], start].concat(), |_| ());
        let words = format!("an Ogg file with {name} inside is not supported");
        refused(&page, &words);
        refused(&[&bytes[..], &page].concat(), &words);
        // side by side
        assert!(clean(&[&page[..], &bytes].concat()) == both[..66_150]);
    }
}

// ---- FLAC ----

/// `tests/golden/long.flac` in parts: what stands before its frames, and its frames of 4,096 samples.
fn flac() -> (Vec<u8>, Vec<Vec<u8>>) {
    let bytes = std::fs::read(golden("long.flac")).unwrap();
    let mut start = 4;
    loop {
        let head = u32::from_be_bytes(bytes[start..start + 4].try_into().unwrap());
        start += 4 + (head & 0xff_ffff) as usize;
        if head >> 31 == 1 {
            break;
        }
    }
    // a frame's mark, sizes and number
    let mut starts = vec![start];
    for at in start + 9..bytes.len() - 5 {
        if bytes[at..at + 2] == bytes[start..start + 2] && usize::from(bytes[at + 4]) == starts.len() {
            starts.push(at);
        }
    }
    starts.push(bytes.len());
    let frames: Vec<Vec<u8>> = starts.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect();
    assert_eq!(frames.len(), 66_150usize.div_ceil(4_096));
    (bytes[..start].to_vec(), frames)
}

/// `head` with another count of samples.
fn counted(head: &[u8], samples: u32) -> Vec<u8> {
    let mut head = head.to_vec();
    head[21] &= 0xf0;
    head[22..26].copy_from_slice(&samples.to_be_bytes());
    head
}

#[test]
fn bytes_around_flac_frames_and_odd_headers_do_no_harm() {
    let (head, frames) = flac();
    let frames = frames.concat();
    let whole = clean(&[&head[..], &frames].concat());
    assert_eq!(whole.len(), 66_150);
    let mut tag = b"TAG".to_vec();
    tag.resize(128, 0);
    for tail in [vec![0], vec![b'\n'], vec![0xff], tag, vec![0; 9_000], vec![0xff, 0xf8, 0, 1]] {
        assert!(clean(&[&head[..], &frames, &tail].concat()) == whole, "{} bytes after the end", tail.len());
    }
    let mut least = head.clone();
    least[8..10].fill(0);
    assert!(clean(&[&least[..], &frames].concat()) == whole, "least block size 0");
    let unknown = counted(&head, 0);
    assert!(clean(&[&unknown[..], &frames].concat()) == whole, "count not known");
    refused(&[&unknown[..], &frames[..frames.len() - 40]].concat(), "truncated");
    refused(&[&head[..], &frames[..frames.len() - 1]].concat(), "truncated: header says 66150 samples, 65536");
}

#[test]
fn a_flac_that_was_cut_out_of_another_one_starts_at_its_first_frame() {
    let (head, frames) = flac();
    let whole = clean(&[head.clone(), frames.concat()].concat());
    let cut = frames[5..].concat();
    for count in [66_150 - 5 * 4_096, 66_150, 0] {
        let got = clean(&[counted(&head, count), cut.clone()].concat());
        assert!(got == whole[5 * 4_096..], "the header counts {count}: {} samples", got.len());
    }
}

#[test]
fn damaged_flac_frames_become_silence_and_more_are_refused() {
    let (head, frames) = flac();
    let whole = clean(&[head.clone(), frames.concat()].concat());
    let damaged = |which: &[usize], byte: usize| {
        let mut frames = frames.clone();
        which.iter().for_each(|&frame| frames[frame][byte] ^= 1);
        [head.clone(), frames.concat()].concat()
    };
    // in the sound, in the header, and in the first frame
    for (frame, byte) in [(6, 60), (6, 2), (0, 60), (0, 3)] {
        let bytes = damaged(&[frame], byte);
        let (samples, notes) = heard(&bytes, Part::default()).unwrap();
        assert!(notes.len() == 1 && notes[0].starts_with("1 of 17 FLAC frames"), "{notes:?}");
        let (from, to) = (frame * 4_096, (frame + 1) * 4_096);
        assert_eq!(samples.len(), 66_150);
        assert!(samples[..from] == whole[..from] && samples[to..] == whole[to..], "frame {frame}");
        assert!(samples[from..to].iter().all(|&x| x == 0.0), "frame {frame}");
        same_parts(&bytes, &samples);
    }
    refused(&damaged(&[3, 7, 8, 12], 60), "4 of 17 FLAC frames are damaged or missing");
    let gone = [head, frames[..4].concat(), frames[9..].concat()].concat();
    refused(&gone, "5 of 17 FLAC frames are damaged or missing");
}

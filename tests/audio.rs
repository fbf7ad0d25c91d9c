//! The audio layer from outside: golden values of librosa, files of every kind, and files that are broken.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::f64::consts::TAU;
use std::path::{Path, PathBuf};

use genregrad::audio::cqt;
use genregrad::audio::decode::{Part, Silence, decode, stream};
use genregrad::audio::features::Features;
use genregrad::audio::mel::{FLOOR, LogMel, Settings};
use genregrad::audio::{FrontEnd, Kind, SAMPLE_RATE, SEGMENT_SAMPLES, Transform};
use genregrad::rng::pcg;
use hound::{SampleFormat, WavSpec};
use proptest::prelude::*;
use tempfile::TempDir;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn noise(i: u32) -> f32 {
    (f64::from(pcg(i)) / 2f64.powi(31) - 1.0) as f32
}

// ---- log-mel ----

/// The signal of `tests/golden/librosa_mel.py`.
fn golden_signal() -> Vec<f32> {
    let sr = f64::from(SAMPLE_RATE);
    let duration = SEGMENT_SAMPLES as f64 / sr;
    (0..SEGMENT_SAMPLES as u32)
        .map(|n| {
            let t = f64::from(n) / sr;
            let chirp = 0.4 * (TAU * (50.0 * t + 0.5 * (10_000.0 - 50.0) / duration * t * t)).sin();
            let tone = 0.3 * (-5.0 * t).exp() * (TAU * 440.0 * t).sin();
            let noise = 0.02 * (f64::from(pcg(n)) / 2f64.powi(31) - 1.0);
            (chirp + tone + noise) as f32
        })
        .collect()
}

/// Its `low_signal`: loud below 200 Hz, all but empty above.
fn low_signal() -> Vec<f32> {
    let seconds = (0..SEGMENT_SAMPLES as u32).map(|n| f64::from(n) / f64::from(SAMPLE_RATE));
    seconds.map(|t| (0.6 * (TAU * 110.0 * t).sin() + 0.3 * (TAU * 163.0 * t).sin()) as f32).collect()
}

#[test]
fn log_mel_equals_librosas() {
    let odd = Settings { n_fft: 1200, hop_length: 500, n_mels: 40, fmin: 60.0, fmax: 7_600.0, ..Settings::default() };
    for (name, settings, signal) in [
        ("librosa_mel.npy", Settings::default(), golden_signal()),
        ("librosa_mel_odd.npy", odd, golden_signal()),
        ("librosa_mel_low.npy", Settings::default(), low_signal()),
    ] {
        let npy = npyz::NpyFile::new(std::fs::File::open(golden(name)).unwrap()).unwrap();
        let shape: Vec<usize> = npy.shape().iter().map(|&n| n as usize).collect();
        let expected = npy.into_vec::<f32>().unwrap();
        let front_end = FrontEnd::Mel(settings);
        assert_eq!(shape, [front_end.bins(), front_end.frames(signal.len())], "{name}");
        let mut got = vec![f32::NAN; expected.len()];
        front_end.plan().unwrap().transform(&signal, &mut got);
        let largest = expected.iter().fold(0f32, |a, x| a.max(x.abs()));
        let error = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max) / largest;
        println!("{name}: {error:.1e} of the largest value");
        assert!(error < 1e-5, "{name}: differs by {error:e} of the largest value");
    }
}

#[test]
fn many_threads_share_one_plan() {
    let plan = FrontEnd::default().plan().unwrap();
    let signals: Vec<Vec<f32>> = (0..8).map(|k| (0..5_000).map(|i| noise(i + 5_000 * k)).collect()).collect();
    let run = |signal: &Vec<f32>| {
        let mut out = vec![0.0; 80 * 20];
        plan.transform(signal, &mut out);
        out
    };
    let alone: Vec<Vec<f32>> = signals.iter().map(run).collect();
    std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = signals.iter().map(|signal| scope.spawn(move || run(signal))).collect();
        for (thread, expected) in threads.into_iter().zip(&alone) {
            assert_eq!(&thread.join().unwrap(), expected);
        }
    });
}

/// `cargo test --release --test audio -- --ignored --nocapture speed`
#[test]
#[ignore = "a measurement"]
fn log_mel_speed() {
    let plan = LogMel::new(&Settings::default()).unwrap();
    let (signal, mut out) = (golden_signal(), vec![0.0; 80 * 80]);
    let rounds: Vec<f64> = (0..7)
        .map(|_| {
            let start = std::time::Instant::now();
            (0..1_000).for_each(|_| plan.transform(&signal, &mut out));
            1_000.0 / start.elapsed().as_secs_f64()
        })
        .collect();
    println!("log-mel segments per second on one thread: {rounds:.0?}");
}

// ---- files that are as they should be ----

fn wav(folder: &TempDir, spec: WavSpec, samples: &[f32]) -> PathBuf {
    let path = folder.path().join("a.wav");
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    let scale = 2f32.powi(i32::from(spec.bits_per_sample) - 1);
    for x in samples {
        match spec.sample_format {
            SampleFormat::Float => writer.write_sample(*x).unwrap(),
            SampleFormat::Int => writer.write_sample((x * scale).round() as i32).unwrap(),
        }
    }
    writer.finalize().unwrap();
    path
}

fn spec(channels: u16, sample_rate: u32, bits_per_sample: u16, sample_format: SampleFormat) -> WavSpec {
    WavSpec { channels, sample_rate, bits_per_sample, sample_format }
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn wav_of_every_width_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    // 10,001 samples: more than two blocks of the decoder, and an odd number of bytes at 8 and 24 bits
    let samples: Vec<f32> = (0..10_001).map(|i| 0.9 * noise(i)).collect();
    for (bits, format) in
        [(8, SampleFormat::Int), (16, SampleFormat::Int), (24, SampleFormat::Int), (32, SampleFormat::Int)]
    {
        let got = decode(&wav(&folder, spec(1, SAMPLE_RATE, bits, format), &samples)).unwrap();
        // half a step of the quantiser, plus half a step of the f32 that holds it
        let step = 0.5f32.powi(i32::from(bits)) + 0.5f32.powi(24);
        assert!(largest_difference(&got, &samples) <= step, "{bits} bits");
    }
    assert_eq!(decode(&wav(&folder, spec(1, SAMPLE_RATE, 32, SampleFormat::Float), &samples)).unwrap(), samples);
    // full scale is one, exactly
    let ends = decode(&wav(&folder, spec(1, SAMPLE_RATE, 16, SampleFormat::Int), &[-1.0, 0.5, -0.25])).unwrap();
    assert_eq!(ends, [-1.0, 0.5, -0.25]);
}

#[test]
fn channels_are_averaged() {
    let folder = tempfile::tempdir().unwrap();
    let frames: Vec<f32> = [[0.5, 0.25], [-0.5, 0.5], [0.0, -1.0]].concat();
    let got = decode(&wav(&folder, spec(2, SAMPLE_RATE, 16, SampleFormat::Int), &frames)).unwrap();
    assert_eq!(got, [0.375, 0.0, -0.5]);
    // 7.1 and 32 channels (hound writes these as WAVE_FORMAT_EXTENSIBLE)
    for channels in [8, 32] {
        let frames: Vec<f32> = (0..u32::from(channels) * 5).map(noise).collect();
        let got = decode(&wav(&folder, spec(channels, SAMPLE_RATE, 32, SampleFormat::Float), &frames)).unwrap();
        let mean = |frame: &[f32]| frame.iter().sum::<f32>() / f32::from(channels);
        let expected: Vec<f32> = frames.chunks(channels.into()).map(mean).collect();
        assert!(largest_difference(&got, &expected) < 1e-6);
    }
}

#[test]
fn another_rate_is_resampled_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let tone = |hz: f64, rate: f64, n: u32| 0.5 * (TAU * hz * f64::from(n) / rate).sin();
    for rate in [11_025, 44_100, 48_000] {
        let samples: Vec<f32> = (0..rate + 1).map(|n| tone(1_000.0, f64::from(rate), n) as f32).collect();
        let both: Vec<f32> = samples.iter().flat_map(|&x| [x, x]).collect();
        let got = decode(&wav(&folder, spec(2, rate, 32, SampleFormat::Float), &both)).unwrap();
        let length = (f64::from(rate + 1) * 22_050.0 / f64::from(rate)).round() as usize;
        assert_eq!(got.len(), length, "{rate} Hz");
        let expected: Vec<f32> = (0..length as u32).map(|n| tone(1_000.0, 22_050.0, n) as f32).collect();
        // away from the ends, where the silence outside begins
        let inner = 2_000..20_000;
        let error = largest_difference(&got[inner.clone()], &expected[inner]);
        assert!(error < 1e-4, "{rate} Hz: off by {error}");
    }
}

/// An AU header and its samples.
fn au_bytes(encoding: u32, rate: u32, channels: u32, size: Option<u32>, data: &[u8]) -> Vec<u8> {
    let size = size.unwrap_or(data.len() as u32);
    // 28: the header is followed by an annotation of four bytes
    let mut bytes = b".snd".to_vec();
    for word in [28, size, encoding, rate, channels, 0] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(data);
    bytes
}

fn write(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn au_of_every_encoding_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let samples: Vec<f32> = (0..9_001).map(|i| 0.9 * noise(i)).collect();
    let encode = |f: &dyn Fn(f32) -> Vec<u8>| samples.iter().flat_map(|&x| f(x)).collect::<Vec<u8>>();
    let cases: [(u32, i32, Vec<u8>); 6] = [
        (2, 8, encode(&|x| vec![(x * 128.0).round() as i8 as u8])),
        (3, 16, encode(&|x| ((x * 32_768.0).round() as i16).to_be_bytes().to_vec())),
        (4, 24, encode(&|x| ((x * 8_388_608.0).round() as i32).to_be_bytes()[1..].to_vec())),
        (5, 32, encode(&|x| ((f64::from(x) * 2f64.powi(31)).round() as i32).to_be_bytes().to_vec())),
        (6, 24, encode(&|x| x.to_be_bytes().to_vec())),
        (7, 24, encode(&|x| f64::from(x).to_be_bytes().to_vec())),
    ];
    for (encoding, bits, data) in cases {
        for size in [None, Some(u32::MAX)] {
            let path = write(&folder, "a.au", &au_bytes(encoding, SAMPLE_RATE, 1, size, &data));
            let error = largest_difference(&decode(&path).unwrap(), &samples);
            assert!(error <= 0.5f32.powi(bits) + 0.5f32.powi(24), "encoding {encoding}: {error}");
        }
    }
    // mu-law: 0xff is zero, 0x00 and 0x80 are the ends (ITU-T G.711: 8031 of 8192, at 14 bits)
    let path = write(&folder, "a.au", &au_bytes(1, SAMPLE_RATE, 1, None, &[0xff, 0x00, 0x80]));
    assert_eq!(decode(&path).unwrap(), [0.0, -8_031.0 / 8_192.0, 8_031.0 / 8_192.0]);
    // the name does not matter: an au called .wav
    let path = write(&folder, "b.wav", &au_bytes(3, SAMPLE_RATE, 2, None, &[0x40, 0, 0x20, 0]));
    assert_eq!(decode(&path).unwrap(), [0.375]);
}

#[test]
fn compressed_files_decode_to_what_was_encoded() {
    let expected = beats(11_025);
    // flac and aiff: one 16-bit step; the lossy ones: what their encoders leave
    let files = [
        ("sound.flac", 3.1e-5),
        ("sound.aiff", 3.1e-5),
        ("sound_adpcm.wav", 0.02),
        ("sound.ogg", 0.02),
        ("sound.mp3", 0.02),
    ];
    for (name, tolerance) in files {
        let mut got = decode(&golden(name)).unwrap();
        if name == "sound_adpcm.wav" {
            // the last block is padded
            assert!((11_025..11_025 + 1_017).contains(&got.len()));
            got.truncate(11_025);
        }
        assert_eq!(got.len(), expected.len(), "{name}");
        let error = largest_difference(&got, &expected);
        println!("{name}: {error:e}");
        assert!(error < tolerance, "{name}: off by {error}");
    }
}

/// `length` samples of `path` from `start` on.
fn part(path: &Path, start: u64, length: Option<u64>) -> genregrad::error::Result<Vec<f32>> {
    let mut samples = Vec::new();
    stream(path, Part { start, length }, &mut |block| {
        samples.extend_from_slice(block);
        Ok(())
    })?;
    Ok(samples)
}

#[test]
fn a_part_is_the_same_as_in_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let samples: Vec<f32> = (0..70_001).map(noise).collect();
    let mut paths = ["long.flac", "long.ogg", "long.mp3", "sound.aiff", "sound_adpcm.wav"].map(golden).to_vec();
    for (rate, channels) in [(8_000, 1), (22_050, 1), (22_050, 2), (44_100, 2), (48_000, 1)] {
        let path = wav(&folder, spec(channels, rate, 24, SampleFormat::Int), &samples[usize::from(channels == 2)..]);
        let name = folder.path().join(format!("{rate}-{channels}.wav"));
        std::fs::rename(path, &name).unwrap();
        paths.push(name);
    }
    paths.push(write(&folder, "a.au", &au_bytes(3, 32_000, 2, None, &[1, 2, 3, 4, 5].repeat(40_000))));
    for path in paths {
        let whole = decode(&path).unwrap();
        let length = whole.len() as u64;
        for (start, wanted) in [
            (0, Some(1)),
            (1, Some(5_000)),
            (4_097, None),
            (length / 2, Some(4_000)),
            (length * 9 / 10, Some(length / 10)),
            (length - 1, Some(1)),
            (length - 1, None),
        ] {
            let end = wanted.map_or(length, |wanted| start + wanted);
            let got = part(&path, start, wanted).unwrap();
            let same = got == whole[start as usize..end as usize];
            assert!(same, "{}: {} samples from {start} on", path.display(), got.len());
        }
        for (start, wanted) in
            [(length, None), (length, Some(1)), (length - 1, Some(2)), (0, Some(length + 1)), (u64::MAX, Some(9))]
        {
            let line = part(&path, start, wanted).unwrap_err().one_line();
            assert!(line.contains(" s long, but ") && line.ends_with("start earlier or take less"), "{line}");
        }
    }
}

#[test]
fn seconds_become_samples_or_an_error() {
    assert_eq!(Part::seconds(0.0, None).unwrap(), Part::default());
    assert_eq!(Part::seconds(1.0, Some(0.5)).unwrap(), Part { start: 22_050, length: Some(11_025) });
    for (start, seconds) in [(-1.0, None), (f64::NAN, None), (f64::INFINITY, None), (1e300, None)] {
        assert!(Part::seconds(start, seconds).unwrap_err().one_line().contains("expected 0 to 3e9 s"));
    }
    for seconds in [0.0, -1.0, 1e-9, f64::NAN, f64::INFINITY] {
        assert!(
            Part::seconds(0.0, Some(seconds))
                .unwrap_err()
                .one_line()
                .contains("expected one sample (0.000045 s) to 3e9 s")
        );
    }
}

#[test]
fn the_spectrogram_of_a_file_is_that_of_its_samples() {
    let front_end = FrontEnd::default();
    let samples = decode(&golden("long.ogg")).unwrap();
    for (start, length) in [(0, samples.len()), (30_000, 20_462), (66_149, 1)] {
        let wanted = (length < samples.len()).then_some(length as u64);
        let features =
            Features::of_file(&golden("long.ogg"), &front_end, Part { start: start as u64, length: wanted }).unwrap();
        let mut expected = vec![0.0; 80 * front_end.frames(length)];
        front_end.plan().unwrap().transform(&samples[start..start + length], &mut expected);
        assert_eq!((features.bins, features.frames, features.samples), (80, 1 + length / 256, length as u64));
        assert!(features.values == expected, "{length} samples from {start} on");
    }
    let folder = tempfile::tempdir().unwrap();
    let loud = wav(&folder, spec(1, SAMPLE_RATE, 32, SampleFormat::Float), &[f32::MAX; 600]);
    let error = Features::of_file(&loud, &front_end, Part::default()).unwrap_err().one_line();
    assert!(error.ends_with("too loud: its spectrogram overflows; full scale is 1"), "{error}");
}

// ---- MP3 files, and tags around files ----

/// The frames of an MP3 that starts with one, each with the bytes to the next.
fn frames(mp3: &[u8]) -> Vec<Vec<u8>> {
    let starts = |at: usize| mp3[at..].starts_with(&mp3[..2]) && at + 4 <= mp3.len();
    let starts: Vec<usize> = (0..mp3.len()).filter(|&at| starts(at)).chain([mp3.len()]).collect();
    starts.windows(2).map(|pair| mp3[pair[0]..pair[1]].to_vec()).collect()
}

/// The samples of an MP3 and what was said of it.
fn heard(bytes: &[u8]) -> (Vec<f32>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let mut samples = Vec::new();
    let notes = stream(&write(&folder, "a.mp3", bytes), Part::default(), &mut |block| {
        samples.extend_from_slice(block);
        Ok(())
    });
    (samples, notes.unwrap().notes)
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(golden(name)).unwrap()
}

/// An ID3v2.3 tag of one picture.
fn id3v2(picture: &[u8]) -> Vec<u8> {
    let mut body = [b"APIC", &(picture.len() as u32).to_be_bytes()[..], &[0, 0], picture].concat();
    body.resize(body.len() + 700, 0);
    let size = [21, 14, 7, 0].map(|shift| (body.len() >> shift) as u8 & 0x7f);
    [b"ID3\x03\0\0", &size[..], &body].concat()
}

/// An APEv2 tag without a header, and an ID3v1 tag.
fn tags_behind(picture: &[u8]) -> Vec<u8> {
    let item = [&(picture.len() as u32).to_le_bytes()[..], &[2, 0, 0, 0], b"Cover\0", picture].concat();
    let numbers = [2_000, item.len() as u32 + 32, 1, 0].map(u32::to_le_bytes).concat();
    let mut id3v1 = b"TAGA title".to_vec();
    id3v1.resize(128, 0);
    [&item, &b"APETAGEX"[..], &numbers, &[0; 8], &id3v1].concat()
}

#[test]
fn a_picture_in_a_tag_is_no_sound() {
    // the picture is an MP3, of 13 kB and of 2 MB
    for picture in [read("long.mp3"), read("long.mp3").repeat(160)] {
        for name in ["sound.mp3", "long.mp3", "sound.flac", "sound.ogg", "sound.aiff", "sound_adpcm.wav"] {
            let (bare, tagged) = (read(name), [id3v2(&picture), id3v2(b"x"), read(name)].concat());
            let (samples, notes) = heard(&bare);
            assert!(notes.is_empty(), "{name}: {notes:?}");
            assert!(heard(&tagged) == (samples.clone(), vec![]), "{name} behind tags");
            assert!(heard(&[tagged, tags_behind(&picture)].concat()) == (samples, vec![]), "{name} between tags");
        }
        // without a header that counts its frames
        let bare = frames(&read("long.mp3"))[1..].concat();
        assert!(heard(&[&bare[..], &tags_behind(&picture)].concat()) == heard(&bare));
    }
    assert!(fault("tags.mp3", &[id3v2(b"x"), tags_behind(b"y")].concat()).contains("holds tags and no sound"));
}

/// `0.5 sin(2 pi 440 t) sin(2 pi t)` at 22,050 Hz: what the golden sounds were made of.
fn beats(length: usize) -> Vec<f32> {
    let seconds = (0..length).map(|n| n as f64 / f64::from(SAMPLE_RATE));
    seconds.map(|t| (0.5 * (TAU * 440.0 * t).sin() * (TAU * t).sin()) as f32).collect()
}

#[test]
fn joined_mp3s_are_decoded_to_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let counted = read("long.mp3");
    let uncounted = frames(&counted)[1..].concat();
    let sound = beats(66_150);
    let alone = heard(&uncounted).0.len();
    // (parts, where each starts in the result, its length)
    let tagged = [&tags_behind(b"x")[140..], &id3v2(&counted), &counted].concat();
    for (parts, starts, length) in [
        (vec![&counted, &counted], vec![0, 66_150], 2 * 66_150),
        (vec![&counted, &counted, &counted], vec![0, 66_150, 2 * 66_150], 3 * 66_150),
        (vec![&counted, &tagged], vec![0, 66_150], 2 * 66_150),
        (vec![&uncounted, &counted], vec![alone], alone + 66_150),
        (vec![&counted, &uncounted], vec![0], 66_150 + alone),
    ] {
        let bytes: Vec<u8> = parts.into_iter().flatten().copied().collect();
        let (samples, notes) = heard(&bytes);
        assert!(samples.len().abs_diff(length) <= 1, "{} of {length}", samples.len());
        assert!(notes[0].starts_with("joins "), "{notes:?}");
        for start in starts {
            // the middle of each part: a sample more or less comes of rounding to the other rate
            let inner = 2_000..64_000;
            let error = largest_difference(&samples[start + inner.start..start + inner.end], &sound[inner]);
            assert!(error < 0.06, "off by {error} from {start} on");
        }
        let path = write(&folder, "joined.mp3", &bytes);
        for from in [70_000, 120_000] {
            assert!(part(&path, from, Some(5_000)).unwrap() == samples[from as usize..][..5_000]);
        }
    }
    for (one, two) in [("long.mp3", "sound.mp3"), ("sound.mp3", "long.mp3"), ("crc.mp3", "sound.mp3")] {
        let line = fault("other.mp3", &[read(one), read(two)].concat());
        assert!(line.contains("its sample rate or its number of channels changes"), "{line}");
    }
    // a count that is not true
    let mut frames = frames(&counted);
    let count = frames[0].windows(4).position(|word| word == b"Xing").unwrap() + 8;
    frames[0][count..count + 4].copy_from_slice(&60u32.to_be_bytes());
    let (samples, notes) = heard(&frames.concat());
    assert_eq!(notes, ["its header counts 60 frames, but there are 85: all are decoded"]);
    assert!(samples.len() >= 66_150);
}

#[test]
fn damaged_frames_are_silent_or_refused() {
    let whole = decode(&golden("long.mp3")).unwrap();
    let good = frames(&read("long.mp3"));
    let spoil = |frame: &mut Vec<u8>, how: u32| {
        let noise = |at: usize| pcg(77 * how + at as u32) as u8;
        match how {
            // impossible side information
            0 => frame[4..21].fill(0xff),
            // the header as well
            1 => frame.fill(0),
            2 => (0..frame.len()).for_each(|at| frame[at] = noise(at)),
            // all but the header
            _ => (4..frame.len()).for_each(|at| frame[at] = noise(at)),
        }
    };
    for how in 0..9 {
        for counted in [true, false] {
            let mut bad = good.clone();
            (40..42).for_each(|number| spoil(&mut bad[number], how));
            let clean = heard(&good[usize::from(!counted)..].concat()).0;
            let (samples, notes) = heard(&bad[usize::from(!counted)..].concat());
            assert_eq!(samples.len(), clean.len());
            assert!(notes.len() == 1 && notes[0].starts_with("2 of 85 frames are damaged: "), "{how}: {notes:?}");
            // 1,152 samples at 32 kHz are 794: the frames around 40 and those that need their data differ, the others do not
            let near = 36 * 794..51 * 794;
            let far = (0..samples.len()).filter(|at| !near.contains(at));
            assert!(far.clone().all(|at| (samples[at] - clean[at]).abs() < 1e-4), "{how}");
            assert!(samples.iter().all(|x| x.abs() < 0.6), "{how}");
            // and they are silent
            assert!(samples[41 * 794..41 * 794 + 400].iter().all(|x| x.abs() < 1e-3), "{how}");
        }
        let mut bad = good.clone();
        (30..60).step_by(3).for_each(|number| spoil(&mut bad[number], how));
        let line = fault("bad.mp3", &bad.concat());
        assert!(line.contains("damaged: ") && line.ends_with(" of its 85 frames cannot be decoded"), "{how}: {line}");
    }
    assert_eq!(whole.len(), 66_150);
}

#[test]
fn an_mp3_with_checksums_is_what_mpg123_says() {
    let expected = npyz::NpyFile::new(std::fs::File::open(golden("crc.npy")).unwrap()).unwrap();
    let expected = expected.into_vec::<f32>().unwrap();
    let error = largest_difference(&decode(&golden("crc.mp3")).unwrap(), &expected);
    assert!(error < 1e-5, "off by {error}");
    // a gain that is one step higher: nothing but the checksum shows it
    let mut frames = frames(&read("crc.mp3"));
    frames[12][11] ^= 0x08;
    let (samples, notes) = heard(&frames.concat());
    assert_eq!(samples.len(), expected.len());
    assert!(notes.len() == 1 && notes[0].starts_with("1 of 18 frames is damaged: "), "{notes:?}");
}

#[test]
fn an_mp3_cut_out_of_another_is_sought_by_its_own_frames() {
    let folder = tempfile::tempdir().unwrap();
    let frames = frames(&read("long.mp3"));
    let whole = heard(&frames[1..].concat()).0;
    let path = write(&folder, "cut.mp3", &frames[31..].concat());
    let cut = decode(&path).unwrap();
    // the first frames need data that are not there; 30 frames of 1,152 samples at 32 kHz are 23,814
    let error = largest_difference(&cut[4_000..], &whole[23_814 + 4_000..]);
    assert!(error < 1e-4, "off by {error}");
    for from in [0, 9_000, 30_000] {
        assert!(part(&path, from, Some(4_000)).unwrap() == cut[from as usize..][..4_000], "from {from}");
    }
    let twice = write(&folder, "long.mp3", &frames[1..].concat().repeat(30));
    let all = decode(&twice).unwrap();
    for from in [500_000, 1_700_000] {
        assert!(part(&twice, from, Some(4_000)).unwrap() == all[from as usize..][..4_000], "from {from}");
    }
}

#[test]
fn bytes_that_are_no_frames_are_left_out_and_said() {
    let (bare, rest) = (read("long.mp3"), (0..3_000).map(|i| pcg(i) as u8).collect::<Vec<u8>>());
    let expected = decode(&golden("long.mp3")).unwrap();
    for (bytes, said) in [
        ([&rest[..], &bare].concat(), "its first 3000 of 16176 bytes are no sound: left out"),
        ([&[0; 3_000][..], &bare].concat(), "its first 3000 of 16176 bytes are no sound: left out"),
        ([&bare[..], &rest].concat(), "its last 3000 bytes are no whole frame: left out"),
        ([&bare[..], &[0; 3_000]].concat(), "its last 3000 bytes are no whole frame: left out"),
    ] {
        let (samples, notes) = heard(&bytes);
        assert!(samples == expected && notes == [said], "{notes:?}");
    }
    // in a wav
    let (samples, notes) = heard(&wav_bytes(0x55, 32_000, 0, bare.len() as u32, &bare));
    assert!(samples == expected && notes.is_empty(), "{notes:?}");
    // without its last bytes, and without a count
    let uncounted = frames(&bare)[1..].concat();
    let (_, notes) = heard(&uncounted[..uncounted.len() - 20]);
    assert_eq!(notes, ["its last 124 bytes are no whole frame: left out"]);
}

#[test]
fn what_is_not_read_is_named() {
    let many = |header: [u8; 4], length: usize| {
        let mut frame = header.to_vec();
        frame.resize(length, 0);
        frame.repeat(9)
    };
    for (bytes, words) in [
        // 192 kbit/s at 48 kHz; 128 kbit/s at 44.1 kHz, in layer I
        (many([0xff, 0xfd, 0xa4, 0x00], 576), "MPEG audio of layer 2 (mp2), which is not supported"),
        (many([0xff, 0xff, 0x40, 0x00], 136), "MPEG audio of layer 1 (mp1), which is not supported"),
        (many([0xff, 0xfb, 0x00, 0x64], 417), "an mp3 of free format, which is not supported"),
        (many([0xff, 0xf1, 0x50, 0x80], 300), "an AAC file (ADTS), which is not supported"),
        (b"\0\0\0\x20ftypM4A \0\0\0\0".to_vec(), "an MPEG-4 file (AAC or ALAC), which is not supported"),
        (b"\xff\xfeU\0T\0F\0-\x001\x006\0".repeat(99), "not an audio file that can be read"),
        (vec![0xff; 9_000], "not an audio file that can be read"),
        (vec![0; 9_000], "not an audio file that can be read"),
    ] {
        let line = fault("other.mp3", &bytes);
        assert!(line.contains(words), "{line}: expected {words:?}");
    }
}

// ---- files that are not ----

/// A WAV header and its samples, with the sizes it claims.
fn wav_bytes(format: u16, rate: u32, bits: u16, size: u32, data: &[u8]) -> Vec<u8> {
    let block = bits / 8;
    let mut bytes = b"RIFF".to_vec();
    bytes.extend(size.saturating_add(36).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0");
    bytes.extend([format, 1].iter().flat_map(|x| x.to_le_bytes()));
    bytes.extend([rate, rate.wrapping_mul(block.into())].iter().flat_map(|x| x.to_le_bytes()));
    bytes.extend([block, bits].iter().flat_map(|x| x.to_le_bytes()));
    bytes.extend(b"data");
    bytes.extend(size.to_le_bytes());
    bytes.extend(data);
    bytes
}

/// The one line that decoding `bytes` fails with.
fn fault(name: &str, bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, name, bytes);
    let line = decode(&path).map(|samples| samples.len()).expect_err("it was decoded").one_line();
    assert!(!line.contains('\n') && line.contains(name), "{line}");
    line
}

#[test]
fn bad_files_get_one_clear_line() {
    let pcm = [1u8, 2, 3, 4, 5, 6, 7, 8];
    let floats = |x: f32| [0.5f32, x, 0.25].iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let many = au_bytes(3, SAMPLE_RATE, 65, None, &pcm);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("text.wav", b"this is not audio at all, only its name is\n".to_vec(), "not an audio file that can be read"),
        ("text.mp3", b"ID3 tags were what I wanted to write about\n".repeat(50), "not an audio file that can be read"),
        ("empty.wav", vec![], "empty"),
        ("riff.wav", b"RIFF\x04\0\0\0WAVE".to_vec(), "truncated"),
        (
            "lies.wav",
            wav_bytes(1, 22_050, 16, 2_000_000_000, &pcm),
            "header says 2000000000 bytes of samples, the file holds 8",
        ),
        ("none.wav", wav_bytes(1, 22_050, 16, 0, &[]), "no samples"),
        ("half.wav", wav_bytes(1, 22_050, 16, 1, &pcm[..1]), "no samples"),
        ("rate.wav", wav_bytes(1, 0, 16, 8, &pcm), "a sample rate of 0 Hz"),
        ("fast.wav", wav_bytes(1, 4_000_000_000, 16, 8, &pcm), "a sample rate of 4000000000 Hz"),
        ("bits.wav", wav_bytes(1, 22_050, 64, 8, &pcm), "64 bits a sample"),
        ("nan.wav", wav_bytes(3, 22_050, 32, 12, &floats(f32::NAN)), "sample 1 is not a finite number"),
        ("inf.wav", wav_bytes(3, 22_050, 32, 12, &floats(f32::NEG_INFINITY)), "sample 1 is not a finite number"),
        (
            "lies.au",
            au_bytes(3, 22_050, 1, Some(4_000_000), &pcm),
            "header says 4000000 bytes of samples, the file holds 8",
        ),
        ("head.au", au_bytes(3, 22_050, 1, None, &pcm)[..20].to_vec(), "truncated"),
        ("none.au", au_bytes(3, 22_050, 1, None, &[]), "no samples"),
        ("rate.au", au_bytes(3, 0, 1, None, &pcm), "a sample rate of 0 Hz"),
        ("zero.au", au_bytes(3, 22_050, 0, None, &pcm), "0 channels"),
        ("many.au", many, "65 channels"),
        ("code.au", au_bytes(23, 22_050, 1, None, &pcm), "encoding 23"),
        ("nan.au", au_bytes(6, 22_050, 1, None, &[0x7f, 0xc0, 0, 0]), "sample 0 is not a finite number"),
        ("loud.wav", wav_bytes(3, 44_100, 32, 12, &floats(f32::MAX)), "sample 1 is too loud to be resampled"),
        ("nan44.au", au_bytes(6, 44_100, 1, None, &[0x7f, 0xc0, 0, 0]), "sample 0 is not a finite number"),
    ];
    for (name, bytes, words) in cases {
        let line = fault(name, &bytes);
        assert!(line.contains(words), "{line}: expected {words:?}");
    }
    let nowhere = decode(Path::new("no/such/file.wav")).unwrap_err().one_line();
    assert!(nowhere.starts_with("no/such/file.wav: cannot read"), "{nowhere}");
    let folder = tempfile::tempdir().unwrap();
    assert!(decode(folder.path()).unwrap_err().one_line().ends_with("cannot read: a folder, not a file"));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let samples: Vec<f32> = (0..3_000).map(noise).collect();
    let wav = std::fs::read(wav(&folder, spec(1, SAMPLE_RATE, 16, SampleFormat::Int), &samples)).unwrap();
    let au = au_bytes(3, SAMPLE_RATE, 1, None, &[7; 5_000]);
    for (name, bytes) in [("cut.wav", wav), ("cut.au", au)] {
        for kept in [1, 13, 23, 37, 43, 200, bytes.len() / 2, bytes.len() - 1] {
            let line = fault(name, &bytes[..kept]);
            assert!(kept < 12 || line.contains("truncated"), "{kept} bytes: {line}");
        }
    }
    for name in ["sound.flac", "sound.aiff", "sound.ogg", "sound.mp3", "long.flac", "long.ogg", "long.mp3"] {
        let bytes = std::fs::read(golden(name)).unwrap();
        let line = fault(name, &bytes[..bytes.len() * 3 / 4]);
        assert!(line.contains("truncated"), "{line}");
    }
    // exactly between two pages or frames
    let ogg = std::fs::read(golden("long.ogg")).unwrap();
    let last_page = ogg.windows(4).rposition(|bytes| bytes == b"OggS").unwrap();
    let line = fault("pages.ogg", &ogg[..last_page]);
    assert!(line.contains("truncated: the last page of the ogg file is missing"), "{line}");
    let mp3 = std::fs::read(golden("long.mp3")).unwrap();
    let frames: Vec<usize> = (0..mp3.len() - 3).filter(|&i| mp3[i..i + 2] == mp3[..2]).collect();
    let line = fault("frames.mp3", &mp3[..frames[frames.len() - 5]]);
    assert!(line.contains("truncated: header says 96000 samples"), "{line}");
}

#[test]
fn an_mp3_that_does_not_say_its_length_is_used_to_its_end() {
    // without its first frame, which counts the others (and says how much of the encoder's delay to cut)
    let folder = tempfile::tempdir().unwrap();
    let mp3 = std::fs::read(golden("long.mp3")).unwrap();
    let second = (4..mp3.len()).find(|&i| mp3[i..i + 2] == mp3[..2]).unwrap();
    let whole = decode(&golden("long.mp3")).unwrap();
    let bare = decode(&write(&folder, "bare.mp3", &mp3[second..])).unwrap();
    assert!((whole.len()..whole.len() + 2_500).contains(&bare.len()), "{} of {}", bare.len(), whole.len());
}

// ---- containers ----

/// A chunk with its byte of padding, little-endian.
fn chunk(tag: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let padding = &[0][..body.len() % 2];
    [tag.as_slice(), &(body.len() as u32).to_le_bytes(), body, padding].concat()
}

/// The body of a mono `fmt ` chunk at 22,050 Hz.
fn format(coding: u16, bits: u16, block: u16, byte_rate: u32) -> Vec<u8> {
    let words = [coding.to_le_bytes(), 1u16.to_le_bytes()].concat();
    let rates = [SAMPLE_RATE.to_le_bytes(), byte_rate.to_le_bytes()].concat();
    [words, rates, block.to_le_bytes().to_vec(), bits.to_le_bytes().to_vec()].concat()
}

fn riff(magic: &[u8; 4], chunks: &[Vec<u8>]) -> Vec<u8> {
    let body = chunks.concat();
    [magic.as_slice(), &(body.len() as u32 + 4).to_le_bytes(), b"WAVE", &body].concat()
}

/// What `name` of `bytes` decodes to.
fn decoded(name: &str, bytes: &[u8]) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    decode(&write(&folder, name, bytes)).unwrap_or_else(|error| panic!("{}", error.one_line()))
}

/// 999 samples, and the same as 16-bit integers.
fn steps() -> (Vec<f32>, Vec<i16>) {
    let steps: Vec<i16> = (0..999).map(|i| pcg(i) as i16).collect();
    (steps.iter().map(|&step| f32::from(step) / 32_768.0).collect(), steps)
}

#[test]
fn a_length_that_a_pipe_left_is_the_rest_of_the_file() {
    let (expected, steps) = steps();
    let data: Vec<u8> = steps.iter().flat_map(|step| step.to_le_bytes()).collect();
    // sox, sox of three channels of 24 bits, lame, oggdec, arecord, ffmpeg, and a header that was never filled in
    for size in [0x7fff_f000, 0x7fff_effa, 0x7fff_ffff, 0x7fff_ffd3, 0x8000_0000, u32::MAX, 0] {
        assert_eq!(decoded("pipe.wav", &wav_bytes(1, SAMPLE_RATE, 16, size, &data)), expected, "{size:#x}");
    }
    // silence looks like no chunk either
    let quiet = [vec![0; 4_000], data.clone()].concat();
    assert_eq!(decoded("pipe.wav", &wav_bytes(1, SAMPLE_RATE, 16, 0, &quiet)).len(), 2_999);
    let line = fault("cut.wav", &wav_bytes(1, SAMPLE_RATE, 16, 0x7000_0000, &data));
    assert!(line.contains("truncated: header says 1879048192 bytes of samples, the file holds 1998"), "{line}");
    let big: Vec<u8> = steps.iter().flat_map(|step| step.to_be_bytes()).collect();
    for size in [0, u32::MAX] {
        assert_eq!(decoded("pipe.au", &au_bytes(3, SAMPLE_RATE, 1, Some(size), &big)), expected, "{size:#x}");
    }
}

#[test]
fn a_length_of_zero_is_meant_where_chunks_follow() {
    let fmt = chunk(b"fmt ", &format(1, 16, 2, 44_100));
    let noise: Vec<u8> = (0..3_001).map(|i| pcg(i) as u8).collect();
    for (name, after) in [
        ("list", chunk(b"LIST", &[b"INFO".as_slice(), &noise].concat())),
        ("id3", chunk(b"id3 ", &noise)),
        ("two", [chunk(b"bext", &noise), chunk(b"own!", b"x")].concat()),
        ("none", Vec::new()),
        // the last byte of padding left out
        ("odd", [b"LIST".as_slice(), &3_001u32.to_le_bytes(), &noise].concat()),
    ] {
        let bytes = riff(b"RIFF", &[fmt.clone(), chunk(b"data", b""), after]);
        let line = fault(&format!("{name}.wav"), &bytes);
        assert!(line.ends_with("holds no samples"), "{line}");
    }
}

#[test]
fn chunks_are_found_with_and_without_their_padding() {
    let (expected, steps) = steps();
    let data: Vec<u8> = steps.iter().flat_map(|step| step.to_le_bytes()).collect();
    let (fmt, data) = (chunk(b"fmt ", &format(1, 16, 2, 44_100)), chunk(b"data", &data));
    let list = [b"LIST".as_slice(), &5u32.to_le_bytes(), b"INFOx"].concat();
    for padding in [&b""[..], b"\0", b"d"] {
        let bytes = riff(b"RIFF", &[fmt.clone(), list.clone(), padding.to_vec(), data.clone()]);
        assert_eq!(decoded("list.wav", &bytes), expected, "{padding:?}");
    }
    let two = riff(b"RIFF", &[fmt.clone(), data.clone(), chunk(b"LIST", b"INFO"), chunk(b"data", b"more")]);
    let line = fault("two.wav", &two);
    assert!(line.contains("two data chunks, of 1998 and 4 bytes: join them"), "{line}");
    // metadata behind the samples is not sound
    let behind = riff(b"RIFF", &[fmt, data, chunk(b"id3 ", b"ID3\x03\0\0\0\0\0\0")]);
    assert_eq!(decoded("behind.wav", &behind), expected);
}

#[test]
fn careless_block_sizes_are_seen_through() {
    let (expected, steps) = steps();
    let data: Vec<u8> = steps.iter().flat_map(|step| step.to_le_bytes()).collect();
    let file = |format: &[u8], data: &[u8]| riff(b"RIFF", &[chunk(b"fmt ", format), chunk(b"data", data)]);
    for block in [0, 1] {
        assert_eq!(decoded("block.wav", &file(&format(1, 16, block, 0), &data)), expected, "{block}");
    }
    let line = fault("block.wav", &file(&format(1, 16, 7, 154_350), &data));
    assert!(line.contains("1 channels of 16 bits do not make blocks of 7 bytes"), "{line}");
    // 24 bits in four bytes: upper (Microsoft), lower with the sign repeated (ALSA) or with zeros, or three bytes after all
    let wide = |i: usize, step: i16| (i32::from(step) << 8) | ((i as i32 * 37) & 255);
    let each = |sample: &dyn Fn(i32) -> Vec<u8>| -> Vec<u8> {
        steps.iter().enumerate().flat_map(|(i, &step)| sample(wide(i, step))).collect()
    };
    let expected: Vec<f32> = steps.iter().enumerate().map(|(i, &step)| wide(i, step) as f32 / 8_388_608.0).collect();
    let layouts = [
        ("upper", each(&|x| (x << 8).to_le_bytes().to_vec())),
        ("lower", each(&|x| x.to_le_bytes().to_vec())),
        ("zeros", each(&|x| (x & 0xff_ffff).to_le_bytes().to_vec())),
        ("three", each(&|x| x.to_le_bytes()[..3].to_vec())),
    ];
    let guid = [&[22, 0, 24, 0, 4, 0, 0, 0, 1, 0], b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71".as_slice()].concat();
    for (name, data) in layouts {
        assert_eq!(decoded("24.wav", &file(&format(1, 24, 4, 88_200), &data)), expected, "{name}");
        let extensible = [format(0xfffe, 24, 4, 88_200), guid.clone()].concat();
        assert_eq!(decoded("24.wav", &file(&extensible, &data)), expected, "extensible, {name}");
    }
    let floats: Vec<u8> = steps.iter().flat_map(|&step| (f32::from(step) / 3.0).to_le_bytes()).collect();
    let line = fault("24.wav", &file(&format(1, 24, 4, 88_200), &floats));
    assert!(line.contains("floating-point numbers"), "{line}");
    // 32 bits are 32 bits, however quiet
    let quiet: Vec<u8> = steps.iter().flat_map(|&step| i32::from(step).to_le_bytes()).collect();
    let expected: Vec<f32> = steps.iter().map(|&step| f32::from(step) / 2f32.powi(31)).collect();
    assert_eq!(decoded("32.wav", &file(&format(1, 32, 4, 88_200), &quiet)), expected);
}

#[test]
fn codings_that_are_not_supported_are_named() {
    for (coding, name) in
        [(0x31, "GSM 6.10"), (0x45, "G.726"), (0x161, "Windows Media"), (0x2001, "DTS"), (0x9999, "0x9999")]
    {
        let fmt = chunk(b"fmt ", &format(coding, 0, 65, 1_625));
        let line = fault("coded.wav", &riff(b"RIFF", &[fmt, chunk(b"data", &[0; 650])]));
        assert!(line.contains(name) && line.ends_with("convert it to 16-bit pcm"), "{line}");
    }
    let aiff = aiff_bytes(b"AIFC", &[common(16, b"ima4", 100, &[]), sound_chunk(0, &[0; 340])]);
    assert!(fault("coded.aifc", &aiff).contains("coded as IMA ADPCM (ima4), which is not supported"));
}

#[test]
fn the_larger_and_the_other_wavs_are_read() {
    let (expected, steps) = steps();
    let data: Vec<u8> = steps.iter().flat_map(|step| step.to_le_bytes()).collect();
    let fmt = chunk(b"fmt ", &format(1, 16, 2, 44_100));
    for magic in [b"RF64", b"BW64"] {
        let long = |bytes: u64| {
            let sizes = [bytes + 80, bytes, 999].into_iter().flat_map(u64::to_le_bytes).chain([0; 4]);
            let head = [b"data".as_slice(), &[0xff; 4]].concat();
            riff(magic, &[chunk(b"ds64", &sizes.collect::<Vec<u8>>()), fmt.clone(), head, data.clone()])
        };
        for bytes in [1_998, 0, u64::MAX] {
            assert_eq!(decoded("long.wav", &long(bytes)), expected, "{bytes}");
        }
        assert!(fault("long.wav", &long(2_000)).contains("header says 2000 bytes of samples, the file holds 1998"));
    }
    // RIFX: everything big-endian
    let swapped = |bytes: &[u8], at: &[usize]| -> Vec<u8> {
        let mut rest = bytes;
        at.iter().flat_map(|&n| rest.split_off(..n).unwrap().iter().rev().copied().collect::<Vec<_>>()).collect()
    };
    let big = |tag: &[u8; 4], body: &[u8]| [tag.as_slice(), &(body.len() as u32).to_be_bytes(), body].concat();
    let fields = swapped(&format(1, 16, 2, 44_100), &[2, 2, 4, 4, 2, 2]);
    let rifx = [b"RIFX\0\0\0\0WAVE".to_vec(), big(b"fmt ", &fields), big(b"data", &swapped(&data, &[2; 999]))];
    assert_eq!(decoded("big.wav", &rifx.concat()), expected);
    // Wave64: GUIDs, and lengths of eight bytes that count the heads
    let rest = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a";
    let wide = |tag: &[u8; 4], size: u64, body: &[u8]| {
        let padding = vec![0; body.len().next_multiple_of(8) - body.len()];
        [tag.as_slice(), rest, &size.to_le_bytes(), body, &padding].concat()
    };
    for size in [24 + 1_998, i64::MAX as u64] {
        let head = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0\0\0\0\0\0\0\0\0wave".to_vec();
        let odd = wide(b"list", 24 + 3, b"abc");
        let chunks = [odd, wide(b"fmt ", 40, &format(1, 16, 2, 44_100)), wide(b"data", size, &data)];
        let bytes = [head, rest.to_vec(), chunks.concat()].concat();
        // of a length that is not known, the padding counts as samples
        assert_eq!(decoded("wide.w64", &bytes)[..999], expected, "{size}");
    }
}

/// A chunk of an AIFF.
fn big_chunk(tag: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [tag.as_slice(), &(body.len() as u32).to_be_bytes(), body, &[0][..body.len() % 2]].concat()
}

/// The common chunk of a mono AIFF-C, or of an AIFF where `coding` is `NONE`.
fn common(bits: u16, coding: &[u8; 4], frames: u32, extra: &[u8]) -> Vec<u8> {
    // 22050 = 0xac44 / 2
    let rate = [0x40, 0x0d, 0xac, 0x44, 0, 0, 0, 0, 0, 0];
    let coding = if coding == b"NONE" { Vec::new() } else { [coding.as_slice(), &[0, 0]].concat() };
    let numbers = [1u16.to_be_bytes().to_vec(), frames.to_be_bytes().to_vec(), bits.to_be_bytes().to_vec()].concat();
    big_chunk(b"COMM", &[&numbers, rate.as_slice(), &coding, extra].concat())
}

/// The sound chunk, whose samples begin `offset` bytes later than they could.
fn sound_chunk(offset: u32, data: &[u8]) -> Vec<u8> {
    let head = [offset.to_be_bytes(), [0; 4]].concat();
    big_chunk(b"SSND", &[head, vec![7; offset as usize], data.to_vec()].concat())
}

fn aiff_bytes(kind: &[u8; 4], chunks: &[Vec<u8>]) -> Vec<u8> {
    let body = chunks.concat();
    [b"FORM".as_slice(), &(body.len() as u32 + 4).to_be_bytes(), kind, &body].concat()
}

#[test]
fn aiff_of_every_coding_comes_back() {
    let (expected, steps) = steps();
    let each = |sample: &dyn Fn(i16) -> Vec<u8>| steps.iter().flat_map(|&step| sample(step)).collect::<Vec<u8>>();
    let big = each(&|x| x.to_be_bytes().to_vec());
    let version = big_chunk(b"FVER", &0xa280_5140u32.to_be_bytes());
    let wide = |x: i16| i32::from(x) << 16;
    let codings: [(u16, &[u8; 4], Vec<u8>); 9] = [
        (16, b"NONE", big.clone()),
        (12, b"twos", big.clone()),
        (16, b"sowt", each(&|x| x.to_le_bytes().to_vec())),
        (24, b"sowt", each(&|x| wide(x).to_le_bytes()[1..].to_vec())),
        (24, b"in24", each(&|x| wide(x).to_be_bytes()[..3].to_vec())),
        (32, b"in32", each(&|x| wide(x).to_be_bytes().to_vec())),
        (32, b"23ni", each(&|x| wide(x).to_le_bytes().to_vec())),
        (32, b"fl32", each(&|x| (f32::from(x) / 32_768.0).to_be_bytes().to_vec())),
        (64, b"FL64", each(&|x| (f64::from(x) / 32_768.0).to_be_bytes().to_vec())),
    ];
    for (bits, coding, data) in codings {
        let kind = if coding == b"NONE" { b"AIFF" } else { b"AIFC" };
        let (common, name) = (common(bits, coding, 999, b""), String::from_utf8_lossy(coding));
        for chunks in [
            vec![common.clone(), sound_chunk(0, &data)],
            vec![version.clone(), common.clone(), sound_chunk(0, &data), big_chunk(b"NAME", b"odd")],
            // the sound first, or at the start of a disk's block, or more of it than is counted
            vec![sound_chunk(0, &data), common.clone()],
            vec![common.clone(), sound_chunk(512, &data)],
            vec![common.clone(), sound_chunk(0, &[data.clone(), vec![9; 64]].concat())],
        ] {
            assert_eq!(decoded("a.aiff", &aiff_bytes(kind, &chunks)), expected, "{bits} bits of {name}");
        }
    }
    // bytes at the end of the common chunk
    let extra = aiff_bytes(b"AIFF", &[common(16, b"NONE", 999, &[0; 4]), sound_chunk(0, &big)]);
    assert_eq!(decoded("extra.aiff", &extra), expected);
    // a pipe of sox, and one of ffmpeg
    for (frames, size) in [(0x7f00_0000 / 2, 0x7f00_0008u32), (0, 0)] {
        let sound = [b"SSND".as_slice(), &size.to_be_bytes(), &[0; 8], &big].concat();
        assert_eq!(decoded("pipe.aiff", &aiff_bytes(b"AIFF", &[common(16, b"NONE", frames, b""), sound])), expected);
    }
    for (chunks, words) in [
        (vec![common(16, b"NONE", 2_000, b""), sound_chunk(0, &big)], "truncated: header says 4000 bytes of samples"),
        (vec![common(16, b"NONE", 0, b""), sound_chunk(0, b"")], "holds no samples"),
        (vec![common(16, b"NONE", 0, b""), sound_chunk(0, b""), big_chunk(b"ID3 ", &[5; 400])], "holds no samples"),
        (vec![common(16, b"NONE", 999, b"")], "truncated: the header ends before the samples start"),
        (vec![sound_chunk(0, &big)], "truncated: the header ends before the samples start"),
    ] {
        let line = fault("bad.aiff", &aiff_bytes(b"AIFF", &chunks));
        assert!(line.contains(words), "{line}");
    }
}

/// A FLAC of `frames` frames of 65,535 equal samples at 1,000 Hz, 13 bytes each.
fn long_flac(frames: u32) -> Vec<u8> {
    fn crc(bytes: &[u8], bits: u32, polynomial: u32) -> u32 {
        let (top, mask) = (1 << (bits - 1), ((1u64 << bits) - 1) as u32);
        bytes.iter().fold(0, |crc, &byte| {
            let crc = crc ^ (u32::from(byte) << (bits - 8));
            (0..8).fold(crc, |crc, _| mask & if crc & top == 0 { crc << 1 } else { (crc << 1) ^ polynomial })
        })
    }
    let samples = u64::from(frames) * 65_535;
    let mut info = [0xff; 4].to_vec();
    info.extend([0; 6]);
    // 1,000 Hz, one channel, 16 bits
    info.extend(((1_000u64 << 44) | (15 << 36) | samples).to_be_bytes());
    info.extend([0; 16]);
    let mut bytes = [b"fLaC\x80\0\0\x22".as_slice(), &info].concat();
    for frame in 0..frames {
        let mut head = vec![0xff, 0xf8, 0x70, 0x08];
        // the frame's number, coded like a character
        head.extend(char::from_u32(frame).unwrap().to_string().as_bytes());
        head.extend(65_534u16.to_be_bytes());
        head.push(crc(&head, 8, 0x07) as u8);
        let value = if frame % 2 == 0 { 8_000i16 } else { -8_000 };
        head.extend([&[0][..], &value.to_be_bytes()].concat());
        let check = crc(&head, 16, 0x8005) as u16;
        head.extend(check.to_be_bytes());
        bytes.extend(head);
    }
    bytes
}

#[test]
fn what_is_absurdly_long_is_refused_whole_and_read_in_parts() {
    // five hours in 3.7 kB
    let bytes = long_flac(271);
    assert!((3_700..3_800).contains(&bytes.len()), "{}", bytes.len());
    let line = fault("bomb.flac", &bytes);
    assert!(line.contains("minutes or more in 37") && line.contains("too little for any sound"), "{line}");
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, "bomb.flac", &bytes);
    assert_eq!(part(&path, 22_050 * 60, Some(22_050)).unwrap().len(), 22_050);
    // a short one is none
    assert_eq!(decoded("short.flac", &long_flac(2)).len(), (2.0f64 * 65.535 * 22_050.0).round() as usize);
    // 30 hours of zeros, which the disk does not hold
    let path = write(&folder, "long.au", &au_bytes(2, 1_000, 1, Some(108_000_000), &[]));
    std::fs::File::options().write(true).open(&path).unwrap().set_len(28 + 108_000_000).unwrap();
    let line = decode(&path).unwrap_err().one_line();
    assert!(line.ends_with("longer than 24 hours: split the file, or take a part of it"), "{line}");
    assert_eq!(part(&path, 22_050 * 3_600 * 29, Some(100)).unwrap(), [0.0; 100]);
}

#[test]
fn silence_decodes_and_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let heard = |rate: u32, frames: &[[f32; 2]]| {
        let path = wav(&folder, spec(2, rate, 16, SampleFormat::Int), &frames.concat());
        stream(&path, Part::default(), &mut |_| Ok(())).unwrap().silence
    };
    let tone = |i: u32| (TAU * f64::from(i) / 50.0).sin() as f32 / 2.0;
    for rate in [8_000, 16_000, 22_050, 44_100, 48_000, 96_000] {
        for constant in [[0.0, 0.0], [0.25, -0.125], [0.25, -0.25]] {
            assert_eq!(heard(rate, &vec![constant; 5_000]), Some(Silence::Constant), "{constant:?} at {rate} Hz");
        }
        let tones = |right: f32| (0..5_000).map(|i| [tone(i), right * tone(i)]).collect::<Vec<_>>();
        assert_eq!(heard(rate, &tones(-1.0)), Some(Silence::Cancelled), "{rate} Hz");
        for right in [0.0, 1.0, -0.9] {
            assert_eq!(heard(rate, &tones(right)), None, "{right} at {rate} Hz");
        }
    }
    assert_eq!(heard(44_100, &[[0.0, 0.0], [0.0, 0.0], [0.01, 0.0], [0.0, 0.0]]), None);
}

/// Decoding may fail, but only with an error, and what it yields is finite.
fn decodes_or_fails(name: &str, bytes: &[u8]) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    if let Ok(samples) = decode(&write(&folder, name, bytes)) {
        prop_assert!(!samples.is_empty() && samples.iter().all(|x| x.is_finite()));
    }
    Ok(())
}

fn sound(name: &str) -> Vec<u8> {
    match name {
        "wav" => {
            let data: Vec<u8> = (0..4_000).map(|i| pcg(i) as u8).collect();
            wav_bytes(1, 44_100, 16, 4_000, &data)
        }
        "au" => {
            let data: Vec<u8> = (0..4_000).map(|i| pcg(i) as u8).collect();
            au_bytes(3, 44_100, 2, None, &data)
        }
        "adpcm" => std::fs::read(golden("sound_adpcm.wav")).unwrap(),
        "flac" | "ogg" | "mp3" => std::fs::read(golden(&format!("long.{name}"))).unwrap(),
        name => std::fs::read(golden(&format!("sound.{name}"))).unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(
        magic in prop::sample::select(vec!["", "RIFF\x24\0\0\0WAVEfmt ", ".snd\0\0\0\x18", "fLaC", "OggS\0", "ID3\x04\0\0", "FORM\0\0\0\x40AIFF"]),
        bytes in prop::collection::vec(any::<u8>(), 0..2_000),
    ) {
        decodes_or_fails("x.wav", &[magic.as_bytes(), &bytes].concat())?;
    }

    #[test]
    fn mutated_files_never_panic(
        kind in prop::sample::select(vec!["wav", "au", "flac", "ogg", "mp3", "aiff", "adpcm"]), start in 0u64..30_000,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), any::<u8>()), 1..8),
        kept in 0.5..1.2f64,
    ) {
        let mut bytes = sound(kind);
        for (at, early, value) in changes {
            // half of the changes hit the header
            let range = if early { bytes.len().min(64) } else { bytes.len() };
            bytes[at.index(range)] = value;
        }
        bytes.truncate((bytes.len() as f64 * kept) as usize);
        decodes_or_fails(&format!("x.{kind}"), &bytes)?;
        // and sought in, only an error
        let folder = tempfile::tempdir().unwrap();
        if let Ok(samples) = part(&write(&folder, "x", &bytes), start, Some(1_000)) {
            prop_assert!(samples.len() == 1_000 && samples.iter().all(|x| x.is_finite()));
        }
    }

    #[test]
    fn any_recording_decodes_to_its_length(
        length in prop_oneof![Just(0usize), Just(1), 2..3_000usize], channels in 1u16..=10,
        rate in prop_oneof![prop::sample::select(vec![8_000u32, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000]),
            1_000u32..60_000],
        bits in prop::sample::select(vec![8u16, 16, 24, 32, 0]),
        kind in 0..5, start in 0f64..1.2,
        front_end in prop::sample::select(vec![Kind::Mel, Kind::Linear, Kind::Cqt, Kind::Cwt]),
    ) {
        let format = if bits == 0 { SampleFormat::Float } else { SampleFormat::Int };
        let full = 1.0 - 2f32.powi(-7);
        let level = |i: u32| match kind {
            0 => noise(i),
            // a constant, clipping, the smallest numbers, an impulse
            1 => 0.25,
            2 => if noise(i) < 0.0 { -1.0 } else { full },
            3 => f32::from_bits(1 + i % 99),
            _ => if i == 0 { full } else { 0.0 },
        };
        let samples: Vec<f32> = (0..length as u32 * u32::from(channels)).map(|i| level(i).min(full)).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = wav(&folder, spec(channels, rate, if bits == 0 { 32 } else { bits }, format), &samples);
        let expected = (length as f64 * 22_050.0 / f64::from(rate)).round() as usize;
        match decode(&path) {
            Err(error) => prop_assert!(expected == 0 && error.one_line().contains("no samples"), "{}", error.one_line()),
            Ok(got) => {
                prop_assert_eq!(got.len(), expected);
                // resampled, a random square rings to nearly twice its height
                prop_assert!(got.iter().all(|x| x.abs() < 3.0), "{:?}", got.iter().find(|x| x.abs() >= 3.0));
                if kind == 1 && rate == SAMPLE_RATE {
                    prop_assert!(got.iter().all(|&x| x == 0.25));
                }
                let from = (start * expected as f64) as usize;
                match part(&path, from as u64, None) {
                    Ok(rest) => prop_assert!(rest == got[from..]),
                    Err(error) => prop_assert!(from >= expected, "{}", error.one_line()),
                }
                let features = Features::of_file(&path, &front_end.into(), Part::default());
                let features = features.map_err(|error| TestCaseError::fail(error.one_line()))?;
                prop_assert!(features.values.iter().all(|x| x.is_finite() && *x >= FLOOR.ln() - 1e-5));
            }
        }
    }

    #[test]
    fn any_settings_are_refused_or_work(
        sr in prop::sample::select(vec![0u32, 1, 8_000, 22_050, u32::MAX]),
        n_fft in prop::sample::select(vec![0usize, 1, 2, 45, 512, 2_048, usize::MAX]),
        hop_length in prop::sample::select(vec![0usize, 1, 100, 256, usize::MAX]),
        n_mels in prop::sample::select(vec![0usize, 1, 20, 80, 1_000, usize::MAX]),
        fmin in prop::sample::select(vec![0f32, -1.0, 30.0, 20_000.0, f32::NAN, f32::INFINITY]),
        fmax in prop::sample::select(vec![0f32, 4_000.0, 11_025.0, 1e9, f32::NAN, f32::INFINITY]),
    ) {
        let front_end = FrontEnd::Mel(Settings { sr, n_fft, hop_length, n_mels, fmin, fmax });
        match (front_end.check(), front_end.plan()) {
            (Err(error), Err(_)) => prop_assert!(error.one_line().starts_with("mel: "), "{}", error.one_line()),
            (Ok(()), Err(error)) => prop_assert!(error.one_line().contains("holds no FFT bin"), "{}", error.one_line()),
            (Err(error), Ok(_)) => prop_assert!(false, "planned in spite of: {}", error.one_line()),
            (Ok(()), Ok(_)) => {
                let features = Features::of_file(&golden("sound.flac"), &front_end, Part { start: 7, length: Some(3_000) });
                let features = features.map_err(|error| TestCaseError::fail(error.one_line()))?;
                prop_assert_eq!(features.values.len(), n_mels * (1 + 3_000 / hop_length));
                prop_assert!(features.values.iter().all(|x| x.is_finite()));
                let centres = front_end.centres();
                prop_assert!(centres.len() == n_mels && centres.is_sorted() && centres.iter().all(|&hz| hz <= f64::from(sr)));
            }
        }
    }

    #[test]
    fn any_notes_are_refused_or_work(
        sr in prop::sample::select(vec![0u32, 1, 22_050, u32::MAX]),
        hop_length in prop::sample::select(vec![0usize, 1, 100, 256, usize::MAX]),
        n_bins in prop::sample::select(vec![0usize, 1, 20, 84, 200, usize::MAX]),
        bins_per_octave in prop::sample::select(vec![0usize, 1, 12, 24, usize::MAX]),
        fmin in prop::sample::select(vec![0f64, -1.0, 1e-9, 32.7, 12_000.0, 1e300, f64::NAN, f64::INFINITY]),
        is_cwt in any::<bool>(),
    ) {
        let settings = cqt::Settings { sr, hop_length, n_bins, bins_per_octave, fmin };
        let front_end = if is_cwt { FrontEnd::Cwt(settings) } else { FrontEnd::Cqt(settings) };
        match (front_end.check(), front_end.plan()) {
            (Err(error), Err(_)) => prop_assert!(error.one_line().contains(": "), "{}", error.one_line()),
            (Ok(()), Ok(_)) => {
                let features = Features::of_file(&golden("sound.flac"), &front_end, Part { start: 7, length: Some(3_000) });
                let features = features.map_err(|error| TestCaseError::fail(error.one_line()))?;
                prop_assert_eq!(features.values.len(), n_bins * (1 + 3_000 / hop_length));
                prop_assert!(features.values.iter().all(|x| x.is_finite()));
                prop_assert!(front_end.centres().is_sorted() && front_end.centres().len() == n_bins);
            }
            (check, plan) => prop_assert!(false, "check: {:?}, plan: {:?}", check.err(), plan.err()),
        }
    }

    #[test]
    fn any_length_has_its_frames_and_no_hole(
        length in 0usize..3_000, n_fft in 8usize..600, hop_length in 1usize..400, loud in 0f32..1e6,
    ) {
        let settings = Settings { n_fft, hop_length, n_mels: 1, ..Settings::default() };
        let signal: Vec<f32> = (0..length as u32).map(|i| loud * noise(i)).collect();
        let mut out = vec![f32::NAN; 1 + length / hop_length];
        LogMel::new(&settings).map_err(|e| TestCaseError::fail(e.one_line()))?.transform(&signal, &mut out);
        prop_assert!(out.iter().all(|x| x.is_finite() && *x >= 1e-6f32.ln() - 1e-5));
    }
}

//! Augmentation from outside: golden values of librosa, signal laws, bad input, and what of it reaches which set.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::f64::consts::TAU;
use std::path::{Path, PathBuf};

use genregrad::audio::augment::{DEFORMATIONS, Deformation, Deformer, Wanted, deform, pitch_shift, time_stretch};
use genregrad::data::cache::Cache;
use genregrad::data::load::{Source, load_with};
use genregrad::data::segments::Settings;
use genregrad::data::split::{Kind, Split, split};
use genregrad::data::{Content, Corpus, Dataset, Set, augment, prepared};
use genregrad::error::Result;
use genregrad::rng::pcg;
use hound::{SampleFormat, WavSpec};
use proptest::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;
use tempfile::TempDir;

const SR: f64 = 22_050.0;

/// The vocoder's hop, samples.
const HOP: usize = 512;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn noise(i: u32) -> f64 {
    f64::from(pcg(i)) / 2f64.powi(31) - 1.0
}

fn tone(hz: f64, samples: usize) -> Vec<f32> {
    (0..samples).map(|n| (0.5 * (TAU * hz * n as f64 / SR).sin()) as f32).collect()
}

fn rms(values: &[f32]) -> f64 {
    (values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

fn line<T>(result: Result<T>) -> String {
    result.err().expect("it must fail").one_line()
}

#[test]
fn blocks_make_what_the_whole_makes() {
    let samples: Vec<f32> = (0..70_001).map(|i| noise(i) as f32 / 2.0).collect();
    let deformer = Deformer::new();
    for length in [0, 1, 511, 1_536, 70_001] {
        let wanted = DEFORMATIONS.map(|deformation| {
            let end = deformation.length(length);
            Wanted { deformation, ranges: vec![0..end.min(2_000), end / 2..end] }
        });
        let whole = deformer.pieces(&samples[..length], &wanted).unwrap();
        for block in [1, 4_096, 65_537] {
            let mut deforming = deformer.begin(length, &wanted).unwrap();
            samples[..length].chunks(block).for_each(|block| deforming.push(block).unwrap());
            assert!(deforming.finish().unwrap() == whole, "{length} samples in blocks of {block}");
        }
    }
    let mut deforming = deformer.begin(9, &[]).unwrap();
    deforming.push(&[0.0; 5]).unwrap();
    assert_eq!(line(deforming.push(&[0.0, f32::NAN])), "cannot deform: sample 6 is NaN");
}

// ---- librosa ----

/// The signal of `tests/golden/librosa_augment.py`: tones and clicks, sharp ones in noise or soft ones.
fn golden_signal(soft: bool) -> Vec<f32> {
    let sample = |n: u32| {
        let (t, place) = (f64::from(n) / SR, f64::from(n % 1_500) - 700.0);
        let tones = 0.2 * (TAU * 440.0 * t).sin() + 0.1 * (TAU * 1_234.5 * t).sin();
        let click = match soft {
            true => 0.9 * (-0.5 * (place / 2.0).powi(2)).exp(),
            false if place == 0.0 => 0.9 + 0.01 * noise(n),
            false => 0.01 * noise(n),
        };
        (tones + click) as f32
    };
    (0..12_000).map(sample).collect()
}

/// Stretching differs by the rounding of single precision only, transients and all. A shift also differs by its resampler:
/// rubato's pass band ends nearer to the Nyquist frequency than soxr's, which soft clicks do not reach and sharp ones do, and
/// its ratio is off by a millionth, which a tone of 1 kHz has felt by the end.
#[test]
fn deformed_signals_are_librosas() {
    let about: Value = serde_json::from_slice(&std::fs::read(golden("librosa_augment.json")).unwrap()).unwrap();
    let npy = npyz::NpyFile::new(std::fs::File::open(golden("librosa_augment.npy")).unwrap()).unwrap();
    let expected = npy.into_vec::<f32>().unwrap();
    let signals = [false, true].map(golden_signal);
    let mut checked = 0;
    for (about, expected) in about["deformations"].as_array().unwrap().iter().zip(expected.chunks_exact(4 * 256)) {
        let number = |key: &str| about[key].as_f64().unwrap();
        let deformation = Deformation { rate: number("rate"), steps: number("steps") };
        let soft = about["clicks"] == "soft";
        let got = deform(&signals[usize::from(soft)], deformation).unwrap();
        assert_eq!(got.len() as f64, number("length"), "{deformation}");
        let starts = about["starts"].as_array().unwrap().iter().map(|start| start.as_u64().unwrap() as usize);
        let errors: Vec<f64> = starts
            .zip(expected.chunks_exact(256))
            .map(|(start, expected)| {
                let difference: Vec<f32> = got[start..start + 256].iter().zip(expected).map(|(a, b)| a - b).collect();
                rms(&difference) / number("rms")
            })
            .collect();
        println!("{deformation}, soft clicks {soft}: {errors:.6?} of the rms");
        // the first and the last piece hold the signal's ends, where it is cut off sharply
        let largest = match (deformation.steps == 0.0, soft) {
            (true, _) => [1e-5; 4],
            (false, true) => [2e-2, 4e-3, 4e-3, 2e-2],
            (false, false) => [0.15; 4],
        };
        assert!(errors.iter().zip(largest).all(|(&error, largest)| error < largest), "{deformation}: {errors:?}");
        checked += 1;
    }
    assert_eq!(checked, 30);
}

// ---- signal laws ----

/// The frequency of a tone, Hz, by its phase at two places of its middle.
fn frequency(samples: &[f32], near: f64) -> f64 {
    let phase = |from: usize| {
        let (mut re, mut im) = (0.0, 0.0);
        for n in 0..4_096 {
            let window = 0.5 - 0.5 * (TAU * n as f64 / 4_096.0).cos();
            let x = window * f64::from(samples[from + n]);
            let angle = TAU * near * (from + n) as f64 / SR;
            re += x * angle.cos();
            im -= x * angle.sin();
        }
        im.atan2(re)
    };
    let from = samples.len() / 2 - 2_560;
    let turned = (phase(from + 1_024) - phase(from)) / TAU;
    near + (turned - turned.round()) * SR / 1_024.0
}

/// Faster, a tone keeps its loudness. Slower, it loses some: a vocoder without phase locking multiplies the disorder of
/// neighbouring bins at the onset. librosa's tone of 220 Hz has the same share of its loudness left, to the third digit.
#[test]
fn a_stretched_tone_keeps_its_pitch_and_as_much_of_its_loudness_as_librosas() {
    for hz in [220.0, 1_000.0, 4_321.0] {
        for (rate, left) in [(0.2, 0.259), (0.5, 0.870), (0.8, 0.908), (1.2, 1.000), (1.5, 1.000), (3.0, 0.994)] {
            let out = time_stretch(&tone(hz, 60_000), rate).unwrap();
            assert_eq!(out.len(), (60_000.0 / rate).round() as usize);
            let found = frequency(&out, hz);
            assert!((found / hz - 1.0).abs() < 1e-5, "{hz} Hz at x{rate}: {found} Hz");
            let middle = &out[out.len() / 4..3 * out.len() / 4];
            let tolerance = if hz == 220.0 { 6e-4 } else { 0.1 };
            assert!(
                (rms(middle) / (0.5 / 2f64.sqrt()) - left).abs() < tolerance,
                "{hz} Hz at x{rate}: {}",
                rms(middle)
            );
        }
    }
}

#[test]
fn a_shifted_tone_moves_by_the_ratio_of_its_steps_and_keeps_its_length() {
    for hz in [220.0, 1_000.0, 3_000.0] {
        for steps in [-12.0, -5.0, -2.0, -0.5, 2.0, 5.0, 7.0, 12.0] {
            let out = pitch_shift(&tone(hz, 60_000), steps).unwrap();
            assert_eq!(out.len(), 60_000);
            let expected = hz * 2f64.powf(steps / 12.0);
            let found = frequency(&out, expected);
            assert!((found / expected - 1.0).abs() < 2e-5, "{hz} Hz by {steps}: {found} Hz, not {expected}");
        }
    }
    for deformation in DEFORMATIONS {
        let out = deform(&tone(600.0, 40_000), deformation).unwrap();
        let expected = 600.0 * 2f64.powf(deformation.steps / 12.0);
        assert_eq!(out.len(), (40_000.0 / deformation.rate).round() as usize);
        assert!((frequency(&out, expected) / expected - 1.0).abs() < 2e-5, "{deformation}");
    }
}

/// The place of the loudest sample.
fn peak(samples: &[f32]) -> usize {
    (0..samples.len()).max_by(|&a, &b| samples[a].abs().total_cmp(&samples[b].abs())).unwrap()
}

#[test]
fn a_click_comes_when_it_should() {
    for deformation in DEFORMATIONS {
        let mut samples = vec![0.0; 30_000];
        samples[15_000] = 1.0;
        let at = peak(&deform(&samples, deformation).unwrap());
        let expected = 15_000.0 / deformation.rate;
        // a vocoder smears a click over its window, which is read at another speed than it is written
        assert!((at as f64 - expected).abs() < 2.0 * HOP as f64 / deformation.rate.min(1.0), "{deformation}: at {at}");
    }
}

#[test]
fn nothing_done_is_nothing_changed() {
    let samples: Vec<f32> = (0..10_000).map(|i| noise(i) as f32).collect();
    let out = time_stretch(&samples, 1.0).unwrap();
    let error = out.iter().zip(&samples).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(out.len() == 10_000 && error < 2e-6, "{error}");
}

#[test]
fn silence_stays_silent_and_nothing_small_or_constant_makes_a_nan() {
    for deformation in DEFORMATIONS {
        assert!(deform(&[0.0; 5_000], deformation).unwrap().iter().all(|&x| x == 0.0), "{deformation}");
        for value in [1.0, -1.0, f32::from_bits(1), f32::MIN_POSITIVE, 1e-20, 1e15] {
            let out = deform(&[value; 5_000], deformation).unwrap();
            let loudest = out.iter().fold(0f32, |a, x| a.max(x.abs()));
            assert!(loudest <= 2.0 * value.abs(), "{deformation} of {value}: {loudest}");
        }
        // clipping
        let square: Vec<f32> = (0..5_000).map(|n| if n / 50 % 2 == 0 { 1.0 } else { -1.0 }).collect();
        assert!(deform(&square, deformation).unwrap().iter().all(|x| x.abs() < 10.0));
    }
    // the zeros before and after a sound are heard as such
    let mut burst = vec![0.0; 40_000];
    burst[20_000..24_000].copy_from_slice(&tone(440.0, 4_000));
    let out = time_stretch(&burst, 0.5).unwrap();
    assert!(out[..36_000].iter().chain(&out[52_000..]).all(|x| x.abs() < 1e-6));
}

// ---- pieces ----

#[test]
fn pieces_are_bit_for_bit_those_of_the_whole() {
    let samples = golden_signal(false);
    let ranges =
        |length: usize| vec![0..length, 0..1, 5..2_000, length / 2..length / 2 + 700, length - 3..length, 9..9];
    let wanted: Vec<Wanted> = DEFORMATIONS
        .iter()
        .chain(&[Deformation { rate: 0.7, steps: 0.0 }])
        .map(|&deformation| Wanted { deformation, ranges: ranges(deformation.length(samples.len())) })
        .collect();
    let deformer = Deformer::new();
    let all = deformer.pieces(&samples, &wanted).unwrap();
    for (Wanted { deformation, ranges }, pieces) in wanted.iter().zip(&all) {
        let whole = deform(&samples, *deformation).unwrap();
        for (range, piece) in ranges.iter().zip(pieces) {
            assert_eq!(piece, &whole[range.clone()], "{deformation}, {range:?}");
        }
        // alone as with all the others
        let alone = Wanted { deformation: *deformation, ranges: vec![ranges[2].clone()] };
        assert_eq!(deformer.pieces(&samples, &[alone]).unwrap()[0][0], pieces[2]);
    }
    let beyond = Wanted { deformation: DEFORMATIONS[0], ranges: vec![7..8, 59_999..60_001] };
    let message = line(deformer.pieces(&samples, &[beyond]));
    assert_eq!(message, "cannot deform: samples 59999..60001 of 60000 (speed x0.2, pitch -5) do not exist");
}

#[test]
fn what_makes_no_sense_is_refused_in_one_line() {
    let samples = [0.1; 100];
    for rate in [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-300, 0.049, 20.1, 1e300] {
        let message = line(time_stretch(&samples, rate));
        assert_eq!(message, format!("time stretch: expected a rate from 0.05 to 20, got {rate}"));
    }
    for steps in [f64::NAN, f64::INFINITY, -24.1, 1e9] {
        let message = line(pitch_shift(&samples, steps));
        assert_eq!(message, format!("pitch shift: expected -24 to 24 semitones, got {steps}"));
    }
    for bad in [f32::NAN, f32::INFINITY] {
        let mut samples = samples;
        samples[7] = bad;
        assert_eq!(line(time_stretch(&samples, 0.5)), format!("cannot deform: sample 7 is {bad}"));
    }
    let message = line(time_stretch(&[3e38; 5_000], 0.5));
    assert_eq!(message, "cannot deform (speed x0.5, pitch +0): too loud; full scale is 1");
    for loud in [3e38, 1e37, 1e30] {
        assert_eq!(line(pitch_shift(&[loud; 5_000], 5.0)), "cannot resample: too loud; full scale is 1");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_length_at_any_speed_and_pitch_has_its_length_and_no_hole(
        length in prop_oneof![0usize..4, 4usize..600, 600usize..12_000],
        rate in prop_oneof![0.05..20.0f64, 0.1..2.0f64, prop::sample::select(vec![0.05, 0.2, 0.5, 1.0, 2.0, 20.0])],
        steps in prop_oneof![Just(0.0), -24.0..24.0f64, prop::sample::select(vec![-24.0, -5.0, 2.0, 1e-9, 24.0])],
        loud in 0f64..4.0,
    ) {
        let samples: Vec<f32> = (0..length as u32).map(|i| (loud * noise(i)) as f32).collect();
        let out = deform(&samples, Deformation { rate, steps }).map_err(|e| TestCaseError::fail(e.one_line()))?;
        prop_assert!(out.len().abs_diff((length as f64 / rate) as usize) <= 1);
        // a vocoder lines phases up that were scattered, but not beyond all bounds
        let loudest = out.iter().fold(0f32, |a, x| a.max(x.abs()));
        prop_assert!(f64::from(loudest) <= 20.0 * loud, "{loudest}");
    }
}

// ---- corpora ----

const TRACK: usize = 45_000;

/// Two classes of four tracks each: a tone of its own a track, three seconds at most.
fn tracks(folder: &Path) {
    let spec = WavSpec { channels: 1, sample_rate: SR as u32, bits_per_sample: 32, sample_format: SampleFormat::Float };
    for track in 0..8 {
        let class = folder.join(["high", "low"][track / 4]);
        std::fs::create_dir_all(&class).unwrap();
        let mut wav = hound::WavWriter::create(class.join(format!("{track}.wav")), spec).unwrap();
        let samples = tone(300.0 + 150.0 * track as f64, TRACK);
        samples.into_iter().for_each(|sample| wav.write_sample(sample).unwrap());
        wav.finalize().unwrap();
    }
}

fn settings() -> Settings {
    Settings { segments: 2, seed: 3, augment: true, ..Settings::default() }
}

fn loaded(cache: &Cache, folder: &Path, settings: &Settings) -> Result<Corpus> {
    load_with(cache, &Source::Path(folder.to_owned()), settings, &|_, _| ())
}

fn whole(corpus: &Corpus) -> &Set {
    match &corpus.content {
        Content::Whole(set) => set,
        Content::Split { .. } => panic!("already split"),
    }
}

fn names(set: &Set) -> BTreeSet<&str> {
    set.tracks.iter().map(|&track| set.track_names[track as usize].as_str()).collect()
}

/// What is in no test set and, row by row, only that: training rows of training tracks.
fn is_clean(Dataset { train, test, meta }: &Dataset, corpus: &Corpus) {
    let (row, all) = (meta.bins * meta.frames, whole(corpus));
    assert!(names(train).is_disjoint(&names(test)));
    assert_eq!(test.deformed(), 0);
    assert_eq!(test.len(), 2 * test.track_names.len());
    assert_eq!(train.len(), (2 + augment::ROWS) * train.track_names.len());
    assert_eq!(train.deformed(), augment::ROWS * train.track_names.len());
    assert_eq!(train.deformed.len(), train.len());
    let rows = |set: &Set, wanted: &dyn Fn(usize) -> bool| -> Vec<Vec<u32>> {
        let bits = |i: usize| set.spectrograms[i * row..(i + 1) * row].iter().map(|x| x.to_bits()).collect();
        (0..set.len()).filter(|&i| wanted(i)).map(bits).collect()
    };
    let of = |set: &Set, name: &str| {
        let place = set.track_names.iter().position(|n| n == name).unwrap() as u32;
        rows(set, &|i| set.tracks[i] == place)
    };
    // a test track's rows are its original ones, and none of its deformed ones is trained on
    let trained: BTreeSet<Vec<u32>> = rows(train, &|_| true).into_iter().collect();
    for name in names(test) {
        let original = of(all, name);
        assert_eq!(of(test, name), original[..2]);
        assert!(original.iter().all(|row| !trained.contains(row)), "{name} is trained on");
    }
    for name in names(train) {
        assert_eq!(of(train, name), of(all, name));
    }
}

#[test]
fn deformed_segments_are_trained_on_and_never_tested_on() {
    let folder = TempDir::new().unwrap();
    tracks(folder.path());
    let corpus = loaded(&Cache::none(), folder.path(), &settings()).unwrap();
    let set = whole(&corpus);
    assert_eq!((augment::ROWS, set.len(), set.deformed()), (48, 8 * 50, 8 * 48));
    for marks in set.deformed.chunks_exact(50) {
        assert_eq!(marks[..2], [0, 0]);
        let expected: Vec<u8> = (1..=16).flat_map(|mark| [mark; 3]).collect();
        assert_eq!(marks[2..], expected);
    }
    // without augmentation the original rows are the same
    let plain = loaded(&Cache::none(), folder.path(), &Settings { augment: false, ..settings() }).unwrap();
    let row = corpus.meta.bins * corpus.meta.frames;
    for (augmented, plain) in
        set.spectrograms.chunks_exact(50 * row).zip(whole(&plain).spectrograms.chunks_exact(2 * row))
    {
        assert_eq!(augmented[..2 * row], *plain);
    }
    assert_eq!(whole(&plain).deformed, [0; 0]);

    // the lowest tone's own bands tell every pitch shift from every other
    let band = |i: usize| {
        let sums = set.spectrograms[i * row..(i + 1) * row].chunks_exact(80).map(|frames| frames[10..50].iter().sum());
        let sums: Vec<f32> = sums.collect();
        (0..80).max_by(|&a, &b| sums[a].total_cmp(&sums[b])).unwrap()
    };
    let of_track = 50 * 7; // 1,350 Hz
    for (k, Deformation { rate, steps }) in DEFORMATIONS.iter().enumerate() {
        let hz = 1_350.0 * 2f64.powf(steps / 12.0);
        let mel = if hz < 1_000.0 { 3.0 * hz / 200.0 } else { 15.0 + 27.0 * (hz / 1_000.0).ln() / 6.4f64.ln() };
        let top = 15.0 + 27.0 * 11.025f64.ln() / 6.4f64.ln();
        let expected = mel / top * 81.0 - 1.0;
        let found = band(of_track + 2 + 3 * k) as f64;
        assert!((found - expected).abs() <= 1.0, "x{rate} {steps}: band {found}, expected {expected:.1}");
    }

    for test_fraction in [0.25, 0.5] {
        is_clean(&split(corpus.clone(), &Split::Holdout { test_fraction }, Kind::Random, 3).unwrap(), &corpus);
    }
    let mut tested = BTreeSet::new();
    for fold in 0..4 {
        let data = split(corpus.clone(), &Split::Folds { folds: 4, fold }, Kind::Random, 3).unwrap();
        is_clean(&data, &corpus);
        for name in names(&data.test) {
            assert!(tested.insert(name.to_owned()), "{name} is tested twice");
        }
    }
    assert_eq!(tested.len(), 8);
}

#[test]
fn a_corpus_is_the_same_whatever_the_threads_and_comes_back_from_the_cache() {
    let (folder, store) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    tracks(folder.path());
    let cache = Cache::at(store.path());
    let files = || std::fs::read_dir(store.path()).unwrap().count();
    let threads = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    let one = threads(1).install(|| loaded(&Cache::none(), folder.path(), &settings()).unwrap());
    let three = threads(3).install(|| loaded(&cache, folder.path(), &settings()).unwrap());
    assert!(one == three, "it depends on the threads");
    assert_eq!(files(), 1);
    assert!(loaded(&cache, folder.path(), &settings()).unwrap() == one, "the cache gives another corpus");
    assert_eq!(files(), 1);
    let plain = loaded(&cache, folder.path(), &Settings { augment: false, ..settings() }).unwrap();
    assert_eq!((whole(&plain).deformed(), files()), (0, 2));
    let other = loaded(&cache, folder.path(), &Settings { seed: 4, ..settings() }).unwrap();
    assert_eq!(files(), 3);
    assert!(other != one, "the seed decides nothing");
}

#[test]
fn a_prepared_file_keeps_its_deformed_segments_and_cannot_get_them_later() {
    let folder = TempDir::new().unwrap();
    tracks(folder.path());
    let path = folder.path().join("x.safetensors");
    for augment in [true, false] {
        let settings = Settings { augment, ..settings() };
        let corpus = loaded(&Cache::none(), folder.path(), &settings).unwrap();
        let data = split(corpus, &Split::default(), Kind::Random, 3).unwrap();
        prepared::write(&path, &data, Kind::Random, &Default::default()).unwrap();
        let back = split(prepared::read(&path).unwrap(), &Split::default(), Kind::Random, 9).unwrap();
        assert_eq!(back, data);
        let taken = loaded(&Cache::none(), &path, &Settings { augment: true, ..settings.clone() });
        if augment {
            assert_eq!(taken.unwrap().notes, [""; 0]);
            let plain = loaded(&Cache::none(), &path, &Settings { augment: false, ..settings }).unwrap();
            assert!(plain.notes[0].ends_with("its 288 deformed segments are trained on"), "{:?}", plain.notes);
        } else {
            let message = line(taken);
            let expected =
                "holds no deformed segments, and augmentation needs audio: prepare the tracks with --augment";
            assert!(message.ends_with(expected), "{message}");
        }
    }
    let pickle = golden("pickles/numpy2-p2-course.pkl");
    let message = line(loaded(&Cache::none(), &pickle, &settings()));
    let expected = "holds single segments, and augmentation needs the audio of whole tracks: give their folder";
    assert!(message.ends_with(expected), "{message}");
}

#[test]
fn a_prepared_file_with_deformed_test_segments_is_refused() {
    let folder = TempDir::new().unwrap();
    tracks(folder.path());
    let corpus = loaded(&Cache::none(), folder.path(), &settings()).unwrap();
    let good = split(corpus, &Split::default(), Kind::Random, 3).unwrap();
    let path = folder.path().join("x.safetensors");
    let refused = |data: &Dataset| {
        prepared::write(&path, data, Kind::Random, &Default::default()).unwrap();
        line(prepared::read(&path))
    };
    let mut bad = good.clone();
    bad.test.deformed = vec![0; bad.test.len()];
    bad.test.deformed[1] = 3;
    assert!(refused(&bad).ends_with("test.deformed: the test set must hold no deformed segments"));
    let mut bad = good.clone();
    bad.train.deformed[5] = 17;
    assert!(refused(&bad).ends_with("train.deformed: row 5 has deformation 17, there are 16"));
    prepared::write(&path, &good, Kind::Random, &Default::default()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let short = TensorView::new(Dtype::I64, vec![2], &[0; 16]).unwrap();
    let tensors = file.tensors().into_iter().map(|(name, tensor)| match name.as_str() {
        "train.deformed" => (name, short.clone()),
        _ => (name, tensor),
    });
    std::fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
    let message = line(prepared::read(&path));
    assert!(message.ends_with("train.deformed: 2 values for 300 spectrograms"), "{message}");
}

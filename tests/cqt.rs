//! The constant-Q and wavelet front ends from outside: their definitions summed directly, librosa's values, signal laws,
//! and settings of every kind.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::f64::consts::{PI, TAU};
use std::path::Path;

use genregrad::audio::cqt::{C1, Settings};
use genregrad::audio::{FrontEnd, Kind, SEGMENT_SAMPLES};
use genregrad::rng::pcg;
use proptest::prelude::*;

const SR: f64 = 22_050.0;

/// From -1 to 1, the same in `tests/golden/librosa_cqt.py`.
fn noise(i: usize) -> f64 {
    f64::from(pcg(i as u32)) / 2f64.powi(31) - 1.0
}

fn sound(of: impl Fn(usize, f64) -> f64) -> Vec<f32> {
    (0..SEGMENT_SAMPLES).map(|n| of(n, n as f64 / SR) as f32).collect()
}

/// The signals of `tests/golden/librosa_cqt.py`.
fn golden_signals() -> [Vec<f32>; 4] {
    let chord = |root: f64, decay: f64, t: f64| -> f64 {
        let notes = [1.0, 1.25, 1.5].into_iter().flat_map(|interval| (1..=5).map(move |h| (interval, f64::from(h))));
        notes.map(|(interval, h)| (-decay * t).exp() * (TAU * root * interval * h * t).sin() / h).sum()
    };
    let clicks = |n: usize, t: f64| -> f64 {
        let click = |beat: usize| {
            let since = t - 0.11 - 0.22 * beat as f64;
            if since >= 0.0 { (-40.0 * since).exp() * noise(100_000 * beat + n) } else { 0.0 }
        };
        (0..4).map(click).sum()
    };
    [
        sound(|n, t| 0.1 * chord(110.0, 1.0, t) + 0.01 * noise(n)),
        sound(|n, _| 0.3 * noise(40_000 + n)),
        sound(|n, t| 0.5 * clicks(n, t) + 0.2 * (TAU * 55.0 * t).sin() * (-6.0 * t).exp() + 0.001 * noise(80_000 + n)),
        sound(|n, t| 0.2 * chord(87.31, 0.0, t) + 0.02 * noise(120_000 + n)),
    ]
}

fn transform(front_end: &FrontEnd, samples: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; front_end.bins() * front_end.frames(samples.len())];
    front_end.plan().unwrap().transform(samples, &mut out);
    out
}

/// One bin's filter as the definition has it: (offset of its first tap, taps as real and imaginary part).
fn taps(front_end: &FrontEnd, k: usize) -> (isize, Vec<(f64, f64)>) {
    let (FrontEnd::Cqt(s) | FrontEnd::Cwt(s)) = front_end else { panic!("no filters") };
    let (sr, f) = (f64::from(s.sr), s.fmin * 2f64.powf(k as f64 / s.bins_per_octave as f64));
    if front_end.kind() == Kind::Cqt {
        let r = 2f64.powf(1.0 / s.bins_per_octave as f64);
        let length = (r * r + 1.0) / (r * r - 1.0) * sr / f;
        // librosa's filters.wavelet: from -length // 2 to length // 2, under scipy's periodic Hann window
        let (from, to) = ((-length / 2.0).floor() as isize, (length / 2.0).floor() as isize);
        let n = (to - from) as f64;
        let window: Vec<f64> = (0..to - from).map(|i| 0.5 - 0.5 * (TAU * i as f64 / n).cos()).collect();
        let total: f64 = window.iter().sum();
        let tap = |(o, w): (isize, f64)| {
            let angle = TAU * f * o as f64 / sr;
            (length.sqrt() * w / total * angle.cos(), length.sqrt() * w / total * angle.sin())
        };
        (from, (from..to).zip(window).map(tap).collect())
    } else {
        let s = 6.0 * sr / (TAU * f);
        let reach = (9.0 * s) as isize;
        // turned round, because a wavelet is correlated with the sound and not convolved
        let tap = |o: isize| {
            let u = (-o as f64 - 0.5) / s;
            let bell = PI.powf(-0.25) / s.sqrt() * (-u * u / 2.0).exp();
            (bell * ((6.0 * u).cos() - (-18f64).exp()), bell * (6.0 * u).sin())
        };
        (-reach, (-reach..reach).map(tap).collect())
    }
}

/// `ln(|sum_o h[o] x[t hop - o]| + 1e-6)` in f64, term by term.
fn direct(front_end: &FrontEnd, (from, taps): &(isize, Vec<(f64, f64)>), samples: &[f32], t: usize) -> f64 {
    let (FrontEnd::Cqt(s) | FrontEnd::Cwt(s)) = front_end else { panic!("no filters") };
    let centre = (t * s.hop_length) as isize;
    let (mut re, mut im) = (0.0, 0.0);
    for (o, (a, b)) in (*from..).zip(taps) {
        let place = centre - o;
        let x = if place < 0 { 0.0 } else { samples.get(place as usize).map_or(0.0, |&x| f64::from(x)) };
        (re, im) = (re + a * x, im + b * x);
    }
    (re.hypot(im) + 1e-6).ln()
}

/// Differences from the definition, in nepers, sorted; every `step`-th frame.
fn errors(front_end: &FrontEnd, samples: &[f32], step: usize) -> Vec<f64> {
    let (out, frames) = (transform(front_end, samples), front_end.frames(samples.len()));
    let mut errors = Vec::new();
    for (k, row) in out.chunks(frames).enumerate() {
        let taps = taps(front_end, k);
        for t in (0..frames).step_by(step) {
            errors.push((f64::from(row[t]) - direct(front_end, &taps, samples, t)).abs());
        }
    }
    errors.sort_by(f64::total_cmp);
    errors
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

/// Both front ends on sounds of every kind: the sums are those of the definition, to the rounding of the f32 result, even
/// where a loud tone stands 150 dB above a bin.
#[test]
fn every_cell_is_the_definitions_sum() {
    let [chords, hiss, drums, organ] = golden_signals();
    let sweep = |t: f64| 0.4 * (TAU * (50.0 * t + 0.5 * 9_950.0 / 0.928 * t * t)).sin();
    let sounds = [
        ("chords", chords),
        ("noise", hiss),
        ("drums", drums),
        ("organ", organ),
        ("quiet noise", sound(|n, _| 1e-4 * noise(n))),
        ("a low tone, full scale", sound(|_, t| (TAU * 110.0 * t).sin())),
        ("a high tone, full scale", sound(|_, t| (TAU * 3_000.0 * t).sin())),
        ("a square wave", sound(|_, t| (TAU * 220.0 * t).sin().signum())),
        ("a chirp", sound(|_, t| sweep(t))),
        ("a click", sound(|n, _| if n == 10_000 { 1.0 } else { 0.0 })),
        ("a constant", sound(|_, _| 0.7)),
        ("far too loud", sound(|n, _| 1e6 * noise(n))),
    ];
    for kind in [Kind::Cqt, Kind::Cwt] {
        let front_end = FrontEnd::from(kind);
        for (name, samples) in &sounds {
            let errors = errors(&front_end, samples, 3);
            let (common, worst) = (quantile(&errors, 0.99), quantile(&errors, 1.0));
            println!("{front_end}, {name}: {common:.1e} nepers for 99 %, {worst:.1e} at worst");
            // an f32 near ln(1e-6) is good to 5e-7, its logarithm to 3e-6
            assert!(common < 1e-5 && worst < 1e-3, "{front_end}, {name}: {common:e}, at worst {worst:e}");
        }
    }
}

fn golden(name: &str) -> (Vec<usize>, Vec<f32>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let npy = npyz::NpyFile::new(std::fs::File::open(path).unwrap()).unwrap();
    (npy.shape().iter().map(|&n| n as usize).collect(), npy.into_vec().unwrap())
}

/// How far librosa's recursive downsampling lies from the definition, in dB: measured 0.07 at the median and 1.4 for
/// 99 % of the cells of these sounds.
#[test]
fn librosa_is_near() {
    let signals = golden_signals();
    let (shape, theirs) = golden("librosa_cqt.npy");
    assert_eq!(shape, [4, 80, 80]);
    let (shape, their_84) = golden("librosa_cqt_84.npy");
    assert_eq!(shape, [84, 80]);
    let cqt = FrontEnd::from(Kind::Cqt);
    let ours: Vec<f32> = signals.iter().flat_map(|signal| transform(&cqt, signal)).collect();
    let ours_84 = transform(&cqt.with_bins(84), &signals[0]);
    for (name, ours, theirs) in [("80 bins", ours, theirs), ("84 bins", ours_84, their_84)] {
        let db = 20.0 / std::f64::consts::LN_10;
        let mut errors: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| db * f64::from((a - b).abs())).collect();
        errors.sort_by(f64::total_cmp);
        let [median, most, worst] = [0.5, 0.99, 1.0].map(|share| quantile(&errors, share));
        println!("{name}: librosa is {median:.3} dB away at the median, {most:.2} for 99 %, {worst:.1} at worst");
        assert!(median < 0.12 && most < 2.5, "{name}: {median} dB at the median, {most} for 99 %");
    }
}

#[test]
fn a_tone_peaks_in_its_bin_with_half_its_amplitude_times_the_root_of_the_length() {
    for kind in [Kind::Cqt, Kind::Cwt] {
        let front_end = FrontEnd::from(kind).with_bins(84);
        let settings = Settings { n_bins: 84, ..Settings::default() };
        for bin in [14, 30, 45, 57, 79, 83] {
            let hz = settings.frequency(bin);
            let out = transform(&front_end, &sound(|_, t| 0.5 * (TAU * hz * t).sin()));
            let at = |k: usize| out[k * 80 + 40];
            let peak = (0..84).max_by(|&a, &b| at(a).total_cmp(&at(b))).unwrap();
            assert_eq!(peak, bin, "{front_end}, {hz} Hz");
            let expected = match kind {
                Kind::Cqt => 0.25 * (SR / hz / 0.057_698_109_8).sqrt(),
                // the Gaussian's area: pi^(-1/4) s^(-1/2) s sqrt(2 pi)
                _ => 0.25 * PI.powf(-0.25) * (6.0 * SR / (TAU * hz)).sqrt() * TAU.sqrt(),
            };
            assert!((f64::from(at(bin)) - expected.ln()).abs() < 2e-3, "{front_end}, {hz} Hz: {}", at(bin));
        }
    }
}

/// An impulse shows a filter itself: flat in frequency where it is, up to the filters' heights, and short where they are.
#[test]
fn an_impulse_stays_where_it_is() {
    let samples = sound(|n, _| if n == 40 * 256 { 1.0 } else { 0.0 });
    let out = transform(&FrontEnd::from(Kind::Cqt), &samples);
    for k in 0..80 {
        let length = Settings::default().length(k);
        // sqrt(L) w / (N / 2) with w = 1 but for half a sample
        let height = 2.0 / length.sqrt();
        let row = &out[k * 80..][..80];
        assert!((f64::from(row[40]) - height.ln()).abs() < 0.02, "bin {k}: {} for {}", row[40], height.ln());
        for (t, &x) in row.iter().enumerate() {
            if (t.abs_diff(40) * 256) as f64 > length / 2.0 + 1.0 {
                assert!((x - 1e-6f32.ln()).abs() < 1e-5, "bin {k}, frame {t}: {x}");
            }
        }
    }
}

/// Silence, single samples, every length around a frame, and more than a tile.
#[test]
fn every_length_works_and_a_longer_sound_begins_like_a_shorter_one() {
    let long: Vec<f32> = (0..200_000).map(|n| 0.3 * noise(n) as f32).collect();
    for kind in [Kind::Cqt, Kind::Cwt] {
        let front_end = FrontEnd::from(kind);
        for length in [0, 1, 2, 255, 256, 257, 511, 512, 5_000, 24_319, 24_320, 24_577] {
            let silence = transform(&front_end, &vec![0.0; length]);
            assert!(silence.iter().all(|&x| (x - 1e-6f32.ln()).abs() < 2e-6), "{length} samples");
            let errors = errors(&front_end, &long[..length], 7);
            assert!(quantile(&errors, 1.0) < 1e-3, "{front_end}, {length} samples: {:e}", quantile(&errors, 1.0));
        }
        // several tiles
        assert!(quantile(&errors(&front_end, &long, 40), 1.0) < 1e-3, "{front_end}");
        // a cut sound agrees with the whole one wherever no filter reaches the cut
        let (whole, part) = (transform(&front_end, &long), transform(&front_end, &long[..60_000]));
        let (whole_frames, part_frames) = (front_end.frames(200_000), front_end.frames(60_000));
        for k in 0..80 {
            for t in 0..(60_000 - 6_200) / 256 {
                let (a, b) = (whole[k * whole_frames + t], part[k * part_frames + t]);
                assert!((a - b).abs() < 1e-5, "{front_end}, bin {k}, frame {t}: {a} and {b}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Hops with and without divisors, low and high notes, many and few bins.
    #[test]
    fn other_settings_are_the_definitions_sum_too(
        hop_length in prop_oneof![1usize..40, 40usize..700, Just(500), Just(512), Just(441), Just(1024), 700usize..6_000],
        n_bins in 1usize..30,
        bins_per_octave in 3usize..40,
        fmin in 60f64..900.0,
        length in 0usize..9_000,
        wavelets in any::<bool>(),
    ) {
        let settings = Settings { sr: 22_050, hop_length, n_bins, bins_per_octave, fmin };
        let front_end = if wavelets { FrontEnd::Cwt(settings) } else { FrontEnd::Cqt(settings) };
        prop_assume!(front_end.check().is_ok());
        let samples: Vec<f32> = (0..length).map(|n| 0.5 * noise(n + hop_length) as f32).collect();
        let frames = front_end.frames(length);
        let errors = errors(&front_end, &samples, 1 + frames / 40);
        prop_assert!(quantile(&errors, 1.0) < 1e-3, "{:e}", quantile(&errors, 1.0));
    }

    /// Whatever the settings: refused in one line, or planned.
    #[test]
    fn settings_are_refused_or_work(
        sr in prop_oneof![Just(0u32), Just(8_000), Just(22_050), Just(44_100), any::<u32>()],
        hop_length in prop_oneof![Just(0usize), 1usize..3_000, Just(usize::MAX)],
        n_bins in prop_oneof![Just(0usize), 1usize..200, Just(usize::MAX)],
        bins_per_octave in prop_oneof![Just(0usize), 1usize..60, Just(usize::MAX)],
        fmin in prop_oneof![Just(0.0), Just(-1.0), Just(f64::NAN), Just(f64::INFINITY), 100f64..20_000.0, Just(1e-9)],
    ) {
        let settings = Settings { sr, hop_length, n_bins, bins_per_octave, fmin };
        for front_end in [FrontEnd::Cqt(settings.clone()), FrontEnd::Cwt(settings.clone())] {
            match front_end.check() {
                Err(error) => prop_assert!(!error.one_line().contains('\n')),
                Ok(()) if sr < 50_000 => {
                    let out = transform(&front_end, &[0.5, f32::MIN_POSITIVE / 2.0, -0.25]);
                    prop_assert!(out.iter().all(|x| x.is_finite()));
                }
                Ok(()) => {}
            }
        }
    }
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let good = Settings::default;
    for (bad, words) in [
        (Settings { sr: 0, ..good() }, "a sample rate of 0 Hz"),
        (Settings { hop_length: 0, ..good() }, "hop_length must be 1 to 65536 samples, got 0"),
        (Settings { hop_length: 1 << 20, ..good() }, "hop_length must be 1 to 65536 samples"),
        (Settings { n_bins: 0, ..good() }, "n_bins must be at least 1, got 0"),
        (Settings { n_bins: 102, ..good() }, "102 bins from 32.7"),
        (Settings { n_bins: 102, ..good() }, "at most 101"),
        (Settings { n_bins: 300, ..good() }, "at most 101"),
        (Settings { n_bins: usize::MAX, ..good() }, "at most 101"),
        (Settings { bins_per_octave: 0, ..good() }, "bins_per_octave must be 1 to 1200, got 0"),
        (
            Settings { fmin: 12_000.0, ..good() },
            "fmin 12000 Hz is too near half the sample rate (11025 Hz) or above it",
        ),
        (Settings { fmin: 0.0, ..good() }, "fmin must be a positive number of Hz, got 0"),
        (Settings { fmin: f64::NAN, ..good() }, "fmin must be a positive number of Hz, got NaN"),
        (Settings { fmin: 0.01, ..good() }, "too long"),
    ] {
        for (front_end, name) in [(FrontEnd::Cqt(bad.clone()), "cqt: "), (FrontEnd::Cwt(bad.clone()), "cwt: ")] {
            let line = front_end.check().expect_err("it was accepted").one_line();
            assert!(line.starts_with(name) && line.contains(words), "{line}: expected {words:?}");
            assert!(front_end.plan().is_err());
        }
    }
    assert!((C1 - 440.0 * 2f64.powf(-3.75)).abs() < 1e-12);
    // what is proposed works, and one more does not
    let most = |n_bins| FrontEnd::Cqt(Settings { n_bins, ..good() }).check().is_ok();
    assert!(most(101) && !most(102));
}

/// `cargo test --release --test cqt -- --ignored --nocapture speed`
#[test]
#[ignore = "a measurement"]
fn speed() {
    let [signal, ..] = golden_signals();
    for kind in [Kind::Mel, Kind::Linear, Kind::Cqt, Kind::Cwt] {
        let start = std::time::Instant::now();
        let plan = FrontEnd::from(kind).plan().unwrap();
        let planned = start.elapsed();
        let mut out = vec![0.0; 80 * 80];
        let mut rounds: Vec<f64> = (0..30)
            .map(|_| {
                let start = std::time::Instant::now();
                (0..100).for_each(|_| plan.transform(&signal, &mut out));
                start.elapsed().as_secs_f64() * 1e4
            })
            .collect();
        rounds.sort_by(f64::total_cmp);
        let (least, median) = (rounds[0], rounds[15]);
        println!("{kind:?}: {least:.1} µs a segment at best, {median:.1} at the median; planned in {planned:.1?}");
    }
}

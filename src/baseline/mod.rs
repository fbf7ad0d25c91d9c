//! What came before the nets: MFCCs and one mixture of Gaussians a genre, measured exactly as the nets are.
//!
//! Every frame of a training segment gives its first mel-frequency cepstral coefficients; a genre is the mixture under
//! which its training frames are likeliest, and a segment belongs to the genre that makes its frames likeliest. No
//! order in time is heard, no rhythm: only the distribution of timbre. Read [`fit`] first, then [`mixture`].
//!
//! # Source
//! G. Tzanetakis and P. Cook, "Musical genre classification of audio signals" (2002), who made GTZAN, classified it by
//! Gaussian mixtures of such features; the paper's related work argues from there.

pub mod mixture;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::audio::Kind;
use crate::audio::mfcc::Mfcc;
use crate::data::{Dataset, Set, split};
use crate::error::{Error, Result};
use crate::rng;
use crate::train::evaluate::{Accuracies, Evaluation, TrackPrediction, evaluate};
use crate::train::results::DataSummary;

use mixture::{Density, Mixture};

/// Spreads below this are those of rounding: such a coefficient is constant, and is not blown up.
const CONSTANT: f64 = 1e-9;

/// So many standard deviations from the mean a frame is as strange as can be; farther ones would overflow.
const FARTHEST: f64 = 1e6;

/// How the baseline is made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Cepstral coefficients of a frame, from number 0.
    pub coefficients: usize,
    /// Gaussians of a genre.
    pub components: usize,
    /// Steps of expectation and maximisation.
    pub iterations: usize,
    /// Smallest variance of a Gaussian, in variances of all training frames.
    pub variance_floor: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { coefficients: 13, components: 16, iterations: 50, variance_floor: 1e-3 }
    }
}

impl Settings {
    /// Refuses what makes no sense by itself.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting.
    pub fn check(&self) -> Result<()> {
        let Settings { components, iterations, variance_floor, .. } = *self;
        let fault = if !(1..=1024).contains(&components) {
            format!("baseline: components: expected 1 to 1024, got {components}")
        } else if !(1..=10_000).contains(&iterations) {
            format!("baseline: iterations: expected 1 to 10000, got {iterations}")
        } else if !(variance_floor.is_finite() && variance_floor > 0.0) {
            format!("baseline: variance_floor: expected a positive number, got {variance_floor}")
        } else {
            return Ok(());
        };
        Err(Error::Config(fault))
    }
}

/// A test set heard through the baseline.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The accuracies, the confusion matrix, and every test track.
    pub evaluation: Evaluation,
    /// `[N, classes]` of the test segments: the mean of `ln p` over a segment's frames under a class's mixture, in nats
    /// a frame. What a net's logits are to it.
    pub scores: Vec<f32>,
}

/// The baseline's `results.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// How it was made.
    pub settings: Settings,
    /// Where the mixtures started.
    pub seed: u64,
    /// How tracks were divided.
    pub split: split::Kind,
    /// Which fold was tested on, where there are folds.
    #[serde(default)]
    pub fold: Option<usize>,
    /// The data.
    pub data: DataSummary,
    /// The accuracies on the test set, percent.
    pub accuracies: Accuracies,
    /// `confusion[truth][predicted by max]`, in tracks.
    pub confusion: Vec<Vec<u32>>,
    /// Every test track.
    pub tracks: Vec<TrackPrediction>,
    /// Wall time, s.
    pub seconds: f64,
}

/// Fits a mixture a class to the training set of `dataset`, deformed segments included, and classifies its test set.
///
/// Coefficients are standardised by mean and deviation over all training frames. Scores are means over frames, not
/// sums: a sum over 80 neighbouring frames counts each as if it were independent of the next, and its softmax would be
/// 0 or 1 for nearly every segment. Raw and majority vote are the same for both, and so is max by summed scores, where
/// all segments have one length; genres are taken for equally probable.
///
/// The same data, settings and seed give the same bits on any number of threads.
///
/// # Errors
/// [`Error::Config`] for settings without sense and for any front end but log-mel; [`Error::Data`] for numbers that are
/// not finite, and for a class with fewer training frames than components.
pub fn fit(dataset: &Dataset, settings: &Settings, seed: u64) -> Result<Outcome> {
    settings.check()?;
    let Dataset { meta, train, test } = dataset;
    if meta.front_end.kind() != Kind::Mel {
        let message = format!("baseline: MFCCs are made of log-mel spectrograms, not of {}", meta.front_end);
        return Err(Error::Config(message));
    }
    let mfcc = Mfcc::new(meta.bins, settings.coefficients)?;
    let row = meta.bins * meta.frames;
    for (side, set) in [("training", train), ("test", test)] {
        if let Some(at) = set.spectrograms.iter().position(|value| !value.is_finite()) {
            let message = format!("{side} segment {} holds {}", at / row, set.spectrograms[at]);
            return Err(Error::data(&meta.name, message));
        }
    }
    // [segments, frames, coefficients]
    let segment = meta.frames * settings.coefficients;
    let cepstra = |set: &Set| {
        let mut out = vec![0.0; set.len() * segment];
        let pairs = out.par_chunks_exact_mut(segment).zip(set.spectrograms.par_chunks_exact(row));
        pairs.for_each(|(out, spectrogram)| mfcc.transform(spectrogram, out));
        out
    };
    let (mut trained, mut tested) = (cepstra(train), cepstra(test));
    let scale = spread(&trained, settings.coefficients);
    standardise(&mut trained, &scale);
    standardise(&mut tested, &scale);

    let mut classes = Vec::with_capacity(meta.classes.len());
    for (label, name) in meta.classes.iter().enumerate() {
        let own = trained.chunks_exact(segment).zip(&train.labels).filter(|(_, of)| **of as usize == label);
        let frames = own.flat_map(|(segment, _)| segment).copied().collect::<Vec<f32>>();
        let count = frames.len() / settings.coefficients;
        if count < settings.components {
            let message = format!(
                "class {name} has {count} training frames for {} components; take fewer components, or more segments",
                settings.components
            );
            return Err(Error::data(&meta.name, message));
        }
        classes.push(learned(&frames, settings, seed, name).density());
    }
    let scored = |frames: &[f32]| {
        let score = |class: &Density| class.mean_log_likelihood(frames).clamp(f32::MIN.into(), f32::MAX.into()) as f32;
        classes.iter().map(score).collect::<Vec<f32>>()
    };
    let scores: Vec<f32> = tested.par_chunks_exact(segment).flat_map_iter(scored).collect();
    Ok(Outcome { evaluation: evaluate(&scores, test, classes.len()), scores })
}

/// The mixture of the class `name`.
fn learned(frames: &[f32], settings: &Settings, seed: u64, name: &str) -> Mixture {
    let Settings { coefficients, components, iterations, variance_floor } = *settings;
    let mut rng = rng::stream(seed, &format!("baseline/{name}"));
    let start = Mixture::start(frames, coefficients, components, variance_floor, &mut rng);
    (0..iterations).fold(start, |mixture, _| mixture.improved(frames, variance_floor).0)
}

/// Mean and deviation of every coefficient over `frames [N, coefficients]`; a constant one's deviation counts as 1.
fn spread(frames: &[f32], coefficients: usize) -> Vec<(f64, f64)> {
    let count = (frames.len() / coefficients) as f64;
    let sum = |k: usize, of: &dyn Fn(f64) -> f64| -> f64 {
        frames.iter().skip(k).step_by(coefficients).map(|&x| of(x.into())).sum()
    };
    let of = |k| {
        let mean = sum(k, &|x| x) / count;
        let deviation = (sum(k, &|x| (x - mean).powi(2)) / count).sqrt();
        (mean, if deviation > CONSTANT { deviation } else { 1.0 })
    };
    (0..coefficients).map(of).collect()
}

fn standardise(frames: &mut [f32], scale: &[(f64, f64)]) {
    for frame in frames.chunks_exact_mut(scale.len()) {
        for (x, (mean, deviation)) in frame.iter_mut().zip(scale) {
            *x = ((f64::from(*x) - mean) / deviation).clamp(-FARTHEST, FARTHEST) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::FrontEnd;
    use crate::audio::mel::FLOOR;
    use crate::data::cache::Cache;
    use crate::data::load::{Source, load_with};
    use crate::data::split::{self, Split};
    use crate::data::{Meta, segments};

    /// Two classes of `tracks` tracks with two segments of 2 frames each: class 0 is loud at the bottom, class 1 at the
    /// top.
    fn tilted(tracks: usize, tilt: f32) -> Set {
        let mut set = Set::default();
        for track in 0..2 * tracks {
            let sign = if track < tracks { tilt } else { -tilt };
            for segment in 0..2 {
                let value = |i: usize| {
                    let (b, t) = ((i / 2) as f32, (i % 2) as f32);
                    sign * (b - 39.5) / 40.0 - 4.0
                        + 0.3 * (b * 2.0 + 7.0 * t + track as f32 + 31.0 * segment as f32).sin()
                };
                set.spectrograms.extend((0..160).map(value));
                set.labels.push(u32::from(track >= tracks));
                set.tracks.push(track as u32);
            }
            set.track_names.push(format!("{track}"));
        }
        set
    }

    fn dataset(train: Set, test: Set) -> Dataset {
        let classes = ["low", "high"].map(String::from).to_vec();
        let meta = Meta {
            name: "tilted".into(),
            synthetic: false,
            classes,
            front_end: FrontEnd::default(),
            bins: 80,
            frames: 2,
        };
        Dataset { meta, train, test }
    }

    const SMALL: Settings = Settings { coefficients: 4, components: 2, iterations: 10, variance_floor: 1e-3 };

    #[test]
    fn what_differs_in_timbre_is_told_apart() {
        let data = dataset(tilted(6, 1.0), tilted(3, 0.9));
        let Outcome { evaluation, scores } = fit(&data, &SMALL, 1).unwrap();
        assert_eq!(
            (evaluation.accuracies.raw, evaluation.accuracies.max, evaluation.accuracies.maj),
            (100.0, 100.0, 100.0)
        );
        assert_eq!(evaluation.confusion, [[3, 0], [0, 3]]);
        assert_eq!((scores.len(), evaluation.segments, evaluation.tracks.len()), (24, 12, 6));
        assert!(scores.iter().all(|score| score.is_finite()));
    }

    #[test]
    fn silence_and_constants_have_finite_scores() {
        let silent = FLOOR.ln();
        let mut train = tilted(3, 1.0);
        train.spectrograms[..160].fill(silent);
        let mut test = tilted(2, 1.0);
        test.spectrograms[..320].fill(silent);
        test.spectrograms[320..480].fill(3e38);
        for (train, test) in [(train.clone(), test.clone()), (tilted(3, 0.0), test)] {
            let outcome = fit(&dataset(train, test), &SMALL, 1).unwrap();
            assert!(outcome.scores.iter().all(|score| score.is_finite()), "{:?}", outcome.scores);
        }
        // nothing varies at all: nothing is known, and class 0 wins every tie
        train.spectrograms.fill(silent);
        let mut test = tilted(2, 1.0);
        test.spectrograms.fill(silent);
        let outcome = fit(&dataset(train, test), &SMALL, 1).unwrap();
        assert!(outcome.scores.iter().all(|score| score.is_finite()), "{:?}", outcome.scores);
        assert_eq!(outcome.evaluation.accuracies.max, 50.0);
    }

    #[test]
    fn bad_input_is_refused() {
        let message = |data: &Dataset, settings: &Settings| fit(data, settings, 1).unwrap_err().one_line();
        let good = dataset(tilted(3, 1.0), tilted(2, 1.0));
        for (settings, expected) in [
            (Settings { coefficients: 0, ..SMALL }, "mfcc: expected 1 to 80 coefficients of 80 bands, got 0"),
            (Settings { coefficients: 81, ..SMALL }, "mfcc: expected 1 to 80 coefficients of 80 bands, got 81"),
            (Settings { components: 0, ..SMALL }, "baseline: components: expected 1 to 1024, got 0"),
            (Settings { iterations: 0, ..SMALL }, "baseline: iterations: expected 1 to 10000, got 0"),
            (Settings { variance_floor: 0.0, ..SMALL }, "baseline: variance_floor: expected a positive number, got 0"),
            (
                Settings { components: 13, ..SMALL },
                "tilted: class low has 12 training frames for 13 components; take fewer components, or more segments",
            ),
        ] {
            assert_eq!(message(&good, &settings), expected);
        }
        let mut broken = good.clone();
        broken.test.spectrograms[170] = f32::NAN;
        assert_eq!(message(&broken, &SMALL), "tilted: test segment 1 holds NaN");
        let mut cqt = good.clone();
        cqt.meta.front_end = Kind::Cqt.into();
        assert_eq!(message(&cqt, &SMALL), "baseline: MFCCs are made of log-mel spectrograms, not of CQT");
        let mut absent = good;
        absent.train.labels.fill(0);
        assert!(message(&absent, &SMALL).contains("class high has 0 training frames"));
    }

    #[test]
    fn on_the_built_in_corpus_it_is_above_chance_and_the_same_on_any_number_of_threads() {
        let (source, making) =
            (Source::Synthetic { tracks_per_genre: 6 }, segments::Settings { segments: 6, ..Default::default() });
        let corpus = load_with(&Cache::none(), &source, &making, &|_, _| {}).unwrap();
        let data = split::split(corpus, &Split::Holdout { test_fraction: 0.34 }, split::Kind::Random, 1).unwrap();
        let settings = Settings { components: 4, iterations: 10, ..Settings::default() };
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| fit(&data, &settings, 1).unwrap())
        };
        let outcome = on(1);
        // 20 tracks of ten genres: by chance 2 are right, and 7 or more in one of 400 tries
        assert!(outcome.evaluation.accuracies.max >= 35.0, "{:?}", outcome.evaluation.accuracies);
        let bits = |outcome: &Outcome| outcome.scores.iter().map(|score| score.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&outcome), bits(&on(3)));
        assert_ne!(bits(&outcome), bits(&fit(&data, &settings, 2).unwrap()), "the start is drawn");
    }
}

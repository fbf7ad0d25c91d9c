//! What a net's logits on the test set are worth: the study's three accuracies and the confusion matrix.

use serde::{Deserialize, Serialize};

use crate::data::Set;
use crate::device::Device;
use crate::error::Result;
use crate::models::Net;
use crate::run::{Feed, Plan, Table};
use crate::tape::Step;
use crate::tensor::Params;

use super::program::EvaluateProgram;

/// Segments of one forward pass.
pub(super) const BATCH: usize = 30;

/// Shares of correct predictions, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracies {
    /// Of single segments: the class of the largest logit.
    pub raw: f64,
    /// Of tracks: the class of the largest sum of logits over the track's segments (the report's code).
    pub max: f64,
    /// Of tracks: the class of the largest sum of probabilities (the paper's text).
    pub max_probabilities: f64,
    /// Of tracks: the class that most segments vote for; ties go to the lowest class.
    pub maj: f64,
}

/// One test track.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrackPrediction {
    /// Its name.
    pub track: String,
    /// Its class.
    pub label: u32,
    /// Predicted by the sum of logits.
    pub max: u32,
    /// Predicted by the sum of probabilities.
    pub max_probabilities: u32,
    /// Predicted by majority vote.
    pub maj: u32,
}

/// A test set seen through a net.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The accuracies, percent.
    pub accuracies: Accuracies,
    /// `confusion[truth][predicted by max]`, in tracks.
    pub confusion: Vec<Vec<u32>>,
    /// Every test track.
    pub tracks: Vec<TrackPrediction>,
    /// Number of test segments.
    pub segments: usize,
}

/// A forward program ready on a device, for one net and one test set, which stays there.
#[derive(Debug)]
pub struct Evaluator<'d> {
    program: EvaluateProgram,
    plan: Plan,
    feed: Feed<'d>,
}

impl<'d> Evaluator<'d> {
    /// Compiles the forward pass of `net` on spectrograms `[bins, frames]`, fused or not, and feeds it with `set`.
    ///
    /// # Errors
    /// Those of [`Plan::new`] and [`Plan::feed`].
    pub fn new(
        net: &Net,
        size: [usize; 2],
        fuse: bool,
        device: &Device,
        params: &Params,
        set: &'d Set,
    ) -> Result<Self> {
        let [bins, frames] = size;
        let program = EvaluateProgram::record(net, [BATCH, bins, frames])?.fused(fuse);
        let mut plan = Plan::new(&program.tape, device, params)?;
        let table = Table { input: program.spectrograms, data: &set.spectrograms, filled: 0.0 };
        let mut feed = plan.feed(&[table], set.len())?;
        plan.order(&mut feed, &(0..set.len() as u32).collect::<Vec<_>>())?;
        Ok(Evaluator { program, plan, feed })
    }

    /// The logits `[N, classes]` of the test set under `params`.
    ///
    /// # Errors
    /// Those of the plan.
    pub fn logits(&mut self, params: &Params) -> Result<Vec<f32>> {
        self.plan.set_params(params)?;
        self.plan.over(&self.feed, self.program.logits, &Step::new(1, 0, 0.0))
    }
}

/// The index of the largest value, the first of equals.
pub fn argmax<T: PartialOrd>(values: &[T]) -> usize {
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

/// Probabilities of one row of logits, in f64.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().fold(f64::NEG_INFINITY, |a, &z| a.max(f64::from(z)));
    let exps: Vec<f64> = logits.iter().map(|&z| (f64::from(z) - largest).exp()).collect();
    let total: f64 = exps.iter().sum();
    exps.iter().map(|e| e / total).collect()
}

/// Share of segments whose largest logit is their label's, in percent.
pub fn raw_accuracy(logits: &[f32], labels: &[u32]) -> f64 {
    let classes = logits.len() / labels.len().max(1);
    let hits = logits.chunks_exact(classes.max(1)).zip(labels).filter(|(z, label)| argmax(z) == **label as usize);
    100.0 * hits.count() as f64 / labels.len().max(1) as f64
}

/// All that the study says of `logits [N, classes]` on `set`.
pub fn evaluate(logits: &[f32], set: &Set, classes: usize) -> Evaluation {
    let mut tracks = Vec::new();
    let mut confusion = vec![vec![0; classes]; classes];
    let mut first = 0;
    // The segments of a track stand together.
    for run in set.tracks.chunk_by(|a, b| a == b) {
        let rows = logits[first * classes..].chunks_exact(classes).take(run.len());
        let (mut sum, mut likelihood, mut votes) = (vec![0.0f64; classes], vec![0.0f64; classes], vec![0u32; classes]);
        for z in rows {
            votes[argmax(z)] += 1;
            for (k, p) in softmax(z).into_iter().enumerate() {
                sum[k] += f64::from(z[k]);
                likelihood[k] += p;
            }
        }
        let label = set.labels[first];
        let prediction = TrackPrediction {
            track: set.track_names[run[0] as usize].clone(),
            label,
            max: argmax(&sum) as u32,
            max_probabilities: argmax(&likelihood) as u32,
            maj: argmax(&votes) as u32,
        };
        confusion[label as usize][prediction.max as usize] += 1;
        tracks.push(prediction);
        first += run.len();
    }
    let share = |hit: fn(&TrackPrediction) -> bool| {
        100.0 * tracks.iter().filter(|track| hit(track)).count() as f64 / tracks.len().max(1) as f64
    };
    let accuracies = Accuracies {
        raw: raw_accuracy(logits, &set.labels),
        max: share(|t| t.max == t.label),
        max_probabilities: share(|t| t.max_probabilities == t.label),
        maj: share(|t| t.maj == t.label),
    };
    Evaluation { accuracies, confusion, tracks, segments: set.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_predictions_by_hand() {
        // Track 0 (class 0): two weak votes for 0, one overwhelming for 1: maj right, max wrong (the report's track 58).
        // Track 1 (class 1): one vote each: the tie goes to class 0; sums favour 1: max right, maj wrong.
        let set = Set {
            spectrograms: vec![],
            labels: vec![0, 0, 0, 1, 1],
            tracks: vec![0, 0, 0, 1, 1],
            track_names: vec!["a".into(), "b".into()],
            ..Set::default()
        };
        let logits = [1.0, 0.0, 1.0, 0.0, 0.0, 9.0, 0.5, 0.0, 0.0, 2.0];
        let result = evaluate(&logits, &set, 2);
        assert_eq!(result.accuracies.raw, 60.0);
        assert_eq!(result.accuracies.max, 50.0);
        assert_eq!(result.accuracies.maj, 50.0);
        assert_eq!((result.tracks[0].maj, result.tracks[0].max), (0, 1));
        assert_eq!((result.tracks[1].maj, result.tracks[1].max), (0, 1));
        assert_eq!(result.confusion, [[0, 1], [0, 1]]);
        // Probabilities cap the overwhelming segment: 2 * 0.731 + 0.000 against 2 * 0.269 + 1.000: still class 1 wins
        // by 1.538 to 1.462.
        assert_eq!(result.tracks[0].max_probabilities, 1);
    }

    #[test]
    fn softmax_sums_to_one_for_large_logits() {
        let p = softmax(&[1000.0, 1000.0, -1000.0]);
        assert_eq!(p, [0.5, 0.5, 0.0]);
    }
}

//! Single tracks worth a look: where max and maj disagree, and where both are wrong (the report's section IX).

use std::collections::HashMap;

use crate::data::sound::{self, Sound};
use crate::error::{Error, Result};
use crate::train::evaluate::{TrackPrediction, argmax, softmax};
use crate::train::results::{Run, SegmentPrediction};

/// A segment as the net saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// Its number within the track, from 0.
    pub number: u32,
    /// The probability of every class, by softmax; they add up to 1.
    pub confidences: Vec<f64>,
    /// The class of the largest one.
    pub predicted: u32,
}

/// A test track as the net saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The track, its class and the verdicts on it.
    pub verdict: TrackPrediction,
    /// Its segments.
    pub segments: Vec<Segment>,
}

impl Example {
    /// The mean over the segments of the confidence in `class`.
    pub fn confidence(&self, class: u32) -> f64 {
        let sum: f64 = self.segments.iter().map(|segment| segment.confidences[class as usize]).sum();
        sum / self.segments.len() as f64
    }

    /// How many segments were taken for `class`.
    pub fn votes(&self, class: u32) -> usize {
        self.segments.iter().filter(|segment| segment.predicted == class).count()
    }

    /// Its segments as `sound` has them, which is of the run's data.
    ///
    /// # Errors
    /// Those of [`Sound::segments`]; [`Error::Config`] if they are other segments than those that the net saw.
    pub fn heard(&self, sound: &Sound) -> Result<Vec<sound::Segment>> {
        let heard = sound.segments(&self.verdict.track)?;
        let (now, then) = (heard.len(), self.segments.len());
        if now != then {
            let message = format!("track {} has {now} segments now, not {then} as in the run", self.verdict.track);
            return Err(Error::Config(message));
        }
        Ok(heard)
    }

    /// Whether max and maj name different classes.
    pub fn is_disputed(&self) -> bool {
        self.verdict.max != self.verdict.maj
    }

    /// Whether neither max nor maj names the track's class.
    pub fn is_wrong(&self) -> bool {
        let TrackPrediction { label, max, maj, .. } = self.verdict;
        max != label && maj != label
    }
}

/// Every test track of `run`, the most confident first: by the mean confidence in the class that max names. `segments` are
/// those of [`results::segments`](crate::train::results::segments).
///
/// # Errors
/// [`Error::Data`] if the run's tracks and segments do not belong together.
pub fn of(run: &Run, segments: &[SegmentPrediction]) -> Result<Vec<Example>> {
    let classes = run.results.data.classes.len();
    let damaged = |track: &str| {
        let message = format!("its results and its segments disagree on track {track}; run evaluate or train again");
        Error::data(&run.folder, message)
    };
    let mut rows: HashMap<&str, &[SegmentPrediction]> = HashMap::new();
    for group in segments.chunk_by(|a, b| a.track == b.track) {
        if rows.insert(&group[0].track, group).is_some() {
            return Err(damaged(&group[0].track));
        }
    }
    let example = |verdict: &TrackPrediction| {
        let TrackPrediction { track, label, max, max_probabilities, maj } = verdict;
        let known = [label, max, max_probabilities, maj].iter().all(|class| (**class as usize) < classes);
        let fits = |row: &SegmentPrediction| row.label == *label && row.logits.len() == classes;
        match rows.get(track.as_str()) {
            Some(rows) if known && rows.iter().all(fits) => {
                let segment = |row: &SegmentPrediction| Segment {
                    number: row.segment,
                    confidences: softmax(&row.logits),
                    predicted: argmax(&row.logits) as u32,
                };
                Ok(Example { verdict: verdict.clone(), segments: rows.iter().map(segment).collect() })
            }
            _ => Err(damaged(track)),
        }
    };
    let mut examples: Vec<Example> = run.results.tracks.iter().map(example).collect::<Result<_>>()?;
    let confidence = |example: &Example| example.confidence(example.verdict.max);
    examples.sort_by(|a, b| confidence(b).total_cmp(&confidence(a)));
    Ok(examples)
}

/// Those on which max and maj disagree.
pub fn disputed(examples: &[Example]) -> Vec<&Example> {
    examples.iter().filter(|example| example.is_disputed()).collect()
}

/// Those on which both max and maj are wrong.
pub fn wrong(examples: &[Example]) -> Vec<&Example> {
    examples.iter().filter(|example| example.is_wrong()).collect()
}

/// The classes in the order of `confidences`, the most confident first; of equals the lowest.
pub fn ranking(confidences: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..confidences.len()).collect();
    order.sort_by(|&a, &b| confidences[b].total_cmp(&confidences[a]));
    order
}

/// A share between 0 and 1 as a whole number of percent; neither 0 nor 100 unless it is.
pub fn percent(share: f64) -> String {
    match 100.0 * share {
        p if p > 0.0 && p < 0.5 => "<1".to_string(),
        p if (99.5..100.0).contains(&p) => ">99".to_string(),
        p => p.round().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_rounded_honestly() {
        let shown = [0.0, 0.001, 0.005, 0.014, 0.5, 0.994, 0.996, 1.0].map(percent);
        assert_eq!(shown, ["0", "<1", "1", "1", "50", "99", ">99", "100"]);
    }

    #[test]
    fn the_most_confident_class_comes_first() {
        assert_eq!(ranking(&[0.1, 0.4, 0.1, 0.4]), [1, 3, 0, 2]);
    }
}

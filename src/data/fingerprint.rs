//! What a data set is known by again: a training that goes on must go on with the data it began with.

use serde::{Deserialize, Serialize};

use super::{Dataset, Set};

/// How far apart the means of the same spectrograms may lie: machines whose vectors are of different widths round them
/// differently, by some 1e-6; another track in place of one of a thousand moves the mean by some 1e-3.
const ROUNDING: f64 = 1e-4;

/// Which segments of which tracks a data set holds, in which order and on which side of the split, and how loud they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// A digest of everything but the spectrograms and the name of the corpus.
    layout: String,
    /// The mean of all spectrograms, in their unit.
    mean: f64,
}

impl Fingerprint {
    /// Of `dataset`.
    pub fn of(dataset: &Dataset) -> Self {
        let meta = &dataset.meta;
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{:?}", (&meta.classes, &meta.front_end, meta.bins, meta.frames)).as_bytes());
        for Set { spectrograms: _, labels, tracks, track_names, deformed } in [&dataset.train, &dataset.test] {
            hasher.update(format!("{:?}", (labels, tracks, track_names, deformed)).as_bytes());
        }
        let values = || dataset.train.spectrograms.iter().chain(&dataset.test.spectrograms);
        let sum: f64 = values().map(|&value| f64::from(value)).sum();
        Fingerprint { layout: hasher.finalize().to_hex().to_string(), mean: sum / values().count().max(1) as f64 }
    }

    /// Whether both are of the same data, up to the rounding of spectrograms.
    pub fn is_alike(&self, other: &Self) -> bool {
        self.layout == other.layout && (self.mean - other.mean).abs() <= ROUNDING
    }
}

#[cfg(test)]
mod tests {
    use super::super::Meta;
    use super::*;

    fn dataset() -> Dataset {
        let set = |names: [&str; 2]| Set {
            spectrograms: (0..4 * 6).map(|k| k as f32 * 0.25).collect(),
            labels: vec![0, 0, 1, 1],
            tracks: vec![0, 0, 1, 1],
            track_names: names.map(String::from).to_vec(),
            deformed: Vec::new(),
        };
        let classes = ["a", "b"].map(String::from).to_vec();
        let meta =
            Meta { name: "x".into(), synthetic: false, classes, front_end: Default::default(), bins: 2, frames: 3 };
        Dataset { meta, train: set(["a.0", "b.0"]), test: set(["a.1", "b.1"]) }
    }

    #[test]
    fn the_same_data_elsewhere_are_alike_and_others_are_not() {
        let print = Fingerprint::of(&dataset());
        let changed = |change: fn(&mut Dataset)| {
            let mut dataset = dataset();
            change(&mut dataset);
            Fingerprint::of(&dataset)
        };
        assert!(print.is_alike(&changed(|data| data.meta.name = "y".into())));
        assert!(print.is_alike(&changed(|data| data.train.spectrograms.iter_mut().for_each(|x| *x *= 1.0 + 1e-6))));
        let others: [fn(&mut Dataset); 6] = [
            |data| data.meta.classes[1] = "c".into(),
            |data| data.train.track_names.swap(0, 1),
            |data| data.test.labels[3] = 0,
            |data| std::mem::swap(&mut data.train, &mut data.test),
            |data| data.test.spectrograms[5] += 0.01,
            |data| data.train.deformed = vec![0, 0, 0, 1],
        ];
        for (number, other) in others.into_iter().enumerate() {
            assert!(!print.is_alike(&changed(other)), "change {number}");
        }
        let text = serde_json::to_string(&print).unwrap();
        assert_eq!(serde_json::from_str::<Fingerprint>(&text).unwrap(), print);
    }
}

//! What a data set is known by again: a training that goes on must go on with the data it began with.

use serde::{Deserialize, Serialize};

use super::{Dataset, Set};

/// How far apart the moments of the same spectrograms may lie: machines whose vectors are of different widths round them
/// differently, by some 1e-6; those of two tracks are some 0.1 apart.
const ROUNDING: f64 = 1e-4;

/// The mean of a track's spectrograms, and three means weighted from -1 for the first to 1 for the last segment, bin and
/// frame: what is in another place is another track.
type Moments = [f64; 4];

/// Which segments of which tracks a data set holds, in which order and on which side of the split, and how loud they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// A digest of everything but the spectrograms and the name of the corpus.
    layout: String,
    /// The mean of all spectrograms, in their unit.
    mean: f64,
    /// Of each track to train on, then to test on, in their unit. Files of earlier versions have none.
    #[serde(default)]
    tracks: Option<Vec<Moments>>,
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
        let tracks = [&dataset.train, &dataset.test].map(|set| moments(set, meta.bins, meta.frames)).concat();
        Fingerprint {
            layout: hasher.finalize().to_hex().to_string(),
            mean: sum / values().count().max(1) as f64,
            tracks: Some(tracks),
        }
    }

    /// Whether both are of the same data, up to the rounding of spectrograms.
    pub fn is_alike(&self, other: &Self) -> bool {
        let is_near = |(a, b): (&f64, &f64)| (a - b).abs() <= ROUNDING;
        let tracks = match (&self.tracks, &other.tracks) {
            (Some(own), Some(others)) => {
                own.len() == others.len() && own.iter().flatten().zip(others.iter().flatten()).all(is_near)
            }
            // not kept by the version that began the run
            _ => true,
        };
        self.layout == other.layout && is_near((&self.mean, &other.mean)) && tracks
    }
}

/// The moments of every track of `set`, in order.
fn moments(set: &Set, bins: usize, frames: usize) -> Vec<Moments> {
    let weight = |place: usize, of: usize| 2.0 * place as f64 / (of.max(2) - 1) as f64 - 1.0;
    let row = (bins * frames).max(1);
    let mut moments = Vec::new();
    let mut first = 0;
    for tracks in set.tracks.chunk_by(|a, b| a == b) {
        let values = &set.spectrograms[first * row..(first + tracks.len()) * row];
        let mut sums = Moments::default();
        for (segment, values) in values.chunks_exact(row).enumerate() {
            let segment = weight(segment, tracks.len());
            for (bin, values) in values.chunks_exact(frames.max(1)).enumerate() {
                let bin = weight(bin, bins);
                for (frame, &value) in values.iter().enumerate() {
                    let weights = [1.0, segment, bin, weight(frame, frames)];
                    sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight * f64::from(value));
                }
            }
        }
        moments.push(sums.map(|sum| sum / values.len() as f64));
        first += tracks.len();
    }
    moments
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
    fn moments_by_hand() {
        let set =
            Set { spectrograms: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 9.0], tracks: vec![0, 1], ..Set::default() };
        // one segment of 2 bins x 2 frames each; the weight of an only segment is that of the first
        assert_eq!(moments(&set, 2, 2), [[2.5, -2.5, 1.0, 0.5], [6.75, -6.75, 1.25, 0.75]]);
        let set = Set { tracks: vec![0, 0], ..set };
        assert_eq!(moments(&set, 2, 2), [[37.0 / 8.0, 17.0 / 8.0, 9.0 / 8.0, 5.0 / 8.0]]);
    }

    #[test]
    fn tracks_of_one_name_that_changed_places_are_others() {
        let mut data = dataset();
        data.train.spectrograms = (0..24).map(|k| ((k * 7) % 24) as f32 * 0.1).collect();
        let print = Fingerprint::of(&data);
        let old = Fingerprint { tracks: None, ..print.clone() };
        let [swapped, turned] = [(0, 12), (0, 3)].map(|(a, b)| {
            let mut data = data.clone();
            let length = b - a;
            (0..length).for_each(|k| data.train.spectrograms.swap(a + k, b + k));
            Fingerprint::of(&data)
        });
        assert!(!print.is_alike(&swapped) && !print.is_alike(&turned));
        assert!(old.is_alike(&swapped) && old.is_alike(&print), "a run of an earlier version is taken up as it was");
        let text = serde_json::to_string(&print).unwrap();
        let text = text[..text.find(",\"tracks\"").unwrap()].to_string() + "}";
        assert_eq!(serde_json::from_str::<Fingerprint>(&text).unwrap(), old);
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

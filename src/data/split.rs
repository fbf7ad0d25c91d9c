//! Which tracks are trained on and which are tested on, and in what order batches are drawn.
//!
//! A split is stratified by class and made by track: segments of one track never stand on both sides, and deformed ones
//! only ever on the training side. Tracks of one artist or album may: see [`Kind`].

use std::cmp::Ordering;
use std::mem;

use rand::RngExt;
use serde::{Deserialize, Serialize};

pub use super::split_kind::Kind;
use super::{Content, Corpus, Dataset, Set};
use crate::error::{Error, Result};
use crate::rng::{self, Rng};

/// How tracks are divided.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Split {
    /// Part of every class's tracks is held out for the test.
    Holdout {
        /// Share of the tracks that is tested on, between 0 and 1.
        test_fraction: f64,
    },
    /// Cross-validation: every track is in exactly one fold's test set.
    Folds {
        /// Number of folds, at least 2.
        folds: usize,
        /// This fold, from 0.
        fold: usize,
    },
}

impl Default for Split {
    /// The report's: three quarters to train on, one quarter to test on.
    fn default() -> Self {
        Split::Holdout { test_fraction: 0.25 }
    }
}

impl Kind {
    /// Puts the tracks of a class, whose names are `names[track]`, into the order in which they are dealt.
    fn order(self, tracks: &mut [u32], names: &[String], rng: &mut Rng) {
        match self {
            Kind::Random => shuffle(tracks, rng),
            Kind::Blocks => {
                tracks.sort_by(|&a, &b| natural(&names[a as usize], &names[b as usize]));
                tracks.rotate_left(rng.random_range(0..tracks.len() as u64) as usize);
            }
        }
    }
}

/// The order in which people number: `blues.9` before `blues.10`; without numbers, that of the characters.
fn natural(a: &str, b: &str) -> Ordering {
    /// A leading number without its zeros, or a leading character, and what follows.
    fn part(text: &str) -> (&str, bool, &str) {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let length = if digits > 0 { digits } else { text.chars().next().map_or(0, char::len_utf8) };
        let (part, rest) = text.split_at(length);
        if digits > 0 { (part.trim_start_matches('0'), true, rest) } else { (part, false, rest) }
    }
    let (mut left, mut right) = (a, b);
    while !left.is_empty() && !right.is_empty() {
        let ((x, x_is_number, after_x), (y, y_is_number, after_y)) = (part(left), part(right));
        let order = if x_is_number && y_is_number { x.len().cmp(&y.len()) } else { y_is_number.cmp(&x_is_number) };
        match order.then(x.cmp(y)) {
            Ordering::Equal => (left, right) = (after_x, after_y),
            different => return different,
        }
    }
    // `1` and `01` are the same number, but not the same name
    left.len().cmp(&right.len()).then(a.cmp(b))
}

/// Divides a corpus. A corpus that comes with its own split keeps it.
///
/// A class's tracks are put in an order: a shuffled one, or, for blocks, that of the numbers in their names, begun at a
/// place drawn at random and going on from the last to the first. Holding out takes the first
/// `round(n · test_fraction)` of its n tracks, at least one on each side. Folds deal the tracks out in turn, or, for
/// blocks, in as many runs; the sizes of two folds, of a class or altogether, differ by one at most. Tracks and their
/// rows keep their order; deformed rows of test tracks are dropped. A class's division depends on the seed, its name
/// and its tracks alone, but for which of its folds are larger by one.
///
/// The corpus is taken apart in place: only the test rows are copied.
///
/// # Errors
/// A fraction or fold that makes no sense, a class with too few tracks, folds or blocks asked of a corpus with its own
/// split.
pub fn split(corpus: Corpus, split: &Split, kind: Kind, seed: u64) -> Result<Dataset> {
    let meta = corpus.meta;
    let set = match (corpus.content, split) {
        (Content::Split { .. }, Split::Folds { .. }) => {
            return Err(Error::data(&meta.name, "comes with its own split; folds need undivided tracks"));
        }
        (Content::Split { kind: Kind::Random, .. }, _) if kind == Kind::Blocks => {
            return Err(Error::data(&meta.name, "comes with its own split; --split blocks needs undivided tracks"));
        }
        (Content::Split { train, test, .. }, Split::Holdout { .. }) => return Ok(Dataset { meta, train, test }),
        (Content::Whole(set), _) => set,
    };
    match *split {
        Split::Holdout { test_fraction } if !(test_fraction > 0.0 && test_fraction < 1.0) => {
            return Err(Error::Config(format!("test fraction {test_fraction}: must lie between 0 and 1")));
        }
        Split::Folds { folds, fold } if folds < 2 || fold >= folds => {
            return Err(Error::Config(format!("fold {fold} of {folds}: folds count from 0, and there are 2 or more")));
        }
        _ => {}
    }

    let mut tracks_of = vec![Vec::new(); meta.classes.len()];
    for (row, &track) in set.tracks.iter().enumerate() {
        if row == 0 || set.tracks[row - 1] != track {
            tracks_of[set.labels[row] as usize].push(track);
        }
    }
    let mut tested = vec![false; set.track_names.len()];
    let mut dealt = 0;
    for (name, mut tracks) in meta.classes.iter().zip(tracks_of) {
        let n = tracks.len();
        let needed = if let Split::Folds { folds, .. } = *split { folds } else { 2 };
        if n < needed {
            let message = format!("class {name} has {n} tracks, this split needs at least {needed}");
            return Err(Error::data(&meta.name, message));
        }
        kind.order(&mut tracks, &set.track_names, &mut rng::stream(seed, &format!("split/{name}")));
        match *split {
            Split::Holdout { test_fraction } => {
                let held_out = ((n as f64 * test_fraction).round() as usize).clamp(1, n - 1);
                tracks[..held_out].iter().for_each(|&track| tested[track as usize] = true);
            }
            Split::Folds { folds, fold } => {
                // each class goes on dealing where the last one stopped, which also levels the folds' totals
                let mut fold_of: Vec<usize> = (dealt..dealt + n).map(|i| i % folds).collect();
                if kind == Kind::Blocks {
                    fold_of.sort_unstable();
                }
                for (&track, of) in tracks.iter().zip(fold_of) {
                    tested[track as usize] |= of == fold;
                }
                dealt += n;
            }
        }
    }
    let (train, test) = divide(set, meta.bins * meta.frames, &tested);
    Ok(Dataset { meta, train, test })
}

/// The numbers 0 to n - 1 in the order of epoch `epoch`.
pub fn shuffled(n: usize, seed: u64, epoch: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    shuffle(&mut order, &mut rng::stream(seed, &format!("shuffle/{epoch}")));
    order
}

/// Fisher and Yates: every order is equally likely. Written out so that a new version of a crate cannot change results.
fn shuffle(values: &mut [u32], rng: &mut Rng) {
    for i in (1..values.len()).rev() {
        values.swap(i, rng.random_range(0..=i as u64) as usize);
    }
}

/// Moves the rows of the tested tracks, but for the deformed ones, to a set of their own and closes the gaps they leave;
/// `length` numbers a row.
fn divide(mut set: Set, length: usize, tested: &[bool]) -> (Set, Set) {
    let (mut train, mut test) = (Set::default(), Set::default());
    let mut spectrograms = mem::take(&mut set.spectrograms);
    let mut number = vec![0; tested.len()];
    for ((name, &tested), number) in set.track_names.into_iter().zip(tested).zip(&mut number) {
        let side = if tested { &mut test } else { &mut train };
        *number = side.track_names.len() as u32;
        side.track_names.push(name);
    }
    let deformed = |row: usize| set.deformed.get(row).copied().unwrap_or(0);
    let is_tested = |row: usize| tested[set.tracks[row] as usize] && deformed(row) == 0;
    let test_rows = (0..set.labels.len()).filter(|&row| is_tested(row)).count();
    test.spectrograms.reserve_exact(test_rows * length);
    for (row, (&label, &track)) in set.labels.iter().zip(&set.tracks).enumerate() {
        let from = row * length..(row + 1) * length;
        let side = if is_tested(row) {
            test.spectrograms.extend_from_slice(&spectrograms[from]);
            &mut test
        } else if tested[track as usize] {
            continue;
        } else {
            spectrograms.copy_within(from, train.len() * length);
            train.deformed.extend(set.deformed.get(row));
            &mut train
        };
        side.labels.push(label);
        side.tracks.push(number[track as usize]);
    }
    train.spectrograms = spectrograms;
    train.spectrograms.truncate(train.labels.len() * length);
    train.spectrograms.shrink_to_fit();
    (train, test)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_a_permutation_of_its_own() {
        let order = shuffled(1000, 3, 0);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<u32>>());
        assert_eq!(order, shuffled(1000, 3, 0));
        assert_ne!(order, shuffled(1000, 3, 1));
        assert_ne!(order, shuffled(1000, 4, 0));
        assert_eq!(shuffled(0, 3, 0), [0; 0]);
        assert_eq!(shuffled(1, 3, 0), [0]);
    }

    #[test]
    fn every_order_is_equally_likely() {
        let mut counts = std::collections::HashMap::new();
        (0..6000).for_each(|epoch| *counts.entry(shuffled(3, 1, epoch)).or_insert(0) += 1);
        // 6 orders, 1000 times each, within 5 standard deviations of 29
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|count| (855..1145).contains(count)), "{counts:?}");
    }

    #[test]
    fn names_are_ordered_as_people_number() {
        let ordered = [
            "",
            "a",
            "blues.02",
            "blues.2",
            "blues.9",
            "blues.10",
            "blues.010 b",
            "blues.99999999999999999999",
            "blues.a",
            "é",
            "é1",
        ];
        for (i, a) in ordered.iter().enumerate() {
            for (j, b) in ordered.iter().enumerate() {
                assert_eq!(natural(a, b), if a == b { Ordering::Equal } else { i.cmp(&j) }, "{a} {b}");
            }
        }
    }

    #[test]
    fn rows_move_with_their_track() {
        let set = Set {
            spectrograms: vec![0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5],
            labels: vec![0, 0, 1, 1, 0],
            tracks: vec![0, 0, 1, 1, 2],
            track_names: ["a", "b", "c"].map(str::to_owned).to_vec(),
            deformed: vec![0, 1, 0, 2, 16],
        };
        let (train, test) = divide(set, 2, &[false, true, false]);
        assert_eq!(train.spectrograms, [0.0, 0.5, 1.0, 1.5, 4.0, 4.5]);
        assert_eq!((train.labels, train.tracks), (vec![0, 0, 0], vec![0, 0, 1]));
        assert_eq!(train.track_names, ["a", "c"]);
        assert_eq!(train.deformed, [0, 1, 16]);
        // track b's second row is deformed: on neither side
        assert_eq!(test.spectrograms, [2.0, 2.5]);
        assert_eq!((test.labels, test.tracks, test.track_names), (vec![1], vec![0], vec!["b".to_owned()]));
        assert_eq!(test.deformed, [0; 0]);
    }
}

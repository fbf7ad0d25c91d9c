//! A mixture of Gaussians with diagonal covariance, and how it learns: expectation and maximisation.
//!
//! Sums are taken over pieces of fixed length, in order, so that results do not depend on the number of threads.

use std::f64::consts::TAU;

use rand::RngExt;
use rayon::prelude::*;

use crate::rng::Rng;

/// Frames summed by one thread at a time.
const PIECE: usize = 1024;

/// `p(x) = sum_k w_k prod_d N(x_d; mean_kd, variance_kd)` for frames x of a few numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    /// Numbers of a frame, D.
    pub dimensions: usize,
    /// `[K]`, sum 1.
    pub weights: Vec<f64>,
    /// `[K, D]`
    pub means: Vec<f64>,
    /// `[K, D]`
    pub variances: Vec<f64>,
}

/// A mixture made ready for many frames. Components stand side by side, so that arithmetic on them vectorises.
pub struct Density {
    dimensions: usize,
    /// `ln w_k - sum_d ln(2 pi variance_kd) / 2`, `[K]`
    constants: Vec<f64>,
    /// `[D, K]`
    means: Vec<f64>,
    /// `1 / (2 variance)`, `[D, K]`
    precisions: Vec<f64>,
}

impl Density {
    /// Replaces `terms [K]` by every component's share in `frame`, and returns `ln p(frame)`.
    fn shares(&self, frame: &[f32], terms: &mut [f64]) -> f64 {
        let components = terms.len();
        terms.copy_from_slice(&self.constants);
        let by_dimension = self.means.chunks_exact(components).zip(self.precisions.chunks_exact(components));
        for (&x, (means, precisions)) in frame.iter().zip(by_dimension) {
            for ((term, mean), precision) in terms.iter_mut().zip(means).zip(precisions) {
                let distance = f64::from(x) - mean;
                *term -= distance * distance * precision;
            }
        }
        // the largest term comes out of the logarithm, so that not all of them can underflow
        let largest = terms.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        let mut total = 0.0;
        for term in terms.iter_mut() {
            *term = (*term - largest).exp();
            total += *term;
        }
        terms.iter_mut().for_each(|term| *term /= total);
        largest + total.ln()
    }

    /// The mean of `ln p` over `frames [N, D]`, in nats a frame.
    pub fn mean_log_likelihood(&self, frames: &[f32]) -> f64 {
        let mut terms = vec![0.0; self.constants.len()];
        let each = frames.chunks_exact(self.dimensions).map(|frame| self.shares(frame, &mut terms));
        each.sum::<f64>() / (frames.len() / self.dimensions) as f64
    }
}

/// What the maximisation needs of some frames.
struct Sums {
    /// Of `ln p`.
    log_likelihood: f64,
    /// Of the shares, `[K]`.
    shares: Vec<f64>,
    /// Of the frames by share, `[K, D]`.
    first: Vec<f64>,
    /// Of their squares by share, `[K, D]`.
    second: Vec<f64>,
}

impl Sums {
    /// Over `frames`, of what `share` finds: it writes a frame's shares and returns its `ln p`.
    fn over(
        frames: &[f32],
        (components, dimensions): (usize, usize),
        share: impl Fn(&[f32], &mut [f64]) -> f64 + Sync,
    ) -> Self {
        let zero = || {
            let wide = || vec![0.0; components * dimensions];
            Sums { log_likelihood: 0.0, shares: vec![0.0; components], first: wide(), second: wide() }
        };
        let piece = |frames: &[f32]| {
            let (mut sums, mut shares) = (zero(), vec![0.0; components]);
            for frame in frames.chunks_exact(dimensions) {
                sums.log_likelihood += share(frame, &mut shares);
                let rows = sums.first.chunks_exact_mut(dimensions).zip(sums.second.chunks_exact_mut(dimensions));
                for ((&share, total), (first, second)) in shares.iter().zip(&mut sums.shares).zip(rows) {
                    *total += share;
                    for ((&x, first), second) in frame.iter().zip(first).zip(second) {
                        let x = f64::from(x);
                        *first += share * x;
                        *second += share * x * x;
                    }
                }
            }
            sums
        };
        let pieces: Vec<Sums> = frames.par_chunks(PIECE * dimensions).map(piece).collect();
        pieces.iter().fold(zero(), |mut total, piece| {
            total.log_likelihood += piece.log_likelihood;
            for (to, from) in [
                (&mut total.shares, &piece.shares),
                (&mut total.first, &piece.first),
                (&mut total.second, &piece.second),
            ] {
                to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
            }
            total
        })
    }
}

impl Mixture {
    /// A start for [`Mixture::improved`]: `components` frames far from each other (k-means++), each with the weight,
    /// mean and variance of the frames that it is the nearest to.
    ///
    /// There must be a frame. Where there are fewer different ones than components, some components stay without
    /// weight.
    ///
    /// # Shapes
    /// `frames [N, dimensions]`.
    ///
    /// # Source
    /// D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding" (2007).
    pub fn start(frames: &[f32], dimensions: usize, components: usize, floor: f64, rng: &mut Rng) -> Self {
        let count = frames.len() / dimensions;
        let frame = |i: usize| &frames[i * dimensions..(i + 1) * dimensions];
        let square = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum()
        };
        let mut centres = vec![rng.random_range(0..count as u64) as usize];
        let mut distances = vec![f64::INFINITY; count];
        while centres.len() < components {
            let latest = frame(centres[centres.len() - 1]);
            let closer = |(distance, x): (&mut f64, &[f32])| *distance = distance.min(square(x, latest));
            distances.par_iter_mut().zip(frames.par_chunks_exact(dimensions)).for_each(closer);
            let total: f64 = distances.iter().sum();
            let mut left = rng.random_range(0.0..1.0) * total;
            let drawn = distances.iter().position(|distance| {
                left -= distance;
                left < 0.0
            });
            // nothing is left to draw where every frame is a centre
            let farthest = || (0..count).fold(0, |best, i| if distances[i] > distances[best] { i } else { best });
            centres.push(drawn.unwrap_or_else(farthest));
        }
        let nearest = |x: &[f32], shares: &mut [f64]| {
            let by_distance =
                |&a: &usize, &b: &usize| square(x, frame(centres[a])).total_cmp(&square(x, frame(centres[b])));
            shares.fill(0.0);
            shares[(0..components).min_by(by_distance).unwrap_or(0)] = 1.0;
            0.0
        };
        let wide = |i: usize| f64::from(frame(centres[i / dimensions])[i % dimensions]);
        let at_centres = Mixture {
            dimensions,
            weights: vec![1.0 / components as f64; components],
            means: (0..components * dimensions).map(wide).collect(),
            variances: vec![floor; components * dimensions],
        };
        at_centres.maximised(&Sums::over(frames, (components, dimensions), nearest), count, floor)
    }

    /// One step of EM on `frames [N, D]`, and the mean of `ln p` before it, in nats a frame; which no step makes
    /// smaller.
    ///
    /// Expectation: the share of component k in frame x is `w_k N_k(x) / p(x)`. Maximisation: its weight is the mean of
    /// its shares, its mean and variance are those of the frames by share, the variance no smaller than `floor`. A
    /// component without any share stays where it is and weighs nothing.
    ///
    /// # Source
    /// A. P. Dempster, N. M. Laird and D. B. Rubin, "Maximum likelihood from incomplete data via the EM algorithm"
    /// (1977).
    pub fn improved(&self, frames: &[f32], floor: f64) -> (Self, f64) {
        let count = frames.len() / self.dimensions;
        let density = self.density();
        let shares = |frame: &[f32], shares: &mut [f64]| density.shares(frame, shares);
        let sums = Sums::over(frames, (self.weights.len(), self.dimensions), shares);
        (self.maximised(&sums, count, floor), sums.log_likelihood / count as f64)
    }

    /// The maximisation: `self` with weights, means and variances of `sums` over `count` frames.
    fn maximised(&self, sums: &Sums, count: usize, floor: f64) -> Self {
        let mut next = self.clone();
        for (k, &total) in sums.shares.iter().enumerate() {
            next.weights[k] = total / count as f64;
            // so small a sum has no exact mean
            if total < 1e-10 {
                continue;
            }
            for i in k * self.dimensions..(k + 1) * self.dimensions {
                let mean = sums.first[i] / total;
                next.means[i] = mean;
                next.variances[i] = (sums.second[i] / total - mean * mean).max(floor);
            }
        }
        next
    }

    /// Ready for many frames.
    pub fn density(&self) -> Density {
        let (components, dimensions) = (self.weights.len(), self.dimensions);
        let constant = |(weight, variances): (&f64, &[f64])| {
            weight.ln() - 0.5 * variances.iter().map(|variance| (TAU * variance).ln()).sum::<f64>()
        };
        let turned = |values: &[f64]| -> Vec<f64> {
            (0..values.len()).map(|i| values[i % components * dimensions + i / components]).collect()
        };
        Density {
            dimensions,
            constants: self.weights.iter().zip(self.variances.chunks_exact(dimensions)).map(constant).collect(),
            means: turned(&self.means),
            precisions: turned(&self.variances).into_iter().map(|variance| 0.5 / variance).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;

    /// Two numbers of mean 0 and variance 1 (Box and Muller).
    fn normal(rng: &mut Rng) -> [f64; 2] {
        let (u, v): (f64, f64) = (1.0 - rng.random_range(0.0..1.0), rng.random_range(0.0..1.0));
        let radius = (-2.0 * u.ln()).sqrt();
        [radius * (TAU * v).cos(), radius * (TAU * v).sin()]
    }

    /// 30 % around (-3, 0) with variances 1/4 and 1, 70 % around (2, 1) with variances 1 and 4.
    fn planted(count: usize) -> Vec<f32> {
        let mut rng = rng::stream(1, "planted");
        let mut frames = Vec::new();
        for i in 0..count {
            let [x, y] = normal(&mut rng);
            frames.extend(if i % 10 < 3 { [0.5 * x - 3.0, y] } else { [x + 2.0, 2.0 * y + 1.0] }.map(|v| v as f32));
        }
        frames
    }

    fn fitted(frames: &[f32], dimensions: usize, components: usize, floor: f64, steps: usize) -> (Mixture, Vec<f64>) {
        let mut mixture = Mixture::start(frames, dimensions, components, floor, &mut rng::stream(3, "start"));
        let mut curve = Vec::new();
        for _ in 0..steps {
            let log_likelihood;
            (mixture, log_likelihood) = mixture.improved(frames, floor);
            curve.push(log_likelihood);
        }
        (mixture, curve)
    }

    #[track_caller]
    fn near(values: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(values.len(), expected.len());
        for (value, expected) in values.iter().zip(expected) {
            assert!((value - expected).abs() <= tolerance, "{value} {expected}");
        }
    }

    #[test]
    fn a_density_by_hand() {
        // halves of N(0, 1) and N(3, 4) at 1: (0.241971 + 0.120985) / 2
        let mixture =
            Mixture { dimensions: 1, weights: vec![0.5, 0.5], means: vec![0.0, 3.0], variances: vec![1.0, 4.0] };
        let density = mixture.density();
        near(&[density.mean_log_likelihood(&[1.0])], &[(0.181_478_f64).ln()], 1e-5);
        // far away the logarithm is still one, though the density itself is 0 in f64
        let expected = (0.5f64 / (2.0 * TAU.sqrt())).ln() - 997.0f64.powi(2) / 8.0;
        near(&[density.mean_log_likelihood(&[1000.0])], &[expected], 1e-6);
    }

    #[test]
    fn a_planted_mixture_is_found() {
        let (mut mixture, _) = fitted(&planted(20_000), 2, 2, 1e-3, 60);
        if mixture.means[0] > 0.0 {
            mixture.weights.rotate_left(1);
            mixture.means.rotate_left(2);
            mixture.variances.rotate_left(2);
        }
        // within four standard errors of the least certain: variance 4 of 14,000 frames, 4 * sqrt(2 / 14000) * 4
        near(&mixture.weights, &[0.3, 0.7], 0.02);
        near(&mixture.means, &[-3.0, 0.0, 2.0, 1.0], 0.07);
        near(&mixture.variances, &[0.25, 1.0, 1.0, 4.0], 0.2);
    }

    #[test]
    fn no_step_makes_the_frames_less_likely() {
        let frames = planted(3_000);
        // also where the floor binds
        for (components, floor) in [(1, 1e-3), (3, 1e-3), (8, 1e-3), (8, 0.5), (30, 3.0)] {
            let (mixture, curve) = fitted(&frames, 2, components, floor, 40);
            for pair in curve.windows(2) {
                assert!(pair[1] >= pair[0] - 1e-10, "{components} components, floor {floor}: {pair:?}");
            }
            assert!(curve[39] > curve[0] || components == 1);
            assert!((mixture.weights.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            assert!(mixture.variances.iter().all(|&variance| variance >= floor));
        }
    }

    #[test]
    fn it_is_scikit_learns() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/baseline.json");
        let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let flat = |value: &serde_json::Value| -> Vec<f64> {
            let rows = value.as_array().unwrap().iter();
            rows.flat_map(|row| row.as_array().cloned().unwrap_or_else(|| vec![row.clone()]))
                .map(|value| value.as_f64().unwrap())
                .collect()
        };
        let of = |value: &serde_json::Value| Mixture {
            dimensions: 3,
            weights: flat(&value["weights"]),
            means: flat(&value["means"]),
            variances: flat(&value["variances"]),
        };
        let point = |i: usize| {
            let (i, d) = ((i / 3) as f64, (i % 3) as f64);
            let step = if d == 1.0 { 0.0 } else { 2.5 * (i % 3.0) };
            ((1.3 * i + 2.1 * d).sin() * (1.0 + 0.3 * d) + step) as f32
        };
        let points: Vec<f32> = (0..900).map(point).collect();
        let mut mixture = of(&golden["start"]);
        for step in 1..=10 {
            mixture = mixture.improved(&points, 0.0).0;
            let Some(expected) = golden["em"].get(step.to_string()) else { continue };
            let there = of(expected);
            near(&mixture.weights, &there.weights, 1e-9);
            near(&mixture.means, &there.means, 1e-9);
            near(&mixture.variances, &there.variances, 1e-9);
            let density = mixture.density();
            let each: Vec<f64> = points.chunks(3).take(8).map(|point| density.mean_log_likelihood(point)).collect();
            near(&each, &flat(&expected["log_likelihoods"]), 1e-8);
            near(&[density.mean_log_likelihood(&points)], &[expected["mean"].as_f64().unwrap()], 1e-9);
        }
    }

    #[test]
    fn frames_that_are_all_alike_and_few_are_no_trouble() {
        for frames in [&[2.5; 6][..], &[1.0, 2.0, 1.0, 2.0, -1.0, 7.0]] {
            let (mixture, curve) = fitted(frames, 2, 5, 1e-3, 5);
            let numbers = mixture.weights.iter().chain(&mixture.means).chain(&mixture.variances).chain(&curve);
            assert!(numbers.clone().all(|number| number.is_finite()), "{mixture:?} {curve:?}");
            assert!(mixture.density().mean_log_likelihood(&[1e6, -1e6]).is_finite());
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let frames = planted(5_000);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| fitted(&frames, 2, 6, 1e-3, 10))
        };
        assert_eq!(on(1), on(3));
    }
}

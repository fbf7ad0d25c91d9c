//! How sure a comparison is: spreads, intervals of a difference, and a paired test of two nets on the same tracks.
//!
//! Distributions come from `statrs`; here is only which of them answers which question. Read [`difference`] first.

use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, StudentsT};

use crate::train::results::Results;

use super::published::Value;

/// How sure an [`Interval`] is.
pub const CONFIDENCE: f64 = 0.95;

/// A difference of two means and its interval of confidence [`CONFIDENCE`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Ours - published.
    pub difference: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end; as far above the difference as the lower one is below it.
    pub high: f64,
}

/// Mean and sample standard deviation (n - 1); none for fewer than two values.
pub fn mean_sd(values: &[f64]) -> Value {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let sd = (values.len() > 1).then(|| (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt());
    Value { mean, sd }
}

/// `mean(ours) - published` with its interval, `difference ± t(ν) · se`.
///
/// Of a published value without deviation nothing is known but itself: it is taken as exact, and the interval is that
/// of our mean, `se = s / √n` and `ν = n - 1` (one-sample t). With a deviation over `published_n` values it is a mean
/// as ours is, and `se² = s² / n + s'² / n'` with Welch and Satterthwaite's
/// `ν = se⁴ / (s⁴ / (n² (n - 1)) + s'⁴ / (n'² (n' - 1)))`.
///
/// None for fewer than two values of ours, for a deviation of fewer than two published ones, and for numbers that are
/// not finite.
///
/// Values are taken as independent. Folds of a cross-validation are not quite: they share training tracks, and their
/// interval is somewhat too narrow (Bengio and Grandvalet 2004).
///
/// # Source
/// B. L. Welch, "The generalization of Student's problem when several different population variances are involved"
/// (1947).
pub fn difference(ours: &[f64], published: Value, published_n: usize) -> Option<Interval> {
    let Value { mean, sd: Some(sd) } = mean_sd(ours) else { return None };
    // the square of a mean's standard error, and the degrees of freedom that it has
    let of_mean = |sd: f64, n: usize| (sd * sd / n as f64, n as f64 - 1.0);
    let (a, a_freedom) = of_mean(sd, ours.len());
    let (square, freedom) = match published.sd {
        None => (a, a_freedom),
        Some(_) if published_n < 2 => return None,
        Some(sd) => {
            let (b, b_freedom) = of_mean(sd, published_n);
            (a + b, (a + b).powi(2) / (a * a / a_freedom + b * b / b_freedom))
        }
    };
    let difference = mean - published.mean;
    if !(difference.is_finite() && square.is_finite()) {
        return None;
    }
    // values that do not vary at all have no degrees of freedom either, and need none
    let half = if square > 0.0 {
        StudentsT::new(0.0, 1.0, freedom).ok()?.inverse_cdf(0.5 + CONFIDENCE / 2.0) * square.sqrt()
    } else {
        0.0
    };
    Some(Interval { difference, low: difference - half, high: difference + half })
}

/// The exact two-sided McNemar test: how probable it is that two nets which are equally good differ at least so much.
///
/// Of the `b + c` tracks that only one of them got right, each falls to either with probability 1/2:
/// `p = min(1, 2 P(X ≤ min(b, c)))` with X binomial (b + c, 1/2). 1 where they never differ.
///
/// # Source
/// Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages" (1947),
/// exact as in A. Agresti, *Categorical Data Analysis*, section 10.1.
pub fn mcnemar(b: u64, c: u64) -> f64 {
    let below = Binomial::new(0.5, b + c).map_or(1.0, |binomial| binomial.cdf(b.min(c)));
    (2.0 * below).min(1.0)
}

/// Two nets on the same test tracks, by max (largest sum of logits).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paired {
    /// Test tracks.
    pub tracks: u64,
    /// Tracks that only the first net got right.
    pub only_first: u64,
    /// Tracks that only the second net got right.
    pub only_second: u64,
}

impl Paired {
    /// Of two runs; none unless their test tracks are the same.
    pub fn of(first: &Results, second: &Results) -> Option<Self> {
        if first.tracks.len() != second.tracks.len() {
            return None;
        }
        let mut paired = Paired::default();
        for (a, b) in first.tracks.iter().zip(&second.tracks) {
            if (&a.track, a.label) != (&b.track, b.label) {
                return None;
            }
            paired.tracks += 1;
            match (a.max == a.label, b.max == b.label) {
                (true, false) => paired.only_first += 1,
                (false, true) => paired.only_second += 1,
                _ => {}
            }
        }
        Some(paired)
    }

    /// Both together: for test sets that share no track, such as the folds of a cross-validation.
    pub fn and(self, other: Self) -> Self {
        Paired {
            tracks: self.tracks + other.tracks,
            only_first: self.only_first + other.only_first,
            only_second: self.only_second + other.only_second,
        }
    }

    /// [`mcnemar`] of them.
    pub fn p(&self) -> f64 {
        mcnemar(self.only_first, self.only_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn exact(mean: f64) -> Value {
        Value { mean, sd: None }
    }

    #[track_caller]
    fn near(interval: Option<Interval>, expected: [f64; 3]) {
        let Interval { difference, low, high } = interval.unwrap();
        for (value, expected) in [difference, low, high].into_iter().zip(expected) {
            assert!((value - expected).abs() < 1e-6, "{value} {expected}");
        }
    }

    #[test]
    fn mean_and_sample_deviation_by_hand() {
        let value = mean_sd(&[60.0, 62.0, 67.0]);
        // (9 + 1 + 16) / 2 = 13
        assert_eq!(value, Value { mean: 63.0, sd: Some(13f64.sqrt()) });
        assert_eq!(mean_sd(&[60.0]), exact(60.0));
    }

    #[test]
    fn against_a_single_number_it_is_students_t() {
        // by hand: mean 63, sd sqrt(13), t of 2 degrees of freedom at 97.5 % is sqrt(2 * 0.95^2 / (1 - 0.95^2))
        let half = (2.0f64 * 0.9025 / 0.0975).sqrt() * (13.0f64 / 3.0).sqrt();
        near(difference(&[60.0, 62.0, 67.0], exact(65.2), 1), [-2.2, -2.2 - half, -2.2 + half]);
        // Student's own: hours of sleep gained under one drug over another; R's t.test says 0.7001142 to 2.4598858
        let gained = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4];
        near(difference(&gained, exact(0.0), 1), [1.58, 0.700_114_2, 2.459_885_8]);
        // five that do not differ
        near(difference(&[61.0; 5], exact(60.0), 1), [1.0, 1.0, 1.0]);
    }

    #[test]
    fn against_a_spread_it_is_welchs_t() {
        // Four of each and the same deviation: Student's two-sample t with 6 degrees of freedom, 2.446912.
        let ours = [59.0, 61.0, 59.0, 61.0];
        let sd = (4.0f64 / 3.0).sqrt();
        let half = 2.446_911_851 * sd * 0.5f64.sqrt();
        near(difference(&ours, Value { mean: 58.0, sd: Some(sd) }, 4), [2.0, 2.0 - half, 2.0 + half]);
        // nothing published varied: one-sample t after all
        let alone = difference(&ours, exact(58.0), 1);
        assert_eq!(difference(&ours, Value { mean: 58.0, sd: Some(0.0) }, 4), alone);
        // and the other way round: t of 3 degrees of freedom, 3.182446
        let half = 3.182_446_305 * 2.0 / 2.0;
        near(difference(&[60.0; 9], Value { mean: 58.0, sd: Some(2.0) }, 4), [2.0, 2.0 - half, 2.0 + half]);
        // unequal deviations, against scipy 1.17 `ttest_ind_from_stats`' degrees of freedom and `t.ppf`
        let published = Value { mean: 66.56, sd: Some(0.69) };
        near(difference(&[64.0, 66.5, 68.1, 61.2, 65.3], published, 4), [-1.54, -4.742_093_628, 1.662_093_628]);
    }

    #[test]
    fn one_value_has_no_interval() {
        assert_eq!(difference(&[60.0], exact(65.2), 1), None);
        assert_eq!(difference(&[], exact(65.2), 1), None);
        assert_eq!(difference(&[60.0, 61.0], Value { mean: 65.2, sd: Some(1.0) }, 1), None);
        assert_eq!(difference(&[60.0, f64::NAN], exact(65.2), 1), None);
        assert_eq!(difference(&[60.0, f64::INFINITY], Value { mean: 65.2, sd: Some(1.0) }, 4), None);
    }

    #[test]
    fn mcnemar_by_hand_and_by_the_book() {
        // (1 + 6) / 64 on either side
        assert!((mcnemar(1, 5) - 14.0 / 64.0).abs() < 1e-12);
        assert!((mcnemar(0, 5) - 2.0 / 32.0).abs() < 1e-12);
        assert_eq!((mcnemar(0, 0), mcnemar(3, 3)), (1.0, 1.0));
        assert!((mcnemar(0, 1) - 1.0).abs() < 1e-12);
        assert_eq!(mcnemar(4, 11), mcnemar(11, 4));
        // Agresti's approval ratings, 86 and 150 changed their minds: z = 4.17, p = 3.1e-5; exactly, by scipy's
        // binomtest:
        assert!((mcnemar(86, 150) / 3.715_936_139_571_386_6e-5 - 1.0).abs() < 1e-9, "{}", mcnemar(86, 150));
        assert!(mcnemar(0, 5000) >= 0.0 && mcnemar(2500, 2500) == 1.0);
    }
}

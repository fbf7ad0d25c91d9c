//! How long a step takes on this machine, and the least that it could take: what `genregrad bench` and `benches/` print.
//!
//! Read [`net`] first: the programs timed there are a run's own. [`floor`] measures what the machine can do at most;
//! [`front_end`] times the spectrograms. Not here: other programs doing the same work (`benches/peers`).

pub mod device_peak;
pub mod floor;
pub mod front_end;
pub mod net;
mod peak;

use serde::Serialize;

use crate::device::memory;

/// What one of the things timed took, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Times {
    /// Half took less; of an even number, the mean of the middle two.
    pub median_ms: f64,
    /// The quickest.
    pub min_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

impl Times {
    /// Of at least one time; zeros of none.
    pub fn of(milliseconds: &[f64]) -> Self {
        let mut sorted = milliseconds.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (Some(&min_ms), Some(&max_ms)) = (sorted.first(), sorted.last()) else {
            return Times { median_ms: 0.0, min_ms: 0.0, max_ms: 0.0 };
        };
        let middle = sorted.len() / 2;
        let median_ms =
            if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Times { median_ms, min_ms, max_ms }
    }

    /// `count` things in the median time, per second.
    pub fn per_second(&self, count: usize) -> f64 {
        1e3 * count as f64 / self.median_ms
    }
}

/// The most memory that this process has held so far, in MB (10^6 bytes); none where the system does not tell.
pub fn peak_rss_mb() -> Option<f64> {
    memory::peak().map(|bytes| bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_by_hand() {
        let times = |ms: &[f64]| Times::of(ms);
        assert_eq!(times(&[3.0, 1.0, 8.0]), Times { median_ms: 3.0, min_ms: 1.0, max_ms: 8.0 });
        assert_eq!(times(&[4.0, 1.0, 8.0, 2.0]), Times { median_ms: 3.0, min_ms: 1.0, max_ms: 8.0 });
        assert_eq!(times(&[20.0]).per_second(15), 750.0);
    }

    #[test]
    fn the_peak_is_read_where_there_is_one() {
        if cfg!(target_os = "linux") {
            let before = peak_rss_mb().unwrap();
            let held = vec![1u8; 64 << 20];
            let sum: u64 = std::hint::black_box(&held).iter().map(|&x| u64::from(x)).sum();
            assert!(sum == 64 << 20 && peak_rss_mb().unwrap() >= before.max(64.0), "{before}");
        }
    }
}

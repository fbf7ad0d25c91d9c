//! Phases as whole numbers: a full turn is 2^32, so that sums wrap by themselves and never drift.
//!
//! A phase vocoder adds thousands of phase differences. In floating point the sum grows (by up to half a turn a sample)
//! and loses what it is needed for, the fraction of a turn; wrapping integers keep it exactly. Plain arithmetic without
//! branches, so that it vectorises and is the same on every machine.

use std::f32::consts::TAU;

/// A quarter of a turn.
const QUARTER: u32 = 1 << 30;

/// Half a turn.
const HALF: u32 = 1 << 31;

/// Turns in a radian.
const TURNS: f32 = 4_294_967_296.0 / TAU;

/// `atan(a) / a` on 0 to 1 as a polynomial in a^2, to 1.4e-8: a minimax fit.
const ATAN: [f32; 9] = [
    0.999_999_986,
    -0.333_330_94,
    0.199_930_54,
    -0.142_071_32,
    0.106_546_72,
    -0.075_336_66,
    0.043_039_242,
    -0.016_282_93,
    0.002_903_533,
];

/// The phase of `re + i im`, to 1e-7 of a radian; 0 of zero.
#[inline]
pub(super) fn of(re: f32, im: f32) -> u32 {
    let (x, y) = (re.abs(), im.abs());
    let a = x.min(y) / x.max(y).max(f32::MIN_POSITIVE);
    let z = a * a;
    let series = ATAN.iter().rev().fold(0.0, |sum, c| sum * z + c);
    // at most an eighth of a turn; the rest is exact
    let eighth = (a * series * TURNS) as i32 as u32;
    let quarter = if y > x { QUARTER - eighth } else { eighth };
    let half = if re < 0.0 { HALF - quarter } else { quarter };
    if im < 0.0 { half.wrapping_neg() } else { half }
}

/// Cosine and sine of a phase, to 1e-7.
///
/// Both are Taylor's series on an eighth of a turn around the nearest quarter.
#[inline]
pub(super) fn cos_sin(phase: u32) -> (f32, f32) {
    let quarter = phase.wrapping_add(QUARTER / 2) >> 30;
    let x = phase.wrapping_sub(quarter << 30) as i32 as f32 / TURNS;
    let z = x * x;
    let sin = x * (1.0 + z * (-1.0 / 6.0 + z * (1.0 / 120.0 + z * (-1.0 / 5_040.0 + z * (1.0 / 362_880.0)))));
    let cos = 1.0 + z * (-0.5 + z * (1.0 / 24.0 + z * (-1.0 / 720.0 + z * (1.0 / 40_320.0))));
    let (c, s) = if quarter & 1 == 0 { (cos, sin) } else { (sin, cos) };
    // the cosine is negative in quarters 1 and 2, the sine in 2 and 3
    let sign = |x: f32, negative: u32| f32::from_bits(x.to_bits() ^ negative << 31);
    (sign(c, (quarter + 1) >> 1 & 1), sign(s, quarter >> 1 & 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns, -1/2 to 1/2.
    fn turns(phase: u32) -> f64 {
        f64::from(phase as i32) / 2f64.powi(32)
    }

    #[test]
    fn the_eight_directions_are_exact() {
        for (i, (re, im)) in
            [(1.0, 0.0), (1.0, 1.0), (0.0, 1.0), (-1.0, 1.0), (-1.0, 0.0), (-1.0, -1.0), (0.0, -1.0), (1.0, -1.0)]
                .into_iter()
                .enumerate()
        {
            let expected = (i as u32) << 29;
            assert!((of(re, im).wrapping_sub(expected) as i32).abs() <= 64, "{re} + {im} i: {}", turns(of(re, im)));
        }
        assert_eq!((of(0.0, 0.0), of(0.0, -0.0), of(-0.0, 0.0)), (0, 0, 0));
        assert_eq!((of(1.0, 0.0), of(-1.0, 0.0), of(0.0, 2.0), of(0.0, -2.0)), (0, HALF, QUARTER, 3 * QUARTER));
        assert_eq!((cos_sin(0), cos_sin(QUARTER)), ((1.0, 0.0), (-0.0, 1.0)));
        assert_eq!((cos_sin(HALF), cos_sin(3 * QUARTER)), ((-1.0, -0.0), (0.0, -1.0)));
    }

    #[test]
    fn they_are_the_functions_of_the_library_to_1e_7() {
        for i in 0..1_000_000u32 {
            let phase = i.wrapping_mul(2_654_435_769);
            let exact = turns(phase) * std::f64::consts::TAU;
            let (cos, sin) = cos_sin(phase);
            assert!((f64::from(cos) - exact.cos()).abs() < 1.5e-7, "cos of {phase}");
            assert!((f64::from(sin) - exact.sin()).abs() < 1.5e-7, "sin of {phase}");
            let back = f64::from(sin).atan2(f64::from(cos));
            let error = (turns(of(cos, sin)) * std::f64::consts::TAU - back).abs();
            assert!(error.min(std::f64::consts::TAU - error) < 1.5e-7, "phase of {cos} + {sin} i: {error}");
        }
        // scale does not matter, down to the smallest normal numbers
        for scale in [1e-30f32, 1e-36, 1e30] {
            assert!((of(0.6 * scale, 0.8 * scale).wrapping_sub(of(0.6, 0.8)) as i32).abs() < 400);
        }
        assert_eq!(of(f32::MIN_POSITIVE / 4.0, 0.0), 0);
    }
}

//! The logarithm that ends every front end.

/// Added to an amplitude before its logarithm: silence becomes ln(1e-6) = -13.8.
pub const FLOOR: f32 = 1e-6;

/// Natural logarithm of a normal positive number to 2e-7 absolute and relative; NaN of NaN and of infinity.
///
/// `x = m 2^e` with m in 2/3 to 4/3, and `ln m = 2 atanh s = 2 (s + s^3 / 3 + s^5 / 5 + s^7 / 7 + ...)` with
/// `s = (m - 1) / (m + 1)`, at most 1/5. Plain arithmetic, so that it vectorises and is the same on every machine.
#[inline(always)]
pub(super) fn ln(x: f32) -> f32 {
    const TWO_THIRDS: u32 = 0x3f2a_aaab;
    let e = (x.to_bits().wrapping_sub(TWO_THIRDS) as i32) >> 23;
    let m = f32::from_bits(x.to_bits().wrapping_sub((e << 23) as u32));
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let series = s * (2.0 + z * (2.0 / 3.0 + z * (2.0 / 5.0 + z * (2.0 / 7.0 + z * (2.0 / 9.0)))));
    // zero, except for NaN and infinity: neither may come out as a number
    let passed_on = 0.0 * x;
    e as f32 * std::f32::consts::LN_2 + series + passed_on
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_the_logarithm() {
        assert_eq!((ln(1.0), ln(2.0), ln(0.25)), (0.0, 2f32.ln(), 0.25f32.ln()));
        for i in 0..200_000 {
            let x = (f64::from(i) / 1_000.0 - 80.0).exp() as f32;
            let exact = f64::from(x).ln();
            if x.is_normal() {
                assert!(
                    (f64::from(ln(x)) - exact).abs() <= 2e-7 * (1.0 + exact.abs()),
                    "ln({x}): {} not {exact}",
                    ln(x)
                );
            }
        }
        assert!(ln(f32::NAN).is_nan() && ln(f32::INFINITY).is_nan());
    }
}

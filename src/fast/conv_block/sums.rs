//! The weight gradient's inner loop: a sum over argmax positions of short runs of the input.

use crate::fast::simd::{self, Kernel, Vector};

/// The gradient at one argmax, and where the input patch of its convolution starts.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Spot {
    /// Index of the first element of the first run.
    pub start: u32,
    /// The gradient.
    pub factor: f32,
}

/// `sums[r][k] += sum over the spots of factor * input[start + r * stride + k]`. `sums` has rows of `run` elements.
///
/// Each call sums in registers, spot after spot, before it adds to `sums`.
///
/// # Panics
/// If a run leaves `input`, or if `run` is not a multiple of [`simd::width`].
pub fn sum_runs(spots: &[Spot], input: &[f32], stride: usize, sums: &mut [f32], run: usize) {
    assert!(run > 0 && run.is_multiple_of(simd::width()) && sums.len().is_multiple_of(run), "sum_runs: {run} of a run");
    simd::run(SumRuns { spots, input, stride, sums, run });
}

struct SumRuns<'a> {
    spots: &'a [Spot],
    input: &'a [f32],
    stride: usize,
    sums: &'a mut [f32],
    run: usize,
}

/// Calls `$tile::<V, across, down>(row, column)` for tiles of `$rows` rows of `$vectors` registers: at most six
/// registers across and twelve in all, as even as they can be. Their loops are unrolled, so that a tile stays in registers.
macro_rules! tiles {
    ($rows:expr, $vectors:expr, |$r:ident, $v:ident| $tile:ident::<$w:ident>($($argument:expr),*)) => {
        let (rows, vectors): (usize, usize) = ($rows, $vectors);
        let wide = vectors.div_ceil(vectors.div_ceil(6));
        for $v in (0..vectors).step_by(wide) {
            let across = wide.min(vectors - $v);
            let count = rows.div_ceil((12 / across).min(6));
            for tile in 0..count {
                let $r = rows * tile / count;
                let down = rows * (tile + 1) / count - $r;
                tiles!(pick $tile, $w, across, down, ($($argument),*);
                    1 1, 1 2, 1 3, 1 4, 1 5, 1 6, 2 1, 2 2, 2 3, 2 4, 2 5, 2 6, 3 1, 3 2, 3 3, 3 4, 4 1, 4 2, 4 3,
                    5 1, 5 2, 6 1, 6 2);
            }
        }
    };
    (pick $tile:ident, $w:ident, $across:ident, $down:ident, $arguments:tt; $($a:literal $d:literal),*) => {
        match ($across, $down) {
            $(($a, $d) => tiles!(call $tile, $w, $a, $d, $arguments),)*
            (across, down) => unreachable!("a tile of {across} by {down}"),
        }
    };
    (call $tile:ident, $w:ident, $a:literal, $d:literal, ($($argument:expr),*)) => {
        $tile::<$w, $a, $d>($($argument),*)
    };
}

impl Kernel for SumRuns<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { spots, input, stride, sums, run } = self;
        tiles!(sums.len() / run, run / V::LANES, |r, v| sum_tile::<V>(
            spots,
            &input[r * stride + v * V::LANES..],
            stride,
            &mut sums[r * run + v * V::LANES..],
            run
        ));
    }
}

/// `R` rows of `N` vectors.
#[inline(always)]
fn sum_tile<V: Vector, const N: usize, const R: usize>(
    spots: &[Spot],
    input: &[f32],
    stride: usize,
    sums: &mut [f32],
    run: usize,
) {
    let mut tile = [[V::splat(0.0); N]; R];
    for spot in spots {
        let input = &input[spot.start as usize..];
        let factor = V::splat(spot.factor);
        for (r, tile) in tile.iter_mut().enumerate() {
            let input = &input[r * stride..][..N * V::LANES];
            for (v, sum) in tile.iter_mut().enumerate() {
                *sum = V::load(&input[v * V::LANES..]).mul_add(factor, *sum);
            }
        }
    }
    for (r, tile) in tile.iter().enumerate() {
        let sums = &mut sums[r * run..][..N * V::LANES];
        for (v, sum) in tile.iter().enumerate() {
            let sums = &mut sums[v * V::LANES..];
            V::load(sums).add(*sum).store(sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fast::simd::PortableVector;

    /// Small whole numbers: every order and rounding gives the same sum.
    fn whole(len: usize, step: usize) -> Vec<f32> {
        (0..len).map(|i| (i * step % 11) as f32 - 5.0).collect()
    }

    #[test]
    fn runs_are_summed_for_every_tile() {
        let spots: Vec<Spot> = (0..5).map(|i| Spot { start: 3 * i, factor: i as f32 - 1.0 }).collect();
        for (rows, vectors) in (1..=13).map(|rows| (rows, 1)).chain((1..=26).map(|vectors| (3, vectors))) {
            let (run, stride) = (vectors * simd::width(), vectors * simd::width() + 7);
            let input = whole(12 + rows * stride, 3);
            let mut sums = vec![1.0; rows * run];
            sum_runs(&spots, &input, stride, &mut sums, run);
            let mut plain = vec![1.0; rows * run];
            SumRuns { spots: &spots, input: &input, stride, sums: &mut plain, run }.run::<PortableVector<4>>();
            for (i, sum) in sums.iter().enumerate() {
                let at = |spot: &Spot| spot.factor * input[spot.start as usize + i / run * stride + i % run];
                assert_eq!(*sum, 1.0 + spots.iter().map(at).sum::<f32>(), "{rows} {vectors} {i}");
            }
            assert_eq!(sums, plain);
        }
    }

    #[test]
    #[should_panic]
    fn a_spot_beyond_the_input_is_refused() {
        let run = simd::width();
        sum_runs(&[Spot { start: 1, factor: 1.0 }], &vec![0.0; run], run, &mut vec![0.0; run], run);
    }
}

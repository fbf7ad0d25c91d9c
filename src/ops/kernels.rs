//! The two inner kernels of the CPU path, and the crate's only unsafe code: a checked wrapper around
//! `matrixmultiply`, and the sum of products that all three convolutions reduce to, compiled for the best
//! instruction set that the machine turns out to have.
#![allow(unsafe_code)]

/// A matrix inside a slice: element (i, j) is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy)]
pub struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Mat<'a> {
    /// Row-major `[rows, cols]`.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// Rows that stand `row_stride` apart.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        Mat { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose, without a copy.
    pub fn t(self) -> Self {
        Mat { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
}

/// True if every element of a `rows x cols` matrix with these strides lies inside `len` elements.
fn fits(len: usize, rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> bool {
    rows == 0 || cols == 0 || (rows - 1) * row_stride + (cols - 1) * col_stride < len
}

/// `c = a b`, where row i of `c` starts at `c[i * c_stride]`; the old `c` is not read.
///
/// The sum over the inner index runs in an order that depends only on the sizes.
pub fn gemm(a: Mat, b: Mat, c: &mut [f32], c_stride: usize) {
    assert_eq!(a.cols, b.rows, "gemm: inner sizes");
    assert!(fits(a.data.len(), a.rows, a.cols, a.row_stride, a.col_stride), "gemm: a outside its slice");
    assert!(fits(b.data.len(), b.rows, b.cols, b.row_stride, b.col_stride), "gemm: b outside its slice");
    assert!(fits(c.len(), a.rows, b.cols, c_stride, 1), "gemm: c outside its slice");
    assert!(a.rows <= 1 || b.cols <= c_stride, "gemm: rows of c overlap");
    // SAFETY: the assertions above keep every element that sgemm reads or writes inside the three slices, and the
    // rows of `c` apart; `c` is borrowed mutably, so nothing else sees it.
    unsafe {
        matrixmultiply::sgemm(
            a.rows,
            a.cols,
            b.cols,
            1.0,
            a.data.as_ptr(),
            a.row_stride as isize,
            a.col_stride as isize,
            b.data.as_ptr(),
            b.row_stride as isize,
            b.col_stride as isize,
            0.0,
            c.as_mut_ptr(),
            c_stride as isize,
            1,
        );
    }
}

/// Independent sums that [`multiply_adds`] keeps in registers: enough to hide the latency of two units.
const SUMS: usize = 12;

/// Multiply-adds in registers and nothing else, to learn what this machine's arithmetic can do at most; gives the
/// number of floating-point operations, two a multiply-add.
pub fn multiply_adds(rounds: u64) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
            // SAFETY: the machine has AVX-512F and VL, which is all that the function asks for.
            return unsafe { multiply_adds_avx512(rounds) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the machine has AVX2 and FMA, which is all that the function asks for.
            return unsafe { multiply_adds_avx2(rounds) };
        }
    }
    multiply_adds_of::<4, { cfg!(target_arch = "aarch64") }>(rounds)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl")]
fn multiply_adds_avx512(rounds: u64) -> u64 {
    multiply_adds_of::<LANES, true>(rounds)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn multiply_adds_avx2(rounds: u64) -> u64 {
    multiply_adds_of::<VECTOR, true>(rounds)
}

#[inline(always)]
fn multiply_adds_of<const WIDTH: usize, const FMA: bool>(rounds: u64) -> u64 {
    let factor = std::hint::black_box(0.999f32);
    let addend = std::hint::black_box([0.001f32; WIDTH]);
    let multiply_add = |sum: &mut [f32; WIDTH]| {
        for (sum, addend) in sum.iter_mut().zip(&addend) {
            *sum = if FMA { sum.mul_add(factor, *addend) } else { *sum * factor + addend };
        }
    };
    // Each sum by name: an array of them would live in memory.
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h, mut i, mut j, mut k, mut l] =
        std::hint::black_box([[0.5f32; WIDTH]; SUMS]);
    for _ in 0..rounds {
        multiply_add(&mut a);
        multiply_add(&mut b);
        multiply_add(&mut c);
        multiply_add(&mut d);
        multiply_add(&mut e);
        multiply_add(&mut f);
        multiply_add(&mut g);
        multiply_add(&mut h);
        multiply_add(&mut i);
        multiply_add(&mut j);
        multiply_add(&mut k);
        multiply_add(&mut l);
    }
    std::hint::black_box([a, b, c, d, e, f, g, h, i, j, k, l]);
    2 * (SUMS * WIDTH) as u64 * rounds
}

/// Channels that one call of [`correlate`] computes: one AVX-512 register, two of AVX.
pub const LANES: usize = 16;

/// Shifts that one call of [`correlate`] computes at most.
pub const SHIFTS: usize = 10;

/// Shifts that suit this machine: with sixteen lanes each, their sums just fit its registers.
pub fn max_shifts() -> usize {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
        return SHIFTS;
    }
    5
}

/// Which products a call of [`correlate`] sums: `outer * inner` runs of `len` consecutive products.
///
/// Run (a, b) starts at weight `a * weight.0 + b * weight.1` and at input `start + a * input.0 + b * input.1`.
#[derive(Clone, Copy, Debug)]
pub struct Runs {
    /// Number of outer runs.
    pub outer: usize,
    /// Number of runs in each.
    pub inner: usize,
    /// Products of a run.
    pub len: usize,
    /// Steps of the weight from run to run, outer and inner.
    pub weight: (usize, usize),
    /// Steps of the input, outer and inner.
    pub input: (usize, usize),
}

/// `sum[p][c] = sum_k weight[k][c] input[k + p]` over all products k of `runs`, for shifts `p < shifts`.
///
/// A convolution's forward pass is this with shifts along the output row and k over the taps; its weight gradient is
/// this with shifts along the taps and k over the output row. The order of the sum depends on nothing but `runs`.
///
/// # Panics
/// If a run leaves `weight` or `input` (which must hold `shifts - 1` elements more), or `shifts` exceeds [`SHIFTS`].
pub fn correlate(weight: &[[f32; LANES]], input: &[f32], runs: Runs, shifts: usize) -> [[f32; LANES]; SHIFTS] {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
            // SAFETY: the machine has AVX-512F and VL, which is all that the function asks for (they imply AVX2 and FMA).
            return unsafe { avx512(weight, input, runs, shifts) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the machine has AVX2 and FMA, which is all that the function asks for.
            return unsafe { avx2(weight, input, runs, shifts) };
        }
    }
    portable(weight, input, runs, shifts)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl")]
fn avx512(weight: &[[f32; LANES]], input: &[f32], runs: Runs, shifts: usize) -> [[f32; LANES]; SHIFTS] {
    by_shifts::<true>(weight, input, runs, shifts)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(weight: &[[f32; LANES]], input: &[f32], runs: Runs, shifts: usize) -> [[f32; LANES]; SHIFTS] {
    by_shifts::<true>(weight, input, runs, shifts)
}

fn portable(weight: &[[f32; LANES]], input: &[f32], runs: Runs, shifts: usize) -> [[f32; LANES]; SHIFTS] {
    by_shifts::<false>(weight, input, runs, shifts)
}

/// Picks the loop unrolled for the number of shifts: that many rows of sums stay in registers.
#[inline(always)]
fn by_shifts<const FMA: bool>(
    weight: &[[f32; LANES]],
    input: &[f32],
    runs: Runs,
    shifts: usize,
) -> [[f32; LANES]; SHIFTS] {
    let mut out = [[0.0; LANES]; SHIFTS];
    macro_rules! pick {
        ($($n:literal)*) => {
            match shifts {
                $($n => out[..$n].copy_from_slice(&sums::<$n, FMA>(weight, input, runs)),)*
                _ => panic!("correlate: {shifts} shifts"),
            }
        };
    }
    pick!(1 2 3 4 5 6 7 8 9 10);
    out
}

#[inline(always)]
fn sums<const P: usize, const FMA: bool>(weight: &[[f32; LANES]], input: &[f32], runs: Runs) -> [[f32; LANES]; P] {
    let mut sums = [[0.0f32; LANES]; P];
    for a in 0..runs.outer {
        for b in 0..runs.inner {
            let weight = &weight[a * runs.weight.0 + b * runs.weight.1..][..runs.len];
            let input = &input[a * runs.input.0 + b * runs.input.1..][..runs.len + P - 1];
            for (k, weight) in weight.iter().enumerate() {
                for (p, sum) in sums.iter_mut().enumerate() {
                    let x = input[k + p];
                    for (sum, w) in sum.iter_mut().zip(weight) {
                        *sum = if FMA { w.mul_add(x, *sum) } else { w * x + *sum };
                    }
                }
            }
        }
    }
    sums
}

/// Floats of a vector of [`add_rows`].
pub const VECTOR: usize = 8;

/// `out[r][s] += factor * input[r * stride + s]` for every row of `out`, `[rows, vectors * VECTOR]`.
///
/// # Panics
/// If a row leaves `input`.
pub fn add_rows(factor: f32, input: &[f32], stride: usize, out: &mut [[f32; VECTOR]], vectors: usize) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the machine has AVX2 and FMA, which is all that the function asks for.
        return unsafe { add_rows_avx2(factor, input, stride, out, vectors) };
    }
    add_rows_of::<false>(factor, input, stride, out, vectors);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn add_rows_avx2(factor: f32, input: &[f32], stride: usize, out: &mut [[f32; VECTOR]], vectors: usize) {
    add_rows_of::<true>(factor, input, stride, out, vectors);
}

#[inline(always)]
fn add_rows_of<const FMA: bool>(factor: f32, input: &[f32], stride: usize, out: &mut [[f32; VECTOR]], vectors: usize) {
    for (r, out) in out.chunks_exact_mut(vectors).enumerate() {
        let input = input[r * stride..][..vectors * VECTOR].as_chunks::<VECTOR>().0;
        for (out, x) in out.iter_mut().zip(input) {
            for (out, x) in out.iter_mut().zip(x) {
                *out = if FMA { x.mul_add(factor, *out) } else { x * factor + *out };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_by_hand() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]; // 2 x 3
        let b = [1.0, 0.0, 0.0, 1.0, 1.0, 1.0]; // 3 x 2
        let mut c = [f32::NAN; 4];
        gemm(Mat::new(&a, 2, 3), Mat::new(&b, 3, 2), &mut c, 2);
        assert_eq!(c, [4.0, 5.0, 10.0, 11.0]);
        gemm(Mat::new(&b, 3, 2).t(), Mat::new(&a, 2, 3).t(), &mut c, 2); // (a b)^T
        assert_eq!(c, [4.0, 10.0, 5.0, 11.0]);
    }

    #[test]
    #[should_panic(expected = "c outside its slice")]
    fn a_short_output_is_refused() {
        gemm(Mat::new(&[1.0; 4], 2, 2), Mat::new(&[1.0; 4], 2, 2), &mut [0.0; 3], 2);
    }

    #[test]
    fn operations_are_counted() {
        let width = multiply_adds(1) / (2 * SUMS as u64);
        assert!([4, VECTOR as u64, LANES as u64].contains(&width), "{width}");
        assert_eq!(multiply_adds(1000), 1000 * multiply_adds(1));
    }

    #[test]
    fn every_instruction_set_and_number_of_shifts_gives_the_sum() {
        let weight: Vec<[f32; LANES]> =
            (0..60).map(|k| std::array::from_fn(|c| (k * 3 + c) as f32 % 7.0 - 3.0)).collect();
        let input: Vec<f32> = (0..100).map(|i| (i * 5) as f32 % 11.0 - 5.0).collect();
        let runs = Runs { outer: 2, inner: 3, len: 7, weight: (21, 7), input: (40, 12) };
        for shifts in 1..=SHIFTS {
            let kernels = [correlate(&weight, &input, runs, shifts), portable(&weight, &input, runs, shifts)];
            for p in 0..shifts {
                for c in 0..LANES {
                    let mut expected = 0.0;
                    for (a, b, k) in (0..42).map(|i| (i / 21, i / 7 % 3, i % 7)) {
                        expected += weight[a * 21 + b * 7 + k][c] * input[a * 40 + b * 12 + k + p];
                    }
                    // Small whole numbers: every order and rounding gives the same.
                    assert_eq!([kernels[0][p][c], kernels[1][p][c]], [expected; 2], "{shifts} {p} {c}");
                }
            }
        }
    }

    #[test]
    fn rows_are_added_by_hand() {
        let input: Vec<f32> = (0..100).map(|i| i as f32).collect();
        for vectors in [1, 2, 3] {
            let mut out = vec![[1.0; VECTOR]; 3 * vectors];
            add_rows(2.0, &input, 30, &mut out, vectors);
            for (i, out) in out.as_flattened().iter().enumerate() {
                let width = vectors * VECTOR;
                assert_eq!(*out, 1.0 + 2.0 * (i / width * 30 + i % width) as f32, "{vectors} {i}");
            }
        }
    }

    #[test]
    #[should_panic]
    fn a_run_beyond_the_input_is_refused() {
        let runs = Runs { outer: 1, inner: 1, len: 4, weight: (0, 0), input: (0, 0) };
        correlate(&[[1.0; LANES]; 4], &[1.0; 5], runs, 3);
    }
}

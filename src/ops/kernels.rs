//! The inner kernels of the CPU path, and the crate's only unsafe code: a checked wrapper around `matrixmultiply`,
//! the sum of products that all three convolutions reduce to, vectors for kernels written elsewhere ([`Vector`],
//! [`Kernel`]), and matrices cut between columns ([`columns`]). What is compiled is chosen for the best instruction
//! set that the machine turns out to have.
#![allow(unsafe_code)]

use std::marker::PhantomData;

use rayon::prelude::*;

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

/// Some floats that are worked on at once. Every method must be inlined into a [`Kernel`] to be fast.
pub trait Vector: Copy {
    /// Number of floats.
    const LANES: usize;
    /// How many of them the machine keeps at hand.
    const REGISTERS: usize;

    /// `x` in every lane.
    fn splat(x: f32) -> Self;

    /// The first floats of `from`; panics if those are too few.
    fn load(from: &[f32]) -> Self;

    /// Overwrites the first floats of `to`; panics if those are too few.
    fn store(self, to: &mut [f32]);

    fn add(self, b: Self) -> Self;
    fn sub(self, b: Self) -> Self;
    fn mul(self, b: Self) -> Self;
    fn div(self, b: Self) -> Self;
    fn sqrt(self) -> Self;
    fn abs(self) -> Self;

    /// `self * b + c`, rounded once where the machine can.
    fn mul_add(self, b: Self, c: Self) -> Self;

    /// `size * sign(self)`, with `sign(0) = 0`.
    fn signs(self, size: Self) -> Self;
}

/// A kernel written with [`Vector`]s, to be run with those of the machine. All that it calls must be
/// `#[inline(always)]`: only then is it compiled for the machine's instruction set.
pub trait Kernel {
    /// The kernel.
    fn run<V: Vector>(self);
}

/// Runs `kernel` with the widest vectors of this machine.
pub fn run(kernel: impl Kernel) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the machine has AVX-512F, which is all that the function asks for.
            return unsafe { x86::run_avx512(kernel) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the machine has AVX2 and FMA, which is all that the function asks for.
            return unsafe { x86::run_avx2(kernel) };
        }
    }
    kernel.run::<Plain<4>>();
}

/// Vectors of any machine, `L` floats long; with one lane, what is left over at the end of an array.
#[derive(Clone, Copy)]
pub struct Plain<const L: usize>([f32; L]);

impl<const L: usize> Plain<L> {
    #[inline(always)]
    fn zip(mut self, b: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        for (a, b) in self.0.iter_mut().zip(b.0) {
            *a = f(*a, b);
        }
        self
    }
}

impl<const L: usize> Vector for Plain<L> {
    const LANES: usize = L;
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Plain([x; L])
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let mut lanes = [0.0; L];
        lanes.copy_from_slice(&from[..L]);
        Plain(lanes)
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        to[..L].copy_from_slice(&self.0);
    }

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        self.zip(b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        self.zip(b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        self.zip(b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, b: Self) -> Self {
        self.zip(b, |a, b| a / b)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.zip(self, |a, _| a.sqrt())
    }

    #[inline(always)]
    fn abs(self) -> Self {
        self.zip(self, |a, _| a.abs())
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        self.mul(b).add(c)
    }

    #[inline(always)]
    fn signs(self, size: Self) -> Self {
        self.zip(size, |a, size| if a == 0.0 { 0.0 } else { f32::from_bits(size.to_bits() ^ (a.to_bits() & 1 << 31)) })
    }
}

/// The vectors of x86. The types are private: the only way to one leads through [`run`], which has asked the machine.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Kernel, Vector};

    #[target_feature(enable = "avx512f")]
    pub fn run_avx512(kernel: impl Kernel) {
        kernel.run::<Avx512>();
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn run_avx2(kernel: impl Kernel) {
        kernel.run::<Avx2>();
    }

    macro_rules! vector {
        ($name:ident($register:ty), $lanes:literal, $registers:literal, $set1:ident, $loadu:ident, $storeu:ident,
            $add:ident, $sub:ident, $mul:ident, $div:ident, $sqrt:ident, $fmadd:ident,
            abs($x:ident) $abs:block, signs($a:ident, $size:ident) $signs:block) => {
            #[derive(Clone, Copy)]
            struct $name($register);

            // SAFETY of every call below: the type is named in its run function only, so the machine has its
            // instructions; none but the load and the store touches memory, and those get whole arrays.
            impl Vector for $name {
                const LANES: usize = $lanes;
                const REGISTERS: usize = $registers;

                #[inline(always)]
                fn splat(x: f32) -> Self {
                    // SAFETY: see above.
                    unsafe { $name($set1(x)) }
                }

                #[inline(always)]
                fn load(from: &[f32]) -> Self {
                    let from = &from[..$lanes];
                    // SAFETY: see above; `from` has as many floats as are read.
                    unsafe { $name($loadu(from.as_ptr())) }
                }

                #[inline(always)]
                fn store(self, to: &mut [f32]) {
                    let to = &mut to[..$lanes];
                    // SAFETY: see above; `to` has as many floats as are written.
                    unsafe { $storeu(to.as_mut_ptr(), self.0) }
                }

                #[inline(always)]
                fn add(self, b: Self) -> Self {
                    // SAFETY: see above.
                    unsafe { $name($add(self.0, b.0)) }
                }

                #[inline(always)]
                fn sub(self, b: Self) -> Self {
                    // SAFETY: see above.
                    unsafe { $name($sub(self.0, b.0)) }
                }

                #[inline(always)]
                fn mul(self, b: Self) -> Self {
                    // SAFETY: see above.
                    unsafe { $name($mul(self.0, b.0)) }
                }

                #[inline(always)]
                fn div(self, b: Self) -> Self {
                    // SAFETY: see above.
                    unsafe { $name($div(self.0, b.0)) }
                }

                #[inline(always)]
                fn sqrt(self) -> Self {
                    // SAFETY: see above.
                    unsafe { $name($sqrt(self.0)) }
                }

                #[inline(always)]
                fn mul_add(self, b: Self, c: Self) -> Self {
                    // SAFETY: see above.
                    unsafe { $name($fmadd(self.0, b.0, c.0)) }
                }

                #[inline(always)]
                fn abs(self) -> Self {
                    let $x = self.0;
                    // SAFETY: see above.
                    unsafe { $name($abs) }
                }

                #[inline(always)]
                fn signs(self, size: Self) -> Self {
                    let ($a, $size) = (self.0, size.0);
                    // SAFETY: see above.
                    unsafe { $name($signs) }
                }
            }
        };
    }

    vector!(
        Avx512(__m512), 16, 32, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps,
        _mm512_add_ps, _mm512_sub_ps, _mm512_mul_ps, _mm512_div_ps, _mm512_sqrt_ps, _mm512_fmadd_ps,
        abs(x) { _mm512_abs_ps(x) },
        signs(a, size) {
            let sign = _mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(i32::MIN));
            let signed = _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(size), sign));
            _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(a, _mm512_setzero_ps()), signed)
        }
    );

    vector!(
        Avx2(__m256), 8, 16, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps,
        _mm256_add_ps, _mm256_sub_ps, _mm256_mul_ps, _mm256_div_ps, _mm256_sqrt_ps, _mm256_fmadd_ps,
        abs(x) { _mm256_andnot_ps(_mm256_set1_ps(-0.0), x) },
        signs(a, size) {
            let signed = _mm256_xor_ps(size, _mm256_and_ps(a, _mm256_set1_ps(-0.0)));
            _mm256_and_ps(signed, _mm256_cmp_ps::<_CMP_NEQ_UQ>(a, _mm256_setzero_ps()))
        }
    );
}

/// Neighbouring columns of a row-major matrix, all rows of them, to be written by one task.
pub struct Columns<'a> {
    data: *mut f32,
    rows: usize,
    stride: usize,
    from: usize,
    width: usize,
    owner: PhantomData<&'a mut [f32]>,
}

// SAFETY: a `Columns` is the only way to its elements, as a `&mut [f32]` would be, and that may be sent.
unsafe impl Send for Columns<'_> {}

/// Cuts the matrix `data`, whose rows have `cols` elements, into blocks of `width` columns, from left to right.
pub fn columns(data: &mut [f32], cols: usize, width: usize) -> impl IndexedParallelIterator<Item = Columns<'_>> {
    /// Shared by the tasks, each of which makes its own block of it.
    struct Whole(*mut f32);
    // SAFETY: the pointer is only copied; what may be done with the copies is the business of `Columns`.
    unsafe impl Send for Whole {}
    // SAFETY: as above.
    unsafe impl Sync for Whole {}

    assert!(width > 0 && (data.is_empty() || data.len().is_multiple_of(cols)), "columns: whole rows");
    let rows = data.len().checked_div(cols).unwrap_or(0);
    let whole = Whole(data.as_mut_ptr());
    // The blocks do not overlap, every one is made once, and `data` stays borrowed as long as they live.
    (0..cols.div_ceil(width)).into_par_iter().map(move |block| {
        let whole = &whole;
        let from = block * width;
        Columns { data: whole.0, rows, stride: cols, from, width: width.min(cols - from), owner: PhantomData }
    })
}

impl Columns<'_> {
    /// Number of rows.
    #[inline(always)]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The matrix's column that is the first one here.
    #[inline(always)]
    pub fn from(&self) -> usize {
        self.from
    }

    /// Number of columns.
    #[inline(always)]
    pub fn width(&self) -> usize {
        self.width
    }

    /// One row of these columns.
    #[inline(always)]
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "columns: row {row} of {}", self.rows);
        // SAFETY: `from + width <= stride` and `row < rows`, so the elements lie inside the matrix, which is borrowed
        // for as long as `self`; no other `Columns` has them, and `&mut self` lets nobody take them twice.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(row * self.stride + self.from), self.width) }
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

    /// Every method of a vector on numbers with exact results; the last lane of each is kept.
    struct Methods<'a>(&'a [f32], &'a mut Vec<(usize, Vec<f32>)>);

    impl Kernel for Methods<'_> {
        #[inline(always)]
        fn run<V: Vector>(self) {
            let (a, b) = (V::load(self.0), V::splat(-4.0));
            let results = [
                a,
                b,
                a.add(b),
                a.sub(b),
                a.mul(b),
                a.div(b),
                a.abs(),
                a.abs().sqrt(),
                a.mul_add(b, V::splat(1.0)),
                a.signs(b),
                a.signs(V::splat(0.5)),
            ];
            for result in results {
                let mut lanes = vec![f32::NAN; V::LANES + 1];
                result.store(&mut lanes);
                assert!(lanes.pop().is_some_and(f32::is_nan), "one float too many");
                self.1.push((V::LANES, lanes));
            }
        }
    }

    #[test]
    fn every_vector_computes_by_hand() {
        // Sixteen lanes at most: 9, -9, 0, -0, and again.
        let input: Vec<f32> = (0..16).map(|i| [9.0, -9.0, 0.0, -0.0][i % 4]).collect();
        let mut found = Vec::new();
        run(Methods(&input, &mut found));
        Methods(&input, &mut found).run::<Plain<1>>();
        Methods(&input, &mut found).run::<Plain<4>>();
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the machine has what the function asks for.
            unsafe { x86::run_avx2(Methods(&input, &mut found)) };
        }
        let expected: [[f32; 4]; 11] = [
            [9.0, -9.0, 0.0, 0.0],
            [-4.0; 4],
            [5.0, -13.0, -4.0, -4.0],
            [13.0, -5.0, 4.0, 4.0],
            [-36.0, 36.0, 0.0, 0.0],
            [-2.25, 2.25, 0.0, 0.0],
            [9.0, 9.0, 0.0, 0.0],
            [3.0, 3.0, 0.0, 0.0],
            [-35.0, 37.0, 1.0, 1.0],
            [-4.0, 4.0, 0.0, 0.0],
            [0.5, -0.5, 0.0, 0.0],
        ];
        assert!(found.len() >= 33);
        for (number, (lanes, found)) in found.iter().enumerate() {
            let expected: Vec<f32> = (0..*lanes).map(|lane| expected[number % 11][lane % 4]).collect();
            assert_eq!(*found, expected, "result {} of {lanes} lanes", number % 11);
        }
    }

    #[test]
    fn columns_are_written_apart() {
        let mut matrix = vec![0.0; 3 * 7];
        columns(&mut matrix, 7, 3).for_each(|mut block| {
            assert_eq!((block.rows(), block.width()), (3, if block.from() == 6 { 1 } else { 3 }));
            for row in 0..3 {
                let from = block.from();
                block.row(row).iter_mut().enumerate().for_each(|(i, x)| *x = (10 * row + from + i) as f32);
            }
        });
        let expected: Vec<f32> = (0..21).map(|i| (10 * (i / 7) + i % 7) as f32).collect();
        assert_eq!(matrix, expected);
        assert_eq!(columns(&mut [], 7, 3).map(|block| block.rows()).collect::<Vec<_>>(), [0; 3]);
    }

    #[test]
    #[should_panic(expected = "columns: row 2 of 2")]
    fn a_row_beyond_the_columns_is_refused() {
        let mut matrix = [0.0; 4];
        columns(&mut matrix, 2, 2).for_each(|mut block| block.row(2).fill(1.0));
    }
}

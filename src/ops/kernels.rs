//! The inner kernels of the CPU path, and the crate's only unsafe code: a checked wrapper around `matrixmultiply`, the
//! sum of products that all three convolutions reduce to, and what a fused pool needs (running maxima; sums over the
//! winners alone), compiled for the best instruction set that the machine turns out to have.
#![allow(unsafe_code)]

mod columns;
pub mod simd;

pub use columns::{Columns, columns};
pub use simd::{Kernel, LANES, Lanes, Plain, Vector, run};

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
    let mut flops = 0;
    run(MultiplyAdds { rounds, flops: &mut flops });
    flops
}

struct MultiplyAdds<'a> {
    rounds: u64,
    flops: &'a mut u64,
}

impl Kernel for MultiplyAdds<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (factor, addend) = (V::splat(std::hint::black_box(0.999)), V::splat(std::hint::black_box(0.001)));
        let mut sums = [addend; SUMS];
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = sum.mul_add(factor, addend);
            }
        }
        let mut total = [0.0; LANES];
        for sum in sums {
            sum.add(V::load(&total)).store(&mut total);
        }
        std::hint::black_box(total);
        *self.flops = 2 * (SUMS * V::LANES) as u64 * self.rounds;
    }
}

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

/// Keeps the winners of a row of windows: `row` is one row of a map, lanes are channels, window `j` has the columns
/// `j k_w .. (j + 1) k_w`. Where an element exceeds `best[j]` it takes over, and where places are asked for, its place
/// (`first` + column) too.
pub struct KeepWinners<'a> {
    pub row: &'a [[f32; LANES]],
    pub k_w: usize,
    pub first: f32,
    pub best: &'a mut [Lanes],
    /// As many as `best`.
    pub places: Option<&'a mut [Lanes]>,
}

impl Kernel for KeepWinners<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        match LANES / V::LANES {
            1 => self.windows::<V, 1>(),
            2 => self.windows::<V, 2>(),
            4 => self.windows::<V, 4>(),
            _ => self.windows::<V, LANES>(),
        }
    }
}

impl KeepWinners<'_> {
    /// All `P` vectors of the lanes at once: each element waits for the one before it.
    #[inline(always)]
    fn windows<V: Vector, const P: usize>(self) {
        let Self { row, k_w, first, best, mut places } = self;
        let load = |lanes: &[f32; LANES]| std::array::from_fn::<V, P, _>(|p| V::load(&lanes[p * V::LANES..]));
        let store = |x: [V; P], lanes: &mut Lanes| {
            x.into_iter().enumerate().for_each(|(p, x)| x.store(&mut lanes.0[p * V::LANES..]));
        };
        for (j, (window, best)) in row[..best.len() * k_w].chunks_exact(k_w).zip(best).enumerate() {
            let mut x = load(&best.0);
            if let Some(places) = &mut places {
                let (mut at, mut here) = (load(&places[j].0), first + (j * k_w) as f32);
                for value in window {
                    let value = load(value);
                    for p in 0..P {
                        at[p] = value[p].if_greater(x[p], V::splat(here), at[p]);
                        x[p] = value[p].max(x[p]);
                    }
                    here += 1.0;
                }
                store(at, &mut places[j]);
            } else {
                for value in window {
                    let value = load(value);
                    for p in 0..P {
                        x[p] = value[p].max(x[p]);
                    }
                }
            }
            store(x, best);
        }
    }
}

/// A winner's gradient, and where the input that its convolution saw starts.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Spot {
    /// Index of the first element of the first run.
    pub start: u32,
    /// The gradient.
    pub factor: f32,
}

/// Floats that runs of [`sum_runs`] and [`spread_runs`] are multiples of: a register of this machine.
pub fn width() -> usize {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
        return 16;
    }
    8
}

/// `sums[r][k] += sum over the spots of factor * input[start + r * stride + k]`, `sums` being rows of `run` elements.
///
/// Each call sums in registers, spot after spot, before it adds to `sums`.
///
/// # Panics
/// If a run leaves `input`, or is no multiple of [`width`].
pub fn sum_runs(spots: &[Spot], input: &[f32], stride: usize, sums: &mut [f32], run: usize) {
    assert!(run > 0 && run.is_multiple_of(width()) && sums.len().is_multiple_of(run), "sum_runs: {run} of a run");
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
            // SAFETY: the machine has AVX-512F and VL, which is all that the function asks for.
            return unsafe { sum_runs_avx512(spots, input, stride, sums, run) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the machine has AVX2 and FMA, which is all that the function asks for.
            return unsafe { sum_runs_avx2(spots, input, stride, sums, run) };
        }
    }
    sum_tiles::<8, false>(spots, input, stride, sums, run);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl")]
fn sum_runs_avx512(spots: &[Spot], input: &[f32], stride: usize, sums: &mut [f32], run: usize) {
    sum_tiles::<16, true>(spots, input, stride, sums, run);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn sum_runs_avx2(spots: &[Spot], input: &[f32], stride: usize, sums: &mut [f32], run: usize) {
    sum_tiles::<8, true>(spots, input, stride, sums, run);
}

/// Calls `$tile::<W, across, down, FMA>(row, column)` for tiles of `$rows` rows of `$vectors` registers: at most six
/// registers across and twelve in all, as even as they can be. Their loops are unrolled, so that a tile stays in registers.
macro_rules! tiles {
    ($rows:expr, $vectors:expr, |$r:ident, $v:ident| $tile:ident::<$w:ident, $fma:ident>($($argument:expr),*)) => {
        let (rows, vectors): (usize, usize) = ($rows, $vectors);
        let wide = vectors.div_ceil(vectors.div_ceil(6));
        for $v in (0..vectors).step_by(wide) {
            let across = wide.min(vectors - $v);
            let count = rows.div_ceil((12 / across).min(6));
            for tile in 0..count {
                let $r = rows * tile / count;
                let down = rows * (tile + 1) / count - $r;
                tiles!(pick $tile, $w, $fma, across, down, ($($argument),*);
                    1 1, 1 2, 1 3, 1 4, 1 5, 1 6, 2 1, 2 2, 2 3, 2 4, 2 5, 2 6, 3 1, 3 2, 3 3, 3 4, 4 1, 4 2, 4 3,
                    5 1, 5 2, 6 1, 6 2);
            }
        }
    };
    (pick $tile:ident, $w:ident, $fma:ident, $across:ident, $down:ident, $arguments:tt; $($a:literal $d:literal),*) => {
        match ($across, $down) {
            $(($a, $d) => tiles!(call $tile, $w, $a, $d, $fma, $arguments),)*
            (across, down) => unreachable!("a tile of {across} by {down}"),
        }
    };
    (call $tile:ident, $w:ident, $a:literal, $d:literal, $fma:ident, ($($argument:expr),*)) => {
        $tile::<$w, $a, $d, $fma>($($argument),*)
    };
}

#[inline(always)]
fn sum_tiles<const W: usize, const FMA: bool>(
    spots: &[Spot],
    input: &[f32],
    stride: usize,
    sums: &mut [f32],
    run: usize,
) {
    tiles!(sums.len() / run, run / W, |r, v| sum_tile::<W, FMA>(
        spots,
        &input[r * stride + v * W..],
        stride,
        &mut sums[r * run + v * W..],
        run
    ));
}

#[inline(always)]
fn sum_tile<const W: usize, const V: usize, const R: usize, const FMA: bool>(
    spots: &[Spot],
    input: &[f32],
    stride: usize,
    sums: &mut [f32],
    run: usize,
) {
    let mut tile = [[[0.0f32; W]; V]; R];
    for spot in spots {
        let input = &input[spot.start as usize..];
        for (r, tile) in tile.iter_mut().enumerate() {
            let input = input[r * stride..][..V * W].as_chunks::<W>().0;
            for (v, tile) in tile.iter_mut().enumerate() {
                for (sum, x) in tile.iter_mut().zip(&input[v]) {
                    *sum = if FMA { x.mul_add(spot.factor, *sum) } else { x * spot.factor + *sum };
                }
            }
        }
    }
    for (r, tile) in tile.iter().enumerate() {
        for (sum, x) in sums[r * run..][..V * W].iter_mut().zip(tile.as_flattened()) {
            *sum += x;
        }
    }
}

/// `out[start + r * stride + k] += factor * weight[r][k]` for every spot; `weight` are rows of `run` elements.
///
/// The order of the sum depends only on the sizes and the spots.
///
/// # Panics
/// If a run leaves `out`, or is no multiple of [`width`].
pub fn spread_runs(spots: &[Spot], weight: &[f32], run: usize, out: &mut [f32], stride: usize) {
    assert!(run > 0 && run.is_multiple_of(width()) && weight.len().is_multiple_of(run), "spread_runs: {run} of a run");
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
            // SAFETY: the machine has AVX-512F and VL, which is all that the function asks for.
            return unsafe { spread_runs_avx512(spots, weight, run, out, stride) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the machine has AVX2 and FMA, which is all that the function asks for.
            return unsafe { spread_runs_avx2(spots, weight, run, out, stride) };
        }
    }
    spread_tiles::<8, false>(spots, weight, run, out, stride);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl")]
fn spread_runs_avx512(spots: &[Spot], weight: &[f32], run: usize, out: &mut [f32], stride: usize) {
    spread_tiles::<16, true>(spots, weight, run, out, stride);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn spread_runs_avx2(spots: &[Spot], weight: &[f32], run: usize, out: &mut [f32], stride: usize) {
    spread_tiles::<8, true>(spots, weight, run, out, stride);
}

#[inline(always)]
fn spread_tiles<const W: usize, const FMA: bool>(
    spots: &[Spot],
    weight: &[f32],
    run: usize,
    out: &mut [f32],
    stride: usize,
) {
    tiles!(weight.len() / run, run / W, |r, v| spread_tile::<W, FMA>(
        spots,
        &weight[r * run + v * W..],
        run,
        &mut out[r * stride + v * W..],
        stride
    ));
}

#[inline(always)]
fn spread_tile<const W: usize, const V: usize, const R: usize, const FMA: bool>(
    spots: &[Spot],
    weight: &[f32],
    run: usize,
    out: &mut [f32],
    stride: usize,
) {
    let mut tile = [[[0.0f32; W]; V]; R];
    for (r, tile) in tile.iter_mut().enumerate() {
        tile.as_flattened_mut().copy_from_slice(&weight[r * run..][..V * W]);
    }
    for spot in spots {
        let out = &mut out[spot.start as usize..];
        for (r, tile) in tile.iter().enumerate() {
            let out = out[r * stride..][..V * W].as_chunks_mut::<W>().0;
            for (v, tile) in tile.iter().enumerate() {
                for (out, w) in out[v].iter_mut().zip(tile) {
                    *out = if FMA { w.mul_add(spot.factor, *out) } else { w * spot.factor + *out };
                }
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

    /// Small whole numbers: every order and rounding gives the same.
    fn whole(len: usize, step: usize) -> Vec<f32> {
        (0..len).map(|i| (i * step % 11) as f32 - 5.0).collect()
    }

    #[test]
    fn winners_are_the_first_of_equals() {
        let row: Vec<[f32; LANES]> =
            [1.0, 4.0, 4.0, 2.0, 9.0].map(|x| std::array::from_fn(|c| x * (c as f32 - 1.0))).into();
        let (mut best, mut place) = (vec![Lanes([2.0; LANES]); 2], vec![Lanes([7.0; LANES]); 2]);
        run(KeepWinners { row: &row, k_w: 2, first: 100.0, best: &mut best, places: Some(&mut place) });
        // Lane 1 is all zero, lane 0 negative, lane 2 the row itself: 4 at place 101, 4 at place 102.
        assert_eq!([best[0].0[0], best[0].0[1], best[0].0[2]], [2.0, 2.0, 4.0]);
        assert_eq!([place[0].0[0], place[0].0[1], place[0].0[2]], [7.0, 7.0, 101.0]);
        assert_eq!((best[1].0[2], place[1].0[2]), (4.0, 102.0));
        let before = place.clone();
        run(KeepWinners { row: &row, k_w: 2, first: 200.0, best: &mut best, places: Some(&mut place) });
        assert_eq!(place, before, "equals do not take over");

        let mut largest = vec![Lanes([2.0; LANES]); 2];
        run(KeepWinners { row: &row, k_w: 2, first: 0.0, best: &mut largest, places: None });
        assert_eq!(largest, best);
    }

    #[test]
    fn runs_are_summed_and_spread_for_every_tile() {
        let spots: Vec<Spot> = (0..5).map(|i| Spot { start: 3 * i, factor: i as f32 - 1.0 }).collect();
        for (rows, vectors) in (1..=13).map(|rows| (rows, 1)).chain((1..=26).map(|vectors| (3, vectors))) {
            let (run, stride) = (vectors * width(), vectors * width() + 7);
            let input = whole(12 + rows * stride, 3);
            let mut sums = vec![1.0; rows * run];
            sum_runs(&spots, &input, stride, &mut sums, run);
            let mut portable = vec![1.0; rows * run];
            sum_tiles::<8, false>(&spots, &input, stride, &mut portable, run);
            for (i, sum) in sums.iter().enumerate() {
                let at = |spot: &Spot| spot.factor * input[spot.start as usize + i / run * stride + i % run];
                assert_eq!(*sum, 1.0 + spots.iter().map(at).sum::<f32>(), "{rows} {vectors} {i}");
            }
            assert_eq!(sums, portable);

            let weight = whole(rows * run, 5);
            let (mut out, mut expected) = (vec![2.0; 12 + rows * stride], vec![2.0; 12 + rows * stride]);
            spread_runs(&spots, &weight, run, &mut out, stride);
            for spot in &spots {
                for (i, w) in weight.iter().enumerate() {
                    expected[spot.start as usize + i / run * stride + i % run] += spot.factor * w;
                }
            }
            assert_eq!(out, expected);
            let mut portable = vec![2.0; out.len()];
            spread_tiles::<8, false>(&spots, &weight, run, &mut portable, stride);
            assert_eq!(portable, expected);
        }
    }

    #[test]
    #[should_panic]
    fn a_spot_beyond_the_input_is_refused() {
        let run = width();
        sum_runs(&[Spot { start: 1, factor: 1.0 }], &vec![0.0; run], run, &mut vec![0.0; run], run);
    }
}

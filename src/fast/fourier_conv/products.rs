//! The vector kernels of a convolution by transforms: splitting and joining rows, the kernels' columns, products of spectra.

use crate::fast::fft::Pair;
use crate::fast::simd::{Kernel, LANES, Vector, ZEROS, prefetch};

/// Padded stride, in complex vectors, of pieces of `len` vectors that are read in parallel. One extra vector avoids
/// cache-set conflicts.
pub fn apart(len: usize) -> usize {
    len + 1
}

/// Prefetches two rows of one frequency. Rows of different frequencies are far apart in memory.
#[inline(always)]
fn prefetch_rows(spectrum: &[Pair], row: usize) {
    if let Some([[a, b], [c, d]]) = spectrum.get(row..).and_then(|rest| rest.first_chunk()) {
        prefetch(a);
        prefetch(b);
        prefetch(c);
        prefetch(d);
    }
}

/// The spectrum of two real rows, transformed as one complex row, parted: `2 X(k) = z(k) + conj z(-k)`, `2 i Y(k) =
/// z(k) - conj z(-k)`. `out` is `[half][count]`, of which the rows from `row` on are written.
pub struct Split<'a> {
    pub places: &'a [[usize; 2]],
    pub line: &'a [Pair],
    pub row: usize,
    pub count: usize,
    pub out: &'a mut [Pair],
}

impl Kernel for Split<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { line, row, count, .. } = self;
        for (&[p, q], out) in self.places.iter().zip(self.out.chunks_exact_mut(count)) {
            prefetch_rows(out, row + 2);
            let ([zp_re, zp_im], [zq_re, zq_im]) = (&line[p], &line[q]);
            for part in (0..LANES).step_by(V::LANES) {
                let zp = (V::load(&zp_re.0[part..]), V::load(&zp_im.0[part..]));
                let zq = (V::load(&zq_re.0[part..]), V::load(&zq_im.0[part..]));
                let [re, im] = &mut out[row];
                zp.0.add(zq.0).store(&mut re.0[part..]);
                zp.1.sub(zq.1).store(&mut im.0[part..]);
                if let Some([re, im]) = out.get_mut(row + 1) {
                    zp.1.add(zq.1).store(&mut re.0[part..]);
                    zq.0.sub(zp.0).store(&mut im.0[part..]);
                }
            }
        }
    }
}

/// Two rows' spectra joined as `z = X + i Y`, with `X(-k) = conj X(k)`; `spectrum(k)` are the rows at frequency k.
pub struct Join<'a, F> {
    pub places: &'a [[usize; 2]],
    pub spectrum: &'a F,
    pub row: usize,
    pub line: &'a mut [Pair],
}

impl<'s, F: Fn(usize) -> &'s [Pair]> Kernel for Join<'_, F> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { line, row, .. } = self;
        for (k, &[p, q]) in self.places.iter().enumerate() {
            let spectrum = (self.spectrum)(k);
            prefetch_rows(spectrum, row + 2);
            for part in (0..LANES).step_by(V::LANES) {
                let [re, im] = &spectrum[row];
                let a: (V, V) = (V::load(&re.0[part..]), V::load(&im.0[part..]));
                let mut b: (V, V) = (V::splat(0.0), V::splat(0.0));
                if let Some([re, im]) = spectrum.get(row + 1) {
                    b = (V::load(&re.0[part..]), V::load(&im.0[part..]));
                }
                let [re, im] = &mut line[q];
                a.0.add(b.1).store(&mut re.0[part..]);
                b.0.sub(a.1).store(&mut im.0[part..]);
                let [re, im] = &mut line[p];
                a.0.sub(b.1).store(&mut re.0[part..]);
                a.1.add(b.0).store(&mut im.0[part..]);
            }
        }
    }
}

/// `out = x g` for one column, where lane `image` of `x` meets every lane of `g`.
pub struct Multiply<'a> {
    pub image: usize,
    pub x: &'a [Pair],
    pub g: &'a [Pair],
    pub out: &'a mut [Pair],
}

impl Kernel for Multiply<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        for (([x_re, x_im], [g_re, g_im]), [re, im]) in self.x.iter().zip(self.g).zip(self.out) {
            let x = (V::splat(x_re.0[self.image]), V::splat(x_im.0[self.image]));
            for part in (0..LANES).step_by(V::LANES) {
                let g: (V, V) = (V::load(&g_re.0[part..]), V::load(&g_im.0[part..]));
                x.1.mul_sub_from(g.1, x.0.mul(g.0)).store(&mut re.0[part..]);
                x.1.mul_add(g.0, x.0.mul(g.1)).store(&mut im.0[part..]);
            }
        }
    }
}

/// `sums += y conj(x)` for one column, where lane `image` of `x` meets every lane of `y`.
pub struct AddConjugate<'a> {
    pub image: usize,
    pub x: &'a [Pair],
    pub y: &'a [Pair],
    pub sums: &'a mut [Pair],
}

impl Kernel for AddConjugate<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        for (([x_re, x_im], [y_re, y_im]), [re, im]) in self.x.iter().zip(self.y).zip(self.sums) {
            let x = (V::splat(x_re.0[self.image]), V::splat(x_im.0[self.image]));
            for part in (0..LANES).step_by(V::LANES) {
                let y: (V, V) = (V::load(&y_re.0[part..]), V::load(&y_im.0[part..]));
                y.1.mul_add(x.1, y.0.mul_add(x.0, V::load(&re.0[part..]))).store(&mut re.0[part..]);
                y.0.mul_sub_from(x.1, y.1.mul_add(x.0, V::load(&im.0[part..]))).store(&mut im.0[part..]);
            }
        }
    }
}

/// Pairs of frequencies whose sums [`KernelColumns`] and rows whose sums [`KernelRows`] keep in registers, at most.
pub const AT_ONCE: usize = 4;

/// One column of every kernel at every frequency of the column: `out[h][task] = sum_r rows[task][r] roots[r][h]`, where
/// The `rows [k_h]` of the tasks are `stride` apart, and `out` is `[columns][step]`. A kernel has few rows, so this takes
/// fewer operations than whole transforms, and the outputs are contiguous.
///
/// At frequencies h and -h the roots are conjugates: the same four products serve both.
pub struct KernelColumns<'a> {
    /// Places of frequencies h and -h.
    pub pairs: &'a [[usize; 2]],
    /// `[k_h][pairs]`, those of h.
    pub roots: &'a [[f32; 2]],
    /// A mirrored kernel's spectrum is the conjugate: h and -h are exchanged.
    pub mirrored: bool,
    pub tasks: usize,
    pub rows: &'a [Pair],
    pub stride: usize,
    pub step: usize,
    pub out: &'a mut [Pair],
}

impl Kernel for KernelColumns<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        if V::REGISTERS >= 32 { self.blocks::<V, AT_ONCE>() } else { self.blocks::<V, 2>() }
    }
}

impl KernelColumns<'_> {
    /// `P` pairs at once.
    #[inline(always)]
    fn blocks<V: Vector, const P: usize>(self) {
        let Self { pairs, roots, step, .. } = self;
        let (frequencies, k_h) = (pairs.len(), roots.len() / pairs.len());
        for task in 0..self.tasks {
            let rows = &self.rows[task * self.stride..][..k_h];
            for [re, im] in self.rows.get((task + 2) * self.stride..).unwrap_or_default().iter().take(k_h) {
                prefetch(re);
                prefetch(im);
            }
            for first in (0..frequencies).step_by(P) {
                // Some are done twice rather than fewer at once.
                let first = first.min(frequencies - P);
                for part in (0..LANES).step_by(V::LANES) {
                    // re c, im s, re s, im c
                    let mut sums = [[V::splat(0.0); 4]; P];
                    for ([re, im], roots) in rows.iter().zip(roots.chunks_exact(frequencies)) {
                        let (re, im) = (V::load(&re.0[part..]), V::load(&im.0[part..]));
                        for (sum, root) in sums.iter_mut().zip(&roots[first..first + P]) {
                            let (c, s) = (V::splat(root[0]), V::splat(root[1]));
                            sum[0] = re.mul_add(c, sum[0]);
                            sum[1] = im.mul_add(s, sum[1]);
                            sum[2] = re.mul_add(s, sum[2]);
                            sum[3] = im.mul_add(c, sum[3]);
                        }
                    }
                    // Of known length: only then is the loop unrolled, and the sums stay in registers.
                    for (sum, pair) in sums.iter().zip(&pairs[first..first + P]) {
                        let [p, q] = if self.mirrored { [pair[1], pair[0]] } else { *pair };
                        let [re, im] = &mut self.out[q * step + task];
                        sum[0].add(sum[1]).store(&mut re.0[part..]);
                        sum[3].sub(sum[2]).store(&mut im.0[part..]);
                        let [re, im] = &mut self.out[p * step + task];
                        sum[0].sub(sum[1]).store(&mut re.0[part..]);
                        sum[3].add(sum[2]).store(&mut im.0[part..]);
                    }
                }
            }
        }
    }
}

/// The way back for the rows that a kernel has, added: `kernel[r] += sum_h column[h] conj(roots[r][h])`, pair by pair
/// as in [`KernelColumns`].
pub struct KernelRows<'a> {
    /// Places of frequencies h and -h.
    pub pairs: &'a [[usize; 2]],
    /// `[k_h][pairs]`, those of h.
    pub roots: &'a [[f32; 2]],
    /// `[columns]`
    pub column: &'a [Pair],
    /// `[k_h]`
    pub kernel: &'a mut [Pair],
}

impl Kernel for KernelRows<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { pairs, roots, .. } = self;
        let k_h = self.kernel.len();
        for part in (0..LANES).step_by(V::LANES) {
            for first in (0..k_h).step_by(AT_ONCE) {
                let mut sums = [(V::splat(0.0), V::splat(0.0)); AT_ONCE];
                for (h, &[p, q]) in pairs.iter().enumerate() {
                    let [re, im] = &self.column[p];
                    let (mut a, mut b) = (V::load(&re.0[part..]), V::load(&im.0[part..]));
                    let (mut c, mut d) = (V::splat(0.0), V::splat(0.0));
                    if p != q {
                        let [re, im] = &self.column[q];
                        let (re, im) = (V::load(&re.0[part..]), V::load(&im.0[part..]));
                        (a, b, c, d) = (a.add(re), b.add(im), b.sub(im), a.sub(re));
                    }
                    for (i, sum) in sums.iter_mut().enumerate() {
                        let root = roots[(first + i).min(k_h - 1) * pairs.len() + h];
                        let (cos, sin) = (V::splat(root[0]), V::splat(root[1]));
                        *sum = (c.mul_add(sin, a.mul_add(cos, sum.0)), d.mul_sub_from(sin, b.mul_add(cos, sum.1)));
                    }
                }
                for (sum, [re, im]) in sums.iter().zip(&mut self.kernel[first..]) {
                    V::load(&re.0[part..]).add(sum.0).store(&mut re.0[part..]);
                    V::load(&im.0[part..]).add(sum.1).store(&mut im.0[part..]);
                }
            }
        }
    }
}

/// `y[n, o] = sum_c x[n, c] w[c, o]` for every frequency of a column and the sixteen channels o of one block: `x
/// [n][blocks][len]` (scalars in the lanes), `w [len][scalars]`, `y [n][blocks][len]`, each with what its first index
/// counts set [`apart`].
pub struct Product<'a> {
    pub len: usize,
    pub x: (usize, &'a [Pair]),
    pub w: &'a [Pair],
    pub block: usize,
    pub y: (usize, &'a mut [Pair]),
}

impl Kernel for Product<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { len, x: (x_blocks, x), w, block, y: (y_blocks, y) } = self;
        let (x_step, y_step) = (apart(x_blocks * len), apart(y_blocks * len));
        let n = x.len() / x_step;
        for (h, w) in w.chunks_exact(apart(x_blocks * LANES)).enumerate() {
            let mut i = 0;
            while i < n {
                // As many images as there are registers for their sums.
                let step = match n - i {
                    5.. => 5,
                    3.. => 3,
                    _ => 1,
                };
                let (x, y) = (&x[i * x_step + h..], &mut y[i * y_step + block * len + h..]);
                for part in (0..LANES).step_by(V::LANES) {
                    match step {
                        5 => product_of::<V, 5>(part, len, (x_blocks, x_step, x), w, (y_step, y)),
                        3 => product_of::<V, 3>(part, len, (x_blocks, x_step, x), w, (y_step, y)),
                        _ => product_of::<V, 1>(part, len, (x_blocks, x_step, x), w, (y_step, y)),
                    }
                }
                i += step;
            }
        }
    }
}

/// `M` images at one frequency of [`Product`]; slices start at the first of them.
#[inline(always)]
fn product_of<V: Vector, const M: usize>(
    part: usize,
    len: usize,
    (x_blocks, x_step, x): (usize, usize, &[Pair]),
    w: &[Pair],
    (y_step, y): (usize, &mut [Pair]),
) {
    let mut sums = [(V::splat(0.0), V::splat(0.0)); M];
    for (block, w) in w.chunks_exact(LANES).take(x_blocks).enumerate() {
        let mut rows = [[&ZEROS; 2]; M];
        for (m, rows) in rows.iter_mut().enumerate() {
            let [re, im] = &x[m * x_step + block * len];
            *rows = [&re.0, &im.0];
        }
        for (lane, [re, im]) in w.iter().enumerate() {
            let w: (V, V) = (V::load(&re.0[part..]), V::load(&im.0[part..]));
            for (sum, x) in sums.iter_mut().zip(&rows) {
                let x = (V::splat(x[0][lane]), V::splat(x[1][lane]));
                *sum = (x.1.mul_sub_from(w.1, x.0.mul_add(w.0, sum.0)), x.1.mul_add(w.0, x.0.mul_add(w.1, sum.1)));
            }
        }
    }
    for (m, sum) in sums.iter().enumerate() {
        let [re, im] = &mut y[m * y_step];
        sum.0.store(&mut re.0[part..]);
        sum.1.store(&mut im.0[part..]);
    }
}

/// `G[c, o] = sum_n y[n, o] conj(x[n, c])` for every frequency of a column, and what that adds to the kernels' rows, as
/// [`KernelRows`]. `x` and `y` are as in [`Product`]; `sums [16][len]` is for what is between, its columns set
/// [`apart`]; `kernels [scalars][blocks][k_h]`.
pub struct Outer<'a> {
    pub len: usize,
    pub x: (usize, &'a [Pair]),
    pub y: (usize, &'a [Pair]),
    pub pairs: &'a [[usize; 2]],
    pub roots: &'a [[f32; 2]],
    pub sums: &'a mut [Pair],
    pub kernels: &'a mut [Pair],
}

impl Kernel for Outer<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        if V::REGISTERS >= 32 { self.channels::<V, 8>() } else { self.channels::<V, 4>() }
    }
}

impl Outer<'_> {
    /// `M` channels at once: as many sums as the registers hold.
    #[inline(always)]
    fn channels<V: Vector, const M: usize>(self) {
        let Self { len, x: (x_blocks, x), y: (y_blocks, y), pairs, roots, sums, kernels } = self;
        let (x_step, y_step) = (apart(x_blocks * len), apart(y_blocks * len));
        let n = x.len() / x_step;
        let k_h = roots.len() / pairs.len();
        for (c, kernels) in kernels.chunks_mut(LANES * y_blocks * k_h).enumerate() {
            for b in 0..y_blocks {
                for h in 0..len {
                    let (x, y) = (&x[c * len + h..], &y[b * len + h..]);
                    for lane in (0..LANES).step_by(M) {
                        let sums = &mut sums[lane * apart(len) + h..];
                        for part in (0..LANES).step_by(V::LANES) {
                            outer_of::<V, M>((n, part, lane), (x_step, x), (y_step, y), (apart(len), &mut *sums));
                        }
                    }
                }
                for (kernels, column) in kernels.chunks_exact_mut(y_blocks * k_h).zip(sums.chunks_exact(apart(len))) {
                    KernelRows { pairs, roots, column, kernel: &mut kernels[b * k_h..][..k_h] }.run::<V>();
                }
            }
        }
    }
}

/// Channels `lane..lane + M` at one frequency of [`Outer`]; slices start at the first image and channel.
#[inline(always)]
fn outer_of<V: Vector, const M: usize>(
    (n, part, lane): (usize, usize, usize),
    (x_step, x): (usize, &[Pair]),
    (y_step, y): (usize, &[Pair]),
    (step, out): (usize, &mut [Pair]),
) {
    let mut sums = [(V::splat(0.0), V::splat(0.0)); M];
    for i in 0..n {
        let ([x_re, x_im], [y_re, y_im]) = (&x[i * x_step], &y[i * y_step]);
        let (x_re, x_im) = (&x_re.0[lane..][..M], &x_im.0[lane..][..M]);
        let y: (V, V) = (V::load(&y_re.0[part..]), V::load(&y_im.0[part..]));
        for (m, sum) in sums.iter_mut().enumerate() {
            let x = (V::splat(x_re[m]), V::splat(x_im[m]));
            *sum = (x.1.mul_add(y.1, x.0.mul_add(y.0, sum.0)), x.1.mul_sub_from(y.0, x.0.mul_add(y.1, sum.1)));
        }
    }
    for (m, sum) in sums.iter().enumerate() {
        let [re, im] = &mut out[m * step];
        sum.0.store(&mut re.0[part..]);
        sum.1.store(&mut im.0[part..]);
    }
}

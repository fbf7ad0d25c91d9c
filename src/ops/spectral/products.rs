//! The vector kernels of a convolution by transforms: rows parted and joined, kernels' columns, products of spectra.

use crate::ops::fft::Pair;
use crate::ops::kernels::simd::{Kernel, LANES, Vector, prefetch};

/// Asks for two rows of one frequency: those of different frequencies are far apart.
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
/// `rows [k_h]` of the tasks stand `stride` apart and `out` is `[columns][step]`. A
/// kernel has few rows: this is less than whole transforms, and what is written lies together.
///
/// At frequencies h and -h the roots are conjugates: the same four products serve both.
pub struct KernelColumns<'a> {
    /// Places of frequencies h and -h.
    pub pairs: &'a [[usize; 2]],
    /// `[k_h][pairs]`, those of h.
    pub roots: &'a [[f32; 2]],
    /// A mirrored kernel's spectrum is the conjugate: h and -h change places.
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
        let k_h = roots.len() / pairs.len();
        for first in (0..pairs.len()).step_by(P) {
            // Some are done twice rather than fewer at once.
            let first = first.min(pairs.len() - P);
            for task in 0..self.tasks {
                let rows = &self.rows[task * self.stride..][..k_h];
                let next = self.rows.get((task + 1) * self.stride..).unwrap_or_default();
                for part in (0..LANES).step_by(V::LANES) {
                    // re c, im s, re s, im c
                    let mut sums = [[V::splat(0.0); 4]; P];
                    for (r, [re, im]) in rows.iter().enumerate() {
                        let (re, im) = (V::load(&re.0[part..]), V::load(&im.0[part..]));
                        if let Some([re, im]) = next.get(r) {
                            prefetch(re);
                            prefetch(im);
                        }
                        let Some(roots) = roots[r * pairs.len() + first..].first_chunk::<P>() else { break };
                        for (sum, root) in sums.iter_mut().zip(roots) {
                            let (c, s) = (V::splat(root[0]), V::splat(root[1]));
                            sum[0] = re.mul_add(c, sum[0]);
                            sum[1] = im.mul_add(s, sum[1]);
                            sum[2] = re.mul_add(s, sum[2]);
                            sum[3] = im.mul_add(c, sum[3]);
                        }
                    }
                    for (sum, pair) in sums.iter().zip(&pairs[first..]) {
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

/// `y[n, o] = sum_c x[n, c] w[c, o]` for every frequency of a column: `x [n][blocks][len]` (scalars in the
/// lanes), `w [len][scalars][blocks]`, `y [n][blocks][len]`.
pub struct Product<'a> {
    pub len: usize,
    pub n: usize,
    pub x: (usize, &'a [Pair]),
    pub w: &'a [Pair],
    pub y: (usize, &'a mut [Pair]),
}

impl Kernel for Product<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        product::<V>(self.len, self.n, self.x, self.w, self.y);
    }
}

#[inline(always)]
fn product<V: Vector>(
    len: usize,
    n: usize,
    (x_blocks, x): (usize, &[Pair]),
    w: &[Pair],
    (y_blocks, y): (usize, &mut [Pair]),
) {
    // Blocks of images times vectors whose sums fit the registers.
    let most_b = if V::REGISTERS >= 32 { 2 } else { 1 };
    let row = x_blocks * LANES * y_blocks;
    for (h, w) in w.chunks_exact(row).enumerate() {
        let mut b = 0;
        while b < y_blocks {
            let step_b = most_b.min(y_blocks - b);
            let mut i = 0;
            while i < n {
                let step = match n - i {
                    5.. => 5,
                    3.. => 3,
                    _ => 1,
                };
                let at = (h, i, b);
                for part in (0..LANES).step_by(V::LANES) {
                    match (step, step_b) {
                        (5, 2) => product_block::<V, 5, 2>(len, part, at, (x_blocks, x), w, (y_blocks, y)),
                        (3, 2) => product_block::<V, 3, 2>(len, part, at, (x_blocks, x), w, (y_blocks, y)),
                        (1, 2) => product_block::<V, 1, 2>(len, part, at, (x_blocks, x), w, (y_blocks, y)),
                        (5, _) => product_block::<V, 5, 1>(len, part, at, (x_blocks, x), w, (y_blocks, y)),
                        (3, _) => product_block::<V, 3, 1>(len, part, at, (x_blocks, x), w, (y_blocks, y)),
                        _ => product_block::<V, 1, 1>(len, part, at, (x_blocks, x), w, (y_blocks, y)),
                    }
                }
                i += step;
            }
            b += step_b;
        }
    }
}

/// What a row of scalars is before it is one.
const ZEROS: [f32; LANES] = [0.0; LANES];

/// Images `i..i + M` times vectors `b..b + B` of [`Product`].
#[inline(always)]
fn product_block<V: Vector, const M: usize, const B: usize>(
    len: usize,
    part: usize,
    (h, i, b): (usize, usize, usize),
    (x_blocks, x): (usize, &[Pair]),
    w: &[Pair],
    (y_blocks, y): (usize, &mut [Pair]),
) {
    let zero = V::splat(0.0);
    let mut sums = [[(zero, zero); B]; M];
    for (block, w) in w.chunks_exact(LANES * y_blocks).enumerate() {
        let mut rows = [[&ZEROS; 2]; M];
        for (m, rows) in rows.iter_mut().enumerate() {
            let [re, im] = &x[((i + m) * x_blocks + block) * len + h];
            *rows = [&re.0, &im.0];
        }
        for (lane, w) in w.chunks_exact(y_blocks).enumerate() {
            let mut vectors = [(zero, zero); B];
            for (v, [re, im]) in vectors.iter_mut().zip(&w[b..]) {
                *v = (V::load(&re.0[part..]), V::load(&im.0[part..]));
            }
            for (sums, x) in sums.iter_mut().zip(&rows) {
                let x = (V::splat(x[0][lane]), V::splat(x[1][lane]));
                for (sum, w) in sums.iter_mut().zip(&vectors) {
                    *sum = (x.1.mul_sub_from(w.1, x.0.mul_add(w.0, sum.0)), x.1.mul_add(w.0, x.0.mul_add(w.1, sum.1)));
                }
            }
        }
    }
    for (m, sums) in sums.iter().enumerate() {
        for (j, sum) in sums.iter().enumerate() {
            let [re, im] = &mut y[((i + m) * y_blocks + b + j) * len + h];
            sum.0.store(&mut re.0[part..]);
            sum.1.store(&mut im.0[part..]);
        }
    }
}

/// `out[c, o] = sum_n y[n, o] conj(x[n, c])` for every frequency of a column; `x` and `y` as in [`Product`],
/// `out [scalars][blocks][len]`.
pub struct Outer<'a> {
    pub len: usize,
    pub n: usize,
    pub x: (usize, &'a [Pair]),
    pub y: (usize, &'a [Pair]),
    pub out: &'a mut [Pair],
}

impl Kernel for Outer<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        outer::<V>(self.len, self.n, self.x, self.y, self.out);
    }
}

#[inline(always)]
fn outer<V: Vector>(len: usize, n: usize, x: (usize, &[Pair]), y: (usize, &[Pair]), out: &mut [Pair]) {
    for h in 0..len {
        for c in 0..x.0 {
            let mut b = 0;
            while b < y.0 {
                let step = if V::REGISTERS >= 32 && b + 1 < y.0 { 2 } else { 1 };
                for part in (0..LANES).step_by(V::LANES) {
                    for lane in (0..LANES).step_by(4) {
                        let at = (h, c, lane, b);
                        match step {
                            2 => outer_block::<V, 4, 2>((len, n, part), at, x, y, out),
                            _ => outer_block::<V, 4, 1>((len, n, part), at, x, y, out),
                        }
                    }
                }
                b += step;
            }
        }
    }
}

/// Channels `lane..lane + M` of block `c` times vectors `b..b + B` of [`Outer`].
#[inline(always)]
fn outer_block<V: Vector, const M: usize, const B: usize>(
    (len, n, part): (usize, usize, usize),
    (h, c, lane, b): (usize, usize, usize, usize),
    (x_blocks, x): (usize, &[Pair]),
    (y_blocks, y): (usize, &[Pair]),
    out: &mut [Pair],
) {
    let zero = V::splat(0.0);
    let mut sums = [[(zero, zero); B]; M];
    for i in 0..n {
        let [re, im] = &x[(i * x_blocks + c) * len + h];
        let (re, im) = (&re.0[lane..lane + M], &im.0[lane..lane + M]);
        let mut vectors = [(zero, zero); B];
        for (j, v) in vectors.iter_mut().enumerate() {
            let [re, im] = &y[(i * y_blocks + b + j) * len + h];
            *v = (V::load(&re.0[part..]), V::load(&im.0[part..]));
        }
        for (m, sums) in sums.iter_mut().enumerate() {
            let x = (V::splat(re[m]), V::splat(im[m]));
            for (sum, y) in sums.iter_mut().zip(&vectors) {
                *sum = (x.1.mul_add(y.1, x.0.mul_add(y.0, sum.0)), x.1.mul_sub_from(y.0, x.0.mul_add(y.1, sum.1)));
            }
        }
    }
    for (m, sums) in sums.iter().enumerate() {
        for (j, sum) in sums.iter().enumerate() {
            let [re, im] = &mut out[((c * LANES + lane + m) * y_blocks + b + j) * len + h];
            sum.0.store(&mut re.0[part..]);
            sum.1.store(&mut im.0[part..]);
        }
    }
}

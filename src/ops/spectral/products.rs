//! The vector kernels of a convolution by transforms: rows parted and joined, kernels' columns, products of spectra.

use crate::ops::kernels::simd::{Kernel, LANES, Lanes, Vector, prefetch};

/// Asks for the next two rows of one frequency: those of different frequencies are far apart.
#[inline(always)]
fn prefetch_rows(spectrum: &[Lanes], row: usize, count: usize) {
    if row + 1 < count {
        prefetch(&spectrum[row]);
        prefetch(&spectrum[row + 1]);
        prefetch(&spectrum[count + row]);
        prefetch(&spectrum[count + row + 1]);
    }
}

/// The spectrum of two real rows, transformed as one complex row, parted: `2 X(k) = z(k) + conj z(-k)`, `2 i Y(k) =
/// z(k) - conj z(-k)`.
pub struct Split<'a> {
    pub places: &'a [[usize; 2]],
    pub re: &'a [Lanes],
    pub im: &'a [Lanes],
    pub row: usize,
    pub count: usize,
    pub out: &'a mut [Lanes],
}

impl Kernel for Split<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { re, im, row, count, .. } = self;
        for (&[p, q], out) in self.places.iter().zip(self.out.chunks_exact_mut(2 * count)) {
            prefetch_rows(out, row + 2, count);
            for part in (0..LANES).step_by(V::LANES) {
                let (zp, zq): (_, (V, V)) = (
                    (V::load(&re[p].0[part..]), V::load(&im[p].0[part..])),
                    (V::load(&re[q].0[part..]), V::load(&im[q].0[part..])),
                );
                zp.0.add(zq.0).store(&mut out[row].0[part..]);
                zp.1.sub(zq.1).store(&mut out[count + row].0[part..]);
                if row + 1 < count {
                    zp.1.add(zq.1).store(&mut out[row + 1].0[part..]);
                    zq.0.sub(zp.0).store(&mut out[count + row + 1].0[part..]);
                }
            }
        }
    }
}

/// Two rows' spectra joined as `z = X + i Y`, with `X(-k) = conj X(k)`.
pub struct Join<'a, F> {
    pub places: &'a [[usize; 2]],
    pub spectrum: &'a F,
    pub row: usize,
    pub count: usize,
    pub re: &'a mut [Lanes],
    pub im: &'a mut [Lanes],
}

impl<'s, F: Fn(usize) -> &'s [Lanes]> Kernel for Join<'_, F> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { re, im, row, count, .. } = self;
        for (k, &[p, q]) in self.places.iter().enumerate() {
            let spectrum = (self.spectrum)(k);
            prefetch_rows(spectrum, row + 2, count);
            for part in (0..LANES).step_by(V::LANES) {
                let a: (V, V) = (V::load(&spectrum[row].0[part..]), V::load(&spectrum[count + row].0[part..]));
                let mut b: (V, V) = (V::splat(0.0), V::splat(0.0));
                if row + 1 < count {
                    b = (V::load(&spectrum[row + 1].0[part..]), V::load(&spectrum[count + row + 1].0[part..]));
                }
                a.0.add(b.1).store(&mut re[q].0[part..]);
                b.0.sub(a.1).store(&mut im[q].0[part..]);
                a.0.sub(b.1).store(&mut re[p].0[part..]);
                a.1.add(b.0).store(&mut im[p].0[part..]);
            }
        }
    }
}

/// `out = x g` for one column, where lane `image` of `x` meets every lane of `g [columns][re, im]`; the others are
/// `[re, im][columns]`.
pub struct Multiply<'a> {
    pub image: usize,
    pub x: &'a [Lanes],
    pub g: &'a [Lanes],
    pub out: &'a mut [Lanes],
}

impl Kernel for Multiply<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let n = self.out.len() / 2;
        let (x_re, x_im) = self.x.split_at(n);
        let g = self.g.as_chunks::<2>().0;
        let (out_re, out_im) = self.out.split_at_mut(n);
        let xs = x_re.iter().zip(x_im).map(|(re, im)| (re.0[self.image], im.0[self.image]));
        let out = out_re.iter_mut().zip(out_im);
        for (([g_re, g_im], x), out) in g.iter().zip(xs).zip(out) {
            for part in (0..LANES).step_by(V::LANES) {
                let (x, g): (_, (V, V)) =
                    ((V::splat(x.0), V::splat(x.1)), (V::load(&g_re.0[part..]), V::load(&g_im.0[part..])));
                x.1.mul_sub_from(g.1, x.0.mul(g.0)).store(&mut out.0.0[part..]);
                x.1.mul_add(g.0, x.0.mul(g.1)).store(&mut out.1.0[part..]);
            }
        }
    }
}

/// `sums += y conj(x)` for one column, where lane `image` of `x` meets every lane of `y`; all `[re, im][columns]`.
pub struct AddConjugate<'a> {
    pub image: usize,
    pub x: &'a [Lanes],
    pub y: &'a [Lanes],
    pub sums: &'a mut [Lanes],
}

impl Kernel for AddConjugate<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let n = self.sums.len() / 2;
        let (x_re, x_im) = self.x.split_at(n);
        let (y_re, y_im) = self.y.split_at(n);
        let (re, im) = self.sums.split_at_mut(n);
        let xs = x_re.iter().zip(x_im).map(|(re, im)| (re.0[self.image], im.0[self.image]));
        for (((y_re, y_im), x), (re, im)) in y_re.iter().zip(y_im).zip(xs).zip(re.iter_mut().zip(im)) {
            for part in (0..LANES).step_by(V::LANES) {
                let (x, y): (_, (V, V)) =
                    ((V::splat(x.0), V::splat(x.1)), (V::load(&y_re.0[part..]), V::load(&y_im.0[part..])));
                y.1.mul_add(x.1, y.0.mul_add(x.0, V::load(&re.0[part..]))).store(&mut re.0[part..]);
                y.0.mul_sub_from(x.1, y.1.mul_add(x.0, V::load(&im.0[part..]))).store(&mut im.0[part..]);
            }
        }
    }
}

/// Frequencies whose sums [`KernelColumns`] and rows whose sums [`KernelRows`] keep in registers.
pub const AT_ONCE: usize = 4;

/// One column of every kernel at every frequency of the column: `out[h][task] = sum_r rows[task][r] roots[r][h]`, where
/// `rows [re, im][k_h]` of the tasks stand `stride` apart and `out` is `[columns][step]`, re and im side by side. A
/// kernel has few rows: this is less than whole transforms, and what is written lies together.
pub struct KernelColumns<'a> {
    pub roots: &'a [[f32; 2]],
    pub k_h: usize,
    /// -1 conjugates the roots.
    pub turn: f32,
    pub tasks: usize,
    pub rows: &'a [Lanes],
    pub stride: usize,
    pub step: usize,
    pub out: &'a mut [Lanes],
}

impl Kernel for KernelColumns<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { k_h, step, .. } = self;
        let len = self.roots.len() / k_h;
        for first in (0..len).step_by(AT_ONCE) {
            // Some are done twice rather than fewer at once.
            let first = first.min(len - AT_ONCE);
            for task in 0..self.tasks {
                let rows = &self.rows[task * self.stride..][..2 * k_h];
                for part in (0..LANES).step_by(V::LANES) {
                    let mut sums = [(V::splat(0.0), V::splat(0.0)); AT_ONCE];
                    for r in 0..k_h {
                        let (re, im) = (V::load(&rows[r].0[part..]), V::load(&rows[k_h + r].0[part..]));
                        let roots = &self.roots[r * len + first..][..AT_ONCE];
                        for (i, sum) in sums.iter_mut().enumerate() {
                            let (c, s) = (V::splat(roots[i][0]), V::splat(roots[i][1] * self.turn));
                            *sum = (s.mul_sub_from(im, c.mul_add(re, sum.0)), s.mul_add(re, c.mul_add(im, sum.1)));
                        }
                    }
                    for (i, sum) in sums.iter().enumerate() {
                        let out = &mut self.out[(first + i) * step + 2 * task..][..2];
                        sum.0.store(&mut out[0].0[part..]);
                        sum.1.store(&mut out[1].0[part..]);
                    }
                }
            }
        }
    }
}

/// The way back for the rows that a kernel has, added: `kernel[r] += sum_h column[h] conj(roots[r][h])`.
pub struct KernelRows<'a> {
    pub roots: &'a [[f32; 2]],
    /// `[re, im][columns]`
    pub column: &'a [Lanes],
    /// `[re, im][k_h]`
    pub kernel: &'a mut [Lanes],
}

impl Kernel for KernelRows<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (len, k_h) = (self.column.len() / 2, self.kernel.len() / 2);
        let (re, im) = self.column.split_at(len);
        for part in (0..LANES).step_by(V::LANES) {
            for first in (0..k_h).step_by(AT_ONCE) {
                let mut sums = [(V::splat(0.0), V::splat(0.0)); AT_ONCE];
                for (h, (re, im)) in re.iter().zip(im).enumerate() {
                    let (re, im) = (V::load(&re.0[part..]), V::load(&im.0[part..]));
                    for (i, sum) in sums.iter_mut().enumerate() {
                        let root = self.roots[(first + i).min(k_h - 1) * len + h];
                        let (c, s) = (V::splat(root[0]), V::splat(root[1]));
                        *sum = (s.mul_add(im, c.mul_add(re, sum.0)), s.mul_sub_from(re, c.mul_add(im, sum.1)));
                    }
                }
                for (i, sum) in sums.iter().enumerate().take(k_h - first) {
                    let (a, b) = (first + i, k_h + first + i);
                    V::load(&self.kernel[a].0[part..]).add(sum.0).store(&mut self.kernel[a].0[part..]);
                    V::load(&self.kernel[b].0[part..]).add(sum.1).store(&mut self.kernel[b].0[part..]);
                }
            }
        }
    }
}

/// `y[n, o] = sum_c x[n, c] w[c, o]` for every frequency of a column: `x [n][blocks][re, im][len]` (scalars in the
/// lanes), `w [len][scalars][blocks][re, im]`, `y [n][blocks][re, im][len]`.
pub struct Product<'a> {
    pub len: usize,
    pub n: usize,
    pub x: (usize, &'a [Lanes]),
    pub w: &'a [Lanes],
    pub y: (usize, &'a mut [Lanes]),
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
    (x_blocks, x): (usize, &[Lanes]),
    w: &[Lanes],
    (y_blocks, y): (usize, &mut [Lanes]),
) {
    // Blocks of images times vectors whose sums fit the registers.
    let most_b = if V::REGISTERS >= 32 { 2 } else { 1 };
    let row = x_blocks * LANES * y_blocks * 2;
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
    (x_blocks, x): (usize, &[Lanes]),
    w: &[Lanes],
    (y_blocks, y): (usize, &mut [Lanes]),
) {
    let zero = V::splat(0.0);
    let mut sums = [[(zero, zero); B]; M];
    for (block, w) in w.chunks_exact(LANES * y_blocks * 2).enumerate() {
        let mut rows = [[&ZEROS; 2]; M];
        for (m, rows) in rows.iter_mut().enumerate() {
            let start = ((i + m) * x_blocks + block) * 2 * len + h;
            *rows = [&x[start].0, &x[start + len].0];
        }
        for (lane, w) in w.chunks_exact(y_blocks * 2).enumerate() {
            let mut vectors = [(zero, zero); B];
            for (v, w) in vectors.iter_mut().zip(w[2 * b..].as_chunks::<2>().0) {
                *v = (V::load(&w[0].0[part..]), V::load(&w[1].0[part..]));
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
            let start = ((i + m) * y_blocks + b + j) * 2 * len + h;
            sum.0.store(&mut y[start].0[part..]);
            sum.1.store(&mut y[start + len].0[part..]);
        }
    }
}

/// `out[c, o] = sum_n y[n, o] conj(x[n, c])` for every frequency of a column; `x` and `y` as in [`Product`],
/// `out [scalars][blocks][re, im][len]`.
pub struct Outer<'a> {
    pub len: usize,
    pub n: usize,
    pub x: (usize, &'a [Lanes]),
    pub y: (usize, &'a [Lanes]),
    pub out: &'a mut [Lanes],
}

impl Kernel for Outer<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        outer::<V>(self.len, self.n, self.x, self.y, self.out);
    }
}

#[inline(always)]
fn outer<V: Vector>(len: usize, n: usize, x: (usize, &[Lanes]), y: (usize, &[Lanes]), out: &mut [Lanes]) {
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
    (x_blocks, x): (usize, &[Lanes]),
    (y_blocks, y): (usize, &[Lanes]),
    out: &mut [Lanes],
) {
    let zero = V::splat(0.0);
    let mut sums = [[(zero, zero); B]; M];
    for i in 0..n {
        let (x_at, y_at) = ((i * x_blocks + c) * 2 * len + h, (i * y_blocks + b) * 2 * len + h);
        let (re, im) = (&x[x_at].0[lane..lane + M], &x[x_at + len].0[lane..lane + M]);
        let mut vectors = [(zero, zero); B];
        for (j, v) in vectors.iter_mut().enumerate() {
            let at = y_at + 2 * j * len;
            *v = (V::load(&y[at].0[part..]), V::load(&y[at + len].0[part..]));
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
            let at = ((c * LANES + lane + m) * y_blocks + b + j) * 2 * len + h;
            sum.0.store(&mut out[at].0[part..]);
            sum.1.store(&mut out[at + len].0[part..]);
        }
    }
}

//! Two-dimensional convolution (cross-correlation, as everywhere in the field), stride 1:
//!
//! ```text
//! y[n, o, i, j] = bias[o] + sum_{c, r, s} weight[o, c, r, s] x[n, c, i + r - top, j + s - left]     (x = 0 outside)
//! ```
//!
//! `Padding::Valid` has `top = left = 0`; `Padding::Same` keeps H and W with `top = floor((K_h - 1) / 2)` and the rest
//! below, likewise left and right (PyTorch's and TensorFlow's rule alike).
//!
//! # Shapes
//! `input [N, C_in, H, W]`, `weight [C_out, C_in, K_h, K_w]`, `bias [C_out]` (or none) to `[N, C_out, H_out, W_out]`.
//!
//! # Gradient
//! ```text
//! grad_input[n, c, h, w]  = sum_{o, r, s} weight[o, c, r, s] grad_output[n, o, h + top - r, w + left - s]
//! grad_weight[o, c, r, s] = sum_{n, i, j} grad_output[n, o, i, j] x[n, c, i + r - top, j + s - left]
//! grad_bias[o]            = sum_{n, i, j} grad_output[n, o, i, j]
//! ```
//!
//! # CPU
//! Images run in parallel; within one, all three sums are calls of `kernels::correlate`, which keeps sixteen
//! channels times up to ten shifts in registers. No columns are unfolded: an image is only widened by its side padding.
//! Behind a pool most of `grad_output` is zero; then `grad_weight` sums the products of the rest alone.

use rayon::prelude::*;

use super::conv_tiled::{self, WeightGradient};
use super::kernels::{LANES, Runs, SHIFTS, VECTOR, add_rows, correlate, max_shifts};
use super::{expect, once, scratch};
use crate::error::{Error, Result};
use crate::shader;
use crate::tape::{Bind, Dispatch, Gradient, Op, Step, Tape, Var};
use crate::tensor::Shape;

/// `grad_weight` goes from non-zero to non-zero if fewer than one in so many elements of `grad_output` are not zero.
const SPARSE: usize = 12;

/// Output rows whose products one register sums before the sums are added: short sums round less.
const ROWS: usize = 8;

/// What surrounds the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// Nothing: the output shrinks.
    Valid,
    /// Zeros, so that the output is as large as the input.
    Same,
}

/// Records a convolution.
///
/// # Errors
/// [`Error::Shape`] unless the shapes are those above.
pub fn conv2d(tape: &mut Tape, input: Var, weight: Var, bias: Option<Var>, padding: Padding) -> Result<Var> {
    let [n, c_in, h, w] = tape.shape4("conv2d", input)?;
    let &[c_out, _, k_h, k_w] = tape.shape(weight).dims() else {
        let message = format!("expected weight [C_out, C_in, K_h, K_w], got {}", tape.shape(weight));
        return Err(Error::shape("conv2d", message));
    };
    if k_h == 0 || k_w == 0 || (padding == Padding::Valid && (k_h > h || k_w > w)) {
        let message = format!("expected input at least as large as the kernel {k_h}x{k_w}, got {h}x{w}");
        return Err(Error::shape("conv2d", message));
    }
    let sizes = Conv2d { n, c_in, h, w, c_out, k_h, k_w, padding, bias: bias.is_some() };
    let reads: Vec<Var> = [input, weight].into_iter().chain(bias).collect();
    tape.one(sizes, &reads)
}

/// Sizes of a convolution.
#[derive(Clone, Debug)]
pub(super) struct Conv2d {
    pub(super) n: usize,
    pub(super) c_in: usize,
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) c_out: usize,
    pub(super) k_h: usize,
    pub(super) k_w: usize,
    pub(super) padding: Padding,
    pub(super) bias: bool,
}

impl Conv2d {
    pub(super) fn input(&self) -> (&'static str, Shape) {
        ("input", [self.n, self.c_in, self.h, self.w].into())
    }

    pub(super) fn weight(&self) -> (&'static str, Shape) {
        ("weight", [self.c_out, self.c_in, self.k_h, self.k_w].into())
    }

    fn grad_output(&self) -> (&'static str, Shape) {
        let (h, w) = self.out();
        ("grad_output", [self.n, self.c_out, h, w].into())
    }

    /// Height and width of the output.
    pub(super) fn out(&self) -> (usize, usize) {
        match self.padding {
            Padding::Valid => (self.h + 1 - self.k_h, self.w + 1 - self.k_w),
            Padding::Same => (self.h, self.w),
        }
    }

    /// Zeros above and to the left of the input.
    pub(super) fn pad(&self) -> (usize, usize) {
        match self.padding {
            Padding::Valid => (0, 0),
            Padding::Same => ((self.k_h - 1) / 2, (self.k_w - 1) / 2),
        }
    }

    /// Taps of one output channel.
    pub(super) fn taps(&self) -> usize {
        self.c_in * self.k_h * self.k_w
    }

    /// Multiplications and additions of the equation.
    pub(super) fn operations(&self) -> u64 {
        let (h, w) = self.out();
        2 * (self.n * self.c_out * h * w * self.taps()) as u64
    }

    /// The forward kernels' entry point.
    fn entry(&self) -> &'static str {
        if self.bias { "forward_bias" } else { "forward" }
    }

    /// What they bind: the bias, if there is one, last.
    fn binds(&self) -> impl Iterator<Item = Bind> {
        [Bind::Read(0), Bind::Read(1), Bind::Write(0)].into_iter().chain(self.bias.then_some(Bind::Read(2)))
    }

    fn dispatch(&self, entry: &'static str, threads: usize) -> Dispatch {
        let ((top, left), (h_out, w_out)) = (self.pad(), self.out());
        let names = ["n", "c_in", "h", "w", "c_out", "k_h", "k_w", "top", "left", "h_out", "w_out"];
        let sizes = [self.n, self.c_in, self.h, self.w, self.c_out, self.k_h, self.k_w, top, left, h_out, w_out];
        let constants = names.into_iter().zip(sizes.map(|size| size as f64)).collect();
        Dispatch::linear(shader!("conv2d.wgsl"), entry, constants, threads)
    }

    /// How the gradients of weight and bias are cut for the GPU.
    fn tiled_gradient(&self) -> WeightGradient {
        let (h, w) = self.out();
        WeightGradient::new(self, h * w, vec![])
    }

    /// Calls `f(output index, weight index, input index)` for every product of the equation, naively.
    fn products(&self, mut f: impl FnMut(usize, usize, usize)) {
        let ((top, left), (h_out, w_out)) = (self.pad(), self.out());
        for n in 0..self.n {
            for o in 0..self.c_out {
                for i in 0..h_out {
                    for j in 0..w_out {
                        for c in 0..self.c_in {
                            for r in 0..self.k_h {
                                for s in 0..self.k_w {
                                    let (Some(h), Some(w)) = ((i + r).checked_sub(top), (j + s).checked_sub(left))
                                    else {
                                        continue;
                                    };
                                    if h < self.h && w < self.w {
                                        f(
                                            ((n * self.c_out + o) * h_out + i) * w_out + j,
                                            ((o * self.c_in + c) * self.k_h + r) * self.k_w + s,
                                            ((n * self.c_in + c) * self.h + h) * self.w + w,
                                        );
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// The forward pass as a correlation.
    pub(super) fn forward(&self) -> Correlation {
        let ((top, left), (h_out, w_out)) = (self.pad(), self.out());
        let Self { c_in, h, w, c_out, k_h, k_w, .. } = *self;
        Correlation { c_in, h, w, c_out, k_h, k_w, top, left, h_out, w_out }
    }

    /// The input gradient: the output's gradient correlated with the weight, turned by half a turn, channels swapped.
    pub(super) fn transposed(&self) -> Correlation {
        let ((top, left), (h, w)) = (self.pad(), self.out());
        Correlation {
            c_in: self.c_out,
            h,
            w,
            c_out: self.c_in,
            k_h: self.k_h,
            k_w: self.k_w,
            top: self.k_h - 1 - top,
            left: self.k_w - 1 - left,
            h_out: self.h,
            w_out: self.w,
        }
    }
}

/// Sizes of one correlation of an image `[c_in, h, w]` to `[c_out, h_out, w_out]`.
#[derive(Clone, Copy)]
pub(super) struct Correlation {
    pub(super) c_in: usize,
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) c_out: usize,
    pub(super) k_h: usize,
    pub(super) k_w: usize,
    pub(super) top: usize,
    pub(super) left: usize,
    pub(super) h_out: usize,
    pub(super) w_out: usize,
}

impl Correlation {
    pub(super) fn taps(&self) -> usize {
        self.c_in * self.k_h * self.k_w
    }

    /// Blocks of output channels.
    pub(super) fn blocks(&self) -> usize {
        self.c_out.div_ceil(LANES)
    }

    /// Width of an image row with its padding.
    fn wide(&self) -> usize {
        self.w_out + self.k_w - 1
    }

    /// Floats of an image with its side padding, and a vector that the last row may be read beyond by.
    pub(super) fn widened_len(&self) -> usize {
        self.c_in * self.h * self.wide() + VECTOR
    }

    /// Copies an image between `left` zeros and as many as the last tap needs after.
    pub(super) fn widen(&self, image: &[f32], widened: &mut [f32]) {
        for (row, out) in image.chunks_exact(self.w).zip(widened.chunks_exact_mut(self.wide())) {
            out[..self.left].fill(0.0);
            out[self.left..self.left + self.w].copy_from_slice(row);
            out[self.left + self.w..].fill(0.0);
        }
        widened[self.c_in * self.h * self.wide()..].fill(0.0);
    }

    /// Weights as the kernel reads them, `[blocks, taps, LANES]`: `weight_of(channel, tap)`, zero beyond the last channel.
    pub(super) fn pack(&self, packed: &mut [[f32; LANES]], weight_of: impl Fn(usize, usize) -> f32) {
        for (row, lanes) in packed.iter_mut().enumerate() {
            let (block, tap) = (row / self.taps(), row % self.taps());
            for (lane, out) in lanes.iter_mut().enumerate() {
                let channel = block * LANES + lane;
                *out = if channel < self.c_out { weight_of(channel, tap) } else { 0.0 };
            }
        }
    }

    /// Correlates every image with the packed weights, in parallel; `bias` is added if there is one.
    fn run(&self, images: &[f32], weight_of: impl Fn(usize, usize) -> f32, bias: Option<&[f32]>, out: &mut [f32]) {
        scratch::with(self.blocks() * self.taps() * LANES, |packed| {
            let packed = packed.as_chunks_mut::<LANES>().0;
            self.pack(packed, weight_of);
            let images = images.par_chunks(self.c_in * self.h * self.w);
            out.par_chunks_mut(self.c_out * self.h_out * self.w_out).zip(images).for_each(|(out, image)| {
                scratch::with(self.widened_len(), |widened| {
                    self.widen(image, widened);
                    for (block, weight) in packed.chunks_exact(self.taps()).enumerate() {
                        self.image(block * LANES, weight, widened, bias, out);
                    }
                });
            });
        });
    }

    /// The output channels `first ..` of one image.
    fn image(&self, first: usize, weight: &[[f32; LANES]], widened: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        let (h_out, w_out) = (self.h_out, self.w_out);
        scratch::with(w_out * LANES, |row| {
            let row = row.as_chunks_mut::<LANES>().0;
            for i in 0..h_out {
                self.row(i, weight, widened, row);
                for lane in 0..LANES.min(self.c_out - first) {
                    let bias = bias.map_or(0.0, |bias| bias[first + lane]);
                    let out = &mut out[((first + lane) * h_out + i) * w_out..][..w_out];
                    for (out, sums) in out.iter_mut().zip(&*row) {
                        *out = sums[lane] + bias;
                    }
                }
            }
        });
    }

    /// Row `i` of sixteen output channels, without bias, from its first column on: as many as `row` has.
    pub(super) fn row(&self, i: usize, weight: &[[f32; LANES]], widened: &[f32], row: &mut [[f32; LANES]]) {
        let Self { k_h, k_w, top, .. } = *self;
        let wide = self.wide();
        // Kernel rows that lie on the image: the others meet only padding.
        let (from, to) = (top.saturating_sub(i), k_h.min((self.h + top).saturating_sub(i)));
        if from >= to {
            return row.fill([0.0; LANES]);
        }
        let (weight, image) = (&weight[from * k_w..], &widened[(i + from - top) * wide..]);
        let input = (self.h * wide, wide);
        let runs = Runs { outer: self.c_in, inner: to - from, len: k_w, weight: (k_h * k_w, k_w), input };
        for (number, out) in row.chunks_mut(max_shifts()).enumerate() {
            let sums = correlate(weight, &image[number * max_shifts()..], runs, out.len());
            out.copy_from_slice(&sums[..out.len()]);
        }
    }

    /// One image's share of the weight's gradient, `[c_out, taps]`: every element is written.
    fn grad_weight(&self, image: &[f32], grad: &[f32], out: &mut [f32]) {
        scratch::with(self.widened_len(), |widened| {
            self.widen(image, widened);
            let zeros = grad.iter().filter(|&&g| g == 0.0).count();
            if (grad.len() - zeros) * SPARSE < grad.len() {
                self.grad_weight_sparse(widened, grad, out);
            } else {
                self.grad_weight_dense(widened, grad, out);
            }
        });
    }

    /// Shifts run along a kernel row, products along the output rows.
    fn grad_weight_dense(&self, widened: &[f32], grad: &[f32], out: &mut [f32]) {
        let Self { k_h, k_w, top, h_out, w_out, .. } = *self;
        let (wide, plane) = (self.wide(), h_out * w_out);
        let tile = k_w.div_ceil(k_w.div_ceil(max_shifts())); // tiles of a row as even as they can be
        scratch::with(plane * LANES, |packed| {
            let packed = packed.as_chunks_mut::<LANES>().0;
            for first in (0..self.c_out).step_by(LANES) {
                let channels = LANES.min(self.c_out - first);
                for (pixel, lanes) in packed.iter_mut().enumerate() {
                    for (lane, out) in lanes.iter_mut().enumerate() {
                        *out = if lane < channels { grad[(first + lane) * plane + pixel] } else { 0.0 };
                    }
                }
                for (c, r) in (0..self.c_in * k_h).map(|row| (row / k_h, row % k_h)) {
                    // Output rows under which this kernel row lies on the image.
                    let (from, to) = (top.saturating_sub(r), h_out.min((self.h + top).saturating_sub(r)));
                    for s in (0..k_w).step_by(tile) {
                        let shifts = tile.min(k_w - s);
                        let mut total = [[0.0; LANES]; SHIFTS];
                        for first_row in (from..to).step_by(ROWS) {
                            let inner = ROWS.min(to - first_row);
                            let runs = Runs { outer: 1, inner, len: w_out, weight: (0, w_out), input: (0, wide) };
                            let start = (c * self.h + first_row + r - top) * wide + s;
                            let sums = correlate(&packed[first_row * w_out..], &widened[start..], runs, shifts);
                            for (total, sum) in total.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
                                *total += sum;
                            }
                        }
                        for lane in 0..channels {
                            let start = (first + lane) * self.taps() + (c * k_h + r) * k_w + s;
                            for (out, total) in out[start..start + shifts].iter_mut().zip(&total) {
                                *out = total[lane];
                            }
                        }
                    }
                }
            }
        });
    }

    /// One multiple of an input row is added for every kernel row and every element of `grad` that is not zero. Rows of
    /// sums are as long as whole vectors; what the last vector gathers beyond the kernel is dropped in the end.
    fn grad_weight_sparse(&self, widened: &[f32], grad: &[f32], out: &mut [f32]) {
        let Self { k_h, k_w, top, h_out, w_out, .. } = *self;
        let (wide, vectors) = (self.wide(), k_w.div_ceil(VECTOR));
        scratch::with(self.c_in * k_h * vectors * VECTOR, |sums| {
            for (out, grad) in out.chunks_exact_mut(self.taps()).zip(grad.chunks_exact(h_out * w_out)) {
                sums.fill(0.0);
                for (i, grad) in grad.chunks_exact(w_out).enumerate() {
                    let (from, to) = (top.saturating_sub(i), k_h.min((self.h + top).saturating_sub(i)));
                    for (j, &g) in grad.iter().enumerate().filter(|(_, g)| **g != 0.0) {
                        for c in 0..self.c_in {
                            let rows = c * k_h + from..c * k_h + to.max(from);
                            let sums = &mut sums.as_chunks_mut::<VECTOR>().0[rows.start * vectors..rows.end * vectors];
                            let input = &widened[(c * self.h + (i + from).saturating_sub(top)) * wide + j..];
                            add_rows(g, input, wide, sums, vectors);
                        }
                    }
                }
                for (out, sums) in out.chunks_exact_mut(k_w).zip(sums.chunks_exact(vectors * VECTOR)) {
                    out.copy_from_slice(&sums[..k_w]);
                }
            }
        });
    }
}

impl Op for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        let mut expected = vec![self.input(), self.weight()];
        if self.bias {
            expected.push(("bias", [self.c_out].into()));
        }
        expect(self.name(), inputs, &expected)?;
        Ok(vec![self.grad_output().1])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        let (h, w) = self.out();
        for (i, y) in write[0].iter_mut().enumerate() {
            *y = if self.bias { read[2][i / (h * w) % self.c_out] } else { 0.0 };
        }
        self.products(|y, weight, x| write[0][y] += read[1][weight] * read[0][x]);
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        let taps = self.taps();
        let bias = self.bias.then(|| read[2]);
        self.forward().run(read[0], |channel, tap| read[1][channel * taps + tap], bias, write[0]);
    }

    fn gpu(&self) -> Vec<Dispatch> {
        let tiled = conv_tiled::correlation(self.entry(), &self.forward(), self.n, (1, 1), vec![]);
        tiled.map_or_else(|| self.gpu_naive(), |dispatch| vec![dispatch.binding(self.binds())])
    }

    fn gpu_naive(&self) -> Vec<Dispatch> {
        vec![self.dispatch(self.entry(), self.grad_output().1.len()).binding(self.binds())]
    }

    fn flops(&self) -> u64 {
        self.operations()
    }

    fn backward(&self, g: &mut Gradient) -> Result<()> {
        g.give(0, GradInput(self.clone()), &[g.grad_output(), g.input(1)])?;
        g.give(1, GradWeight(self.clone()), &[g.grad_output(), g.input(0)])?;
        if self.bias {
            g.give(2, GradBias(self.clone()), &[g.grad_output()])?;
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct GradInput(pub(super) Conv2d);

impl Op for GradInput {
    fn name(&self) -> &'static str {
        "conv2d.grad_input"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect(self.name(), inputs, &[self.0.grad_output(), self.0.weight()])?;
        Ok(vec![self.0.input().1])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        write[0].fill(0.0);
        self.0.products(|y, weight, x| write[0][x] += read[1][weight] * read[0][y]);
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        let (taps, kernel) = (self.0.taps(), self.0.k_h * self.0.k_w);
        // Tap (o, r', s') of input channel c is tap (c, k_h - 1 - r', k_w - 1 - s') of output channel o.
        let turned = |c: usize, tap: usize| read[1][tap / kernel * taps + c * kernel + kernel - 1 - tap % kernel];
        self.0.transposed().run(read[0], turned, None, write[0]);
    }

    fn gpu(&self) -> Vec<Dispatch> {
        let turned = vec![("turned", 1.0)];
        let tiled = conv_tiled::correlation("forward", &self.0.transposed(), self.0.n, (1, 1), turned);
        tiled.map_or_else(|| self.gpu_naive(), |dispatch| vec![dispatch])
    }

    fn gpu_naive(&self) -> Vec<Dispatch> {
        vec![self.0.dispatch("grad_input", self.0.input().1.len())]
    }

    fn flops(&self) -> u64 {
        self.0.operations()
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        once(self.name())
    }
}

#[derive(Debug)]
pub(super) struct GradWeight(pub(super) Conv2d);

impl Op for GradWeight {
    fn name(&self) -> &'static str {
        "conv2d.grad_weight"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect(self.name(), inputs, &[self.0.grad_output(), self.0.input()])?;
        Ok(vec![self.0.weight().1])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        write[0].fill(0.0);
        self.0.products(|y, weight, x| write[0][weight] += read[0][y] * read[1][x]);
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        let conv = self.0.forward();
        let len = conv.c_out * conv.taps();
        // Every image sums into an array of its own; then the images are added in order: no race, one order.
        scratch::with(self.0.n * len, |partial| {
            let grads = read[0].par_chunks(conv.c_out * conv.h_out * conv.w_out);
            let images = grads.zip(read[1].par_chunks(conv.c_in * conv.h * conv.w));
            partial.par_chunks_mut(len).zip(images).for_each(|(partial, (grad, image))| {
                conv.grad_weight(image, grad, partial);
            });
            let chunk = 1024;
            write[0].par_chunks_mut(chunk).enumerate().for_each(|(block, out)| {
                out.fill(0.0);
                for image in partial.chunks_exact(len) {
                    for (out, x) in out.iter_mut().zip(&image[block * chunk..]) {
                        *out += x;
                    }
                }
            });
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        self.0.tiled_gradient().weight("places", &[Bind::Read(1), Bind::Read(0)], 0).into()
    }

    fn gpu_naive(&self) -> Vec<Dispatch> {
        vec![self.0.dispatch("grad_weight", self.0.weight().1.len())]
    }

    fn scratch(&self) -> Vec<usize> {
        vec![self.0.tiled_gradient().scratch()]
    }

    fn flops(&self) -> u64 {
        self.0.operations()
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        once(self.name())
    }
}

#[derive(Debug)]
pub(super) struct GradBias(pub(super) Conv2d);

impl GradBias {
    /// Elements of one plane of the output.
    fn plane(&self) -> usize {
        self.0.out().0 * self.0.out().1
    }
}

impl Op for GradBias {
    fn name(&self) -> &'static str {
        "conv2d.grad_bias"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect(self.name(), inputs, &[self.0.grad_output()])?;
        Ok(vec![[self.0.c_out].into()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        write[0].fill(0.0);
        for (i, plane) in read[0].chunks_exact(self.plane()).enumerate() {
            write[0][i % self.0.c_out] += plane.iter().sum::<f64>();
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        write[0].par_iter_mut().enumerate().for_each(|(o, out)| {
            // In f64: a plane's thousands of terms largely cancel.
            let planes = read[0].chunks_exact(self.plane()).skip(o).step_by(self.0.c_out);
            *out = planes.map(|plane| plane.iter().map(|&g| f64::from(g)).sum::<f64>()).sum::<f64>() as f32;
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        vec![self.0.tiled_gradient().bias("bias_places", &[Bind::Read(0)], 0)]
    }

    fn gpu_naive(&self) -> Vec<Dispatch> {
        vec![self.0.dispatch("grad_bias", self.0.c_out)]
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        once(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step() -> Step {
        Step::new(1, 0, 0.0)
    }

    #[test]
    fn valid_by_hand() {
        let op = Conv2d { n: 1, c_in: 1, h: 2, w: 3, c_out: 1, k_h: 2, k_w: 2, padding: Padding::Valid, bias: true };
        let (x, weight) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 10.0, 100.0, 1000.0]);
        let mut y = [f32::NAN; 2];
        op.cpu(&[&x, &weight, &[0.5]], &mut [&mut y], &step());
        assert_eq!(y, [5421.5, 6532.5]);
        let dy = [1.0, 2.0];
        let mut dx = [f32::NAN; 6];
        GradInput(op.clone()).cpu(&[&dy, &weight], &mut [&mut dx], &step());
        assert_eq!(dx, [1.0, 12.0, 20.0, 100.0, 1200.0, 2000.0]);
        let mut dw = [f32::NAN; 4];
        GradWeight(op.clone()).cpu(&[&dy, &x], &mut [&mut dw], &step());
        assert_eq!(dw, [5.0, 8.0, 14.0, 17.0]);
        let mut db = [f32::NAN];
        GradBias(op).cpu(&[&dy], &mut [&mut db], &step());
        assert_eq!(db, [3.0]);
    }

    #[test]
    fn same_pads_an_even_kernel_less_before_than_after() {
        // Kernel 1x4: one zero before, two after. An impulse at place 2 meets tap s at output 2 - s + 1.
        let op = Conv2d { n: 1, c_in: 1, h: 1, w: 5, c_out: 1, k_h: 1, k_w: 4, padding: Padding::Same, bias: false };
        let mut y = [f32::NAN; 5];
        op.cpu(&[&[0.0, 0.0, 1.0, 0.0, 0.0], &[1.0, 2.0, 3.0, 4.0]], &mut [&mut y], &step());
        assert_eq!(y, [4.0, 3.0, 2.0, 1.0, 0.0]);
    }

    #[test]
    fn a_wrong_number_of_channels_is_refused() {
        let mut tape = Tape::new();
        let (x, weight) = (tape.input("x", [15, 1, 80, 80]), tape.param("w", [32, 16, 3, 3]).unwrap());
        let error = conv2d(&mut tape, x, weight, None, Padding::Same).unwrap_err().to_string();
        assert_eq!(error, "conv2d: expected weight [32, 1, 3, 3], got [32, 16, 3, 3]");
    }
}

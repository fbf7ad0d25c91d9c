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
//! Images run in parallel. Within one, blocks of output rows are unfolded into columns (`im2col`) that fit the cache,
//! and each block is one matrix product (Chellapilla, Puri and Simard 2006).

use rayon::prelude::*;

use super::gemm::{Mat, gemm};
use super::{expect, once, scratch};
use crate::error::{Error, Result};
use crate::shader;
use crate::tape::{Dispatch, Gradient, Op, Step, Tape, Var};
use crate::tensor::Shape;

/// Floats of one block of columns: 256 KiB, about half of a second-level cache.
const BLOCK: usize = 64 * 1024;

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
struct Conv2d {
    n: usize,
    c_in: usize,
    h: usize,
    w: usize,
    c_out: usize,
    k_h: usize,
    k_w: usize,
    padding: Padding,
    bias: bool,
}

impl Conv2d {
    fn input(&self) -> (&'static str, Shape) {
        ("input", [self.n, self.c_in, self.h, self.w].into())
    }

    fn weight(&self) -> (&'static str, Shape) {
        ("weight", [self.c_out, self.c_in, self.k_h, self.k_w].into())
    }

    fn grad_output(&self) -> (&'static str, Shape) {
        let (h, w) = self.out();
        ("grad_output", [self.n, self.c_out, h, w].into())
    }

    /// Height and width of the output.
    fn out(&self) -> (usize, usize) {
        match self.padding {
            Padding::Valid => (self.h + 1 - self.k_h, self.w + 1 - self.k_w),
            Padding::Same => (self.h, self.w),
        }
    }

    /// Zeros above and to the left of the input.
    fn pad(&self) -> (usize, usize) {
        match self.padding {
            Padding::Valid => (0, 0),
            Padding::Same => ((self.k_h - 1) / 2, (self.k_w - 1) / 2),
        }
    }

    /// Taps of one output channel.
    fn taps(&self) -> usize {
        self.c_in * self.k_h * self.k_w
    }

    fn multiply_adds(&self) -> u64 {
        let (h, w) = self.out();
        2 * (self.n * self.c_out * h * w * self.taps()) as u64
    }

    fn dispatch(&self, entry: &'static str, threads: usize) -> Vec<Dispatch> {
        let ((top, left), (h_out, w_out)) = (self.pad(), self.out());
        let names = ["n", "c_in", "h", "w", "c_out", "k_h", "k_w", "top", "left", "h_out", "w_out"];
        let sizes = [self.n, self.c_in, self.h, self.w, self.c_out, self.k_h, self.k_w, top, left, h_out, w_out];
        let constants = names.into_iter().zip(sizes.map(|size| size as f64)).collect();
        vec![Dispatch::linear(shader!("conv2d.wgsl"), entry, constants, threads)]
    }

    /// Calls `f(image, o, i, j, weight index, input index)` for every product of the equation, naively.
    fn products(&self, mut f: impl FnMut(usize, usize, usize)) {
        let ((top, left), (h_out, w_out)) = (self.pad(), self.out());
        for n in 0..self.n {
            for o in 0..self.c_out {
                for i in 0..h_out {
                    for j in 0..w_out {
                        for c in 0..self.c_in {
                            for r in 0..self.k_h {
                                for s in 0..self.k_w {
                                    let (Some(h), Some(w)) = ((i + r).checked_sub(top), (j + s).checked_sub(left)) else {
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

    /// Output rows of one block.
    fn block_rows(&self) -> usize {
        let (h_out, w_out) = self.out();
        (BLOCK / (self.taps() * w_out)).clamp(1, h_out)
    }

    /// The (first, end) output rows of the blocks.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> {
        let (rows, h_out) = (self.block_rows(), self.out().0);
        (0..h_out).step_by(rows).map(move |first| (first, (first + rows).min(h_out)))
    }

    /// Floats of the columns of one block.
    fn column_len(&self) -> usize {
        self.taps() * self.block_rows() * self.out().1
    }

    /// Calls `f(row of the columns, input range, column range)` for every run of columns that lies on the input, and
    /// `f` with an empty input range for those on the padding. Columns are `[taps, (end - first) * w_out]`.
    fn runs(&self, first: usize, end: usize, mut f: impl FnMut(std::ops::Range<usize>, std::ops::Range<usize>)) {
        let ((top, left), w_out) = (self.pad(), self.out().1);
        let width = (end - first) * w_out;
        for c in 0..self.c_in {
            for r in 0..self.k_h {
                for s in 0..self.k_w {
                    let tap = (c * self.k_h + r) * self.k_w + s;
                    // Columns j with 0 <= j + s - left < w.
                    let (from, to) = (left.saturating_sub(s), (self.w + left).saturating_sub(s).min(w_out));
                    for i in first..end {
                        let start = tap * width + (i - first) * w_out;
                        match (i + r).checked_sub(top) {
                            Some(h) if h < self.h && from < to => {
                                let source = (c * self.h + h) * self.w + from + s - left;
                                f(0..0, start..start + from);
                                f(source..source + to - from, start + from..start + to);
                                f(0..0, start + to..start + w_out);
                            }
                            _ => f(0..0, start..start + w_out),
                        }
                    }
                }
            }
        }
    }

    /// Unfolds the input under output rows `first..end` of one image into `columns [taps, (end - first) * w_out]`.
    fn unfold(&self, image: &[f32], first: usize, end: usize, columns: &mut [f32]) {
        self.runs(first, end, |source, target| {
            if source.is_empty() {
                columns[target].fill(0.0);
            } else {
                columns[target].copy_from_slice(&image[source]);
            }
        });
    }

    /// Adds such columns back onto the image: the transpose of [`Self::unfold`].
    fn fold(&self, columns: &[f32], first: usize, end: usize, image: &mut [f32]) {
        self.runs(first, end, |source, target| {
            for (x, column) in image[source].iter_mut().zip(&columns[target]) {
                *x += column;
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
        let (h_out, w_out) = self.out();
        let plane = h_out * w_out;
        let weight = Mat::new(read[1], self.c_out, self.taps());
        let images = write[0].par_chunks_mut(self.c_out * plane).zip(read[0].par_chunks(self.c_in * self.h * self.w));
        images.for_each(|(out, image)| {
            if self.bias {
                out.chunks_exact_mut(plane).zip(read[2]).for_each(|(out, &bias)| out.fill(bias));
            }
            scratch::with(self.column_len(), |columns| {
                for (first, end) in self.blocks() {
                    let width = (end - first) * w_out;
                    let columns = &mut columns[..self.taps() * width];
                    self.unfold(image, first, end, columns);
                    let beta = if self.bias { 1.0 } else { 0.0 };
                    gemm(weight, Mat::new(columns, self.taps(), width), beta, &mut out[first * w_out..], plane);
                }
            });
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        let entry = if self.bias { "forward_bias" } else { "forward" };
        self.dispatch(entry, self.grad_output().1.len())
    }

    fn flops(&self) -> u64 {
        self.multiply_adds()
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
struct GradInput(Conv2d);

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
        let conv = &self.0;
        let (h_out, w_out) = conv.out();
        let plane = h_out * w_out;
        let weight = Mat::new(read[1], conv.c_out, conv.taps());
        let images = write[0].par_chunks_mut(conv.c_in * conv.h * conv.w).zip(read[0].par_chunks(conv.c_out * plane));
        images.for_each(|(image, grad)| {
            image.fill(0.0);
            scratch::with(conv.column_len(), |columns| {
                for (first, end) in conv.blocks() {
                    let width = (end - first) * w_out;
                    let columns = &mut columns[..conv.taps() * width];
                    let grad = Mat::strided(&grad[first * w_out..], conv.c_out, width, plane);
                    gemm(weight.t(), grad, 0.0, columns, width);
                    conv.fold(columns, first, end, image);
                }
            });
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        self.0.dispatch("grad_input", self.0.input().1.len())
    }

    fn flops(&self) -> u64 {
        self.0.multiply_adds()
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        once(self.name())
    }
}

#[derive(Debug)]
struct GradWeight(Conv2d);

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
        let conv = &self.0;
        let (h_out, w_out) = conv.out();
        let plane = h_out * w_out;
        let len = conv.c_out * conv.taps();
        // Every image sums into an array of its own; then the images are added in order: no race, one order.
        scratch::with(conv.n * len, |partial| {
            let images = read[0].par_chunks(conv.c_out * plane).zip(read[1].par_chunks(conv.c_in * conv.h * conv.w));
            partial.par_chunks_mut(len).zip(images).for_each(|(partial, (grad, image))| {
                scratch::with(conv.column_len(), |columns| {
                    for (first, end) in conv.blocks() {
                        let width = (end - first) * w_out;
                        let columns = &mut columns[..conv.taps() * width];
                        conv.unfold(image, first, end, columns);
                        let grad = Mat::strided(&grad[first * w_out..], conv.c_out, width, plane);
                        let beta = if first == 0 { 0.0 } else { 1.0 };
                        gemm(grad, Mat::new(columns, conv.taps(), width).t(), beta, partial, conv.taps());
                    }
                });
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
        self.0.dispatch("grad_weight", self.0.weight().1.len())
    }

    fn flops(&self) -> u64 {
        self.0.multiply_adds()
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        once(self.name())
    }
}

#[derive(Debug)]
struct GradBias(Conv2d);

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
            let planes = read[0].chunks_exact(self.plane()).skip(o).step_by(self.0.c_out);
            *out = planes.map(|plane| plane.iter().sum::<f32>()).sum();
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        self.0.dispatch("grad_bias", self.0.c_out)
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        once(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step() -> Step {
        Step::new(1, 0, 0.0, (0.9, 0.999))
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
        let (x, weight) = (tape.input("x", [15, 1, 80, 80]), tape.param("w", [32, 16, 3, 3]));
        let error = conv2d(&mut tape, x, weight, None, Padding::Same).unwrap_err().to_string();
        assert_eq!(error, "conv2d: expected weight [32, 1, 3, 3], got [32, 16, 3, 3]");
    }
}

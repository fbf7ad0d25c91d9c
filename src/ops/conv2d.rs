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
//! All three are matrix products, image by image, on *columns* (im2col): `columns[(c, r, s), (i, j)] = x[c, i + r - top, j + s -
//! left]`, so that `y = weight columns` and `grad_weight = sum_n grad_output columns^T`. The gradient of the input is itself a
//! convolution: of `grad_output`, with the weight rotated by 180° and its channels swapped. Images run in parallel.

use rayon::prelude::*;

use super::common::{expect_shapes, no_second_gradient};
use super::matmul::{Mat, gemm};
use crate::dispatch::{Bind, Dispatch};
use crate::error::{Error, Result};
use crate::shader;
use crate::tape::{Gradient, Op, Step, Tape, Var};
use crate::tensor::Shape;

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
pub(crate) struct Conv2d {
    pub(crate) n: usize,
    pub(crate) c_in: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) c_out: usize,
    pub(crate) k_h: usize,
    pub(crate) k_w: usize,
    pub(crate) padding: Padding,
    pub(crate) bias: bool,
}

impl Conv2d {
    pub(crate) fn input(&self) -> (&'static str, Shape) {
        ("input", [self.n, self.c_in, self.h, self.w].into())
    }

    pub(crate) fn weight(&self) -> (&'static str, Shape) {
        ("weight", [self.c_out, self.c_in, self.k_h, self.k_w].into())
    }

    fn grad_output(&self) -> (&'static str, Shape) {
        let (h, w) = self.out();
        ("grad_output", [self.n, self.c_out, h, w].into())
    }

    /// Height and width of the output.
    pub(crate) fn out(&self) -> (usize, usize) {
        match self.padding {
            Padding::Valid => (self.h + 1 - self.k_h, self.w + 1 - self.k_w),
            Padding::Same => (self.h, self.w),
        }
    }

    /// Zeros above and to the left of the input.
    pub(crate) fn pad(&self) -> (usize, usize) {
        match self.padding {
            Padding::Valid => (0, 0),
            Padding::Same => ((self.k_h - 1) / 2, (self.k_w - 1) / 2),
        }
    }

    /// Taps of one output channel.
    pub(crate) fn taps(&self) -> usize {
        self.c_in * self.k_h * self.k_w
    }

    /// Multiplications and additions of the equation.
    pub(crate) fn operations(&self) -> u64 {
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
}

/// Writes the columns `[c, k_h, k_w, h_out, w_out]` of one image `[c, h, w]`, with `pad` zeros above and to the left.
fn im2col(image: &[f32], [h, w]: [usize; 2], kernel: [usize; 2], pad: (usize, usize), out: [usize; 2], to: &mut [f32]) {
    let ([k_h, k_w], [h_out, w_out]) = (kernel, out);
    for (row, to) in to.chunks_exact_mut(h_out * w_out).enumerate() {
        let (c, r, s) = (row / (k_h * k_w), row / k_w % k_h, row % k_w);
        for (index, x) in to.iter_mut().enumerate() {
            let (i, j) = (index / w_out + r, index % w_out + s);
            let inside = (pad.0..pad.0 + h).contains(&i) && (pad.1..pad.1 + w).contains(&j);
            *x = if inside { image[(c * h + i - pad.0) * w + j - pad.1] } else { 0.0 };
        }
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
        expect_shapes(self.name(), inputs, &expected)?;
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
        let ((h_out, w_out), taps) = (self.out(), self.taps());
        let images = read[0].par_chunks(self.c_in * self.h * self.w);
        write[0].par_chunks_mut(self.c_out * h_out * w_out).zip(images).for_each(|(y, image)| {
            let mut columns = vec![0.0; taps * h_out * w_out];
            im2col(image, [self.h, self.w], [self.k_h, self.k_w], self.pad(), [h_out, w_out], &mut columns);
            gemm(Mat::new(read[1], self.c_out, taps), Mat::new(&columns, taps, h_out * w_out), y, h_out * w_out);
            if self.bias {
                for (y, bias) in y.chunks_exact_mut(h_out * w_out).zip(read[2]) {
                    y.iter_mut().for_each(|y| *y += bias);
                }
            }
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
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
pub(crate) struct GradInput(pub(crate) Conv2d);

impl Op for GradInput {
    fn name(&self) -> &'static str {
        "conv2d.grad_input"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect_shapes(self.name(), inputs, &[self.0.grad_output(), self.0.weight()])?;
        Ok(vec![self.0.input().1])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        write[0].fill(0.0);
        self.0.products(|y, weight, x| write[0][x] += read[1][weight] * read[0][y]);
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        let Conv2d { c_in, h, w, c_out, k_h, k_w, .. } = self.0;
        let ((h_out, w_out), (top, left), kernel) = (self.0.out(), self.0.pad(), k_h * k_w);
        // Tap (o, r, s) of input channel c is tap (c, k_h - 1 - r, k_w - 1 - s) of output channel o.
        let mut rotated = vec![0.0; c_in * c_out * kernel];
        for (index, tap) in rotated.iter_mut().enumerate() {
            let (c, o, tap_at) = (index / (c_out * kernel), index / kernel % c_out, index % kernel);
            *tap = read[1][(o * c_in + c) * kernel + kernel - 1 - tap_at];
        }
        let grads = read[0].par_chunks(c_out * h_out * w_out);
        write[0].par_chunks_mut(c_in * h * w).zip(grads).for_each(|(dx, grad)| {
            let mut columns = vec![0.0; c_out * kernel * h * w];
            let pad = (k_h - 1 - top, k_w - 1 - left);
            im2col(grad, [h_out, w_out], [k_h, k_w], pad, [h, w], &mut columns);
            gemm(Mat::new(&rotated, c_in, c_out * kernel), Mat::new(&columns, c_out * kernel, h * w), dx, h * w);
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        vec![self.0.dispatch("grad_input", self.0.input().1.len())]
    }

    fn flops(&self) -> u64 {
        self.0.operations()
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        no_second_gradient(self.name())
    }
}

#[derive(Debug)]
pub(crate) struct GradWeight(pub(crate) Conv2d);

impl Op for GradWeight {
    fn name(&self) -> &'static str {
        "conv2d.grad_weight"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect_shapes(self.name(), inputs, &[self.0.grad_output(), self.0.input()])?;
        Ok(vec![self.0.weight().1])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        write[0].fill(0.0);
        self.0.products(|y, weight, x| write[0][weight] += read[0][y] * read[1][x]);
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        let Conv2d { n, c_in, h, w, c_out, k_h, k_w, .. } = self.0;
        let ((h_out, w_out), taps) = (self.0.out(), self.0.taps());
        // Every image has an array of its own. The arrays are then added in order: no race, and always the same sum.
        let mut partial = vec![0.0; n * c_out * taps];
        let images = read[0].par_chunks(c_out * h_out * w_out).zip(read[1].par_chunks(c_in * h * w));
        partial.par_chunks_mut(c_out * taps).zip(images).for_each(|(partial, (grad, image))| {
            let mut columns = vec![0.0; taps * h_out * w_out];
            im2col(image, [h, w], [k_h, k_w], self.0.pad(), [h_out, w_out], &mut columns);
            let columns = Mat::new(&columns, taps, h_out * w_out).t();
            gemm(Mat::new(grad, c_out, h_out * w_out), columns, partial, taps);
        });
        for (index, dw) in write[0].iter_mut().enumerate() {
            *dw = partial.iter().skip(index).step_by(c_out * taps).sum();
        }
    }

    fn gpu(&self) -> Vec<Dispatch> {
        vec![self.0.dispatch("grad_weight", self.0.weight().1.len())]
    }

    fn flops(&self) -> u64 {
        self.0.operations()
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        no_second_gradient(self.name())
    }
}

#[derive(Debug)]
pub(crate) struct GradBias(pub(crate) Conv2d);

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
        expect_shapes(self.name(), inputs, &[self.0.grad_output()])?;
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
        vec![self.0.dispatch("grad_bias", self.0.c_out)]
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        no_second_gradient(self.name())
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

//! Max-pooling with stride = window: `y[n, c, i, j] = max over the window of x[n, c, i k_h + r, j k_w + s]`.
//!
//! Rows and columns that no whole window covers are left out, as in PyTorch and TensorFlow's `valid`.
//!
//! # Shapes
//! `input [N, C, H, W]` to `output [N, C, H / k_h, W / k_w]` and `argmax` of that shape: the index `h W + w` of the maximum
//! in its plane, as f32 (exact: planes are smaller than 2^24).
//!
//! # Gradient
//! Each window's gradient goes to its maximum, the first of equals in row-major order (as in PyTorch). Windows do not
//! overlap, so every input element looks up the one window that it belongs to: a gather.

use rayon::prelude::*;

use super::common::{expect_shapes, no_second_gradient};
use crate::dispatch::Dispatch;
use crate::error::{Error, Result};
use crate::shader;
use crate::tape::{Gradient, Op, Step, Tape, Var};
use crate::tensor::Shape;

/// Records max-pooling of `input` with `window` (height, width).
///
/// # Errors
/// [`Error::Shape`] if `input` is not `[N, C, H, W]` or smaller than the window.
pub fn max_pool2d(tape: &mut Tape, input: Var, window: (usize, usize)) -> Result<Var> {
    let [n, c, h, w] = tape.shape4("max_pool2d", input)?;
    let (k_h, k_w) = window;
    if k_h == 0 || k_w == 0 || h < k_h || w < k_w {
        let message = format!("expected input at least as large as the window {k_h}x{k_w}, got {h}x{w}");
        return Err(Error::shape("max_pool2d", message));
    }
    tape.one(MaxPool2d { n, c, h, w, k_h, k_w }, &[input])
}

#[derive(Clone, Debug)]
pub(crate) struct MaxPool2d {
    pub(crate) n: usize,
    pub(crate) c: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) k_h: usize,
    pub(crate) k_w: usize,
}

impl MaxPool2d {
    pub(crate) fn out(&self) -> (usize, usize) {
        (self.h / self.k_h, self.w / self.k_w)
    }

    /// Maps of all images.
    pub(crate) fn planes(&self) -> usize {
        self.n * self.c
    }

    fn input(&self) -> Shape {
        [self.n, self.c, self.h, self.w].into()
    }

    pub(crate) fn output(&self) -> Shape {
        let (h, w) = self.out();
        [self.n, self.c, h, w].into()
    }

    fn dispatch(&self, entry: &'static str, threads: usize) -> Vec<Dispatch> {
        let sizes = [self.planes(), self.h, self.w, self.k_h, self.k_w].map(|size| size as f64);
        let constants = ["planes", "h", "w", "k_h", "k_w"].into_iter().zip(sizes).collect();
        vec![Dispatch::linear(shader!("max_pool2d.wgsl"), entry, constants, threads)]
    }

    /// The maximum of window (i, j) of one plane and its index there. The first of equal elements counts.
    fn maximum<T: Copy + PartialOrd>(&self, plane: &[T], i: usize, j: usize) -> (T, usize) {
        let mut argmax = i * self.k_h * self.w + j * self.k_w;
        for r in i * self.k_h..(i + 1) * self.k_h {
            for s in j * self.k_w..(j + 1) * self.k_w {
                argmax = if plane[r * self.w + s] > plane[argmax] { r * self.w + s } else { argmax };
            }
        }
        (plane[argmax], argmax)
    }

    /// For every element of a plane, the number of its window, if it has one.
    fn window_of(&self, h: usize, w: usize) -> Option<usize> {
        let (out_h, out_w) = self.out();
        let (i, j) = (h / self.k_h, w / self.k_w);
        (i < out_h && j < out_w).then_some(i * out_w + j)
    }
}

impl Op for MaxPool2d {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect_shapes(self.name(), inputs, &[("input", self.input())])?;
        Ok(vec![self.output(), self.output()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        let (out_h, out_w) = self.out();
        for (p, plane) in read[0].chunks_exact(self.h * self.w).enumerate() {
            for o in 0..out_h * out_w {
                let (best, argmax) = self.maximum(plane, o / out_w, o % out_w);
                write[0][p * out_h * out_w + o] = best;
                write[1][p * out_h * out_w + o] = argmax as f64;
            }
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        let [output, argmax] = write else { unreachable!("two outputs") };
        let (out_h, out_w) = self.out();
        let planes = output.par_chunks_mut(out_h * out_w).zip(argmax.par_chunks_mut(out_h * out_w));
        planes.zip(read[0].par_chunks(self.h * self.w)).for_each(|((output, argmax), plane)| {
            for (o, (output, argmax)) in output.iter_mut().zip(argmax).enumerate() {
                let (best, index) = self.maximum(plane, o / out_w, o % out_w);
                (*output, *argmax) = (best, index as f32);
            }
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        self.dispatch("forward", self.output().len())
    }

    fn backward(&self, g: &mut Gradient) -> Result<()> {
        g.give(0, GradInput(self.clone()), &[g.grad_output(), g.output(1)])
    }
}

#[derive(Debug)]
pub(crate) struct GradInput(pub(crate) MaxPool2d);

impl Op for GradInput {
    fn name(&self) -> &'static str {
        "max_pool2d.grad_input"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        let output = self.0.output();
        expect_shapes(self.name(), inputs, &[("grad_output", output.clone()), ("argmax", output)])?;
        Ok(vec![self.0.input()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        let (out_h, out_w) = self.0.out();
        for (i, dx) in write[0].iter_mut().enumerate() {
            let (plane, place) = (i / (self.0.h * self.0.w), i % (self.0.h * self.0.w));
            *dx = match self.0.window_of(place / self.0.w, place % self.0.w) {
                Some(o) if read[1][plane * out_h * out_w + o] == place as f64 => read[0][plane * out_h * out_w + o],
                _ => 0.0,
            };
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        let (out_h, out_w) = self.0.out();
        let windows = read[0].par_chunks(out_h * out_w).zip(read[1].par_chunks(out_h * out_w));
        // One task owns a plane, and may therefore write at the argmax positions.
        write[0].par_chunks_mut(self.0.h * self.0.w).zip(windows).for_each(|(plane, (grad, argmax))| {
            plane.fill(0.0);
            for (&grad, &place) in grad.iter().zip(argmax) {
                plane[place as usize] = grad;
            }
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        self.0.dispatch("grad_input", self.0.input().len())
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        no_second_gradient(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand_with_a_tie_and_a_row_left_over() {
        let op = MaxPool2d { n: 1, c: 1, h: 3, w: 4, k_h: 2, k_w: 2 };
        let step = Step::new(1, 0, 0.0);
        let x = [1.0, 5.0, -1.0, -2.0, 5.0, 2.0, -3.0, -4.0, 9.0, 9.0, 9.0, 9.0];
        let (mut y, mut argmax) = ([f32::NAN; 2], [f32::NAN; 2]);
        op.cpu(&[&x], &mut [&mut y, &mut argmax], &step);
        assert_eq!((y, argmax), ([5.0, -1.0], [1.0, 2.0]));
        let mut dx = [f32::NAN; 12];
        GradInput(op).cpu(&[&[7.0, 8.0], &argmax], &mut [&mut dx], &step);
        assert_eq!(dx, [0.0, 7.0, 8.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_window_larger_than_the_input_is_refused() {
        let mut tape = Tape::new();
        let x = tape.input("x", [1, 1, 4, 4]);
        let error = max_pool2d(&mut tape, x, (5, 1)).unwrap_err().to_string();
        assert_eq!(error, "max_pool2d: expected input at least as large as the window 5x1, got 4x4");
    }
}

//! Max-pooling with stride = window: `y[n, c, i, j] = max over the window of x[n, c, i k_h + r, j k_w + s]`.
//!
//! Rows and columns that no whole window covers are left out, as in PyTorch and TensorFlow's `valid`.
//!
//! # Shapes
//! `input [N, C, H, W]` to `output [N, C, H / k_h, W / k_w]` and `argmax` of that shape: the winner's place `h W + w` in its
//! plane, as f32 (exact: planes are smaller than 2^24).
//!
//! # Gradient
//! Each window's gradient goes to its winner, the first of equals in row-major order (as in PyTorch). Windows do not
//! overlap, so every input element looks up the one window that it belongs to: a gather.

use rayon::prelude::*;

use super::{conv_block, expect, once};
use crate::error::{Error, Result};
use crate::shader;
use crate::tape::{Dispatch, Fusion, Gradient, Neighbours, Op, Step, Tape, Var};
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
pub(super) struct MaxPool2d {
    pub(super) n: usize,
    pub(super) c: usize,
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) k_h: usize,
    pub(super) k_w: usize,
}

impl MaxPool2d {
    pub(super) fn out(&self) -> (usize, usize) {
        (self.h / self.k_h, self.w / self.k_w)
    }

    /// Maps of all images.
    pub(super) fn planes(&self) -> usize {
        self.n * self.c
    }

    fn input(&self) -> Shape {
        [self.n, self.c, self.h, self.w].into()
    }

    pub(super) fn output(&self) -> Shape {
        let (h, w) = self.out();
        [self.n, self.c, h, w].into()
    }

    fn dispatch(&self, entry: &'static str, threads: usize) -> Vec<Dispatch> {
        let sizes = [self.planes(), self.h, self.w, self.k_h, self.k_w].map(|size| size as f64);
        let constants = ["planes", "h", "w", "k_h", "k_w"].into_iter().zip(sizes).collect();
        vec![Dispatch::linear(shader!("max_pool2d.wgsl"), entry, constants, threads)]
    }

    /// The maximum of window (i, j) of one plane and its place there.
    fn winner(&self, plane: &[f64], i: usize, j: usize) -> (f64, usize) {
        let mut place = i * self.k_h * self.w + j * self.k_w;
        for r in i * self.k_h..(i + 1) * self.k_h {
            for s in j * self.k_w..(j + 1) * self.k_w {
                place = if plane[r * self.w + s] > plane[place] { r * self.w + s } else { place };
            }
        }
        (plane[place], place)
    }

    /// The maxima and their places for row `i` of windows; the study's window widths are unrolled.
    fn winners(&self, plane: &[f32], i: usize, best: &mut [f32], place: &mut [f32]) {
        match self.k_w {
            1 => self.winners_of_width::<1>(plane, i, best, place),
            2 => self.winners_of_width::<2>(plane, i, best, place),
            5 => self.winners_of_width::<5>(plane, i, best, place),
            20 => self.winners_of_width::<20>(plane, i, best, place),
            _ => {
                for (j, (best, place)) in best.iter_mut().zip(place).enumerate() {
                    let windows = (0..self.k_h).map(|r| (i * self.k_h + r) * self.w + j * self.k_w);
                    let places = windows.flat_map(|first| first..first + self.k_w);
                    let first = i * self.k_h * self.w + j * self.k_w;
                    let winner =
                        places.fold(first, |winner, place| if plane[place] > plane[winner] { place } else { winner });
                    (*best, *place) = (plane[winner], winner as f32);
                }
            }
        }
    }

    /// Rows outermost; the comparisons select rather than branch, so that the compiler can vectorise over the windows.
    fn winners_of_width<const K_W: usize>(&self, plane: &[f32], i: usize, best: &mut [f32], place: &mut [f32]) {
        let base = i * self.k_h * self.w;
        for ((j, best), place) in (0i32..).zip(best.iter_mut()).zip(place.iter_mut()) {
            (*best, *place) = (plane[base + j as usize * K_W], base as f32 + (j * K_W as i32) as f32);
        }
        for r in i * self.k_h..(i + 1) * self.k_h {
            let first = (r * self.w) as f32;
            let row = plane[r * self.w..][..self.w].as_chunks::<K_W>().0;
            for ((j, window), (best, place)) in (0i32..).zip(row).zip(best.iter_mut().zip(place.iter_mut())) {
                let (mut x, mut here) = (*best, *place);
                for (s, &value) in window.iter().enumerate() {
                    here = if value > x { first + (j * K_W as i32 + s as i32) as f32 } else { here };
                    x = if value > x { value } else { x };
                }
                (*best, *place) = (x, here);
            }
        }
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
        expect(self.name(), inputs, &[("input", self.input())])?;
        Ok(vec![self.output(), self.output()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        let (out_h, out_w) = self.out();
        for (p, plane) in read[0].chunks_exact(self.h * self.w).enumerate() {
            for o in 0..out_h * out_w {
                let (best, place) = self.winner(plane, o / out_w, o % out_w);
                write[0][p * out_h * out_w + o] = best;
                write[1][p * out_h * out_w + o] = place as f64;
            }
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        let [output, argmax] = write else { unreachable!("two outputs") };
        let (out_h, out_w) = self.out();
        let planes = output.par_chunks_mut(out_h * out_w).zip(argmax.par_chunks_mut(out_h * out_w));
        planes.zip(read[0].par_chunks(self.h * self.w)).for_each(|((output, argmax), plane)| {
            let rows = output.chunks_exact_mut(out_w).zip(argmax.chunks_exact_mut(out_w));
            rows.enumerate().for_each(|(i, (best, place))| self.winners(plane, i, best, place));
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        self.dispatch("forward", self.output().len())
    }

    fn backward(&self, g: &mut Gradient) -> Result<()> {
        g.give(0, GradInput(self.clone()), &[g.grad_output(), g.output(1)])
    }

    fn fuse(&self, around: &Neighbours) -> Option<Fusion> {
        conv_block::fuse(self, around)
    }
}

#[derive(Debug)]
pub(super) struct GradInput(pub(super) MaxPool2d);

impl Op for GradInput {
    fn name(&self) -> &'static str {
        "max_pool2d.grad_input"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        let output = self.0.output();
        expect(self.name(), inputs, &[("grad_output", output.clone()), ("argmax", output)])?;
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
        // A plane is one task's own, so here the winners can be written directly.
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
        once(self.name())
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

//! L1 penalty of an array: `y = lambda * sum |x|`.
//!
//! # Shapes
//! Any shape to `[1]`.
//!
//! # Gradient
//! `dL/dx = lambda sign(x) dL/dy`, with `sign(0) = 0`.

use rayon::prelude::*;

use super::common::{ELEMENTS_PER_TASK, expect_shapes, no_second_gradient};
use crate::dispatch::Dispatch;
use crate::error::Result;
use crate::shader;
use crate::tape::{Gradient, Op, Step, Tape, Var};
use crate::tensor::Shape;

/// Records the penalty of `x` with weight `lambda`.
///
/// # Errors
/// Those of recording.
pub fn l1_penalty(tape: &mut Tape, x: Var, lambda: f64) -> Result<Var> {
    let shape = tape.shape(x).clone();
    tape.one(L1Penalty { shape, lambda }, &[x])
}

#[derive(Clone, Debug)]
pub(crate) struct L1Penalty {
    pub(crate) shape: Shape,
    pub(crate) lambda: f64,
}

/// `size sign(x)`, with `sign(0) = 0`.
pub(crate) fn slope(size: f64, x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { size * x.signum() }
}

impl L1Penalty {
    fn constants(&self) -> Vec<(&'static str, f64)> {
        vec![("len", self.shape.len() as f64), ("lambda", self.lambda)]
    }

    /// The kernel of one workgroup that sums everything.
    pub fn forward(&self) -> Dispatch {
        Dispatch::single(shader!("l1_penalty.wgsl"), "forward", self.constants())
    }
}

impl Op for L1Penalty {
    fn name(&self) -> &'static str {
        "l1_penalty"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect_shapes(self.name(), inputs, &[("x", self.shape.clone())])?;
        Ok(vec![[1].into()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        write[0][0] = self.lambda * read[0].iter().map(|x| x.abs()).sum::<f64>();
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        // Sums of chunks in f32, in eight lanes that fit one register; then the chunks in f64.
        let sum_of = |chunk: &[f32]| {
            let mut lanes = [0.0f32; 8];
            let eights = chunk.chunks_exact(8);
            let rest: f32 = eights.remainder().iter().map(|x| x.abs()).sum();
            for eight in eights {
                for (lane, x) in lanes.iter_mut().zip(eight) {
                    *lane += x.abs();
                }
            }
            f64::from(lanes.iter().sum::<f32>() + rest)
        };
        write[0][0] = (self.lambda * read[0].chunks(ELEMENTS_PER_TASK).map(sum_of).sum::<f64>()) as f32;
    }

    fn gpu(&self) -> Vec<Dispatch> {
        vec![self.forward()]
    }

    fn backward(&self, g: &mut Gradient) -> Result<()> {
        g.give(0, GradInput(self.clone()), &[g.input(0), g.grad_output()])
    }
}

#[derive(Debug)]
pub(crate) struct GradInput(pub L1Penalty);

impl Op for GradInput {
    fn name(&self) -> &'static str {
        "l1_penalty.grad_input"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect_shapes(self.name(), inputs, &[("x", self.0.shape.clone()), ("grad_output", [1].into())])?;
        Ok(vec![self.0.shape.clone()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        for (dx, &x) in write[0].iter_mut().zip(read[0]) {
            *dx = slope(self.0.lambda * read[1][0], x);
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        let size = self.0.lambda as f32 * read[1][0];
        write[0].par_chunks_mut(ELEMENTS_PER_TASK).zip(read[0].par_chunks(ELEMENTS_PER_TASK)).for_each(|(dx, x)| {
            for (dx, &x) in dx.iter_mut().zip(x) {
                *dx = if x == 0.0 { 0.0 } else { size * x.signum() };
            }
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        let len = self.0.shape.len();
        vec![Dispatch::linear(shader!("l1_penalty.wgsl"), "grad_input", self.0.constants(), len)]
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        no_second_gradient(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let op = L1Penalty { shape: [3].into(), lambda: 0.5 };
        let step = Step::new(1, 0, 0.0);
        let x = [-2.0, 0.0, 4.0];
        let mut y = [f32::NAN];
        op.cpu(&[&x], &mut [&mut y], &step);
        assert_eq!(y, [3.0]);
        let mut dx = [f32::NAN; 3];
        GradInput(op).cpu(&[&x, &[10.0]], &mut [&mut dx], &step);
        assert_eq!(dx, [-5.0, 0.0, 5.0]);
    }
}

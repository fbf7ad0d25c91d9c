//! Hyperbolic tangent: `y = tanh(x)`.
//!
//! # Gradient
//! `dL/dx = (1 - y^2) dL/dy`.

use rayon::prelude::*;

use super::common::{ELEMENTS_PER_TASK, expect_shapes, no_second_gradient};
use crate::dispatch::Dispatch;
use crate::error::Result;
use crate::shader;
use crate::tape::{Gradient, Op, Step, Tape, Var};
use crate::tensor::Shape;

/// Records the activation of `input`, of any shape.
///
/// # Errors
/// Those of recording.
pub fn tanh(tape: &mut Tape, input: Var) -> Result<Var> {
    let shape = tape.shape(input).clone();
    tape.one(Tanh { shape }, &[input])
}

#[derive(Clone, Debug)]
pub(crate) struct Tanh {
    shape: Shape,
}

impl Tanh {
    fn dispatch(&self, entry: &'static str) -> Vec<Dispatch> {
        let len = self.shape.len();
        vec![Dispatch::linear(shader!("tanh.wgsl"), entry, vec![("len", len as f64)], len)]
    }
}

impl Op for Tanh {
    fn name(&self) -> &'static str {
        "tanh"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect_shapes(self.name(), inputs, &[("input", self.shape.clone())])?;
        Ok(vec![self.shape.clone()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        for (y, &x) in write[0].iter_mut().zip(read[0]) {
            *y = x.tanh();
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        write[0].par_chunks_mut(ELEMENTS_PER_TASK).zip(read[0].par_chunks(ELEMENTS_PER_TASK)).for_each(|(y, x)| {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = x.tanh();
            }
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        self.dispatch("forward")
    }

    fn backward(&self, g: &mut Gradient) -> Result<()> {
        g.give(0, GradInput(self.clone()), &[g.output(0), g.grad_output()])
    }
}

#[derive(Debug)]
pub(crate) struct GradInput(Tanh);

impl Op for GradInput {
    fn name(&self) -> &'static str {
        "tanh.grad_input"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        let shape = &self.0.shape;
        expect_shapes(self.name(), inputs, &[("output", shape.clone()), ("grad_output", shape.clone())])?;
        Ok(vec![shape.clone()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        for ((dx, &y), &dy) in write[0].iter_mut().zip(read[0]).zip(read[1]) {
            *dx = (1.0 - y * y) * dy;
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        let inputs = read[0].par_chunks(ELEMENTS_PER_TASK).zip(read[1].par_chunks(ELEMENTS_PER_TASK));
        write[0].par_chunks_mut(ELEMENTS_PER_TASK).zip(inputs).for_each(|(dx, (y, dy))| {
            for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                *dx = (1.0 - y * y) * dy;
            }
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        self.0.dispatch("grad_input")
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
        let op = Tanh { shape: [2].into() };
        let step = Step::new(1, 0, 0.0);
        let mut y = [f32::NAN; 2];
        op.cpu(&[&[0.0, 0.549_306_15]], &mut [&mut y], &step); // tanh(ln(3) / 2) = 1/2
        assert!(y[0] == 0.0 && (y[1] - 0.5).abs() < 1e-6, "{y:?}");
        let mut dx = [f32::NAN; 2];
        GradInput(op).cpu(&[&[0.0, 0.5], &[3.0, 4.0]], &mut [&mut dx], &step);
        assert_eq!(dx, [3.0, 3.0]);
    }
}

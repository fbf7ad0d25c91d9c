//! LeakyReLU: `y = x` for `x > 0`, else `slope x`. Slope 0 is ReLU.
//!
//! # Gradient
//! `dL/dx = dL/dy` for `x > 0`, else `slope dL/dy` (at 0 too, as in PyTorch).
//!
//! # Source
//! Maas, Hannun and Ng 2013, "Rectifier nonlinearities improve neural network acoustic models".

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
pub fn leaky_relu(tape: &mut Tape, input: Var, slope: f32) -> Result<Var> {
    let shape = tape.shape(input).clone();
    tape.one(LeakyRelu { shape, slope }, &[input])
}

#[derive(Clone, Debug)]
pub(crate) struct LeakyRelu {
    shape: Shape,
    pub(crate) slope: f32,
}

impl LeakyRelu {
    fn dispatch(&self, entry: &'static str) -> Vec<Dispatch> {
        let len = self.shape.len();
        let constants = vec![("len", len as f64), ("slope", f64::from(self.slope))];
        vec![Dispatch::linear(shader!("leaky_relu.wgsl"), entry, constants, len)]
    }
}

impl Op for LeakyRelu {
    fn name(&self) -> &'static str {
        "leaky_relu"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect_shapes(self.name(), inputs, &[("input", self.shape.clone())])?;
        Ok(vec![self.shape.clone()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        for (y, &x) in write[0].iter_mut().zip(read[0]) {
            *y = if x > 0.0 { x } else { f64::from(self.slope) * x };
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        write[0].par_chunks_mut(ELEMENTS_PER_TASK).zip(read[0].par_chunks(ELEMENTS_PER_TASK)).for_each(|(y, x)| {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = if x > 0.0 { x } else { self.slope * x };
            }
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        self.dispatch("forward")
    }

    fn backward(&self, g: &mut Gradient) -> Result<()> {
        g.give(0, GradInput(self.clone()), &[g.input(0), g.grad_output()])
    }
}

#[derive(Debug)]
pub(crate) struct GradInput(LeakyRelu);

impl Op for GradInput {
    fn name(&self) -> &'static str {
        "leaky_relu.grad_input"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        let shape = &self.0.shape;
        expect_shapes(self.name(), inputs, &[("input", shape.clone()), ("grad_output", shape.clone())])?;
        Ok(vec![shape.clone()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        for ((dx, &x), &dy) in write[0].iter_mut().zip(read[0]).zip(read[1]) {
            *dx = if x > 0.0 { dy } else { f64::from(self.0.slope) * dy };
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        let slope = self.0.slope;
        let inputs = read[0].par_chunks(ELEMENTS_PER_TASK).zip(read[1].par_chunks(ELEMENTS_PER_TASK));
        write[0].par_chunks_mut(ELEMENTS_PER_TASK).zip(inputs).for_each(|(dx, (x, dy))| {
            for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
                *dx = if x > 0.0 { dy } else { slope * dy };
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
        let op = LeakyRelu { shape: [4].into(), slope: 0.3 };
        let step = Step::new(1, 0, 0.0);
        let (x, dy) = ([-2.0, 0.0, 0.5, 3.0], [1.0, 10.0, 100.0, 1000.0]);
        let mut y = [f32::NAN; 4];
        op.cpu(&[&x], &mut [&mut y], &step);
        assert_eq!(y, [-0.6, 0.0, 0.5, 3.0]);
        GradInput(op).cpu(&[&x, &dy], &mut [&mut y], &step);
        assert_eq!(y, [0.3, 3.0, 100.0, 1000.0]);
    }
}

//! Sum of two arrays of one shape: `y = a + b`.
//!
//! # Gradient
//! `dL/da = dL/db = dL/dy`.

use rayon::prelude::*;

use super::common::{ELEMENTS_PER_TASK, expect_shapes};
use crate::dispatch::Dispatch;
use crate::error::Result;
use crate::shader;
use crate::tape::{Gradient, Op, Step, Tape, Var};
use crate::tensor::Shape;

/// Records `a + b`.
///
/// # Errors
/// [`crate::error::Error::Shape`] if their shapes differ.
pub fn add(tape: &mut Tape, a: Var, b: Var) -> Result<Var> {
    let shape = tape.shape(a).clone();
    tape.one(Add { shape }, &[a, b])
}

#[derive(Debug)]
pub(crate) struct Add {
    shape: Shape,
}

impl Op for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect_shapes(self.name(), inputs, &[("a", self.shape.clone()), ("b", self.shape.clone())])?;
        Ok(vec![self.shape.clone()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        for ((y, a), b) in write[0].iter_mut().zip(read[0]).zip(read[1]) {
            *y = a + b;
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        let inputs = read[0].par_chunks(ELEMENTS_PER_TASK).zip(read[1].par_chunks(ELEMENTS_PER_TASK));
        write[0].par_chunks_mut(ELEMENTS_PER_TASK).zip(inputs).for_each(|(y, (a, b))| {
            for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
                *y = a + b;
            }
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        let len = self.shape.len();
        vec![Dispatch::linear(shader!("add.wgsl"), "forward", vec![("len", len as f64)], len)]
    }

    fn backward(&self, g: &mut Gradient) -> Result<()> {
        g.pass(0, g.grad_output());
        g.pass(1, g.grad_output());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let mut y = [f32::NAN; 2];
        let step = Step::new(1, 0, 0.0);
        Add { shape: [2].into() }.cpu(&[&[1.0, 2.0], &[10.0, -2.0]], &mut [&mut y], &step);
        assert_eq!(y, [11.0, 0.0]);
    }

    #[test]
    fn other_shapes_are_refused() {
        let mut tape = Tape::new();
        let (a, b) = (tape.input("a", [2, 3]), tape.input("b", [3, 2]));
        assert_eq!(add(&mut tape, a, b).unwrap_err().to_string(), "add: expected b [2, 3], got [3, 2]");
    }
}

//! The same elements under another shape: `y = x`. A copy: there are no views.
//!
//! # Gradient
//! `dL/dx = dL/dy`, reshaped back.

use super::common::expect_shapes;
use crate::dispatch::Dispatch;
use crate::error::{Error, Result};
use crate::shader;
use crate::tape::{Gradient, Op, Step, Tape, Var};
use crate::tensor::Shape;

/// Records `input` under the shape `to`.
///
/// # Errors
/// [`Error::Shape`] if the sizes differ.
pub fn reshape(tape: &mut Tape, input: Var, to: impl Into<Shape>) -> Result<Var> {
    let from = tape.shape(input).clone();
    tape.one(Reshape { from, to: to.into() }, &[input])
}

/// Records `input [N, ...]` as `[N, M]`: a row a sample, its other axes in row-major order.
///
/// # Errors
/// Those of [`reshape`].
pub fn flatten(tape: &mut Tape, input: Var) -> Result<Var> {
    let shape = tape.shape(input);
    let n = shape.dims().first().copied().unwrap_or(1);
    let to = [n, shape.len() / n.max(1)];
    reshape(tape, input, to)
}

#[derive(Debug)]
struct Reshape {
    from: Shape,
    to: Shape,
}

impl Op for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect_shapes(self.name(), inputs, &[("input", self.from.clone())])?;
        if self.from.len() != self.to.len() {
            return Err(Error::shape(
                self.name(),
                format!("{} does not hold as many values as {}", self.to, self.from),
            ));
        }
        Ok(vec![self.to.clone()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        write[0].copy_from_slice(read[0]);
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        write[0].copy_from_slice(read[0]);
    }

    fn gpu(&self) -> Vec<Dispatch> {
        let len = self.from.len();
        vec![Dispatch::linear(shader!("reshape.wgsl"), "forward", vec![("len", len as f64)], len)]
    }

    fn backward(&self, g: &mut Gradient) -> Result<()> {
        g.give(0, Reshape { from: self.to.clone(), to: self.from.clone() }, &[g.grad_output()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flatten_keeps_the_samples_apart() {
        let mut tape = Tape::new();
        let x = tape.input("x", [2, 3, 4, 5]);
        let y = flatten(&mut tape, x).unwrap();
        assert_eq!(tape.shape(y).dims(), [2, 60]);
        let error = reshape(&mut tape, x, [7]).unwrap_err().to_string();
        assert_eq!(error, "reshape: [7] does not hold as many values as [2, 3, 4, 5]");
    }
}

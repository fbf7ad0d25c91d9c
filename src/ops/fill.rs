//! A constant array: every element is `value`. The seed of a backward walk: `dL/dL = 1`.

use super::common::expect_shapes;
use crate::dispatch::Dispatch;
use crate::error::Result;
use crate::shader;
use crate::tape::{Gradient, Op, Step, Tape, Var};
use crate::tensor::Shape;

/// Records an array of `shape` full of `value`.
///
/// # Errors
/// Those of recording.
pub fn fill(tape: &mut Tape, shape: Shape, value: f32) -> Result<Var> {
    tape.one(Fill { shape, value }, &[])
}

#[derive(Debug)]
struct Fill {
    shape: Shape,
    value: f32,
}

impl Op for Fill {
    fn name(&self) -> &'static str {
        "fill"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect_shapes(self.name(), inputs, &[])?;
        Ok(vec![self.shape.clone()])
    }

    fn reference(&self, _: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        write[0].fill(f64::from(self.value));
    }

    fn cpu(&self, _: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        write[0].fill(self.value);
    }

    fn gpu(&self) -> Vec<Dispatch> {
        let len = self.shape.len();
        let constants = vec![("len", len as f64), ("value", f64::from(self.value))];
        vec![Dispatch::linear(shader!("fill.wgsl"), "forward", constants, len)]
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        Ok(()) // it depends on nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let mut y = [f32::NAN; 3];
        Fill { shape: [3].into(), value: 2.5 }.cpu(&[], &mut [&mut y], &Step::new(1, 0, 0.0));
        assert_eq!(y, [2.5; 3]);
    }
}

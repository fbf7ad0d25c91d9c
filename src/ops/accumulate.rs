//! Running sum of a scalar over the steps, kept on the device: `total += x`. The host resets and reads it once an epoch.

use super::common::expect_shapes;
use crate::dispatch::Dispatch;
use crate::error::{Error, Result};
use crate::shader;
use crate::tape::{Gradient, Op, Step, Tape, Var};
use crate::tensor::Shape;

/// Records `total += x` and gives `total`, a new state of shape `[1]`.
///
/// # Errors
/// [`crate::error::Error::Shape`] if `x` is not `[1]`, or if a state or a parameter of this name exists.
pub fn accumulate(tape: &mut Tape, name: &str, x: Var) -> Result<Var> {
    let total = tape.state(name, [1])?;
    tape.update(Accumulate, &[x], &[total])?;
    Ok(total)
}

#[derive(Debug)]
struct Accumulate;

impl Op for Accumulate {
    fn name(&self) -> &'static str {
        "accumulate"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect_shapes(self.name(), inputs, &[("x", [1].into())])?;
        Ok(vec![[1].into()])
    }

    fn in_place(&self) -> bool {
        true
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        write[0][0] += read[0][0];
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        write[0][0] += read[0][0];
    }

    fn gpu(&self) -> Vec<Dispatch> {
        vec![Dispatch::single(shader!("accumulate.wgsl"), "forward", vec![])]
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        Err(Error::shape(self.name(), "a running sum is no part of a loss: it has no gradient"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let mut total = [40.0];
        Accumulate.cpu(&[&[2.0]], &mut [&mut total], &Step::new(1, 0, 0.0));
        assert_eq!(total, [42.0]);
    }
}

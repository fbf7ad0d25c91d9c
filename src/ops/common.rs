//! What the operations share: the check of their input shapes, and the size of a task.

use crate::error::{Error, Result};
use crate::tensor::Shape;

/// Elements that one task of an elementwise CPU kernel handles: fixed, so that results do not depend on the threads.
pub const ELEMENTS_PER_TASK: usize = 16 * 1024;

/// Checks that `inputs` have exactly the shapes `expected`, named for the message.
pub fn expect_shapes(op: &'static str, inputs: &[&Shape], expected: &[(&str, Shape)]) -> Result<()> {
    if inputs.len() != expected.len() {
        return Err(Error::shape(op, format!("expected {} inputs, got {}", expected.len(), inputs.len())));
    }
    for (input, (name, shape)) in inputs.iter().zip(expected) {
        if *input != shape {
            return Err(Error::shape(op, format!("expected {name} {shape}, got {input}")));
        }
    }
    Ok(())
}

/// The error of a gradient operation whose own gradient is asked for: nothing in the study needs second derivatives.
pub fn no_second_gradient(op: &'static str) -> Result<()> {
    Err(Error::shape(op, "has no gradient of its own: second derivatives are not supported"))
}

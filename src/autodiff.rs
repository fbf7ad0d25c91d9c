//! Reverse-mode differentiation: one walk over the tape, backwards, appending gradient nodes to the same tape.
//!
//! For a scalar loss `L` and a node `y = f(x)`, the chain rule `dL/dx = (dy/dx)^T dL/dy` is the node's own
//! [`crate::tape::Op::backward`]. A value read by several nodes gets the sum of their gradients, as explicit `add` nodes.

use crate::error::{Error, Result};
use crate::ops;
use crate::tape::{Gradient, Source, Tape, Var};

/// The gradient of every trainable parameter that the loss depends on: pairs of (parameter, gradient).
pub type Grads = Vec<(Var, Var)>;

/// Appends to `tape` the nodes that compute the gradient of the scalar `loss` with respect to every parameter.
///
/// # Errors
/// [`Error::Shape`] if `loss` is not one number, or if it depends on a parameter by a way that has no gradient: an
/// operation without one, an operation that forgets one of its inputs, or another output than an operation's first.
pub fn backward(tape: &mut Tape, loss: Var) -> Result<Grads> {
    if tape.shape(loss).len() != 1 {
        return Err(Error::shape("backward", format!("expected a scalar loss, got {}", tape.shape(loss))));
    }
    // A value needs a gradient if it is a parameter or was computed from one.
    let forward = tape.nodes().to_vec();
    let mut needs: Vec<bool> = tape.values().iter().map(|value| value.source == Source::Param).collect();
    for node in &forward {
        if node.reads.iter().any(|var| needs[var.0]) {
            node.writes.iter().for_each(|var| needs[var.0] = true);
        }
    }

    let mut grads: Vec<Option<Var>> = vec![None; tape.values().len()];
    grads[loss.0] = Some(ops::fill(tape, tape.shape(loss).clone(), 1.0)?);
    for node in forward.iter().rev() {
        let needed: Vec<bool> = node.reads.iter().map(|var| needs[var.0]).collect();
        if !needed.contains(&true) {
            continue;
        }
        if node.writes[1..].iter().any(|var| grads[var.0].is_some()) {
            return Err(Error::shape(node.op.name(), "the loss depends on an output that has no gradient"));
        }
        let Some(grad_output) = grads[node.writes[0].0] else { continue };
        let mut gradient = Gradient {
            tape,
            reads: node.reads.clone(),
            writes: node.writes.clone(),
            grad_output,
            grad_reads: vec![None; needed.len()],
            needed,
        };
        node.op.backward(&mut gradient)?;
        let Gradient { needed, grad_reads, .. } = gradient;
        for (i, (var, (needed, arrived))) in node.reads.iter().zip(needed.into_iter().zip(grad_reads)).enumerate() {
            let Some(arrived) = arrived else {
                if needed {
                    let message =
                        format!("gives no gradient of its input {i}, {}, which needs one", tape.values()[var.0].name);
                    return Err(Error::shape(node.op.name(), message));
                }
                continue;
            };
            if tape.shape(arrived) != tape.shape(*var) {
                let (name, shape) = (&tape.values()[var.0].name, tape.shape(*var));
                let message = format!("gives a gradient {} of its input {i}, {name} {shape}", tape.shape(arrived));
                return Err(Error::shape(node.op.name(), message));
            }
            grads[var.0] = Some(match grads[var.0] {
                Some(earlier) => ops::add(tape, earlier, arrived)?,
                None => arrived,
            });
        }
    }
    Ok(tape.vars(Source::Param).filter_map(|var| grads.get(var.0).copied().flatten().map(|grad| (var, grad))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gradient that cannot be had is refused, not left out.
    #[test]
    fn a_loss_that_depends_on_what_has_no_gradient_is_refused() {
        let record = |loss: fn(&mut Tape, ops::Classification) -> Result<Var>| {
            let mut tape = Tape::new();
            let (x, y) = (tape.input("x", [4, 2]), tape.labels(4));
            let (weight, bias) = (tape.param("weight", [3, 2])?, tape.param("bias", [3])?);
            let logits = ops::dense(&mut tape, x, weight, bias)?;
            let classification = ops::softmax_cross_entropy(&mut tape, logits, y)?;
            let loss = loss(&mut tape, classification)?;
            backward(&mut tape, loss).map(|grads| grads.len())
        };
        assert_eq!(record(|_, found| Ok(found.loss)).unwrap(), 2);
        let error = record(|tape, found| {
            let penalty = ops::l1_penalty(tape, found.probabilities, 1.0)?;
            ops::add(tape, found.loss, penalty)
        });
        let said = error.unwrap_err().to_string();
        assert_eq!(said, "softmax_cross_entropy: the loss depends on an output that has no gradient");
        let error = record(|tape, found| ops::accumulate(tape, "total", found.loss));
        assert!(error.unwrap_err().to_string().starts_with("accumulate: a running sum is no part of a loss"));
    }
}

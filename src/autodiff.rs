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
/// [`Error::Shape`] if `loss` is not one number, or if an operation on the way has no gradient.
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
        if grads[node.writes[0].0].is_none() || !needed.contains(&true) {
            continue;
        }
        let mut gradient = Gradient {
            tape,
            reads: node.reads.clone(),
            writes: node.writes.clone(),
            grad_writes: node.writes.iter().map(|var| grads[var.0]).collect(),
            grad_reads: vec![None; needed.len()],
            needed,
        };
        node.op.backward(&mut gradient)?;
        let arrived = gradient.grad_reads;
        for (var, arrived) in node.reads.iter().zip(arrived) {
            let Some(arrived) = arrived else { continue };
            grads[var.0] = Some(match grads[var.0] {
                Some(earlier) => ops::add(tape, earlier, arrived)?,
                None => arrived,
            });
        }
    }
    Ok(tape.vars(Source::Param).filter_map(|var| grads.get(var.0).copied().flatten().map(|grad| (var, grad))).collect())
}

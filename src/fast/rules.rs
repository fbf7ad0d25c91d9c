//! The rules, in the order in which they are applied.
//!
//! Each rule replaces nodes by one node that computes the same values up to rounding. Every rule declines if another
//! node reads a value that would vanish, or if it was not written for the sizes.

use super::view::View;
use super::{adam, conv_block, dense, dense_update, dropout};
use crate::tape::Rewrite;

/// A rewrite of a program.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its name: `conv_block`.
    pub name: &'static str,
    /// The rewrite of the nodes around the numbered one, if the rule applies there.
    pub(super) rewrite: fn(&View, usize) -> Option<Rewrite>,
}

/// Pool first, then activate the maxima. `max` and a monotone `f` commute: `f(max x) = max f(x)`.
///
/// Backward, only the maxima have a gradient: one in twenty elements in the shallow net. The map of the convolution never
/// reaches memory, and large kernels are multiplied as spectra.
pub const CONV_BLOCK: Rule = Rule { name: "conv_block", rewrite: conv_block::rewrite };

/// Sum the L1 penalty of a dense weight while the layer reads that weight. Both only read the weight, and no update lies
/// between them.
pub const DENSE_PENALTY: Rule = Rule { name: "dense_penalty", rewrite: dense::rewrite_with_penalty };

/// Update a dense weight while its gradient is still in registers. The update moves forward to the place of the
/// gradient, which is legal if no node between the two places reads the weight or its moments.
pub const DENSE_UPDATE: Rule = Rule { name: "dense_update", rewrite: dense_update::rewrite };

/// A dense layer in cache-sized blocks. One node replaces one node.
pub const DENSE: Rule = Rule { name: "dense", rewrite: dense::rewrite };

/// Adam in vector registers. If the gradient is a sum with an L1 penalty's gradient, that sum is computed on the fly.
pub const ADAM: Rule = Rule { name: "adam", rewrite: adam::rewrite };

/// Dropout in vector registers. The mask is the same: one node replaces one node.
pub const DROPOUT: Rule = Rule { name: "dropout", rewrite: dropout::rewrite };

/// All of them. `DENSE_UPDATE` comes before `ADAM`, because both replace a weight's Adam node.
pub const ALL: &[Rule] = &[CONV_BLOCK, DENSE_PENALTY, DENSE_UPDATE, DENSE, ADAM, DROPOUT];

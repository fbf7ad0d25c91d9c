//! The fast path: rules that rewrite a recorded program into an equal one that runs faster.
//!
//! Read [`rules`] first. It lists every rewrite, and says why each one is legal. A rule replaces some textbook nodes by
//! one node of an operation defined here. That operation is an ordinary [`Op`](crate::tape::Op), with an f64 reference,
//! a CPU kernel and GPU kernels, and is checked like any other. Sizes that no rule accepts stay in the textbook.
//!
//! Nothing below this module knows that it exists. Without it, every program runs and computes the same values up to
//! rounding.

mod adam;
mod conv_block;
mod dense;
mod dense_update;
mod dropout;
mod fft;
mod fourier_conv;
mod pool;
pub mod rules;
mod scratch;
pub(crate) mod simd;
mod tiles;
mod view;

use crate::tape::Tape;
use view::View;

pub use rules::{ALL, Rule};

/// `tape`, rewritten by `rules`, one after the other, wherever they apply.
pub fn rewrite(tape: &Tape, rules: &[Rule]) -> Tape {
    let mut tape = tape.clone();
    for rule in rules {
        // It ends: no rule applies to the nodes that it inserts, and every rule removes at least one node.
        let mut number = 0;
        while number < tape.nodes().len() {
            match (rule.rewrite)(&View { tape: &tape }, number) {
                Some(mut rewrite) => {
                    rewrite.added.iter_mut().for_each(|(_, node)| node.rule = Some(rule.name));
                    tape.rewrite(rewrite);
                    number = 0;
                }
                None => number += 1,
            }
        }
    }
    tape
}

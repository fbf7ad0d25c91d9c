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

use std::any::Any;

use crate::tape::{Node, Op, Rewrite, Tape, Var};

pub use rules::ALL;

/// A rewrite of a program.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its name: `conv_block`.
    pub name: &'static str,
    /// The rewrite of the nodes around the numbered one, if the rule applies there.
    rewrite: fn(&View, usize) -> Option<Rewrite>,
}

/// A program as the rules see it.
#[derive(Debug)]
struct View<'t> {
    tape: &'t Tape,
}

impl<'t> View<'t> {
    /// Node `number`.
    fn node(&self, number: usize) -> &'t Node {
        &self.tape.nodes()[number]
    }

    /// The operation of node `number`, if it is a `T`.
    fn op<T: Op>(&self, number: usize) -> Option<&'t T> {
        (self.node(number).op.as_ref() as &dyn Any).downcast_ref()
    }

    /// The node that writes `var`, if there is one.
    fn writer(&self, var: Var) -> Option<usize> {
        self.tape.nodes().iter().position(|node| node.writes.contains(&var))
    }

    /// The nodes that read `var`, in order.
    fn readers(&self, var: Var) -> Vec<usize> {
        (0..self.tape.nodes().len()).filter(|&number| self.node(number).reads.contains(&var)).collect()
    }
}

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

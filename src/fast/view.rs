//! A program as the rules see it: any node, the writer of a value, its readers.

use std::any::Any;

use crate::tape::{Node, Op, Tape, Var};

/// A program as the rules see it.
#[derive(Debug)]
pub struct View<'t> {
    pub tape: &'t Tape,
}

impl<'t> View<'t> {
    /// Node `number`.
    pub fn node(&self, number: usize) -> &'t Node {
        &self.tape.nodes()[number]
    }

    /// The operation of node `number`, if it is a `T`.
    pub fn op<T: Op>(&self, number: usize) -> Option<&'t T> {
        (self.node(number).op.as_ref() as &dyn Any).downcast_ref()
    }

    /// The node that writes `var`, if there is one.
    pub fn writer(&self, var: Var) -> Option<usize> {
        self.tape.nodes().iter().position(|node| node.writes.contains(&var))
    }

    /// The nodes that read `var`, in order.
    pub fn readers(&self, var: Var) -> Vec<usize> {
        (0..self.tape.nodes().len()).filter(|&number| self.node(number).reads.contains(&var)).collect()
    }
}

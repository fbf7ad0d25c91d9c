//! The CPU executor: one buffer a value, every node's kernel in order. A step allocates nothing.

use crate::tape::{Step, Tape, Var};

/// More inputs or outputs than any operation has.
const MOST: usize = 8;

/// The values of a tape in memory.
#[derive(Debug)]
pub struct Executor {
    values: Vec<Vec<f32>>,
}

impl Executor {
    /// Zeros for every value, but for those that fusion left out.
    pub fn new(tape: &Tape) -> Self {
        let mut values: Vec<Vec<f32>> = vec![Vec::new(); tape.values().len()];
        for (index, value) in tape.values().iter().enumerate() {
            if tape.is_live(Var(index)) {
                values[index] = vec![0.0; value.shape.len()];
            }
        }
        Executor { values }
    }

    /// Overwrites a value; lengths were checked by the plan.
    pub fn write(&mut self, var: Var, data: &[f32]) {
        self.values[var.index()].copy_from_slice(data);
    }

    /// A value as it stands.
    pub fn read(&self, var: Var) -> &[f32] {
        &self.values[var.index()]
    }

    /// Runs every node once, on a thread of the pool: there a kernel with but one task wakes nobody.
    pub fn step(&mut self, tape: &Tape, step: &Step) {
        rayon::scope(|_| self.run(tape, step));
    }

    fn run(&mut self, tape: &Tape, step: &Step) {
        for node in tape.nodes() {
            // Each output is moved out of the table while its node runs: then inputs and outputs borrow apart.
            let mut outputs: [Vec<f32>; MOST] = Default::default();
            for (slot, var) in outputs.iter_mut().zip(&node.writes) {
                *slot = std::mem::take(&mut self.values[var.index()]);
            }
            let mut read: [&[f32]; MOST] = [&[]; MOST];
            for (slot, var) in read.iter_mut().zip(&node.reads) {
                *slot = &self.values[var.index()];
            }
            let mut write = outputs.each_mut().map(|output| output.as_mut_slice());
            node.op.cpu(&read[..node.reads.len()], &mut write[..node.writes.len()], step);
            for (slot, var) in outputs.into_iter().zip(&node.writes) {
                self.values[var.index()] = slot;
            }
        }
    }
}

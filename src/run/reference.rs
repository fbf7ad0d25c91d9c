//! The same tape, naively, in f64: what both devices are compared with.

use crate::tape::{Step, Tape, Var};

/// Every value of `tape` after running its first `nodes` nodes on `values` (one array a value, inputs filled in).
pub fn run(tape: &Tape, values: &mut [Vec<f64>], nodes: usize, step: &Step) {
    for node in &tape.nodes()[..nodes] {
        let mut outputs: Vec<Vec<f64>> =
            node.writes.iter().map(|var| std::mem::take(&mut values[var.index()])).collect();
        let read: Vec<&[f64]> = node.reads.iter().map(|var| values[var.index()].as_slice()).collect();
        let mut write: Vec<&mut [f64]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        node.op.reference(&read, &mut write, step);
        for (output, var) in outputs.into_iter().zip(&node.writes) {
            values[var.index()] = output;
        }
    }
}

/// Zeros for every value of `tape`, with `given` filled in.
pub fn values(tape: &Tape, given: &[(Var, &[f32])]) -> Vec<Vec<f64>> {
    let mut values: Vec<Vec<f64>> = tape.values().iter().map(|value| vec![0.0; value.shape.len()]).collect();
    for (var, data) in given {
        values[var.index()] = data.iter().map(|&x| f64::from(x)).collect();
    }
    values
}

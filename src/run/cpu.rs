//! The CPU executor: one buffer a value, every node's kernel in order, those that do not wait for each other side by
//! side. A step allocates nothing.

use std::time::Instant;

use rayon::prelude::*;

use super::timing::KernelTiming;
use crate::tape::{Node, Source, Step, Tape, Var};

/// More inputs or outputs than any operation has.
const MOST: usize = 8;

/// The values of a tape in memory.
#[derive(Debug)]
pub struct Executor {
    values: Vec<Vec<f32>>,
    levels: Vec<Vec<Task>>,
}

/// A node of the tape, and while it runs the values that it writes.
#[derive(Debug)]
struct Task {
    node: usize,
    outputs: [Vec<f32>; MOST],
    /// What it took the last time.
    seconds: f64,
}

/// The nodes of `tape` in levels: those of a level neither read nor write what another of them writes, and what they
/// need is done on the levels before.
fn levels(tape: &Tape) -> Vec<Vec<usize>> {
    let mut levels: Vec<Vec<usize>> = Vec::new();
    // The first level that may read a value, and the first that may write it.
    let mut ready = vec![[0; 2]; tape.values().len()];
    for (number, node) in tape.nodes().iter().enumerate() {
        let reads = node.reads.iter().map(|var| ready[var.index()][0]);
        let writes = node.writes.iter().map(|var| ready[var.index()][1]);
        let level = reads.chain(writes).max().unwrap_or(0);
        for var in &node.reads {
            let [_, free] = &mut ready[var.index()];
            *free = (*free).max(level + 1);
        }
        for var in &node.writes {
            ready[var.index()] = [level + 1; 2];
        }
        if level == levels.len() {
            levels.push(Vec::new());
        }
        levels[level].push(number);
    }
    levels
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
        let task = |node| Task { node, outputs: Default::default(), seconds: 0.0 };
        let levels = levels(tape).into_iter().map(|nodes| nodes.into_iter().map(task).collect()).collect();
        Executor { values, levels }
    }

    /// Overwrites a value; lengths were checked by the plan.
    pub fn write(&mut self, var: Var, data: &[f32]) {
        self.values[var.index()].copy_from_slice(data);
    }

    /// A value, to be filled.
    pub fn value_mut(&mut self, var: Var) -> &mut [f32] {
        &mut self.values[var.index()]
    }

    /// A value as it stands.
    pub fn read(&self, var: Var) -> &[f32] {
        &self.values[var.index()]
    }

    /// Runs every node once, on a thread of the pool: there a kernel with but one task wakes nobody.
    pub fn step(&mut self, tape: &Tape, step: &Step) {
        rayon::scope(|_| self.run(tape, step, true));
    }

    /// Runs every node once, one after the other, and gives the time of each.
    pub fn profile(&mut self, tape: &Tape, step: &Step) -> Vec<KernelTiming> {
        rayon::scope(|_| self.run(tape, step, false));
        let timing = |task: &Task| {
            let node = &tape.nodes()[task.node];
            let value = |var: &Var| &tape.values()[var.index()];
            let param = node.reads.iter().chain(&node.writes).map(value).find(|value| value.source == Source::Param);
            let kernel = match param {
                Some(param) => param.name.clone(),
                None => node.writes.first().map_or(String::new(), |var| value(var).shape.to_string()),
            };
            KernelTiming { op: node.op.name(), kernel, seconds: task.seconds }
        };
        self.levels.iter().flatten().map(timing).collect()
    }

    fn run(&mut self, tape: &Tape, step: &Step, side_by_side: bool) {
        let Self { values, levels } = self;
        for tasks in levels {
            // Outputs are moved out of the table while their nodes run: then inputs and outputs borrow apart.
            for Task { node, outputs, .. } in &mut *tasks {
                for (slot, var) in outputs.iter_mut().zip(&tape.nodes()[*node].writes) {
                    *slot = std::mem::take(&mut values[var.index()]);
                }
            }
            let run = |Task { node, outputs, seconds }: &mut Task| {
                let begin = Instant::now();
                run_node(&tape.nodes()[*node], values, outputs, step);
                *seconds = begin.elapsed().as_secs_f64();
            };
            if side_by_side {
                // One by one: a level has a few large nodes and many small ones.
                tasks.par_iter_mut().with_max_len(1).for_each(run);
            } else {
                tasks.iter_mut().for_each(run);
            }
            for Task { node, outputs, .. } in tasks {
                for (slot, var) in outputs.iter_mut().zip(&tape.nodes()[*node].writes) {
                    values[var.index()] = std::mem::take(slot);
                }
            }
        }
    }
}

fn run_node(node: &Node, values: &[Vec<f32>], outputs: &mut [Vec<f32>; MOST], step: &Step) {
    let mut read: [&[f32]; MOST] = [&[]; MOST];
    for (slot, var) in read.iter_mut().zip(&node.reads) {
        *slot = &values[var.index()];
    }
    let mut write = outputs.each_mut().map(|output| output.as_mut_slice());
    node.op.cpu(&read[..node.reads.len()], &mut write[..node.writes.len()], step);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::Dispatch;
    use crate::error::Result;
    use crate::tape::{Gradient, Op};
    use crate::tensor::Shape;

    /// The sum of all inputs, added to what is there if it updates.
    #[derive(Debug)]
    struct Sum {
        updates: bool,
    }

    impl Op for Sum {
        fn name(&self) -> &'static str {
            "sum"
        }

        fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
            Ok(vec![inputs[0].clone()])
        }

        fn reference(&self, _: &[&[f64]], _: &mut [&mut [f64]], _: &Step) {}

        fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
            let old = if self.updates { write[0][0] } else { 0.0 };
            write[0][0] = old + read.iter().map(|x| x[0]).sum::<f32>();
        }

        fn gpu(&self) -> Vec<Dispatch> {
            Vec::new()
        }

        fn backward(&self, _: &mut Gradient) -> Result<()> {
            Ok(())
        }

        fn in_place(&self) -> bool {
            self.updates
        }
    }

    #[test]
    fn nodes_wait_for_what_they_read_and_for_readers_of_what_they_write() {
        let mut tape = Tape::new();
        let x = tape.input("x", [1]);
        let (w, v) = (tape.param("w", [1]).unwrap(), tape.state("v", [1]).unwrap());
        let sum = |tape: &mut Tape, reads: &[Var]| tape.one(Sum { updates: false }, reads).unwrap();
        let a = sum(&mut tape, &[x, w]); // 0
        let b = sum(&mut tape, &[a, a]); // 1
        let c = sum(&mut tape, &[x]); // 2
        let d = sum(&mut tape, &[c, w]); // 3
        let e = sum(&mut tape, &[b, d]); // 4
        tape.update(Sum { updates: true }, &[x], &[v]).unwrap(); // 5
        tape.update(Sum { updates: true }, &[x], &[w]).unwrap(); // 6, after 0 and 3
        let f = sum(&mut tape, &[w, v]); // 7
        assert_eq!(levels(&tape), [vec![0, 2, 5], vec![1, 3], vec![4, 6], vec![7]]);

        let mut executor = Executor::new(&tape);
        executor.write(x, &[1.0]);
        executor.write(w, &[10.0]);
        executor.step(&tape, &Step::new(1, 0, 0.0));
        let found = [a, b, c, d, e, f, w, v].map(|var| executor.read(var)[0]);
        assert_eq!(found, [11.0, 22.0, 1.0, 11.0, 33.0, 12.0, 11.0, 1.0]);
    }
}

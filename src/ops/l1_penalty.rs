//! L1 penalty of an array: `y = lambda * sum |x|`.
//!
//! # Shapes
//! Any shape to `[1]`.
//!
//! # Gradient
//! `dL/dx = lambda sign(x) dL/dy`, with `sign(0) = 0`.

use rayon::prelude::*;

use super::{CHUNK, expect, once, scratch};
use crate::error::Result;
use crate::shader;
use crate::tape::{Bind, Dispatch, Gradient, Neighbours, Op, Step, Tape, Var};
use crate::tensor::Shape;

/// Records the penalty of `x` with weight `lambda`.
///
/// # Errors
/// Those of recording.
pub fn l1_penalty(tape: &mut Tape, x: Var, lambda: f64) -> Result<Var> {
    let shape = tape.shape(x).clone();
    tape.one(L1Penalty { shape, lambda }, &[x])
}

#[derive(Clone, Debug)]
pub(super) struct L1Penalty {
    pub(super) shape: Shape,
    pub(super) lambda: f64,
}

/// Elements that are worth a workgroup of their own on the GPU, and workgroups that share a sum at most.
const PART: usize = 16_384;
const PARTS: usize = 64;

/// A penalty's gradient as other nodes may compute it: `lambda sign(x) grad`.
#[derive(Debug)]
pub(super) struct L1 {
    pub lambda: f64,
    /// The gradient of the loss with respect to the penalty, `[1]`.
    pub grad: Var,
}

/// What node `number` computes, if it is a penalty's gradient.
pub(super) fn gradient(around: &Neighbours, number: usize) -> Option<L1> {
    let op = around.op::<GradInput>(number)?;
    Some(L1 { lambda: op.0.lambda, grad: around.node(number).reads[1] })
}

/// `size sign(x)`, with `sign(0) = 0`.
pub(super) fn slope(size: f64, x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { size * x.signum() }
}

impl L1Penalty {
    fn constants(&self) -> Vec<(&'static str, f64)> {
        vec![("len", self.shape.len() as f64), ("lambda", self.lambda)]
    }

    /// Workgroups that share a sum on the GPU.
    pub fn parts(&self) -> usize {
        self.shape.len().div_ceil(PART).min(PARTS)
    }

    /// The kernels that sum up `read`, with [`L1Penalty::parts`] floats of scratch memory.
    pub fn dispatches(&self, read: Bind, write: Bind) -> Vec<Dispatch> {
        let parts = self.parts();
        if parts <= 1 {
            return vec![self.single(read, write)];
        }
        let shader = shader!("l1_penalty.wgsl");
        let mut constants = self.constants();
        constants.push(("parts", parts as f64));
        let part = Dispatch::grid(shader, "part", constants, [parts, 1]).binding([read, Bind::Scratch(0)]);
        let constants = vec![("len", parts as f64), ("lambda", self.lambda)];
        vec![part, Dispatch::single(shader, "forward", constants).binding([Bind::ScratchRead(0), write])]
    }

    /// The kernel of one workgroup that does the same.
    pub fn single(&self, read: Bind, write: Bind) -> Dispatch {
        Dispatch::single(shader!("l1_penalty.wgsl"), "forward", self.constants()).binding([read, write])
    }
}

impl Op for L1Penalty {
    fn name(&self) -> &'static str {
        "l1_penalty"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect(self.name(), inputs, &[("x", self.shape.clone())])?;
        Ok(vec![[1].into()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        write[0][0] = self.lambda * read[0].iter().map(|x| x.abs()).sum::<f64>();
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        // One partial sum a chunk, then the chunks in order: the same for any number of threads. Eight lanes, so
        // that the compiler can keep them in one register.
        scratch::with(read[0].len().div_ceil(CHUNK), |partial| {
            partial.par_iter_mut().zip(read[0].par_chunks(CHUNK)).for_each(|(sum, x)| {
                let mut lanes = [0.0f32; 8];
                let eights = x.chunks_exact(8);
                let rest: f32 = eights.remainder().iter().map(|x| x.abs()).sum();
                for eight in eights {
                    for (lane, x) in lanes.iter_mut().zip(eight) {
                        *lane += x.abs();
                    }
                }
                *sum = lanes.iter().sum::<f32>() + rest;
            });
            write[0][0] = (self.lambda * partial.iter().map(|&x| f64::from(x)).sum::<f64>()) as f32;
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        self.dispatches(Bind::Read(0), Bind::Write(0))
    }

    fn gpu_naive(&self) -> Vec<Dispatch> {
        vec![self.single(Bind::Read(0), Bind::Write(0))]
    }

    fn scratch(&self) -> Vec<usize> {
        vec![self.parts()]
    }

    fn backward(&self, g: &mut Gradient) -> Result<()> {
        g.give(0, GradInput(self.clone()), &[g.input(0), g.grad_output()])
    }
}

#[derive(Debug)]
pub(super) struct GradInput(L1Penalty);

impl Op for GradInput {
    fn name(&self) -> &'static str {
        "l1_penalty.grad_input"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect(self.name(), inputs, &[("x", self.0.shape.clone()), ("grad_output", [1].into())])?;
        Ok(vec![self.0.shape.clone()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        for (dx, &x) in write[0].iter_mut().zip(read[0]) {
            *dx = slope(self.0.lambda * read[1][0], x);
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        let size = self.0.lambda as f32 * read[1][0];
        write[0].par_chunks_mut(CHUNK).zip(read[0].par_chunks(CHUNK)).for_each(|(dx, x)| {
            for (dx, &x) in dx.iter_mut().zip(x) {
                *dx = if x == 0.0 { 0.0 } else { size * x.signum() };
            }
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        let len = self.0.shape.len();
        vec![Dispatch::linear(shader!("l1_penalty.wgsl"), "grad_input", self.0.constants(), len)]
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        once(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let op = L1Penalty { shape: [3].into(), lambda: 0.5 };
        let step = Step::new(1, 0, 0.0);
        let x = [-2.0, 0.0, 4.0];
        let mut y = [f32::NAN];
        op.cpu(&[&x], &mut [&mut y], &step);
        assert_eq!(y, [3.0]);
        let mut dx = [f32::NAN; 3];
        GradInput(op).cpu(&[&x, &[10.0]], &mut [&mut dx], &step);
        assert_eq!(dx, [-5.0, 0.0, 5.0]);
    }
}

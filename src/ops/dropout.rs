//! Dropout: each element is zeroed with probability `p`, the rest are scaled by `1 / (1 - p)`.
//!
//! The mask is a pure function of (seed, step, node, element), see [`crate::rng::hash`]: bit-identical on both devices,
//! with any number of threads, and recomputed in the backward pass rather than stored.
//!
//! # Gradient
//! `dL/dx` is `dL/dy` under the same mask and scale: the same operation.
//!
//! # Source
//! Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting" (inverted form).

use std::any::Any;

use rayon::prelude::*;

use super::common::{ELEMENTS_PER_TASK, expect_shapes};
use crate::dispatch::Dispatch;
use crate::error::{Error, Result};
use crate::rng;
use crate::shader;
use crate::tape::{Gradient, Op, Step, Tape, Var};
use crate::tensor::Shape;

/// Records dropout with probability `p` in `[0, 1)`. The dropouts of one tape are numbered, so that their masks differ.
///
/// # Errors
/// [`Error::Config`] for another `p`.
pub fn dropout(tape: &mut Tape, input: Var, p: f64) -> Result<Var> {
    if !(0.0..1.0).contains(&p) {
        return Err(Error::Config(format!("dropout: expected a probability from 0 up to but not 1, got {p}")));
    }
    let shape = tape.shape(input).clone();
    let numbers =
        tape.nodes().iter().filter_map(|node| Some((node.op.as_ref() as &dyn Any).downcast_ref::<Dropout>()?.node));
    let node = numbers.max().map_or(0, |last| last + 1);
    tape.one(Dropout { shape, p, node }, &[input])
}

#[derive(Clone, Debug)]
pub(crate) struct Dropout {
    shape: Shape,
    p: f64,
    /// Its number among the dropouts of the tape, from 0. The gradient's has the number of its forward node.
    pub node: u32,
}

impl Dropout {
    /// An element is kept if its 32 random bits are at least this.
    pub fn threshold(&self) -> u32 {
        (self.p * 4_294_967_296.0) as u32
    }

    pub fn scale(&self) -> f32 {
        (1.0 / (1.0 - self.p)) as f32
    }

    fn keeps(&self, step: &Step, element: usize) -> bool {
        rng::hash(step.seed, step.step, self.node, element as u32) >= self.threshold()
    }
}

impl Op for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect_shapes(self.name(), inputs, &[("input", self.shape.clone())])?;
        Ok(vec![self.shape.clone()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], step: &Step) {
        for (i, (y, &x)) in write[0].iter_mut().zip(read[0]).enumerate() {
            *y = if self.keeps(step, i) { x / (1.0 - self.p) } else { 0.0 };
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], step: &Step) {
        let chunks = write[0].par_chunks_mut(ELEMENTS_PER_TASK).zip(read[0].par_chunks(ELEMENTS_PER_TASK)).enumerate();
        chunks.for_each(|(chunk, (y, x))| {
            for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
                *y = if self.keeps(step, chunk * ELEMENTS_PER_TASK + i) { x * self.scale() } else { 0.0 };
            }
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        let len = self.shape.len();
        let constants = vec![
            ("len", len as f64),
            ("node", f64::from(self.node)),
            ("threshold", f64::from(self.threshold())),
            ("scale", f64::from(self.scale())),
        ];
        vec![Dispatch::linear(shader!("dropout.wgsl"), "forward", constants, len)]
    }

    fn backward(&self, g: &mut Gradient) -> Result<()> {
        g.give(0, self.clone(), &[g.grad_output()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(p: f64, seed: u32, number: u32) -> Vec<f32> {
        let len = 50_000;
        let mut y = vec![f32::NAN; len];
        let step = Step::new(number, seed, 0.0);
        Dropout { shape: [len].into(), p, node: 1 }.cpu(&[&vec![1.0; len]], &mut [&mut y], &step);
        y
    }

    #[test]
    fn the_share_and_the_scale_are_right() {
        let y = apply(0.25, 3, 1);
        let zeros = y.iter().filter(|&&y| y == 0.0).count();
        assert!((zeros as f64 / y.len() as f64 - 0.25).abs() < 0.01, "{zeros}");
        assert!(y.iter().all(|&y| y == 0.0 || y == 4.0 / 3.0));
        assert!(apply(0.0, 3, 1).iter().all(|&y| y == 1.0));
    }

    #[test]
    fn seed_and_step_change_the_mask() {
        assert_eq!(apply(0.5, 3, 1), apply(0.5, 3, 1));
        assert_ne!(apply(0.5, 3, 1), apply(0.5, 3, 2));
        assert_ne!(apply(0.5, 3, 1), apply(0.5, 4, 1));
    }

    #[test]
    fn probability_one_is_refused() {
        let mut tape = Tape::new();
        let x = tape.input("x", [2]);
        assert!(dropout(&mut tape, x, 1.0).unwrap_err().to_string().starts_with("dropout: expected a probability"));
    }
}

//! Dropout in vector registers. The mask, the scale and the gradient are those of [`mod@crate::ops::dropout`].

use std::sync::Arc;

use rayon::prelude::*;

use super::simd::{self, Kernel, Vector};
use super::view::View;
use crate::dispatch::Dispatch;
use crate::error::Result;
use crate::ops::common::{ELEMENTS_PER_TASK, no_second_gradient};
use crate::ops::dropout::Dropout;
use crate::rng;
use crate::tape::{Gradient, Node, Op, Rewrite, Step};
use crate::tensor::Shape;

/// Replaces a dropout.
pub(super) fn rewrite(view: &View, number: usize) -> Option<Rewrite> {
    let (node, op) = (view.node(number), VectorDropout(view.op::<Dropout>(number)?.clone()));
    let node = Node::new(Arc::new(op), node.reads.clone(), node.writes.clone());
    Some(Rewrite { removed: vec![number], added: vec![(number, node)] })
}

#[derive(Debug)]
struct VectorDropout(Dropout);

impl Op for VectorDropout {
    fn name(&self) -> &'static str {
        "dropout.vector"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        self.0.output_shapes(inputs)
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], step: &Step) {
        self.0.reference(read, write, step);
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], step: &Step) {
        let prefix = rng::prefix(step.seed, step.step, self.0.node);
        let (threshold, scale) = (self.0.threshold(), self.0.scale());
        let chunks = write[0].par_chunks_mut(ELEMENTS_PER_TASK).zip(read[0].par_chunks(ELEMENTS_PER_TASK)).enumerate();
        chunks.for_each(|(chunk, (y, x))| {
            let first = prefix.wrapping_add((chunk * ELEMENTS_PER_TASK) as u32);
            simd::run(Drop { first, threshold, scale, x, y });
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        self.0.gpu()
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        no_second_gradient(self.name())
    }
}

/// One chunk. The loop uses no [`Vector`]: the compiler vectorises it for the instruction set that the kernel is compiled
/// for.
struct Drop<'a> {
    /// What the chunk's element 0 hashes; element i hashes `first + i`.
    first: u32,
    threshold: u32,
    scale: f32,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Drop<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        for (i, (y, &x)) in (0u32..).zip(self.y.iter_mut().zip(self.x)) {
            *y = if rng::pcg(self.first.wrapping_add(i)) >= self.threshold { x * self.scale } else { 0.0 };
        }
    }
}

//! The backward pass of a dense layer and the Adam update of its weight, in one pass over weight and moments.
//!
//! ```text
//! grad_input = grad_output weight                                      (with the weight as it was)
//! grad       = grad_output^T input + lambda sign(weight) grad_penalty
//! weight, m, v: as [`mod@crate::ops::adam`] updates them with grad
//! ```
//!
//! The textbook list writes and reads the gradient of the shallow net's two million weights several times over; here
//! a tile of it lives in registers, and what moves is weight, `m` and `v`, once in and once out: 24 bytes a weight.
//!
//! # Shapes
//! `grad_output [N, O]`, `input [N, I]`, `grad_penalty [1]` (only with a penalty); in place `weight, m, v [O, I]`; then
//! `grad_input [N, I]` (only if it is needed).

use std::sync::Arc;

use rayon::prelude::*;

use super::adam::{self, Piece, Rates};
use super::simd::{self, Columns, Kernel, PortableVector, Vector, columns};
use super::view::View;
use super::{dense, scratch};
use crate::dispatch::{Bind, Dispatch};
use crate::error::Result;
use crate::ops::adam::{Adam, Update as AdamUpdate};
use crate::ops::common::{expect_shapes, no_second_gradient};
use crate::ops::dense::{Dense, GradInput, GradWeight};
use crate::ops::l1_penalty;
use crate::shader;
use crate::tape::{Gradient, Node, Op, Rewrite, Step};
use crate::tensor::Shape;

/// Floats of input and of `grad_input` that a task keeps. With the rows' gradients they stay in the L1 or L2 cache.
const KEPT: usize = 32 * 1024;

/// Rows that a task works on together.
const ROWS: usize = 4;

/// Columns of a task are a multiple of this, which is a multiple of every panel.
const PANEL: usize = 64;

/// Most columns of a task.
const MOST: usize = 1024;

/// Replaces the Adam update of a dense layer's weight, its gradient, and what lies between them:
///
/// ```text
/// dense.grad_weight[, l1_penalty.grad_input, add], adam[, dense.grad_input]  ->  dense.update
/// ```
///
/// The update moves forward. Its inputs must be written by then, and no node between the old and the new position may
/// read the weight or its moments.
pub(super) fn rewrite(view: &View, adam: usize) -> Option<Rewrite> {
    let settings = view.op::<AdamUpdate>(adam)?.settings;
    let origin = adam::origin(view, adam);
    let place = view.writer(origin.grad)?;
    let GradWeight(sizes) = view.op(place)?;
    let (mut reads, mut writes) = (view.node(place).reads.clone(), view.node(adam).writes.clone());
    let (mut removed, mut reader, mut lambda) = (vec![place, adam], adam, None);
    if let Some((l1, add)) = origin.l1 {
        let penalty = adam::penalty_gradient(view, l1)?;
        if view.writer(penalty.grad).is_some_and(|writer| writer > place) {
            return None;
        }
        reads.push(penalty.grad);
        removed.extend([l1, add]);
        (reader, lambda) = (add, Some(penalty.lambda));
    }
    if view.readers(origin.grad) != [reader] {
        return None;
    }
    let weight = writes[0];
    let grad_input = view
        .readers(weight)
        .into_iter()
        .find(|&number| view.op::<GradInput>(number).is_some() && view.node(number).reads == [reads[0], weight]);
    if let Some(number) = grad_input {
        let written = view.node(number).writes[0];
        if view.readers(written).iter().any(|&reader| reader < place) {
            return None;
        }
        removed.push(number);
        writes.push(written);
    }
    // Between the new node and the old update the weight and its moments already hold new values.
    let looks = |number: &usize| (place..adam).contains(number) && !removed.contains(number);
    let seen = writes[..3].iter().any(|&var| view.readers(var).iter().any(looks));
    if seen || reads.iter().any(|var| writes.contains(var)) {
        return None;
    }
    let op = Update { sizes: sizes.clone(), settings, lambda, grad_input: grad_input.is_some() };
    Some(Rewrite { removed, added: vec![(place, Node::new(Arc::new(op), reads, writes))] })
}

#[derive(Debug)]
struct Update {
    sizes: Dense,
    settings: Adam,
    /// The weight of the L1 penalty, if there is one.
    lambda: Option<f64>,
    /// Whether the gradient of the input is wanted.
    grad_input: bool,
}

impl Op for Update {
    fn name(&self) -> &'static str {
        "dense.update"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        let mut expected = vec![self.sizes.grad_output(), self.sizes.input()];
        if self.lambda.is_some() {
            expected.push(("grad_penalty", [1].into()));
        }
        expect_shapes(self.name(), inputs, &expected)?;
        let mut shapes = vec![self.sizes.weight().1; 3];
        if self.grad_input {
            shapes.push(self.sizes.input().1);
        }
        Ok(shapes)
    }

    fn in_place(&self) -> bool {
        true
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], step: &Step) {
        let [weight, m, v, grad_input @ ..] = write else { unreachable!("a weight and its moments") };
        for grad_input in grad_input {
            GradInput(self.sizes.clone()).reference(&[read[0], weight], &mut [grad_input], step);
        }
        let mut grads = vec![0.0; weight.len()];
        GradWeight(self.sizes.clone()).reference(&[read[0], read[1]], &mut [&mut grads], step);
        let penalty = self.lambda.map_or(0.0, |lambda| lambda * read[2][0]);
        for (index, grad) in grads.into_iter().enumerate() {
            let grad = grad + l1_penalty::slope(penalty, weight[index]);
            self.settings.reference(&mut weight[index], &mut m[index], &mut v[index], grad, step);
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], step: &Step) {
        let Dense { n, i, o } = self.sizes;
        let [weight, m, v, grad_input @ ..] = write else { unreachable!("a weight and its moments") };
        let grad_input: &mut [f32] = grad_input.first_mut().map_or(&mut [], |grad_input| grad_input);
        let penalty = self.lambda.map_or(0.0, |lambda| lambda as f32 * read[2][0]);
        let rates = Rates::new(&self.settings, step);
        // A task owns its columns of all four, so every sum has one order whatever the number of threads.
        let width = (KEPT / (2 * n).max(1)).clamp(PANEL, MOST) / PANEL * PANEL;
        let moments = columns(m, i, width).zip(columns(v, i, width));
        let blocks = columns(weight, i, width).zip(columns(grad_input, i, width)).zip(moments);
        blocks.for_each(|((weight, grad_input), (m, v))| {
            scratch::with(2 * n * width + ROWS * (width + n), |memory| {
                let (x, rest) = memory.split_at_mut(n * width);
                let (sums, rest) = rest.split_at_mut(n * width);
                let (grads, g) = rest.split_at_mut(ROWS * width);
                let (grad_output, input) = (read[0], read[1]);
                simd::run(Block {
                    n,
                    i,
                    o,
                    grad_output,
                    input,
                    x,
                    sums,
                    grads,
                    g,
                    weight,
                    m,
                    v,
                    grad_input,
                    penalty,
                    rates,
                });
            });
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        let Dense { i, o, .. } = self.sizes;
        let groups = [i.div_ceil(dense::COLUMNS), o.div_ceil(dense::TILE)];
        let update = Dispatch::grid(shader!("fast/adam.wgsl"), self.entry(), self.constants(), groups);
        // The gradient of the input comes first: it is that of the weight as it was.
        let mut dispatches =
            if self.grad_input { dense::tiled_grad_input(&self.sizes, Bind::Old(0), 3) } else { Vec::new() };
        dispatches.push(update.binding(self.binds()));
        dispatches
    }

    fn scratch(&self) -> Vec<usize> {
        if self.grad_input { dense::grad_input_scratch(&self.sizes) } else { Vec::new() }
    }

    fn flops(&self) -> u64 {
        self.sizes.operations() * (1 + u64::from(self.grad_input))
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        no_second_gradient(self.name())
    }
}

impl Update {
    fn constants(&self) -> Vec<(&'static str, f64)> {
        let mut constants = self.settings.constants();
        constants.extend(self.sizes.constants());
        constants.extend(self.lambda.map(|lambda| ("lambda", lambda)));
        constants
    }

    /// The update's entry point.
    fn entry(&self) -> &'static str {
        if self.lambda.is_some() { "dense_penalised" } else { "dense" }
    }

    /// What it binds: the penalty's gradient, if there is one, last.
    fn binds(&self) -> impl Iterator<Item = Bind> {
        let penalty = self.lambda.map(|_| Bind::Read(2));
        [Bind::Read(0), Bind::Read(1)].into_iter().chain((0..3).map(Bind::Write)).chain(penalty)
    }
}

/// The update of some columns. `x` and `sums` are panels: [columns / panel, N, panel], so that what a tile needs stands
/// together; rows of the matrices themselves may lie a multiple of a cache's size apart.
struct Block<'a> {
    n: usize,
    i: usize,
    o: usize,
    grad_output: &'a [f32],
    input: &'a [f32],
    /// The input's columns.
    x: &'a mut [f32],
    /// `grad_input` while it is summed.
    sums: &'a mut [f32],
    /// The gradient of some rows of the weight, [rows, columns].
    grads: &'a mut [f32],
    /// What `grad_output` has for these rows, [N, rows].
    g: &'a mut [f32],
    weight: Columns<'a>,
    m: Columns<'a>,
    v: Columns<'a>,
    grad_input: Columns<'a>,
    penalty: f32,
    rates: Rates,
}

impl Kernel for Block<'_> {
    #[inline(always)]
    fn run<V: Vector>(mut self) {
        // A panel is two vectors wide: with four rows enough sums to hide their latency.
        let panel = 2 * V::LANES;
        let starts = |width: usize| (0..width).step_by(panel).map(move |col| (col, panel.min(width - col)));
        for (col, len) in starts(self.weight.width()) {
            for n in 0..self.n {
                let from = &self.input[n * self.i + self.weight.from() + col..][..len];
                self.x[col * self.n + n * panel..][..len].copy_from_slice(from);
            }
        }
        self.sums.fill(0.0);
        let mut row = 0;
        while row + ROWS <= self.o {
            self.rows::<V, ROWS>(row);
            row += ROWS;
        }
        while row < self.o {
            self.rows::<V, 1>(row);
            row += 1;
        }
        for (col, len) in starts(self.grad_input.width()) {
            for n in 0..self.grad_input.rows() {
                let from = &self.sums[col * self.n + n * panel..][..len];
                self.grad_input.row(n)[col..][..len].copy_from_slice(from);
            }
        }
    }
}

impl Block<'_> {
    /// `R` rows: both gradients panel by panel, then the update row by row. Two separate phases, because the three matrices
    /// often share page offsets: a load would then wait for stores that only seem to have its address (4K aliasing).
    #[inline(always)]
    fn rows<V: Vector, const R: usize>(&mut self, row: usize) {
        let (n, width, panel) = (self.n, self.weight.width(), 2 * V::LANES);
        for (g, grad_output) in self.g.chunks_exact_mut(R).zip(self.grad_output.chunks_exact(self.o)) {
            g.copy_from_slice(&grad_output[row..][..R]);
        }
        let g = &self.g[..n * R];
        let mut weight: [&[f32]; R] = [&[]; R];
        for (r, weight) in weight.iter_mut().enumerate() {
            *weight = self.weight.read(row + r);
        }
        let wanted = self.grad_input.rows() > 0;
        let mut col = 0;
        while col < width {
            let start = col / panel * panel * n + col % panel;
            let (x, sums) = (&self.x[start..], &mut self.sums[start..]);
            let grads = &mut self.grads[col..];
            let at = (col, panel, width);
            col += match width - col {
                left if left >= panel => tile::<V, R, 2>(at, &weight, g, x, wanted.then_some(sums), grads),
                left if left >= V::LANES => tile::<V, R, 1>(at, &weight, g, x, wanted.then_some(sums), grads),
                _ => tile::<PortableVector<1>, R, 1>(at, &weight, g, x, wanted.then_some(sums), grads),
            };
        }
        for (r, grad) in (row..row + R).zip(self.grads.chunks_exact(width)) {
            // Prefetch the moments: the hardware prefetcher cannot predict where a row begins. The weight is already cached.
            let (next_m, next_v) = (self.m.ahead(r + R), self.v.ahead(r + R));
            let ahead = |col| {
                next_m.prefetch(col);
                next_v.prefetch(col);
            };
            let (param, m, v) = (self.weight.row(r), self.m.row(r), self.v.row(r));
            Piece { param, m, v, grad, penalty: self.penalty, rates: self.rates, ahead }.run::<V>();
        }
    }
}

/// `R` rows by `K` vectors from column `col` on: adds their share of `grad_input` to `sums`, and writes the gradient of
/// the weight to `grads`, whose rows are `width` long. Gives the number of columns.
#[inline(always)]
fn tile<V: Vector, const R: usize, const K: usize>(
    (col, panel, width): (usize, usize, usize),
    weight: &[&[f32]; R],
    g: &[f32],
    x: &[f32],
    sums: Option<&mut [f32]>,
    grads: &mut [f32],
) -> usize {
    let len = K * V::LANES;
    if let Some(sums) = sums {
        let mut tile = [[V::splat(0.0); K]; R];
        for (tile, weight) in tile.iter_mut().zip(weight) {
            for (k, w) in tile.iter_mut().enumerate() {
                *w = V::load(&weight[col + k * V::LANES..]);
            }
        }
        for (sums, g) in sums.chunks_mut(panel).zip(g.as_chunks::<R>().0) {
            let sums = &mut sums[..len];
            let mut sum = [V::splat(0.0); K];
            for (k, sum) in sum.iter_mut().enumerate() {
                *sum = V::load(&sums[k * V::LANES..]);
            }
            for (weight, &g) in tile.iter().zip(g) {
                let g = V::splat(g);
                for (sum, &weight) in sum.iter_mut().zip(weight) {
                    *sum = g.mul_add(weight, *sum);
                }
            }
            for (k, sum) in sum.iter().enumerate() {
                sum.store(&mut sums[k * V::LANES..]);
            }
        }
    }
    let mut tile = [[V::splat(0.0); K]; R];
    for (from, g) in x.chunks(panel).zip(g.as_chunks::<R>().0) {
        let from = &from[..len];
        let mut x = [V::splat(0.0); K];
        for (k, x) in x.iter_mut().enumerate() {
            *x = V::load(&from[k * V::LANES..]);
        }
        for (grad, &g) in tile.iter_mut().zip(g) {
            let g = V::splat(g);
            for (grad, &x) in grad.iter_mut().zip(&x) {
                *grad = g.mul_add(x, *grad);
            }
        }
    }
    for (r, grad) in tile.iter().enumerate() {
        for (k, grad) in grad.iter().enumerate() {
            grad.store(&mut grads[r * width + k * V::LANES..]);
        }
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // The layer of dense's own test: grad_weight is [13, 17, 21; 18, 24, 30], grad_input [3, 2, 2; 7, 4, 4]. The
        // penalty adds 0.5 * 4 = 2 to the gradient of the weights above zero.
        let sizes = Dense { n: 2, i: 3, o: 2 };
        let (x, dy) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 2.0, 3.0, 4.0]);
        let step = Step::new(1, 0, 0.1);
        for (lambda, grads) in
            [(None, [13.0, 17.0, 21.0, 18.0, 24.0, 30.0]), (Some(0.5), [15.0, 17.0, 21.0, 20.0, 26.0, 32.0])]
        {
            let op = |grad_input| Update { sizes: sizes.clone(), settings: Adam::default(), lambda, grad_input };
            let start = [1.0f32, 0.0, 0.0, 1.0, 1.0, 1.0];
            let (mut w, mut m, mut v, mut dx) = (start, [0.0; 6], [0.0; 6], [f32::NAN; 6]);
            let read: [&[f32]; 3] = [&dy, &x, &[4.0]];
            op(true).cpu(&read, &mut [&mut w, &mut m, &mut v, &mut dx], &step);
            assert_eq!(dx, [3.0, 2.0, 2.0, 7.0, 4.0, 4.0]);
            for (k, grad) in grads.into_iter().enumerate() {
                assert!((m[k] - 0.1 * grad).abs() < 1e-5 && (v[k] - 0.001 * grad * grad).abs() < 1e-6, "{m:?} {v:?}");
                assert!((w[k] - (start[k] - 0.1)).abs() < 1e-6, "{w:?}");
            }
            let (mut w2, mut m2, mut v2) = (start, [0.0; 6], [0.0; 6]);
            op(false).cpu(&read, &mut [&mut w2, &mut m2, &mut v2], &step);
            assert_eq!((w2, m2, v2), (w, m, v));
        }
    }
}

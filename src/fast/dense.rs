//! A dense layer in cache-sized blocks, with or without the L1 penalty of its weight; and the layer's kernels by tiles on
//! the GPU.
//!
//! ```text
//! y[n, o] = bias[o] + sum_i weight[o, i] x[n, i]          penalty = lambda sum |weight|
//! ```
//!
//! # Shapes
//! `input [N, I]`, `weight [O, I]`, `bias [O]` to `[N, O]` and, with a penalty, `[1]`.

use std::sync::Arc;

use rayon::prelude::*;

use super::scratch;
use super::simd::{self, Kernel, LANES, Vector, prefetch};
use super::view::View;
use crate::dispatch::{Bind, Dispatch};
use crate::error::Result;
use crate::ops::common::no_second_gradient;
use crate::ops::dense::Dense;
use crate::ops::l1_penalty::L1Penalty;
use crate::shader;
use crate::tape::{Gradient, Node, Op, Rewrite, Step};
use crate::tensor::Shape;

/// Rows of the weight that one task of the forward pass handles.
const ROWS: usize = 8;

/// Columns per block. The batch's part of the input then stays in the L1 or L2 cache.
const DEPTH: usize = 512;

/// Row stride of the input's copy: one cache line more than `DEPTH`, to avoid cache-set conflicts.
const STRIDE: usize = DEPTH + LANES;

/// On the GPU: columns per workgroup, rows or outputs per tile of a thread, and outputs per slice. The numbers of
/// `shaders/fast/dense_tiled.wgsl`.
pub(super) const COLUMNS: usize = 64;
pub(super) const TILE: usize = 4;
const SLICE: usize = 32;

/// Elements that are worth a workgroup of their own in the penalty's sum on the GPU, and the most workgroups of a sum.
const PART: usize = 16_384;
const PARTS: usize = 64;

/// Replaces a dense layer and the L1 penalty of its weight.
pub(super) fn rewrite_with_penalty(view: &View, number: usize) -> Option<Rewrite> {
    let sizes = view.op::<Dense>(number)?;
    let node = view.node(number);
    let weight = node.reads[1];
    let is_penalty = |&other: &usize| other > number && view.op::<L1Penalty>(other).is_some();
    let penalty = view.readers(weight).into_iter().find(is_penalty)?;
    if view.writer(weight).is_some_and(|writer| (number..penalty).contains(&writer)) {
        return None;
    }
    let op = Layer { sizes: sizes.clone(), lambda: Some(view.op::<L1Penalty>(penalty)?.lambda) };
    let writes = vec![node.writes[0], view.node(penalty).writes[0]];
    let node = Node::new(Arc::new(op), node.reads.clone(), writes);
    Some(Rewrite { removed: vec![number, penalty], added: vec![(number, node)] })
}

/// Replaces a dense layer.
pub(super) fn rewrite(view: &View, number: usize) -> Option<Rewrite> {
    let (node, sizes) = (view.node(number), view.op::<Dense>(number)?.clone());
    let node = Node::new(Arc::new(Layer { sizes, lambda: None }), node.reads.clone(), node.writes.clone());
    Some(Rewrite { removed: vec![number], added: vec![(number, node)] })
}

/// A kernel of `dense_tiled.wgsl`.
fn tiled(sizes: &Dense, entry: &'static str, groups: [usize; 2]) -> Dispatch {
    Dispatch::grid(shader!("fast/dense_tiled.wgsl"), entry, sizes.constants(), groups)
}

/// Slices in which the GPU sums the gradient of the input.
fn slices(sizes: &Dense) -> usize {
    sizes.o.div_ceil(SLICE)
}

/// Scratch memory of [`tiled_grad_input`].
pub(super) fn grad_input_scratch(sizes: &Dense) -> Vec<usize> {
    vec![if slices(sizes) > 1 { slices(sizes) * sizes.n * sizes.i } else { 0 }]
}

/// The kernels that write the gradient of the input to the node's output `write`. Its first input is `grad_output`.
pub(super) fn tiled_grad_input(sizes: &Dense, weight: Bind, write: usize) -> Vec<Dispatch> {
    let slices = slices(sizes);
    let groups = [sizes.i.div_ceil(COLUMNS), slices * sizes.n.div_ceil(4 * TILE)];
    let mut sums = tiled(sizes, "grad_input", groups);
    sums.constants.push(("slices", slices as f64));
    if slices == 1 {
        return vec![sums.binding([Bind::Read(0), weight, Bind::Write(write)])];
    }
    let total = Dispatch::linear(sums.shader, "total", sums.constants.clone(), sizes.n * sizes.i);
    vec![
        sums.binding([Bind::Read(0), weight, Bind::Scratch(0)]),
        total.binding([Bind::ScratchRead(0), Bind::Write(write)]),
    ]
}

/// A dense layer, and the L1 penalty of its weight if there is one.
#[derive(Debug)]
struct Layer {
    sizes: Dense,
    /// The weight of the penalty.
    lambda: Option<f64>,
}

impl Layer {
    /// Writes the layer's output, and returns the L1 norm of the weight if `magnitudes` (otherwise 0).
    fn forward(&self, read: &[&[f32]], out: &mut [f32], magnitudes: bool) -> f64 {
        let Dense { n, i, o } = self.sizes;
        // Blocks of weight rows run in parallel, each into its own block of [O, N + 1]: the transposed output, and
        // beside it the rows' magnitudes.
        let pieces = i.div_ceil(DEPTH);
        scratch::with(o * (n + 1) + pieces * n * STRIDE, |memory| {
            let (transposed, input) = memory.split_at_mut(o * (n + 1));
            input.par_chunks_mut(n * STRIDE).enumerate().for_each(|(piece, input)| {
                for (to, row) in input.chunks_exact_mut(STRIDE).zip(read[0].chunks_exact(i)) {
                    let from = &row[piece * DEPTH..i.min((piece + 1) * DEPTH)];
                    to[..from.len()].copy_from_slice(from);
                }
            });
            let input = &*input;
            transposed.par_chunks_mut(ROWS * (n + 1)).zip(read[1].par_chunks(ROWS * i)).for_each(|(out, weight)| {
                scratch::with(out.len() * LANES, |lanes| {
                    simd::run(Products { n, i, weight, input, magnitudes, lanes, out });
                });
            });
            let transposed = &*transposed;
            for (row, out) in out.chunks_exact_mut(o).enumerate() {
                for (col, out) in out.iter_mut().enumerate() {
                    *out = transposed[col * (n + 1) + row] + read[2][col];
                }
            }
            transposed.chunks_exact(n + 1).map(|row| f64::from(row[n])).sum()
        })
    }
}

/// The products of some rows of the weight with every row of the input, and the sums of their magnitudes.
struct Products<'a> {
    n: usize,
    i: usize,
    weight: &'a [f32],
    /// The input by pieces of `DEPTH` columns: [pieces, N, STRIDE].
    input: &'a [f32],
    magnitudes: bool,
    /// [rows, N + 1, lanes of a vector]: sums that are not yet added up.
    lanes: &'a mut [f32],
    /// [rows, N + 1]
    out: &'a mut [f32],
}

impl Kernel for Products<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        // Four rows: as many accumulators as fit in registers together with their operands.
        self.rows::<V, 4>()
    }
}

/// Where column `col` of the input's row `n` of `rows` stands in its copy.
#[inline(always)]
fn place(rows: usize, n: usize, col: usize) -> usize {
    (col / DEPTH * rows + n) * STRIDE + col % DEPTH
}

impl Products<'_> {
    #[inline(always)]
    fn rows<V: Vector, const R: usize>(mut self) {
        let rows = self.weight.len() / self.i;
        let whole = self.i - self.i % V::LANES;
        self.lanes[..self.out.len() * V::LANES].fill(0.0);
        for from in (0..whole).step_by(DEPTH) {
            let len = DEPTH.min(whole - from);
            let mut row = 0;
            while row + R <= rows {
                self.piece::<V, R>(row, from, len);
                row += R;
            }
            while row < rows {
                self.piece::<V, 1>(row, from, len);
                row += 1;
            }
        }
        for (index, (out, lanes)) in self.out.iter_mut().zip(self.lanes.chunks_exact(V::LANES)).enumerate() {
            let (row, n) = (index / (self.n + 1), index % (self.n + 1));
            let rest = &self.weight[row * self.i + whole..(row + 1) * self.i];
            let rest: f32 = if n < self.n {
                let input = self.input.get(place(self.n, n, whole)..).unwrap_or_default();
                rest.iter().zip(input).map(|(w, x)| w * x).sum()
            } else {
                rest.iter().map(|w| w.abs()).sum()
            };
            *out = lanes.iter().sum::<f32>() + if n < self.n || self.magnitudes { rest } else { 0.0 };
        }
    }

    /// `R` rows of the weight with everything, for elements `from..from + len`.
    #[inline(always)]
    fn piece<V: Vector, const R: usize>(&mut self, row: usize, from: usize, len: usize) {
        let mut weight: [&[f32]; R] = [&[]; R];
        for (r, weight) in weight.iter_mut().enumerate() {
            *weight = &self.weight[(row + r) * self.i + from..][..len];
        }
        if self.magnitudes {
            let mut sums = [V::splat(0.0); R];
            let mut k = 0;
            while k + V::LANES <= len {
                for (sum, weight) in sums.iter_mut().zip(&weight) {
                    *sum = sum.add(V::load(&weight[k..]).abs());
                }
                k += V::LANES;
            }
            for (r, sum) in sums.iter().enumerate() {
                let lanes = &mut self.lanes[((row + r) * (self.n + 1) + self.n) * V::LANES..];
                V::load(lanes).add(*sum).store(lanes);
            }
        }
        // What comes next: the same elements of the next rows, or the next elements of the first rows.
        let next = if row + 2 * R <= self.weight.len() / self.i { (row + R) * self.i + from } else { from + len };
        let mut ahead: [&[f32]; R] = [&[]; R];
        for (r, ahead) in ahead.iter_mut().enumerate() {
            *ahead = self.weight.get(next + r * self.i..).unwrap_or_default();
        }
        let mut n = 0;
        while n + 3 <= self.n {
            self.products::<V, R, 3>(&weight, row, n, from, if n == 0 { &ahead } else { &[&[]; R] });
            n += 3;
        }
        while n < self.n {
            self.products::<V, R, 1>(&weight, row, n, from, &[&[]; R]);
            n += 1;
        }
    }

    /// `R` rows of the weight with `N` of the input; asks for what is `ahead` meanwhile.
    #[inline(always)]
    fn products<V: Vector, const R: usize, const N: usize>(
        &mut self,
        weight: &[&[f32]; R],
        row: usize,
        n: usize,
        from: usize,
        ahead: &[&[f32]; R],
    ) {
        let len = weight[0].len();
        let mut input: [&[f32]; N] = [&[]; N];
        for (p, input) in input.iter_mut().enumerate() {
            *input = &self.input[place(self.n, n + p, from)..][..len];
        }
        let mut rows: [&[f32]; R] = [&[]; R];
        for (row, weight) in rows.iter_mut().zip(weight) {
            *row = &weight[..len];
        }
        let mut sums = [[V::splat(0.0); N]; R];
        let mut k = 0;
        while k + V::LANES <= len {
            let mut x = [V::splat(0.0); N];
            for (x, input) in x.iter_mut().zip(&input) {
                *x = V::load(&input[k..len]);
            }
            ahead.iter().filter_map(|ahead| ahead.get(k)).for_each(|x| prefetch(x));
            for (sums, row) in sums.iter_mut().zip(&rows) {
                let w = V::load(&row[k..len]);
                for (sum, x) in sums.iter_mut().zip(&x) {
                    *sum = w.mul_add(*x, *sum);
                }
            }
            k += V::LANES;
        }
        for (r, sums) in sums.iter().enumerate() {
            for (p, sum) in sums.iter().enumerate() {
                let lanes = &mut self.lanes[((row + r) * (self.n + 1) + n + p) * V::LANES..];
                V::load(lanes).add(*sum).store(lanes);
            }
        }
    }
}

impl Op for Layer {
    fn name(&self) -> &'static str {
        if self.lambda.is_some() { "dense.penalised" } else { "dense.blocked" }
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        let mut shapes = self.sizes.output_shapes(inputs)?;
        shapes.extend(self.lambda.map(|_| [1].into()));
        Ok(shapes)
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], step: &Step) {
        self.sizes.reference(read, &mut write[..1], step);
        if let (Some(lambda), Some(penalty)) = (self.lambda, write.get_mut(1)) {
            penalty[0] = lambda * read[1].iter().map(|w| w.abs()).sum::<f64>();
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        let norm = self.forward(read, write[0], self.lambda.is_some());
        if let (Some(lambda), Some(penalty)) = (self.lambda, write.get_mut(1)) {
            penalty[0] = (lambda * norm) as f32;
        }
    }

    fn gpu(&self) -> Vec<Dispatch> {
        let Dense { n, o, .. } = self.sizes;
        let layer = tiled(&self.sizes, "forward", [o.div_ceil(TILE), n.div_ceil(TILE)]);
        let mut dispatches = vec![layer.binding([Bind::Read(0), Bind::Read(1), Bind::Read(2), Bind::Write(0)])];
        dispatches.extend(self.lambda.into_iter().flat_map(|lambda| self.penalty(lambda)));
        dispatches
    }

    fn scratch(&self) -> Vec<usize> {
        vec![self.parts()]
    }

    fn flops(&self) -> u64 {
        self.sizes.flops()
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        no_second_gradient(self.name())
    }
}

impl Layer {
    /// Workgroups that sum the penalty.
    fn parts(&self) -> usize {
        self.sizes.weight().1.len().div_ceil(PART).min(PARTS)
    }

    /// The kernels of the penalty: many workgroups sum a part each, then one workgroup sums the parts.
    fn penalty(&self, lambda: f64) -> Vec<Dispatch> {
        let (len, parts) = (self.sizes.weight().1.len(), self.parts());
        let constants = vec![("len", len as f64), ("parts", parts as f64)];
        let part = Dispatch::grid(shader!("fast/l1_parts.wgsl"), "part", constants, [parts, 1]);
        let sum = L1Penalty { shape: [parts].into(), lambda }.forward();
        vec![part.binding([Bind::Read(1), Bind::Scratch(0)]), sum.binding([Bind::ScratchRead(0), Bind::Write(1)])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let sizes = Dense { n: 2, i: 3, o: 2 };
        let step = Step::new(1, 0, 0.0);
        let (x, w, b) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 0.0, 0.0, 1.0, 1.0, 1.0], [0.5, -1.0]);
        let mut y = [f32::NAN; 4];
        Layer { sizes: sizes.clone(), lambda: None }.cpu(&[&x, &w, &b], &mut [&mut y], &step);
        assert_eq!(y, [1.5, 5.0, 4.5, 14.0]);
        let (mut y, mut penalty) = ([f32::NAN; 4], [f32::NAN]);
        let penalised = Layer { sizes, lambda: Some(0.5) };
        penalised.cpu(&[&x, &w.map(|w| -w), &b], &mut [&mut y, &mut penalty], &step);
        assert_eq!((y, penalty), ([-0.5, -7.0, -3.5, -16.0], [2.0]));
    }
}

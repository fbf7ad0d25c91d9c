//! Dense layer: `y[n, o] = bias[o] + sum_i weight[o, i] x[n, i]`.
//!
//! # Shapes
//! `input [N, I]`, `weight [O, I]`, `bias [O]` to `[N, O]`.
//!
//! # Gradient
//! `grad_input = grad_output weight`, `grad_weight = grad_output^T input`, `grad_bias[o] = sum_n grad_output[n, o]`.
//!
//! Fused with the L1 penalty of its weight, the layer computes that in the same pass over the weight; what becomes of
//! the gradients is in [`super::dense_update`].

use std::sync::Arc;

use rayon::prelude::*;

use super::kernels::simd::{LANES, prefetch};
use super::kernels::{self, Kernel, Mat, Vector, gemm};
use super::l1_penalty::L1Penalty;
use super::{expect, once, scratch};
use crate::error::{Error, Result};
use crate::shader;
use crate::tape::{Bind, Dispatch, Fusion, Gradient, Neighbours, Node, Op, Step, Tape, Var};
use crate::tensor::Shape;

/// Rows of the weight's gradient that one task handles.
const BLOCK: usize = 16;

/// Columns of the input's gradient that one task handles.
const INPUTS: usize = 1024;

/// Rows of the weight that one task of the forward pass handles.
const ROWS: usize = 8;

/// Elements of these rows that are worked on before the next: what the batch has beside them stays in a near cache.
const DEPTH: usize = 512;

/// Floats from row to row of the input's copy: one line of a cache more, since rows that lie a multiple of a cache's way
/// apart, as those of the input itself often do, all fall on the same few lines.
const STRIDE: usize = DEPTH + LANES;

/// Columns of a workgroup on the GPU, rows or outputs of its thread's tile, and outputs of a slice: those of
/// `shaders/dense_tiled.wgsl`.
pub(super) const COLUMNS: usize = 64;
pub(super) const TILE: usize = 4;
const SLICE: usize = 32;

/// Records a dense layer.
///
/// # Errors
/// [`Error::Shape`] unless the shapes are those above.
pub fn dense(tape: &mut Tape, input: Var, weight: Var, bias: Var) -> Result<Var> {
    match (tape.shape(input).dims(), tape.shape(weight).dims()) {
        (&[n, i], &[o, _]) => tape.one(Dense { n, i, o }, &[input, weight, bias]),
        (p, q) => Err(Error::shape("dense", format!("expected input [N, I] and weight [O, I], got {p:?} and {q:?}"))),
    }
}

/// Sizes of a dense layer.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    pub n: usize,
    pub i: usize,
    pub o: usize,
}

impl Dense {
    pub fn input(&self) -> (&'static str, Shape) {
        ("input", [self.n, self.i].into())
    }

    pub fn weight(&self) -> (&'static str, Shape) {
        ("weight", [self.o, self.i].into())
    }

    pub fn grad_output(&self) -> (&'static str, Shape) {
        ("grad_output", [self.n, self.o].into())
    }

    pub fn constants(&self) -> Vec<(&'static str, f64)> {
        vec![("n", self.n as f64), ("n_in", self.i as f64), ("n_out", self.o as f64)]
    }

    fn dispatch(&self, entry: &'static str, threads: usize) -> Dispatch {
        Dispatch::linear(shader!("dense.wgsl"), entry, self.constants(), threads)
    }

    /// The naive kernel that writes the gradient of the input.
    pub fn naive_grad_input(&self) -> Dispatch {
        self.dispatch("grad_input", self.n * self.i)
    }

    fn tiled(&self, entry: &'static str, groups: [usize; 2]) -> Dispatch {
        Dispatch::grid(shader!("dense_tiled.wgsl"), entry, self.constants(), groups)
    }

    /// Slices in which the GPU sums the gradient of the input.
    fn slices(&self) -> usize {
        self.o.div_ceil(SLICE)
    }

    /// Scratch memory of [`Dense::tiled_grad_input`].
    pub fn grad_input_scratch(&self) -> Vec<usize> {
        vec![if self.slices() > 1 { self.slices() * self.n * self.i } else { 0 }]
    }

    /// The kernels that write the gradient of the input to the node's output `write`; `grad_output` is its first input.
    pub fn tiled_grad_input(&self, weight: Bind, write: usize) -> Vec<Dispatch> {
        let groups = [self.i.div_ceil(COLUMNS), self.slices() * self.n.div_ceil(4 * TILE)];
        let mut sums = self.tiled("grad_input", groups);
        sums.constants.push(("slices", self.slices() as f64));
        if self.slices() == 1 {
            return vec![sums.binding([Bind::Read(0), weight, Bind::Write(write)])];
        }
        let total = Dispatch::linear(sums.shader, "total", sums.constants.clone(), self.n * self.i);
        vec![
            sums.binding([Bind::Read(0), weight, Bind::Scratch(0)]),
            total.binding([Bind::ScratchRead(0), Bind::Write(write)]),
        ]
    }

    /// Multiplications and additions of the equation.
    pub fn operations(&self) -> u64 {
        2 * (self.n * self.i * self.o) as u64
    }

    /// The layer's output, and the sum of the weight's magnitudes if `magnitudes` (0 otherwise).
    fn forward(&self, read: &[&[f32]], out: &mut [f32], magnitudes: bool) -> f64 {
        let Self { n, i, o } = *self;
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
                    kernels::run(Products { n, i, weight, input, magnitudes, lanes, out });
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
        // As many sums as fit into the registers beside what they are made of.
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

impl Op for Dense {
    fn name(&self) -> &'static str {
        "dense"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect(self.name(), inputs, &[self.input(), self.weight(), ("bias", [self.o].into())])?;
        Ok(vec![[self.n, self.o].into()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        for n in 0..self.n {
            for o in 0..self.o {
                let products = (0..self.i).map(|i| read[1][o * self.i + i] * read[0][n * self.i + i]);
                write[0][n * self.o + o] = read[2][o] + products.sum::<f64>();
            }
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        self.forward(read, write[0], false);
    }

    fn gpu(&self) -> Vec<Dispatch> {
        vec![self.tiled("forward", [self.o.div_ceil(TILE), self.n.div_ceil(TILE)])]
    }

    fn gpu_naive(&self) -> Vec<Dispatch> {
        vec![self.dispatch("forward", self.n * self.o)]
    }

    fn flops(&self) -> u64 {
        self.operations()
    }

    fn fuse(&self, around: &Neighbours) -> Option<Fusion> {
        let node = around.node(around.number);
        let weight = node.reads[1];
        let is_penalty = |&number: &usize| number > around.number && around.op::<L1Penalty>(number).is_some();
        let penalty = around.readers(weight).into_iter().find(is_penalty)?;
        if around.writer(weight).is_some_and(|writer| (around.number..penalty).contains(&writer)) {
            return None;
        }
        let op = Penalised { dense: self.clone(), lambda: around.op::<L1Penalty>(penalty)?.lambda };
        let writes = vec![node.writes[0], around.node(penalty).writes[0]];
        let node = Node { op: Arc::new(op), reads: node.reads.clone(), writes };
        Some(Fusion { removed: vec![around.number, penalty], added: vec![(around.number, node)] })
    }

    fn backward(&self, g: &mut Gradient) -> Result<()> {
        g.give(0, GradInput(self.clone()), &[g.grad_output(), g.input(1)])?;
        g.give(1, GradWeight(self.clone()), &[g.grad_output(), g.input(0)])?;
        g.give(2, GradBias(self.clone()), &[g.grad_output()])
    }
}

/// The layer, and the L1 penalty of its weight: `output, lambda sum |weight|`.
#[derive(Debug)]
struct Penalised {
    dense: Dense,
    lambda: f64,
}

impl Op for Penalised {
    fn name(&self) -> &'static str {
        "dense.penalised"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        let mut shapes = self.dense.output_shapes(inputs)?;
        shapes.push([1].into());
        Ok(shapes)
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], step: &Step) {
        self.dense.reference(read, &mut write[..1], step);
        write[1][0] = self.lambda * read[1].iter().map(|w| w.abs()).sum::<f64>();
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        let magnitude = self.dense.forward(read, write[0], true);
        write[1][0] = (self.lambda * magnitude) as f32;
    }

    fn gpu(&self) -> Vec<Dispatch> {
        let mut dispatches = vec![self.layer(self.dense.gpu())];
        dispatches.extend(self.penalty().dispatches(Bind::Read(1), Bind::Write(1)));
        dispatches
    }

    fn gpu_naive(&self) -> Vec<Dispatch> {
        vec![self.layer(self.dense.gpu_naive()), self.penalty().single(Bind::Read(1), Bind::Write(1))]
    }

    fn scratch(&self) -> Vec<usize> {
        vec![self.penalty().parts()]
    }

    fn flops(&self) -> u64 {
        self.dense.flops()
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        once(self.name())
    }
}

impl Penalised {
    fn penalty(&self) -> L1Penalty {
        L1Penalty { shape: self.dense.weight().1, lambda: self.lambda }
    }

    /// The layer's kernel, which knows nothing of the second output.
    fn layer(&self, mut dispatches: Vec<Dispatch>) -> Dispatch {
        let layer = dispatches.remove(0);
        layer.binding([Bind::Read(0), Bind::Read(1), Bind::Read(2), Bind::Write(0)])
    }
}

#[derive(Debug)]
pub(super) struct GradInput(pub Dense);

impl Op for GradInput {
    fn name(&self) -> &'static str {
        "dense.grad_input"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect(self.name(), inputs, &[self.0.grad_output(), self.0.weight()])?;
        Ok(vec![self.0.input().1])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        let Dense { n, i, o } = self.0;
        for row in 0..n {
            for col in 0..i {
                let products = (0..o).map(|o_| read[0][row * o + o_] * read[1][o_ * i + col]);
                write[0][row * i + col] = products.sum();
            }
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        let Dense { n, i, o } = self.0;
        // Blocks of columns run in parallel, each into its own [N, width] array, copied out after.
        let width = INPUTS;
        scratch::with(n * i, |blocks| {
            blocks.par_chunks_mut(n * width).enumerate().for_each(|(block, out)| {
                let cols = out.len() / n;
                let weight = Mat::strided(&read[1][block * width..], o, cols, i);
                gemm(Mat::new(read[0], n, o), weight, out, cols);
            });
            for (block, out) in blocks.chunks(n * width).enumerate() {
                let cols = out.len() / n;
                for (row, out) in out.chunks_exact(cols).enumerate() {
                    write[0][row * i + block * width..][..cols].copy_from_slice(out);
                }
            }
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        self.0.tiled_grad_input(Bind::Read(1), 0)
    }

    fn gpu_naive(&self) -> Vec<Dispatch> {
        vec![self.0.naive_grad_input()]
    }

    fn scratch(&self) -> Vec<usize> {
        self.0.grad_input_scratch()
    }

    fn flops(&self) -> u64 {
        self.0.operations()
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        once(self.name())
    }
}

#[derive(Debug)]
pub(super) struct GradWeight(pub Dense);

impl Op for GradWeight {
    fn name(&self) -> &'static str {
        "dense.grad_weight"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect(self.name(), inputs, &[self.0.grad_output(), self.0.input()])?;
        Ok(vec![self.0.weight().1])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        let Dense { n, i, o } = self.0;
        for row in 0..o {
            for col in 0..i {
                write[0][row * i + col] = (0..n).map(|n| read[0][n * o + row] * read[1][n * i + col]).sum();
            }
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        let Dense { n, i, o } = self.0;
        write[0].par_chunks_mut(BLOCK * i).enumerate().for_each(|(block, out)| {
            let rows = out.len() / i;
            let grad = Mat::strided(&read[0][block * BLOCK..], n, rows, o).t();
            gemm(grad, Mat::new(read[1], n, i), out, i);
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        vec![self.0.tiled("grad_weight", [self.0.i.div_ceil(COLUMNS), self.0.o.div_ceil(TILE)])]
    }

    fn gpu_naive(&self) -> Vec<Dispatch> {
        vec![self.0.dispatch("grad_weight", self.0.o * self.0.i)]
    }

    fn flops(&self) -> u64 {
        self.0.operations()
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        once(self.name())
    }
}

#[derive(Debug)]
struct GradBias(Dense);

impl Op for GradBias {
    fn name(&self) -> &'static str {
        "dense.grad_bias"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect(self.name(), inputs, &[self.0.grad_output()])?;
        Ok(vec![[self.0.o].into()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        for (o, out) in write[0].iter_mut().enumerate() {
            *out = (0..self.0.n).map(|n| read[0][n * self.0.o + o]).sum();
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        for (o, out) in write[0].iter_mut().enumerate() {
            *out = (0..self.0.n).map(|n| read[0][n * self.0.o + o]).sum();
        }
    }

    fn gpu(&self) -> Vec<Dispatch> {
        vec![self.0.dispatch("grad_bias", self.0.o)]
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
        let op = Dense { n: 2, i: 3, o: 2 };
        let step = Step::new(1, 0, 0.0);
        let (x, w, b) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 0.0, 0.0, 1.0, 1.0, 1.0], [0.5, -1.0]);
        let mut y = [f32::NAN; 4];
        op.cpu(&[&x, &w, &b], &mut [&mut y], &step);
        assert_eq!(y, [1.5, 5.0, 4.5, 14.0]);
        let (mut y, mut penalty) = ([f32::NAN; 4], [f32::NAN]);
        let penalised = Penalised { dense: op.clone(), lambda: 0.5 };
        penalised.cpu(&[&x, &w.map(|w| -w), &b], &mut [&mut y, &mut penalty], &step);
        assert_eq!((y, penalty), ([-0.5, -7.0, -3.5, -16.0], [2.0]));
        let dy = [1.0, 2.0, 3.0, 4.0];
        let mut dx = [f32::NAN; 6];
        GradInput(op.clone()).cpu(&[&dy, &w], &mut [&mut dx], &step);
        assert_eq!(dx, [3.0, 2.0, 2.0, 7.0, 4.0, 4.0]);
        let mut dw = [f32::NAN; 6];
        GradWeight(op.clone()).cpu(&[&dy, &x], &mut [&mut dw], &step);
        assert_eq!(dw, [13.0, 17.0, 21.0, 18.0, 24.0, 30.0]);
        let mut db = [f32::NAN; 2];
        GradBias(op).cpu(&[&dy], &mut [&mut db], &step);
        assert_eq!(db, [4.0, 6.0]);
    }

    #[test]
    fn other_shapes_are_refused() {
        let mut tape = Tape::new();
        let (x, w, b) = (tape.input("x", [2, 3]), tape.param("w", [5, 4]).unwrap(), tape.param("b", [5]).unwrap());
        let error = dense(&mut tape, x, w, b).unwrap_err().to_string();
        assert_eq!(error, "dense: expected weight [5, 3], got [5, 4]");
    }
}

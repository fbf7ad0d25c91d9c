//! Dense layer: `y[n, o] = bias[o] + sum_i weight[o, i] x[n, i]`.
//!
//! # Shapes
//! `input [N, I]`, `weight [O, I]`, `bias [O]` to `[N, O]`.
//!
//! # Gradient
//! `grad_input = grad_output weight`, `grad_weight = grad_output^T input`, `grad_bias[o] = sum_n grad_output[n, o]`.
//!
//! # CPU
//! Three matrix products, each in blocks of rows: blocks run in parallel.

use rayon::prelude::*;

use super::common::{expect_shapes, no_second_gradient};
use super::matmul::{Mat, gemm};
use crate::dispatch::Dispatch;
use crate::error::{Error, Result};
use crate::shader;
use crate::tape::{Gradient, Op, Step, Tape, Var};
use crate::tensor::Shape;

/// Rows of a product that one task computes.
const BLOCK: usize = 16;

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
pub(crate) struct Dense {
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

    /// Multiplications and additions of the equation.
    pub fn operations(&self) -> u64 {
        2 * (self.n * self.i * self.o) as u64
    }
}

impl Op for Dense {
    fn name(&self) -> &'static str {
        "dense"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect_shapes(self.name(), inputs, &[self.input(), self.weight(), ("bias", [self.o].into())])?;
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
        let Dense { n, i, o } = *self;
        // Transposed, since N may be small: y^T [O, N] = weight [O, I] x^T [I, N], in blocks of outputs.
        let mut transposed = vec![0.0; o * n];
        transposed.par_chunks_mut(BLOCK * n).zip(read[1].par_chunks(BLOCK * i)).for_each(|(out, weight)| {
            gemm(Mat::new(weight, weight.len() / i, i), Mat::new(read[0], n, i).t(), out, n);
        });
        for (index, y) in write[0].iter_mut().enumerate() {
            *y = transposed[index % o * n + index / o] + read[2][index % o];
        }
    }

    fn gpu(&self) -> Vec<Dispatch> {
        vec![self.dispatch("forward", self.n * self.o)]
    }

    fn flops(&self) -> u64 {
        self.operations()
    }

    fn backward(&self, g: &mut Gradient) -> Result<()> {
        g.give(0, GradInput(self.clone()), &[g.grad_output(), g.input(1)])?;
        g.give(1, GradWeight(self.clone()), &[g.grad_output(), g.input(0)])?;
        g.give(2, GradBias(self.clone()), &[g.grad_output()])
    }
}

#[derive(Debug)]
pub(crate) struct GradInput(pub Dense);

impl Op for GradInput {
    fn name(&self) -> &'static str {
        "dense.grad_input"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect_shapes(self.name(), inputs, &[self.0.grad_output(), self.0.weight()])?;
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
        // Transposed like the output: grad_input^T [I, N] = weight^T [I, O] grad_output^T [O, N].
        let mut transposed = vec![0.0; i * n];
        transposed.par_chunks_mut(BLOCK * n).enumerate().for_each(|(block, out)| {
            let weight = Mat::strided(&read[1][block * BLOCK..], o, out.len() / n, i).t();
            gemm(weight, Mat::new(read[0], n, o).t(), out, n);
        });
        for (index, dx) in write[0].iter_mut().enumerate() {
            *dx = transposed[index % i * n + index / i];
        }
    }

    fn gpu(&self) -> Vec<Dispatch> {
        vec![self.0.dispatch("grad_input", self.0.n * self.0.i)]
    }

    fn flops(&self) -> u64 {
        self.0.operations()
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        no_second_gradient(self.name())
    }
}

#[derive(Debug)]
pub(crate) struct GradWeight(pub Dense);

impl Op for GradWeight {
    fn name(&self) -> &'static str {
        "dense.grad_weight"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect_shapes(self.name(), inputs, &[self.0.grad_output(), self.0.input()])?;
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
        vec![self.0.dispatch("grad_weight", self.0.o * self.0.i)]
    }

    fn flops(&self) -> u64 {
        self.0.operations()
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        no_second_gradient(self.name())
    }
}

#[derive(Debug)]
struct GradBias(Dense);

impl Op for GradBias {
    fn name(&self) -> &'static str {
        "dense.grad_bias"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect_shapes(self.name(), inputs, &[self.0.grad_output()])?;
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
        no_second_gradient(self.name())
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

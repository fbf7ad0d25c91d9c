//! Concatenation of two matrices along their second axis: `y[n] = (a[n], b[n])`. The merge of the two pipelines.
//!
//! # Shapes
//! `a [N, A]`, `b [N, B]` to `[N, A + B]`.
//!
//! # Gradient
//! The columns of `dL/dy` that belong to each.

use super::common::{expect_shapes, no_second_gradient};
use crate::dispatch::Dispatch;
use crate::error::{Error, Result};
use crate::shader;
use crate::tape::{Gradient, Op, Step, Tape, Var};
use crate::tensor::Shape;

/// Records the columns of `a`, then those of `b`.
///
/// # Errors
/// [`Error::Shape`] unless both are matrices with the same number of rows.
pub fn concat(tape: &mut Tape, a: Var, b: Var) -> Result<Var> {
    match (tape.shape(a).dims(), tape.shape(b).dims()) {
        (&[n, a_cols], &[m, b_cols]) if n == m => tape.one(Concat { n, a: a_cols, b: b_cols }, &[a, b]),
        (p, q) => Err(Error::shape("concat", format!("expected [N, A] and [N, B], got {p:?} and {q:?}"))),
    }
}

#[derive(Clone, Debug)]
struct Concat {
    n: usize,
    a: usize,
    b: usize,
}

impl Concat {
    fn output(&self) -> Shape {
        [self.n, self.a + self.b].into()
    }
}

impl Op for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect_shapes(self.name(), inputs, &[("a", [self.n, self.a].into()), ("b", [self.n, self.b].into())])?;
        Ok(vec![self.output()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        join(self, read[0], read[1], write[0]);
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        join(self, read[0], read[1], write[0]);
    }

    fn gpu(&self) -> Vec<Dispatch> {
        let constants = vec![("n", self.n as f64), ("a_cols", self.a as f64), ("b_cols", self.b as f64)];
        vec![Dispatch::linear(shader!("concat.wgsl"), "forward", constants, self.output().len())]
    }

    fn backward(&self, g: &mut Gradient) -> Result<()> {
        g.give(0, GradInput { concat: self.clone(), first: 0, cols: self.a }, &[g.grad_output()])?;
        g.give(1, GradInput { concat: self.clone(), first: self.a, cols: self.b }, &[g.grad_output()])
    }
}

fn join<T: Copy>(sizes: &Concat, a: &[T], b: &[T], y: &mut [T]) {
    for (n, row) in y.chunks_exact_mut(sizes.a + sizes.b).enumerate() {
        row[..sizes.a].copy_from_slice(&a[n * sizes.a..][..sizes.a]);
        row[sizes.a..].copy_from_slice(&b[n * sizes.b..][..sizes.b]);
    }
}

/// Columns `first .. first + cols` of the gradient.
#[derive(Debug)]
struct GradInput {
    concat: Concat,
    first: usize,
    cols: usize,
}

impl GradInput {
    fn cut<T: Copy>(&self, y: &[T], x: &mut [T]) {
        for (row, y) in x.chunks_exact_mut(self.cols).zip(y.chunks_exact(self.concat.a + self.concat.b)) {
            row.copy_from_slice(&y[self.first..][..self.cols]);
        }
    }
}

impl Op for GradInput {
    fn name(&self) -> &'static str {
        "concat.grad_input"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect_shapes(self.name(), inputs, &[("grad_output", self.concat.output())])?;
        Ok(vec![[self.concat.n, self.cols].into()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        self.cut(read[0], write[0]);
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        self.cut(read[0], write[0]);
    }

    fn gpu(&self) -> Vec<Dispatch> {
        let sizes = [self.concat.n, self.concat.a, self.concat.b, self.first, self.cols].map(|size| size as f64);
        let constants = ["n", "a_cols", "b_cols", "first", "cols"].into_iter().zip(sizes).collect();
        vec![Dispatch::linear(shader!("concat.wgsl"), "grad_input", constants, self.concat.n * self.cols)]
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
        let op = Concat { n: 2, a: 1, b: 2 };
        let step = Step::new(1, 0, 0.0);
        let mut y = [f32::NAN; 6];
        op.cpu(&[&[1.0, 2.0], &[3.0, 4.0, 5.0, 6.0]], &mut [&mut y], &step);
        assert_eq!(y, [1.0, 3.0, 4.0, 2.0, 5.0, 6.0]);
        let mut b = [f32::NAN; 4];
        GradInput { concat: op, first: 1, cols: 2 }.cpu(&[&y], &mut [&mut b], &step);
        assert_eq!(b, [3.0, 4.0, 5.0, 6.0]);
    }
}

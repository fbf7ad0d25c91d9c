//! Softmax and cross-entropy, averaged over a batch:
//! `p[n, k] = exp(z[n, k]) / sum_j exp(z[n, j])`, `loss = -(1/B) sum_n log p[n, label[n]]`.
//!
//! Rows with a negative label are masked. They add no loss and no gradient, and `B` does not count them. A short last
//! batch therefore uses the same program. Labels that the host writes are checked ([`Op::check_input`]); a computed label
//! that is no class masks its row, too. Exponents are taken relative to the row's largest logit.
//!
//! # Shapes
//! `logits [N, K]`, `labels [N]` (class numbers as f32) to `loss [1]`, `probabilities [N, K]`, `correct [1]`, the number
//! of rows whose largest logit (the first of equals) is the label's.
//!
//! # Gradient
//! `dL/dz[n, k] = (p[n, k] - [k = label[n]]) / B * dL/dloss`.

use super::common::{expect_shapes, no_second_gradient};
use crate::dispatch::Dispatch;
use crate::error::{Error, Result};
use crate::shader;
use crate::tape::{Gradient, Op, Step, Tape, Var};
use crate::tensor::Shape;

/// What [`softmax_cross_entropy`] records.
#[derive(Clone, Copy, Debug)]
pub struct Classification {
    /// Mean cross-entropy, `[1]`, in nats.
    pub loss: Var,
    /// Softmax of the logits, `[N, K]`, to be read: a loss that depends on it has no gradient.
    pub probabilities: Var,
    /// Number of rows classified correctly, `[1]`.
    pub correct: Var,
}

/// Records the loss of `logits` against `labels`.
///
/// # Errors
/// [`Error::Shape`] unless `logits` is `[N, K]` and `labels` `[N]`.
pub fn softmax_cross_entropy(tape: &mut Tape, logits: Var, labels: Var) -> Result<Classification> {
    let &[n, k] = tape.shape(logits).dims() else {
        return Err(Error::shape(
            "softmax_cross_entropy",
            format!("expected logits [N, K], got {}", tape.shape(logits)),
        ));
    };
    let written = tape.push(SoftmaxCrossEntropy { n, k }, &[logits, labels])?;
    Ok(Classification { loss: written[0], probabilities: written[1], correct: written[2] })
}

#[derive(Clone, Debug)]
struct SoftmaxCrossEntropy {
    n: usize,
    k: usize,
}

impl SoftmaxCrossEntropy {
    fn constants(&self) -> Vec<(&'static str, f64)> {
        vec![("n", self.n as f64), ("k", self.k as f64)]
    }

    /// The class that `label` names; none for a masked row.
    fn class(&self, label: f64) -> Option<usize> {
        (label >= 0.0 && label < self.k as f64).then_some(label as usize)
    }

    /// The number of rows that are not masked, 1 at least.
    fn rows<T: Copy + Into<f64>>(&self, labels: &[T]) -> f64 {
        labels.iter().filter(|&&label| self.class(label.into()).is_some()).count().max(1) as f64
    }
}

impl Op for SoftmaxCrossEntropy {
    fn name(&self) -> &'static str {
        "softmax_cross_entropy"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        let Self { n, k } = *self;
        expect_shapes(self.name(), inputs, &[("logits", [n, k].into()), ("labels", [n].into())])?;
        Ok(vec![[1].into(), [n, k].into(), [1].into()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        let rows = self.rows(read[1]);
        (write[0][0], write[2][0]) = (0.0, 0.0);
        for (n, z) in read[0].chunks_exact(self.k).enumerate() {
            let total: f64 = z.iter().map(|z| z.exp()).sum();
            for (p, z) in write[1][n * self.k..].iter_mut().zip(z) {
                *p = z.exp() / total;
            }
            if let Some(label) = self.class(read[1][n]) {
                write[0][0] -= (z[label].exp() / total).ln() / rows;
                let best = (0..self.k).rev().max_by(|&i, &j| z[i].total_cmp(&z[j])); // the last of equals in reverse
                write[2][0] += f64::from(best == Some(label));
            }
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        let [loss, probabilities, correct] = write else { unreachable!("three outputs") };
        let (mut sum, mut rows, mut hits) = (0.0f32, 0.0f32, 0.0f32);
        let rows_of = read[0].chunks_exact(self.k).zip(probabilities.chunks_exact_mut(self.k)).zip(read[1]);
        for ((z, p), &label) in rows_of {
            let mut best = 0;
            for (i, &value) in z.iter().enumerate() {
                best = if value > z[best] { i } else { best };
            }
            let mut total = 0.0;
            for (p, &z_k) in p.iter_mut().zip(z) {
                *p = (z_k - z[best]).exp();
                total += *p;
            }
            p.iter_mut().for_each(|p| *p /= total);
            if let Some(class) = self.class(label.into()) {
                sum += total.ln() + z[best] - z[class];
                rows += 1.0;
                hits += f32::from(best == class);
            }
        }
        loss[0] = sum / rows.max(1.0);
        correct[0] = hits;
    }

    fn check_input(&self, i: usize, data: &[f32]) -> Result<()> {
        let wrong = |label: f32| !(label < self.k as f32 && label.trunc() == label);
        match data.iter().enumerate().find(|&(_, &label)| i == 1 && wrong(label)) {
            Some((row, label)) => {
                let message = format!("row {row} has label {label}, but there are {} classes", self.k);
                Err(Error::shape(self.name(), format!("{message}; expected 0 to {}, or a negative one", self.k - 1)))
            }
            None => Ok(()),
        }
    }

    fn gpu(&self) -> Vec<Dispatch> {
        vec![Dispatch::single(shader!("softmax_cross_entropy.wgsl"), "forward", self.constants())]
    }

    fn backward(&self, g: &mut Gradient) -> Result<()> {
        g.give(0, GradLogits(self.clone()), &[g.output(1), g.input(1), g.grad_output()])
    }
}

#[derive(Debug)]
struct GradLogits(SoftmaxCrossEntropy);

impl Op for GradLogits {
    fn name(&self) -> &'static str {
        "softmax_cross_entropy.grad_logits"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        let SoftmaxCrossEntropy { n, k } = self.0;
        let expected = [("probabilities", [n, k].into()), ("labels", [n].into()), ("grad_output", [1].into())];
        expect_shapes(self.name(), inputs, &expected)?;
        Ok(vec![[n, k].into()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        let rows = self.0.rows(read[1]);
        for (i, dz) in write[0].iter_mut().enumerate() {
            let label = self.0.class(read[1][i / self.0.k]);
            let one = if label == Some(i % self.0.k) { 1.0 } else { 0.0 };
            *dz = if label.is_none() { 0.0 } else { (read[0][i] - one) / rows * read[2][0] };
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        let scale = read[2][0] / self.0.rows(read[1]) as f32;
        for (i, dz) in write[0].iter_mut().enumerate() {
            let label = self.0.class(read[1][i / self.0.k].into());
            let one = if label == Some(i % self.0.k) { 1.0 } else { 0.0 };
            *dz = if label.is_none() { 0.0 } else { (read[0][i] - one) * scale };
        }
    }

    fn gpu(&self) -> Vec<Dispatch> {
        let len = self.0.n * self.0.k;
        vec![Dispatch::linear(shader!("softmax_cross_entropy.wgsl"), "grad_logits", self.0.constants(), len)]
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
        // Row 0: logits (0, ln 3), probabilities (1/4, 3/4), label 0: loss ln 4. Row 1 is masked. Row 2: two equal
        // logits, label 0: loss ln 2, and the first of equals counts as the prediction.
        let op = SoftmaxCrossEntropy { n: 3, k: 2 };
        let step = Step::new(1, 0, 0.0);
        let (z, labels) = ([0.0, 3f32.ln(), 7.0, 1.0, 2.0, 2.0], [0.0, -1.0, 0.0]);
        let (mut loss, mut p, mut correct) = ([f32::NAN], [f32::NAN; 6], [f32::NAN]);
        op.cpu(&[&z, &labels], &mut [&mut loss, &mut p, &mut correct], &step);
        assert!((loss[0] - (4f32.ln() + 2f32.ln()) / 2.0).abs() < 1e-6);
        assert!((p[0] - 0.25).abs() < 1e-6 && (p[5] - 0.5).abs() < 1e-6);
        assert_eq!(correct, [1.0]);
        let mut dz = [f32::NAN; 6];
        GradLogits(op).cpu(&[&p, &labels, &[2.0]], &mut [&mut dz], &step);
        for (got, expected) in dz.iter().zip([-0.75, 0.75, 0.0, 0.0, -0.5, 0.5]) {
            assert!((got - expected).abs() < 1e-6, "{dz:?}");
        }
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let op = SoftmaxCrossEntropy { n: 1, k: 2 };
        let (mut loss, mut p, mut correct) = ([f32::NAN], [f32::NAN; 2], [f32::NAN]);
        let step = Step::new(1, 0, 0.0);
        op.cpu(&[&[1000.0, 0.0], &[1.0]], &mut [&mut loss, &mut p, &mut correct], &step);
        assert_eq!((loss[0], p[0], correct[0]), (1000.0, 1.0, 0.0));
    }
}

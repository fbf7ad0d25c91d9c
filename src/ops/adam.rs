//! Adam, in place. With `g` the gradient and `t` the step number:
//!
//! ```text
//! m = beta1 m + (1 - beta1) g
//! v = beta2 v + (1 - beta2) g^2
//! parameter -= learning_rate (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
//! ```
//!
//! [`run::fuse`](crate::run::fuse) puts the gradient of an L1 penalty, `g + lambda sign(parameter) dL/dpenalty`, and
//! where it can the whole gradient of a dense layer's weight ([`super::dense_update`]) into the same pass.
//!
//! # Source
//! Kingma and Ba 2015, algorithm 1 (epsilon outside the corrected root, as in PyTorch).

use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::add::Add;
use super::kernels::{self, Kernel, LANES, Plain, Vector};
use super::l1_penalty::{self, L1};
use super::{CHUNK, dense_update, expect};
use crate::error::Result;
use crate::shader;
use crate::tape::{Bind, Dispatch, Fusion, Gradient, Neighbours, Node, Op, Step, Tape, Var};
use crate::tensor::Shape;

/// Adam's constants, stated here and nowhere else; the learning rate comes with each [`Step`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adam {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

impl Adam {
    /// One update of one number in f64; `g` is its gradient.
    pub(super) fn reference(&self, param: &mut f64, m: &mut f64, v: &mut f64, g: f64, step: &Step) {
        let Adam { beta1, beta2, epsilon } = *self;
        let t = f64::from(step.step);
        let (correction1, correction2) = (1.0 - beta1.powf(t), 1.0 - beta2.powf(t));
        *m = beta1 * *m + (1.0 - beta1) * g;
        *v = beta2 * *v + (1.0 - beta2) * g * g;
        *param -= f64::from(step.learning_rate) * (*m / correction1) / ((*v / correction2).sqrt() + epsilon);
    }

    /// The constants of `adam.wgsl`, except the sizes.
    pub(super) fn constants(&self) -> Vec<(&'static str, f64)> {
        // A shader's constants are finite; `1 - beta^t` is 1 for this beta as for 0.
        let log = |beta: f64| beta.max(1e-30).ln();
        vec![
            ("log_beta1", log(self.beta1)),
            ("log_beta2", log(self.beta2)),
            ("beta1", self.beta1),
            ("beta2", self.beta2),
            ("rest1", 1.0 - self.beta1),
            ("rest2", 1.0 - self.beta2),
            ("epsilon", self.epsilon),
        ]
    }

    /// What the CPU kernels need in a step.
    pub(super) fn rates(&self, step: &Step) -> Rates {
        // In f64: in f32 the difference loses four digits.
        let correction = |beta: f64| (1.0 - beta.powf(f64::from(step.step))) as f32;
        Rates {
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            rest1: (1.0 - self.beta1) as f32,
            rest2: (1.0 - self.beta2) as f32,
            epsilon: self.epsilon as f32,
            rate: step.learning_rate / correction(self.beta1),
            scale: 1.0 / correction(self.beta2).sqrt(),
        }
    }
}

/// Adam's constants in one step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    beta1: f32,
    beta2: f32,
    rest1: f32,
    rest2: f32,
    epsilon: f32,
    rate: f32,
    scale: f32,
}

impl Rates {
    /// Updates the first numbers of the three arrays, whose gradient is `grad + penalty sign(param)`.
    #[inline(always)]
    pub fn update<V: Vector>(&self, param: &mut [f32], m: &mut [f32], v: &mut [f32], grad: V, penalty: V) {
        let old = V::load(param);
        let grad = grad.add(old.signs(penalty));
        let m1 = V::splat(self.rest1).mul_add(grad, V::splat(self.beta1).mul(V::load(m)));
        let v1 = V::splat(self.rest2).mul(grad).mul_add(grad, V::splat(self.beta2).mul(V::load(v)));
        let root = v1.sqrt().mul_add(V::splat(self.scale), V::splat(self.epsilon));
        m1.store(m);
        v1.store(v);
        old.sub(V::splat(self.rate).mul(m1).div(root)).store(param);
    }
}

/// The update of a piece of an array, as [`Rates::update`].
pub(super) struct Piece<'a, F: Fn(usize)> {
    pub param: &'a mut [f32],
    pub m: &'a mut [f32],
    pub v: &'a mut [f32],
    pub grad: &'a [f32],
    pub penalty: f32,
    pub rates: Rates,
    /// Called for every line of the cache, with its place in the piece: asks for what comes later.
    pub ahead: F,
}

impl<F: Fn(usize)> Kernel for Piece<'_, F> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Piece { param, m, v, grad, penalty, rates, ahead } = self;
        let whole = grad.len() - grad.len() % V::LANES;
        let mut i = 0;
        while i < whole {
            if i.is_multiple_of(LANES) {
                ahead(i);
            }
            rates.update(&mut param[i..], &mut m[i..], &mut v[i..], V::load(&grad[i..]), V::splat(penalty));
            i += V::LANES;
        }
        for i in whole..grad.len() {
            let grad = Plain::<1>::load(&grad[i..]);
            rates.update(&mut param[i..], &mut m[i..], &mut v[i..], grad, Plain::splat(penalty));
        }
    }
}

/// Records one Adam update of every (parameter, gradient) pair; the moments are new states.
///
/// # Errors
/// [`crate::error::Error::Shape`] if a gradient's shape is not its parameter's, or if a parameter has moments already.
pub fn adam(tape: &mut Tape, settings: Adam, grads: &[(Var, Var)]) -> Result<()> {
    for &(param, grad) in grads {
        let (shape, name) = (tape.shape(param).clone(), tape.values()[param.index()].name.clone());
        let m = tape.state(&format!("{name}.m"), shape.clone())?;
        let v = tape.state(&format!("{name}.v"), shape.clone())?;
        tape.update(Update { shape, settings, lambda: None }, &[grad], &[param, m, v])?;
    }
    Ok(())
}

/// Adam on the gradient, or, where fused with the L1 penalty's, on `grad + lambda sign(parameter) grad_penalty`.
#[derive(Clone, Debug)]
struct Update {
    shape: Shape,
    settings: Adam,
    /// The weight of the L1 penalty, if there is one.
    lambda: Option<f64>,
}

impl Update {
    fn constants(&self) -> Vec<(&'static str, f64)> {
        let mut constants = self.settings.constants();
        constants.push(("len", self.shape.len() as f64));
        constants
    }
}

/// Where a parameter's gradient comes from: the node that Adam reads, and the L1 penalty that was added to it.
#[derive(Debug)]
pub(super) struct Origin {
    /// The gradient without the penalty's.
    pub grad: Var,
    /// The penalty's gradient: the node that computes it, the node that adds it.
    pub l1: Option<(usize, usize)>,
}

/// Follows the gradient that node `adam` reads back over the addition of an L1 penalty of the same parameter, if there
/// is one and nobody else reads what goes.
fn origin(around: &Neighbours, adam: usize) -> Origin {
    let node = around.node(adam);
    let (grad, param) = (node.reads[0], node.writes[0]);
    let penalised = || {
        let add = around.writer(grad)?;
        around.op::<Add>(add)?;
        let terms = &around.node(add).reads;
        for (term, other) in [(terms[0], terms[1]), (terms[1], terms[0])] {
            let Some(l1) = around.writer(term) else { continue };
            let own = around.op::<l1_penalty::GradInput>(l1).is_some() && around.node(l1).reads[0] == param;
            if own && around.readers(term) == [add] && around.readers(grad) == [adam] && other != term {
                return Some(Origin { grad: other, l1: Some((l1, add)) });
            }
        }
        None
    };
    penalised().unwrap_or(Origin { grad, l1: None })
}

impl Op for Update {
    fn name(&self) -> &'static str {
        if self.lambda.is_some() { "adam.penalised" } else { "adam" }
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        let mut expected = vec![("grad", self.shape.clone())];
        if self.lambda.is_some() {
            expected.push(("grad_penalty", [1].into()));
        }
        expect(self.name(), inputs, &expected)?;
        Ok(vec![self.shape.clone(); 3])
    }

    fn in_place(&self) -> bool {
        true
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], step: &Step) {
        let [param, m, v] = write else { unreachable!("adam updates three arrays") };
        let penalty = self.lambda.map_or(0.0, |lambda| lambda * read[1][0]);
        for (i, &g) in read[0].iter().enumerate() {
            let g = g + l1_penalty::slope(penalty, param[i]);
            self.settings.reference(&mut param[i], &mut m[i], &mut v[i], g, step);
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], step: &Step) {
        let [param, m, v] = write else { unreachable!("adam updates three arrays") };
        let rates = self.settings.rates(step);
        let penalty = self.lambda.map_or(0.0, |lambda| lambda as f32 * read[1][0]);
        let chunks = param.par_chunks_mut(CHUNK).zip(m.par_chunks_mut(CHUNK)).zip(v.par_chunks_mut(CHUNK));
        chunks.zip(read[0].par_chunks(CHUNK)).for_each(|(((param, m), v), grad)| {
            kernels::run(Piece { param, m, v, grad, penalty, rates, ahead: |_| () });
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        let (mut constants, len) = (self.constants(), self.shape.len());
        let Some(lambda) = self.lambda else {
            return vec![Dispatch::linear(shader!("adam.wgsl"), "update", constants, len)];
        };
        constants.push(("lambda", lambda));
        let update = Dispatch::linear(shader!("adam.wgsl"), "update_penalised", constants, len);
        vec![update.binding([Bind::Read(0), Bind::Write(0), Bind::Write(1), Bind::Write(2), Bind::Read(1)])]
    }

    fn elementwise(&self) -> bool {
        true
    }

    fn fuse(&self, around: &Neighbours) -> Option<Fusion> {
        if self.lambda.is_some() {
            return None; // it has its penalty, and takes no second one
        }
        let origin = origin(around, around.number);
        dense_update::fuse(around, self.settings, &origin).or_else(|| {
            let (l1, add) = origin.l1?;
            let L1 { lambda, grad } = l1_penalty::gradient(around, l1)?;
            // What is read later than before must still be the same: it was written before, and is written once.
            if [origin.grad, grad].into_iter().any(|var| around.writer(var).is_some_and(|writer| writer > add)) {
                return None;
            }
            let op = Update { lambda: Some(lambda), ..self.clone() };
            let writes = around.node(around.number).writes.clone();
            let node = Node { op: Arc::new(op), reads: vec![origin.grad, grad], writes };
            Some(Fusion { removed: vec![l1, add, around.number], added: vec![(around.number, node)] })
        })
    }

    fn backward(&self, g: &mut Gradient) -> Result<()> {
        g.stop(); // the gradient of an updated parameter does not pass to the gradient that updated it
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_is_the_learning_rate_against_the_gradient() {
        let op = Update { shape: [3].into(), settings: Adam::default(), lambda: None };
        let (mut param, mut m, mut v) = ([1.0f32; 3], [0.0f32; 3], [0.0f32; 3]);
        let step = Step::new(1, 0, 0.1);
        op.cpu(&[&[5.0, -0.01, 0.0]], &mut [&mut param, &mut m, &mut v], &step);
        for (got, expected) in param.iter().zip([0.9, 1.1, 1.0]) {
            assert!((got - expected).abs() < 1e-6, "{param:?}");
        }
        // Second step by hand for element 0 with gradient 1: m = 0.55, v = 0.025975, corrections 0.19 and 0.001999.
        op.cpu(&[&[1.0, 0.0, 0.0]], &mut [&mut param, &mut m, &mut v], &Step::new(2, 0, 0.1));
        let expected = 0.9 - 0.1 * (0.55 / 0.19) / (0.025_975f64 / 0.001_999).sqrt();
        assert!((f64::from(param[0]) - expected).abs() < 1e-6, "{} {expected}", param[0]);
    }

    #[test]
    fn a_penalty_pulls_towards_zero() {
        // Gradient 1 and penalty 0.5 * 4 = 2 on either side of zero: 3, -1 and, at zero, 1.
        let op = Update { shape: [3].into(), settings: Adam::default(), lambda: Some(0.5) };
        let (mut param, mut m, mut v) = ([1.0f32, -1.0, 0.0], [0.0f32; 3], [0.0f32; 3]);
        op.cpu(&[&[1.0; 3], &[4.0]], &mut [&mut param, &mut m, &mut v], &Step::new(1, 0, 0.1));
        for (got, expected) in param.iter().zip([0.9, -0.9, -0.1]).chain(m.iter().zip([0.3, -0.1, 0.1])) {
            assert!((got - expected).abs() < 1e-6, "{param:?} {m:?}");
        }
        for (got, expected) in v.iter().zip([0.009, 0.001, 0.001]) {
            assert!((got - expected).abs() < 1e-8, "{v:?}");
        }
    }
}

//! Adam in vector registers, with or without the gradient of an L1 penalty added on the way:
//!
//! ```text
//! g = grad + lambda sign(parameter) grad_penalty
//! m, v, parameter: as [`mod@crate::ops::adam`] updates them with g
//! ```

use std::sync::Arc;

use rayon::prelude::*;

use super::simd::{self, Kernel, LANES, PortableVector, Vector};
use super::view::View;
use crate::dispatch::Dispatch;
use crate::error::Result;
use crate::ops::adam::{Adam, Update};
use crate::ops::add::Add;
use crate::ops::common::{ELEMENTS_PER_TASK, expect_shapes};
use crate::ops::l1_penalty::{self, GradInput};
use crate::shader;
use crate::tape::{Gradient, Node, Op, Rewrite, Step, Var};
use crate::tensor::Shape;

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
    /// The constants of `settings` in `step`.
    pub fn new(settings: &Adam, step: &Step) -> Self {
        let Adam { beta1, beta2, epsilon } = *settings;
        // In f64: in f32 the difference loses four digits.
        let correction = |beta: f64| (1.0 - beta.powf(f64::from(step.step))) as f32;
        Rates {
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            rest1: (1.0 - beta1) as f32,
            rest2: (1.0 - beta2) as f32,
            epsilon: epsilon as f32,
            rate: step.learning_rate / correction(beta1),
            scale: 1.0 / correction(beta2).sqrt(),
        }
    }

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
    /// Called for every cache line with its index in the piece, to prefetch later elements.
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
            let grad = PortableVector::<1>::load(&grad[i..]);
            rates.update(&mut param[i..], &mut m[i..], &mut v[i..], grad, PortableVector::splat(penalty));
        }
    }
}

/// The gradient of an L1 penalty: `lambda sign(x) grad`.
#[derive(Debug)]
pub(super) struct PenaltyGradient {
    pub lambda: f64,
    /// The gradient of the loss with respect to the penalty, `[1]`.
    pub grad: Var,
}

/// What node `number` computes, if it is the gradient of an L1 penalty.
pub(super) fn penalty_gradient(view: &View, number: usize) -> Option<PenaltyGradient> {
    let op = view.op::<GradInput>(number)?;
    Some(PenaltyGradient { lambda: op.0.lambda, grad: view.node(number).reads[1] })
}

/// Where a parameter's gradient comes from: the node that Adam reads, and the L1 penalty that was added to it.
#[derive(Debug)]
pub(super) struct Origin {
    /// The gradient without the penalty's.
    pub grad: Var,
    /// The penalty's gradient: the node that computes it, the node that adds it.
    pub l1: Option<(usize, usize)>,
}

/// Follows the gradient that node `adam` reads back over the addition of the gradient of an L1 penalty of the same
/// parameter, if there is such an addition and no other node reads its terms.
pub(super) fn origin(view: &View, adam: usize) -> Origin {
    let node = view.node(adam);
    let (grad, param) = (node.reads[0], node.writes[0]);
    let penalised = || {
        let add = view.writer(grad)?;
        view.op::<Add>(add)?;
        let terms = &view.node(add).reads;
        for (term, other) in [(terms[0], terms[1]), (terms[1], terms[0])] {
            let Some(l1) = view.writer(term) else { continue };
            let own = view.op::<GradInput>(l1).is_some() && view.node(l1).reads[0] == param;
            if own && view.readers(term) == [add] && view.readers(grad) == [adam] && other != term {
                return Some(Origin { grad: other, l1: Some((l1, add)) });
            }
        }
        None
    };
    penalised().unwrap_or(Origin { grad, l1: None })
}

/// Replaces an Adam node, and the addition of an L1 penalty's gradient before it.
pub(super) fn rewrite(view: &View, number: usize) -> Option<Rewrite> {
    let (update, node) = (view.op::<Update>(number)?.clone(), view.node(number));
    let origin = origin(view, number);
    let penalty = origin.l1.and_then(|(l1, add)| {
        let penalty = penalty_gradient(view, l1)?;
        // Both are read later than before, and must not change in between: they are written before, and once.
        let is_late = |var| view.writer(var).is_some_and(|writer| writer > add);
        let late = [origin.grad, penalty.grad].into_iter().any(is_late);
        (!late).then_some((penalty, [l1, add]))
    });
    let (reads, lambda, mut removed) = match penalty {
        Some((penalty, between)) => (vec![origin.grad, penalty.grad], Some(penalty.lambda), between.to_vec()),
        None => (node.reads.clone(), None, Vec::new()),
    };
    removed.push(number);
    let node = Node::new(Arc::new(VectorUpdate { update, lambda }), reads, node.writes.clone());
    Some(Rewrite { removed, added: vec![(number, node)] })
}

/// Adam on `grad`, or with a penalty on `grad + lambda sign(parameter) grad_penalty`.
#[derive(Clone, Debug)]
struct VectorUpdate {
    update: Update,
    /// The weight of the L1 penalty, if there is one.
    lambda: Option<f64>,
}

impl Op for VectorUpdate {
    fn name(&self) -> &'static str {
        if self.lambda.is_some() { "adam.penalised" } else { "adam.vector" }
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        let shape = &self.update.shape;
        let mut expected = vec![("grad", shape.clone())];
        expected.extend(self.lambda.map(|_| ("grad_penalty", [1].into())));
        expect_shapes(self.name(), inputs, &expected)?;
        Ok(vec![shape.clone(); 3])
    }

    fn in_place(&self) -> bool {
        true
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], step: &Step) {
        let penalty = self.lambda.map_or(0.0, |lambda| lambda * read[1][0]);
        let grad: Vec<f64> = read[0].iter().zip(&*write[0]).map(|(g, &x)| g + l1_penalty::slope(penalty, x)).collect();
        self.update.reference(&[&grad], write, step);
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], step: &Step) {
        let [param, m, v] = write else { unreachable!("adam updates three arrays") };
        let rates = Rates::new(&self.update.settings, step);
        let penalty = self.lambda.map_or(0.0, |lambda| lambda as f32 * read[1][0]);
        let chunks = param
            .par_chunks_mut(ELEMENTS_PER_TASK)
            .zip(m.par_chunks_mut(ELEMENTS_PER_TASK))
            .zip(v.par_chunks_mut(ELEMENTS_PER_TASK));
        chunks.zip(read[0].par_chunks(ELEMENTS_PER_TASK)).for_each(|(((param, m), v), grad)| {
            simd::run(Piece { param, m, v, grad, penalty, rates, ahead: |_| () });
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        let Some(lambda) = self.lambda else { return self.update.gpu() };
        let mut constants = self.update.constants();
        constants.push(("lambda", lambda));
        vec![Dispatch::linear(shader!("fast/adam.wgsl"), "penalised", constants, self.update.shape.len())]
    }

    fn elementwise(&self) -> bool {
        true
    }

    fn backward(&self, g: &mut Gradient) -> Result<()> {
        g.stop(); // as in the textbook: a gradient ends at the parameter
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_penalty_pulls_towards_zero() {
        // Gradient 1 and penalty 0.5 * 4 = 2 on either side of zero: 3, -1 and, at zero, 1.
        let update = Update { shape: [3].into(), settings: Adam::default() };
        let op = VectorUpdate { update, lambda: Some(0.5) };
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

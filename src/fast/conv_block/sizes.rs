//! What a block computes: its convolution, its activation, its pool.

use crate::fast::simd::Vector;
use crate::fast::tiles::Constants;
use crate::fast::view::View;
use crate::ops::conv2d::Conv2d;
use crate::ops::leaky_relu::{self, LeakyRelu};
use crate::ops::max_pool2d::MaxPool2d;
use crate::ops::tanh::{self, Tanh};

/// A convolution, the activation of its output, and the pool behind it.
#[derive(Clone, Debug)]
pub struct BlockSizes {
    pub conv: Conv2d,
    pub activation: MonotoneActivation,
    pub pool: MaxPool2d,
}

impl BlockSizes {
    /// Elements of a pooled plane.
    pub fn windows(&self) -> usize {
        self.pool.out().0 * self.pool.out().1
    }
}

/// A monotone activation whose derivative is a function of its output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MonotoneActivation {
    LeakyRelu(f32),
    Tanh,
}

impl MonotoneActivation {
    /// The activation that node `number` is, if it is one.
    pub fn of(view: &View, number: usize) -> Option<Self> {
        match view.op::<LeakyRelu>(number) {
            Some(op) => (op.slope >= 0.0).then_some(MonotoneActivation::LeakyRelu(op.slope)),
            None => view.op::<Tanh>(number).map(|_| MonotoneActivation::Tanh),
        }
    }

    /// True if node `number` is the gradient of such an activation.
    pub fn has_gradient(self, view: &View, number: usize) -> bool {
        match self {
            MonotoneActivation::LeakyRelu(_) => view.op::<leaky_relu::GradInput>(number).is_some(),
            MonotoneActivation::Tanh => view.op::<tanh::GradInput>(number).is_some(),
        }
    }

    /// The derivative where the activation is `y`.
    #[inline(always)]
    pub fn slope(self, y: f32) -> f32 {
        match self {
            MonotoneActivation::LeakyRelu(_) if y > 0.0 => 1.0,
            MonotoneActivation::LeakyRelu(slope) => slope,
            MonotoneActivation::Tanh => 1.0 - y * y,
        }
    }

    /// What tells shaders which one it is.
    pub fn constants(self) -> Constants {
        let (saturating, slope) = match self {
            MonotoneActivation::LeakyRelu(slope) => (0.0, f64::from(slope)),
            MonotoneActivation::Tanh => (1.0, 0.0),
        };
        vec![("saturating", saturating), ("slope", slope)]
    }

    pub fn apply_f64(self, x: f64) -> f64 {
        match self {
            MonotoneActivation::LeakyRelu(_) if x > 0.0 => x,
            MonotoneActivation::LeakyRelu(slope) => f64::from(slope) * x,
            MonotoneActivation::Tanh => x.tanh(),
        }
    }

    pub fn slope_f64(self, y: f64) -> f64 {
        match self {
            MonotoneActivation::LeakyRelu(_) if y > 0.0 => 1.0,
            MonotoneActivation::LeakyRelu(slope) => f64::from(slope),
            MonotoneActivation::Tanh => 1.0 - y * y,
        }
    }
}

impl MonotoneActivation {
    /// `grad` times the derivative where the activation is `y`.
    #[inline(always)]
    pub fn times_slope<V: Vector>(self, grad: V, y: V) -> V {
        match self {
            MonotoneActivation::LeakyRelu(slope) => {
                grad.mul(y.if_greater(V::splat(0.0), V::splat(1.0), V::splat(slope)))
            }
            MonotoneActivation::Tanh => grad.mul(y.mul_sub_from(y, V::splat(1.0))),
        }
    }
}

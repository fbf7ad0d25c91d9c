//! Adam, in place. With `g` the gradient and `t` the step number:
//!
//! ```text
//! m = beta1 m + (1 - beta1) g
//! v = beta2 v + (1 - beta2) g^2
//! parameter -= learning_rate (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
//! ```
//!
//! # Source
//! Kingma and Ba 2015, algorithm 1 (epsilon outside the corrected root, as in PyTorch).

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::common::{ELEMENTS_PER_TASK, expect_shapes};
use crate::dispatch::Dispatch;
use crate::error::Result;
use crate::shader;
use crate::tape::{Gradient, Op, Step, Tape, Var};
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
    pub(crate) fn reference(&self, param: &mut f64, m: &mut f64, v: &mut f64, g: f64, step: &Step) {
        let Adam { beta1, beta2, epsilon } = *self;
        let t = f64::from(step.step);
        let (correction1, correction2) = (1.0 - beta1.powf(t), 1.0 - beta2.powf(t));
        *m = beta1 * *m + (1.0 - beta1) * g;
        *v = beta2 * *v + (1.0 - beta2) * g * g;
        *param -= f64::from(step.learning_rate) * (*m / correction1) / ((*v / correction2).sqrt() + epsilon);
    }

    /// The constants of `adam.wgsl` except the sizes.
    pub(crate) fn constants(&self) -> Vec<(&'static str, f64)> {
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
        tape.update(Update { shape, settings }, &[grad], &[param, m, v])?;
    }
    Ok(())
}

/// The update of one parameter.
#[derive(Clone, Debug)]
pub(crate) struct Update {
    pub shape: Shape,
    pub settings: Adam,
}

impl Update {
    pub fn constants(&self) -> Vec<(&'static str, f64)> {
        let mut constants = self.settings.constants();
        constants.push(("len", self.shape.len() as f64));
        constants
    }
}

impl Op for Update {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect_shapes(self.name(), inputs, &[("grad", self.shape.clone())])?;
        Ok(vec![self.shape.clone(); 3])
    }

    fn in_place(&self) -> bool {
        true
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], step: &Step) {
        let [param, m, v] = write else { unreachable!("adam updates three arrays") };
        for (i, &g) in read[0].iter().enumerate() {
            self.settings.reference(&mut param[i], &mut m[i], &mut v[i], g, step);
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], step: &Step) {
        let [param, m, v] = write else { unreachable!("adam updates three arrays") };
        let Adam { beta1, beta2, epsilon } = self.settings;
        let (rest1, rest2) = ((1.0 - beta1) as f32, (1.0 - beta2) as f32);
        // In f64: in f32 the difference loses four digits.
        let correction = |beta: f64| (1.0 - beta.powf(f64::from(step.step))) as f32;
        let (correction1, correction2) = (correction(beta1), correction(beta2));
        let (beta1, beta2, epsilon) = (beta1 as f32, beta2 as f32, epsilon as f32);
        let chunks = param
            .par_chunks_mut(ELEMENTS_PER_TASK)
            .zip(m.par_chunks_mut(ELEMENTS_PER_TASK))
            .zip(v.par_chunks_mut(ELEMENTS_PER_TASK));
        chunks.zip(read[0].par_chunks(ELEMENTS_PER_TASK)).for_each(|(((param, m), v), grad)| {
            for (((param, m), v), &g) in param.iter_mut().zip(m).zip(v).zip(grad) {
                *m = beta1 * *m + rest1 * g;
                *v = beta2 * *v + rest2 * g * g;
                *param -= step.learning_rate * (*m / correction1) / ((*v / correction2).sqrt() + epsilon);
            }
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        vec![Dispatch::linear(shader!("adam.wgsl"), "update", self.constants(), self.shape.len())]
    }

    fn elementwise(&self) -> bool {
        true
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
        let op = Update { shape: [3].into(), settings: Adam::default() };
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
}

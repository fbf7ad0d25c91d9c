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

use super::{CHUNK, expect};
use crate::error::Result;
use crate::shader;
use crate::tape::{Dispatch, Gradient, Op, Step, Tape, Var};
use crate::tensor::Shape;

/// Adam's constants; the learning rate comes with each [`Step`].
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

/// Records one Adam update of every (parameter, gradient) pair; the moments are new states.
///
/// # Errors
/// [`crate::error::Error::Shape`] if a gradient's shape is not its parameter's.
pub fn adam(tape: &mut Tape, settings: Adam, grads: &[(Var, Var)]) -> Result<()> {
    for &(param, grad) in grads {
        let (shape, name) = (tape.shape(param).clone(), tape.values()[param.index()].name.clone());
        let m = tape.state(&format!("{name}.m"), shape.clone());
        let v = tape.state(&format!("{name}.v"), shape.clone());
        tape.update(Update { shape, settings }, &[grad], &[param, m, v])?;
    }
    Ok(())
}

#[derive(Debug)]
struct Update {
    shape: Shape,
    settings: Adam,
}

impl Op for Update {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        expect(self.name(), inputs, &[("grad", self.shape.clone())])?;
        Ok(vec![self.shape.clone(); 3])
    }

    fn in_place(&self) -> bool {
        true
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], step: &Step) {
        let Adam { beta1, beta2, epsilon } = self.settings;
        let t = f64::from(step.step);
        let (correction1, correction2) = (1.0 - beta1.powf(t), 1.0 - beta2.powf(t));
        for (i, g) in read[0].iter().enumerate() {
            write[1][i] = beta1 * write[1][i] + (1.0 - beta1) * g;
            write[2][i] = beta2 * write[2][i] + (1.0 - beta2) * g * g;
            let (m, v) = (write[1][i] / correction1, write[2][i] / correction2);
            write[0][i] -= f64::from(step.learning_rate) * m / (v.sqrt() + epsilon);
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], step: &Step) {
        let [param, m, v] = write else { unreachable!("adam updates three arrays") };
        let (beta1, beta2) = (self.settings.beta1 as f32, self.settings.beta2 as f32);
        let (rest1, rest2) = ((1.0 - self.settings.beta1) as f32, (1.0 - self.settings.beta2) as f32);
        let epsilon = self.settings.epsilon as f32;
        let rate = step.learning_rate / step.correction1;
        let scale = 1.0 / step.correction2.sqrt();
        let chunks = param.par_chunks_mut(CHUNK).zip(m.par_chunks_mut(CHUNK)).zip(v.par_chunks_mut(CHUNK));
        chunks.zip(read[0].par_chunks(CHUNK)).for_each(|(((param, m), v), grad)| {
            for (((param, m), v), &g) in param.iter_mut().zip(m).zip(v).zip(grad) {
                *m = beta1 * *m + rest1 * g;
                *v = beta2 * *v + rest2 * g * g;
                *param -= rate * *m / (v.sqrt() * scale + epsilon);
            }
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        let len = self.shape.len();
        let constants = vec![
            ("len", len as f64),
            ("beta1", self.settings.beta1),
            ("beta2", self.settings.beta2),
            ("rest1", 1.0 - self.settings.beta1),
            ("rest2", 1.0 - self.settings.beta2),
            ("epsilon", self.settings.epsilon),
        ];
        vec![Dispatch::linear(shader!("adam.wgsl"), "update", constants, len)]
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        Ok(()) // it comes after the loss
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_is_the_learning_rate_against_the_gradient() {
        let op = Update { shape: [3].into(), settings: Adam::default() };
        let (mut param, mut m, mut v) = ([1.0f32; 3], [0.0f32; 3], [0.0f32; 3]);
        let step = Step::new(1, 0, 0.1, (0.9, 0.999));
        op.cpu(&[&[5.0, -0.01, 0.0]], &mut [&mut param, &mut m, &mut v], &step);
        for (got, expected) in param.iter().zip([0.9, 1.1, 1.0]) {
            assert!((got - expected).abs() < 1e-6, "{param:?}");
        }
        // Second step by hand for element 0 with gradient 1: m = 0.55, v = 0.025975, corrections 0.19 and 0.001999.
        op.cpu(&[&[1.0, 0.0, 0.0]], &mut [&mut param, &mut m, &mut v], &Step::new(2, 0, 0.1, (0.9, 0.999)));
        let expected = 0.9 - 0.1 * (0.55 / 0.19) / (0.025_975f64 / 0.001_999).sqrt();
        assert!((f64::from(param[0]) - expected).abs() < 1e-6, "{} {expected}", param[0]);
    }
}

//! Layers: parameters and calls on the tape, nothing else.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::ops::{self, Padding};
use crate::rng;
use crate::tape::{Source, Tape, Var};
use crate::tensor::{Params, Tensor};

/// What follows a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Activation {
    /// `max(x, 0)`
    Relu,
    /// `x` above 0, `slope x` below
    LeakyRelu,
    /// hyperbolic tangent
    Tanh,
}

impl std::fmt::Display for Activation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Activation::Relu => "ReLU",
            Activation::LeakyRelu => "LeakyReLU",
            Activation::Tanh => "tanh",
        })
    }
}

impl Activation {
    /// Records the activation; `slope` is LeakyReLU's.
    ///
    /// # Errors
    /// Those of recording.
    pub fn record(self, tape: &mut Tape, x: Var, slope: f64) -> Result<Var> {
        match self {
            Activation::Relu => ops::leaky_relu(tape, x, 0.0),
            Activation::LeakyRelu => ops::leaky_relu(tape, x, slope as f32),
            Activation::Tanh => ops::tanh(tape, x),
        }
    }
}

/// A convolution with `same` padding, with or without a bias: `{name}.weight [c_out, C_in, K_h, K_w]`, `{name}.bias [c_out]`.
///
/// # Errors
/// Those of recording.
pub fn conv(tape: &mut Tape, name: &str, x: Var, c_out: usize, kernel: (usize, usize), bias: bool) -> Result<Var> {
    let [_, c_in, _, _] = tape.shape4("conv2d", x)?;
    let weight = tape.param(&format!("{name}.weight"), [c_out, c_in, kernel.0, kernel.1])?;
    let bias = bias.then(|| tape.param(&format!("{name}.bias"), [c_out])).transpose()?;
    ops::conv2d(tape, x, weight, bias, Padding::Same)
}

/// A dense layer on `x [N, I]`: `{name}.weight [outputs, I]`, `{name}.bias [outputs]`.
///
/// # Errors
/// Those of recording.
pub fn dense(tape: &mut Tape, name: &str, x: Var, outputs: usize) -> Result<Var> {
    let inputs = tape.shape(x).dims().last().copied().unwrap_or(0);
    let weight = tape.param(&format!("{name}.weight"), [outputs, inputs])?;
    let bias = tape.param(&format!("{name}.bias"), [outputs])?;
    ops::dense(tape, x, weight, bias)
}

/// Weights for every parameter of `tape`: Glorot uniform for matrices and kernels, zero for biases.
///
/// `w ~ U(-a, a)` with `a = sqrt(6 / (fan_in + fan_out))`, `fan_in = C_in K_h K_w`, `fan_out = C_out K_h K_w`.
///
/// # Errors
/// None in practice: shapes are the tape's own.
///
/// # Source
/// Glorot and Bengio 2010, equation 16.
pub fn initialise(tape: &Tape, seed: u64) -> Result<Params> {
    use rand::RngExt;
    let mut params = Params::default();
    for var in tape.vars(Source::Param) {
        let value = &tape.values()[var.index()];
        let data = match *value.shape.dims() {
            [outputs, inputs, ref kernel @ ..] => {
                let taps: usize = kernel.iter().product();
                let limit = glorot_limit(inputs * taps, outputs * taps);
                let mut rng = rng::stream(seed, &format!("initialise/{}", value.name));
                (0..value.shape.len()).map(|_| limit * (2.0 * rng.random::<f32>() - 1.0)).collect()
            }
            _ => vec![0.0; value.shape.len()],
        };
        params.push(value.name.clone(), Tensor::new(value.shape.clone(), data)?);
    }
    Ok(params)
}

/// The bound of Glorot's uniform distribution.
pub fn glorot_limit(fan_in: usize, fan_out: usize) -> f32 {
    (6.0 / (fan_in + fan_out) as f64).sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_fill_glorots_interval_and_biases_are_zero() {
        let mut tape = Tape::new();
        let x = tape.input("x", [1, 2, 8, 8]);
        conv(&mut tape, "c", x, 16, (3, 5), true).unwrap();
        let params = initialise(&tape, 1).unwrap();
        let limit = (6.0f32 / (2.0 * 15.0 + 16.0 * 15.0)).sqrt();
        let weights = params.get("c.weight").unwrap().data();
        let largest = weights.iter().fold(0.0f32, |a, w| a.max(w.abs()));
        assert!(largest <= limit && largest > 0.97 * limit, "{largest} {limit}");
        let variance = weights.iter().map(|w| w * w).sum::<f32>() / weights.len() as f32;
        assert!((variance / (limit * limit / 3.0) - 1.0).abs() < 0.2, "{variance}");
        assert_eq!(params.get("c.bias").unwrap().data(), [0.0; 16]);
        assert_ne!(initialise(&tape, 2).unwrap(), params);
    }
}

//! Shapes, and named arrays of f32 outside a plan: weights before and after training.
//!
//! Not here: values inside a step (see [`crate::tape`] for what they are and [`crate::run`] for where they live).

use std::fmt;

use crate::error::{Error, Result};

/// The sizes of an array, outermost axis first; arrays are always contiguous and row-major.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Shape(Vec<usize>);

impl Shape {
    /// All axes.
    pub fn dims(&self) -> &[usize] {
        &self.0
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.0.iter().product()
    }

    /// True if an axis is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<const R: usize> From<[usize; R]> for Shape {
    fn from(dims: [usize; R]) -> Self {
        Shape(dims.to_vec())
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Shape(dims.to_vec())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:?}", self.0))
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// An array on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Shape,
    data: Vec<f32>,
}

impl Tensor {
    /// An array of `shape` holding `data`.
    ///
    /// # Errors
    /// [`Error::Shape`] if their sizes differ.
    pub fn new(shape: impl Into<Shape>, data: Vec<f32>) -> Result<Self> {
        let shape = shape.into();
        if shape.len() != data.len() {
            return Err(Error::shape("tensor", format!("shape {shape} does not hold {} values", data.len())));
        }
        Ok(Tensor { shape, data })
    }

    /// Its sizes.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Its elements, row-major.
    pub fn data(&self) -> &[f32] {
        &self.data
    }
}

/// A net's weights by name, in the order in which the net records them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params(Vec<(String, Tensor)>);

impl Params {
    /// Adds one; names are unique by construction of the nets.
    pub fn push(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.0.push((name.into(), tensor));
    }

    /// The one called `name`.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, t)| t)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(n, t)| (n.as_str(), t))
    }

    /// Number of trainable numbers in all.
    pub fn count(&self) -> usize {
        self.0.iter().map(|(_, t)| t.data.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_must_fit_its_shape() {
        assert!(Tensor::new([2, 3], vec![0.0; 6]).is_ok());
        let error = Tensor::new([2, 3], vec![0.0; 5]).unwrap_err();
        assert_eq!(error.to_string(), "tensor: shape [2, 3] does not hold 5 values");
    }
}

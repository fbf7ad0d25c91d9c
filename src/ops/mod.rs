//! The textbook: operations, one file each, with the equation, its f64 reference, plain CPU code, one naive GPU kernel and
//! the gradient.
//!
//! Read [`mod@leaky_relu`] first (a small one), then [`mod@dense`], then [`mod@conv2d`]. Nothing here is tuned:
//! [`crate::fast`] replaces some of these operations by faster ones. Adding an operation touches four places: its file
//! here, its shader in `shaders/`, the lists below, and a row in `check::cases`.

pub mod accumulate;
pub mod adam;
pub mod add;
pub(crate) mod common;
pub mod concat;
pub mod conv2d;
pub mod dense;
pub mod dropout;
pub mod fill;
pub mod l1_penalty;
pub mod leaky_relu;
mod matmul;
pub mod max_pool2d;
pub mod reshape;
pub mod softmax_cross_entropy;
pub mod tanh;

pub use accumulate::accumulate;
pub use adam::{Adam, adam};
pub use add::add;
pub use concat::concat;
pub use conv2d::{Padding, conv2d};
pub use dense::dense;
pub use dropout::dropout;
pub use fill::fill;
pub use l1_penalty::l1_penalty;
pub use leaky_relu::leaky_relu;
pub use max_pool2d::max_pool2d;
pub use reshape::{flatten, reshape};
pub use softmax_cross_entropy::{Classification, softmax_cross_entropy};
pub use tanh::tanh;

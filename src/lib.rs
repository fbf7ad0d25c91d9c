//! genregrad

pub mod audio;
pub mod autodiff;
pub mod check;
pub mod data;
pub mod device;
pub mod error;
pub mod files;
pub mod models;
pub mod nn;
pub mod ops;
pub mod rng;
pub mod run;
pub mod tape;
pub mod tensor;
pub mod train;

//! genregrad: a tensor and autodiff engine small enough to read in an afternoon, and the music-genre study of Schindler,
//! Lidy and Rauber (2016), as Wyborn, Butt and Klas reproduced it, built on it.
//!
//! # The layers
//!
//! Imports point only downwards; `tests/layers.rs` holds the code to this table.
//!
//! ```text
//! cli           one file per subcommand: parses arguments, calls one function, prints
//! experiments   which trainings a table needs, and how a study survives a kill
//! report        tables, curves, confusion matrices, the page; trains nothing
//! check         compares every operation with float64 and with the other device
//! bench         times a step and computes its lower bound
//! baseline      MFCCs and Gaussian mixtures, without a net
//! train         epochs, schedules, metrics, checkpoints
//! models        the shallow and the deep net
//! data          corpora, splits, segments, batches, pickles
//! nn            a layer: parameters, and calls on the tape
//! audio         decoding, resampling, front ends, augmentation
//! autodiff      the reverse walk, which appends gradient nodes
//! ops           one file per operation: equation, f64 reference, kernels, gradient
//! run           a plan: buffers and pipelines, made once and replayed on CPU or GPU
//! tape          the program as data: nodes, shapes, trait Op; knows no op, no device
//! device        enum Device; wgpu buffers, pipelines, errors
//! tensor · rng · files · error
//! ```
//!
//! # A reading order
//!
//! 1. [`tape`]: what a program is. Print one: `println!("{tape}")`.
//! 2. `src/ops/leaky_relu.rs` and `shaders/leaky_relu.wgsl`: a small operation, everywhere that it exists.
//! 3. [`autodiff`]: the reverse walk, sixty lines.
//! 4. [`mod@ops`], then [`ops::dense`](mod@ops::dense), [`ops::conv2d`](mod@ops::conv2d), [`ops::adam`](mod@ops::adam): the equations.
//! 5. [`run`]: the three executors (CPU, GPU, f64), each a loop over the nodes; [`run::fuse`], and what it makes of a net:
//!    `src/ops/conv_block.rs`, `src/ops/spectral.rs`, `src/ops/dense_update.rs`, all written in what `src/ops/kernels/simd.rs`,
//!    `src/ops/fft.rs` and `src/ops/pool.rs` provide.
//! 6. [`models`] and [`train::program`]: the two nets, and a whole training step as one program.
//! 7. [`audio::mel`], [`audio::cqt`]: from sound to what the nets see; [`data`]: from a folder of tracks to batches.
//! 8. [`train`], [`baseline`], [`experiments`], [`report`]: the study.
//!
//! # A training step
//!
//! ```
//! use genregrad::device::Device;
//! use genregrad::run::Plan;
//! use genregrad::tape::{Step, Tape};
//! use genregrad::{autodiff, nn, ops};
//!
//! # fn main() -> genregrad::error::Result<()> {
//! // Recorded once: four points of two classes, a line between them.
//! let mut tape = Tape::new();
//! let x = tape.input("x", [4, 2]);
//! let y = tape.labels(4);
//! let logits = nn::dense(&mut tape, "layer", x, 2)?;
//! let loss = ops::softmax_cross_entropy(&mut tape, logits, y)?.loss;
//! let grads = autodiff::backward(&mut tape, loss)?;
//! ops::adam(&mut tape, ops::Adam::default(), &grads)?;
//! println!("{tape}");
//!
//! // Replayed for every batch, on the CPU or on a GPU.
//! let mut plan = Plan::new(&tape, &Device::Cpu, &nn::initialise(&tape, 1)?)?;
//! let batch = [1.0, 0.0, 0.9, 0.2, -1.0, 0.1, -0.8, -0.3];
//! for step in 1..=200 {
//!     let step = Step::new(step, 0, 0.05, (0.9, 0.999));
//!     plan.step(&[(x, &batch), (y, &[0.0, 0.0, 1.0, 1.0])], &step)?;
//! }
//! assert!(plan.read(loss)?[0] < 0.1);
//! # Ok(())
//! # }
//! ```

pub mod audio;
pub mod autodiff;
pub mod baseline;
pub mod bench;
pub mod check;
pub mod cli;
pub mod data;
pub mod device;
pub mod error;
pub mod experiments;
pub mod files;
pub mod models;
pub mod nn;
pub mod ops;
pub mod report;
pub mod rng;
pub mod run;
pub mod tape;
pub mod tensor;
pub mod train;

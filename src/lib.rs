//! genregrad: a tensor and autodiff engine whose textbook part can be read in an afternoon, and the music-genre study of
//! Schindler, Lidy and Rauber (2016), as Wyborn, Butt and Klas reproduced it, built on it.
//!
//! # The layers
//!
//! Imports point only downwards. `tests/layers.rs` reads this table and checks the code against it.
//!
//! ```text
//! cli                    one file per subcommand: parse, call one function, print
//! experiments            which training runs a table needs; how a study survives a kill
//! report                 tables, curves, pages (reads results; trains nothing)
//! baseline bench check   MFCCs and mixtures · step times · ops against f64 and the GPU
//! train                  epochs, schedules, metrics, checkpoints, runs on disk
//! data                   corpora, splits, segments, batches
//! audio                  decode, resample, front ends, augmentation
//! fast                   rules that rewrite a program into an equal, faster one
//! models                 shallow, deep
//! nn                     a layer = parameters + calls on the tape
//! autodiff               the reverse walk: appends gradient nodes
//! ops                    the textbook: equation, f64, CPU, GPU, gradient
//! run                    a plan: buffers made once, replayed on CPU, GPU and in f64
//! device                 enum Device; wgpu buffers, pipelines, errors
//! tape                   the program as data: nodes, shapes, trait Op
//! dispatch               a GPU kernel call as data
//! files rng tensor       atomic writes · random numbers · shapes and parameters
//! error                  the one error type
//! ```
//!
//! # The afternoon path
//!
//! Read these files in this order. They train both nets without any other: `--no-fuse` runs nothing else on the CPU.
//!
//! 1. [`tensor`], [`tape`]: what a program is. Print one: `println!("{tape}")`.
//! 2. `src/ops/leaky_relu.rs` and `shaders/leaky_relu.wgsl`: one small operation in all its versions: f64, CPU, GPU, gradient.
//! 3. `src/run/cpu.rs`: the executor.
//! 4. [`mod@ops`], then [`ops::dense`](mod@ops::dense), [`ops::conv2d`](mod@ops::conv2d), [`ops::adam`](mod@ops::adam): the
//!    equations.
//! 5. [`autodiff`]: the reverse walk, sixty lines.
//! 6. [`nn`], [`models`] and [`train::program`]: layers, the two nets, and a whole training step as one program.
//!
//! Afterwards: [`fast::rules`] says what is made fast, and why it may be. [`audio::mel`] and [`audio::cqt`] go from sound to
//! spectrograms, [`data`] from a folder of tracks to batches. [`train`], [`baseline`], [`experiments`] and [`report`] are the
//! study.
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
//!     let step = Step::new(step, 0, 0.05);
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
pub mod dispatch;
pub mod error;
pub mod experiments;
pub mod fast;
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

/// Pages of this documentation that are not about one module.
pub mod guide {
    #[doc = include_str!("guide/results.md")]
    pub mod results {}
}

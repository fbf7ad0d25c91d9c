//! The study's two nets: parallel pipelines over one spectrogram, one looking along frequency, one along time.
//!
//! | | spectral pipeline | temporal pipeline |
//! |---|---|---|
//! | shallow | 16@10x23, pool 1x20 | 16@21x20, pool 20x1 |
//! | deep | 16@10x23 pool 2x2, 32@5x11 pool 2x2, 64@3x5 pool 2x2, 128@2x4 pool 1x5 | 16@21x10 pool 2x2, 32@10x5 pool 2x2, 64@5x3 pool 2x2, 128@4x2 pool 5x1 |
//!
//! Kernels are frequency x time; an activation follows every convolution, before its pool. The merge (spectral, then
//! temporal, each flattened as `[C, H, W]`) goes through dense 200 and dense `classes`.
//!
//! The study's spectrograms are 80x80, which every window divides. Others work as long as no pool comes down to nothing;
//! rows and columns that no whole window covers are left out by [`ops::max_pool2d`](fn@ops::max_pool2d). With 84 rows (seven octaves of
//! semitones) that concerns the four highest: the shallow net's temporal pool 20x1 makes 4 rows of 84 as of 80, and the
//! deep net's third pools make 10 of 21. These rows are still seen, through the kernels of the rows below them, and by
//! the shallow net's spectral pipeline, which pools along time only and keeps all 84.
//!
//! # Source
//! Schindler, Lidy and Rauber 2016, figures 1 and 2; what Wyborn, Butt and Klas did differently is in [`Net`]'s fields.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::nn::{self, Activation};
use crate::ops;
use crate::tape::{Tape, Var};

/// Which of the two nets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// one convolution a pipeline
    Shallow,
    /// four convolutions a pipeline
    Deep,
}

impl std::fmt::Display for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Architecture::Shallow => "shallow",
            Architecture::Deep => "deep",
        })
    }
}

/// One convolution with its pool: channels, kernel (frequency, time), window (frequency, time).
type Block = (usize, (usize, usize), (usize, usize));

const SHALLOW: [&[Block]; 2] = [&[(16, (10, 23), (1, 20))], &[(16, (21, 20), (20, 1))]];

const DEEP: [&[Block]; 2] = [
    &[(16, (10, 23), (2, 2)), (32, (5, 11), (2, 2)), (64, (3, 5), (2, 2)), (128, (2, 4), (1, 5))],
    &[(16, (21, 10), (2, 2)), (32, (10, 5), (2, 2)), (64, (5, 3), (2, 2)), (128, (4, 2), (5, 1))],
];

/// Units of the first dense layer.
const HIDDEN: usize = 200;

/// Where dropout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DropoutAt {
    /// on the merged pipelines, before dense 200
    Merge,
    /// after dense 200
    Dense,
}

/// Whether the net is being trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// With dropout.
    Train,
    /// Without.
    Evaluate,
}

/// A net with everything that the paper and the report do differently.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Net {
    /// Which pipelines.
    pub architecture: Architecture,
    /// After every convolution.
    pub activation: Activation,
    /// LeakyReLU's slope below zero.
    pub slope: f64,
    /// Whether convolutions have biases.
    pub conv_bias: bool,
    /// Whether the activation also follows dense 200.
    pub dense_activation: bool,
    /// Probability of dropping an element.
    pub dropout: f64,
    /// Where.
    pub dropout_at: DropoutAt,
    /// Number of outputs.
    pub classes: usize,
}

impl Net {
    /// Records the net on `x [N, 1, bins, frames]`; gives the logits `[N, classes]`.
    ///
    /// # Errors
    /// [`crate::error::Error::Shape`] if the spectrogram is too small for the pools.
    pub fn record(&self, tape: &mut Tape, x: Var, mode: Mode) -> Result<Var> {
        let [spectral, temporal] = match self.architecture {
            Architecture::Shallow => SHALLOW,
            Architecture::Deep => DEEP,
        };
        let spectral = self.pipeline(tape, "spectral", spectral, x)?;
        let temporal = self.pipeline(tape, "temporal", temporal, x)?;
        let mut y = ops::concat(tape, spectral, temporal)?;
        if self.dropout_at == DropoutAt::Merge {
            y = self.dropout(tape, y, mode)?;
        }
        y = nn::dense(tape, "fc1", y, HIDDEN)?;
        if self.dense_activation {
            y = self.activation.record(tape, y, self.slope)?;
        }
        if self.dropout_at == DropoutAt::Dense {
            y = self.dropout(tape, y, mode)?;
        }
        nn::dense(tape, "fc2", y, self.classes)
    }

    fn pipeline(&self, tape: &mut Tape, name: &str, blocks: &[Block], mut x: Var) -> Result<Var> {
        for (depth, &(channels, kernel, window)) in blocks.iter().enumerate() {
            x = nn::conv(tape, &format!("{name}.{depth}"), x, channels, kernel, self.conv_bias)?;
            x = self.activation.record(tape, x, self.slope)?;
            x = ops::max_pool2d(tape, x, window)?;
        }
        ops::flatten(tape, x)
    }

    fn dropout(&self, tape: &mut Tape, x: Var, mode: Mode) -> Result<Var> {
        if mode == Mode::Evaluate || self.dropout == 0.0 { Ok(x) } else { ops::dropout(tape, x, self.dropout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(architecture: Architecture, conv_bias: bool) -> Net {
        Net {
            architecture,
            activation: Activation::LeakyRelu,
            slope: 0.3,
            conv_bias,
            dense_activation: true,
            dropout: 0.1,
            dropout_at: DropoutAt::Merge,
            classes: 10,
        }
    }

    #[test]
    fn parameter_counts_are_the_studys() {
        for (architecture, bias, count) in [
            (Architecture::Shallow, false, 2_060_610),
            (Architecture::Deep, false, 1_279_522),
            (Architecture::Shallow, true, 2_060_642),
            (Architecture::Deep, true, 1_280_002),
        ] {
            let mut tape = Tape::new();
            let x = tape.input("spectrogram", [2, 1, 80, 80]);
            let logits = net(architecture, bias).record(&mut tape, x, Mode::Train).unwrap();
            assert_eq!(tape.shape(logits).dims(), [2, 10]);
            assert_eq!(nn::initialise(&tape, 1).unwrap().count(), count, "{architecture}");
        }
    }

    #[test]
    fn seven_octaves_fit_both_nets() {
        for (architecture, merged, count) in [
            // 16x84x4 + 16x4x80: 256 more than with 80 bins
            (Architecture::Shallow, 10_496, 2_060_610 + 256 * 200),
            // 128x10x2 + 128x2x10, as with 80 bins
            (Architecture::Deep, 5_120, 1_279_522),
        ] {
            let mut tape = Tape::new();
            let x = tape.input("spectrogram", [2, 1, 84, 80]);
            let logits = net(architecture, false).record(&mut tape, x, Mode::Train).unwrap();
            assert_eq!(tape.shape(logits).dims(), [2, 10]);
            let params = nn::initialise(&tape, 1).unwrap();
            assert_eq!(params.count(), count, "{architecture}");
            let convolutions: usize = if architecture == Architecture::Shallow { 10_400 } else { 253_312 };
            assert_eq!(count - convolutions - 200 - 2_010, merged * 200, "{architecture}");
        }
    }

    #[test]
    fn a_small_spectrogram_is_refused() {
        let mut tape = Tape::new();
        let x = tape.input("spectrogram", [2, 1, 16, 16]);
        let error = net(Architecture::Shallow, true).record(&mut tape, x, Mode::Train).unwrap_err().to_string();
        assert_eq!(error, "max_pool2d: expected input at least as large as the window 1x20, got 16x16");
    }
}

//! The two programs of a run: one training step (forward, loss, gradients, Adam, running sums), and one forward pass.

use crate::autodiff;
use crate::error::Result;
use crate::fast;
use crate::models::{Mode, Net};
use crate::ops::{self, Adam, Classification};
use crate::tape::{Source, Tape, Var};

/// A training step.
#[derive(Clone, Debug)]
pub struct TrainProgram {
    /// The program.
    pub tape: Tape,
    /// `[batch, 1, bins, frames]`.
    pub spectrograms: Var,
    /// `[batch]`; a negative label masks its row.
    pub labels: Var,
    /// Cross-entropy plus L1 penalty of this step's batch, `[1]`.
    pub loss: Var,
    /// The sum of `loss` over the steps since its last reset.
    pub loss_sum: Var,
    /// Correctly classified training segments (dropout on) since its last reset.
    pub correct_sum: Var,
}

impl TrainProgram {
    /// Records `loss = cross-entropy + l1 * sum |p|` of `net` and one Adam step down its gradient.
    ///
    /// # Errors
    /// Those of recording.
    pub fn record(net: &Net, shape: [usize; 3], l1: f64, adam: Adam) -> Result<Self> {
        let [batch, bins, frames] = shape;
        let mut tape = Tape::new();
        let spectrograms = tape.input("spectrograms", [batch, 1, bins, frames]);
        let labels = tape.labels(batch);
        let logits = net.record(&mut tape, spectrograms, Mode::Train)?;
        let Classification { mut loss, correct, .. } = ops::softmax_cross_entropy(&mut tape, logits, labels)?;
        if l1 != 0.0 {
            for param in tape.vars(Source::Param).collect::<Vec<_>>() {
                let penalty = ops::l1_penalty(&mut tape, param, l1)?;
                loss = ops::add(&mut tape, loss, penalty)?;
            }
        }
        let grads = autodiff::backward(&mut tape, loss)?;
        ops::adam(&mut tape, adam, &grads)?;
        let loss_sum = ops::accumulate(&mut tape, "loss_sum", loss)?;
        let correct_sum = ops::accumulate(&mut tape, "correct_sum", correct)?;
        Ok(TrainProgram { tape, spectrograms, labels, loss, loss_sum, correct_sum })
    }

    /// The program as it is run: fused, or as it was recorded.
    pub fn fused(mut self, fuse: bool) -> Self {
        if fuse {
            self.tape = fast::rewrite(&self.tape, fast::ALL);
        }
        self
    }
}

/// A forward pass without dropout.
#[derive(Clone, Debug)]
pub struct EvaluateProgram {
    /// The program.
    pub tape: Tape,
    /// `[batch, 1, bins, frames]`.
    pub spectrograms: Var,
    /// `[batch, classes]`.
    pub logits: Var,
}

impl EvaluateProgram {
    /// Records `net` on `shape` (batch, bins, frames).
    ///
    /// # Errors
    /// Those of recording.
    pub fn record(net: &Net, shape: [usize; 3]) -> Result<Self> {
        let [batch, bins, frames] = shape;
        let mut tape = Tape::new();
        let spectrograms = tape.input("spectrograms", [batch, 1, bins, frames]);
        let logits = net.record(&mut tape, spectrograms, Mode::Evaluate)?;
        Ok(EvaluateProgram { tape, spectrograms, logits })
    }

    /// As [`TrainProgram::fused`].
    pub fn fused(mut self, fuse: bool) -> Self {
        if fuse {
            self.tape = fast::rewrite(&self.tape, fast::ALL);
        }
        self
    }
}

//! The curve of a training run.

use serde::{Deserialize, Serialize};

/// One line of `metrics.csv`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// From 1.
    pub epoch: u32,
    /// Of the epoch's last step.
    pub learning_rate: f64,
    /// Sum over the epoch's batches of cross-entropy plus L1 penalty.
    pub loss: f64,
    /// Raw accuracy on the training segments as they were trained on (dropout on), percent.
    pub train_accuracy: f64,
    /// Raw accuracy on the test segments after the epoch, percent.
    pub test_accuracy: f64,
}

//! The log-mel front end.

use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Settings of the log-mel front end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Sample rate, Hz.
    pub sr: u32,
    /// FFT and window length, samples.
    pub n_fft: usize,
    /// Hop, samples.
    pub hop_length: usize,
    /// Number of bands.
    pub n_mels: usize,
    /// Lowest frequency, Hz.
    pub fmin: f32,
    /// Highest frequency, Hz.
    pub fmax: f32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { sr: 22_050, n_fft: 512, hop_length: 256, n_mels: 80, fmin: 0.0, fmax: 11_025.0 }
    }
}

/// A planned log-mel transform.
pub struct LogMel;

impl LogMel {
    /// Plans the transform.
    pub fn new(_settings: &Settings) -> Result<Self> {
        Ok(LogMel)
    }
}

impl super::Transform for LogMel {
    fn transform(&self, _samples: &[f32], _out: &mut [f32]) {}
}

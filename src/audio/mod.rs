//! Sound in, spectrograms out: decoding and the study's front ends.
//!
//! Read [`mel`] first. Units everywhere: Hz, samples, frames; amplitude, not power, unless a name says so.

pub mod decode;
pub mod features;
pub mod mel;
pub mod npy;
mod pcm;
mod resample;

use serde::{Deserialize, Serialize};

use crate::error::Result;

/// The study's sample rate in Hz.
pub const SAMPLE_RATE: u32 = 22_050;

/// The study's segment: 20,462 samples at 22,050 Hz, 0.928 s, 80 frames at hop 256.
pub const SEGMENT_SAMPLES: usize = 20_462;

/// Which time-frequency representation the nets see, with all its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum FrontEnd {
    /// Log-mel spectrogram.
    Mel(mel::Settings),
}

impl Default for FrontEnd {
    fn default() -> Self {
        FrontEnd::Mel(mel::Settings::default())
    }
}

impl FrontEnd {
    /// Refuses settings that make no sense, before anything is computed from them.
    ///
    /// # Errors
    /// [`crate::error::Error::Config`] naming the setting.
    pub fn check(&self) -> Result<()> {
        match self {
            FrontEnd::Mel(s) => s.validate(),
        }
    }

    /// Rows of the spectrogram.
    pub fn bins(&self) -> usize {
        match self {
            FrontEnd::Mel(s) => s.n_mels,
        }
    }

    /// Columns of the spectrogram of `samples` samples.
    pub fn frames(&self, samples: usize) -> usize {
        match self {
            FrontEnd::Mel(s) => 1 + samples / s.hop_length,
        }
    }

    /// What it is called: `log-mel`.
    pub fn name(&self) -> &'static str {
        match self {
            FrontEnd::Mel(_) => "log-mel",
        }
    }

    /// Samples between the centres of neighbouring columns.
    pub fn hop_length(&self) -> usize {
        match self {
            FrontEnd::Mel(s) => s.hop_length,
        }
    }

    /// The frequency in Hz that each row stands for, ascending.
    pub fn centres(&self) -> Vec<f64> {
        match self {
            FrontEnd::Mel(s) => s.centres(),
        }
    }

    /// How many samples before and after its centre a column depends on, at most.
    pub fn reach(&self) -> usize {
        match self {
            FrontEnd::Mel(s) => s.n_fft / 2,
        }
    }

    /// What the rows are best called.
    pub fn scale(&self) -> Scale {
        match self {
            FrontEnd::Mel(_) => Scale::Hertz,
        }
    }

    /// Tables and FFT plans, computed once and shared by threads.
    pub fn plan(&self) -> Result<Box<dyn Transform>> {
        match self {
            FrontEnd::Mel(s) => Ok(Box::new(mel::LogMel::new(s)?)),
        }
    }
}

/// How a person names the frequency of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// 500 Hz, 1 kHz.
    Hertz,
    /// C1, C2: equal steps of pitch.
    Notes,
}

/// A planned front end.
pub trait Transform: Send + Sync {
    /// Writes `[bins, frames]` of `samples` (mono, at the front end's rate) to `out`, row by row.
    fn transform(&self, samples: &[f32], out: &mut [f32]);
}

//! Sound in, spectrograms out: decoding and the study's front ends.
//!
//! Read [`mel`] first, then [`cqt`]. Units everywhere: Hz, samples, frames; amplitude, not power, unless a name says so.

pub mod augment;
mod bank;
pub mod cqt;
pub mod cwt;
pub mod decode;
pub mod features;
mod flac;
mod foreign;
pub mod linear;
mod log;
pub mod mel;
pub mod mfcc;
mod mono;
mod mp3;
pub mod npy;
mod ogg;
mod pcm;
mod resample;
mod section;
mod stft;
mod tags;
mod transform;
mod vorbis;
pub mod wav;

use serde::{Deserialize, Serialize};

use crate::error::Result;

pub use transform::Transform;

/// The study's sample rate in Hz.
pub const SAMPLE_RATE: u32 = 22_050;

/// The study's segment: 20,462 samples at 22,050 Hz, 0.928 s, 80 frames at hop 256.
pub const SEGMENT_SAMPLES: usize = 20_462;

/// The front ends by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Kind {
    /// log-mel, the study's
    Mel,
    /// constant-Q: one bin a semitone from C1
    Cqt,
    /// linear: bands of equal width
    Linear,
    /// Morlet wavelets at the constant-Q's notes
    Cwt,
}

/// Which time-frequency representation the nets see, with all its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum FrontEnd {
    /// Log-mel spectrogram.
    Mel(mel::Settings),
    /// Constant-Q transform.
    Cqt(cqt::Settings),
    /// Linear spectrogram.
    Linear(linear::Settings),
    /// Continuous wavelet transform.
    Cwt(cqt::Settings),
}

impl Default for FrontEnd {
    fn default() -> Self {
        Kind::Mel.into()
    }
}

impl From<Kind> for FrontEnd {
    /// With the study's settings: 80 rows, 80 frames a segment.
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Mel => FrontEnd::Mel(mel::Settings::default()),
            Kind::Cqt => FrontEnd::Cqt(cqt::Settings::default()),
            Kind::Linear => FrontEnd::Linear(linear::Settings::default()),
            Kind::Cwt => FrontEnd::Cwt(cqt::Settings::default()),
        }
    }
}

/// `log-mel`, `CQT`, `linear` or `CWT`, and the number of bins where it is not the study's 80.
impl std::fmt::Display for FrontEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.kind() {
            Kind::Mel => "log-mel",
            Kind::Cqt => "CQT",
            Kind::Linear => "linear",
            Kind::Cwt => "CWT",
        };
        match self.bins() {
            80 => f.pad(name),
            bins => f.pad(&format!("{name} {bins}")),
        }
    }
}

impl FrontEnd {
    /// Which one it is.
    pub fn kind(&self) -> Kind {
        match self {
            FrontEnd::Mel(_) => Kind::Mel,
            FrontEnd::Cqt(_) => Kind::Cqt,
            FrontEnd::Linear(_) => Kind::Linear,
            FrontEnd::Cwt(_) => Kind::Cwt,
        }
    }

    /// Its name as part of a file's: `log-mel`, `cqt84`.
    pub fn slug(&self) -> String {
        self.to_string().to_lowercase().replace(' ', "")
    }

    /// The same with another number of rows; [`FrontEnd::check`] says whether that makes sense.
    pub fn with_bins(mut self, bins: usize) -> Self {
        match &mut self {
            FrontEnd::Mel(s) => s.n_mels = bins,
            FrontEnd::Cqt(s) | FrontEnd::Cwt(s) => s.n_bins = bins,
            FrontEnd::Linear(s) => s.n_bins = bins,
        }
        self
    }

    /// Refuses settings that make no sense, before anything is computed from them.
    ///
    /// # Errors
    /// [`crate::error::Error::Config`] naming the setting.
    pub fn check(&self) -> Result<()> {
        match self {
            FrontEnd::Mel(s) => s.validate(),
            FrontEnd::Cqt(s) => s.validate("cqt"),
            FrontEnd::Linear(s) => s.validate(),
            FrontEnd::Cwt(s) => s.validate("cwt"),
        }
    }

    /// Rows of the spectrogram.
    pub fn bins(&self) -> usize {
        match self {
            FrontEnd::Mel(s) => s.n_mels,
            FrontEnd::Cqt(s) | FrontEnd::Cwt(s) => s.n_bins,
            FrontEnd::Linear(s) => s.n_bins,
        }
    }

    /// Samples between the centres of neighbouring columns.
    pub fn hop_length(&self) -> usize {
        match self {
            FrontEnd::Mel(s) => s.hop_length,
            FrontEnd::Cqt(s) | FrontEnd::Cwt(s) => s.hop_length,
            FrontEnd::Linear(s) => s.hop_length,
        }
    }

    /// Columns of the spectrogram of `samples` samples.
    pub fn frames(&self, samples: usize) -> usize {
        1 + samples / self.hop_length()
    }

    /// The frequency in Hz that each row stands for, ascending.
    pub fn centres(&self) -> Vec<f64> {
        match self {
            FrontEnd::Mel(s) => s.centres(),
            FrontEnd::Cqt(s) | FrontEnd::Cwt(s) => (0..s.n_bins).map(|k| s.frequency(k)).collect(),
            FrontEnd::Linear(s) => (0..s.n_bins).map(|r| s.frequency(r)).collect(),
        }
    }

    /// How many samples before and after its centre a column depends on, at most.
    pub fn reach(&self) -> usize {
        match self {
            FrontEnd::Mel(s) => s.n_fft / 2,
            FrontEnd::Cqt(s) => 1 + s.length(0) as usize / 2,
            FrontEnd::Linear(s) => s.n_fft / 2,
            FrontEnd::Cwt(s) => cwt::half_length(s, 0),
        }
    }

    /// What the rows are best called.
    pub fn scale(&self) -> Scale {
        match self {
            FrontEnd::Mel(_) | FrontEnd::Linear(_) => Scale::Hertz,
            FrontEnd::Cqt(_) | FrontEnd::Cwt(_) => Scale::Notes,
        }
    }

    /// Tables and FFT plans, computed once and shared by threads.
    ///
    /// # Errors
    /// Those of [`FrontEnd::check`], and mel bands that hold no FFT bin.
    pub fn plan(&self) -> Result<Box<dyn Transform>> {
        Ok(match self {
            FrontEnd::Mel(s) => Box::new(mel::LogMel::new(s)?),
            FrontEnd::Cqt(s) => Box::new(cqt::ConstantQ::new(s)?),
            FrontEnd::Linear(s) => Box::new(linear::Linear::new(s)?),
            FrontEnd::Cwt(s) => Box::new(cwt::Wavelets::new(s)?),
        })
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

//! `genregrad features`: what the nets see of one audio file.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use crate::audio::{FrontEnd, SAMPLE_RATE, decode, npy};
use crate::error::{Error, Result};

use super::args::{FrontEndArgs, OutputArgs};
use super::output::{print, print_json};

/// Compute the spectrogram of a whole audio file
///
/// WAV, AU, AIFF, FLAC, MP3 or Ogg Vorbis; mixed down and resampled to 22,050 Hz. Values are natural logarithms of
/// amplitudes, one row a frequency bin, one column a frame of 256 samples.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  genregrad features song.mp3 --front-end mel --npy song.npy
  python -c \"import numpy; print(numpy.load('song.npy').shape)\"
  genregrad features song.mp3 --json")]
pub struct Args {
    /// The audio file
    audio: PathBuf,
    #[command(flatten)]
    front_end: FrontEndArgs,
    /// Write the array [bins, frames] here, float32, for numpy.load
    #[arg(long, value_name = "FILE")]
    npy: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Report {
    audio: PathBuf,
    seconds: f64,
    sample_rate: u32,
    front_end: FrontEnd,
    shape: [usize; 2],
    min: f32,
    max: f32,
    npy: Option<PathBuf>,
}

impl Args {
    pub fn run(self) -> Result<ExitCode> {
        let mut front_end = FrontEnd::default();
        self.front_end.apply(&mut front_end);
        front_end.check()?;
        if let Some(npy) = &self.npy
            && npy.canonicalize().is_ok_and(|npy| self.audio.canonicalize().is_ok_and(|audio| npy == audio))
        {
            return Err(Error::Config(format!("{}: the audio file itself; name another --npy", npy.display())));
        }
        let samples = decode::decode(&self.audio)?;
        let shape @ [bins, frames] = [front_end.bins(), front_end.frames(samples.len())];
        let mut values = vec![0.0; bins * frames];
        front_end.plan()?.transform(&samples, &mut values);
        if values.iter().any(|value| !value.is_finite()) {
            return Err(Error::audio(&self.audio, "too loud: its spectrogram overflows; full scale is 1"));
        }
        if let Some(npy) = &self.npy {
            npy::write_npy(npy, bins, frames, &values)?;
        }
        let (min, max) = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), &x| (a.min(x), b.max(x)));
        let seconds = samples.len() as f64 / f64::from(SAMPLE_RATE);
        if self.output.json {
            let Args { audio, npy, .. } = self;
            print_json(&Report { audio, seconds, sample_rate: SAMPLE_RATE, front_end, shape, min, max, npy })?;
        } else {
            let written = self.npy.map_or(String::new(), |npy| format!("; written to {}", npy.display()));
            let audio = self.audio.display();
            print(&format!(
                "{audio}: {seconds:.3} s, [{bins}, {frames}] log amplitudes from {min:.3} to {max:.3}{written}\n"
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

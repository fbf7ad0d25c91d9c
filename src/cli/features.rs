//! `genregrad features`: what the nets see of one audio file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use crate::audio::decode::Part;
use crate::audio::features::Features;
use crate::audio::{FrontEnd, SAMPLE_RATE, npy};
use crate::error::{Error, Result};
use crate::files;
use crate::report::spectrogram::{self, Spectrogram};

use super::args::{FrontEndArgs, OutputArgs};
use super::output::{self, print, print_json};
use super::progress::warn;

/// Compute the spectrogram of an audio file, as numbers or as a picture
///
/// WAV, AU, AIFF, FLAC, MP3 or Ogg Vorbis; mixed down and resampled to 22,050 Hz. Values are natural logarithms of
/// amplitudes, one row a frequency bin, one column a frame of 256 samples. The picture shows them in decibels (one neper
/// is 8.69 dB) over seconds and Hz, or note names. Files of any length are read block by block; a part is sought, not
/// read up to.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  genregrad features song.mp3 --png song.png
  genregrad features song.mp3 --png notes.png --front-end cqt --n-bins 84 --start 62.5 --seconds 10
  genregrad features song.mp3 --npy song.npy
  python -c \"import numpy; print(numpy.load('song.npy').shape)\"
  genregrad features song.mp3 --json")]
pub struct Args {
    /// The audio file
    audio: PathBuf,
    #[command(flatten)]
    front_end: FrontEndArgs,
    /// Begin so many seconds into the file
    #[arg(long, value_name = "S", default_value_t = 0.0, allow_negative_numbers = true)]
    start: f64,
    /// Take so many seconds [default: all that follow]
    #[arg(long, value_name = "D", allow_negative_numbers = true)]
    seconds: Option<f64>,
    /// Write the array [bins, frames] here, float32, for numpy.load
    #[arg(long, value_name = "FILE")]
    npy: Option<PathBuf>,
    /// Draw a picture here, with axes and a colour bar
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Report {
    #[serde(serialize_with = "output::path")]
    audio: PathBuf,
    start: f64,
    seconds: f64,
    sample_rate: u32,
    front_end: FrontEnd,
    shape: [usize; 2],
    min: f32,
    max: f32,
    #[serde(serialize_with = "output::optional")]
    npy: Option<PathBuf>,
    #[serde(serialize_with = "output::optional")]
    png: Option<PathBuf>,
}

impl Args {
    pub fn run(self) -> Result<ExitCode> {
        let mut front_end = FrontEnd::default();
        self.front_end.apply(&mut front_end);
        front_end.check()?;
        let part = Part::seconds(self.start, self.seconds)?;
        self.check_outputs()?;
        let Features { values, bins, frames, samples, notes } = Features::of_file(&self.audio, &front_end, part)?;
        notes.iter().for_each(|note| warn(&format!("{}: {note}", self.audio.display())));
        let seconds = |samples: u64| samples as f64 / f64::from(SAMPLE_RATE);
        if let Some(npy) = &self.npy {
            npy::write_npy(npy, bins, frames, &values)?;
        }
        if let Some(png) = &self.png {
            let name = self.audio.file_name().unwrap_or(self.audio.as_os_str()).to_string_lossy();
            let picture = Spectrogram {
                values: &values,
                centres: &front_end.centres(),
                scale: front_end.scale(),
                start: seconds(part.start),
                step: seconds(front_end.hop_length() as u64),
                title: &format!("{name}: {front_end}"),
            };
            files::replace(png, &spectrogram::png(&picture, spectrogram::natural_size(bins, frames))?)?;
        }
        let (min, max) = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), &x| (a.min(x), b.max(x)));
        if self.output.json {
            let (start, seconds, shape) = (seconds(part.start), seconds(samples), [bins, frames]);
            let Args { audio, npy, png, .. } = self;
            let sample_rate = SAMPLE_RATE;
            print_json(&Report { audio, start, seconds, sample_rate, front_end, shape, min, max, npy, png })?;
        } else {
            let written: Vec<String> =
                self.npy.iter().chain(&self.png).map(|path| path.display().to_string()).collect();
            let written =
                if written.is_empty() { String::new() } else { format!("; written to {}", written.join(", ")) };
            let (audio, seconds) = (self.audio.display(), seconds(samples));
            let from = if part.start == 0 { String::new() } else { format!(" from {} s on", self.start) };
            print(&format!(
                "{audio}: {seconds:.3} s{from}, [{bins}, {frames}] log amplitudes from {min:.3} to {max:.3}{written}\n"
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Refuses, before any work, outputs that would overwrite the input, each other, or what is no file.
    fn check_outputs(&self) -> Result<()> {
        let is = |a: &Path, b: &Path| a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b));
        for (flag, output) in [("--npy", &self.npy), ("--png", &self.png)] {
            let Some(output) = output else { continue };
            if is(output, &self.audio) {
                return Err(Error::Config(format!("{}: the audio file itself; name another {flag}", output.display())));
            }
            files::check_replaceable(output)?;
        }
        match (&self.npy, &self.png) {
            (Some(npy), Some(png)) if npy == png || is(npy, png) => {
                Err(Error::Config(format!("{}: named by both --npy and --png; name two files", png.display())))
            }
            _ => Ok(()),
        }
    }
}

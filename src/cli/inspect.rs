//! `genregrad inspect`: single test tracks of a finished run.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use crate::audio::wav;
use crate::data::sound::{self, Sound};
use crate::error::{Error, Result};
use crate::files;
use crate::report::examples::{self, Example, percent, ranking};
use crate::report::{clean, data_label, html, run_name, tables};
use crate::train::results::{self, Run};

use super::args::OutputArgs;
use super::output::{self, print, print_json};
use super::progress::Progress;

/// Look at single test tracks of a finished run
///
/// Without --track: the test tracks on which max (the largest summed output) and maj (the segments' majority vote)
/// disagree, and those on which both are wrong, the most confident first. With it: one track, segment by segment, with
/// what the net made of each; --wav and --png write the segments as they are heard and as the net sees them.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  genregrad inspect runs/train-1
  genregrad inspect runs/reproduce-1                       the study's best run
  genregrad inspect runs/train-1 --track metal.00058 --wav sound --png pictures
  genregrad inspect runs/train-1 --track metal.00058 --json")]
pub struct Args {
    /// The folder that `train` wrote, or one that `reproduce` wrote
    run: PathBuf,
    /// One test track, by its name
    #[arg(long, value_name = "ID")]
    track: Option<String>,
    /// Write each of its segments into this folder, as a WAV file
    #[arg(long, value_name = "DIR", requires = "track")]
    wav: Option<PathBuf>,
    /// Write each of its segments' spectrograms into this folder, with axes
    #[arg(long, value_name = "DIR", requires = "track")]
    png: Option<PathBuf>,
    /// Where the tracks are now [default: where run.toml says]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Height of a picture's coloured area, pixels.
const HEIGHT: usize = 640;
/// So many of the most confident classes are named.
const NAMED: usize = 3;
/// Longest name of a class or a track in a table, in characters.
const NAME: usize = 40;
/// So many near names are suggested.
const NEAR: usize = 3;

#[derive(Serialize)]
struct Listed<'a> {
    #[serde(serialize_with = "output::path")]
    run: &'a Path,
    name: String,
    synthetic: bool,
    tracks: usize,
    disagree: Vec<Track<'a>>,
    wrong: Vec<Track<'a>>,
}

#[derive(Serialize)]
struct Track<'a> {
    track: &'a str,
    truth: &'a str,
    max: &'a str,
    max_probabilities: &'a str,
    maj: &'a str,
    /// Segments that voted for `maj`.
    votes: usize,
    segments: usize,
    /// Mean over the segments, one a class.
    confidences: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
struct One<'a> {
    #[serde(serialize_with = "output::path")]
    run: &'a Path,
    name: String,
    synthetic: bool,
    #[serde(flatten)]
    track: Track<'a>,
    each: Vec<Segment<'a>>,
    #[serde(serialize_with = "output::paths")]
    written: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Segment<'a> {
    segment: u32,
    /// Seconds; none where that is not known.
    start: Option<f64>,
    predicted: &'a str,
    confidences: serde_json::Map<String, serde_json::Value>,
}

impl Args {
    pub fn run(self) -> Result<ExitCode> {
        let progress = Progress::new(self.output.quiet);
        let run = self.find(&progress)?;
        let examples = examples::of(&run, &results::segments(&run)?)?;
        let view = View { run: &run, classes: &run.results.data.classes };
        match &self.track {
            None if self.output.json => {
                print_json(&Listed {
                    run: &run.folder,
                    name: view.name(),
                    synthetic: run.results.data.synthetic,
                    tracks: examples.len(),
                    disagree: examples::disputed(&examples).into_iter().map(|example| view.track(example)).collect(),
                    wrong: examples::wrong(&examples).into_iter().map(|example| view.track(example)).collect(),
                })?;
            }
            None => print(&view.lists(&examples))?,
            Some(track) => self.one(&view, find(&examples, track)?, &progress)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The run that is meant: that of the folder itself, or the best one in it.
    fn find(&self, progress: &Progress) -> Result<Run> {
        if self.run.join("run.toml").exists() || !self.run.is_dir() {
            return results::read(&self.run);
        }
        let mut folders: Vec<PathBuf> = std::fs::read_dir(&self.run)
            .map_err(Error::io("cannot read this folder", &self.run))?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.join("run.toml").exists() && path.join("results.json").exists())
            .collect();
        folders.sort();
        let runs = folders.iter().map(|folder| results::read(folder)).collect::<Result<Vec<Run>>>()?;
        // the first of equals, as they are listed
        let better = |best: Run, run: Run| {
            if run.results.accuracies.max > best.results.accuracies.max { run } else { best }
        };
        let best = runs.into_iter().reduce(better).ok_or_else(|| {
            let message = "neither a run's folder nor a study's (no run.toml, and no sub-folder with a finished run); \
                 give the folder that train or reproduce wrote";
            Error::Config(format!("{}: {message}", self.run.display()))
        })?;
        if folders.len() > 1 {
            let names: Vec<_> = folders.iter().filter_map(|folder| folder.file_name()?.to_str()).collect();
            let shown = best.folder.file_name().unwrap_or_default().to_string_lossy();
            progress.note(&format!("{} runs: {}; {shown} is the best by max", names.len(), names.join(", ")));
        }
        Ok(best)
    }

    /// One track, and the files that are asked for.
    fn one(&self, view: &View, example: &Example, progress: &Progress) -> Result<()> {
        let heard = self.heard(view.run, example);
        let wanted = self.wav.is_some() || self.png.is_some();
        let heard = match heard {
            Ok(heard) => Some(heard),
            Err(error) if wanted => return Err(error),
            Err(error) => {
                progress.note(&format!("where segments start is not known: {}", error.one_line()));
                None
            }
        };
        let written = heard.as_ref().map_or(Ok(Vec::new()), |heard| self.write(view.run, example, heard))?;
        let start = |row: usize| heard.as_ref().and_then(|heard| heard[row].start);
        if !self.output.json {
            let mut text = view.segments(example, start);
            for path in &written {
                let _ = writeln!(text, "{}", path.display());
            }
            return print(&text);
        }
        let each = example.segments.iter().enumerate().map(|(row, segment)| Segment {
            segment: segment.number,
            start: start(row),
            predicted: view.class(segment.predicted),
            confidences: view.confidences(|class| segment.confidences[class]),
        });
        print_json(&One {
            run: &view.run.folder,
            name: view.name(),
            synthetic: view.run.results.data.synthetic,
            track: view.track(example),
            each: each.collect(),
            written,
        })
    }

    /// The track's segments, from where its data are.
    fn heard(&self, run: &Run, example: &Example) -> Result<Vec<sound::Segment>> {
        let mut data = run.config.data.clone();
        if self.data.is_some() {
            data.path.clone_from(&self.data);
        }
        example.heard(&Sound::open(&data.source(), &data.settings())?)
    }

    /// Writes sound and pictures; gives their paths.
    fn write(&self, run: &Run, example: &Example, heard: &[sound::Segment]) -> Result<Vec<PathBuf>> {
        let track = &example.verdict.track;
        let mut written = Vec::new();
        let path = |folder: &Path, number: u32, ending: &str| {
            let safe = |c: char| if c.is_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '-' };
            folder.join(format!("{}-{number:02}.{ending}", track.chars().map(safe).collect::<String>()))
        };
        if self.wav.is_some() && heard.iter().any(|segment| segment.samples.is_none()) {
            let message = "a prepared file holds spectrograms and no sound; give the tracks with --data";
            let data = self.data.as_ref().or(run.config.data.path.as_ref());
            return Err(Error::data(data.map_or(Path::new(""), PathBuf::as_path), message));
        }
        for folder in self.wav.iter().chain(&self.png) {
            std::fs::create_dir_all(folder).map_err(Error::io("cannot create", folder))?;
        }
        for (segment, heard) in example.segments.iter().zip(heard) {
            if let (Some(folder), Some(samples)) = (&self.wav, &heard.samples) {
                let path = path(folder, segment.number, "wav");
                files::replace(&path, &wav::bytes(samples)?)?;
                written.push(path);
            }
            if let Some(folder) = &self.png {
                let path = path(folder, segment.number, "png");
                let title = format!("{track}, segment {}", segment.number);
                let front_end = &run.config.data.front_end;
                files::replace(&path, &html::segment_png(front_end, &title, heard, HEIGHT)?)?;
                written.push(path);
            }
        }
        Ok(written)
    }
}

/// The track that is called `name`.
fn find<'a>(examples: &'a [Example], name: &str) -> Result<&'a Example> {
    examples.iter().find(|example| example.verdict.track == name).ok_or_else(|| {
        let mut near: Vec<(f64, &str)> = examples
            .iter()
            .map(|example| (strsim::jaro_winkler(name, &example.verdict.track), &*example.verdict.track))
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        let near: Vec<&str> = near.iter().take(NEAR).map(|(_, name)| *name).collect();
        Error::Config(format!("--track {name}: no test track of this run; near it are {}", near.join(", ")))
    })
}

/// A run, and how its tracks are shown.
struct View<'a> {
    run: &'a Run,
    classes: &'a [String],
}

impl<'a> View<'a> {
    fn class(&self, class: u32) -> &'a str {
        &self.classes[class as usize]
    }

    /// [`View::class`] as it is printed.
    fn shown(&self, class: u32) -> String {
        clean(self.class(class), NAME)
    }

    fn name(&self) -> String {
        format!("{}, {}", run_name(self.run), data_label(&self.run.results.data))
    }

    fn confidences(&self, of: impl Fn(usize) -> f64) -> serde_json::Map<String, serde_json::Value> {
        self.classes.iter().enumerate().map(|(k, class)| (class.clone(), of(k).into())).collect()
    }

    fn track<'b>(&'b self, example: &'b Example) -> Track<'b> {
        let verdict = &example.verdict;
        Track {
            track: &verdict.track,
            truth: self.class(verdict.label),
            max: self.class(verdict.max),
            max_probabilities: self.class(verdict.max_probabilities),
            maj: self.class(verdict.maj),
            votes: example.votes(verdict.maj),
            segments: example.segments.len(),
            confidences: self.confidences(|class| example.confidence(class as u32)),
        }
    }

    /// The tracks worth a look.
    fn lists(&self, examples: &[Example]) -> String {
        let accuracies = &self.run.results.accuracies;
        let (raw, max, maj) = (accuracies.raw, accuracies.max, accuracies.maj);
        let mut text = format!("{}: raw {raw:.2} %, max {max:.2} %, maj {maj:.2} %\n", self.name());
        for (title, listed) in [
            ("max and maj disagree", examples::disputed(examples)),
            ("both max and maj are wrong", examples::wrong(examples)),
        ] {
            let _ = writeln!(text, "\n{title}: {} of {} test tracks", listed.len(), examples.len());
            if listed.is_empty() {
                continue;
            }
            let mut table = plain(&["track", "truth", "max (confidence)", "maj (votes)", "confidence in truth"]);
            for example in listed {
                let verdict = &example.verdict;
                table.add_row([
                    clean(&verdict.track, NAME),
                    self.shown(verdict.label),
                    format!("{} ({} %)", self.shown(verdict.max), percent(example.confidence(verdict.max))),
                    format!("{} ({}/{})", self.shown(verdict.maj), example.votes(verdict.maj), example.segments.len()),
                    format!("{} %", percent(example.confidence(verdict.label))),
                ]);
            }
            let _ = writeln!(text, "{table}");
        }
        text + "\nconfidences: softmax, mean over a track's segments; --track shows one segment by segment\n"
    }

    /// One track, segment by segment.
    fn segments(&self, example: &Example, start: impl Fn(usize) -> Option<f64>) -> String {
        let verdict = &example.verdict;
        let mark = |class: u32| if class == verdict.label { "right" } else { "wrong" };
        let mut text = format!("{}\n{}: {}\n", self.name(), clean(&verdict.track, NAME), self.shown(verdict.label));
        let said = |class: u32| format!("{}, {}", self.shown(class), mark(class));
        let sure = |class: u32| format!("mean confidence {} %", percent(example.confidence(class)));
        let (max, likely, maj) = (verdict.max, verdict.max_probabilities, verdict.maj);
        let _ = writeln!(text, "  max          {} ({})", said(max), sure(max));
        let _ = writeln!(text, "  max (prob.)  {} ({})", said(likely), sure(likely));
        let (votes, of) = (example.votes(maj), example.segments.len());
        let _ = writeln!(text, "  maj          {} ({votes} of {of} segments)\n", said(maj));
        let mut table = plain(&["segment", "start, s", "vote", "", "confidences", "truth"]);
        for (row, segment) in example.segments.iter().enumerate() {
            let share = |class: u32| percent(segment.confidences[class as usize]);
            let top = ranking(&segment.confidences).into_iter().take(NAMED).map(|class| class as u32);
            let top: Vec<String> = top.map(|class| format!("{} {} %", self.shown(class), share(class))).collect();
            table.add_row([
                segment.number.to_string(),
                start(row).map_or("–".to_string(), |start| format!("{start:.2}")),
                self.shown(segment.predicted),
                mark(segment.predicted).to_string(),
                top.join(", "),
                format!("{} %", share(verdict.label)),
            ]);
        }
        let _ = writeln!(text, "{table}");
        text
    }
}

/// An empty table of the program's style.
fn plain(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(tables::STYLE).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    table
}

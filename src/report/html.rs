//! `report.html`: all of it on one page that needs no network and no script: tables, figures, and tracks to listen to.
//!
//! The page is the template `page.html` beside this file; every text in it is escaped unless it is made here (pictures,
//! sound). It holds what [`tables`] and the pictures hold, by the same functions.

use std::collections::HashSet;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use rayon::prelude::*;
use serde::Serialize;

use crate::audio::{FrontEnd, SAMPLE_RATE, SEGMENT_SAMPLES, wav};
use crate::data::load::Source;
use crate::data::segments::Settings;
use crate::data::sound::{self, Sound};
use crate::error::{Error, Result};
use crate::files;
use crate::train::config::Config;
use crate::train::results::{self, DataSummary, Results, Run};

use super::examples::{self, Example, percent};
use super::labels::{SYNTHETIC, Section, clean, counted, data_label, data_labels, last_runs, run_name};
use super::spectrogram::{self, Spectrogram};
use super::tables::{self, Grid, Part};
use super::{confusion, curves};

/// Tracks shown in each list of a run.
const SHOWN: usize = 4;
/// Sound and spectrograms may take so many bytes of the page; every track beyond is shown without.
const ROOM: usize = 18_000_000;
/// Up to so many runs are shown unfolded.
const UNFOLDED: usize = 2;
/// Longest name of a class or a track on the page, in characters.
const NAME: usize = 60;

/// Tracks of one run that are worth a look.
#[derive(Clone, Debug, Default)]
pub struct Listening {
    /// On which run's verdicts, as an index into the page's runs.
    pub run: usize,
    /// Every test track.
    pub examples: Vec<Example>,
    /// The segments of those that can be seen or heard, by the track's name.
    pub segments: Vec<(String, Vec<sound::Segment>)>,
    /// Why something is missing, one sentence each.
    pub notes: Vec<String>,
}

impl Listening {
    /// The tracks on which max and maj disagree, and the others on which both are wrong: as many as are shown.
    fn lists(&self) -> [Vec<&Example>; 2] {
        let mut disputed = examples::disputed(&self.examples);
        disputed.truncate(SHOWN);
        let mut wrong = examples::wrong(&self.examples);
        wrong.retain(|example| !disputed.contains(example));
        wrong.truncate(SHOWN);
        [disputed, wrong]
    }
}

/// Writes `report.html` into `folder`: see [`listening()`] and [`page`].
///
/// # Errors
/// Those of [`page`] and of the disk.
pub fn write(folder: &Path, sections: &[Section]) -> Result<()> {
    files::replace(&folder.join("report.html"), page(sections, &listening(&last_runs(sections)))?.as_bytes())
}

/// What to listen to: tracks of the first run of each net. What cannot be had, because files were moved for instance, is
/// told in [`Listening::notes`].
pub fn listening(runs: &[Run]) -> Vec<Listening> {
    let mut nets = HashSet::new();
    let chosen: Vec<usize> = (0..runs.len()).filter(|&run| nets.insert(runs[run].results.model.to_string())).collect();
    // nets that were tested on the same tracks share them: a pickle is read once
    let mut sounds: Vec<(Source, Settings, Result<Sound>)> = Vec::new();
    let listen = |run: usize| {
        let mut listening = Listening { run, ..Listening::default() };
        let found = results::segments(&runs[run]).and_then(|segments| examples::of(&runs[run], &segments));
        match found {
            Ok(examples) => listening.examples = examples,
            Err(error) => listening.notes.push(format!("no segments to show: {}", error.one_line())),
        }
        let data = &runs[run].config.data;
        let (source, settings) = (data.source(), data.settings());
        if listening.lists().iter().all(Vec::is_empty) {
            return listening;
        }
        if !sounds.iter().any(|(s, t, _)| (s, t) == (&source, &settings)) {
            let sound = Sound::open(&source, &settings);
            sounds.push((source.clone(), settings.clone(), sound));
        }
        match sounds.iter().find(|(s, t, _)| (s, t) == (&source, &settings)) {
            Some((.., Ok(sound))) => hear(&mut listening, sound, ROOM / chosen.len()),
            Some((.., Err(error))) => listening.notes.push(format!("no sound: {}", error.one_line())),
            None => {}
        }
        listening
    };
    chosen.iter().copied().map(listen).collect()
}

/// Fetches the segments of the tracks that are shown, as long as they fit into `room` bytes.
fn hear(listening: &mut Listening, sound: &Sound, room: usize) {
    let [disputed, wrong] = listening.lists();
    // alternately, so that neither list is left without
    let longest = disputed.len().max(wrong.len());
    let tracks = (0..longest).flat_map(|k| disputed.get(k).into_iter().chain(wrong.get(k)));
    let (mut taken, mut left_out, mut notes) = (0, 0, Vec::new());
    let mut heard = Vec::new();
    for example in tracks {
        match example.heard(sound) {
            Ok(segments) => {
                taken += segments.iter().map(weight).sum::<usize>();
                if taken > room {
                    left_out += 1;
                } else {
                    heard.push((example.verdict.track.clone(), segments));
                }
            }
            Err(error) => notes.push(error.one_line()),
        }
    }
    if left_out > 0 {
        notes.push(format!(
            "sound and spectrograms of {} would make this page too large; genregrad inspect writes them with --track, \
             --wav and --png",
            counted(left_out, "track")
        ));
    }
    if !sound.is_audible() {
        notes.push("a prepared file holds spectrograms and no sound: there is nothing to play".to_string());
    }
    listening.segments = heard;
    listening.notes.extend(notes);
}

/// About how many bytes of the page a segment takes: base64 is a third more, and a picture has about 6 bytes a cell.
fn weight(segment: &sound::Segment) -> usize {
    let wav = segment.samples.as_ref().map_or(0, |samples| 44 + 2 * samples.len());
    (wav + 6 * segment.spectrogram.len()) / 3 * 4
}

/// A section's heading and its training curves, for wide and narrow windows.
fn figure_of(section: &Section) -> Result<(String, String, String)> {
    let runs = last_runs(std::slice::from_ref(section));
    Ok((section.title.clone(), curves::training_curves(&runs)?, curves::narrow_training_curves(&runs)?))
}

/// The page of `sections`, with the tracks of `listening`, which is of their [`last_runs`].
///
/// # Errors
/// Those of the pictures: no runs, damaged results.
pub fn page(sections: &[Section], listening: &[Listening]) -> Result<String> {
    let runs = &last_runs(sections)[..];
    if runs.is_empty() {
        return Err(Error::Config("report.html: expected one finished run or more, got none".to_string()));
    }
    let unmade = |error: minijinja::Error| Error::Config(format!("report.html: {error:#}"));
    let page = Page {
        title: format!("Results on {}", clean(&data_labels(runs), 80)),
        synthetic: runs.iter().any(|run| run.results.data.synthetic).then_some(SYNTHETIC),
        version: env!("CARGO_PKG_VERSION"),
        sections: sections.iter().map(|section| (section.title.clone(), tables::parts(section))).collect(),
        curves: sections.iter().filter(|section| !section.runs.is_empty()).map(figure_of).collect::<Result<_>>()?,
        runs: runs.iter().enumerate().map(|(k, run)| shown_run(k, run, runs.len())).collect::<Result<_>>()?,
        listening: listening.iter().map(|listening| shown_listening(runs, listening)).collect::<Result<_>>()?,
    };
    let mut templates = Environment::new();
    templates.set_auto_escape_callback(|_| AutoEscape::Html);
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(unmade)?;
    templates.set_syntax(syntax);
    templates.add_template("page.html", include_str!("page.html")).map_err(unmade)?;
    templates.get_template("page.html").and_then(|template| template.render(Serde(&page))).map_err(unmade)
}

/// What the template is filled with.
#[derive(Serialize)]
struct Page {
    title: String,
    synthetic: Option<&'static str>,
    version: &'static str,
    /// Headings and tables.
    sections: Vec<(String, Vec<Part>)>,
    /// A table's heading and two SVGs, wide and narrow: few enough lines in each to tell them apart.
    curves: Vec<(String, String, String)>,
    runs: Vec<ShownRun>,
    listening: Vec<ShownListening>,
}

#[derive(Serialize)]
struct ShownRun {
    id: String,
    name: String,
    open: bool,
    scores: String,
    /// Names and values.
    facts: Vec<(&'static str, String)>,
    /// An SVG, and one for narrow windows.
    confusion: [String; 2],
    caption: String,
    matrix: Grid,
    curve: Grid,
    curve_caption: String,
    /// `run.toml`, with the data's name instead of its path.
    settings: String,
}

#[derive(Serialize)]
struct ShownListening {
    id: String,
    name: String,
    notes: Vec<String>,
    classes: Vec<ShownClass>,
    /// The class of the tables of confidences: see [`tables::cards_below`].
    cards: &'static str,
    lists: Vec<List>,
}

#[derive(Serialize)]
struct ShownClass {
    name: String,
    short: String,
}

#[derive(Serialize)]
struct List {
    title: &'static str,
    what: String,
    tracks: Vec<ShownTrack>,
}

#[derive(Serialize)]
struct ShownTrack {
    id: String,
    name: String,
    truth: String,
    verdicts: Vec<Verdict>,
    segments: Vec<ShownSegment>,
    /// Whether there is something to see or hear.
    figures: bool,
    open: bool,
}

#[derive(Serialize)]
struct Verdict {
    by: &'static str,
    class: String,
    why: String,
    right: bool,
}

#[derive(Serialize)]
struct ShownSegment {
    number: u32,
    start: Option<String>,
    cells: Vec<Cell>,
    predicted: String,
    right: bool,
    /// The most confident classes in words.
    words: String,
    figure: Option<Figure>,
}

#[derive(Serialize)]
struct Cell {
    percent: String,
    /// Percent, for the colour.
    weight: u32,
    truth: bool,
    predicted: bool,
}

#[derive(Serialize)]
struct Figure {
    /// An SVG.
    svg: String,
    /// A WAV file in base64.
    wav: Option<String>,
}

fn shown_run(number: usize, run: &Run, runs: usize) -> Result<ShownRun> {
    let Results { data, accuracies, parameters, steps, device, seconds, .. } = &run.results;
    let DataSummary { train_tracks, test_tracks, train_segments, train_deformed, test_segments, .. } = data;
    let deformed = if *train_deformed > 0 { format!(" ({train_deformed} of them deformed)") } else { String::new() };
    let facts = vec![
        ("Data", format!("{}, {}", data_label(data), counted(data.classes.len(), "genre"))),
        ("Trained on", format!("{train_segments} segments{deformed} of {train_tracks} tracks")),
        ("Tested on", format!("{test_segments} segments of {test_tracks} tracks")),
        ("Seen as", format!("{}, {} × {}", run.config.data.front_end, data.spectrogram[0], data.spectrogram[1])),
        ("Net", format!("{}, {parameters} trainable parameters", run.results.model)),
        ("Steps", format!("{steps}, of {} segments each", run.config.batch)),
        ("Machine", clean(device, 80)),
        ("Time", format!("{seconds:.0} s of training and testing")),
    ];
    let mut config: Config = run.config.clone();
    // as without_folders
    config.data.path = config.data.path.take().map(|_| clean(&data.name, NAME).into());
    Ok(ShownRun {
        id: format!("run-{}", number + 1),
        name: run_name(run),
        open: runs <= UNFOLDED,
        scores: format!(
            "raw\u{a0}{:.2}\u{a0}%, max\u{a0}{:.2}\u{a0}%, maj\u{a0}{:.2}\u{a0}%",
            accuracies.raw, accuracies.max, accuracies.maj
        ),
        facts,
        confusion: [confusion::confusion_matrix(run)?, confusion::narrow_confusion_matrix(run)?],
        caption: tables::confusion_caption(run),
        matrix: tables::confusion_grid(&run.results),
        curve: tables::curves_grid(&run.epochs),
        curve_caption: format!("{}: {}", run_name(run), tables::curves_caption(&run.epochs)),
        settings: toml::to_string(&config).map_err(|error| Error::Config(error.to_string()))?,
    })
}

fn shown_listening(runs: &[Run], listening: &Listening) -> Result<ShownListening> {
    let run = runs.get(listening.run).ok_or_else(|| Error::Config(format!("run {} of the page", listening.run)))?;
    let classes = &run.results.data.classes;
    let short = tables::abbreviations(classes);
    let [disputed, wrong] = listening.lists();
    let total = listening.examples.len();
    let twice = disputed.iter().filter(|example| example.is_wrong()).count();
    let of = |shown: usize, above: usize, all: usize| {
        let others = if above > 0 { format!(", {above} of them above") } else { String::new() };
        let shown = match all - above {
            left if shown == left => String::new(),
            _ => format!("; the {shown} most confident {}are shown", if above > 0 { "others " } else { "" }),
        };
        format!("{all} of {}{others}{shown}.", counted(total, "test track"))
    };
    let all = [examples::disputed(&listening.examples).len(), examples::wrong(&listening.examples).len()];
    let whats = [of(disputed.len(), 0, all[0]), of(wrong.len(), twice, all[1])];
    let id = format!("listen-{}", listening.run + 1);
    let mut lists = Vec::new();
    for (k, (tracks, what)) in [disputed, wrong].into_iter().zip(whats).enumerate() {
        let title = ["Max and maj disagree", "Both max and maj are wrong"][k];
        let track = |(place, example): (usize, &&Example)| {
            let heard = listening.segments.iter().find(|(track, _)| *track == example.verdict.track);
            shown_track(run, example, heard.map(|(_, segments)| &segments[..]), (&format!("{id}-{k}"), place))
        };
        let tracks = tracks.par_iter().enumerate().map(track).collect::<Result<_>>()?;
        lists.push(List { title, what, tracks });
    }
    let classes = classes.iter().zip(short).map(|(name, short)| ShownClass { name: clean(name, NAME), short });
    let notes = listening.notes.iter().map(|note| clean(&without_folders(run, note), 400)).collect();
    // nothing to list where the segments could not be read
    if total == 0 {
        lists.clear();
    }
    // segment, start, vote, then a column of six letters' width per class
    let longest = run.results.data.classes.iter().map(|class| class.chars().count()).max().unwrap_or_default();
    let columns = [&[7, 8, longest.min(NAME) + 2][..], &vec![6; run.results.data.classes.len()]].concat();
    let (cards, classes) = (tables::cards_below(&columns), classes.collect());
    Ok(ShownListening { id, name: run_name(run), notes, classes, cards, lists })
}

/// `text` with names in the place of paths: a page is passed on, and nobody's folders with it.
fn without_folders(run: &Run, text: &str) -> String {
    let name = run.folder.file_name().unwrap_or_default().to_string_lossy();
    let text = text.replace(&run.folder.display().to_string(), &name);
    match &run.config.data.path {
        Some(path) => text.replace(&path.display().to_string(), &run.results.data.name),
        None => text,
    }
}

fn shown_track(
    run: &Run,
    example: &Example,
    heard: Option<&[sound::Segment]>,
    (list, place): (&str, usize),
) -> Result<ShownTrack> {
    let classes = &run.results.data.classes;
    let class = |class: u32| clean(&classes[class as usize], NAME);
    let verdict = &example.verdict;
    let mean = |class: u32| format!("mean confidence {} %", percent(example.confidence(class)));
    let votes = format!("{} of {}", example.votes(verdict.maj), counted(example.segments.len(), "segment"));
    let verdicts = [("max", verdict.max, mean(verdict.max)), ("maj", verdict.maj, votes)]
        .map(|(by, named, why)| Verdict { by, class: class(named), why, right: named == verdict.label });
    let segments = example.segments.iter().enumerate().map(|(row, segment)| {
        let heard = heard.and_then(|heard| heard.get(row));
        let ranked = examples::ranking(&segment.confidences);
        let words: Vec<String> = ranked
            .iter()
            .take(3)
            .map(|&k| format!("{} {} %", class(k as u32), percent(segment.confidences[k])))
            .collect();
        let cell = |(k, &confidence): (usize, &f64)| Cell {
            percent: percent(confidence),
            weight: (100.0 * confidence).round() as u32,
            truth: k as u32 == verdict.label,
            predicted: k as u32 == segment.predicted,
        };
        Ok(ShownSegment {
            number: segment.number,
            start: heard.and_then(|heard| heard.start).map(|start| format!("{start:.2}")),
            cells: segment.confidences.iter().enumerate().map(cell).collect(),
            predicted: class(segment.predicted),
            right: segment.predicted == verdict.label,
            words: words.join(", "),
            figure: heard.map(|heard| figure(run, &verdict.track, segment.number, heard)).transpose()?,
        })
    });
    Ok(ShownTrack {
        id: format!("{list}-{}", place + 1),
        name: clean(&verdict.track, NAME),
        truth: class(verdict.label),
        verdicts: verdicts.into(),
        segments: segments.collect::<Result<_>>()?,
        figures: heard.is_some_and(|heard| !heard.is_empty()),
        open: place == 0,
    })
}

fn figure(run: &Run, track: &str, number: u32, segment: &sound::Segment) -> Result<Figure> {
    let front_end = &run.config.data.front_end;
    let length = SEGMENT_SAMPLES as f64 / f64::from(SAMPLE_RATE);
    let place = segment.start.map_or(String::new(), |start| format!(", {start:.2} s to {:.2} s", start + length));
    let title = format!("Spectrogram ({front_end}) of {}, segment {number}{place}", clean(track, NAME));
    let centres = front_end.centres();
    Ok(Figure {
        svg: spectrogram::svg(&picture(front_end, &centres, &title, segment))?,
        wav: segment.samples.as_ref().map(|samples| wav::bytes(samples)).transpose()?.map(|wav| STANDARD.encode(wav)),
    })
}

/// A segment's spectrogram as it is drawn.
fn picture<'a>(
    front_end: &FrontEnd,
    centres: &'a [f64],
    title: &'a str,
    segment: &'a sound::Segment,
) -> Spectrogram<'a> {
    Spectrogram {
        values: &segment.spectrogram,
        centres,
        scale: front_end.scale(),
        start: segment.start.unwrap_or(0.0),
        step: front_end.hop_length() as f64 / f64::from(SAMPLE_RATE),
        title,
    }
}

/// A segment's spectrogram as a PNG file whose coloured area is about `height` pixels high.
///
/// # Errors
/// Those of [`spectrogram::png`].
pub fn segment_png(front_end: &FrontEnd, title: &str, segment: &sound::Segment, height: usize) -> Result<Vec<u8>> {
    let centres = front_end.centres();
    let frames = segment.spectrogram.len() / centres.len().max(1);
    let cell = (height / centres.len().max(1)).max(1);
    let size = ((cell * frames).clamp(240, 1_600) as u32, (cell * centres.len()).min(1_600) as u32);
    spectrogram::png(&picture(front_end, &centres, title, segment), size)
}

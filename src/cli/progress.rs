//! What a person sees while waiting, on standard error: bars on a terminal, plain lines elsewhere, nothing with --quiet.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::device::{Choice, memory};
use crate::error::{Result, printable};
use crate::experiments::Loaded;
use crate::experiments::grid::Cell;
use crate::experiments::study::{Ahead, Watcher};
use crate::train::config::{Config, Data};
use crate::train::fit::Observer;
use crate::train::metrics::Epoch;
use crate::train::results::DataSummary;

use super::interrupt;

/// How progress is shown.
#[derive(Clone, Debug)]
pub struct Progress {
    how: How,
    /// Several trainings may go on at once, each with a bar of its own.
    bars: MultiProgress,
    /// Said once there are data, so that an error before is the only line.
    device: Option<String>,
    /// Tracks left out so far, each with the reason.
    skipped: Vec<(PathBuf, String)>,
    /// See [`Progress::with_needs`].
    needs: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Bars,
    Lines,
    Quiet,
}

impl Progress {
    /// Bars if standard error is a terminal that can redraw a line, unless `quiet`.
    pub fn new(quiet: bool) -> Self {
        let bars = MultiProgress::new();
        let how = match quiet {
            true => How::Quiet,
            false if std::io::stderr().is_terminal() && !bars.is_hidden() && can_redraw() => How::Bars,
            false => How::Lines,
        };
        Progress { how, bars, device: None, skipped: Vec::new(), needs: false }
    }

    /// One line that is good to know.
    pub fn note(&self, line: &str) {
        if self.how != How::Quiet {
            warn(line);
        }
    }

    /// Keeps the name of the device, and what may surprise about it, for [`Progress::loaded`].
    pub fn device(&mut self, choice: &Choice) {
        let note = choice.note.as_ref().map_or(String::new(), |note| format!(" ({note})"));
        self.device = Some(format!("{}{note}", choice.description));
    }

    /// A bar of `total` steps, hidden where bars are not shown; `{prefix}` and `{msg}` are free.
    pub fn bar(&self, template: &str, total: usize) -> ProgressBar {
        if self.how != How::Bars {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        self.bars.add(ProgressBar::new(total as u64).with_style(style.progress_chars("=> ")))
    }

    /// What tells (tracks done, tracks in all) while data are loaded.
    pub fn tracks(&self) -> impl Fn(usize, usize) + Sync + use<> {
        let bar = Cleared(self.bar("{prefix} [{bar:30}] {pos}/{len} {eta}", 0).with_prefix("tracks"));
        move |done, total| {
            bar.0.set_length(total as u64);
            // threads report out of order
            bar.0.set_position(bar.0.position().max(done as u64));
        }
    }

    /// Also says after a training's first epoch how much time and memory it needs, for a cluster's job.
    pub fn with_needs(self) -> Self {
        Progress { needs: true, ..self }
    }

    /// What follows a training of `config` called `name` that stops after `max_steps`; `ahead` is what else there is to do.
    pub fn epochs(&self, name: &str, config: &Config, max_steps: Option<u32>, ahead: Ahead) -> Epochs {
        let name = if ahead.cells > 1 { format!("{}/{} {name}", ahead.cell, ahead.cells) } else { name.to_string() };
        let bar = self.bar("{prefix} [{wide_bar}] {pos}/{len}{msg}", 0).with_prefix(name.clone());
        Epochs {
            how: self.how,
            bar: Cleared(bar),
            name,
            epochs: config.epochs,
            max_steps: max_steps.map_or(u64::MAX, u64::from),
            ahead,
            _training: interrupt::training(),
            total: 0,
            done: 0,
            first: None,
            started: Instant::now(),
            needs: self.needs && self.how != How::Quiet,
        }
    }

    /// Says what was loaded and keeps the skipped tracks for [`Progress::finish`].
    pub fn loaded(&mut self, loaded: &Loaded) {
        let summary = DataSummary::of(&loaded.dataset);
        let DataSummary { name, classes, train_tracks, test_tracks, train_segments, test_segments, .. } = summary;
        let deformed = match summary.train_deformed {
            0 => String::new(),
            deformed => format!(" ({deformed} of them deformed)"),
        };
        self.note(&format!(
            "{name}: {} genres; training on {train_segments} segments{deformed} of {train_tracks} tracks, testing on \
             {test_segments} of {test_tracks}",
            classes.len()
        ));
        loaded.notes.iter().for_each(|note| self.note(note));
        if let Some(device) = self.device.take() {
            self.note(&device);
        }
        for track in &loaded.skipped {
            if !self.skipped.contains(track) {
                self.skipped.push(track.clone());
            }
        }
    }

    /// One line that is said also with --quiet: results depend on it.
    pub fn always(&self, line: &str) {
        self.bars.suspend(|| warn(line));
    }

    /// Names what was left out of the data, also with --quiet: results depend on it.
    pub fn finish(self) -> Vec<(PathBuf, String)> {
        if !self.skipped.is_empty() {
            warn(&format!("{} left out:", self.skipped.len()));
        }
        self.skipped.iter().for_each(|(path, reason)| warn(&format!("  {}: {reason}", path.display())));
        self.skipped
    }
}

impl Watcher for Progress {
    fn loading(&self, _data: &Data) -> Box<dyn Fn(usize, usize) + Sync + '_> {
        Box::new(self.tracks())
    }

    fn loaded(&mut self, loaded: &Loaded) {
        Progress::loaded(self, loaded);
    }

    fn training(&self, cell: &Cell, ahead: Ahead) -> Box<dyn Observer + Send + '_> {
        Box::new(self.epochs(&cell.name, &cell.config, None, ahead))
    }

    fn note(&self, line: &str) {
        Progress::note(self, line);
    }

    fn stops(&self) -> bool {
        interrupt::is_asked()
    }

    fn resumable(&self, how: &str) {
        interrupt::resumable(how);
    }
}

/// Whether the terminal's kind has a way to redraw a line: on Unix, TERM names the kind.
fn can_redraw() -> bool {
    let kind = std::env::var_os("TERM").unwrap_or_default();
    !cfg!(unix) || !(kind.is_empty() || kind == "dumb" || kind == "unknown")
}

/// One line on standard error; if that is closed, nobody wants to know.
pub(super) fn warn(line: &str) {
    // a file's name may hold a line feed
    let _ = writeln!(std::io::stderr(), "{}", printable(&line.replace(['\n', '\t'], " ")));
}

/// A bar that goes when it is dropped, also on the way out of an error.
struct Cleared(ProgressBar);

impl Drop for Cleared {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Follows one training: a bar over all of its steps, or one line an epoch.
pub struct Epochs {
    how: How,
    bar: Cleared,
    name: String,
    epochs: u32,
    max_steps: u64,
    ahead: Ahead,
    _training: interrupt::Training,
    total: u64,
    done: u64,
    /// Steps that an earlier attempt had done.
    first: Option<u64>,
    started: Instant,
    /// Whether the training's needs are still to be said.
    needs: bool,
}

impl Epochs {
    /// `shallow-seed1, epoch 2/10`.
    fn title(&self, epoch: u32) -> String {
        format!("{}, epoch {epoch}/{}", self.name, self.epochs)
    }

    /// Seconds per step so far.
    fn step_seconds(&self) -> f64 {
        let taken = self.done - self.first.unwrap_or_default();
        self.started.elapsed().as_secs_f64() / taken.max(1) as f64
    }

    /// `one training needs about 2 h 07 min and 512 MB`: all of its steps at the pace so far, and the process's peak memory.
    fn needed(&self) -> String {
        let whole = Duration::try_from_secs_f64(self.step_seconds() * self.total as f64).unwrap_or(Duration::MAX);
        let memory = memory::peak().map_or(String::new(), |bytes| format!(" and {} MB", bytes.div_ceil(1_000_000)));
        format!("{}: the whole training needs about {}{memory}", self.name, seconds(whole))
    }

    /// `, 3 min left`, at the pace so far; `, 3 min left (all: 2 h 10 min)` where other trainings follow.
    fn left(&self) -> String {
        let (step, left) = (self.step_seconds(), self.total - self.done);
        let own = step * left as f64;
        let all = own + step * self.total as f64 * self.ahead.after;
        let shown = |s: f64| seconds(Duration::try_from_secs_f64(s).unwrap_or(Duration::MAX));
        match (left, self.ahead.after > 0.0) {
            (0, false) => String::new(),
            (_, false) => format!(", {} left", shown(own)),
            (_, true) => format!(", {} left (all: {})", shown(own), shown(all)),
        }
    }
}

impl Observer for Epochs {
    fn step(&mut self, epoch: u32, step: usize, steps: usize) {
        self.total = (steps as u64 * u64::from(self.epochs)).min(self.max_steps);
        self.done = (u64::from(epoch - 1) * steps as u64 + step as u64).min(self.total);
        self.first.get_or_insert(self.done.saturating_sub(1));
        self.bar.0.set_prefix(self.title(epoch));
        self.bar.0.set_length(self.total);
        self.bar.0.set_position(self.done);
    }

    fn epoch(&mut self, epochs: &[Epoch]) -> Result<()> {
        let Some(last) = epochs.last() else { return Ok(()) };
        let scores = format!("loss {:.2}, test accuracy {:.1} %", last.loss, last.test_accuracy);
        let left = self.left();
        if self.how == How::Lines || (self.how == How::Bars && self.done == self.total) {
            let taken = seconds(self.started.elapsed());
            let line = format!("{}: {scores}, {taken}{left}", self.title(last.epoch));
            self.bar.0.suspend(|| warn(&line));
        }
        if std::mem::take(&mut self.needs) {
            self.bar.0.suspend(|| warn(&self.needed()));
        }
        self.bar.0.set_message(format!(", loss {:.1}, test {:.1} %{left}", last.loss, last.test_accuracy));
        Ok(())
    }

    fn stops(&self) -> bool {
        interrupt::is_asked()
    }
}

/// `42 s`, `3 min 05 s`, `2 h 07 min`.
fn seconds(duration: Duration) -> String {
    match duration.as_secs_f64().round() as u64 {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        s => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let said = |s: f64| seconds(Duration::from_secs_f64(s));
        assert_eq!([said(0.2), said(59.4), said(65.0), said(7_620.0)], ["0 s", "59 s", "1 min 05 s", "2 h 07 min"]);
    }
}

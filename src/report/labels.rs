//! The names of runs, data and results in tables, pictures and pages, and which runs are shown together.

use super::published::Experiment;
use crate::audio::{FrontEnd, Kind};
use crate::baseline;
use crate::data::split;
use crate::error::is_obeyed;
use crate::train::config::{Config, Preset, Schedule};
use crate::train::results::{DataSummary, Run};

/// A table of a study: what it is about, and what it shows.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its heading.
    pub title: String,
    /// Its rows, before they are averaged over seeds.
    pub runs: Vec<Run>,
    /// What came before the nets, to stand beside them.
    pub baselines: Vec<baseline::Results>,
}

/// The runs of all `sections`, each once, at their last epochs.
pub fn last_runs(sections: &[Section]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for run in sections.iter().flat_map(|section| &section.runs) {
        match runs.iter_mut().find(|other| other.folder == run.folder) {
            Some(other) if other.results.epochs < run.results.epochs => *other = run.clone(),
            Some(_) => {}
            None => runs.push(run.clone()),
        }
    }
    runs
}

/// Runs that differ in nothing but seed, split and fold, in order of appearance: what a mean is taken over.
pub(super) fn groups(runs: &[Run]) -> Vec<Vec<&Run>> {
    let key = |run: &Run| {
        let mut config = run.config.seedless();
        // a milestone of a longer run is a run of its own
        (config.epochs, config.milestones) = (0, Vec::new());
        // Which tracks fall into the test set depends on the fold; what the data are does not.
        let data = DataSummary {
            train_tracks: 0,
            test_tracks: 0,
            train_segments: 0,
            train_deformed: 0,
            test_segments: 0,
            ..run.results.data.clone()
        };
        (config, data, run.results.epochs)
    };
    let mut groups: Vec<Vec<&Run>> = Vec::new();
    for run in runs {
        match groups.iter_mut().find(|group| key(group[0]) == key(run)) {
            Some(group) => group.push(run),
            None => groups.push(vec![run]),
        }
    }
    groups
}

/// Whether deformed tracks were trained on: asked for, or found in a prepared file.
pub(super) fn is_augmented(run: &Run) -> bool {
    run.config.data.augment || run.results.data.train_deformed > 0
}

/// Which published experiment `config` repeats, on deformed tracks too if `augmented`; none was published of a front
/// end with other settings, nor of any split but a random one.
pub(super) fn experiment(config: &Config, augmented: bool) -> Option<Experiment> {
    let front_end = &config.data.front_end;
    if config.data.split != split::Kind::Random {
        return None;
    }
    match (front_end.kind(), config.schedule) {
        (kind, _) if *front_end != FrontEnd::from(kind) => None,
        (Kind::Mel, Schedule::Constant) if augmented => Some(Experiment::Augmentation),
        _ if augmented => None,
        (Kind::Mel, Schedule::Constant) => Some(Experiment::Replication),
        (Kind::Mel, Schedule::Exp) => Some(Experiment::Exp),
        (Kind::Cqt, Schedule::Constant) => Some(Experiment::Cqt),
        (Kind::Cqt, Schedule::Exp) => Some(Experiment::CqtExp),
        (Kind::Linear | Kind::Cwt, _) => None,
    }
}

/// `deep, preset report, CQT & EXP`: what differs from the study's main table is named.
pub fn variant(run: &Run) -> String {
    let preset = match run.config.preset {
        Preset::Paper => "paper",
        Preset::Report => "report",
    };
    let front_end = &run.config.data.front_end;
    let mut varied = Vec::new();
    if (front_end.kind(), front_end.bins()) != (Kind::Mel, FrontEnd::default().bins()) {
        varied.push(front_end.to_string());
    }
    if run.config.activation != Config::preset(run.config.preset, run.config.model).activation {
        varied.push(run.config.activation.to_string());
    }
    if run.config.schedule == Schedule::Exp {
        varied.push(Experiment::Exp.to_string());
    }
    if is_augmented(run) {
        varied.push(Experiment::Augmentation.to_string());
    }
    if run.config.data.split == split::Kind::Blocks {
        varied.push("blocks".to_string());
    }
    let name = format!("{}, preset {preset}", run.results.model);
    if varied.is_empty() { name } else { format!("{name}, {}", varied.join(" & ")) }
}

/// `deep, preset report, CQT, 100 epochs, seed 1`.
pub fn run_name(run: &Run) -> String {
    format!("{}, {}, {}", variant(run), counted(run.results.epochs as usize, "epoch"), repeat(run))
}

/// Which of several runs that differ in nothing else: `seed 1`, `seed 1, fold 0`.
pub(super) fn repeat(run: &Run) -> String {
    let seed = format!("seed {}", run.results.seed);
    if run.config.data.folds > 0 { format!("{seed}, fold {}", run.config.data.fold) } else { seed }
}

/// A name a group, all different: what was varied, or else the folder of its first run.
pub(super) fn group_names(groups: &[Vec<&Run>]) -> Vec<String> {
    let plain = |group: &Vec<&Run>| (variant(group[0]), group[0].results.epochs, data_label(&group[0].results.data));
    let name = |group: &Vec<&Run>| {
        let alone = groups.iter().filter(|other| plain(other) == plain(group)).count() == 1;
        let folder = group[0].folder.file_name().unwrap_or_default().to_string_lossy();
        if alone { plain(group).0 } else { format!("{} ({})", plain(group).0, clean(&folder, 24)) }
    };
    groups.iter().map(name).collect()
}

/// The data's name as it is shown; the built-in corpus always says `synthetic`.
pub fn data_label(data: &DataSummary) -> String {
    let name = clean(&data.name, 48);
    if data.synthetic && !name.to_lowercase().contains("synthetic") { format!("{name} (synthetic)") } else { name }
}

/// The names of all data of `runs`, each once.
pub(super) fn data_labels(runs: &[Run]) -> String {
    labels(runs.iter().map(|run| &run.results.data))
}

/// The names of all `data`, each once.
pub(super) fn labels<'a>(data: impl Iterator<Item = &'a DataSummary>) -> String {
    let mut labels: Vec<String> = Vec::new();
    for label in data.map(data_label) {
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    labels.join(", ")
}

/// What must stand beside every number measured on the built-in corpus.
pub(super) const SYNTHETIC: &str = "synthetic corpus: not comparable with the published numbers";

/// `1 epoch`, `2 epochs`.
pub(super) fn counted(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// `text` on one line of at most `longest` characters, without those that neither a terminal nor XML should see.
pub fn clean(text: &str, longest: usize) -> String {
    let printable =
        |c: char| if is_obeyed(c) || c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') { '\u{fffd}' } else { c };
    let mut kept: String = text.chars().take(longest).map(printable).collect();
    if text.chars().nth(longest).is_some() {
        kept.pop();
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Architecture;

    #[test]
    fn every_front_end_stands_beside_what_was_published_for_it() {
        let of = |kind: Kind, schedule| {
            let mut config = Config::preset(Preset::Report, Architecture::Deep);
            (config.data.front_end, config.schedule) = (kind.into(), schedule);
            experiment(&config, false)
        };
        assert_eq!(of(Kind::Mel, Schedule::Constant), Some(Experiment::Replication));
        assert_eq!(of(Kind::Mel, Schedule::Exp), Some(Experiment::Exp));
        assert_eq!(of(Kind::Cqt, Schedule::Constant), Some(Experiment::Cqt));
        assert_eq!(of(Kind::Cqt, Schedule::Exp), Some(Experiment::CqtExp));
        for kind in [Kind::Linear, Kind::Cwt] {
            assert_eq!((of(kind, Schedule::Constant), of(kind, Schedule::Exp)), (None, None));
        }
        // nobody published 84 bins, nor any augmented front end but log-mel
        let mut config = Config::preset(Preset::Report, Architecture::Deep);
        assert_eq!(experiment(&config, true), Some(Experiment::Augmentation));
        config.data.front_end = Kind::Cqt.into();
        assert_eq!(experiment(&config, true), None);
        config.data.front_end = FrontEnd::from(Kind::Cqt).with_bins(84);
        assert_eq!(experiment(&config, false), None);
        // nor neighbours held out together
        let mut config = Config::preset(Preset::Report, Architecture::Deep);
        config.data.split = split::Kind::Blocks;
        assert_eq!((experiment(&config, false), experiment(&config, true)), (None, None));
    }
}

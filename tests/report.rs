//! What a person reads of finished runs: numbers, labels, pictures, odd names, and no panic on nothing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use genregrad::audio;
use genregrad::baseline;
use genregrad::data::split::Kind;
use genregrad::models::Architecture::{self, Deep, Shallow};
use genregrad::nn::Activation;
use genregrad::report::{self, Section, confusion, curves, published, tables};
use genregrad::train::config::{Config, Preset, Schedule};
use genregrad::train::evaluate::{Accuracies, TrackPrediction};
use genregrad::train::metrics::Epoch;
use genregrad::train::results::{DataSummary, Results, Run};

const SYNTHETIC: &str = "synthetic corpus: not comparable with the published numbers";

/// A run on the built-in corpus with `raw` as its accuracy, and 1, 2 and 3 more as the others.
fn run(model: Architecture, seed: u64, epochs: u32, raw: f64) -> Run {
    let classes: Vec<String> = published::GENRES.iter().map(ToString::to_string).collect();
    let config = Config { seed, epochs, ..Config::preset(Preset::Report, model) };
    let track = |k: u32| TrackPrediction {
        track: format!("t{k}"),
        label: k % 10,
        max: k % 10,
        max_probabilities: k % 10,
        maj: k % 10,
    };
    let curve = |epoch: u32| Epoch {
        epoch,
        learning_rate: 5e-5,
        loss: 1500.0 / f64::from(epoch).sqrt() + 10.0 * seed as f64,
        train_accuracy: 100.0 - 85.0 / f64::from(epoch).sqrt(),
        test_accuracy: raw + 2.0 * seed as f64 - (raw - 10.0) / f64::from(epoch),
    };
    Run {
        folder: format!("runs/{model}-seed{seed}-{epochs}-{raw}").into(),
        config,
        results: Results {
            model,
            preset: Preset::Report,
            seed,
            epochs,
            steps: 750 * epochs,
            parameters: 2_060_610,
            data: DataSummary {
                name: "synthetic corpus".to_string(),
                synthetic: true,
                classes,
                train_tracks: 120,
                test_tracks: 40,
                train_segments: 1800,
                train_deformed: 0,
                test_segments: 600,
                spectrogram: [80, 80],
            },
            accuracies: Accuracies { raw, max: raw + 1.0, max_probabilities: raw + 2.0, maj: raw + 3.0 },
            confusion: published::CONFUSION.map(|row| row.to_vec()).to_vec(),
            tracks: (0..40).map(track).collect(),
            device: "CPU, 2 threads".to_string(),
            seconds: 61.4,
        },
        epochs: (1..=epochs).map(curve).collect(),
        earlier: false,
    }
}

#[test]
fn runs_are_named_by_what_sets_them_apart() {
    let mut tanh = run(Shallow, 2, 100, 50.0);
    assert_eq!(report::run_name(&tanh), "shallow, preset report, 100 epochs, seed 2");
    tanh.config.activation = Activation::Tanh;
    tanh.config.data.folds = 4;
    tanh.config.data.fold = 3;
    assert_eq!(report::run_name(&tanh), "shallow, preset report, tanh, 100 epochs, seed 2, fold 3");
    let document = tables::document(&study(&[tanh]));
    assert!(document.contains("\n## shallow, preset report, tanh, seed 2, fold 3\n"), "{document}");
}

#[test]
fn a_baselines_folds_are_no_seeds() {
    let of = |seed, fold| {
        let Results { data, accuracies, confusion, tracks, seconds, .. } = run(Shallow, 1, 1, 50.0).results;
        let settings = baseline::Settings::default();
        baseline::Results { settings, seed, split: Kind::Random, fold, data, accuracies, confusion, tracks, seconds }
    };
    let shown = |baselines: Vec<baseline::Results>| {
        tables::section_text(&Section { title: String::new(), runs: Vec::new(), baselines })
    };
    assert!(shown(vec![of(1, None), of(2, None)]).contains("2 seeds"));
    assert!(shown(vec![of(1, Some(0)), of(1, Some(1)), of(1, Some(2))]).contains("3 folds"));
    assert!(shown(vec![of(1, Some(0)), of(2, Some(1))]).contains("2 runs"));
}

/// A study of one table.
fn study(runs: &[Run]) -> Vec<Section> {
    vec![Section { title: "Replication".to_string(), runs: runs.to_vec(), baselines: Vec::new() }]
}

/// The same on a folder of real tracks called `name` with `classes`; the matrix is diagonal.
fn real(mut run: Run, name: &str, classes: &[&str]) -> Run {
    let data = &mut run.results.data;
    (data.name, data.synthetic) = (name.to_string(), false);
    data.classes = classes.iter().map(ToString::to_string).collect();
    let n = classes.len();
    run.results.confusion = (0..n).map(|k| (0..n).map(|j| if j == k { 7 } else { 0 }).collect()).collect();
    run
}

/// Every tag is closed in order, every `&` begins an entity, and the root is one `<svg>`.
fn assert_well_formed(svg: &str) {
    let mut open = Vec::new();
    let mut rest = svg;
    let mut roots = 0;
    while let Some(start) = rest.find('<') {
        assert!(!rest[..start].contains('>'), "a bare > in {}", &rest[..start]);
        let end = start + rest[start..].find('>').expect("an open tag");
        let tag = &rest[start + 1..end];
        assert!(!tag.contains('<') && tag.matches('"').count().is_multiple_of(2), "{tag}");
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name)),
            None if tag.ends_with('/') => {}
            None => {
                roots += usize::from(open.is_empty());
                open.push(tag.split_whitespace().next().unwrap());
            }
        }
        rest = &rest[end + 1..];
    }
    assert!(svg.starts_with("<svg ") && open.is_empty() && roots == 1 && rest.trim().is_empty());
    for after in svg.split('&').skip(1) {
        assert!(["amp;", "lt;", "gt;", "quot;", "apos;"].iter().any(|entity| after.starts_with(entity)), "&{after}");
    }
    assert!(svg.chars().all(|c| c == '\n' || !c.is_control()));
    assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains("href"));
}

/// The lines of `text` that hold all of `parts`.
fn lines<'a>(text: &'a str, parts: &[&str]) -> Vec<&'a str> {
    text.lines().filter(|line| parts.iter().all(|part| line.contains(part))).collect()
}

#[test]
fn an_augmented_run_stands_beside_the_papers_augmented_one() {
    let mut augmented = run(Deep, 1, 100, 70.0);
    augmented.config.data.augment = true;
    augmented.results.data.train_deformed = 5_760;
    let text = tables::replication_markdown(&[run(Deep, 1, 100, 68.0), augmented]);
    for (parts, rows) in [
        (["paper, table 2", "65.69 ± 1.23"], 1),
        (["paper, table 2", "68.31 ± 2.68"], 1),
        (["ours", "68.00"], 1),
        (["augmentation", "70.00"], 1),
    ] {
        assert_eq!(lines(&text, &parts).len(), rows, "{parts:?} in\n{text}");
    }
}

#[test]
fn seeds_are_averaged_and_the_published_numbers_stand_beside() {
    // 60, 62, 67: mean 63, sd sqrt(13) = 3.61.
    let runs: Vec<Run> = [60.0, 62.0, 67.0]
        .iter()
        .zip(1..)
        .map(|(&raw, seed)| run(Shallow, seed, 100, raw))
        .chain([run(Deep, 1, 100, 70.0)])
        .collect();
    for (text, terminal) in [(tables::replication_text(&runs), true), (tables::replication_markdown(&runs), false)] {
        // On a terminal the table is short of the data, which the title names, and of blanks around ±.
        let text_of = |wide: &str| if terminal { wide.replace(" ± ", "±") } else { wide.to_string() };
        let ours = lines(&text, &["shallow", "ours", if terminal { "" } else { "synthetic corpus" }, "3 seeds"]);
        assert_eq!(ours.len(), 1, "{text}");
        for number in ["63.00 ± 3.61", "64.00 ± 3.61", "65.00 ± 3.61", "66.00 ± 3.61", " 100 "] {
            assert!(ours[0].contains(&text_of(number)), "{number} in {}", ours[0]);
        }
        let report = if terminal { "report" } else { "report, section VII" };
        assert_eq!(lines(&text, &["shallow", report, "65.20", "81.20", "78.90"]).len(), 1, "{text}");
        let paper = ["66.56 ± 0.69", "78.10 ± 0.89", "77.80 ± 0.52"].map(text_of);
        assert_eq!(lines(&text, &["shallow", "paper", &paper[0], &paper[1], &paper[2]]).len(), 1, "{text}");
        let deep = lines(&text, &["deep", "ours", "1 seed", "70.00", "71.00", "72.00", "73.00"]);
        assert!(deep.len() == 1 && !deep[0].contains('±'), "{text}");
        assert_eq!(lines(&text, &["deep", report, "68.60", "83.20", "82.40"]).len(), 1, "{text}");
        assert!(text.contains(SYNTHETIC) && text.contains("1 seed: the spread is not known"));
        assert!(text.contains("over 3 seeds: few") && !text.contains("fewer than the 100"));
        let table = text.lines().take(8);
        assert!(!terminal || table.clone().all(|line| line.chars().count() <= 80), "{text}");
    }
}

#[test]
fn real_data_are_not_called_synthetic_but_their_differences_are_said() {
    let five = real(run(Shallow, 1, 20, 80.0), "five", &["blues", "disco", "jazz", "metal", "pop"]);
    let text = tables::replication_text(&[five]);
    assert!(!text.contains("synthetic"), "{text}");
    assert!(text.contains("five has 5 classes, GTZAN ten: not the task of the published numbers"));
    assert!(text.contains("ours after 20 epochs, fewer than the 100 of the published numbers"));
    let ten = tables::replication_text(&[real(run(Shallow, 1, 100, 65.0), "genres", &published::GENRES)]);
    assert!(!ten.contains("not the task") && !ten.contains("fewer than") && ten.contains("Results on genres"), "{ten}");
}

/// Makes the net right (by max) on exactly the tracks of `right`.
fn right_on(mut run: Run, right: impl Fn(usize) -> bool) -> Run {
    for (k, track) in run.results.tracks.iter_mut().enumerate() {
        track.max = if right(k) { track.label } else { (track.label + 1) % 10 };
    }
    run
}

#[test]
fn differences_have_intervals_where_ours_are_several() {
    let genres = |model, seed, raw| real(run(model, seed, 100, raw), "genres", &published::GENRES);
    let mut runs: Vec<Run> =
        [60.0, 62.0, 67.0].iter().zip(1..).map(|(&raw, seed)| genres(Shallow, seed, raw)).collect();
    runs.push(genres(Deep, 1, 70.0));
    let text = tables::replication_markdown(&runs);
    // By hand: 63 - 65.2; t of 2 degrees of freedom at 97.5 % is 4.302653, sqrt(13 / 3) = 2.081666, together 8.957.
    let report = lines(&text, &["shallow", "report, section VII", "-2.20 (-11.16 to +6.76)", "3 seeds"]);
    assert_eq!(report.len(), 1, "{text}");
    // max of logits, 64 - 81.2; maj, 66 - 78.9
    assert!(report[0].contains("-17.20 (-26.16 to -8.24) | -12.90 (-21.86 to -3.94)"), "{}", report[0]);
    // max of probabilities, 65 - 78.1
    let paper = lines(&text, &["shallow", "paper, table 2", "-3.56 (", "-13.10 (", "-11.80 ("]);
    assert_eq!(paper.len(), 1, "{text}");
    assert_eq!(
        lines(&text, &["deep", "report, section VII", "1 seed", "| +1.40 | -12.20 | -9.40 |"]).len(),
        1,
        "{text}"
    );
    assert!(text.contains("1 seed: no interval") && !text.contains("too narrow"));
    let text = tables::replication_text(&runs);
    assert_eq!(lines(&text, &["shallow", "report", "-2.20±8.96", "-17.20±8.96"]).len(), 1, "{text}");
    assert!(tables::differences(&runs).to_string().lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_eq!(tables::differences(&runs).row_count(), 4);

    // nothing is subtracted that is not comparable: other epochs, blocks, the built-in corpus
    let mut blocks = genres(Deep, 1, 70.0);
    blocks.config.data.split = Kind::Blocks;
    let others = [real(run(Deep, 1, 50, 70.0), "genres", &published::GENRES), blocks, run(Deep, 1, 100, 70.0)];
    assert_eq!(tables::differences(&others).row_count(), 0);
    assert!(!tables::replication_text(&others).contains("ours - published"));
    assert_eq!(lines(&tables::replication_markdown(&others), &["ours, preset report, blocks"]).len(), 1);
    // folds are no seeds
    let mut folds = [genres(Deep, 1, 70.0), genres(Deep, 1, 71.0)];
    folds.iter_mut().enumerate().for_each(|(fold, run)| (run.config.data.folds, run.config.data.fold) = (2, fold));
    assert!(tables::replication_text(&folds).contains("folds share training tracks"));
}

#[test]
fn the_nets_are_compared_track_by_track() {
    // 40 tracks: 10 only shallow, 2 only deep
    let pair = |seed| {
        [
            right_on(run(Shallow, seed, 100, 60.0), |k| k < 30),
            right_on(run(Deep, seed, 100, 60.0), |k| (10..32).contains(&k)),
        ]
    };
    let runs = [pair(1), pair(2)].concat();
    let text = tables::replication_text(&runs);
    // 2 (1 + 12 + 66) / 4096
    for seed in ["seed 1 ", "seed 2, split 1 "] {
        assert_eq!(lines(&text, &[seed, " 40 ", " 10 ", " 2 ", "0.039"]).len(), 1, "{text}");
    }
    assert!(text.contains("McNemar"));
    let markdown = tables::replication_markdown(&runs);
    let row = "| preset report, seed 1 | synthetic corpus | 100 | 40 | 10 | 2 | 0.039 |";
    assert_eq!(lines(&markdown, &[row]).len(), 1, "{markdown}");

    // two folds of one cross-validation are one test; a third has no partner
    let mut folds = [pair(1), pair(1)].concat();
    for (k, run) in folds.iter_mut().enumerate() {
        (run.config.data.folds, run.config.data.fold) = (3, k / 2);
        run.results.tracks.iter_mut().for_each(|track| track.track += &format!("-{}", k / 2));
    }
    let mut third = folds[0].clone();
    third.config.data.fold = 2;
    folds.push(third);
    let table = tables::shallow_against_deep(&folds);
    assert_eq!(
        lines(&table.to_string(), &["seed 1, 2 of 3 folds", " 80 ", " 20 ", " 4 ", "0.002"]).len(),
        1,
        "{table}"
    );
    assert_eq!(table.row_count(), 1, "{table}");

    // other tracks, other settings: nothing to compare
    let mut others = pair(1);
    others[1].results.tracks[3].track = "another".to_string();
    assert_eq!(tables::shallow_against_deep(&others).row_count(), 0);
    let mut others = pair(1);
    others[1].config.schedule = Schedule::Exp;
    assert_eq!(tables::shallow_against_deep(&others).row_count(), 0);
    assert!(!tables::replication_text(&others).contains("McNemar"));
    // the preset's own differences between the nets are none
    let mut paper = pair(1);
    for (run, model) in paper.iter_mut().zip([Shallow, Deep]) {
        run.config = Config { seed: 1, epochs: 100, ..Config::preset(Preset::Paper, model) };
    }
    paper[0].config.epochs = 200;
    assert_eq!(tables::shallow_against_deep(&paper).row_count(), 1);
}

#[test]
fn only_runs_that_differ_in_seed_or_fold_are_averaged() {
    let mut exp = run(Deep, 2, 100, 60.0);
    exp.config.schedule = Schedule::Exp;
    let runs = [run(Deep, 1, 100, 50.0), exp, run(Deep, 3, 50, 70.0), run(Deep, 4, 200, 80.0)];
    let text = tables::replication_markdown(&runs);
    assert_eq!(lines(&text, &["ours"]).iter().filter(|line| line.contains("1 seed ")).count(), 4, "{text}");
    // EXP has its own published row, and 200 epochs theirs.
    assert_eq!(lines(&text, &["report, section X.C", "69.70", "84.40", "81.60"]).len(), 1);
    assert_eq!(lines(&text, &["report, section VII", "200", "84.80", "83.20"]).len(), 1);
    assert_eq!(lines(&text, &["report, section VII", " 100 "]).len(), 1);

    let mut folds = [run(Deep, 1, 100, 50.0), run(Deep, 1, 100, 60.0)];
    for (fold, run) in folds.iter_mut().enumerate() {
        (run.config.data.folds, run.config.data.fold) = (4, fold);
    }
    assert_eq!(lines(&tables::replication_text(&folds), &["ours", "2 folds", "55.00±7.07"]).len(), 1);
}

#[test]
fn every_front_end_is_named_within_eighty_columns() {
    let mut runs = [audio::Kind::Mel, audio::Kind::Cqt, audio::Kind::Linear, audio::Kind::Cwt].map(|kind| {
        let mut run = run(Shallow, 1, 100, 60.0);
        run.config.data.front_end = kind.into();
        run
    });
    let text = tables::replication_text(&runs);
    assert!(text.starts_with("Results on synthetic corpus, preset report\n"), "{text}");
    for name in ["ours, CQT ", "ours, linear ", "ours, CWT "] {
        assert_eq!(lines(&text, &[name]).len(), 1, "{name} in {text}");
    }
    assert!(text.lines().take(11).all(|line| line.chars().count() <= 80), "{text}");

    // as a prepared file with deformed segments does, which the settings need not mention
    runs.iter_mut().for_each(|run| run.results.data.train_deformed = 5_760);
    let text = tables::replication_text(&runs);
    for name in ["ours, augmentation ", "ours, CQT & augmentation ", "ours, CWT & augmentation "] {
        assert_eq!(lines(&text, &[name]).len(), 1, "{name} in {text}");
    }
    // beside the paper's augmented nets, and no others
    assert_eq!((lines(&text, &["66.77±0.78"]).len(), lines(&text, &["66.56±0.69"]).len()), (1, 0), "{text}");
    let svg = confusion::confusion_matrix(&runs[3]).unwrap();
    assert!(
        svg.contains("shallow, 100 epochs, seed 1, preset report, CWT &amp; augmentation; data: synthetic corpus"),
        "{svg}"
    );
}

#[test]
fn the_confusion_table_is_figure_7s() {
    let run = run(Deep, 1, 100, 70.0);
    for text in [tables::confusion(&run.results).to_string(), tables::confusion_markdown(&run)] {
        let rock: Vec<&str> = lines(&text, &["rock"])[0].split(['|', ' ']).filter(|s| !s.is_empty()).collect();
        assert_eq!(rock, ["rock", "0", "1", "2", "0", "0", "0", "2", "3", "0", "17", "68.0"]);
        assert_eq!(lines(&text, &["truth", "bl", "cl", "co", "di", "hi", "ja", "me", "po", "re", "ro"]).len(), 1);
    }
    assert!(tables::confusion_markdown(&run).contains("deep, preset report, 100 epochs, seed 1, synthetic corpus"));
}

#[test]
fn the_pictures_say_what_they_show() {
    let runs = [run(Shallow, 1, 30, 60.0), run(Shallow, 2, 30, 62.0), run(Deep, 1, 30, 65.0)];
    let svg = curves::training_curves(&runs).unwrap();
    assert_well_formed(&svg);
    for text in [
        "training loss (sum over batches)",
        "raw accuracy (%)",
        "epoch",
        "shallow, preset report, 30 epochs, mean of 2 seeds",
        "deep, preset report, 30 epochs, seed 1",
        "Training curves: synthetic corpus",
        SYNTHETIC,
    ] {
        assert!(svg.contains(text), "{text}");
    }
    let svg = confusion::confusion_matrix(&runs[2]).unwrap();
    assert_well_formed(&svg);
    for text in published::GENRES.iter().chain(&["80.0 %", "68.0 %", "max: 66.00 % of 40 test tracks", SYNTHETIC]) {
        assert!(svg.contains(text), "{text}");
    }
}

#[test]
fn odd_class_names_and_data_names_are_escaped() {
    let odd = [
        "r&b",
        "<rock>",
        "a|b",
        "\"drum' n bass\"",
        "bell\u{7}\n",
        "日本の歌謡曲と演歌、とても長い名前のジャンル、続く",
    ];
    let run = real(run(Deep, 1, 3, 60.0), "</svg><script>&\u{1b}[31m", &odd);
    let svg = confusion::confusion_matrix(&run).unwrap();
    assert_well_formed(&svg);
    assert!(svg.contains("r&amp;b") && svg.contains("&lt;rock&gt;") && !svg.contains("<script"));
    assert_well_formed(&curves::training_curves(std::slice::from_ref(&run)).unwrap());
    let markdown = tables::document(&study(std::slice::from_ref(&run)));
    assert!(markdown.contains(r"\<rock\>") && markdown.contains(r"a\|b"));
    assert!(!markdown.replace(r"\<", "").contains('<'), "{markdown}");
    assert!(!tables::replication_text(&[run]).contains('\u{1b}'));
}

#[test]
fn two_classes_twenty_classes_and_one_epoch() {
    let two = real(run(Shallow, 1, 1, 50.0), "two", &["a", "b"]);
    let svg = confusion::confusion_matrix(&two).unwrap();
    assert_well_formed(&svg);
    assert_eq!(svg.matches("100.0 %").count(), 2);
    // One point a line: markers, in both panels.
    let svg = curves::training_curves(&[two]).unwrap();
    assert_well_formed(&svg);
    assert_eq!(svg.matches("<circle").count(), 3);
    // A run that stopped after its first epoch, beside a long one, is still a point.
    let mixed = curves::training_curves(&[run(Shallow, 1, 1, 50.0), run(Deep, 1, 40, 50.0)]).unwrap();
    assert_eq!(mixed.matches("<circle").count(), 3);

    let names: Vec<String> = (1..=20).map(|k| format!("progressive {k}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let twenty = real(run(Shallow, 1, 2, 50.0), "twenty", &names);
    let svg = confusion::confusion_matrix(&twenty).unwrap();
    assert_well_formed(&svg);
    // The first letters do not tell them apart: numbers on top and in front.
    assert!(
        (1..=20).all(
            |k| svg.contains(&format!("\n{k} progressive {k}\n")) || svg.contains(&format!(">{k} progressive {k}"))
        )
    );
    assert_eq!(tables::abbreviations(&twenty.results.data.classes)[19], "20");
}

#[test]
fn many_runs_get_many_lines() {
    let runs: Vec<Run> = (1..=12).map(|k| run(Deep, 1, 10 + k, 60.0)).collect();
    let svg = curves::training_curves(&runs).unwrap();
    assert_well_formed(&svg);
    for k in 1..=12 {
        assert_eq!(svg.matches(&format!("deep, preset report, {} epochs, seed 1", 10 + k)).count(), 1);
    }
}

#[test]
fn runs_that_differ_in_something_unnamed_are_told_apart_by_folder() {
    let mut runs = [run(Deep, 1, 3, 60.0), run(Deep, 1, 3, 62.0)];
    runs[1].config.dropout = 0.5;
    (runs[0].folder, runs[1].folder) = ("runs/train-1".into(), "runs/train-2".into());
    let (text, svg) = (tables::replication_text(&runs), curves::training_curves(&runs).unwrap());
    for folder in ["(train-1)", "(train-2)"] {
        assert_eq!((lines(&text, &["ours", folder, "1 seed"]).len(), svg.matches(folder).count()), (1, 1), "{text}");
    }
}

#[test]
fn nothing_and_nonsense_are_errors_not_panics() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |error: genregrad::error::Error, words: &str| {
        let line = error.one_line();
        assert!(line.contains(words) && !line.contains('\n'), "{line}");
    };
    refused(curves::training_curves(&[]).unwrap_err(), "expected one finished run or more, got none");
    refused(report::write(dir.path(), &[]).unwrap_err(), "got none");
    assert_eq!(tables::caption(&[]), ["no finished runs"]);
    assert_eq!(tables::replication(&[]).row_count(), 0);

    let mut empty = run(Deep, 1, 3, 60.0);
    empty.epochs.clear();
    assert_eq!(tables::curves(&empty.epochs).row_count(), 0);
    refused(curves::training_curves(&[empty]).unwrap_err(), "metrics.csv: holds no epoch");
    for nonsense in [f64::NAN, f64::INFINITY, 1e300, -1e300] {
        let mut damaged = run(Deep, 1, 3, 60.0);
        damaged.epochs[1].loss = nonsense;
        refused(curves::training_curves(&[damaged]).unwrap_err(), "epoch 2: ");
        let mut damaged = run(Deep, 1, 3, 60.0);
        damaged.epochs[2].test_accuracy = nonsense;
        refused(curves::training_curves(&[damaged]).unwrap_err(), "epoch 3: ");
    }
    let mut ragged = run(Deep, 1, 3, 60.0);
    ragged.results.confusion[4].pop();
    refused(confusion::confusion_matrix(&ragged).unwrap_err(), "expected a confusion matrix of 10 x 10");
    // One bad run: nothing is written.
    refused(report::write(dir.path(), &study(&[run(Shallow, 1, 3, 60.0), ragged])).unwrap_err(), "10 x 10");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_files_of_a_report() {
    let dir = tempfile::tempdir().unwrap();
    let mut other = run(Deep, 2, 3, 61.0);
    other.config.schedule = Schedule::Exp;
    other.folder = "runs/other".into();
    let runs = [run(Shallow, 1, 3, 60.0), run(Deep, 1, 3, 60.0), run(Deep, 2, 3, 61.0), other];
    report::write(dir.path(), &study(&runs)).unwrap();
    let expected = [
        "confusion-deep-seed1-3-60.svg",
        "confusion-deep-seed2-3-61.svg",
        "confusion-other.svg",
        "confusion-shallow-seed1-3-60.svg",
        "curves.svg",
        "report.html",
        "tables.md",
    ];
    assert_eq!(files(dir.path()), expected);
    let text = std::fs::read_to_string(dir.path().join("tables.md")).unwrap();
    assert!(text.starts_with("# Results on synthetic corpus\n"));
    // The replication's caption and every run say it.
    assert_eq!(text.matches(SYNTHETIC).count(), 5);
    // Once more over the old ones, and into a run's own folder.
    report::write(dir.path(), &study(&runs)).unwrap();
    let own = tempfile::tempdir().unwrap();
    let run = Run { folder: own.path().to_path_buf(), ..run(Shallow, 1, 3, 60.0) };
    report::write_run(&run).unwrap();
    assert_eq!(files(own.path()), ["confusion.svg", "curves.svg"]);
    assert!(report::write(&own.path().join("absent"), &study(&[run])).is_err());
}

#[test]
fn a_synthetic_corpus_by_another_name_is_still_called_synthetic() {
    let mut run = run(Shallow, 1, 2, 50.0);
    run.results.data.name = "built-in".to_string();
    let runs = [run];
    let label = "built-in (synthetic)";
    assert!(tables::replication_text(&runs).contains(label) && tables::document(&study(&runs)).contains(label));
    assert!(curves::training_curves(&runs).unwrap().contains(label));
    assert!(confusion::confusion_matrix(&runs[0]).unwrap().contains(label));
    assert_eq!(lines(&tables::replication_markdown(&runs), &["ours", "built-in (synthetic)"]).len(), 1);
}

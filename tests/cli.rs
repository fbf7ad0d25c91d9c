//! The real program in temporary folders: what it writes, prints and refuses.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Two steps on ten tracks: as little as a whole run can be.
const TINY: [&str; 8] = ["--synthetic-tracks", "2", "--segments", "2", "--epochs", "1", "--device", "cpu"];

/// Samples at 22,050 Hz; a segment has 20,462.
const TRACK: usize = 25_000;

fn program(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_genregrad"));
    command.current_dir(folder).args(args).env("GENREGRAD_CACHE", "").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

fn run(folder: &Path, args: &[&str]) -> Output {
    program(folder, args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Standard output of a run that must succeed.
fn good(folder: &Path, args: &[&str]) -> String {
    let output = run(folder, args);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn good_json(folder: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&good(folder, args)).unwrap()
}

/// Everything below `folder`.
fn tree(folder: &Path) -> BTreeSet<String> {
    let entries = walkdir::WalkDir::new(folder).into_iter().map(|entry| entry.unwrap().path().display().to_string());
    entries.collect()
}

/// A run that must fail with `code`, one line that says `what`, and nothing left behind; gives that line.
fn bad(folder: &Path, args: &[&str], code: i32, what: &str) -> String {
    let before = tree(folder);
    let output = run(folder, args);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert_eq!(stdout, "", "{args:?}");
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    assert!(stderr.starts_with("genregrad: error: ") && stderr.contains(what), "{args:?}: {stderr}");
    assert_eq!(tree(folder), before, "{args:?} left something behind");
    stderr
}

/// `TINY` and what else.
fn tiny<'a>(command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&[command], &TINY[..], more].concat()
}

/// A chord that differs from track to track.
fn samples(track: usize) -> Vec<f32> {
    let hz = 110.0 * 1.3f32.powi(track as i32);
    (0..TRACK).map(|n| 0.4 * (n as f32 * hz * std::f32::consts::TAU / 22_050.0).sin()).collect()
}

fn wav(path: &Path, samples: &[f32]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 22_050,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    samples.iter().for_each(|&sample| writer.write_sample(sample).unwrap());
    writer.finalize().unwrap();
}

/// Two genres of three good tracks each.
fn genres(folder: &Path) {
    for track in 0..6 {
        let genre = ["ambient", "waltz"][track / 3];
        wav(&folder.join(genre).join(format!("{genre}.{track:05}.wav")), &samples(track));
    }
}

/// One of the course's two dicts at protocol 2, as plain lists: a track a row.
fn pickled(rows: usize, labels: usize) -> Vec<u8> {
    fn list(out: &mut Vec<u8>, key: &str, items: impl IntoIterator<Item = Vec<u8>>) {
        out.extend([b'U', key.len() as u8]);
        out.extend(key.bytes().chain(*b"]("));
        out.extend(items.into_iter().flatten());
        out.push(b'e');
    }
    let small = |n: usize| vec![b'K', n as u8];
    let segment = |row: usize| {
        let numbers = samples(row).into_iter().take(20_462).flat_map(|x| {
            let bytes = f64::from(x).to_be_bytes();
            std::iter::once(b'G').chain(bytes)
        });
        [b"](".to_vec(), numbers.collect(), b"e".to_vec()].concat()
    };
    let mut out = b"\x80\x02}(".to_vec();
    list(&mut out, "data", (0..rows).map(segment));
    list(&mut out, "labels", (0..labels).map(|row| small(row % 2)));
    list(&mut out, "track_id", (0..rows).map(small));
    out.extend(b"u.");
    out
}

fn read_tensor<'a>(file: &'a safetensors::SafeTensors, name: &str) -> safetensors::tensor::TensorView<'a> {
    file.tensor(name).unwrap()
}

#[test]
fn a_run_can_be_repeated_evaluated_and_traced() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let report = good_json(dir, &tiny("train", &["--model", "shallow", "--out", "a", "--threads", "1", "--json"]));
    assert_eq!((&report["folder"], &report["model"], &report["steps"]), (&"a".into(), &"shallow".into(), &2.into()));
    assert!(report["accuracies"]["raw"].is_f64() && report["data"]["synthetic"] == true, "{report}");
    let names: BTreeSet<String> =
        fs::read_dir(dir.join("a")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let expected = [
        "checkpoint.safetensors",
        "confusion.csv",
        "confusion.svg",
        "curves.svg",
        "data.json",
        "metrics.csv",
        "results.json",
        "run.toml",
        "segments.csv",
    ];
    assert_eq!(names, expected.map(String::from).into());

    // run.toml fed back, on another number of threads
    let traced =
        ["train", "--config", "a/run.toml", "--out", "b", "--threads", "2", "--device", "cpu", "--trace", "trace"];
    let output = run(dir, &traced);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && stderr.contains("shallow, seed 1, epoch 1/1: loss "), "{stderr}");
    assert!(stdout.contains("synthetic corpus: not comparable") && stdout.trim_end().ends_with("\nb"), "{stdout}");
    for file in ["run.toml", "metrics.csv", "checkpoint.safetensors", "confusion.csv"] {
        assert!(fs::read(dir.join("a").join(file)).unwrap() == fs::read(dir.join("b").join(file)).unwrap(), "{file}");
    }

    let steps = fs::read_to_string(dir.join("trace/steps.csv")).unwrap();
    let lines: Vec<Vec<&str>> = steps.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines[0], ["step", "loss", "learning_rate", "batch"]);
    assert_eq!(lines.len(), 3);
    let mut rows: Vec<u32> = Vec::new();
    for (number, line) in lines[1..].iter().enumerate() {
        assert_eq!(line[0].parse::<usize>().unwrap(), number + 1);
        assert!(line[1].parse::<f32>().unwrap() > 2.0 && line[2].parse::<f64>().unwrap() == 5e-5, "{line:?}");
        rows.extend(line[3].split(' ').map(|row| row.parse::<u32>().unwrap()));
    }
    rows.sort_unstable();
    assert_eq!(rows, (0..20).collect::<Vec<_>>(), "every segment once");
    let init = fs::read(dir.join("trace/init.safetensors")).unwrap();
    let init = safetensors::SafeTensors::deserialize(&init).unwrap();
    assert_eq!(read_tensor(&init, "spectral.0.weight").shape(), [16, 1, 10, 23]);
    assert_eq!(read_tensor(&init, "fc1.weight").shape(), [200, 10_240]);

    let said = good(dir, &["evaluate", "a", "--device", "cpu"]);
    assert!(said.contains("max (probabilities)") && said.ends_with("\nidentical to results.json\n"), "{said}");
    let report = good_json(dir, &["evaluate", "b", "--device", "cpu", "--json", "--quiet"]);
    assert_eq!((&report["identical"], &report["segments"]), (&true.into(), &20.into()));

    // a number that was tampered with, and another model's checkpoint
    let results = dir.join("b/results.json");
    let tampered = fs::read_to_string(&results).unwrap().replacen("\"maj\": ", "\"maj\": 1", 1);
    fs::write(&results, tampered).unwrap();
    let output = run(dir, &["evaluate", "b", "--device", "cpu", "--quiet"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("differs from results.json") && said.contains("\n  maj: "), "{said}");

    good(dir, &tiny("train", &["--model", "deep", "--out", "deep", "--max-steps", "1", "--quiet"]));
    fs::copy(dir.join("deep/checkpoint.safetensors"), dir.join("a/checkpoint.safetensors")).unwrap();
    bad(
        dir,
        &["evaluate", "a", "--device", "cpu", "--quiet"],
        1,
        "a/checkpoint.safetensors: a checkpoint of another model",
    );
    fs::write(dir.join("a/checkpoint.safetensors"), b"cut").unwrap();
    bad(dir, &["evaluate", "a", "--device", "cpu", "--quiet"], 1, "not a checkpoint");

    // folders that exist are not touched
    bad(dir, &tiny("train", &["--model", "shallow", "--out", "a"]), 2, "a: exists already; name another --out");
    bad(dir, &tiny("reproduce", &["--out", "a"]), 2, "a: exists already");
    bad(dir, &tiny("train", &["--model", "shallow", "--trace", "trace"]), 2, "trace: exists already");
    bad(dir, &["train", "--config", "a/run.toml", "--model", "deep", "--device", "cpu"], 2, "a run of the shallow net");
}

#[test]
fn reproduce_ends_with_tables_and_the_runs_folder() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let output = run(dir, &tiny("reproduce", &["--no-cache"]));
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    for part in ["shallow", "deep", "65.20", "83.20", "synthetic corpus", "not comparable", "truth", "epoch"] {
        assert!(stdout.contains(part), "{part} is not in {stdout}");
    }
    let folder = stdout.lines().last().unwrap();
    assert_eq!(Path::new(folder), Path::new("runs").join("reproduce-1"));
    assert_eq!(stderr.matches("epoch 1/1").count(), 2, "{stderr}");
    assert_eq!(stderr.matches("training on 20 segments").count(), 1, "the nets share their data: {stderr}");
    let folder = dir.join(folder);
    for file in [
        "report.html",
        "tables.md",
        "curves.svg",
        "confusion-shallow-seed1.svg",
        "confusion-deep-seed1.svg",
        "deep-seed1/run.toml",
    ] {
        assert!(folder.join(file).is_file(), "{file}");
    }
    let results: Value = serde_json::from_slice(&fs::read(folder.join("results.json")).unwrap()).unwrap();
    assert_eq!(results["runs"][0]["parameters"], 2_060_610);
    assert_eq!(results["runs"][1]["parameters"], 1_279_522);

    // each sub-folder is a run of its own
    assert!(good(dir, &["evaluate", "runs/reproduce-1/deep-seed1", "--device", "cpu"]).contains("identical"));

    // seeds, aliases, JSON
    let more = ["--model", "shallow", "--seed", "2,3,2", "--split-seed", "1", "--no-fuse", "--json", "--quiet"];
    let output = run(dir, &tiny("reproduce", &more));
    assert_eq!(text(&output.stderr), "");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["folder"], "runs/reproduce-2");
    let seeds: Vec<_> = report["runs"].as_array().unwrap().iter().map(|run| run["seed"].as_u64().unwrap()).collect();
    assert_eq!(seeds, [2, 3]);
    let config = fs::read_to_string(dir.join("runs/reproduce-2/shallow-seed3/run.toml")).unwrap();
    assert!(
        config.contains("\nseed = 3\nfuse = false\n")
            && config.contains("[data]\nsynthetic_tracks = 2\nsegments = 2\nseed = 1\n")
    );
}

/// The losses that `train --trace` wrote.
fn traced_losses(folder: &Path) -> Vec<f64> {
    let steps = fs::read_to_string(folder.join("steps.csv")).unwrap();
    steps.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().parse().unwrap()).collect()
}

#[test]
fn fused_and_unfused_training_give_the_same_losses() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    for (name, flags) in [("fused", &[][..]), ("single", &["--no-fuse"])] {
        let trace = format!("{name}-trace");
        let args = ["--model", "shallow", "--preset", "paper", "--epochs", "3", "--out", name, "--trace", &trace];
        good(dir, &[&["train"], &TINY[..4], &TINY[6..], &args, flags].concat());
        let settings = fs::read_to_string(dir.join(name).join("run.toml")).unwrap();
        assert!(settings.contains(&format!("\nfuse = {}\n", name == "fused")), "{settings}");
        // evaluated as it was trained
        assert!(good(dir, &["evaluate", name, "--device", "cpu"]).ends_with("\nidentical to results.json\n"));
    }
    let [fused, single] = ["fused-trace", "single-trace"].map(|trace| traced_losses(&dir.join(trace)));
    assert_eq!(fused.len(), 6);
    for (fused, single) in fused.iter().zip(&single) {
        assert!((fused / single - 1.0).abs() < 1e-5, "{fused} {single}");
    }
}

#[test]
fn prepared_files_train_like_what_they_were_made_of() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    genres(&dir.join("genres"));
    let made = good_json(dir, &["prepare", "genres", "--segments", "2", "--seed", "5", "--out", "p", "--json"]);
    assert_eq!((&made["train_segments"], &made["test_segments"]), (&8.into(), &4.into()), "{made}");
    let bytes = fs::read(dir.join("p")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(read_tensor(&file, "train.spectrograms").shape(), [8, 80, 80]);
    assert_eq!(read_tensor(&file, "test.labels").shape(), [4]);
    assert_eq!(read_tensor(&file, "test.tracks").dtype(), safetensors::Dtype::I64);

    bad(dir, &["prepare", "genres", "--out", "p"], 2, "p: exists already; use --force");
    bad(dir, &["prepare", "genres", "--out", "genres"], 2, "genres: a folder; name a file");
    bad(dir, &["prepare", "genres", "--out", "no/such/p"], 2, "no/such: no such folder");
    assert_eq!(fs::read(dir.join("p")).unwrap(), bytes);
    good(dir, &["prepare", "genres", "--segments", "2", "--seed", "5", "--out", "p", "--force"]);
    assert_eq!(fs::read(dir.join("p")).unwrap(), bytes);

    let train = ["train", "--model", "shallow", "--epochs", "1", "--device", "cpu", "--segments", "2", "--seed", "5"];
    good(dir, &[&train[..], &["--data", "genres", "--out", "a", "--cache", "cache"]].concat());
    good(dir, &[&train[..], &["--data", "p", "--out", "b"]].concat());
    good(dir, &[&train[..], &["--data", "genres", "--out", "c", "--cache", "cache"]].concat());
    assert_eq!(fs::read_dir(dir.join("cache")).unwrap().count(), 1);
    let weights = |run: &str| fs::read(dir.join(run).join("checkpoint.safetensors")).unwrap();
    assert!(weights("a") == weights("b") && weights("a") == weights("c"));
    // the same data in another form are the same; other data are not compared, other genres refused
    let said = good(dir, &["evaluate", "a", "--data", "p", "--device", "cpu", "--quiet"]);
    assert!(said.ends_with("identical to results.json\n"), "{said}");
    good(dir, &["prepare", "genres", "--segments", "1", "--out", "other"]);
    let said = good(dir, &["evaluate", "a", "--data", "other", "--device", "cpu", "--quiet"]);
    assert!(said.ends_with("not compared with results.json\n"), "{said}");
    fs::rename(dir.join("genres/waltz"), dir.join("genres/zydeco")).unwrap();
    bad(dir, &["evaluate", "a", "--device", "cpu", "--quiet"], 1, "genres are ambient, zydeco; the run was trained on");
}

/// The test tracks' names in a prepared file.
fn tested(path: &Path) -> Vec<String> {
    let bytes = fs::read(path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    serde_json::from_str(&header.metadata().as_ref().unwrap()["test.track_names"]).unwrap()
}

#[test]
fn neighbours_are_held_out_together_and_the_results_say_so() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let prepare = ["prepare", "--synthetic-tracks", "6", "--segments", "1", "--test-fraction", "0.5", "--out"];
    good(dir, &[&prepare[..], &["blocks", "--split", "blocks"]].concat());
    good(dir, &[&prepare[..], &["random"]].concat());
    // how many of each genre's six tracks are tested but the next one is not
    let ends = |file: &str| {
        let names = tested(&dir.join(file));
        let (genre, number) = names[0].split_at(names[0].len() - 5);
        assert!(number.parse::<u32>().is_ok(), "{genre}");
        let next = |name: &String| {
            let (genre, number) = name.split_at(name.len() - 5);
            format!("{genre}{:05}", (number.parse::<u32>().unwrap() + 1) % 6)
        };
        assert_eq!(names.len(), 30);
        names.iter().filter(|name| !names.contains(&next(name))).count()
    };
    assert_eq!(ends("blocks"), 10);
    assert!(ends("random") > 10);

    // the file says how it was divided; the run, its table and what is made of its settings say it again
    let train = ["train", "--model", "shallow", "--device", "cpu", "--epochs", "1", "--max-steps", "1", "--quiet"];
    let said = good(dir, &[&train[..], &["--data", "blocks", "--out", "a"]].concat());
    assert!(said.contains(", preset report, blocks") && !said.contains("65.20"), "{said}");
    let settings = fs::read_to_string(dir.join("a/run.toml")).unwrap();
    assert!(settings.contains("\nsplit = \"blocks\"\n"), "{settings}");
    good(dir, &["evaluate", "a", "--device", "cpu", "--quiet"]);
    let said = good(dir, &[&train[..], &["--synthetic-tracks", "2", "--segments", "2", "--out", "b"]].concat());
    assert!(!said.contains("blocks") && said.contains("65.20"), "{said}");
    let settings = fs::read_to_string(dir.join("b/run.toml")).unwrap();
    fs::write(dir.join("old.toml"), settings.replace("split = \"random\"\n", "")).unwrap();
    let again = ["train", "--config", "old.toml", "--device", "cpu", "--max-steps", "1", "--quiet", "--out", "c"];
    good(dir, &again);
    assert_eq!(fs::read_to_string(dir.join("c/run.toml")).unwrap(), settings);
    let more = ["--model", "shallow", "--split", "blocks", "--out", "d", "--quiet"];
    assert!(good(dir, &tiny("reproduce", &more)).contains(", preset report, blocks"));
    assert!(fs::read_to_string(dir.join("d/shallow-seed1/run.toml")).unwrap().contains("\nsplit = \"blocks\"\n"));

    let refused = "comes with its own split; --split blocks needs undivided tracks";
    fs::write(dir.join("course.pkl"), [pickled(4, 4), pickled(2, 2)].concat()).unwrap();
    for data in ["random", "course.pkl"] {
        bad(dir, &[&train[..], &["--data", data, "--split", "blocks"]].concat(), 1, refused);
    }
    bad(dir, &["prepare", "course.pkl", "--split", "blocks", "--out", "q", "--quiet"], 1, refused);
    let output = run(dir, &[&train[..], &["--split", "artists"]].concat());
    assert!(output.status.code() == Some(2) && text(&output.stderr).contains("random, blocks"));
}

#[test]
fn augmentation_multiplies_the_training_set_and_leaves_the_test_set_alone() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    genres(&dir.join("genres"));
    let counts = |report: &Value| {
        let data = &report["data"];
        ["train_tracks", "train_segments", "train_deformed", "test_segments"].map(|key| data[key].as_u64().unwrap())
    };
    let train =
        ["train", "--model", "shallow", "--data", "genres", "--segments", "2", "--epochs", "1", "--max-steps", "1"];
    let train = [&train[..], &["--device", "cpu", "--json"]].concat();
    let output = run(dir, &[&train[..], &["--augment", "--cache", "cache", "--out", "a"]].concat());
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && stderr.contains("200 segments (192 of them deformed) of 4 tracks"), "{stderr}");
    assert_eq!(counts(&serde_json::from_str(&stdout).unwrap()), [4, 200, 192, 4]);
    assert!(fs::read_to_string(dir.join("a/run.toml")).unwrap().contains("\naugment = true\n"));
    let said = good(dir, &["evaluate", "a", "--device", "cpu", "--cache", "cache", "--quiet"]);
    assert!(said.ends_with("\nidentical to results.json\n"), "{said}");
    assert_eq!(fs::read_dir(dir.join("cache")).unwrap().count(), 1);

    // the cache, other threads and a prepared file change nothing
    let weights = |folder: &str| fs::read(dir.join(folder).join("checkpoint.safetensors")).unwrap();
    good(dir, &[&train[..], &["--augment=true", "--threads", "3", "--out", "b"]].concat());
    good(dir, &["prepare", "genres", "--segments", "2", "--augment", "--out", "x.safetensors", "--quiet"]);
    good(
        dir,
        &[
            "train",
            "--config",
            "a/run.toml",
            "--data",
            "x.safetensors",
            "--max-steps",
            "1",
            "--device",
            "cpu",
            "--out",
            "c",
        ],
    );
    assert!(weights("a") == weights("b") && weights("a") == weights("c"));
    let file = fs::read(dir.join("x.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&file).unwrap();
    assert_eq!(read_tensor(&file, "train.deformed").shape(), [200]);
    assert!(file.tensor("test.deformed").is_err());

    // it can be taken back, and needs audio
    let again = ["train", "--config", "a/run.toml", "--augment=false", "--max-steps", "1", "--device", "cpu", "--json"];
    assert_eq!(counts(&good_json(dir, &[&again[..], &["--out", "d"]].concat())), [4, 8, 0, 4]);
    good(dir, &["prepare", "genres", "--segments", "2", "--out", "plain.safetensors", "--quiet"]);
    let augmented = ["train", "--model", "shallow", "--augment", "--device", "cpu", "--data"];
    let what = "plain.safetensors: holds no deformed segments, and augmentation needs audio: prepare the tracks with --augment";
    bad(dir, &[&augmented[..], &["plain.safetensors"]].concat(), 1, what);
    fs::write(dir.join("course.pkl"), [pickled(4, 4), pickled(2, 2)].concat()).unwrap();
    let what = "course.pkl: holds single segments, and augmentation needs the audio of whole tracks: give their folder";
    bad(dir, &[&augmented[..], &["course.pkl"]].concat(), 1, what);
    let output = run(dir, &["train", "--model", "shallow", "--augment=often"]);
    assert_eq!(output.status.code(), Some(2));

    // a study says so before it begins, and leaves out of --table all what its data cannot give
    for (data, left_out) in [
        ("course.pkl", &["Augmentation"][..]),
        ("plain.safetensors", &["Improvements: CQT, EXP, and both", "Augmentation", "Constant-Q", "Representations"]),
        ("x.safetensors", &["Improvements: CQT, EXP, and both", "Constant-Q", "Representations"]),
    ] {
        let output = run(dir, &["reproduce", "--data", data, "--table", "all", "--list"]);
        let (listed, said) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success() && said.lines().count() == left_out.len(), "{data}: {said}");
        assert!(left_out.iter().all(|table| said.contains(table)), "{data}: {said}");
        assert_eq!(listed.contains("augmented"), data == "x.safetensors", "{data}: {listed}");
        assert!(listed.contains("tanh"), "{data}: {listed}");
    }
    let what = "course.pkl: holds no whole tracks, and augmentation needs them; give the tracks themselves";
    bad(dir, &["reproduce", "--data", "course.pkl", "--table", "replication,augmentation"], 2, what);
}

#[test]
fn every_front_end_trains_evaluates_and_is_named() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    for (kind, bins, model, rate) in [
        ("cqt", "84", "shallow", "3e-5"),
        ("cqt", "84", "deep", "3e-5"),
        ("linear", "80", "shallow", "5e-5"),
        ("cwt", "84", "deep", "5e-5"),
    ] {
        let out = format!("{kind}-{model}");
        let more = ["--model", model, "--front-end", kind, "--n-bins", bins, "--max-steps", "1", "--out", &out];
        let report = good_json(dir, &tiny("train", &[&more[..], &["--json", "--quiet"]].concat()));
        let bins: usize = bins.parse().unwrap();
        assert_eq!(report["data"]["spectrogram"], serde_json::json!([bins, 80]), "{kind}");
        let settings: toml::Table = fs::read_to_string(dir.join(&out).join("run.toml")).unwrap().parse().unwrap();
        let front_end = settings["data"]["front_end"].as_table().unwrap();
        assert_eq!(front_end["kind"].as_str(), Some(kind));
        assert_eq!(front_end["n_bins"].as_integer(), Some(bins as i64));
        assert_eq!(settings["learning_rate"].as_float(), Some(rate.parse().unwrap()), "{kind}");
        let said = good(dir, &["evaluate", &out, "--device", "cpu", "--quiet"]);
        assert!(said.ends_with("identical to results.json\n"), "{kind}: {said}");
    }

    // beside each other, and beside what the report published on constant-Q
    let more = ["--model", "shallow", "--front-end", "cqt,cwt", "--out", "all"];
    let output = run(dir, &tiny("reproduce", &more));
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && stderr.contains("2/2 shallow-cwt-seed1, epoch 1/1"), "{stderr}");
    for part in ["CQT", "CWT", "63.30"] {
        assert!(stdout.contains(part), "{part} is not in {stdout}");
    }
    for file in ["shallow-cqt-seed1/run.toml", "shallow-cwt-seed1/run.toml", "confusion-shallow-cwt-seed1.svg"] {
        assert!(dir.join("all").join(file).is_file(), "{file}");
    }

    // a prepared file brings its front end and, with it, the learning rate
    let prepare = ["prepare", "--synthetic-tracks", "2", "--segments", "1", "--front-end", "cqt", "--out", "p"];
    good(dir, &prepare);
    let train = ["train", "--model", "shallow", "--data", "p", "--device", "cpu", "--epochs", "1", "--quiet"];
    good(dir, &[&train[..], &["--out", "prepared"]].concat());
    let settings: toml::Table = fs::read_to_string(dir.join("prepared/run.toml")).unwrap().parse().unwrap();
    assert_eq!(settings["data"]["front_end"]["kind"].as_str(), Some("cqt"));
    assert_eq!(settings["learning_rate"].as_float(), Some(3e-5));
    bad(dir, &[&train[..], &["--front-end", "mel"]].concat(), 2, "p: holds CQT spectrograms, not log-mel");
    let said = ["evaluate", "linear-shallow", "--data", "p", "--device", "cpu", "--quiet"];
    bad(dir, &said, 1, "p: its spectrograms are CQT; the run was trained on linear");

    for (more, what) in [
        (["--front-end", "mel", "--n-bins", "0"], "mel: n_mels must be at least 1, got 0"),
        (["--front-end", "linear", "--n-bins", "300"], "linear: 300 rows from only 257 FFT bins"),
        (["--front-end", "cqt", "--n-bins", "0"], "cqt: n_bins must be at least 1, got 0"),
        (["--front-end", "cwt", "--n-bins", "200"], "cwt: 200 bins from 32.7"),
    ] {
        bad(dir, &tiny("train", &[&["--model", "deep"], &more[..]].concat()), 2, what);
    }
}

#[test]
fn bad_tracks_are_skipped_by_name_and_refused_alone() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    genres(&dir.join("genres"));
    let ambient = dir.join("genres/ambient");
    fs::write(ambient.join("text.wav"), "not sound at all").unwrap();
    let whole = fs::read(ambient.join("ambient.00000.wav")).unwrap();
    fs::write(ambient.join("truncated.wav"), &whole[..whole.len() / 2]).unwrap();
    let mut lying = whole.clone();
    let size = lying.windows(4).position(|name| name == b"data").unwrap() + 4;
    lying[size..size + 4].copy_from_slice(&0x1fff_ff00u32.to_le_bytes());
    fs::write(ambient.join("lying.wav"), lying).unwrap();
    let mut nan = samples(1);
    nan[777] = f32::NAN;
    wav(&ambient.join("nan.wav"), &nan);
    wav(&ambient.join("silent.wav"), &[0.0; TRACK]);
    wav(&ambient.join("short.wav"), &samples(2)[..20_461]);
    fs::write(ambient.join(".hidden.wav"), "").unwrap();
    fs::write(ambient.join("notes.txt"), "").unwrap();
    fs::create_dir(dir.join("genres/empty")).unwrap();

    let output = run(dir, &["prepare", "genres", "--segments", "2", "--out", "p", "--json", "--quiet"]);
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["train_tracks"].as_u64().unwrap() + report["test_tracks"].as_u64().unwrap(), 6, "{report}");
    let skipped: BTreeSet<_> =
        report["skipped"].as_array().unwrap().iter().map(|track| track[0].as_str().unwrap().to_string()).collect();
    let names = ["lying", "nan", "short", "silent", "text", "truncated"].map(|name| format!("ambient/{name}.wav"));
    assert_eq!(skipped, names.iter().cloned().chain(["empty".to_string()]).collect(), "{stderr}");
    assert!(stderr.starts_with("7 left out:\n"), "{stderr}");
    assert_eq!(stderr.lines().count(), 8, "{stderr}");
    names.iter().for_each(|name| assert!(stderr.contains(&format!("  {name}: ")), "{stderr}"));

    for name in ["lying", "nan", "text", "truncated"] {
        let path = format!("genres/ambient/{name}.wav");
        bad(dir, &["features", &path, "--npy", "out.npy"], 1, &path);
    }
    bad(dir, &["features", "nosuch.wav", "--npy", "out.npy"], 1, "nosuch.wav: cannot read");
    bad(dir, &["features", "genres", "--npy", "out.npy"], 1, "genres: cannot read: a folder, not a file");
    let itself = "genres/ambient/ambient.00000.wav";
    bad(dir, &["features", itself, "--npy", itself], 2, "the audio file itself");
}

#[test]
fn data_that_are_none_are_refused_in_one_line() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let train = |data: &str, code: i32, what: &str| {
        let args = ["train", "--model", "shallow", "--epochs", "1", "--device", "cpu", "--data", data];
        let line = bad(dir, &args, code, what);
        bad(dir, &["reproduce", "--device", "cpu", "--data", data], code, what);
        bad(dir, &["prepare", data, "--out", "p"], code, what);
        line
    };
    train("nosuch", 1, "nosuch: no such file or folder");
    fs::create_dir(dir.join("empty")).unwrap();
    train("empty", 1, "empty: an empty folder");
    wav(&dir.join("single/jazz/jazz.00000.wav"), &samples(0));
    train("single", 1, "single: only one genre");
    fs::create_dir_all(dir.join("silent/b")).unwrap();
    fs::write(dir.join("silent/b/b.txt"), "").unwrap();
    train("silent", 1, "silent: no sub-folder holds audio");
    wav(&dir.join("few/a/1.wav"), &samples(0));
    wav(&dir.join("few/b/1.wav"), &samples(1));
    fs::write(dir.join("few/b/2.wav"), "text").unwrap();
    train("few", 1, "few");
    fs::write(dir.join("text"), "hello").unwrap();
    train("text", 1, "text: not a known kind of data");
    fs::write(dir.join("cut.safetensors"), b"\x40\0\0\0\0\0\0\0{\"train.spectrograms\"").unwrap();
    train("cut.safetensors", 1, "cut.safetensors: ");

    let good_half = pickled(2, 2);
    let both = [good_half.clone(), good_half.clone()].concat();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.join(name), bytes).unwrap();
    write("truncated.pkl", &both[..both.len() - 1000]);
    train("truncated.pkl", 1, "truncated.pkl: ");
    write("one.pkl", &good_half);
    train("one.pkl", 1, "one.pkl: ");
    write("foreign.pkl", b"\x80\x02cos\nsystem\n(U\x0dtouch executedtR.");
    let line = train("foreign.pkl", 1, "foreign.pkl: ");
    assert!(line.contains("os") && line.contains("system"), "{line}");
    write("unequal.pkl", &[pickled(2, 1), good_half].concat());
    train("unequal.pkl", 1, "unequal.pkl: ");

    // the same pickle, whole, is fine
    write("good.pkl", &both);
    let said = good_json(dir, &["prepare", "good.pkl", "--out", "p", "--json"]);
    assert_eq!((&said["train_segments"], &said["test_segments"]), (&2.into(), &2.into()), "{said}");
}

#[test]
fn nonsense_is_refused_before_any_work() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let train = |more: &[&str], what: &str| {
        bad(dir, &[&["train", "--model", "shallow", "--device", "cpu"], more].concat(), 2, what);
    };
    train(&["--epochs", "0"], "epochs: expected 1 or more, got 0");
    train(&["--dropout", "1"], "dropout: expected");
    train(&["--learning-rate", "-1"], "learning_rate: expected a positive number, got -1");
    train(&["--l1", "nan"], "l1: expected");
    train(&["--folds", "4", "--fold", "4"], "fold: expected");
    train(&["--fold", "1"], "fold: expected 0 where there are no --folds");
    let diverging = ["--model", "shallow", "--lr", "1e30", "--quiet", "--tensorboard"];
    bad(dir, &tiny("train", &diverging), 1, "training diverged");
    let diverged = ["--models", "shallow", "--lr", "1e30", "--quiet", "--out", "diverged"];
    bad(dir, &tiny("reproduce", &diverged), 1, "training diverged");
    for at_once in [&["17"][..], &["2", "--cell", "0", "--out", "x"]] {
        let output = run(dir, &[&["reproduce", "--at-once"], at_once].concat());
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    }
    if cfg!(unix) {
        bad(dir, &["prepare", "--force", "--out", "/dev/null"], 2, "/dev/null: a device or a pipe; name a file");
    }
    bad(dir, &["train", "--model", "deep", "--device", "abacus"], 1, "device: ");
    bad(dir, &["gradcheck", "--device", "abacus"], 1, "device: ");
    bad(dir, &["bench", "--device", "abacus"], 1, "device: ");
    let output = run(dir, &["bench", "--device", "cpu", "--without", "speed"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("invalid value 'speed'") && stderr.contains("conv_block, dense_penalty"), "{stderr}");
    bad(dir, &["bench", "--device", "cpu", "--batch", "0"], 2, "batch: expected 1 to 4096, got 0");
    bad(dir, &["bench", "--device", "cpu", "--batch", "4097"], 2, "batch: expected 1 to 4096, got 4097");
    bad(dir, &["evaluate", "."], 2, ".: not a run's folder");
    bad(dir, &["train", "--config", "run.toml"], 1, "run.toml: cannot read");
    fs::write(dir.join("run.toml"), "preset = \"report\"\nmodel = \"wide\"\n").unwrap();
    bad(dir, &["train", "--config", "run.toml"], 1, "run.toml: line 2: ");
    let other = TempDir::new().unwrap();
    good(other.path(), &tiny("train", &["--model", "shallow", "--out", "run", "--max-steps", "1"]));
    let settings = fs::read_to_string(other.path().join("run/run.toml")).unwrap();
    fs::write(dir.join("run.toml"), settings.replace("hop_length = 256", "hop_length = 0")).unwrap();
    bad(dir, &["train", "--config", "run.toml"], 2, "mel: hop_length must be at least 1 sample, got 0");
    fs::remove_file(other.path().join("run/results.json")).unwrap();
    bad(other.path(), &["evaluate", "run"], 1, "run: not a finished run (it has no results.json)");

    for (args, what) in [
        (&["train"][..], "--model"),
        (&["train", "--model", "wide"], "shallow, deep"),
        (&["train", "--model", "deep", "--threads", "1025"], "1025 is not in 0..=1024"),
        (&["train", "--model", "deep", "--seed", "9223372036854775808"], "9223372036854775807"),
        (&["train", "--model", "deep", "--conv-bias", "maybe"], "true, false"),
        (&["prepare"], "--out"),
        (&["reproduce", "--what"], "--what"),
        (&["bench", "--model", "wide"], "shallow, deep"),
        (&["bench", "--steps", "0"], "0 is not in 1..=1000000"),
        (&["bench", "--front-end", "mel", "--batch", "3"], "cannot be used with '--batch"),
        (&["bench", "--front-end", "mel", "--segments", "0"], "0 is not in 1..=100000"),
        (&["dance"], "dance"),
        (&[], "Usage"),
    ] {
        let output = run(dir, args);
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), said.contains(what)), (Some(2), true), "{args:?}: {said}");
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn features_and_devices_say_what_they_see() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    wav(&dir.join("a.wav"), &samples(3));
    let args = ["features", "a.wav", "--front-end", "mel", "--npy", "a.npy"];
    let said = good(dir, &args);
    assert!(said.starts_with("a.wav: 1.134 s, [80, 98] log amplitudes from "), "{said}");
    if cfg!(unix) {
        bad(dir, &["features", "a.wav", "--npy", "/dev/null"], 2, "/dev/null: a device or a pipe; name a file");
    }
    let said = good(dir, &["features", "a.wav", "--png", "a.png", "--start", "0.1", "--seconds", "0.928"]);
    assert!(
        said.starts_with("a.wav: 0.928 s from 0.1 s on, [80, 80] log") && said.ends_with("written to a.png\n"),
        "{said}"
    );
    assert!(fs::read(dir.join("a.png")).unwrap().starts_with(b"\x89PNG\r\n\x1a\n"));
    for kind in ["cqt", "linear", "cwt"] {
        let said = good(dir, &["features", "a.wav", "--front-end", kind, "--n-bins", "84", "--png", "c.png"]);
        assert!(said.starts_with("a.wav: 1.134 s, [84, 98] log amplitudes from "), "{said}");
    }
    let report = good_json(dir, &["features", "a.wav", "--png", "b.png", "--npy", "b.npy", "--start", "1", "--json"]);
    assert_eq!((&report["png"], &report["npy"], &report["start"]), (&"b.png".into(), &"b.npy".into(), &1.0.into()));
    for (flags, code, what) in [
        (
            &["--start", "2"][..],
            1,
            "a.wav: only 1.134 s long, but what follows 2.000 s was asked for: start earlier or take less",
        ),
        (&["--start", "1", "--seconds", "0.2"], 1, "but 1.000 s to 1.200 s was asked for: start earlier or take less"),
        (&["--front-end", "cqt", "--n-bins", "200"], 2, "cqt: 200 bins from"),
        (&["--n-bins", "0"], 2, "mel: n_mels must be at least 1, got 0"),
        (&["--start", "-1"], 2, "a start of -1 s: expected 0 to 3e9 s"),
        (&["--start", "nan"], 2, "a start of NaN s: expected 0 to 3e9 s"),
        (&["--start", "1e300"], 2, "a start of 1e300 s: expected 0 to 3e9 s"),
        (&["--seconds", "0"], 2, "a length of 0 s: expected one sample (0.000045 s) to 3e9 s"),
        (&["--seconds", "-3"], 2, "a length of -3 s: expected one sample (0.000045 s) to 3e9 s"),
        (&["--npy", "x", "--png", "x"], 2, "x: named by both --npy and --png; name two files"),
        (&["--png", "a.wav"], 2, "a.wav: the audio file itself; name another --png"),
        (&["--png", "none/a.png"], 1, "none/a.png: cannot write"),
        (&["--png", "."], 2, ".: a folder; name a file"),
    ] {
        bad(dir, &[&["features", "a.wav"], flags].concat(), code, what);
    }
    assert!(!dir.join("x").exists());
    let bytes = fs::read(dir.join("a.npy")).unwrap();
    let file = npyz::NpyFile::new(&bytes[..]).unwrap();
    assert_eq!(file.shape(), [80, 98]);
    let values: Vec<f32> = file.into_vec().unwrap();
    let report = good_json(dir, &[&args[..], &["--json"]].concat());
    let largest = values.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    assert_eq!((&report["shape"], report["max"].as_f64().unwrap() as f32), (&vec![80, 98].into(), largest));

    let report = good_json(dir, &["devices", "--json"]);
    assert!(report["cpu"].as_str().unwrap().starts_with("CPU: ") && report["adapters"].is_array(), "{report}");
    for adapter in report["adapters"].as_array().unwrap() {
        assert!(adapter["software"] == false || adapter["taken_by_auto"] == false, "{adapter}");
    }
    let said = good(dir, &["devices"]);
    assert!(said.contains(&format!("--device auto takes {}", report["auto"].as_str().unwrap())), "{said}");
}

#[test]
fn bench_says_where_a_gpus_time_goes() {
    if common::gpu().is_none() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let few = ["bench", "--device", "gpu", "--batch", "1", "--steps", "2", "--warmup", "1", "--json", "--quiet"];
    for (more, op, kernel) in [
        (&["--profile"][..], "conv_block", "block"),
        (&["--without", "conv_block,dense", "--forward", "--profile"], "conv2d", "forward"),
    ] {
        let report = good_json(dir.path(), &[&few[..], more].concat());
        let profile = report["profile"].as_array().unwrap();
        let dispatches: u64 = profile.iter().map(|time| time["dispatches"].as_u64().unwrap()).sum();
        assert_eq!(report["dispatches"], dispatches, "{report}");
        assert!(report["compile_seconds"].as_f64().unwrap() > 0.0, "{report}");
        assert!(profile.iter().any(|time| time["op"] == op && time["ms"].as_f64().unwrap() > 0.0), "{report}");
        let block = profile.iter().find(|time| time["op"] == op).unwrap();
        let without = if op == "conv2d" { serde_json::json!(["conv_block", "dense"]) } else { serde_json::json!([]) };
        assert_eq!(report["without"], without);
        assert_eq!(block["kernel"], kernel);
    }
}

#[test]
fn bench_times_what_a_run_replays() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let few = ["bench", "--steps", "3", "--warmup", "1", "--threads", "1", "--json", "--quiet"];
    let positive = |report: &Value, key: &str| {
        let value = report[key].as_f64().unwrap_or_else(|| panic!("{key} of {report}"));
        assert!(value > 0.0, "{key} of {report}");
        value
    };
    let times = |report: &Value| {
        let [median, min, max] = ["median_ms", "min_ms", "max_ms"].map(|key| positive(report, key));
        assert!(min <= median && median <= max, "{report}");
        if cfg!(target_os = "linux") {
            positive(report, "peak_rss_mb");
        }
        median
    };

    let report = good_json(dir, &[&few[..], &["--device", "cpu", "--batch", "2", "--profile"]].concat());
    let expected = serde_json::json!({
        "model": "shallow", "preset": "report", "what": "step", "batch": 2, "fused": true, "threads": 1, "steps": 3,
        "warmup": 1, "floor": null,
    });
    expected.as_object().unwrap().iter().for_each(|(key, value)| assert_eq!(&report[key], value, "{key}"));
    assert!(report["device"].as_str().unwrap().ends_with(", 1 thread"), "{report}");
    let median = times(&report);
    let profile = report["profile"].as_array().unwrap();
    let grad = |time: &&Value| time["op"] == "conv_block.grad" && time["kernel"] == "spectral.0.weight";
    positive(profile.iter().find(grad).unwrap_or_else(|| panic!("{report}")), "ms");
    // 2 images; convolutions forward and their weights' gradients, dense layers three times
    let gflop = 2.0 * 2.0 * (2.0 * 6_400.0 * 16.0 * 650.0 + 3.0 * 2_050_000.0) / 1e9;
    assert!((positive(&report, "gflop") / gflop - 1.0).abs() < 1e-9, "{report}");
    assert!((positive(&report, "gflops") * median / (1e3 * gflop) - 1.0).abs() < 1e-9, "{report}");
    assert!((positive(&report, "samples_per_s") * median / 2e3 - 1.0).abs() < 1e-9, "{report}");

    let textbook =
        ["--device", "cpu", "--batch", "1", "--model", "deep", "--preset", "paper", "--forward", "--no-fuse"];
    let report = good_json(dir, &[&few[..], &textbook, &["--floor"]].concat());
    assert_eq!(
        (&report["what"], &report["fused"], &report["preset"]),
        (&"forward".into(), &false.into(), &"paper".into())
    );
    let floor = &report["floor"];
    let peak = positive(floor, "peak_gflops");
    assert!(
        (positive(floor, "arithmetic_ms") * peak / positive(&report, "gflop") / 1e3 - 1.0).abs() < 1e-9,
        "{report}"
    );
    assert_eq!(floor["arithmetic_ms"], floor["arithmetic_at_winners_ms"]);
    let bytes = 4.0 * 1_280_002.0;
    let memory = positive(floor, "memory_ms") * positive(floor, "triad_gb_per_s");
    assert!((memory * 1e6 / bytes - 1.0).abs() < 1e-9, "{report}");
    times(&report);

    let report = good_json(dir, &[&few[..], &["--front-end", "mel", "--segments", "5"]].concat());
    assert_eq!((&report["front_end"], &report["segments"]), (&"mel".into(), &5.into()), "{report}");
    assert!((positive(&report, "segments_per_s") * times(&report) / 5e3 - 1.0).abs() < 1e-9, "{report}");

    let said = good(dir, &["bench", "--device", "cpu", "--batch", "1", "--steps", "1", "--warmup", "0", "--quiet"]);
    assert!(said.starts_with("shallow net, preset report, training step, batch 1, fused\nCPU: "), "{said}");
    assert!(said.contains("of 1, after 0 not timed") && said.contains("GFLOP/s"), "{said}");
}

#[test]
fn gradcheck_passes_on_the_cpu() {
    let dir = TempDir::new().unwrap();
    let report = good_json(dir.path(), &["gradcheck", "--device", "cpu", "--json"]);
    assert_eq!((&report["passed"], &report["gpu"]), (&true.into(), &Value::Null));
    let checks = report["checks"].as_array().unwrap();
    for subject in ["conv2d", "dense", "adam", "shallow", "deep"] {
        let found = checks.iter().any(|check| check["subject"].as_str().unwrap().contains(subject));
        assert!(found, "{subject} is not checked");
    }
    for check in checks {
        assert!(check["error"].as_f64().unwrap() <= check["tolerance"].as_f64().unwrap(), "{check}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let dir = TempDir::new().unwrap();
    for args in [&["devices", "--json"][..], &["train", "--help"]] {
        let mut child = program(dir.path(), args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{args:?}");
        assert_eq!(text(&output.stderr), "", "{args:?}");
    }
}

#[test]
fn inspect_shows_single_tracks_and_writes_their_segments() {
    let folder = TempDir::new().unwrap();
    let dir = folder.path();
    good(dir, &tiny("reproduce", &["--out", "study", "--quiet"]));
    let report = good_json(dir, &["inspect", "study/deep-seed1", "--json"]);
    let results: Value = serde_json::from_slice(&fs::read(dir.join("study/deep-seed1/results.json")).unwrap()).unwrap();
    let tracks = results["tracks"].as_array().unwrap();
    let disagree = tracks.iter().filter(|track| track["max"] != track["maj"]).count();
    let wrong = tracks.iter().filter(|track| track["max"] != track["label"] && track["maj"] != track["label"]).count();
    assert_eq!(report["disagree"].as_array().unwrap().len(), disagree);
    assert_eq!(report["wrong"].as_array().unwrap().len(), wrong);
    assert!(wrong > 0, "a net that has seen ten tracks once is wrong somewhere");
    let text = good(dir, &["inspect", "study/deep-seed1"]);
    assert!(text.contains(&format!("max and maj disagree: {disagree} of 10 test tracks")), "{text}");
    assert!(text.contains(&format!("both max and maj are wrong: {wrong} of 10 test tracks")), "{text}");
    assert!(text.starts_with("deep, preset report, 1 epoch, seed 1, synthetic corpus: raw "), "{text}");

    let track = tracks[0]["track"].as_str().unwrap();
    let one = ["inspect", "study/deep-seed1", "--track", track];
    let report = good_json(dir, &[&one[..], &["--wav", "heard/here", "--png", "seen", "--json"]].concat());
    assert_eq!((report["segments"].as_u64(), report["written"].as_array().map(Vec::len)), (Some(2), Some(4)));
    for (number, segment) in report["each"].as_array().unwrap().iter().enumerate() {
        let shares = segment["confidences"].as_object().unwrap().values().map(|share| share.as_f64().unwrap());
        assert!((shares.sum::<f64>() - 1.0).abs() < 1e-9 && segment["start"].as_f64().unwrap() < 8.0, "{segment}");
        let wav = hound::WavReader::open(dir.join(format!("heard/here/{track}-{number:02}.wav"))).unwrap();
        assert_eq!((wav.duration(), wav.spec().sample_rate), (20_462, 22_050));
        let png = fs::read(dir.join(format!("seen/{track}-{number:02}.png"))).unwrap();
        assert!(png.starts_with(b"\x89PNG"));
    }
    let text = good(dir, &one);
    assert!(text.contains(&format!("\n{track}: ")) && text.contains("mean confidence"), "{text}");
    assert_eq!(text.lines().filter(|line| line.trim_start().starts_with(['0', '1'])).count(), 2, "{text}");

    // a study: the best of its runs, and which there are
    let output = run(dir, &["inspect", "study"]);
    let note = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(output.status.success() && note.starts_with("2 runs: deep-seed1, shallow-seed1; "), "{note}");

    let unknown = bad(dir, &["inspect", "study/deep-seed1", "--track", &track[..track.len() - 1]], 2, "near it are ");
    assert!(unknown.contains("no test track of this run") && unknown.contains(track), "{unknown}");
    bad(dir, &["inspect", "nowhere"], 2, "nowhere: not a run's folder");
    bad(dir, &["inspect", "seen"], 2, "seen: neither a run's folder nor a study's");
    // its tracks are elsewhere: verdicts still, but no sound
    let moved = [&one[..], &["--data", "gone"]].concat();
    bad(dir, &[&moved[..], &["--wav", "x"]].concat(), 1, "gone: no such file or folder");
    assert_eq!(good(dir, &moved).lines().count(), text.lines().count());
    fs::remove_file(dir.join("study/deep-seed1/segments.csv")).unwrap();
    bad(dir, &["inspect", "study/deep-seed1"], 1, "segments.csv: cannot read");
}

//! A study that is stopped, killed, shared or out of disk: nothing is lost, and the end is the same, bit for bit.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Two trainings of four epochs of four steps, the last step of an epoch with masked rows; tested after two epochs too.
const STUDY: [&str; 15] = [
    "reproduce",
    "--models",
    "shallow",
    "--seeds",
    "1,2",
    "--split-seed",
    "1",
    "--epochs",
    "2,4",
    "--synthetic-tracks",
    "2",
    "--segments",
    "5",
    "--device",
    "cpu",
];

/// Saves after every epoch.
const OFTEN: [&str; 2] = ["--save-every", "0"];

fn program(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_genregrad"));
    command.current_dir(folder).args(args).env("GENREGRAD_CACHE", "").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

fn start(folder: &Path, args: &[&str]) -> Child {
    program(folder, args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn run(folder: &Path, args: &[&str]) -> Output {
    program(folder, args).output().unwrap()
}

fn good(folder: &Path, args: &[&str]) -> String {
    let output = run(folder, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a refused run says.
fn bad(folder: &Path, args: &[&str], code: i32) -> String {
    let output = run(folder, args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    said
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// Waits until `path` is there.
fn wait_for(path: &Path, child: &mut Child) {
    let started = Instant::now();
    while !path.exists() {
        assert!(started.elapsed() < Duration::from_secs(120), "{} never came", path.display());
        assert_eq!(child.try_wait().unwrap(), None, "ended before {}", path.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// All that the cells of a study hold but for what depends on time.
fn cells(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in walkdir::WalkDir::new(folder).min_depth(2) {
        let entry = entry.unwrap();
        let name = entry.path().strip_prefix(folder).unwrap().display().to_string();
        let mut bytes = fs::read(entry.path()).unwrap();
        if name.ends_with(".json") {
            let mut results: Value = serde_json::from_slice(&bytes).unwrap();
            results["seconds"] = Value::Null;
            results["device"] = Value::Null; // it says how many threads a job had
            bytes = results.to_string().into_bytes();
        }
        found.insert(name, bytes);
    }
    found
}

fn assert_same(folder: &Path, other: &str, than: &str) {
    let (a, b) = (cells(&folder.join(other)), cells(&folder.join(than)));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in &a {
        let [is, was] = [bytes, &b[name]].map(|bytes| String::from_utf8_lossy(bytes));
        let at = is.bytes().zip(was.bytes()).take_while(|(a, b)| a == b).count();
        assert!(*bytes == b[name], "{name} differs: {:?} {:?}", is.get(at..), was.get(at..));
    }
}

/// A folder with the study as it ends when nothing happens to it, in `alone`.
fn left_alone() -> TempDir {
    let dir = TempDir::new().unwrap();
    good(dir.path(), &[&STUDY[..], &["--out", "alone"]].concat());
    dir
}

#[test]
fn a_killed_study_ends_like_one_that_was_left_alone() {
    let dir = left_alone();
    let dir = dir.path();
    let names: Vec<String> =
        cells(&dir.join("alone")).into_keys().filter(|name| name.starts_with("shallow-seed2/")).collect();
    let files = [
        "checkpoint.safetensors",
        "confusion-2.csv",
        "confusion.csv",
        "confusion.svg",
        "curves.svg",
        "data.json",
        "metrics.csv",
        "results-2.json",
        "results.json",
        "run.toml",
        "segments-2.csv",
        "segments.csv",
    ];
    assert_eq!(names, files.map(|file| format!("shallow-seed2/{file}")));
    // what says that a run is finished comes last
    let written = |file: &str| fs::metadata(dir.join("alone/shallow-seed2").join(file)).unwrap().modified().unwrap();
    assert!(files.iter().all(|file| written(file) <= written("results.json")));

    let study = dir.join("killed");
    let mut child = start(dir, &[&STUDY[..], &OFTEN, &["--out", "killed"]].concat());
    let mut kills = 0;
    for path in ["shallow-seed1/state.safetensors", "shallow-seed1/results-2.json", "shallow-seed2/metrics.csv"] {
        wait_for(&study.join(path), &mut child);
        signal(&child, "-KILL");
        child.wait().unwrap();
        kills += 1;
        child = start(dir, &[&["reproduce", "--resume", "killed", "--device", "cpu"], &OFTEN[..]].concat());
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && kills == 3, "{}", String::from_utf8_lossy(&output.stderr));
    assert_same(dir, "killed", "alone");
}

/// Seeds next to each other on a GPU leave what they leave one after the other, also if both are killed in between.
#[test]
fn nets_trained_at_once_are_those_trained_alone() {
    if common::gpu().is_none() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    // Short: software takes half a second a step.
    let args = STUDY.map(|arg| match arg {
        "cpu" => "gpu",
        "2,4" => "1,3",
        "5" => "2",
        arg => arg,
    });
    good(dir, &[&args[..], &["--out", "alone"]].concat());
    let mut child = start(dir, &[&args[..], &OFTEN, &["--out", "together", "--at-once", "2"]].concat());
    let study = dir.join("together");
    wait_for(&study.join("shallow-seed1/results-1.json"), &mut child);
    wait_for(&study.join("shallow-seed2/metrics.csv"), &mut child);
    assert!(!study.join("shallow-seed1/results.json").exists(), "not at once");
    signal(&child, "-KILL");
    child.wait().unwrap();
    good(dir, &["reproduce", "--resume", "together", "--device", "gpu", "--at-once", "2"]);
    assert_same(dir, "together", "alone");
}

#[test]
fn an_interrupted_study_says_how_to_go_on_and_does() {
    let dir = left_alone();
    let dir = dir.path();
    let mut child = start(dir, &[&STUDY[..], &["--out", "stopped"]].concat());
    wait_for(&dir.join("stopped/shallow-seed1/metrics.csv"), &mut child);
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("stopping once this step is saved"), "{said}");
    assert!(said.trim_end().ends_with("; go on with: genregrad reproduce --resume stopped --device cpu"), "{said}");
    assert!(dir.join("stopped/shallow-seed1/state.safetensors").exists());
    let said = bad(dir, &["reproduce", "--collect", "stopped"], 2);
    assert!(said.contains("no cell is finished"), "{said}");
    // other ways to take it up are led to the right one
    let said = bad(dir, &["inspect", "stopped/shallow-seed1"], 1);
    assert!(said.contains("go on with train --resume, or with reproduce --resume of its study"), "{said}");
    let said = bad(dir, &["train", "--resume", "stopped"], 2);
    assert!(said.contains("stopped: a study; go on with: genregrad reproduce --resume stopped"), "{said}");
    // flags that were settled at the start are refused
    for flag in [["--epochs", "3"], ["--seeds", "1"], ["--split-seed", "1"], ["--folds", "2"], ["--table", "all"]] {
        let said = bad(dir, &[&["reproduce", "--resume", "stopped"], &flag[..]].concat(), 2);
        assert!(said.contains("cannot be used with"), "{said}");
    }
    let said = bad(dir, &["reproduce", "--resume", "stopped", "--data", "."], 2);
    assert!(said.contains("begun on the built-in corpus"), "{said}");
    let table = good(dir, &["reproduce", "--resume", "stopped", "--device", "cpu", "--quiet"]);
    assert!(table.contains("2 seeds"), "{table}");
    assert_same(dir, "stopped", "alone");
    // finished: nothing is trained again, and what a kill in the last moment left goes
    let state = dir.join("stopped/shallow-seed1/state.safetensors");
    fs::write(&state, "left over").unwrap();
    let again = run(dir, &["reproduce", "--resume", "stopped", "--device", "cpu"]);
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.success() && !said.contains("epoch") && !state.exists(), "{said}");
}

#[test]
fn moved_data_are_found_again_and_others_refused() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    for (file, seed) in [("data", "1"), ("other", "2")] {
        good(dir, &["prepare", "--synthetic-tracks", "2", "--segments", "5", "--seed", seed, "--out", file]);
    }
    let settings = ["--data", "data", "--split-seed", "1", "--epochs", "4", "--device", "cpu"];
    let study = [&["reproduce", "--models", "shallow", "--seeds", "1,2"], &settings[..]].concat();
    let net = [&["train", "--model", "shallow", "--seed", "1"], &settings[..]].concat();
    good(dir, &[&study[..], &["--out", "alone"]].concat());
    for (args, out, state) in
        [(&study, "study", "study/shallow-seed1/state.safetensors"), (&net, "net", "net/state.safetensors")]
    {
        let mut child = start(dir, &[&args[..], &OFTEN, &["--out", out]].concat());
        wait_for(&dir.join(state), &mut child);
        signal(&child, "-KILL");
        child.wait().unwrap();
    }
    fs::rename(dir.join("data"), dir.join("moved")).unwrap();

    for go_on in
        [["reproduce", "--resume", "study", "--device", "cpu"], ["train", "--resume", "net", "--device", "cpu"]]
    {
        let with = |data: &'static str| [&go_on[..], &["--data", data]].concat();
        let said = bad(dir, &go_on, 2);
        assert!(said.contains("data: the data are gone; say with --data where they lie now"), "{said}");
        let said = bad(dir, &with("nowhere"), 2);
        assert!(said.contains("nowhere: no such file or folder"), "{said}");
        // neither the training under way nor one that has yet to begin learns other data
        let said = bad(dir, &with("other"), 1);
        assert!(said.contains("its data are not those that it began with"), "{said}");
        assert_eq!(dir.join("study/shallow-seed2/metrics.csv").exists(), go_on[0] == "train");
        good(dir, &with("moved"));
    }
    let alone = cells(&dir.join("alone"));
    let mut found = cells(&dir.join("study"));
    assert_eq!(alone.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
    found.insert(
        "shallow-seed1/checkpoint.safetensors".to_string(),
        fs::read(dir.join("net/checkpoint.safetensors")).unwrap(),
    );
    for (name, bytes) in alone.iter().filter(|(name, _)| !name.ends_with("run.toml")) {
        assert!(*bytes == found[name], "{name} differs");
    }
    // what had finished follows the data, too
    fs::rename(dir.join("moved"), dir.join("again")).unwrap();
    good(dir, &["reproduce", "--collect", "study", "--data", "again"]);
    assert!(good(dir, &["evaluate", "study/shallow-seed2", "--device", "cpu"]).contains("identical to results.json"));
}

#[test]
fn a_full_disk_ends_with_one_line_and_the_last_state_intact() {
    let dir = left_alone();
    let dir = dir.path();
    let mut child = start(dir, &[&STUDY[..], &OFTEN, &["--out", "full"]].concat());
    let state = dir.join("full/shallow-seed1/state.safetensors");
    wait_for(&state, &mut child);
    signal(&child, "-INT");
    child.wait().unwrap();
    let before = fs::read(&state).unwrap();
    // No file may grow beyond some megabytes, which the state needs: as the system sees it, a disk that is full.
    let resume = format!(
        "trap '' XFSZ; ulimit -f 8000; exec {:?} reproduce --resume full --device cpu --save-every 0 --quiet",
        env!("CARGO_BIN_EXE_genregrad")
    );
    let output = Command::new("sh").args(["-c", &resume]).current_dir(dir).env("GENREGRAD_CACHE", "").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.lines().count() == 1 && said.contains("safetensors: cannot write: "), "{said}");
    assert!(fs::read(&state).unwrap() == before, "the state that was there is intact");
    good(dir, &["reproduce", "--resume", "full", "--device", "cpu", "--quiet"]);
    assert_same(dir, "full", "alone");
}

#[test]
fn cells_trained_apart_make_the_same_study() {
    let dir = left_alone();
    let dir = dir.path();
    let listed = good(dir, &[&STUDY[..], &["--list"]].concat());
    let expected = ["0  shallow-seed1", "1  shallow-seed2"];
    assert!(listed.lines().zip(expected).all(|(line, cell)| line.trim().starts_with(cell)), "{listed}");
    assert_eq!(listed.lines().count(), 2);

    let cell = |number: &'static str| [&STUDY[..], &["--out", "apart", "--quiet", "--cell", number]].concat();
    good(dir, &cell("1"));
    // as if another process had the other cell
    let other = dir.join("apart/shallow-seed1");
    fs::create_dir_all(&other).unwrap();
    let lock = fs::File::create(other.join("lock")).unwrap();
    lock.lock().unwrap();
    assert!(bad(dir, &cell("0"), 2).contains("another process is at it"));
    let part = run(dir, &["reproduce", "--resume", "apart", "--device", "cpu"]);
    assert!(part.status.success());
    assert!(String::from_utf8_lossy(&part.stderr).contains("not finished: shallow-seed1"));
    drop(lock);
    let script = good(dir, &[&STUDY[..], &["--out", "apart", "--quiet", "--slurm"]].concat());
    assert!(script.contains("#SBATCH --array=0-1\n") && script.contains("--collect apart"), "{script}");
    assert!(script.contains(r#" --threads "${SLURM_CPUS_PER_TASK:-0}""#), "{script}");
    let fixed = good(dir, &[&STUDY[..], &["--out", "apart", "--slurm", "--threads", "1"]].concat());
    assert_eq!(fixed.matches("--threads").count(), 1, "{fixed}");
    let mut task = Command::new("bash");
    task.arg("-c").arg(&script).current_dir(dir).env("SLURM_ARRAY_TASK_ID", "0").env("GENREGRAD_CACHE", "");
    let task = task.output().unwrap();
    assert!(task.status.success(), "{}", String::from_utf8_lossy(&task.stderr));
    let table = good(dir, &["reproduce", "--collect", "apart"]);
    assert!(table.contains("2 seeds"), "{table}");
    assert_same(dir, "apart", "alone");
    let said = String::from_utf8_lossy(&task.stderr);
    assert!(
        said.contains("shallow-seed1: the whole training needs about ") || said.contains("could not be submitted"),
        "{said}"
    );

    assert!(bad(dir, &cell("2"), 2).contains("cell 2: there are 2, counted from 0"));
    let others = ["reproduce", "--synthetic-tracks", "2", "--out", "apart", "--cell", "0"];
    assert!(bad(dir, &others, 2).contains("a study with other settings"));
    assert!(bad(dir, &["reproduce", "--resume", "absent"], 2).contains("not a study's folder"));
    assert!(bad(dir, &["reproduce", "--cell", "0"], 2).contains("--out"));
    assert!(bad(dir, &["reproduce", "--cell", "9", "--out", "none"], 2).contains("there are 2"));
    assert!(!dir.join("none").exists());
    assert!(bad(dir, &["reproduce", "--data", "none", "--cell", "0", "--out", "mistaken"], 1).contains("no such file"));
    assert!(!dir.join("mistaken").exists());
}

/// What `--slurm` asks for follows from the study and its flags.
#[test]
fn a_job_asks_for_what_the_study_needs() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let script = |more: &[&str]| good(dir, &[&["reproduce", "--out", "study", "--slurm"], more].concat());
    let plain = script(&[]);
    for line in ["--array=0-1", "--cpus-per-task=2", "--mem=4G", "--time=12:00:00", "--signal=B:TERM@120", "--requeue"]
    {
        assert!(plain.contains(&format!("\n#SBATCH {line}\n")), "{line} is not in {plain}");
    }
    assert!(!plain.contains("--gres") && !plain.contains("#SBATCH --partition"), "{plain}");
    assert!(!script(&["--device", "cpu"]).contains("--gres"));
    for device in ["gpu", "NVIDIA"] {
        assert!(script(&["--device", device]).contains("\n#SBATCH --gres=gpu:1\n"));
    }
    let asked =
        script(&["--threads", "8", "--slurm-mem=16G", "--slurm-time", "1-0:00:00", "--slurm-partition", "long"]);
    for line in ["--cpus-per-task=8", "--mem=16G", "--time=1-0:00:00", "--partition=long"] {
        assert!(asked.contains(&format!("\n#SBATCH {line}\n")), "{line} is not in {asked}");
    }
    assert!(asked.contains(" --threads 8\n") && !asked.contains("--slurm-"), "{asked}");
    assert_eq!(script(&["--threads=0"]).replace(" --threads=0", ""), plain);
    for flags in [["--slurm-mem", "4 G"], ["--slurm-time", "1;x"], ["--slurm-partition", ""]] {
        assert!(bad(dir, &[&["reproduce", "--out", "study", "--slurm"], &flags[..]].concat(), 2).contains("letters"));
    }
    assert!(bad(dir, &["reproduce", "--slurm-mem", "4G", "--list"], 2).contains("--slurm"));
}

/// Data that are not there decide nothing: `--list` and `--slurm` refuse them, and a task refuses another study's data.
#[test]
fn a_study_of_absent_data_is_refused_or_told() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let list = |more: &[&'static str]| [&["reproduce", "--data", "genres", "--out", "study", "--list"], more].concat();
    let slurm =
        |more: &[&'static str]| [&["reproduce", "--data", "genres", "--out", "study", "--slurm"], more].concat();
    for args in [list(&[]), slurm(&[]), slurm(&["--seeds", "1,2"])] {
        let said = bad(dir, &args, 1);
        assert!(said.contains("genres: no such file or folder") && said.contains("--split"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let absent = [good(dir, &list(&["--split", "random"])), good(dir, &slurm(&["--split", "blocks"]))];
    assert!(absent[0].lines().count() == 2 && absent[1].contains("--array=0-1\n"));
    assert_eq!(good(dir, &list(&["--folds", "3"])).lines().count(), 6);

    fs::create_dir_all(dir.join("genres/blues")).unwrap();
    assert_eq!(good(dir, &list(&["--split", "random"])), absent[0]);
    assert_eq!(good(dir, &list(&[])).lines().count(), 4);
    let script = good(dir, &slurm(&[]));
    assert!(script.contains("--array=0-3\n"), "{script}");
    let task = || {
        let mut task = Command::new("bash");
        task.arg("-c").arg(&script).current_dir(dir).env("SLURM_ARRAY_TASK_ID", "1").env("GENREGRAD_CACHE", "");
        let task = task.output().unwrap();
        assert_ne!(task.status.code(), Some(0));
        String::from_utf8(task.stderr).unwrap()
    };
    // gone, and another kind of data in its place
    fs::rename(dir.join("genres"), dir.join("moved")).unwrap();
    assert!(task().contains("genres: no such file or folder"));
    good(dir, &["prepare", "--synthetic-tracks", "2", "--segments", "1", "--out", "genres"]);
    let said = task();
    assert!(said.contains("2 trainings instead of 4; print the script again with --slurm"), "{said}");
    assert!(!dir.join("study").exists());
}

/// The job's script under a scheduler that only takes notes: the tables' job is submitted once, a task that is stopped by
/// time is queued again, and one that is cancelled is not.
#[test]
fn a_job_that_runs_out_of_time_queues_itself_again() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let tools = dir.join("tools");
    fs::create_dir(&tools).unwrap();
    for (tool, does) in [("sbatch", ""), ("scontrol", "[ \"$1\" = show ] && echo \"JobState=$STATE Reason=None\"")] {
        let path = tools.join(tool);
        fs::write(&path, format!("#!/bin/bash\nprintf '{tool} %s\\n' \"$*\" >> notes\n{does}\nexit 0\n")).unwrap();
        assert!(Command::new("chmod").arg("+x").arg(&path).status().unwrap().success());
    }
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let study = STUDY.map(|word| if word == "2,4" { "400" } else { word });
    let script = good(dir, &[&study[..], &OFTEN, &["--out", "study", "--slurm"]].concat());
    let run = |state: &str, restarts: &str| {
        let _ = fs::remove_file(dir.join("notes"));
        let _ = fs::remove_file(dir.join("study/shallow-seed1/state.safetensors"));
        let mut task = Command::new("bash");
        task.arg("-c").arg(&script).current_dir(dir).env("GENREGRAD_CACHE", "").env("PATH", &path).env("STATE", state);
        for (name, value) in
            [("ARRAY_TASK_ID", "0"), ("ARRAY_JOB_ID", "7"), ("JOB_ID", "8"), ("RESTART_COUNT", restarts)]
        {
            task.env(format!("SLURM_{name}"), value);
        }
        let mut task = task.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for(&dir.join("study/shallow-seed1/state.safetensors"), &mut task);
        signal(&task, "-TERM");
        let output = task.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(130), "{said}");
        assert!(said.contains("go on with: ") && dir.join("study/shallow-seed1/state.safetensors").exists(), "{said}");
        fs::read_to_string(dir.join("notes")).unwrap()
    };
    let notes = run("RUNNING", "0");
    let first: Vec<&str> = notes.lines().collect();
    assert!(first[0].starts_with("sbatch ") && first[0].contains("--dependency=afterany:7"), "{notes}");
    assert!(first[0].contains("reproduce --collect study"), "{notes}");
    assert_eq!(first[1..], ["scontrol show job 8", "scontrol requeue 8"]);
    assert_eq!(run("RUNNING", "1"), "scontrol show job 8\nscontrol requeue 8\n", "one job of tables is enough");
    for state in ["CANCELLED", "PENDING"] {
        assert_eq!(run(state, "1"), "scontrol show job 8\n");
    }
}

/// Without a cluster, xargs or GNU parallel over the cells make the same study.
#[test]
fn xargs_and_parallel_make_the_same_study() {
    let dir = left_alone();
    let dir = dir.path();
    let cells = "seq 0 1 | xargs -P 2 -I{} ";
    let parallel = "seq 0 1 | parallel -j 2 ";
    let ways = [("xargs", cells, "{}"), ("parallel", parallel, "{}")];
    let mut tried = 0;
    for (tool, start, number) in ways {
        if Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success()) {
            let words =
                [&STUDY[..], &["--threads", "1", "--quiet", "--out", tool, "--cell", number]].concat().join(" ");
            let line = format!("{start} '{}' {words}", env!("CARGO_BIN_EXE_genregrad"));
            let mut shell = Command::new("sh");
            let output = shell.args(["-c", &line]).current_dir(dir).env("GENREGRAD_CACHE", "").output().unwrap();
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
            assert!(good(dir, &["reproduce", "--collect", tool]).contains("2 seeds"));
            assert_same(dir, tool, "alone");
            tried += 1;
        }
    }
    assert!(tried > 0, "neither xargs nor parallel");
}

/// The tasks of a cluster's array all begin in the same second, in a folder that none of them has made yet.
#[test]
fn cells_that_start_together_do_not_meet() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let seeds = "1,2,3,4,5,6";
    let study = ["reproduce", "--models", "shallow", "--seeds", seeds, "--split-seed", "1", "--epochs", "1", "--quiet"];
    let study =
        [&study[..], &["--synthetic-tracks", "2", "--segments", "1", "--device", "cpu", "--threads", "1"]].concat();
    let tasks = ["0", "1", "2", "3", "4", "5"]
        .map(|number| start(dir, &[&study[..], &["--out", "together", "--cell", number]].concat()));
    for task in tasks {
        let output = task.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(good(dir, &["reproduce", "--collect", "together"]).contains("6 seeds"));
}

/// While spectrograms are made there is nothing to wait for.
#[cfg(target_os = "linux")]
#[test]
fn an_interruption_before_the_training_ends_at_once() {
    let dir = TempDir::new().unwrap();
    let mut child =
        start(dir.path(), &["reproduce", "--synthetic-tracks", "5000", "--device", "cpu", "--out", "never"]);
    let catches = |child: &Child| {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim().to_string();
        u64::from_str_radix(&mask, 16).unwrap() >> 1 & 1 == 1
    };
    let started = Instant::now();
    while !catches(&child) {
        assert!(started.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(10));
    }
    signal(&child, "-INT");
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert_eq!(said, "stopped\n");
    assert!(!dir.path().join("never").exists());
}

#[test]
fn one_net_goes_on_too_and_tensorboard_sees_all_of_it() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let net = [
        "train",
        "--model",
        "shallow",
        "--epochs",
        "4",
        "--synthetic-tracks",
        "2",
        "--segments",
        "5",
        "--device",
        "cpu",
    ];
    good(dir, &[&net[..], &["--out", "alone"]].concat());
    let mut child = start(dir, &[&net[..], &["--out", "stopped", "--tensorboard"]].concat());
    wait_for(&dir.join("stopped/metrics.csv"), &mut child);
    signal(&child, "-TERM");
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let again = "; go on with: genregrad train --resume stopped --device cpu --tensorboard";
    assert!(said.trim_end().ends_with(again), "{said}");
    good(dir, &["train", "--resume", "stopped", "--device", "cpu", "--tensorboard", "--quiet"]);
    for file in ["checkpoint.safetensors", "metrics.csv", "segments.csv", "run.toml"] {
        let [a, b] = ["alone", "stopped"].map(|folder| fs::read(dir.join(folder).join(file)).unwrap());
        assert!(a == b, "{file}");
    }
    assert!(bad(dir, &["train", "--resume", "stopped"], 2).contains("there is nothing left to do"));
    assert!(bad(dir, &["train", "--resume", "alone", "--model", "deep"], 2).contains("cannot be used with"));

    let events = scalars(&dir.join("stopped/events.out.tfevents.genregrad"));
    let mut curve: BTreeMap<String, Vec<(i64, f32)>> = BTreeMap::new();
    for (_, step, tag, number) in &events {
        curve.entry(tag.clone()).or_default().push((*step, *number));
    }
    let metrics = fs::read_to_string(dir.join("stopped/metrics.csv")).unwrap();
    let column = |place: usize| -> Vec<(i64, f32)> {
        let rows = metrics.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
        rows.map(|row| (row[0].parse().unwrap(), row[place].parse::<f64>().unwrap() as f32)).collect()
    };
    assert_eq!(column(1).len(), 4);
    for (tag, place) in [("learning_rate", 1), ("loss", 2), ("raw_accuracy/train", 3), ("raw_accuracy/test", 4)] {
        assert_eq!(curve[tag], column(place), "{tag}");
    }
}

/// (wall time, step, tag, value) of each scalar of an event file, in order, read by the rules of TFRecord and protobuf.
fn scalars(path: &Path) -> Vec<(f64, i64, String, f32)> {
    /// The fields of a message: number, and bytes or a number.
    fn fields(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>, u64)> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let (mut value, mut shift) = (0, 0);
            loop {
                let byte = bytes[0];
                *bytes = &bytes[1..];
                value |= u64::from(byte & 127) << shift;
                shift += 7;
                if byte < 128 {
                    return value;
                }
            }
        }
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let length = match key & 7 {
                0 => {
                    found.push(((key >> 3) as u8, Vec::new(), varint(&mut bytes)));
                    continue;
                }
                1 => 8,
                2 => varint(&mut bytes) as usize,
                5 => 4,
                wire => panic!("wire type {wire}"),
            };
            found.push(((key >> 3) as u8, bytes[..length].to_vec(), 0));
            bytes = &bytes[length..];
        }
        found
    }
    let get = |message: &[(u8, Vec<u8>, u64)], number: u8| {
        message.iter().find(|field| field.0 == number).map(|field| (field.1.clone(), field.2))
    };
    /// The checksum bit by bit: CRC-32C, reflected, then TensorFlow's mask.
    fn masked(bytes: &[u8]) -> u32 {
        let crc = !bytes.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
        });
        crc.rotate_right(15).wrapping_add(0xa282_ead8)
    }
    let file = fs::read(path).unwrap();
    let (mut rest, mut found) = (&file[..], Vec::new());
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let sum = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
        assert_eq!((sum(8), sum(12 + length)), (masked(&rest[..8]), masked(&rest[12..12 + length])));
        let event = fields(&rest[12..12 + length]);
        let time = f64::from_le_bytes(get(&event, 1).unwrap().0.try_into().unwrap());
        match get(&event, 5) {
            Some((summary, _)) => {
                let value = fields(&get(&fields(&summary), 1).unwrap().0);
                let number = f32::from_le_bytes(get(&value, 2).unwrap().0.try_into().unwrap());
                let tag = String::from_utf8(get(&value, 1).unwrap().0).unwrap();
                found.push((time, get(&event, 2).unwrap().1 as i64, tag, number));
            }
            None => assert_eq!(get(&event, 3).unwrap().0, b"brain.Event:2"),
        }
        rest = &rest[16 + length..];
    }
    found
}

/// A run that has an event file keeps it when it is resumed, and its epochs keep their times.
#[test]
fn a_resumed_run_keeps_its_event_file_and_its_times() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let events = |run: &str| scalars(&dir.join(run).join("events.out.tfevents.genregrad"));
    let settings = ["--model", "shallow", "--epochs", "6", "--synthetic-tracks", "2", "--segments", "5"];
    for (run, first, again) in [
        ("kept", &["--tensorboard"][..], &[][..]),
        ("late", &[][..], &["--tensorboard"][..]),
        ("killed", &["--tensorboard"][..], &[][..]),
    ] {
        let began = now();
        let mut child =
            start(dir, &[&["train", "--device", "cpu", "--out", run], &settings[..], &OFTEN, first].concat());
        wait_for(&dir.join(run).join("state.safetensors"), &mut child);
        signal(&child, if run == "killed" { "-KILL" } else { "-INT" });
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(dir.join(run).join("state.safetensors").exists(), "over too early: {said}");
        std::thread::sleep(Duration::from_millis(1500));
        let paused = now() - 1.0;
        let before = first.first().map(|_| events(run));
        good(dir, &[&["train", "--device", "cpu", "--resume", run, "--quiet"], again].concat());
        let after = events(run);
        let times: Vec<f64> = after.iter().filter(|event| event.2 == "loss").map(|event| event.0).collect();
        assert_eq!(times.len(), 6, "{run}");
        assert!(times.is_sorted() && times[0] > began && times[0] < paused && times[5] > paused, "{run}: {times:?}");
        if let Some(before) = before.filter(|_| run == "kept") {
            // what was there is as it was
            assert!(!before.is_empty() && after[..before.len()] == before[..], "{run}");
        }
    }
    // without the flag a new run has none
    good(dir, &[&["train", "--device", "cpu", "--out", "plain", "--quiet"], &settings[..]].concat());
    assert!(!dir.join("plain/events.out.tfevents.genregrad").exists());
}

#[test]
fn damaged_states_are_refused() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let mut child = start(dir, &[&STUDY[..], &OFTEN, &["--out", "study"]].concat());
    let state = dir.join("study/shallow-seed1/state.safetensors");
    wait_for(&state, &mut child);
    signal(&child, "-INT");
    child.wait().unwrap();
    let good_state = fs::read(&state).unwrap();
    let resume = ["reproduce", "--resume", "study", "--device", "cpu", "--quiet"];
    for (bytes, what) in [
        (&good_state[..1000], "not a checkpoint"),
        (&good_state[..good_state.len() - 4], "not a checkpoint"),
        (&b""[..], "not a checkpoint"),
    ] {
        fs::write(&state, bytes).unwrap();
        let said = bad(dir, &resume, 1);
        assert!(said.lines().count() == 1 && said.contains(what), "{said}");
        // it keeps the others from nothing, nor their tables
        assert!(dir.join("study/shallow-seed2/results.json").exists());
        fs::remove_file(dir.join("study/tables.md")).unwrap();
    }
    // the weights of a finished run are no state
    let text = String::from_utf8_lossy(&good_state).replacen("reached", "raeched", 1);
    assert!(text.contains("raeched"));
    let place = good_state.windows(7).position(|window| window == b"reached").unwrap();
    let mut other = good_state.clone();
    other[place..place + 7].copy_from_slice(b"raeched");
    fs::write(&state, other).unwrap();
    assert!(bad(dir, &resume, 1).contains("not the state of a training"));
    fs::write(&state, good_state).unwrap();
    good(dir, &resume);
    let grid = dir.join("study/grid.json");
    fs::write(&grid, "{").unwrap();
    let said = bad(dir, &["reproduce", "--collect", "study"], 1);
    assert!(said.lines().count() == 1 && said.contains("grid.json"), "{said}");
}

#[test]
fn the_baseline_is_a_cell_that_can_come_first() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let study = [
        "reproduce",
        "--table",
        "representations",
        "--models",
        "shallow",
        "--epochs",
        "1",
        "--synthetic-tracks",
        "2",
        "--segments",
        "2",
        "--device",
        "cpu",
    ];
    let listed = good(dir, &[&study[..], &["--list"]].concat());
    let line = listed.lines().find(|line| line.contains("mixtures-seed1")).unwrap();
    let number = line.split_whitespace().next().unwrap();
    let table = good(dir, &[&study[..], &["--out", "study", "--cell", number, "--quiet"]].concat());
    assert!(table.contains("MFCC, 16 Gaussians a genre"), "{table}");
    let results: Value =
        serde_json::from_slice(&fs::read(dir.join("study/mixtures-seed1/results.json")).unwrap()).unwrap();
    assert_eq!(results["tracks"].as_array().unwrap().len(), 10);
    let table = good(dir, &["reproduce", "--resume", "study", "--device", "cpu", "--quiet"]);
    for row in ["CQT", "linear", "CWT", "MFCC, 16 Gaussians a genre"] {
        assert!(table.contains(row), "{row} is not in {table}");
    }
    let page = fs::read_to_string(dir.join("study/report.html")).unwrap();
    assert!(page.contains("MFCC, 16 Gaussians a genre"));
    let all: Value = serde_json::from_slice(&fs::read(dir.join("study/results.json")).unwrap()).unwrap();
    assert_eq!((all["runs"].as_array().unwrap().len(), &all["baselines"][0]), (4, &results));
    let all: Value =
        serde_json::from_str(&good(dir, &["reproduce", "--collect", "study", "--json", "--quiet"])).unwrap();
    assert_eq!((all["runs"].as_array().unwrap().len(), &all["baselines"][0]), (4, &results));
}

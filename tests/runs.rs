//! A run's folder under two processes, links, pipes, limits and names of every kind: nothing hangs, nothing else is written,
//! and what is left can be taken up.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A training of a second or so; with `--epochs 2000` one that does not end by itself.
const NET: [&str; 11] = [
    "train",
    "--model",
    "shallow",
    "--synthetic-tracks",
    "2",
    "--segments",
    "1",
    "--device",
    "cpu",
    "--save-every",
    "0",
];

/// The state and the checkpoint of the shallow net have some MB; everything else is smaller.
const RESUME: [&str; 3] = ["--device", "cpu", "--quiet"];

fn program<S: AsRef<OsStr>>(folder: &Path, args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_genregrad"));
    command.current_dir(folder).args(args).env("GENREGRAD_CACHE", "").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

fn start(folder: &Path, args: &[&str]) -> Child {
    program(folder, args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Runs to the end; a run that takes a minute hangs.
fn run<S: AsRef<OsStr>>(folder: &Path, args: &[S]) -> Output {
    let mut command = program(folder, args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    // what is printed here fits into a pipe
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.wait_with_output().unwrap()
}

fn good<S: AsRef<OsStr>>(folder: &Path, args: &[S]) -> String {
    let output = run(folder, args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a refused run says, in one line.
fn bad<S: AsRef<OsStr> + std::fmt::Debug>(folder: &Path, args: &[S]) -> String {
    let output = run(folder, args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(matches!(output.status.code(), Some(1 | 2)), "{args:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
    said
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

fn wait_for(what: impl Fn() -> bool, child: &mut Child) {
    let started = Instant::now();
    while !what() {
        assert!(started.elapsed() < Duration::from_secs(60), "never came");
        assert_eq!(child.try_wait().unwrap(), None, "ended before");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn pipe(path: &Path) {
    let _ = fs::remove_file(path);
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Sound at 22,050 Hz, mono, 16 bits, another one for every `number`; a segment has 20,462 samples.
fn wav(path: &Path, number: usize, samples: usize) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 22_050,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    (0..samples).for_each(|i| {
        writer.write_sample((8000.0 * ((i * (number + 3)) as f32 * 0.02).sin()) as i16).unwrap();
    });
    writer.finalize().unwrap();
}

fn genres(folder: &Path) {
    for (number, track) in ["blues/1.wav", "blues/2.wav", "jazz/1.wav", "jazz/2.wav"].into_iter().enumerate() {
        wav(&folder.join(track), number, 30_000);
    }
}

/// A run that was interrupted after some epochs, in `out`.
fn stopped(folder: &Path, out: &str) {
    let mut child = start(folder, &[&NET[..], &["--epochs", "2000", "--out", out]].concat());
    wait_for(|| folder.join(out).join("state.safetensors").exists(), &mut child);
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_run_under_way_is_refused_to_others_and_goes_on() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let mut first = start(dir, &[&NET[..], &["--epochs", "2000", "--out", "net"]].concat());
    wait_for(|| dir.join("net/state.safetensors").exists(), &mut first);
    for _ in 0..3 {
        let said = bad(dir, &[&["train", "--resume", "net"], &RESUME[..]].concat());
        assert!(said.contains("net: another process is training in it; wait for its end, or stop it first"), "{said}");
    }
    assert_eq!(first.try_wait().unwrap(), None);
    signal(&first, "-INT");
    assert_eq!(first.wait().unwrap().code(), Some(130));
    assert!(!names(&dir.join("net")).contains(&"lock".to_string()), "{:?}", names(&dir.join("net")));

    let study = ["reproduce", "--models", "shallow", "--synthetic-tracks", "2", "--segments", "1", "--epochs", "2000"];
    let mut first = start(dir, &[&study[..], &["--device", "cpu", "--save-every", "0", "--out", "study"]].concat());
    wait_for(|| dir.join("study/shallow-seed1/state.safetensors").exists(), &mut first);
    let said = bad(dir, &[&["train", "--resume", "study/shallow-seed1"], &RESUME[..]].concat());
    assert!(said.contains("another process is training in it"), "{said}");
    signal(&first, "-INT");
    assert_eq!(first.wait().unwrap().code(), Some(130));
}

#[test]
fn links_are_not_written_through() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let victim = dir.join("victim");
    fs::write(&victim, "precious").unwrap();
    stopped(dir, "net");
    for (file, more) in [("lock", &[][..]), ("events.out.tfevents.genregrad", &["--tensorboard"])] {
        symlink(&victim, dir.join("net").join(file)).unwrap();
        let said = bad(dir, &[&["train", "--resume", "net"], &RESUME[..], more].concat());
        assert!(said.contains(&format!("net/{file}: cannot write: a link; remove it")), "{said}");
        assert!(dir.join("net/state.safetensors").exists(), "the run can be taken up");
        fs::remove_file(dir.join("net").join(file)).unwrap();
    }
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}

#[test]
fn pipes_and_devices_are_refused_at_once() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    pipe(&dir.join("pipe"));
    for path in ["pipe", "/dev/zero", "/dev/urandom"] {
        let net = ["train", "--model", "shallow", "--epochs", "1", "--device", "cpu", "--out", "no"];
        for args in [
            vec!["features", path],
            vec!["train", "--config", path, "--device", "cpu", "--out", "no"],
            [&net[..], &["--data", path]].concat(),
            vec!["prepare", path, "--out", "no.safetensors"],
        ] {
            let said = bad(dir, &args);
            assert!(said.contains(path) && said.contains("a device or a pipe"), "{said}");
        }
    }
    assert_eq!(names(dir), ["pipe"]);

    good(dir, &[&NET[..], &["--epochs", "1", "--out", "net"]].concat());
    for (file, command) in [
        ("metrics.csv", &["evaluate", "net", "--device", "cpu", "--quiet"][..]),
        ("checkpoint.safetensors", &["evaluate", "net", "--device", "cpu", "--quiet"]),
        ("segments.csv", &["inspect", "net"]),
    ] {
        let path = dir.join("net").join(file);
        let whole = fs::read(&path).unwrap();
        for what in ["a device or a pipe", "a folder"] {
            let _ = fs::remove_file(&path);
            if what == "a folder" {
                fs::create_dir(&path).unwrap()
            } else {
                pipe(&path)
            }
            let said = bad(dir, command);
            assert!(said.contains(&format!("net/{file}: cannot read: {what}, not a file")), "{said}");
            let _ = fs::remove_dir(&path);
        }
        let _ = fs::remove_file(&path);
        fs::write(&path, whole).unwrap();
    }
    let curve = dir.join("net/metrics.csv");
    let header = fs::read_to_string(&curve).unwrap().lines().next().unwrap().to_string();
    fs::write(&curve, header + "\n").unwrap();
    let said = bad(dir, &["evaluate", "net", "--device", "cpu", "--quiet"]);
    assert!(said.contains("metrics.csv: not the curve of this run: 0 lines for its 1 epochs"), "{said}");

    stopped(dir, "stopped");
    for file in ["state.safetensors", "data.json", "lock"] {
        let path = dir.join("stopped").join(file);
        let whole = fs::read(&path).ok();
        pipe(&path);
        let said = bad(dir, &[&["train", "--resume", "stopped"], &RESUME[..]].concat());
        assert!(said.contains(&format!("stopped/{file}: cannot")) && said.contains("a device or a pipe"), "{said}");
        fs::remove_file(&path).unwrap();
        if let Some(whole) = whole {
            fs::write(&path, whole).unwrap();
        }
    }
}

#[test]
fn what_is_being_written_goes_when_it_is_stopped() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("out")).unwrap();
    let args = ["prepare", "--synthetic-tracks", "2", "--segments", "500", "--out", "out/data"];
    let mut caught = 0;
    for name in ["-INT", "-TERM", "-HUP"] {
        let mut child = start(dir, &args);
        let started = Instant::now();
        while names(&dir.join("out")).is_empty() && child.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < Duration::from_secs(60));
        }
        let _ = Command::new("kill").args([name, &child.id().to_string()]).status();
        let code = child.wait().unwrap().code();
        assert!(matches!(code, Some(130 | 0)), "{name}: {code:?}");
        let left = names(&dir.join("out"));
        assert!(left.iter().all(|name| name == "data"), "{left:?}");
        caught += usize::from(left.is_empty());
        let _ = fs::remove_file(dir.join("out/data"));
    }
    assert!(caught > 0, "none was stopped while it wrote");
}

#[test]
fn what_was_started_to_outlive_its_terminal_does() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let command =
        format!("trap '' HUP; exec {} {} --epochs 2000 --out net", env!("CARGO_BIN_EXE_genregrad"), NET.join(" "));
    let mut shell = Command::new("sh");
    let mut child =
        shell.args(["-c", &command]).current_dir(dir).env("GENREGRAD_CACHE", "").stderr(Stdio::null()).spawn().unwrap();
    wait_for(|| dir.join("net/state.safetensors").exists(), &mut child);
    signal(&child, "-HUP");
    let steps = fs::read(dir.join("net/metrics.csv")).unwrap().len();
    wait_for(|| fs::read(dir.join("net/metrics.csv")).unwrap().len() > steps + 400, &mut child);
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

/// Limits on the size of files, in blocks of 512 bytes, are disks that are full at another of the writes of a run each.
#[test]
fn whatever_write_fails_the_run_is_nothing_or_can_be_taken_up() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let net = [&NET[..], &["--epochs", "2", "--quiet"]].concat();
    good(dir, &[&net[..], &["--out", "alone", "--trace", "traced"]].concat());
    let sizes: Vec<u64> = names(&dir.join("alone"))
        .iter()
        .map(|name| fs::metadata(dir.join("alone").join(name)).unwrap().len())
        .collect();
    // just too small for each of the files, and for one in the middle of it
    let mut limits: Vec<u64> = sizes.iter().flat_map(|&size| [(size.max(1) - 1) / 512, size / 1024]).collect();
    limits.push(2 * sizes.iter().max().unwrap() / 512);
    limits.sort_unstable();
    limits.dedup();
    // every other one with a trace, whose files are written too
    let ways = ["", "--trace trace"].into_iter().cycle();
    let checkpoint = fs::read(dir.join("alone/checkpoint.safetensors")).unwrap();
    let (mut failed, mut taken_up) = (0, 0);
    for (limit, more) in limits.into_iter().zip(ways) {
        let command = format!(
            "ulimit -f {limit}; exec {} {} --save-every 30 --out net {more}",
            env!("CARGO_BIN_EXE_genregrad"),
            net.join(" ").replace("--save-every 0", "")
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).current_dir(dir).env("GENREGRAD_CACHE", "");
        let output = shell.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        if !output.status.success() {
            failed += 1;
            assert!(output.status.code() == Some(1) && said.lines().count() == 1, "{limit}: {said}");
            assert!(said.contains("cannot write: "), "{limit}: {said}");
        }
        assert!(output.status.success() || !dir.join("trace").exists() || dir.join("trace/steps.csv").exists());
        if dir.join("net/run.toml").exists() && !output.status.success() {
            taken_up += 1;
            good(dir, &[&["train", "--resume", "net"], &RESUME[..]].concat());
        }
        if dir.join("net").exists() {
            assert!(fs::read(dir.join("net/checkpoint.safetensors")).unwrap() == checkpoint, "{limit}");
            fs::remove_dir_all(dir.join("net")).unwrap();
        }
        let _ = fs::remove_dir_all(dir.join("trace"));
    }
    assert!(failed > 5, "{failed} failed, {taken_up} were taken up");
}

#[test]
fn a_limit_on_files_is_said_in_words() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("out")).unwrap();
    let prepare = format!(
        "ulimit -f 100; exec {} prepare --synthetic-tracks 2 --segments 5 --out out/data",
        env!("CARGO_BIN_EXE_genregrad")
    );
    let output =
        Command::new("sh").args(["-c", &prepare]).current_dir(dir).env("GENREGRAD_CACHE", "").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("out/data: cannot write: "), "{said}");
    assert!(names(&dir.join("out")).is_empty());
}

#[test]
fn tracks_that_changed_places_are_other_data() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    for genre in ["blues", "jazz"] {
        for track in 0..4 {
            // exactly one segment long: a track's name does not decide which part of it is taken
            wav(&dir.join(format!("data/{genre}/{genre}.{track}.wav")), track + 10 * genre.len(), 20_462);
        }
    }
    let args =
        ["train", "--model", "shallow", "--data", "data", "--segments", "2", "--epochs", "2000", "--device", "cpu"];
    let mut child = start(dir, &[&args[..], &["--save-every", "0", "--out", "net"]].concat());
    wait_for(|| dir.join("net/state.safetensors").exists(), &mut child);
    signal(&child, "-INT");
    child.wait().unwrap();
    good(dir, &["prepare", "data", "--segments", "2", "--out", "p"]);
    let bytes = fs::read(dir.join("p")).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let trained: Vec<String> = serde_json::from_str(&header.metadata().as_ref().unwrap()["train.track_names"]).unwrap();
    let mut jazz =
        trained.iter().filter(|name| name.starts_with("jazz")).map(|name| dir.join(format!("data/jazz/{name}.wav")));
    let (a, b) = (jazz.next().unwrap(), jazz.next().unwrap());
    let (one, two) = (fs::read(&a).unwrap(), fs::read(&b).unwrap());
    fs::write(&a, two).unwrap();
    fs::write(&b, one).unwrap();
    let output = run(dir, &[&["train", "--resume", "net"], &RESUME[..]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("its data are not those that it began with"), "{said}");
    assert!(dir.join("net/state.safetensors").exists());
}

#[test]
fn names_are_quoted_escaped_and_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let mut child = start(dir, &[&NET[..], &["--epochs", "2000", "--out", "two words"]].concat());
    wait_for(|| dir.join("two words/state.safetensors").exists(), &mut child);
    signal(&child, "-INT");
    let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    assert!(said.trim_end().ends_with("go on with: genregrad train --resume 'two words' --device cpu"), "{said}");

    genres(&dir.join("data"));
    fs::write(dir.join("data/jazz/evil\u{202e}gnp.wav"), "no sound").unwrap();
    let output = run(dir, &["prepare", "data", "--segments", "1", "--out", "p", "--json"]);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && err.contains("evil\\u{202e}gnp.wav") && !err.contains('\u{202e}'), "{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert!(!out.contains('\u{202e}') && report["skipped"][0][0] == "jazz/evil\u{202e}gnp.wav", "{out}");
    assert!(bad(dir, &["features", "data/jazz/evil\u{202e}gnp.wav"]).contains("evil\\u{202e}gnp.wav"));

    let odd = OsStr::from_bytes(b"genr\xe9s");
    fs::rename(dir.join("data"), dir.join(odd)).unwrap();
    for command in [&["train", "--model", "shallow", "--out", "no"][..], &["reproduce", "--out", "no"]] {
        let args: Vec<&OsStr> = command.iter().map(OsStr::new).chain([OsStr::new("--data"), odd]).collect();
        let said = bad(dir, &args);
        assert!(said.contains("genr\u{fffd}s: its name is not UTF-8"), "{said}");
        assert!(!dir.join("no").exists());
    }
    // a folder of such a name is no harm, nor a report about it
    let args: Vec<&OsStr> =
        NET.iter().chain(&["--epochs", "1", "--json", "--out"]).map(OsStr::new).chain([odd]).collect();
    fs::remove_dir_all(dir.join(odd)).unwrap();
    let report: Value = serde_json::from_str(&good(dir, &args)).unwrap();
    assert_eq!(report["folder"], "genr\u{fffd}s");
}

#[test]
fn prepare_replaces_none_of_its_inputs() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    genres(&dir.join("data"));
    symlink("data", dir.join("link")).unwrap();
    symlink("data/jazz/1.wav", dir.join("track")).unwrap();
    let before = fs::read(dir.join("data/jazz/1.wav")).unwrap();
    let prepare = |from: &str, to: &str| run(dir, &["prepare", from, "--segments", "1", "--force", "--out", to]);
    for (from, to) in [("data", "data/jazz/1.wav"), ("link", "data/jazz/1.wav"), ("data", "link/jazz/../jazz/1.wav")] {
        let output = prepare(from, to);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains("one of the files that are to be prepared"), "{said}");
    }
    assert!(prepare("data", "track").status.success(), "a link is replaced, not what it leads to");
    assert_eq!(fs::read(dir.join("data/jazz/1.wav")).unwrap(), before);
    assert!(prepare("data", "data/all.safetensors").status.success());
    let output = prepare("data/all.safetensors", "link/all.safetensors");
    assert!(String::from_utf8_lossy(&output.stderr).contains("one of the files"), "its own prepared file");
}

#[test]
fn keys_that_nobody_reads_are_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    for front_end in ["mel", "cqt", "linear", "cwt"] {
        good(
            dir,
            &[&NET[..], &["--epochs", "1", "--max-steps", "1", "--front-end", front_end, "--out", "net"]].concat(),
        );
        let text = fs::read_to_string(dir.join("net/run.toml")).unwrap();
        let length = text.lines().count();
        for (changed, what) in [
            (
                format!("learing_rate = 1.0\n{text}"),
                "line 1: unknown key learing_rate; the nearest known one is learning_rate",
            ),
            (
                text.replace("[data]\n", "[data]\nsegmnets = 1\n"),
                "unknown key segmnets; the nearest known one is segments",
            ),
            (
                text.replace("[data.front_end]\n", "[data.front_end]\nhop_lenght = 1\n"),
                "unknown key hop_lenght; the nearest known one is hop_length",
            ),
            (
                format!("{text}epochs = 3\n"),
                &*format!(
                    "line {}: epochs stands in the wrong table; a key belongs to the [table] above it: put it above the first [table]",
                    length + 1
                ),
            ),
            (
                format!("{text}folds = 3\n"),
                "folds stands in the wrong table; a key belongs to the [table] above it: put it below [data]",
            ),
        ] {
            fs::write(dir.join("changed.toml"), changed).unwrap();
            let said = bad(dir, &["train", "--config", "changed.toml", "--device", "cpu", "--out", "no"]);
            assert!(said.contains(what), "{front_end}: {said}");
        }
        fs::remove_dir_all(dir.join("net")).unwrap();
    }
    let study = ["reproduce", "--models", "shallow", "--synthetic-tracks", "2", "--segments", "1", "--epochs", "1"];
    good(dir, &[&study[..], &["--device", "cpu", "--out", "study"]].concat());
    let path = dir.join("study/grid.json");
    let text = fs::read_to_string(&path).unwrap();
    for (from, to, what) in [
        ("\"tables\"", "\"tabels\": [], \"tables\"", "unknown key tabels; the nearest known one is tables"),
        ("\"table\"", "\"epoch\": 1, \"table\"", "unknown key epoch; the nearest known one is epochs"),
        ("\"method\"", "\"methd\": 1, \"method\"", "unknown key methd; the nearest known one is method"),
        ("\"l1\"", "\"l2\": 1, \"l1\"", "unknown key l2; the nearest known one is l1"),
        ("\"n_mels\"", "\"n_mel\": 1, \"n_mels\"", "unknown key n_mel; the nearest known one is n_mels"),
    ] {
        assert!(text.contains(from), "{text}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let said = bad(dir, &["reproduce", "--collect", "study"]);
        assert!(said.contains(what), "{said}");
    }
    let mut grid: Value = serde_json::from_str(&text).unwrap();
    let table = grid["tables"][0].clone();
    grid["tables"] = vec![table; 100_000].into();
    fs::write(&path, grid.to_string()).unwrap();
    assert!(bad(dir, &["reproduce", "--collect", "study"]).contains("the table Replication is in it twice"));
}

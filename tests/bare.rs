//! The program where a newcomer starts it: an environment of HOME and PATH, a machine with little memory, settings that
//! f32 does not hold.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use genregrad::audio::{FrontEnd, mel};
use genregrad::data::{Dataset, Meta, Set, prepared, split};
use tempfile::TempDir;

/// The program in `folder`, with HOME and PATH alone.
fn bare(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_genregrad"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("HOME", folder).env("PATH", path).current_dir(folder).args(args).stdin(Stdio::null());
    command
}

fn ended(command: &mut Command) -> (Output, String) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

const TRAIN: [&str; 10] =
    ["train", "--model", "shallow", "--synthetic-tracks", "2", "--segments", "2", "--epochs", "1", "--no-cache"];

#[test]
fn an_environment_of_home_and_path_is_quiet() {
    let folder = TempDir::new().unwrap();
    for args in [&["devices"][..], &["devices", "--json"], &["gradcheck", "--explain", "tanh"]] {
        for variable in [None, Some(("XDG_RUNTIME_DIR", "relative")), Some(("DISPLAY", ":99"))] {
            let (output, said) = ended(bare(folder.path(), args).envs(variable));
            assert!(output.status.success() && said.is_empty(), "{args:?}, {variable:?}: {said}");
        }
    }
    // Without HOME, and where HOME cannot be written.
    for home in [None, Some("/proc")] {
        let mut command = bare(folder.path(), &["devices"]);
        command.env_remove("HOME").envs(home.map(|home| ("HOME", home)));
        let (output, said) = ended(&mut command);
        assert!(output.status.success() && said.is_empty(), "{home:?}: {said}");
    }
    let (output, said) = ended(bare(folder.path(), &TRAIN).args(["--device", "auto", "--out", "run"]));
    assert!(output.status.success() && !said.contains("XDG") && !said.contains("error"), "{said}");
}

#[test]
fn a_variable_that_hides_the_adapters_is_named() {
    let folder = TempDir::new().unwrap();
    for value in ["gl", "nonsense", ""] {
        let (output, said) = ended(bare(folder.path(), &["devices"]).env("WGPU_BACKEND", value));
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.is_empty(), "{said}");
        assert!(printed.contains(&format!("WGPU_BACKEND={value:?}")) && !printed.contains("needed"), "{printed}");
        let train = [&TRAIN[..], &["--device", "gpu"]].concat();
        let (output, said) = ended(bare(folder.path(), &train).env("WGPU_BACKEND", value));
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("WGPU_BACKEND={value:?}")) && said.lines().count() == 1, "{said}");
    }
    let (output, said) = ended(bare(folder.path(), &["devices"]).env("VK_DRIVER_FILES", "/nowhere.json"));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.is_empty() && printed.contains("VK_DRIVER_FILES"), "{printed}{said}");
}

#[test]
fn settings_that_f32_does_not_hold_are_refused_by_name() {
    let folder = TempDir::new().unwrap();
    for (name, flags) in [
        ("epsilon", &["--epsilon", "1e-46"][..]),
        ("epsilon", &["--epsilon", "1e-39"]),
        ("learning_rate", &["--learning-rate", "1e-50"]),
        ("learning_rate", &["--lr", "1e39"]),
        ("l1", &["--l1", "1e39"]),
        ("l1", &["--l1", "1e-60"]),
        ("slope", &["--slope", "-1e39"]),
        ("beta2", &["--beta2", "0.999999999999"]),
        ("decay_rate", &["--decay-rate", "1e300"]),
        ("decay_steps", &["--decay-steps", "1e-300"]),
        ("decay_rate", &["--schedule", "exp", "--decay-rate", "1e-30", "--decay-steps", "0.5"]),
        ("decay_steps", &["--schedule", "exp", "--decay-rate", "0.5", "--decay-steps", "1e-3"]),
    ] {
        let (output, said) = ended(bare(folder.path(), &TRAIN).args(flags).args(["--device", "cpu", "--quiet"]));
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {said}");
        assert!(said.contains(name) && said.lines().count() == 1, "{flags:?}: {said}");
    }
    assert!(!folder.path().join("runs").exists(), "a refused training leaves no folder");
}

/// What produced the infinity is named, not always the learning rate.
#[test]
fn a_training_that_diverges_says_what_may_be_the_cause() {
    let folder = TempDir::new().unwrap();
    for (cause, flags) in [
        ("try a smaller l1 than 1e38", &["--l1", "1e38"][..]),
        ("try a slope nearer to 0 than 1e30", &["--preset", "paper", "--slope", "1e30"]),
        ("try a lower learning rate than 1e30", &["--lr", "1e30"]),
        ("a decay_rate below 1", &["--schedule", "exp", "--decay-rate", "1e12", "--decay-steps", "1"]),
    ] {
        let steps = ["--batch", "5", "--device", "cpu", "--quiet"];
        let (output, said) = ended(bare(folder.path(), &TRAIN).args(flags).args(steps));
        assert_eq!(output.status.code(), Some(1), "{flags:?}: {said}");
        assert!(said.contains("training diverged") && said.contains(cause), "{flags:?}: {said}");
    }
}

/// A prepared file of `train` and 2 test segments of two classes in `[bins, frames]`.
fn file(folder: &Path, train: usize, bins: usize, frames: usize) {
    let set = |rows: usize, name: &str| Set {
        spectrograms: (0..rows * bins * frames).map(|i| (i as f32 * 0.7).sin()).collect(),
        labels: (0..rows as u32).map(|row| row % 2).collect(),
        tracks: (0..rows as u32).collect(),
        track_names: (0..rows).map(|row| format!("{name}.{row}")).collect(),
        ..Set::default()
    };
    let meta = Meta {
        name: "file".to_string(),
        synthetic: false,
        classes: vec!["a".to_string(), "b".to_string()],
        front_end: FrontEnd::Mel(mel::Settings { n_mels: bins, n_fft: 4096, ..Default::default() }),
        bins,
        frames,
    };
    let dataset = Dataset { meta, train: set(train, "train"), test: set(2, "test") };
    prepared::write(&folder.join("file.safetensors"), &dataset, split::Kind::Random, &Default::default()).unwrap();
}

/// The first dense layer of 2000x2000 has 200 x 6,400,000 weights: 4.8 GiB for each copy of them.
#[cfg(target_os = "linux")]
#[test]
fn a_net_beyond_the_memory_is_refused_with_the_numbers() {
    let folder = TempDir::new().unwrap();
    file(folder.path(), 2, 2000, 2000);
    let program = bare(folder.path(), &[]).get_program().to_owned();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 4000000; exec \"$0\" \"$@\""]).arg(program).current_dir(folder.path());
    command.args(["train", "--model", "shallow", "--data", "file.safetensors", "--device", "cpu", "--epochs", "1"]);
    let (output, said) = ended(&mut command);
    assert_eq!(output.status.code(), Some(2), "{said}");
    let line = said.lines().last().unwrap();
    assert!(line.contains("training the shallow net on spectrograms of 2000x2000 needs "), "{said}");
    assert!(line.contains(" GiB of memory, but only ") && line.contains(" GiB are available"), "{said}");
}

/// A batch that is larger than the training set is the training set, on every device.
#[test]
fn a_batch_beyond_the_data_is_taken_on_both_devices() {
    let folder = TempDir::new().unwrap();
    file(folder.path(), 40, 80, 80);
    let adapters = genregrad::device::Device::list();
    for device in [Some("cpu"), (!adapters.is_empty()).then_some("gpu")].into_iter().flatten() {
        let args = ["train", "--model", "shallow", "--data", "file.safetensors", "--epochs", "1", "--quiet"];
        let (output, said) = ended(bare(folder.path(), &args).args(["--batch", "600", "--device", device]));
        assert!(output.status.success(), "{device}: {said}");
    }
}

#[test]
fn gradcheck_counts_what_it_compares_and_shows_the_worst() {
    let folder = TempDir::new().unwrap();
    let (output, said) = ended(&mut bare(folder.path(), &["gradcheck", "--explain", "conv2d", "--device", "cpu"]));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}{said}");
    for part in ["compared", "got ", "expected ", "got / expected", "] of [", "> "] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    let json =
        bare(folder.path(), &["gradcheck", "--explain", "conv2d", "--device", "cpu", "--json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    for check in report["checks"].as_array().unwrap() {
        assert!(check["compared"].as_u64().unwrap() > 100, "{check}");
        assert_eq!(check["detail"]["index"].as_array().unwrap().len(), 4, "{check}");
    }
    let (output, said) = ended(&mut bare(folder.path(), &["gradcheck", "--explain", "conv3d"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("no such operation or net; there are: conv2d; "), "{said}");
}

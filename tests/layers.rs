//! Imports point only downwards: the sources are held to the picture in `src/lib.rs`.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use walkdir::WalkDir;

/// Bottom first. A module may use those on lines above its own, itself, and none beside it.
const LAYERS: &[&[&str]] = &[
    &["error"],
    &["files", "rng", "tensor"],
    &["tape"],
    &["device"],
    &["run"],
    &["ops"],
    &["autodiff"],
    &["nn"],
    &["models"],
    &["audio"],
    &["data"],
    &["train"],
    &["baseline", "check", "bench"],
    &["report"],
    &["experiments"],
    &["cli"],
];

/// (file below `src/`, module that it may use although that stands above, why).
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// Modules that must not see the engine, nor the engine them: sound, corpora and what came before the nets are plain
/// numbers.
const APART: [(&str, &[&str]); 3] = [
    ("audio", &["tape", "device", "run", "ops", "autodiff", "nn", "models"]),
    ("data", &["tape", "device", "run", "ops", "autodiff", "nn", "models"]),
    ("baseline", &["tape", "device", "run", "ops", "autodiff", "nn", "models"]),
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|names| names.contains(&module))
}

/// The modules that follow `crate::` in the code of `text`; comments do not count.
fn imports(text: &str) -> BTreeSet<String> {
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap()).collect();
    let code = code.join("\n");
    let word = |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut found = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            // `use crate::{a::B, c::{D, E}}`: the words at the outermost level that start an item.
            Some(list) => {
                let (mut depth, mut start) = (1, true);
                for (place, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 1 => start = true,
                        c if start && c.is_alphabetic() => {
                            found.insert(word(&list[place..]));
                            start = false;
                        }
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
            None => drop(found.insert(word(after))),
        }
    }
    found
}

/// Every (file, its module, module used) of the library.
fn uses() -> Vec<(String, String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut uses = Vec::new();
    for entry in WalkDir::new(&src).sort_by_file_name() {
        let entry = entry.unwrap();
        let file = entry.path().strip_prefix(&src).unwrap().to_string_lossy().replace('\\', "/");
        if !file.ends_with(".rs") || file == "lib.rs" || file == "main.rs" {
            continue;
        }
        let module = file.split('/').next().unwrap().trim_end_matches(".rs").to_string();
        for used in imports(&std::fs::read_to_string(entry.path()).unwrap()) {
            uses.push((file.clone(), module.clone(), used));
        }
    }
    uses
}

#[test]
fn imports_point_only_downwards() {
    let mut wrong = Vec::new();
    let mut excused = BTreeSet::new();
    // `crate::shader!` is the tape's macro: `#[macro_export]` puts it at the root.
    let named = |used: &str| if used == "shader" { "tape".to_string() } else { used.to_string() };
    for (file, module, used) in uses() {
        let used = named(&used);
        let Some(from) = layer(&module) else {
            wrong.push(format!("{file}: module {module} has no layer; give it one in tests/layers.rs"));
            continue;
        };
        let Some(to) = layer(&used) else {
            wrong.push(format!("{file}: crate::{used} is no module of the table"));
            continue;
        };
        let apart = APART.iter().any(|(name, others)| *name == module && others.contains(&used.as_str()));
        if module == used || (to < from && !apart) {
            continue;
        }
        match EXCEPTIONS.iter().find(|(excepted, above, _)| *excepted == file && *above == used) {
            Some((excepted, above, _)) => drop(excused.insert((*excepted, *above))),
            None => wrong.push(format!("{file} ({module}) must not use {used}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let unused: Vec<_> = EXCEPTIONS.iter().filter(|(file, above, _)| !excused.contains(&(*file, *above))).collect();
    assert!(unused.is_empty(), "exceptions that nothing needs: {unused:?}");
}

#[test]
fn the_test_sees_what_it_should() {
    let uses = uses();
    let has = |module: &str, used: &str| uses.iter().any(|(_, m, u)| m == module && u == used);
    assert!(has("ops", "tape") && has("run", "device") && has("train", "models") && has("check", "train"));
    let text = "use crate::error::Error; // crate::cli\n/// [`crate::run`]\nuse crate::{\n    ops::{self, Adam},\n    rng, tape::Var,\n};\n\
                fn f() -> crate::tensor::Shape {}";
    let expected = ["error", "ops", "rng", "tape", "tensor"].map(String::from);
    assert_eq!(imports(text), BTreeSet::from(expected));
}

/// Only the executors ask which device it is.
#[test]
fn the_device_is_matched_in_run_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in WalkDir::new(&src) {
        let path = entry.unwrap().into_path();
        let below = path.strip_prefix(&src).unwrap().to_path_buf();
        if path.extension().is_some_and(|e| e == "rs") && !below.starts_with("run") && !below.starts_with("device") {
            let text = std::fs::read_to_string(&path).unwrap();
            let matched =
                text.lines().find(|line| line.contains("Device::Cpu =>") || line.contains("Device::Gpu(gpu) =>"));
            assert_eq!(matched, None, "{}", below.display());
        }
    }
}

/// One place opens files: it waits for no pipe, follows no link to be written and reads no more than there is.
#[test]
fn files_are_opened_in_one_place() {
    // (file, what of the system it reads)
    let excused = [
        ("device/mod.rs", "/proc/cpuinfo"),
        ("bench/mod.rs", "/proc/self/status"),
        ("cli/interrupt.rs", "/proc/self/status"),
    ];
    let opens = [
        "File::open",
        "File::create",
        "File::options",
        "OpenOptions",
        "fs::read(",
        "fs::read_to_string(",
        "fs::write(",
    ];
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in WalkDir::new(&src) {
        let path = entry.unwrap().into_path();
        let below = path.strip_prefix(&src).unwrap().display().to_string();
        if path.extension().is_none_or(|e| e != "rs") || below == "files.rs" {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let is_excused = |line: &str| excused.iter().any(|(file, read)| below == *file && line.contains(read));
        let opened = code.lines().find(|line| opens.iter().any(|call| line.contains(call)) && !is_excused(line));
        assert_eq!(opened, None, "{below}: see files::open and files::open_own");
    }
}

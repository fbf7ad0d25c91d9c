//! Imports point only downwards: the sources are held to the picture in `src/lib.rs`.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

/// The layers, bottom first, from the table in `src/lib.rs`. A module may use those on lines below its own.
fn layers() -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let table = text.split("```text\n").nth(1).unwrap().split("//! ```").next().unwrap();
    // Names end where two spaces begin.
    let line = |line: &str| {
        let names = line.trim_start_matches("//! ").split("  ").next().unwrap();
        names.split_whitespace().map(String::from).collect()
    };
    table.lines().map(line).rev().collect()
}

/// Most lines of the afternoon path.
const AFTERNOON: usize = 3_200;

/// (file below `src/`, module that it may use although that stands above, why).
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// Modules that must not see the engine, nor the engine them: sound, corpora and what came before the nets are plain
/// numbers.
const APART: [(&str, &[&str]); 3] = [
    ("audio", &["tape", "device", "run", "ops", "autodiff", "nn", "models"]),
    ("data", &["tape", "device", "run", "ops", "autodiff", "nn", "models"]),
    ("baseline", &["tape", "device", "run", "ops", "autodiff", "nn", "models"]),
];

fn layer(layers: &[Vec<String>], module: &str) -> Option<usize> {
    layers.iter().position(|names| names.iter().any(|name| name == module))
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
    let layers = layers();
    assert!(layers.len() > 12 && layers[0] == ["error"] && layers.last().unwrap()[..] == ["cli"], "{layers:?}");
    // `#[macro_export]` puts the macro `shader!` at the root.
    let named = |used: &str| if used == "shader" { "dispatch".to_string() } else { used.to_string() };
    for (file, module, used) in uses() {
        let used = named(&used);
        let Some(from) = layer(&layers, &module) else {
            wrong.push(format!("{file}: module {module} has no layer; give it one in src/lib.rs"));
            continue;
        };
        let Some(to) = layer(&layers, &used) else {
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

/// The textbook names nothing of the fast path: with `fast/` removed, it still compiles.
#[test]
fn the_textbook_does_not_know_the_fast_path() {
    let textbook = ["tensor", "tape", "dispatch", "run", "ops", "autodiff", "nn", "models"];
    let found: Vec<_> = uses().into_iter().filter(|(_, m, used)| textbook.contains(&&**m) && used == "fast").collect();
    assert!(found.is_empty(), "{found:?}");
}

/// Lines of a file above its tests.
fn lines(file: &Path) -> usize {
    std::fs::read_to_string(file).unwrap().lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count()
}

/// The files that a reader opens to see both nets train: `lib.rs` names them.
#[test]
fn the_afternoon_path_is_short() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let single = ["tensor.rs", "tape.rs", "run/cpu.rs", "autodiff.rs", "nn.rs", "models.rs", "train/program.rs"];
    let mut files: Vec<PathBuf> = single.iter().map(|file| src.join(file)).collect();
    let ops = WalkDir::new(src.join("ops")).into_iter().map(|entry| entry.unwrap().into_path());
    files.extend(ops.filter(|path| path.extension().is_some_and(|extension| extension == "rs")));
    let total: usize = files.iter().map(|file| lines(file)).sum();
    assert!(files.len() > 20 && total <= AFTERNOON, "{total} lines in {} files", files.len());
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
        ("cli/interrupt.rs", "/proc/self/status"),
        ("device/memory.rs", "fs::read_to_string("),
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

/// Which file of `src/` uses which: paths in `use` and in code, except inside tests and except re-exports.
mod files {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    use syn::visit::{self, Visit};
    use walkdir::WalkDir;

    /// A module's path below the crate: `["ops", "conv2d"]`.
    type Module = Vec<String>;

    /// Every module that is a file, with the file's name below `src/`.
    fn modules(src: &Path) -> BTreeMap<Module, String> {
        let mut modules = BTreeMap::new();
        for entry in WalkDir::new(src).sort_by_file_name() {
            let path = entry.unwrap().into_path();
            let file = path.strip_prefix(src).unwrap().to_string_lossy().replace('\\', "/");
            let Some(stem) = file.strip_suffix(".rs").filter(|stem| !["lib", "main"].contains(stem)) else { continue };
            let module = stem.strip_suffix("/mod").unwrap_or(stem).split('/').map(String::from).collect();
            modules.insert(module, file);
        }
        modules
    }

    /// Collects the paths of one file, each made absolute.
    struct Paths {
        /// The module that is being visited, inline modules included.
        module: Module,
        /// Modules that the file declares: their names start paths, too.
        children: BTreeSet<String>,
        found: Vec<Module>,
    }

    impl Paths {
        fn add(&mut self, path: &[String]) {
            let absolute = match path[0].as_str() {
                "crate" => path[1..].to_vec(),
                "self" => [&self.module, &path[1..]].concat(),
                "super" => {
                    let ups = path.iter().take_while(|name| *name == "super").count();
                    [&self.module[..self.module.len().saturating_sub(ups)], &path[ups..]].concat()
                }
                name if path.len() > 1 && self.children.contains(name) => [&self.module, path].concat(),
                _ => return,
            };
            self.found.push(absolute);
        }

        fn add_tree(&mut self, before: &[String], tree: &syn::UseTree) {
            let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
            match tree {
                syn::UseTree::Path(path) => self.add_tree(&with(&path.ident), &path.tree),
                syn::UseTree::Name(name) => self.add(&with(&name.ident)),
                syn::UseTree::Rename(name) => self.add(&with(&name.ident)),
                syn::UseTree::Glob(_) => self.add(before),
                syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(before, tree)),
            }
        }
    }

    impl<'ast> Visit<'ast> for Paths {
        fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
            let is_test = item.attrs.iter().any(|attribute| attribute.path().is_ident("cfg"));
            if !is_test && item.content.is_some() {
                self.module.push(item.ident.to_string());
                visit::visit_item_mod(self, item);
                self.module.pop();
            }
        }

        fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
            if !matches!(item.vis, syn::Visibility::Public(_)) {
                self.add_tree(&[], &item.tree);
            }
        }

        /// `pub(super)` uses nothing.
        fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

        fn visit_path(&mut self, path: &'ast syn::Path) {
            let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.add(&names);
            visit::visit_path(self, path);
        }
    }

    /// For every file, the other files that it uses.
    pub fn uses(src: &Path) -> BTreeMap<String, BTreeSet<String>> {
        let modules = modules(src);
        let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (module, file) in &modules {
            let parsed = syn::parse_file(&std::fs::read_to_string(src.join(file)).unwrap()).unwrap();
            let children = parsed.items.iter().filter_map(|item| match item {
                syn::Item::Mod(item) if item.content.is_none() => Some(item.ident.to_string()),
                _ => None,
            });
            let mut paths = Paths { module: module.clone(), children: children.collect(), found: Vec::new() };
            paths.visit_file(&parsed);
            let used = paths.found.iter().filter_map(|path| {
                (1..=path.len()).rev().find_map(|length| modules.get(&path[..length])).filter(|other| *other != file)
            });
            uses.insert(file.clone(), used.cloned().collect());
        }
        uses
    }
}

/// No file uses a file that uses it, by whatever way.
#[test]
fn there_are_no_circles_of_files() {
    let uses = files::uses(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(uses.len() > 100 && uses["ops/adam.rs"].contains("tape.rs"), "{uses:?}");
    // Everything that each file reaches.
    let reached = |start: &String| {
        let (mut seen, mut left) = (BTreeSet::new(), vec![start]);
        while let Some(file) = left.pop() {
            left.extend(uses[file].iter().filter(|used| seen.insert((*used).clone())));
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> = uses.keys().map(|file| (file, reached(file))).collect();
    let in_circle = |file: &&String| reached[*file].contains(*file);
    let circles: BTreeSet<Vec<&String>> = (uses.keys().filter(in_circle))
        .map(|file| reached[file].iter().filter(|other| reached[*other].contains(file)).collect())
        .collect();
    assert!(circles.is_empty(), "{circles:#?}");
}

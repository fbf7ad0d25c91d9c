//! Files of a run: written beside and renamed, so that a reader never sees half of one.

use std::ffi::OsStr;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Where runs without a folder of their own go.
const RUNS: &str = "runs";

/// How a file that is being written is called: `.x7Gk2f.tmp`.
const PREFIX: &str = ".";
const RANDOM: usize = 6;
const SUFFIX: &str = ".tmp";

/// A file that nobody has written to for so long belongs to a process that was killed.
pub const ABANDONED: Duration = Duration::from_secs(3600);

/// Whether a file of this name is one that is being written, or was when its writer was killed.
fn is_unfinished(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let random = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(SUFFIX));
    random.is_some_and(|random| random.len() == RANDOM && random.chars().all(|c| c.is_ascii_alphanumeric()))
}

/// Removes what killed processes were writing into `folder`: files not touched for `age`, zero where nobody else writes.
pub fn sweep(folder: &Path, age: Duration) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let untouched = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if is_unfinished(&entry.file_name()) && (age.is_zero() || untouched().is_some_and(|time| time >= age)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Refuses to replace what is there but no ordinary file: renaming over a device would remove it.
///
/// # Errors
/// [`Error::Config`] if `path` is a folder, a device or a pipe.
pub fn check_replaceable(path: &Path) -> Result<()> {
    match path.metadata() {
        Ok(found) if !found.is_file() => {
            let what = if found.is_dir() { "a folder" } else { "a device or a pipe" };
            Err(Error::Config(format!("{}: {what}; name a file", path.display())))
        }
        _ => Ok(()),
    }
}

/// Replaces `path` in one step by what `fill` writes (buffered) into a file beside it.
///
/// # Errors
/// [`Error::Io`] if the disk refuses; then the old file, if any, is intact. As [`check_replaceable`].
pub fn replace_with(path: &Path, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    check_replaceable(path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        // A temporary file is private by default; this one becomes an ordinary file.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let failed = |error| Error::io("cannot write", path)(error);
    let mut file = builder.prefix(PREFIX).rand_bytes(RANDOM).suffix(SUFFIX).tempfile_in(folder).map_err(failed)?;
    let mut buffer = BufWriter::new(&mut file);
    fill(&mut buffer).and_then(|()| buffer.flush()).map_err(failed)?;
    drop(buffer);
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Replaces `path` by `bytes` in one step.
///
/// # Errors
/// As [`replace_with`].
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_with(path, |file| file.write_all(bytes))
}

/// Replaces `path` by `value` as indented JSON.
///
/// # Errors
/// As [`replace`].
pub fn replace_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| Error::data(path, error.to_string()))?;
    text.push('\n');
    replace(path, text.as_bytes())
}

/// Reads `path` as JSON.
///
/// # Errors
/// [`Error::Io`] if it cannot be read, [`Error::Data`] if it is something else.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(Error::io("cannot read", path))?;
    serde_json::from_str(&text).map_err(|error| Error::data(path, error.to_string()))
}

/// Refuses `wanted` if it exists and is not an empty folder (but for files that are being written, or never were to their
/// end): to be asked before any long work.
///
/// # Errors
/// [`Error::Config`] if it is taken.
pub fn check_free(wanted: Option<&Path>) -> Result<()> {
    let Some(path) = wanted else { return Ok(()) };
    let free = match std::fs::read_dir(path) {
        Ok(mut entries) => entries.all(|entry| entry.is_ok_and(|entry| is_unfinished(&entry.file_name()))),
        Err(_) => path.symlink_metadata().is_err(),
    };
    if free {
        Ok(())
    } else {
        let message = format!("{}: exists already; name another --out or remove it first", path.display());
        Err(Error::Config(message))
    }
}

/// Creates the folder of a run: `wanted`, or the first free `runs/{command}-N`.
///
/// # Errors
/// [`Error::Config`] if `wanted` exists and is not an empty folder; [`Error::Io`] if the disk refuses.
pub fn run_folder(wanted: Option<&Path>, command: &str) -> Result<PathBuf> {
    check_free(wanted)?;
    let folder = wanted.unwrap_or(Path::new(RUNS));
    std::fs::create_dir_all(folder).map_err(Error::io("cannot create", folder))?;
    if wanted.is_some() {
        return Ok(folder.to_path_buf());
    }
    let mut number = 1;
    loop {
        let path = folder.join(format!("{command}-{number}"));
        match std::fs::create_dir(&path) {
            // taken: perhaps by another program, just now
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(Error::io("cannot create", &path)(error)),
            Ok(()) => return Ok(path),
        }
    }
}

/// Removes the folder of a run that came to nothing, if it is empty, and the `runs` that was made for it.
pub fn discard(folder: &Path) {
    let gone = std::fs::remove_dir(folder).is_ok();
    if gone && folder.parent() == Some(Path::new(RUNS)) {
        let _ = std::fs::remove_dir(RUNS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_folder_that_holds_something_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(run_folder(Some(dir.path()), "train").unwrap(), dir.path());
        replace(&dir.path().join("run.toml"), b"x").unwrap();
        let killed = dir.path().join("killed");
        std::fs::create_dir(&killed).unwrap();
        std::fs::write(killed.join(".x7Gk2f.tmp"), b"").unwrap();
        assert_eq!(run_folder(Some(&killed), "train").unwrap(), killed, "what was never finished is nothing");
        let error = run_folder(Some(dir.path()), "train").unwrap_err().to_string();
        assert!(error.ends_with("exists already; name another --out or remove it first"), "{error}");
    }

    #[test]
    fn replacing_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        replace(&path, b"1").unwrap();
        replace(&path, b"22").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"22");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let below = path.join("x");
        let error = replace(&below, b"").unwrap_err().one_line();
        assert!(error.contains(": cannot write: ") && !error.contains("at path"), "{error}");
        assert!(replace(&dir.path().join("no/such/folder/x"), b"").is_err());
    }

    #[test]
    fn sweeping_takes_what_was_never_finished() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["a", ".b", "c.tmp", ".d.tmp", ".x7Gk2f.tmp"];
        for name in names {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        let stays = |name: &str| dir.path().join(name).exists();
        sweep(dir.path(), Duration::from_secs(60));
        assert!(stays(".x7Gk2f.tmp"), "somebody may be writing it");
        sweep(dir.path(), Duration::ZERO);
        assert_eq!(names.map(stays), [true, true, true, true, false]);
    }

    #[test]
    fn numbers_survive_json_bit_for_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let shares: Vec<f64> =
            (0..=250).flat_map(|n| [100.0 * f64::from(n) / 250.0, 100.0 * f64::from(n) / 113.0]).collect();
        replace_json(&path, &shares).unwrap();
        assert_eq!(read_json::<Vec<f64>>(&path).unwrap(), shares);
    }

    #[test]
    fn only_files_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let error = replace(dir.path(), b"").unwrap_err().to_string();
        assert!(error.ends_with("a folder; name a file"), "{error}");
        #[cfg(unix)]
        {
            let error = check_replaceable(Path::new("/dev/null")).unwrap_err().to_string();
            assert_eq!(error, "/dev/null: a device or a pipe; name a file");
        }
    }
}

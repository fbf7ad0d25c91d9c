//! Files of a run: written beside and renamed, so that a reader never sees half of one.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Replaces `path` by `bytes` in one step.
///
/// # Errors
/// [`Error::Io`] if the disk refuses; then the old file, if any, is intact.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(Error::io("cannot write", path))?;
    file.write_all(bytes).map_err(Error::io("cannot write", path))?;
    file.as_file().sync_all().map_err(Error::io("cannot write", path))?;
    // Temporary files are private; what stays should be as readable as any other file.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let _ = file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644));
    }
    file.persist(path).map_err(|error| Error::io("cannot write", path)(error.error))?;
    Ok(())
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

/// Refuses `wanted` if it exists and is not an empty folder: to be asked before any long work.
///
/// # Errors
/// [`Error::Config`] if it is taken.
pub fn check_free(wanted: Option<&Path>) -> Result<()> {
    let Some(path) = wanted else { return Ok(()) };
    let free = match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
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
    let path = match wanted {
        Some(path) => path.to_path_buf(),
        None => (1..)
            .map(|number| Path::new("runs").join(format!("{command}-{number}")))
            .find(|path| !path.exists())
            .unwrap_or_default(),
    };
    std::fs::create_dir_all(&path).map_err(Error::io("cannot create", &path))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_folder_that_holds_something_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(run_folder(Some(dir.path()), "train").unwrap(), dir.path());
        replace(&dir.path().join("run.toml"), b"x").unwrap();
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
        assert!(replace(&dir.path().join("no/such/folder/x"), b"").is_err());
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
}

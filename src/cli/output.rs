//! Standard output: a reader that has gone (`| head`) is no error.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::error::{Error, Result, is_obeyed, printable};

/// Prints `text`, names in it so that they can be seen.
///
/// # Errors
/// The output cannot be written, a full disk for instance.
pub fn print(text: &str) -> Result<()> {
    write(&printable(text))
}

fn write(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::io("cannot write", "standard output")(error)),
        _ => Ok(()),
    }
}

/// Columns of standard output: those of the terminal, else of $COLUMNS, else 80.
pub fn width() -> usize {
    let terminal = terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0));
    let given = || std::env::var("COLUMNS").ok()?.parse().ok();
    terminal.filter(|&columns| columns > 0).or_else(given).unwrap_or(80)
}

/// Prints `value` as one JSON document.
///
/// # Errors
/// As [`print()`].
pub fn print_json(value: &impl Serialize) -> Result<()> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| Error::data("standard output", error.to_string()))?;
    // JSON's own escapes: the same document, whatever a terminal makes of its letters
    let escaped = |c: char| match is_obeyed(c) {
        true => format!("\\u{:04x}", u32::from(c)),
        false => c.to_string(),
    };
    let text = if text.contains(is_obeyed) { text.chars().map(escaped).collect() } else { text };
    write(&format!("{text}\n"))
}

/// Serialises a path; what is not UTF-8 in it is replaced, since JSON has no other letters.
pub fn path<S: Serializer>(path: impl AsRef<Path>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.as_ref().to_string_lossy())
}

/// [`path()`] of paths.
pub fn paths<S: Serializer>(paths: &[PathBuf], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| path.to_string_lossy()))
}

/// [`path()`] of one that may be missing.
pub fn optional<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    path.as_ref().map(|path| path.to_string_lossy()).serialize(serializer)
}

/// [`path()`] of tracks left out, each with the reason.
pub fn skipped<S: Serializer>(tracks: &[(PathBuf, String)], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_seq(tracks.iter().map(|(path, reason)| (path.to_string_lossy(), reason)))
}

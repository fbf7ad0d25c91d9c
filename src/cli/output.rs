//! Standard output: a reader that has gone (`| head`) is no error.

use std::io::{ErrorKind, Write};

use serde::Serialize;

use crate::error::{Error, Result};

/// Prints `text` as it is.
///
/// # Errors
/// The output cannot be written, a full disk for instance.
pub fn print(text: &str) -> Result<()> {
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
    print(&format!("{text}\n"))
}

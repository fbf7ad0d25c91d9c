//! The crate's one error type. A user's mistake is an [`Error`]; a broken invariant asserts.

use std::path::{Path, PathBuf};

/// What went wrong, where, and what to do about it.
///
/// Messages are lower case, one line, and end with a remedy where one exists.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Shapes that do not fit an operation: `conv2d: expected input [N, 16, H, W], got [15, 1, 80, 80]`.
    #[error("{op}: {message}")]
    Shape {
        /// The operation's name.
        op: &'static str,
        /// What was expected and what came.
        message: String,
    },
    /// The GPU: no adapter, a compilation error, memory, a lost device.
    #[error("device: {0}")]
    Device(String),
    /// A corpus, a pickle, a prepared file or a checkpoint that is not what it should be.
    #[error("{}: {message}", path.display())]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it and what to do.
        message: String,
    },
    /// An audio file that cannot be decoded or used.
    #[error("{}: {message}", path.display())]
    Audio {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        message: String,
    },
    /// A training that went wrong.
    #[error("{0}")]
    Training(String),
    /// A training that was asked to stop and kept its state.
    #[error("{0}")]
    Interrupted(String),
    /// A setting that makes no sense: a flag's value, a field of a `run.toml`.
    #[error("{0}")]
    Config(String),
    /// The operating system refused.
    #[error("{}: {what}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done: `cannot read`.
        what: &'static str,
        /// The system's own words.
        source: std::io::Error,
    },
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A shape error of operation `op`.
    pub fn shape(op: &'static str, message: impl Into<String>) -> Self {
        Error::Shape { op, message: message.into() }
    }

    /// A data error about `path`.
    pub fn data(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Error::Data { path: path.as_ref().to_path_buf(), message: message.into() }
    }

    /// An audio error about `path`.
    pub fn audio(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Error::Audio { path: path.as_ref().to_path_buf(), message: message.into() }
    }

    /// `map_err(Error::io("cannot read", path))`.
    pub fn io(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| {
            // tempfile's errors also name its own file, which nobody asked for
            let source = if source.get_ref().is_some() { source.kind().into() } else { source };
            Error::Io { path, what, source }
        }
    }

    /// The whole chain on one line: `run: cannot create: permission denied`.
    pub fn one_line(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(next) = cause {
            line = format!("{line}: {next}");
            cause = next.source();
        }
        printable(&line.replace(['\n', '\r', '\t'], " "))
    }
}

/// Whether a terminal or a browser obeys `c` instead of showing it: control characters other than line feed and tab, and
/// those that turn the direction of text (U+202E and its like) or end a line.
pub fn is_obeyed(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || matches!(c, '\u{2028}' | '\u{2029}') || (c.is_control() && !matches!(c, '\n' | '\t'))
}

/// `text` as it may be shown: the names of files, tracks and genres are other people's. What [`is_obeyed`] is escaped.
pub fn printable(text: &str) -> String {
    if !text.contains(is_obeyed) {
        return text.to_string();
    }
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if is_obeyed(c) {
            shown.extend(c.escape_unicode())
        } else {
            shown.push(c)
        }
        shown
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_steer_the_terminal() {
        assert_eq!(printable("gem\u{fc}se\t日本\n"), "gem\u{fc}se\t日本\n");
        assert_eq!(printable("evil\u{202e}gnp.wav"), "evil\\u{202e}gnp.wav");
        assert_eq!(printable("\u{1b}[2J\r\u{9b}\u{2028}"), "\\u{1b}[2J\\u{d}\\u{9b}\\u{2028}");
        for turning in "\u{200e}\u{200f}\u{61c}\u{202a}\u{202b}\u{202c}\u{202d}\u{2066}\u{2067}\u{2068}\u{2069}".chars()
        {
            assert!(printable(&turning.to_string()).is_ascii(), "{turning:?}");
        }
        let error = Error::data("a\nb\u{202e}", "two\nlines");
        assert_eq!(error.one_line(), "a b\\u{202e}: two lines");
    }
}

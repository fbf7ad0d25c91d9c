//! A part of a file, read as if it were a file of its own.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use symphonia::core::io::MediaSource;

/// A range of a file's bytes. Positions count from the start of the range, and reading ends at its end.
pub(super) struct Section {
    file: File,
    range: Range<u64>,
    /// The next byte, counted from the start of the range.
    at: u64,
    trouble: Trouble,
}

/// The system's last error while a section was read: decoders hide it.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble(Arc<AtomicI32>);

impl Trouble {
    /// The error, if there was one.
    pub(super) fn get(&self) -> Option<io::Error> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            code => Some(io::Error::from_raw_os_error(code)),
        }
    }

    fn note(&self, error: &io::Error) {
        if let Some(code) = error.raw_os_error()
            && error.kind() != ErrorKind::Interrupted
        {
            self.0.store(code, Ordering::Relaxed);
        }
    }
}

impl Section {
    /// The bytes `range` of `file`, from their start on.
    pub(super) fn new(mut file: File, range: Range<u64>) -> io::Result<Section> {
        file.seek(SeekFrom::Start(range.start))?;
        Ok(Section { file, range, at: 0, trouble: Trouble::default() })
    }

    /// The `length` bytes from `start` on, or as many of them as there are, as a section.
    pub(super) fn part(self, start: u64, length: u64) -> io::Result<Section> {
        let within = |byte: u64| self.range.start.saturating_add(byte).min(self.range.end);
        let range = within(start)..within(start.saturating_add(length));
        let trouble = self.trouble;
        Ok(Section { trouble, ..Section::new(self.file, range)? })
    }

    /// What tells of an error of the system, also after the section has gone to a decoder.
    pub(super) fn trouble(&self) -> Trouble {
        self.trouble.clone()
    }

    /// Length in bytes.
    pub(super) fn length(&self) -> u64 {
        self.range.end - self.range.start
    }
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length().saturating_sub(self.at);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read(&mut buffer[..wanted]).inspect_err(|error| self.trouble.note(error))?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Section {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(to) => Some(to),
            SeekFrom::End(by) => self.length().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        let absolute = to.and_then(|to| Some((to, self.range.start.checked_add(to)?)));
        let (to, absolute) = absolute.ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
        self.file.seek(SeekFrom::Start(absolute)).inspect_err(|error| self.trouble.note(error))?;
        self.at = to;
        Ok(to)
    }
}

impl MediaSource for Section {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.length())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn section(range: Range<u64>) -> Section {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        Section::new(file, range).unwrap()
    }

    fn rest(section: &mut Section) -> String {
        let mut text = String::new();
        section.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn positions_count_from_the_start_of_the_section() {
        let mut section = section(2..7);
        assert_eq!((section.length(), section.byte_len()), (5, Some(5)));
        assert_eq!(rest(&mut section), "23456");
        assert_eq!(rest(&mut section), "");
        assert_eq!(section.seek(SeekFrom::Start(1)).unwrap(), 1);
        assert_eq!(rest(&mut section), "3456");
        assert_eq!(section.seek(SeekFrom::End(-2)).unwrap(), 3);
        assert_eq!(rest(&mut section), "56");
        assert_eq!(section.seek(SeekFrom::Current(-5)).unwrap(), 0);
        assert_eq!(rest(&mut section), "23456");
        // as in a file: beyond the end there is nothing, before the start is an error
        assert_eq!(section.seek(SeekFrom::Start(99)).unwrap(), 99);
        assert_eq!(rest(&mut section), "");
        assert!(section.seek(SeekFrom::End(-6)).is_err());
        assert!(section.seek(SeekFrom::Start(u64::MAX)).is_err());
    }

    #[test]
    fn a_part_of_a_section_is_a_section() {
        assert_eq!(rest(&mut section(2..7).part(1, 2).unwrap()), "34");
        assert_eq!(rest(&mut section(2..7).part(3, 99).unwrap()), "56");
        assert_eq!(rest(&mut section(2..7).part(9, u64::MAX).unwrap()), "");
    }

    #[cfg(unix)]
    #[test]
    fn an_error_of_the_system_is_remembered() {
        // a folder can be opened, but not read: EISDIR
        let mut section = Section::new(File::open("/").unwrap(), 0..9).unwrap();
        let trouble = section.trouble();
        assert!(trouble.get().is_none());
        let error = section.read(&mut [0; 9]).unwrap_err();
        assert_eq!(trouble.get().unwrap().raw_os_error(), error.raw_os_error());
        let part = section.part(1, 2).unwrap();
        assert!(part.trouble().get().is_some(), "also of a part");
    }
}

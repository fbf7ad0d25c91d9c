//! Files: the only place that opens any.
//!
//! Reading takes regular files alone, and no more of them than they have: a pipe would be waited for for ever, and a device
//! may never end. Files of a run are written beside and renamed, so that a reader never sees half of one; what is written
//! where it stands is never written through a link.

use std::ffi::OsStr;
use std::fs::{DirEntry, File, Metadata, OpenOptions, TryLockError};
use std::io::{BufReader, BufWriter, Cursor, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result, is_obeyed};

/// Where runs without a folder of their own go.
const RUNS: &str = "runs";

/// How a file that is being written is called: `.x7Gk2f.tmp`.
const PREFIX: &str = ".";
const RANDOM: usize = 6;
const SUFFIX: &str = ".tmp";

/// In a folder of ours, a file that is being written and was not touched for so long belongs to a process that was killed.
pub const ABANDONED: Duration = Duration::from_secs(3600);

/// The same in any folder, where another program may call its files alike.
const LONG_ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Most bytes of a JSON file that are read; the largest that is written lists every test track.
const LONGEST_JSON: u64 = 1 << 30;

/// The files that this process is writing, and its locks: what goes when it is stopped.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the files that this process is writing, and its locks; from now on it writes none. To be called before it exits
/// in the middle of work.
pub fn abandon() {
    let mut unfinished = unfinished();
    unfinished.drain(..).for_each(|path| drop(std::fs::remove_file(path)));
    // who begins another file waits here until the process is gone
    std::mem::forget(unfinished);
}

/// Keeps a file in [`UNFINISHED`].
#[derive(Debug)]
struct Listed(PathBuf);

impl Listed {
    fn new(path: PathBuf, unfinished: &mut Vec<PathBuf>) -> Self {
        unfinished.push(path.clone());
        Listed(path)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        unfinished().retain(|path| *path != self.0);
    }
}

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

/// Whether a kill left anything in `folder`: a lock or a file that was being written.
pub fn has_leftovers(folder: &Path) -> bool {
    let mut entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.any(|entry| entry.file_name() == LOCK || is_unfinished(&entry.file_name()))
}

/// Refuses to replace what is there but no ordinary file: renaming over a device would remove it.
///
/// # Errors
/// [`Error::Config`] if `path` is a folder, a device or a pipe.
pub fn check_replaceable(path: &Path) -> Result<()> {
    match path.metadata() {
        Ok(found) if !found.is_file() => {
            Err(Error::Config(format!("{}: {}; name a file", path.display(), what_else(&found))))
        }
        _ => Ok(()),
    }
}

/// What is no regular file, in words.
fn what_else(found: &Metadata) -> &'static str {
    match found.is_dir() {
        true => "a folder",
        false if found.is_symlink() => "a link",
        false => "a device or a pipe",
    }
}

/// Ways of opening that wait for nobody, whatever is found, and go through no link at the path's end unless `follow`.
fn options(follow: bool) -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        let no_link = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        options.custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY | no_link).bits() as i32);
    }
    #[cfg(not(unix))]
    let _ = follow;
    options.read(true);
    options
}

/// Opens the regular file `path` for reading; a link to one will do.
///
/// # Errors
/// [`Error::Io`] if it cannot be opened, [`Error::Data`] if it is a folder, a device or a pipe.
pub fn open(path: &Path) -> Result<File> {
    let failed = |error| Error::io("cannot read", path)(error);
    let regular = |found: Metadata| match found.is_file() {
        true => Ok(()),
        false => Err(Error::data(path, format!("cannot read: {}, not a file", what_else(&found)))),
    };
    // asked before as well: merely opening some devices does something
    regular(path.metadata().map_err(failed)?)?;
    let file = options(true).open(path).map_err(failed)?;
    regular(file.metadata().map_err(failed)?)?;
    Ok(file)
}

/// Opens `path` for reading, as far as it reaches now; refuses it if that is more than `most` bytes.
fn open_up_to(path: &Path, most: u64) -> Result<std::io::Take<File>> {
    let file = open(path)?;
    let length = file.metadata().map_err(Error::io("cannot read", path))?.len();
    if length > most {
        return Err(Error::data(path, format!("{length} bytes long; no such file has more than {most}")));
    }
    Ok(file.take(length))
}

/// Reads the file `path` of at most `most` bytes.
///
/// # Errors
/// Those of [`open`]; [`Error::Data`] if it is longer or does not fit into memory.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut file = open_up_to(path, most)?;
    let mut bytes = Vec::new();
    let length = file.limit();
    let reserved = usize::try_from(length).ok().and_then(|length| bytes.try_reserve_exact(length).ok());
    reserved.ok_or_else(|| Error::data(path, format!("its {length} bytes do not fit into memory")))?;
    file.read_to_end(&mut bytes).map_err(Error::io("cannot read", path))?;
    Ok(bytes)
}

/// Reads the text file `path` of at most `most` bytes.
///
/// # Errors
/// Those of [`read`]; [`Error::Data`] if it is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> Result<String> {
    String::from_utf8(read(path, most)?).map_err(|_| Error::data(path, "not a text in UTF-8"))
}

/// Reads the table `path` of at most `most` bytes. All of it is there before its first row is asked for: csv takes a
/// fault of the disk for the end of the table.
///
/// # Errors
/// Those of [`read`].
pub fn read_csv(path: &Path, most: u64) -> Result<csv::Reader<Cursor<Vec<u8>>>> {
    Ok(csv::Reader::from_reader(Cursor::new(read(path, most)?)))
}

/// Opens a file of ours at `path` to be written where it stands; makes it if it is not there, which the second value says.
/// What it holds is left as it is.
///
/// # Errors
/// [`Error::Io`] if the disk refuses; [`Error::Data`] if it is a link, a file of two names, or no regular file at all:
/// another file would be written then.
pub fn open_own(path: &Path) -> Result<(File, bool)> {
    let failed = |error| Error::io("cannot write", path)(error);
    let mut options = options(false);
    options.write(true);
    loop {
        match options.clone().create_new(true).open(path) {
            Ok(file) => return Ok((file, true)),
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(error)),
            Err(_) => {}
        }
        let own = |found: &Metadata| match found {
            found if !found.is_file() => {
                Err(Error::data(path, format!("cannot write: {}; remove it", what_else(found))))
            }
            found if is_shared(found) => {
                Err(Error::data(path, "cannot write: a file of two names (a hard link); remove it"))
            }
            _ => Ok(()),
        };
        match path.symlink_metadata() {
            Ok(found) => own(&found)?,
            // another process has just removed it
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        }
        match options.open(path) {
            Ok(file) => {
                own(&file.metadata().map_err(failed)?)?;
                return Ok((file, false));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Whether the file has other names.
fn is_shared(found: &Metadata) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::nlink(found) > 1;
    #[cfg(not(unix))]
    return found.len() == u64::MAX;
}

/// The name of a lock in the folder that it is for.
const LOCK: &str = "lock";

/// A run's folder is this process's alone while this lives; the system takes the lock back from one that is killed.
#[derive(Debug)]
pub struct Lock {
    folder: PathBuf,
    _file: File,
    listed: Listed,
}

impl Lock {
    /// Takes the lock of `folder`; none if another process has it.
    ///
    /// # Errors
    /// Those of [`open_own`]; [`Error::Config`] if the file system has no locks and the lock's file was there before:
    /// then a person must know whether a process has it.
    pub fn take(folder: &Path) -> Result<Option<Lock>> {
        let path = folder.join(LOCK);
        loop {
            let (file, made) = open_own(&path)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => return Ok(None),
                // whoever had it removed the file in between: the next one is another
                Ok(()) if !is_at(&file, &path) => continue,
                Ok(()) => {}
                Err(TryLockError::Error(error)) => unlockable(&path, made, &error)?,
            }
            let listed = Listed::new(path, &mut unfinished());
            return Ok(Some(Lock { folder: folder.to_path_buf(), _file: file, listed }));
        }
    }

    /// The folder that it is for.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Gives the lock back, and removes the folder if nothing else is in it.
    pub fn discard(self) {
        let folder = self.folder.clone();
        drop(self);
        discard(&folder);
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.listed.0);
    }
}

/// On a file system without locks the file itself is one, if it was `made` here: making it is exclusive everywhere.
fn unlockable(path: &Path, made: bool, error: &std::io::Error) -> Result<()> {
    match made {
        true => Ok(()),
        false => Err(Error::Config(format!(
            "{}: another process may be at this run, and this file system has no locks to tell ({error}); if none is, \
             remove this file",
            path.display()
        ))),
    }
}

/// Whether `file` is still what is called `path`.
fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let id = |found: Metadata| (found.dev(), found.ino());
        let (own, there) = (file.metadata().map(id), path.symlink_metadata().map(id));
        matches!((own, there), (Ok(own), Ok(there)) if own == there)
    }
    #[cfg(not(unix))]
    {
        file.metadata().is_ok() && path.exists()
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
    builder.prefix(PREFIX).rand_bytes(RANDOM).suffix(SUFFIX);
    sweep(folder, LONG_ABANDONED);
    let mut unfinished = unfinished();
    let mut file = builder.tempfile_in(folder).map_err(failed)?;
    let _listed = Listed::new(file.path().to_path_buf(), &mut unfinished);
    drop(unfinished);
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
    let file = BufReader::new(open_up_to(path, LONGEST_JSON)?);
    serde_json::from_reader(file).map_err(|error| match error.is_io() {
        true => Error::io("cannot read", path)(error.into()),
        false => Error::data(path, explained(&error.to_string())),
    })
}

/// The key that a file holds and its reader does not know, and the nearest known one, of serde's message about it.
pub fn unknown_key(message: &str) -> Option<(String, String)> {
    let mut quoted = message.strip_prefix("unknown field `")?.split('`').step_by(2);
    let key = quoted.next()?;
    let known: Vec<&str> = quoted.filter(|name| !name.starts_with(' ')).collect();
    let near = |name: &&&str| strsim::jaro_winkler(key, name);
    let nearest = known.iter().max_by(|a, b| near(a).total_cmp(&near(b)))?;
    Some((key.to_string(), nearest.to_string()))
}

/// [`unknown_key`] in words, with the place that follows it in `message`.
fn explained(message: &str) -> String {
    let place = message.rfind(" at line ").map_or("", |at| &message[at..]);
    unknown_key(message).map_or_else(
        || message.to_string(),
        |(key, nearest)| format!("unknown key {key}; the nearest known one is {nearest}{place}"),
    )
}

/// Refuses `wanted` if it exists and is not an empty folder (except for files that are being written or never were to their
/// end, and a lock): to be asked before any long work.
///
/// # Errors
/// [`Error::Config`] if it is taken.
pub fn check_free(wanted: Option<&Path>) -> Result<()> {
    let Some(path) = wanted else { return Ok(()) };
    let is_lock = |entry: &DirEntry| entry.file_name() == LOCK && entry.metadata().is_ok_and(|found| found.len() == 0);
    let is_nothing = |entry: DirEntry| is_unfinished(&entry.file_name()) || is_lock(&entry);
    let free = match std::fs::read_dir(path) {
        Ok(mut entries) => entries.all(|entry| entry.is_ok_and(is_nothing)),
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

/// `path` as one word of a shell's command line, whatever its name holds.
pub fn quoted(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(|c| is_obeyed(c) || c == '\n') && !text.contains('\0') => {
            shlex::try_quote(text).map_or_else(|_| text.to_string(), |quoted| quoted.into_owned())
        }
        // what cannot be shown is written in numbers, as bash, zsh and others read it
        _ => {
            let plain = |&byte: &u8| match byte {
                b' '..=b'~' if !matches!(byte, b'\'' | b'\\') => char::from(byte).to_string(),
                _ => format!("\\{byte:03o}"),
            };
            format!("$'{}'", bytes.iter().map(plain).collect::<String>())
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
    fn the_next_file_in_a_folder_sweeps_what_nobody_touched_for_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let [old, new] = [".x7Gk2f.tmp", ".x7Gk2g.tmp"].map(|name| dir.path().join(name));
        for (path, hours) in [(&old, 25), (&new, 23)] {
            let file = File::create(path).unwrap();
            file.set_modified(std::time::SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
        }
        replace(&dir.path().join("a"), b"1").unwrap();
        assert_eq!([old.exists(), new.exists()], [false, true]);
    }

    #[test]
    fn no_more_is_read_than_a_file_of_its_kind_has() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        let error = read(&path, 4).unwrap_err().to_string();
        assert!(error.ends_with("a: 5 bytes long; no such file has more than 4"), "{error}");
        std::fs::write(&path, b"\xff").unwrap();
        assert!(read_text(&path, 4).unwrap_err().to_string().ends_with("not a text in UTF-8"));
        // a file of 1 TB that takes no room on the disk
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(read_json::<u8>(&path).unwrap_err().to_string().contains("1099511627776 bytes long"));
        let error = read(dir.path(), 5).unwrap_err().to_string();
        assert!(error.ends_with("cannot read: a folder, not a file"), "{error}");
    }

    #[test]
    fn a_lock_is_one_processes_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("run");
        std::fs::create_dir(&folder).unwrap();
        let lock = Lock::take(&folder).unwrap().unwrap();
        assert!(Lock::take(&folder).unwrap().is_none(), "taken");
        check_free(Some(&folder)).unwrap();
        drop(lock);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        // left by a kill
        std::fs::write(folder.join(LOCK), b"").unwrap();
        Lock::take(&folder).unwrap().unwrap().discard();
        assert!(!folder.exists());
    }

    #[test]
    fn locks_that_meet_are_never_two() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let dir = tempfile::tempdir().unwrap();
        let (holders, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        if let Some(lock) = Lock::take(dir.path()).unwrap() {
                            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                            taken.fetch_add(1, Ordering::SeqCst);
                            holders.fetch_sub(1, Ordering::SeqCst);
                            drop(lock);
                        }
                    }
                });
            }
        });
        assert!(taken.load(Ordering::SeqCst) > 4);
    }

    #[test]
    fn where_there_are_no_locks_the_file_is_one() {
        let error = std::io::Error::from(ErrorKind::Unsupported);
        unlockable(Path::new("run/lock"), true, &error).unwrap();
        let said = unlockable(Path::new("run/lock"), false, &error).unwrap_err().to_string();
        assert!(said.starts_with("run/lock: another process may be at this run") && said.ends_with("remove this file"));
    }

    #[test]
    fn unknown_keys_are_named_with_the_nearest() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Settings {
            #[serde(rename = "learning_rate")]
            _rate: u8,
            #[serde(rename = "l1")]
            _l1: u8,
        }
        let error = serde_json::from_str::<Settings>("{\"learing_rate\": 1}").unwrap_err().to_string();
        let said = "unknown key learing_rate; the nearest known one is learning_rate at line 1 column 15";
        assert_eq!(explained(&error), said);
        assert_eq!(explained("missing field `l1`"), "missing field `l1`");
        let pair = |key: &str, nearest: &str| Some((key.to_string(), nearest.to_string()));
        assert_eq!(unknown_key("unknown field `a`, expected `ab` or `xy`"), pair("a", "ab"));
        assert_eq!(unknown_key("unknown field `a`, expected `b`"), pair("a", "b"));
    }

    #[cfg(unix)]
    #[test]
    fn links_and_pipes_are_neither_followed_nor_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let [victim, link, second, pipe] = ["victim", "link", "second", "pipe"].map(|name| dir.path().join(name));
        std::fs::write(&victim, b"precious").unwrap();
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        std::fs::hard_link(&victim, &second).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for (path, what) in [(&link, "a link"), (&second, "a hard link"), (&pipe, "a device or a pipe")] {
            let error = open_own(path).unwrap_err().to_string();
            assert!(error.contains("cannot write: ") && error.contains(what), "{error}");
        }
        assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
        assert_eq!(read(&link, 10).unwrap(), b"precious", "a reader may be led to a file");
        for path in [&pipe, Path::new("/dev/zero")] {
            let error = open(path).unwrap_err().to_string();
            assert!(error.ends_with("cannot read: a device or a pipe, not a file"), "{error}");
        }
        let lock = dir.path().join(LOCK);
        std::os::unix::fs::symlink(&victim, &lock).unwrap();
        assert!(Lock::take(dir.path()).unwrap_err().to_string().ends_with("lock: cannot write: a link; remove it"));
    }

    #[cfg(unix)]
    #[test]
    fn paths_are_quoted_for_a_shell() {
        use std::os::unix::ffi::OsStrExt;
        for name in ["plain", "two words", "it's", "-$HOME`x`", "genr\u{e9}s", "evil\u{202e}gnp", "line\nfeed\\"] {
            let quoted = quoted(Path::new(name));
            assert!(!quoted.contains(is_obeyed) && !quoted.contains('\n'), "{quoted}");
            let echo = format!("printf %s {quoted}");
            let output = std::process::Command::new("bash").args(["-c", &echo]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), name, "{quoted}");
        }
        assert_eq!(quoted(Path::new("two words")), "'two words'");
        assert_eq!(quoted(Path::new(OsStr::from_bytes(b"genr\xe9s"))), "$'genr\\351s'");
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

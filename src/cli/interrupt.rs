//! Ctrl-C (and SIGTERM, which schedulers send): during a training the first time work stops once all is saved, and the
//! second time at once; at any other time there is nothing to save, and the program ends. Files that are being written go. A
//! scheduler signals all processes of a job, and the job's script passes its own signal on: what comes twice within a second
//! counts once.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::files;

static ASKED: AtomicBool = AtomicBool::new(false);
/// When the last signal came that counted.
static LAST: Mutex<Option<Instant>> = Mutex::new(None);
/// Trainings under way.
static TRAININGS: AtomicUsize = AtomicUsize::new(0);
/// How to go on with what was trained so far, if anything was begun.
static RESUMABLE: Mutex<Option<String>> = Mutex::new(None);

/// The exit code of a program that was interrupted, as shells have it.
pub const EXIT_CODE: u8 = 130;

/// From now on interruptions are handled here.
///
/// # Errors
/// The system has no such signals to give, or no thread that waits for them.
pub fn listen() -> Result<()> {
    on_interruption(handle).map_err(|error| Error::Config(format!("cannot listen for Ctrl-C: {error}")))
}

fn handle() {
    if is_repeated() {
        return;
    }
    let say = |line: &str| drop(writeln!(std::io::stderr(), "{line}"));
    let training = TRAININGS.load(Ordering::Relaxed) > 0;
    if !training {
        let how = RESUMABLE.lock().ok().and_then(|how| how.clone());
        say(&how.map_or("stopped".to_string(), |how| format!("stopped; go on with: {how}")));
    }
    if !training || ASKED.swap(true, Ordering::Relaxed) {
        files::abandon();
        std::process::exit(EXIT_CODE.into());
    }
    say("stopping once this step is saved; interrupt again to stop at once");
}

#[cfg(unix)]
fn on_interruption(handle: impl Fn() + Send + 'static) -> std::io::Result<()> {
    use std::sync::{Arc, mpsc};

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    use signal_hook::iterator::Signals;

    // Where files may not grow as long as they should (`ulimit -f`), writing then fails with words instead of a kill.
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    // the thread first: a signal that nobody waits for would be lost
    let (ready, begun) = mpsc::channel();
    std::thread::Builder::new().name("signals".to_string()).spawn(move || {
        let hang_up = (!is_ignored(SIGHUP)).then_some(SIGHUP);
        match Signals::new([SIGINT, SIGTERM].into_iter().chain(hang_up)) {
            Ok(mut signals) => {
                let _ = ready.send(Ok(()));
                signals.forever().for_each(|_| handle());
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    })?;
    begun.recv().unwrap_or(Ok(()))
}

/// Whether the program was started so that `signal` does nothing to it, by `nohup` say.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    ignored >> (signal - 1) & 1 == 1
}

#[cfg(not(unix))]
fn on_interruption(handle: impl Fn() + Send + 'static) -> std::io::Result<()> {
    ctrlc::set_handler(handle).map_err(std::io::Error::other)
}

/// Whether a signal came within the second before.
fn is_repeated() -> bool {
    let Ok(mut last) = LAST.lock() else { return false };
    let repeated = last.is_some_and(|last| last.elapsed() < Duration::from_secs(1));
    if !repeated {
        *last = Some(Instant::now());
    }
    repeated
}

/// A training that is under way until this is dropped.
pub struct Training(());

/// Says that a training begins.
pub fn training() -> Training {
    TRAININGS.fetch_add(1, Ordering::Relaxed);
    Training(())
}

impl Drop for Training {
    fn drop(&mut self) {
        TRAININGS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Says how to go on after an interruption at a time when nothing is being trained.
pub fn resumable(how: &str) {
    if let Ok(mut current) = RESUMABLE.lock() {
        *current = Some(how.to_string());
    }
}

/// Whether to stop.
pub fn is_asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

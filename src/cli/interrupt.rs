//! Ctrl-C (and SIGTERM, which schedulers send): during a training the first time work stops once all is saved, and the
//! second time at once; at any other time there is nothing to save, and the program ends. A scheduler signals all processes of
//! a job, and the job's script passes its own signal on: what comes twice within a second counts once.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

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
/// The system has no such signals to give.
pub fn listen() -> Result<()> {
    let listening = ctrlc::set_handler(|| {
        if is_repeated() {
            return;
        }
        let say = |line: &str| drop(writeln!(std::io::stderr(), "{line}"));
        let training = TRAININGS.load(Ordering::Relaxed) > 0;
        if !training {
            let how = RESUMABLE.lock().ok().and_then(|how| how.clone());
            let how = how.map_or(String::new(), |how| format!("; go on with: {how}"));
            say(&format!("stopped while nothing was being trained{how}"));
        }
        if !training || ASKED.swap(true, Ordering::Relaxed) {
            std::process::exit(EXIT_CODE.into());
        }
        say("stopping once this step is saved; interrupt again to stop at once");
    });
    listening.map_err(|error| Error::Config(format!("cannot listen for Ctrl-C: {error}")))
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

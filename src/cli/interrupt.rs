//! Ctrl-C (and SIGTERM, which schedulers send): the first time work stops once all is saved, the second time at once.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

static ASKED: AtomicBool = AtomicBool::new(false);
static TRAINING: AtomicBool = AtomicBool::new(false);

/// The exit code of a program that was interrupted, as shells have it.
pub const EXIT_CODE: u8 = 130;

/// From now on the first interruption during a training only asks to stop; before and between them there is nothing to
/// save, and the program ends.
///
/// # Errors
/// The system has no such signals to give.
pub fn listen() -> Result<()> {
    let listening = ctrlc::set_handler(|| {
        if !TRAINING.load(Ordering::Relaxed) {
            let _ = writeln!(std::io::stderr(), "stopped between trainings: there was nothing to save");
            std::process::exit(EXIT_CODE.into());
        }
        if ASKED.swap(true, Ordering::Relaxed) {
            std::process::exit(EXIT_CODE.into());
        }
        let _ = writeln!(std::io::stderr(), "stopping once this step is saved; interrupt again to stop at once");
    });
    listening.map_err(|error| Error::Config(format!("cannot listen for Ctrl-C: {error}")))
}

/// Says whether a training is under way.
pub fn training(under_way: bool) {
    TRAINING.store(under_way, Ordering::Relaxed);
}

/// Whether to stop.
pub fn is_asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

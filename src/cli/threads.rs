//! The threads that every command computes on: made once, before any of them computes.

use std::sync::mpsc::{Sender, channel};
use std::thread;

use rayon::{ThreadBuilder, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// Starts rayon's global pool with `wanted` threads; 0 asks for one per core.
///
/// Where the system refuses threads (`ulimit -u`), 0 takes as many as it gives. If it gives none, the calling thread is
/// the pool. The caller must be the thread that computes.
///
/// # Errors
/// [`Error::Config`] if the system does not give the number of threads asked for.
pub fn start(wanted: u16) -> Result<()> {
    let count = match wanted {
        0 => thread::available_parallelism().map_or(1, usize::from),
        wanted => wanted.into(),
    };
    let refused = |error: &dyn std::fmt::Display| {
        Error::Config(format!("--threads {count}: the system gives no more threads ({error}); ask for fewer"))
    };
    // The threads are made before the pool, because rayon panics later if its pool cannot be made.
    let mut waiting: Vec<Sender<ThreadBuilder>> = Vec::with_capacity(count);
    for _ in 0..count {
        let (sender, receiver) = channel::<ThreadBuilder>();
        // A receiver whose sender is dropped ends its thread.
        let made = thread::Builder::new().spawn(move || receiver.recv().map_or((), ThreadBuilder::run));
        match made {
            Ok(_) => waiting.push(sender),
            Err(error) if wanted > 0 => return Err(refused(&error)),
            Err(_) => break,
        }
    }
    let pool = ThreadPoolBuilder::new();
    let built = if waiting.is_empty() {
        pool.num_threads(1).use_current_thread().build_global()
    } else {
        let pool = pool.num_threads(waiting.len());
        let hand_over = |thread| {
            let ended = || std::io::Error::other("a thread ended early");
            waiting.pop().ok_or_else(ended)?.send(thread).map_err(|_| ended())
        };
        pool.spawn_handler(hand_over).build_global()
    };
    built.map_err(|error| refused(&error))
}

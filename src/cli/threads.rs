//! The threads that every command computes on: made once, before any of them computes.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use rayon::{ThreadBuilder, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// Starts rayon's global pool with `wanted` threads; 0 asks for one per core.
///
/// Where the system refuses threads (`ulimit -u`), 0 takes as many as it gives. If it gives none, the calling thread is
/// the pool: it must be the thread that computes.
///
/// # Errors
/// [`Error::Config`] if the system does not give the number of threads asked for.
pub fn start(wanted: u16) -> Result<()> {
    let waiting = waiting(wanted, &mut |receiver| {
        // A receiver whose sender is dropped ends its thread.
        let run = move || receiver.recv().map_or((), ThreadBuilder::run);
        thread::Builder::new().spawn(run).map(drop)
    })?;
    pool(&waiting)
        .spawn_handler(handed_to(waiting))
        .build_global()
        .map_err(|error| Error::Config(format!("cannot start the threads: {error}")))
}

/// Threads that wait to become part of a pool, each made by `make`. They exist before the pool does, because rayon panics
/// later if its pool cannot be made.
fn waiting(
    wanted: u16,
    make: &mut dyn FnMut(Receiver<ThreadBuilder>) -> io::Result<()>,
) -> Result<Vec<Sender<ThreadBuilder>>> {
    let count = match wanted {
        0 => thread::available_parallelism().map_or(1, usize::from),
        wanted => wanted.into(),
    };
    let mut waiting = Vec::with_capacity(count);
    while waiting.len() < count {
        let (sender, receiver) = channel();
        match make(receiver) {
            Ok(()) => waiting.push(sender),
            Err(error) if wanted > 0 => {
                let made = waiting.len();
                let message = format!("--threads {wanted}: the system gives only {made} ({error}); ask for fewer");
                return Err(Error::Config(message));
            }
            Err(_) => break,
        }
    }
    Ok(waiting)
}

/// A pool of the threads that wait, or of the calling thread if there are none.
fn pool(waiting: &[Sender<ThreadBuilder>]) -> ThreadPoolBuilder {
    match waiting.len() {
        0 => ThreadPoolBuilder::new().num_threads(1).use_current_thread(),
        count => ThreadPoolBuilder::new().num_threads(count),
    }
}

/// Hands each of the pool's threads to one that waits.
fn handed_to(mut waiting: Vec<Sender<ThreadBuilder>>) -> impl FnMut(ThreadBuilder) -> io::Result<()> {
    move |thread| {
        let ended = || io::Error::other("a thread ended early");
        waiting.pop().ok_or_else(ended)?.send(thread).map_err(|_| ended())
    }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    /// Threads where the system gives only `most`.
    fn given(most: usize, wanted: u16) -> Result<Vec<Sender<ThreadBuilder>>> {
        let mut left = most;
        waiting(wanted, &mut |receiver| {
            left = left.checked_sub(1).ok_or_else(|| io::Error::from(io::ErrorKind::WouldBlock))?;
            thread::Builder::new().spawn(move || receiver.recv().map_or((), ThreadBuilder::run)).map(drop)
        })
    }

    #[test]
    fn a_system_without_threads_computes_on_the_calling_one() {
        let cores = thread::available_parallelism().unwrap().get();
        for most in [0, 1, 5000] {
            // On a thread of its own: a thread belongs to one pool at most.
            let computed = thread::spawn(move || {
                let waiting = given(most, 0).unwrap();
                let pool = pool(&waiting).spawn_handler(handed_to(waiting)).build().unwrap();
                pool.install(|| (rayon::current_num_threads(), (0..1000u64).into_par_iter().sum::<u64>()))
            });
            assert_eq!(computed.join().unwrap(), (most.clamp(1, cores), 499_500));
        }
    }

    #[test]
    fn a_number_that_was_asked_for_is_given_or_refused() {
        assert_eq!(given(3, 3).unwrap().len(), 3);
        let error = given(2, 3).unwrap_err().to_string();
        assert!(error.starts_with("--threads 3: the system gives only 2 ("), "{error}");
    }
}

//! Temporary arrays of CPU kernels: kept per thread and used again, so that a step allocates nothing once warm.

use std::cell::RefCell;

thread_local! {
    static SPARE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with an array of `len` floats of any content.
pub fn with<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    // Popped, not borrowed: a thread that waits inside `f` may run another task that comes here too.
    let mut buffer = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    let result = f(&mut buffer[..len]);
    SPARE.with_borrow_mut(|spare| spare.push(buffer));
    result
}

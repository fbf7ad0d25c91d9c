//! Temporary arrays of CPU kernels: kept per thread and used again, so that a step allocates nothing once warm.

use std::cell::RefCell;

thread_local! {
    static SPARE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Floats of a cache line: arrays start on one, so that a register's load never crosses two.
const LINE: usize = 16;

/// Calls `f` with an array of `len` floats of any content.
pub fn with<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    // Popped, not borrowed: a thread that waits inside `f` may run another task that comes here too.
    let mut buffer = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.len() < len + LINE {
        buffer.resize(len + LINE, 0.0);
    }
    let first = buffer.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    let result = f(&mut buffer[first..first + len]);
    SPARE.with_borrow_mut(|spare| spare.push(buffer));
    result
}

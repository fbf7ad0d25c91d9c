//! Temporary arrays of CPU kernels. They are kept per thread and reused, so that a warm step allocates nothing.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use super::fft::Pair;
use super::simd::{LANES, Lanes};

thread_local! {
    static SPARE: RefCell<Vec<Vec<Lanes>>> = const { RefCell::new(Vec::new()) };
}

/// A thread-local buffer, returned to the free list on drop.
pub struct Buffer {
    lanes: Vec<Lanes>,
    len: usize,
}

/// A buffer of `len` vectors with unspecified contents.
pub fn take(len: usize) -> Buffer {
    let mut lanes = SPARE.with_borrow_mut(|spare| {
        let fits = (0..spare.len()).filter(|&i| spare[i].len() >= len).min_by_key(|&i| spare[i].len());
        // None fits: the largest grows, so that small ones stay small.
        let best = fits.or_else(|| (0..spare.len()).max_by_key(|&i| spare[i].len()));
        best.map(|i| spare.swap_remove(i)).unwrap_or_default()
    });
    if lanes.len() < len {
        lanes.resize(len, Lanes::ZERO);
    }
    Buffer { lanes, len }
}

impl Deref for Buffer {
    type Target = [Lanes];

    fn deref(&self) -> &[Lanes] {
        &self.lanes[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [Lanes] {
        &mut self.lanes[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let lanes = std::mem::take(&mut self.lanes);
        SPARE.with_borrow_mut(|spare| spare.push(lanes));
    }
}

/// Calls `f` with an array of `len` vectors with unspecified contents.
pub fn lanes<R>(len: usize, f: impl FnOnce(&mut [Lanes]) -> R) -> R {
    f(&mut take(len))
}

/// Calls `f` with an array of `len` complex vectors with unspecified contents.
pub fn pairs<R>(len: usize, f: impl FnOnce(&mut [Pair]) -> R) -> R {
    f(take(2 * len).as_chunks_mut().0)
}

/// Calls `f` with an array of `len` floats with unspecified contents.
pub fn with<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    f(&mut bytemuck::cast_slice_mut(&mut take(len.div_ceil(LANES)))[..len])
}

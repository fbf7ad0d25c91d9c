//! Temporary arrays of CPU kernels: kept per thread and used again, so that a step allocates nothing once warm.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use super::fft::Pair;
use super::simd::{LANES, Lanes};

thread_local! {
    static SPARE: RefCell<Vec<Vec<Lanes>>> = const { RefCell::new(Vec::new()) };
}

/// An array of a thread's own; it goes back when dropped.
pub struct Buffer {
    lanes: Vec<Lanes>,
    len: usize,
}

/// An array of `len` vectors of any content.
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

/// Calls `f` with an array of `len` vectors of any content.
pub fn lanes<R>(len: usize, f: impl FnOnce(&mut [Lanes]) -> R) -> R {
    f(&mut take(len))
}

/// Calls `f` with an array of `len` complex vectors of any content.
pub fn pairs<R>(len: usize, f: impl FnOnce(&mut [Pair]) -> R) -> R {
    f(take(2 * len).as_chunks_mut().0)
}

/// Calls `f` with an array of `len` floats of any content.
pub fn with<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    f(&mut bytemuck::cast_slice_mut(&mut take(len.div_ceil(LANES)))[..len])
}

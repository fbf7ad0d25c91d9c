//! Temporary arrays of CPU kernels: kept per thread and used again, so that a step allocates nothing once warm.

use std::cell::RefCell;

use super::kernels::simd::Lanes;

thread_local! {
    static SPARE: RefCell<Vec<Vec<Lanes>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with an array of `len` vectors of any content.
pub fn lanes<R>(len: usize, f: impl FnOnce(&mut [Lanes]) -> R) -> R {
    // Popped, not borrowed: a thread that waits inside `f` may run another task that comes here too.
    let mut buffer = SPARE.with_borrow_mut(|spare| {
        let fits = (0..spare.len()).filter(|&i| spare[i].len() >= len).min_by_key(|&i| spare[i].len());
        // None fits: the largest grows, so that small ones stay small.
        let best = fits.or_else(|| (0..spare.len()).max_by_key(|&i| spare[i].len()));
        best.map(|i| spare.swap_remove(i)).unwrap_or_default()
    });
    if buffer.len() < len {
        buffer.resize(len, Lanes::ZERO);
    }
    let result = f(&mut buffer[..len]);
    SPARE.with_borrow_mut(|spare| spare.push(buffer));
    result
}

/// Calls `f` with an array of `len` floats of any content.
pub fn with<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    lanes(len.div_ceil(Lanes::ZERO.0.len()), |buffer| f(&mut bytemuck::cast_slice_mut(buffer)[..len]))
}

//! Streaming max-pooling. Rows of sixteen channels arrive in order, and only each window's maximum is kept.

use super::simd::{self, Kernel, LANES, Lanes, Vector, run};
use crate::ops::max_pool2d::MaxPool2d;

/// The pool of up to sixteen channels of one image. `finish` turns the maxima into the stored values.
pub struct Pool<'a, F> {
    k_h: usize,
    k_w: usize,
    w: usize,
    out: (usize, usize),
    /// The running maximum of every window. Deinterleaved once at the end, so that each plane is written sequentially.
    best: &'a mut [Lanes],
    pooled: &'a mut [f32],
    /// The running argmax and its destination. `None` if the argmax is not wanted.
    argmaxes: Option<(&'a mut [Lanes], &'a mut [f32])>,
    finish: F,
}

impl<'a, F: Fn(&mut [[f32; LANES]])> Pool<'a, F> {
    /// A pool that writes `[channels, H_p, W_p]` to `pooled` and, if it is wanted, `argmax`, at most sixteen channels.
    /// `kept` is [`scratch_len`] vectors with unspecified contents.
    pub fn new(
        sizes: &MaxPool2d,
        kept: &'a mut [Lanes],
        pooled: &'a mut [f32],
        argmax: Option<&'a mut [f32]>,
        finish: F,
    ) -> Self {
        let (best, argmaxes) = kept.split_at_mut(sizes.out().0 * sizes.out().1);
        let argmaxes = argmax.map(|argmax| (argmaxes, argmax));
        let MaxPool2d { k_h, k_w, w, .. } = *sizes;
        Pool { k_h, k_w, w, out: sizes.out(), best, pooled, argmaxes, finish }
    }

    /// Takes row `h` of the map; `row` has all columns, or only those that belong to a window. Rows come in order, each
    /// once; those that belong to no window may be left out.
    pub fn row(&mut self, h: usize, row: &[[f32; LANES]]) {
        let (i, r) = (h / self.k_h, h % self.k_h);
        if i >= self.out.0 {
            return;
        }
        let (first, w_p) = ((h * self.w) as f32, self.out.1);
        let best = &mut self.best[i * w_p..][..w_p];
        let mut argmaxes = self.argmaxes.as_mut().map(|(argmaxes, _)| &mut argmaxes[i * w_p..][..w_p]);
        if r == 0 {
            // Start from the first element, not from -inf. If nothing exceeds it, it is the maximum, even if it is NaN.
            for (j, best) in best.iter_mut().enumerate() {
                best.0 = row[j * self.k_w];
            }
            for (j, place) in argmaxes.iter_mut().flat_map(|argmaxes| argmaxes.iter_mut()).enumerate() {
                place.0 = [first + (j * self.k_w) as f32; LANES];
            }
        }
        run(RowMax { row, k_w: self.k_w, first, best, argmaxes });
        if h + 1 == self.out.0 * self.k_h {
            self.store();
        }
    }

    /// Writes the pooled map.
    fn store(&mut self) {
        let plane = self.out.0 * self.out.1;
        let channels = self.pooled.len() / plane;
        (self.finish)(bytemuck::cast_slice_mut(self.best));
        simd::deinterleave(self.best, plane, channels, self.pooled);
        if let Some((argmaxes, argmax)) = &mut self.argmaxes {
            simd::deinterleave(argmaxes, plane, channels, argmax);
        }
    }
}

/// Scratch vectors that a pool of these sizes needs, with argmax or without.
pub fn scratch_len(sizes: &MaxPool2d, argmax: bool) -> usize {
    sizes.out().0 * sizes.out().1 * if argmax { 2 } else { 1 }
}

/// Updates the running maxima of a row of windows. `row` is one row of a map, lanes are channels, and window `j` has the
/// columns `j k_w .. (j + 1) k_w`. An element that exceeds `best[j]` replaces it; its index (`first` + column) replaces the
/// argmax if there is one.
struct RowMax<'a> {
    row: &'a [[f32; LANES]],
    k_w: usize,
    first: f32,
    best: &'a mut [Lanes],
    /// As many as `best`.
    argmaxes: Option<&'a mut [Lanes]>,
}

impl Kernel for RowMax<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        match LANES / V::LANES {
            1 => self.windows::<V, 1>(),
            2 => self.windows::<V, 2>(),
            4 => self.windows::<V, 4>(),
            _ => self.windows::<V, LANES>(),
        }
    }
}

impl RowMax<'_> {
    /// All `P` vectors of the lanes at once: each element waits for the one before it.
    #[inline(always)]
    fn windows<V: Vector, const P: usize>(self) {
        let Self { row, k_w, first, best, mut argmaxes } = self;
        let load = |lanes: &[f32; LANES]| std::array::from_fn::<V, P, _>(|p| V::load(&lanes[p * V::LANES..]));
        let store = |x: [V; P], lanes: &mut Lanes| {
            x.into_iter().enumerate().for_each(|(p, x)| x.store(&mut lanes.0[p * V::LANES..]));
        };
        for (j, (window, best)) in row[..best.len() * k_w].chunks_exact(k_w).zip(best).enumerate() {
            let mut x = load(&best.0);
            if let Some(argmaxes) = &mut argmaxes {
                let (mut at, mut here) = (load(&argmaxes[j].0), first + (j * k_w) as f32);
                for value in window {
                    let value = load(value);
                    for p in 0..P {
                        at[p] = value[p].if_greater(x[p], V::splat(here), at[p]);
                        x[p] = value[p].max(x[p]);
                    }
                    here += 1.0;
                }
                store(at, &mut argmaxes[j]);
            } else {
                for value in window {
                    let value = load(value);
                    for p in 0..P {
                        x[p] = value[p].max(x[p]);
                    }
                }
            }
            store(x, best);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tape::{Op, Step};

    /// Rows and columns that belong to a window.
    fn used(sizes: &MaxPool2d) -> (usize, usize) {
        let (h_p, w_p) = sizes.out();
        (h_p * sizes.k_h, w_p * sizes.k_w)
    }

    /// Row by row gives what the textbook pool gives of the whole map, leftovers and ties included.
    #[test]
    fn rows_give_the_textbook_pool() {
        for (h, w, k_h, k_w) in
            [(6, 8, 2, 2), (4, 43, 1, 20), (43, 4, 20, 1), (5, 13, 1, 5), (8, 7, 3, 2), (3, 4, 3, 4)]
        {
            for channels in [1, 5, 16] {
                let sizes = MaxPool2d { n: 1, c: channels, h, w, k_h, k_w };
                let at = |c: usize, i: usize, j: usize| ((i * w + j) * (2 * c + 3) % 17) as f32 - 8.0;
                let map: Vec<f32> = (0..channels * h * w).map(|x| at(x / (h * w), x / w % h, x % w)).collect();
                let windows = sizes.output().len();
                let (mut y, mut argmaxes) = (vec![f32::NAN; windows], vec![f32::NAN; windows]);
                sizes.cpu(&[&map], &mut [&mut y, &mut argmaxes], &Step::new(1, 0, 0.0));
                let finished: Vec<f32> = (0..windows).map(|x| 2.0 * y[x] + (x / (windows / channels)) as f32).collect();

                let (rows, columns) = used(&sizes);
                for (rows, columns, asked) in [(h, w, true), (rows, columns, true), (rows, columns, false)] {
                    let (mut pooled, mut argmax) = (vec![f32::NAN; windows], vec![f32::NAN; windows]);
                    let finish = |row: &mut [[f32; LANES]]| {
                        for (i, x) in row.as_flattened_mut().iter_mut().enumerate() {
                            *x = 2.0 * *x + (i % LANES) as f32;
                        }
                    };
                    let mut memory = vec![Lanes([f32::NAN; LANES]); scratch_len(&sizes, asked)];
                    let wanted = asked.then_some(&mut argmax[..]);
                    let mut pool = Pool::new(&sizes, &mut memory, &mut pooled, wanted, finish);
                    for i in 0..rows {
                        let row: Vec<[f32; LANES]> = (0..columns)
                            .map(|j| std::array::from_fn(|c| if c < channels { at(c, i, j) } else { f32::NAN }))
                            .collect();
                        pool.row(i, &row);
                    }
                    assert_eq!(pooled, finished, "{sizes:?}");
                    if asked {
                        assert_eq!(argmax, argmaxes, "{sizes:?}");
                    } else {
                        assert!(argmax.iter().all(|place| place.is_nan()), "{sizes:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn winners_are_the_first_of_equals() {
        let row: Vec<[f32; LANES]> =
            [1.0, 4.0, 4.0, 2.0, 9.0].map(|x| std::array::from_fn(|c| x * (c as f32 - 1.0))).into();
        let (mut best, mut place) = (vec![Lanes([2.0; LANES]); 2], vec![Lanes([7.0; LANES]); 2]);
        run(RowMax { row: &row, k_w: 2, first: 100.0, best: &mut best, argmaxes: Some(&mut place) });
        // Lane 1 is all zero, lane 0 negative, lane 2 the row itself: 4 at place 101, 4 at place 102.
        assert_eq!([best[0].0[0], best[0].0[1], best[0].0[2]], [2.0, 2.0, 4.0]);
        assert_eq!([place[0].0[0], place[0].0[1], place[0].0[2]], [7.0, 7.0, 101.0]);
        assert_eq!((best[1].0[2], place[1].0[2]), (4.0, 102.0));
        let before = place.clone();
        run(RowMax { row: &row, k_w: 2, first: 200.0, best: &mut best, argmaxes: Some(&mut place) });
        assert_eq!(place, before, "equals do not take over");

        let mut largest = vec![Lanes([2.0; LANES]); 2];
        run(RowMax { row: &row, k_w: 2, first: 0.0, best: &mut largest, argmaxes: None });
        assert_eq!(largest, best);
    }
}

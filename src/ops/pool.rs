//! Max-pooling of a map that is never whole: rows come in order, sixteen channels wide, and only the winners stay.

use super::kernels::{KeepWinners, LANES, Lanes, run, simd};
use super::max_pool2d::MaxPool2d;

/// The pool of up to sixteen channels of one image. `finish` makes of the winners the values
/// that are stored.
pub struct Pool<'a, F> {
    k_h: usize,
    k_w: usize,
    w: usize,
    out: (usize, usize),
    /// Of every window: rows are parted into planes all at once, which are then written from end to end.
    best: &'a mut [Lanes],
    pooled: &'a mut [f32],
    /// Where they are, and where that is written, unless nobody asks.
    places: Option<(&'a mut [Lanes], &'a mut [f32])>,
    finish: F,
}

impl<'a, F: Fn(&mut [[f32; LANES]])> Pool<'a, F> {
    /// A pool that writes `[channels, H_p, W_p]` to `pooled` and, if it is wanted, `argmax`, at most sixteen channels.
    /// `kept` is [`kept`] vectors of any content.
    pub fn new(
        sizes: &MaxPool2d,
        kept: &'a mut [Lanes],
        pooled: &'a mut [f32],
        argmax: Option<&'a mut [f32]>,
        finish: F,
    ) -> Self {
        let (best, places) = kept.split_at_mut(sizes.out().0 * sizes.out().1);
        let places = argmax.map(|argmax| (places, argmax));
        let MaxPool2d { k_h, k_w, w, .. } = *sizes;
        Pool { k_h, k_w, w, out: sizes.out(), best, pooled, places, finish }
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
        let mut places = self.places.as_mut().map(|(places, _)| &mut places[i * w_p..][..w_p]);
        if r == 0 {
            // Not -inf: where nothing exceeds the first element it is the winner, NaN or not.
            for (j, best) in best.iter_mut().enumerate() {
                best.0 = row[j * self.k_w];
            }
            for (j, place) in places.iter_mut().flat_map(|places| places.iter_mut()).enumerate() {
                place.0 = [first + (j * self.k_w) as f32; LANES];
            }
        }
        run(KeepWinners { row, k_w: self.k_w, first, best, places });
        if h + 1 == self.out.0 * self.k_h {
            self.store();
        }
    }

    /// Writes the pooled map.
    fn store(&mut self) {
        let plane = self.out.0 * self.out.1;
        let channels = self.pooled.len() / plane;
        (self.finish)(bytemuck::cast_slice_mut(self.best));
        simd::part(self.best, plane, channels, self.pooled);
        if let Some((places, argmax)) = &mut self.places {
            simd::part(places, plane, channels, argmax);
        }
    }
}

/// Vectors that a pool of these sizes keeps, with places or without.
pub fn kept(sizes: &MaxPool2d, places: bool) -> usize {
    sizes.out().0 * sizes.out().1 * if places { 2 } else { 1 }
}

/// What a producer of rows needs of them: rows and columns that belong to a window.
pub fn used(sizes: &MaxPool2d) -> (usize, usize) {
    let (h_p, w_p) = sizes.out();
    (h_p * sizes.k_h, w_p * sizes.k_w)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tape::{Op, Step};

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
                let (mut y, mut places) = (vec![f32::NAN; windows], vec![f32::NAN; windows]);
                sizes.cpu(&[&map], &mut [&mut y, &mut places], &Step::new(1, 0, 0.0));
                let finished: Vec<f32> = (0..windows).map(|x| 2.0 * y[x] + (x / (windows / channels)) as f32).collect();

                let (rows, columns) = used(&sizes);
                for (rows, columns, asked) in [(h, w, true), (rows, columns, true), (rows, columns, false)] {
                    let (mut pooled, mut argmax) = (vec![f32::NAN; windows], vec![f32::NAN; windows]);
                    let finish = |row: &mut [[f32; LANES]]| {
                        for (i, x) in row.as_flattened_mut().iter_mut().enumerate() {
                            *x = 2.0 * *x + (i % LANES) as f32;
                        }
                    };
                    let mut memory = vec![Lanes([f32::NAN; LANES]); kept(&sizes, asked)];
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
                        assert_eq!(argmax, places, "{sizes:?}");
                    } else {
                        assert!(argmax.iter().all(|place| place.is_nan()), "{sizes:?}");
                    }
                }
            }
        }
    }
}

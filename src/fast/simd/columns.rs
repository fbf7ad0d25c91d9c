//! A matrix cut between its columns, so that tasks can write different columns of the same rows.

use std::marker::PhantomData;

use rayon::prelude::*;

use super::prefetch::prefetch as prefetch_line;

/// Neighbouring columns of a row-major matrix, all rows of them, to be written by one task.
pub struct Columns<'a> {
    data: *mut f32,
    rows: usize,
    stride: usize,
    from: usize,
    width: usize,
    owner: PhantomData<&'a mut [f32]>,
}

// SAFETY: a `Columns` is the only way to its elements, as a `&mut [f32]` would be, and that may be sent.
unsafe impl Send for Columns<'_> {}

/// Cuts the matrix `data`, whose rows have `cols` elements, into blocks of `width` columns, from left to right.
pub fn columns(data: &mut [f32], cols: usize, width: usize) -> impl IndexedParallelIterator<Item = Columns<'_>> {
    /// Shared by the tasks, each of which makes its own block of it.
    struct Whole(*mut f32);
    // SAFETY: the pointer is only copied; what may be done with the copies is the business of `Columns`.
    unsafe impl Send for Whole {}
    // SAFETY: as above.
    unsafe impl Sync for Whole {}

    assert!(width > 0 && (data.is_empty() || data.len().is_multiple_of(cols)), "columns: whole rows");
    let rows = data.len().checked_div(cols).unwrap_or(0);
    let whole = Whole(data.as_mut_ptr());
    // The blocks do not overlap, every one is made once, and `data` stays borrowed as long as they live.
    (0..cols.div_ceil(width)).into_par_iter().map(move |block| {
        let whole = &whole;
        let from = block * width;
        Columns { data: whole.0, rows, stride: cols, from, width: width.min(cols - from), owner: PhantomData }
    })
}

impl Columns<'_> {
    /// Number of rows.
    #[inline(always)]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The matrix's column that is the first one here.
    #[inline(always)]
    pub fn from(&self) -> usize {
        self.from
    }

    /// Number of columns.
    #[inline(always)]
    pub fn width(&self) -> usize {
        self.width
    }

    /// One row of these columns, to be read.
    #[inline(always)]
    pub fn read(&self, row: usize) -> &[f32] {
        assert!(row < self.rows, "columns: row {row} of {}", self.rows);
        // SAFETY: as in `row`. While `self` is shared, nothing writes.
        unsafe { std::slice::from_raw_parts(self.data.add(row * self.stride + self.from), self.width) }
    }

    /// One row of these columns.
    #[inline(always)]
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "columns: row {row} of {}", self.rows);
        // SAFETY: `from + width <= stride` and `row < rows`, so the elements lie inside the matrix, which is borrowed
        // for as long as `self`. No other `Columns` has them, and `&mut self` prevents a second borrow.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(row * self.stride + self.from), self.width) }
    }

    /// Returns a handle that prefetches this row.
    #[inline(always)]
    pub fn ahead(&self, row: usize) -> RowPrefetch {
        RowPrefetch(self.data.wrapping_add(row * self.stride + self.from))
    }
}

/// Prefetches a row of [`Columns`] while other rows are written.
#[derive(Clone, Copy)]
pub struct RowPrefetch(*const f32);

impl RowPrefetch {
    /// Prefetches the cache line of the row's element `col`, if there is one.
    #[inline(always)]
    pub fn prefetch(self, col: usize) {
        prefetch_line(self.0.wrapping_add(col));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_written_apart() {
        let mut matrix = vec![0.0; 3 * 7];
        columns(&mut matrix, 7, 3).for_each(|mut block| {
            assert_eq!((block.rows(), block.width()), (3, if block.from() == 6 { 1 } else { 3 }));
            for row in 0..3 {
                let from = block.from();
                block.row(row).iter_mut().enumerate().for_each(|(i, x)| *x = (10 * row + from + i) as f32);
                assert_eq!(block.read(row)[0], (10 * row + from) as f32);
            }
        });
        let expected: Vec<f32> = (0..21).map(|i| (10 * (i / 7) + i % 7) as f32).collect();
        assert_eq!(matrix, expected);
        assert_eq!(columns(&mut [], 7, 3).map(|block| block.rows()).collect::<Vec<_>>(), [0; 3]);
    }

    #[test]
    #[should_panic(expected = "columns: row 2 of 2")]
    fn a_row_beyond_the_columns_is_refused() {
        let mut matrix = [0.0; 4];
        columns(&mut matrix, 2, 2).for_each(|mut block| block.row(2).fill(1.0));
    }

    #[test]
    #[should_panic(expected = "columns: row 2 of 2")]
    fn nor_is_it_read() {
        columns(&mut [0.0; 4], 2, 2).for_each(|block| assert_eq!(block.read(2), [0.0; 2]));
    }
}

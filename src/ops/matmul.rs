//! The matrix product of the textbook's dense layers and convolutions: a checked wrapper around `matrixmultiply`.
//!
//! `matrixmultiply` takes pointers and strides. [`gemm`] takes slices, and checks every size before it calls it.
#![allow(unsafe_code)]

/// A matrix inside a slice: element (i, j) is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy)]
pub struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Mat<'a> {
    /// Row-major `[rows, cols]`.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A matrix whose rows start `row_stride` elements apart.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        Mat { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose, without a copy.
    pub fn t(self) -> Self {
        Mat { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
}

/// True if every element of a `rows x cols` matrix with these strides lies inside `len` elements.
fn fits(len: usize, rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> bool {
    rows == 0 || cols == 0 || (rows - 1) * row_stride + (cols - 1) * col_stride < len
}

/// `c = a b`, where row i of `c` starts at `c[i * c_stride]`; the old `c` is not read.
///
/// The sum over the inner index runs in an order that depends only on the sizes.
pub fn gemm(a: Mat, b: Mat, c: &mut [f32], c_stride: usize) {
    assert_eq!(a.cols, b.rows, "gemm: inner sizes");
    assert!(fits(a.data.len(), a.rows, a.cols, a.row_stride, a.col_stride), "gemm: a outside its slice");
    assert!(fits(b.data.len(), b.rows, b.cols, b.row_stride, b.col_stride), "gemm: b outside its slice");
    assert!(fits(c.len(), a.rows, b.cols, c_stride, 1), "gemm: c outside its slice");
    assert!(a.rows <= 1 || b.cols <= c_stride, "gemm: rows of c overlap");
    // SAFETY: the assertions above keep every element that sgemm reads or writes inside the three slices, and the
    // rows of `c` apart; `c` is borrowed mutably, so nothing else sees it.
    unsafe {
        matrixmultiply::sgemm(
            a.rows,
            a.cols,
            b.cols,
            1.0,
            a.data.as_ptr(),
            a.row_stride as isize,
            a.col_stride as isize,
            b.data.as_ptr(),
            b.row_stride as isize,
            b.col_stride as isize,
            0.0,
            c.as_mut_ptr(),
            c_stride as isize,
            1,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_by_hand() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]; // 2 x 3
        let b = [1.0, 0.0, 0.0, 1.0, 1.0, 1.0]; // 3 x 2
        let mut c = [f32::NAN; 4];
        gemm(Mat::new(&a, 2, 3), Mat::new(&b, 3, 2), &mut c, 2);
        assert_eq!(c, [4.0, 5.0, 10.0, 11.0]);
        gemm(Mat::new(&b, 3, 2).t(), Mat::new(&a, 2, 3).t(), &mut c, 2); // (a b)^T
        assert_eq!(c, [4.0, 10.0, 5.0, 11.0]);
    }

    #[test]
    #[should_panic(expected = "c outside its slice")]
    fn a_short_output_is_refused() {
        gemm(Mat::new(&[1.0; 4], 2, 2), Mat::new(&[1.0; 4], 2, 2), &mut [0.0; 3], 2);
    }
}

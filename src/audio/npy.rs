//! A matrix as a NumPy file.

use std::path::Path;

use npyz::WriterBuilder;

use crate::error::{Error, Result};
use crate::files;

/// Writes `values` as a C-ordered float32 array `[rows, cols]`, readable by `numpy.load`.
///
/// The file is written beside `path` and renamed, so that a failure leaves nothing half-written.
///
/// # Errors
/// [`Error::Shape`] if `values` is not `[rows, cols]`; [`Error::Config`] if `path` is no file; [`Error::Io`] if the system
/// refuses.
pub fn write_npy(path: &Path, rows: usize, cols: usize, values: &[f32]) -> Result<()> {
    if rows.checked_mul(cols) != Some(values.len()) {
        return Err(Error::shape("npy", format!("expected [{rows}, {cols}], got {} values", values.len())));
    }
    files::replace_with(path, |file| {
        let shape = [rows as u64, cols as u64];
        let mut npy = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(file).begin_nd()?;
        npy.extend(values.iter())?;
        npy.finish()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_a_wrong_shape_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        assert!(write_npy(&path, 2, 2, &[1.0]).is_err());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        let values = [1.0, -2.5, 3.0, f32::MIN_POSITIVE, 0.0, 1e9];
        for _ in 0..2 {
            write_npy(&path, 2, 3, &values).unwrap();
        }
        let npy = npyz::NpyFile::new(std::fs::File::open(&path).unwrap()).unwrap();
        assert_eq!((npy.shape(), npy.order()), (&[2, 3][..], npyz::Order::C));
        assert_eq!(npy.into_vec::<f32>().unwrap(), values);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        assert!(write_npy(&folder.path().join("none/a.npy"), 2, 3, &values).is_err());
    }
}

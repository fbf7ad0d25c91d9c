//! The peak arithmetic and bandwidth of a device.

use serde::Serialize;

/// What the threads of this process, or a GPU, reach together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DevicePeak {
    /// Multiply-adds in registers and nothing else, on a GPU a large matrix product: 10^9 operations (two a multiply-add) a
    /// second.
    pub peak_gflops: f64,
    /// Stream triad `a = b + s c` on arrays far larger than a cache, 10^9 bytes a second, three arrays counted.
    pub triad_gb_per_s: f64,
}

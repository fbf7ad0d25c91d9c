//! What several test files share.

use std::io::Write;
use std::sync::{Arc, OnceLock};

use genregrad::device::gpu::Gpu;
use genregrad::device::{Choice, Device};

/// Any adapter, software included, opened once per process; `None`, aloud, where there is none.
///
/// With `GENREGRAD_REQUIRE_GPU=1` a machine without an adapter fails the test instead.
#[allow(dead_code)]
pub fn gpu() -> Option<Arc<Gpu>> {
    static GPU: OnceLock<Option<Arc<Gpu>>> = OnceLock::new();
    announce(GPU.get_or_init(open).clone())
}

/// As [`gpu`], but opened anew: for tests that break it.
#[allow(dead_code)]
pub fn fresh_gpu() -> Option<Arc<Gpu>> {
    announce(open())
}

fn open() -> Option<Arc<Gpu>> {
    match Device::choose("gpu") {
        Ok(Choice { device: Device::Gpu(gpu), .. }) => Some(gpu),
        Ok(_) => panic!("`gpu` chose the CPU"),
        Err(error) if std::env::var("GENREGRAD_REQUIRE_GPU").is_ok_and(|value| value == "1") => {
            panic!("GENREGRAD_REQUIRE_GPU=1, but {error}")
        }
        Err(_) => None,
    }
}

fn announce(gpu: Option<Arc<Gpu>>) -> Option<Arc<Gpu>> {
    if gpu.is_none() {
        // Straight to stderr: `eprintln!` of a test that passes is swallowed.
        let _ = writeln!(std::io::stderr(), "skipped: no adapter");
    }
    gpu
}

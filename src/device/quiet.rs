//! Keeps one complaint of a system library off standard error while the adapters are listed.
//!
//! Mesa's device-select layer asks Wayland which GPU drives the display. Without `XDG_RUNTIME_DIR` (containers, ssh,
//! cron) libwayland prints an error for every question, although nothing is wrong: this program opens no window.

#[cfg(target_os = "linux")]
use std::sync::{Mutex, PoisonError};

/// How the complaint begins. The rest of the line differs between versions of libwayland.
#[cfg(target_os = "linux")]
const COMPLAINT: &str = "error: XDG_RUNTIME_DIR ";

/// Runs `ask` without libwayland's complaint. Everything else that is written to standard error meanwhile, by any
/// thread, is printed afterwards.
#[cfg(target_os = "linux")]
pub(super) fn quietly<T>(ask: impl FnOnce() -> T) -> T {
    let folder = std::env::var_os("XDG_RUNTIME_DIR");
    if folder.is_some_and(|folder| std::path::Path::new(&folder).is_absolute()) {
        return ask(); // libwayland has what it needs
    }
    // Two redirections at once would restore each other's file.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // If the redirection fails, a line of noise remains.
    let _redirected = linux::Redirected::start().ok();
    ask()
}

/// Runs `ask`: elsewhere there is no complaint.
#[cfg(not(target_os = "linux"))]
pub(super) fn quietly<T>(ask: impl FnOnce() -> T) -> T {
    ask()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::io::{Read, Result, Seek, Write, stderr};
    use std::os::fd::{AsFd, OwnedFd};

    use rustix::fs::{MemfdFlags, memfd_create};
    use rustix::stdio::dup2_stderr;

    /// Standard error goes to a file in memory until this is dropped.
    pub struct Redirected {
        terminal: OwnedFd,
        written: File,
    }

    impl Redirected {
        pub fn start() -> Result<Self> {
            let terminal = stderr().as_fd().try_clone_to_owned()?;
            let written = memfd_create("stderr", MemfdFlags::CLOEXEC)?;
            dup2_stderr(&written)?;
            Ok(Redirected { terminal, written: written.into() })
        }
    }

    impl Drop for Redirected {
        fn drop(&mut self) {
            if dup2_stderr(&self.terminal).is_err() {
                return;
            }
            let mut bytes = Vec::new();
            if self.written.rewind().and_then(|()| self.written.read_to_end(&mut bytes)).is_ok() {
                // A reader that has gone is no reason to complain.
                let _ = stderr().write_all(&super::kept(&bytes));
            }
        }
    }
}

/// The lines of `written` except the complaint.
#[cfg(target_os = "linux")]
fn kept(written: &[u8]) -> Vec<u8> {
    let lines = written.split_inclusive(|&byte| byte == b'\n');
    lines.filter(|line| !line.starts_with(COMPLAINT.as_bytes())).flatten().copied().collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_the_complaint_is_left_out() {
        let complaint = "error: XDG_RUNTIME_DIR is invalid or not set in the environment.\n";
        let older = "error: XDG_RUNTIME_DIR not set in the environment.\n";
        let other = "MESA: error: ZINK: failed to choose pdev\nan unfinished line";
        assert_eq!(kept(format!("{complaint}{older}{other}").as_bytes()), other.as_bytes());
        assert_eq!(kept(b"what of XDG_RUNTIME_DIR?\n"), b"what of XDG_RUNTIME_DIR?\n");
        assert_eq!(kept(b""), b"");
    }
}

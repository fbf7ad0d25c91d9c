//! How much memory this process has taken and may still take, so that a program that cannot fit is refused before it is
//! built.

use crate::error::{Error, Result};

/// Refuses `needed` bytes for `what` if the system has fewer to give.
///
/// # Errors
/// [`Error::Config`] with both numbers.
pub fn check(what: &str, needed: u64) -> Result<()> {
    match available() {
        Some(available) if needed > available => Err(Error::Config(format!(
            "{what} needs {} of memory, but only {} are available; use smaller spectrograms or a smaller batch",
            size(needed),
            size(available)
        ))),
        _ => Ok(()),
    }
}

/// The most memory that this process has held so far, bytes; none where the system does not tell.
///
/// # Source
/// `VmHWM` of Linux's `/proc/self/status`.
pub fn peak() -> Option<u64> {
    field(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// `16.2 GiB`.
pub fn size(bytes: u64) -> String {
    match bytes as f64 / f64::from(1 << 20) {
        mib if mib < 1024.0 => format!("{mib:.1} MiB"),
        mib => format!("{:.1} GiB", mib / 1024.0),
    }
}

/// Bytes that this process may still allocate, or none where the system does not say: the least of what the machine has
/// free, what the control group allows and what `ulimit -v` leaves.
///
/// # Source
/// Linux: `/proc/meminfo`, `/sys/fs/cgroup`, `RLIMIT_AS` and `/proc/self/statm`.
fn available() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
    let machine = read("/proc/meminfo").and_then(|text| field(&text, "MemAvailable:"));
    let group = |most: &str, now: &str| Some(number(most)?.saturating_sub(number(now)?));
    let groups = [
        group("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        group("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ];
    [machine, limit()].into_iter().chain(groups).flatten().min()
}

/// The bytes after `name` in one of Linux's tables, whose `kB` are KiB.
fn field(table: &str, name: &str) -> Option<u64> {
    let kib = table.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix("kB")?;
    Some(kib.trim().parse::<u64>().ok()? * 1024)
}

/// What the limit on the process's address space leaves.
#[cfg(target_os = "linux")]
fn limit() -> Option<u64> {
    use rustix::process::{Resource, getrlimit};

    let most = getrlimit(Resource::As).current?;
    let pages: u64 = std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').next()?.parse().ok()?;
    Some(most.saturating_sub(pages * rustix::param::page_size() as u64))
}

/// Other systems do not say how much of the limit is used.
#[cfg(not(target_os = "linux"))]
fn limit() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_in_kib() {
        let text = "MemTotal:       24522060 kB\nMemFree:        21000000 kB\nMemAvailable:   23068672 kB\n";
        assert_eq!(field(text, "MemAvailable:"), Some(22 << 30));
        assert_eq!(field("MemTotal: 3 kB\n", "MemAvailable:"), None);
        assert_eq!(field("MemAvailable: many kB\n", "MemAvailable:"), None);
        let status = "VmPeak:\t 9 kB\nVmHWM:\t  125000 kB\nVmRSS:\t 7 kB\n";
        assert_eq!(field(status, "VmHWM:"), Some(128_000_000));
        assert_eq!(field("VmPeak:\t 9 kB\n", "VmHWM:"), None);
        assert_eq!(field("VmHWM:\t many kB\n", "VmHWM:"), None);
    }

    #[test]
    fn what_no_machine_has_is_refused_with_both_numbers() {
        assert!(check("a net", 1 << 20).is_ok());
        if available().is_some() {
            let message = check("a net", 1 << 62).unwrap_err().to_string();
            assert!(message.starts_with("a net needs 4294967296.0 GiB of memory, but only "), "{message}");
        }
        assert_eq!((size(1536 << 10), size(3 << 29)), ("1.5 MiB".to_string(), "1.5 GiB".to_string()));
    }
}

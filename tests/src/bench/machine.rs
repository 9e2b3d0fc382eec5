//! What the figures were measured on.

use std::fs::read_to_string;
use std::num::NonZeroUsize;
use std::path::Path;

use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};

/// Processor, cores, kernel and load, in one line.
pub fn describe() -> String {
    let read = |path: &str| read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(": ")).map_or("unknown processor", |(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let release = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    format!("{model}, {cores} cores, Linux {}, load {}", release.trim(), load.join(" "))
}

/// What kind of file system `directory` is on, as far as it matters.
pub fn describe_directory(directory: &Path) -> &'static str {
    let tmpfs = |kind: FsType| kind == TMPFS_MAGIC;
    match statfs(directory) {
        Ok(found) if tmpfs(found.filesystem_type()) => "a tmpfs",
        Ok(_) => "a disk's file system",
        Err(_) => "an unknown file system",
    }
}

//! Other processes, as `/proc` tells of them.
//!
//! # Invariants
//! - What is read is a moment's truth: who acts on it holds a pidfd and looks again.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) pid: u32,
    pub(crate) name: String,
    /// Whether it has ended and only waits to be reaped.
    pub(crate) ended: bool,
    pub(crate) group: u32,
    start_ticks: u64,
    pub(crate) resident_pages: u64,
}

/// The number of every process there is now.
pub(crate) fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The process group of a process. A system call, many times cheaper than reading its [`stat`].
pub(crate) fn group_of(pid: u32) -> Option<u32> {
    let group = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid.cast_signed()))).ok()?;
    Some(group.as_raw().cast_unsigned())
}

/// The process with this number, if there is one.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(pid: u32, bytes: &[u8]) -> Option<Stat> {
    // The name is whatever its owner calls it, brackets and spaces included; the last bracket ends it.
    let begin = bytes.iter().position(|byte| *byte == b'(')? + 1;
    let end = bytes.iter().rposition(|byte| *byte == b')')?;
    let name = String::from_utf8_lossy(bytes.get(begin..end)?);
    let rest: Vec<&str> =
        core::str::from_utf8(bytes.get(end + 1..)?).ok()?.split_ascii_whitespace().collect();
    // Numbered from the third field of proc_pid_stat(5).
    Some(Stat {
        pid,
        name: name.chars().map(|c| if c.is_control() { '?' } else { c }).collect(),
        ended: matches!(*rest.first()?, "Z" | "X"),
        group: rest.get(2)?.parse().ok()?,
        start_ticks: rest.get(19)?.parse().ok()?,
        resident_pages: rest.get(21)?.parse().unwrap_or(0),
    })
}

impl Stat {
    /// A descriptor of this very process; `None` if it is gone and the number may be another's.
    pub(crate) fn pidfd(&self) -> Option<OwnedFd> {
        let pidfd = pidfd_open(Pid::from_raw(self.pid.cast_signed())?, PidfdFlags::empty()).ok()?;
        let now = stat(self.pid)?;
        (now.start_ticks == self.start_ticks && !now.ended).then_some(pidfd)
    }
}

/// Whether a process could write into the pipe of this inode, and would still after an exec: a descriptor that is closed
/// on exec is one that the runner itself is just handing on to another child.
pub(crate) fn holds(pid: u32, inode: u64) -> bool {
    let wanted = format!("pipe:[{inode}]");
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries
        .filter(|entry| fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str()))
        .any(|entry| is_open_for_writing(pid, &entry.file_name().to_string_lossy()))
}

fn is_open_for_writing(pid: u32, descriptor: &str) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}")).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let Some(flags) = flags.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()) else {
        return false;
    };
    let flags = OFlags::from_bits_retain(flags);
    !flags.contains(OFlags::CLOEXEC) && flags.intersects(OFlags::WRONLY | OFlags::RDWR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_be_anything() {
        let line = b"7 (a) Z 1 (\n) S 1 42 3 0 -1 4 5 6 7 8 9 10 11 12 13 14 15 16 1234 1000 77 88\n";
        let stat = parse(7, line).unwrap();
        assert_eq!((stat.name.as_str(), stat.ended, stat.group), ("a) Z 1 (?", false, 42));
        assert_eq!((stat.start_ticks, stat.resident_pages), (1234, 77));
        for short in [&b""[..], b"7 (", b"7 )(", b"7 (a) S 1", b"7 (a) S 1 x 3"] {
            assert_eq!(parse(7, short), None);
        }
    }

    #[test]
    fn this_process_is_there_and_has_a_descriptor() {
        let own = stat(std::process::id()).unwrap();
        assert!(own.resident_pages > 0 && own.pidfd().is_some());
        assert!(pids().any(|pid| pid == own.pid));
        assert_eq!(group_of(own.pid), Some(own.group));
        assert!(Stat { start_ticks: own.start_ticks + 1, ..own }.pidfd().is_none());
    }
}

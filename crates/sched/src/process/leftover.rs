//! Processes that a job leaves behind: found, given a moment to end by themselves, named and killed.
//!
//! They are the members of the job's process group, and whoever has left the group and still holds the job's standard
//! output or error. The leader is dead and not yet reaped while this looks, so that the group's number is no other's.
//!
//! # Invariants
//! - Only a process that was looked at again through its own pidfd is killed.
//! - It ends: so many rounds, each with its limit.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, pidfd_send_signal};

use super::proc::{Stat, group_of, holds, pids, stat};
use super::timespec;

/// A process that is about to end when its leader has ended is not left behind. So long because one that was killed a
/// moment ago still has to be given a CPU to die on.
const TO_LEAVE: Duration = Duration::from_secs(1);

/// SIGKILL is obeyed at once, but for a process that waits for a device.
const TO_DIE: Duration = Duration::from_secs(5);

/// A leftover may have made another before it died.
const ROUNDS: u32 = 16;

/// Kills what a job left behind, and names each as `pid name`. `pipes` are the inodes of those of its outputs that are
/// still open. Takes a walk over `/proc`, and longer only if something was left.
pub(crate) fn end_all(group: u32, pipes: &[u64]) -> Vec<String> {
    let mut names = Vec::new();
    for round in 0..ROUNDS {
        let mut left: Vec<_> =
            find(group, pipes).filter_map(|stat| stat.pidfd().map(|fd| (stat, fd))).collect();
        if round == 0 {
            wait_for_ends(&mut left, TO_LEAVE);
        }
        if left.is_empty() {
            break;
        }
        let mut killed = false;
        for (stat, pidfd) in &left {
            let name = format!("{} {}", stat.pid, stat.name);
            match pidfd_send_signal(pidfd, Signal::KILL) {
                Err(rustix::io::Errno::SRCH) => {}
                Err(error) => names.push(format!("{name} (not killed: {error})")),
                Ok(()) => {
                    killed = true;
                    names.push(name);
                }
            }
        }
        wait_for_ends(&mut left, TO_DIE);
        if !killed {
            break;
        }
    }
    names.sort();
    names.dedup();
    names
}

fn find(group: u32, pipes: &[u64]) -> impl Iterator<Item = Stat> {
    let own = std::process::id();
    pids()
        .filter(move |&pid| pid != own)
        .filter(move |&pid| group_of(pid) == Some(group) || pipes.iter().any(|inode| holds(pid, *inode)))
        .filter_map(stat)
        .filter(|stat| !stat.ended)
}

/// Waits until each has ended, no longer than `limit`, and keeps those that have not.
fn wait_for_ends<T: std::os::fd::AsFd>(left: &mut Vec<(Stat, T)>, limit: Duration) {
    let deadline = Instant::now() + limit;
    while !left.is_empty() {
        let remaining = deadline.saturating_duration_since(Instant::now());
        let mut descriptors: Vec<_> = left.iter().map(|(_, fd)| PollFd::new(fd, PollFlags::IN)).collect();
        let ready = poll(&mut descriptors, Some(&timespec(remaining)));
        let ended: Vec<bool> = descriptors.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ended = ended.into_iter();
        match ready {
            Ok(1..) => left.retain(|_| !ended.next().unwrap_or(false)),
            Err(rustix::io::Errno::INTR) => {}
            _ => return,
        }
    }
}

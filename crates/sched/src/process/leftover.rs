//! Processes that a job leaves behind: found, given a moment to end by themselves, named and killed.
//!
//! They are the members of the job's process group, and whoever has left the group and still holds the job's standard
//! output or error. The leader has been reaped by then, so that one system call says whether anybody is left, and a job
//! that left nothing, which is nearly every one, costs no walk over `/proc`.
//!
//! The kernel gives a number to nobody else while it is that of a group, and starts again from the lowest only after
//! the highest; the group of a number that is a process again is another's and is left alone.
//!
//! # Invariants
//! - Only a process that was looked at again through its own pidfd is killed by number.
//! - Nobody of the group is left alive, however fast its members make others and end.
//! - It ends: so many rounds, each with its limit.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group, pidfd_send_signal, test_kill_process_group};

use super::proc::{Stat, group_of, holds, pids, stat};
use super::timespec;

/// A process that is about to end when its leader has ended is not left behind. So long because one that was killed a
/// moment ago still has to be given a CPU to die on.
pub(crate) const TO_LEAVE: Duration = Duration::from_secs(1);

/// SIGKILL is obeyed at once, but for a process that waits for a device.
const TO_DIE: Duration = Duration::from_secs(5);

/// A leftover may have made another before it died.
const ROUNDS: u32 = 16;

/// The process group of a job whose leader has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    pub(crate) number: Pid,
    /// Whether the leader's number may be another's by now.
    pub(crate) is_reaped: bool,
}

impl Group {
    /// Whether there is anybody in it.
    fn is_left(self) -> bool {
        let number = self.number.as_raw_nonzero().get().cast_unsigned();
        test_kill_process_group(self.number) != Err(Errno::SRCH) && !(self.is_reaped && stat(number).is_some())
    }
}

/// Kills what a job left behind and has not ended by itself in the time `to_leave`, and names each as `pid name`.
/// `pipes` are the inodes of those of its outputs that are still open. One system call if nothing was left.
pub(crate) fn end_all(group: Group, pipes: &[u64], to_leave: Duration) -> Vec<String> {
    let deadline = Instant::now() + to_leave;
    let mut names = Vec::new();
    for _ in 0..ROUNDS {
        let number = group.is_left().then(|| group.number.as_raw_nonzero().get().cast_unsigned());
        if number.is_none() && pipes.is_empty() {
            break;
        }
        let mut left: Vec<_> =
            find(number, pipes).filter_map(|stat| stat.pidfd().map(|fd| (stat, fd))).collect();
        if left.is_empty() {
            break;
        }
        wait_for_ends(&mut left, deadline.saturating_duration_since(Instant::now()));
        for (stat, pidfd) in &left {
            let name = format!("{} {}", stat.pid, stat.name);
            match pidfd_send_signal(pidfd, Signal::KILL) {
                Err(Errno::SRCH) => {}
                Err(error) => names.push(format!("{name} (not killed: {error})")),
                Ok(()) => names.push(name),
            }
        }
        wait_for_ends(&mut left, TO_DIE);
        if !left.is_empty() {
            break;
        }
    }
    if group.is_left() {
        // Zombies that nobody reaps, or processes that end and make others faster than they can be listed: a signal
        // to the group reaches all of these at once. Without an answer there was nobody.
        let _ = kill_process_group(group.number, Signal::KILL);
    }
    names.sort();
    names.dedup();
    names
}

fn find(group: Option<u32>, pipes: &[u64]) -> impl Iterator<Item = Stat> {
    let own = std::process::id();
    let is_of = move |pid| group.is_some() && group_of(pid) == group;
    pids()
        .filter(move |&pid| pid != own)
        .filter(move |&pid| is_of(pid) || pipes.iter().any(|inode| holds(pid, *inode)))
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
            Err(Errno::INTR) => {}
            _ => return,
        }
    }
}

//! The one waiter: worker processes, their media, their output, the time and a cancellation, in one `poll`.
//!
//! # Invariants
//! - It sleeps until something happens; nothing is looked at by the clock.
//! - Each worker's events are bounded: its death, its words, its output.
//! - What goes wrong with one worker is that worker's result and nobody else's.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::Timespec;

use crate::worker::handle::Worker;

/// What of a worker became readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Its process has ended.
    Process,
    /// A medium has something to say.
    Medium(usize),
    /// It wrote on standard output.
    Stdout,
    /// It wrote on standard error.
    Stderr,
}

/// Why waiting is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// Every worker is where it was waited for, or will never be.
    Settled,
    /// The time.
    TimedOut,
    /// The cancellation.
    Cancelled,
}

/// Waits until every worker is settled, at most `timeout`, or until `cancel` is readable. Says why it is over and how
/// often the kernel woke it.
pub(crate) fn attend(
    workers: &mut [&mut Worker],
    timeout: Duration,
    cancel: Option<BorrowedFd<'_>>,
    is_settled: fn(&Worker) -> bool,
) -> io::Result<(Over, u64)> {
    // A time that no clock has is no limit.
    let deadline = Instant::now().checked_add(timeout);
    let mut wakeups = 0;
    workers.iter_mut().for_each(|worker| worker.look_at_all());
    loop {
        if workers.iter().all(|worker| is_settled(worker)) {
            return Ok((Over::Settled, wakeups));
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ok((Over::TimedOut, wakeups));
        }
        let (events, cancelled) = sleep(workers, left, cancel, is_settled)?;
        wakeups += 1;
        for (index, source) in events {
            workers[index].take(source);
        }
        if cancelled {
            return Ok((Over::Cancelled, wakeups));
        }
    }
}

/// One `poll`: what has become readable of which worker, and whether it is cancelled.
fn sleep(
    workers: &[&mut Worker],
    left: Option<Duration>,
    cancel: Option<BorrowedFd<'_>>,
    is_settled: fn(&Worker) -> bool,
) -> io::Result<(Vec<(usize, Source)>, bool)> {
    let (mut sources, mut fds) = (Vec::new(), Vec::new());
    for (index, worker) in workers.iter().enumerate() {
        for (source, fd) in worker.sources(is_settled(worker)) {
            sources.push((index, source));
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
    }
    fds.extend(cancel.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)));
    match poll(&mut fds, left.and_then(|left| Timespec::try_from(left).ok()).as_ref()) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok((Vec::new(), false)),
        Err(error) => return Err(error.into()),
    }
    let happened = |fd: &PollFd<'_>| !fd.revents().is_empty();
    let cancelled = cancel.is_some() && fds.last().is_some_and(happened);
    let events = sources.into_iter().zip(&fds).filter(|(_, fd)| happened(fd)).map(|(event, _)| event);
    Ok((events.collect(), cancelled))
}

//! The wish that a run ends early, in a form that every wait can look at.
//!
//! # Invariants
//! - A wish is never taken back: once requested, the descriptor stays readable.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// Asks a run to stop: running jobs are sent SIGTERM and, after their grace, SIGKILL; jobs not begun are not begun.
/// Clones are the same wish. Its descriptor becomes readable with the request, for a wait of your own.
///
/// ```
/// let stop = outlast_sched::Stop::new()?;
/// assert!(!stop.is_requested());
/// stop.clone().request();
/// assert!(stop.is_requested());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Stop(Arc<OwnedFd>);

impl Stop {
    /// A wish that is not made yet.
    ///
    /// # Errors
    /// If there is no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Makes the wish. May be called from any thread, any number of times; never blocks.
    pub fn request(&self) {
        // Any number but 0 will do. It fails only when the sum of all would overflow, and then the descriptor is readable.
        let _ = rustix::io::write(&self.0, &1_u64.to_le_bytes());
    }

    /// Whether the wish was made. One system call.
    pub fn is_requested(&self) -> bool {
        let mut descriptors = [PollFd::new(&self.0, PollFlags::IN)];
        matches!(poll(&mut descriptors, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

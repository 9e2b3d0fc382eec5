//! The lock of a region: one word that names its holder, so that whoever waits can tell whether it lives.
//!
//! `word` says what the bits mean, `core` has the protocol, `wait` the way of waiting, `guard` the owner's
//! handle. There is no kernel list of held locks: a peer that overwrites the word can delay others or make
//! them see the lock taken over, nothing else.
//!
//! # Invariants
//! - Every wait is timed, and every holder is judged before the first sleep and after each that timed out.
//! - Whoever gets the lock after a holder's death is told so until somebody says that all is in order again.

use ::core::fmt;

use crate::joiner::{JoinerInfo, JoinerSlot, Liveness};

pub(crate) mod core;
pub(crate) mod guard;
pub(crate) mod wait;
pub(crate) mod word;

#[cfg(test)]
mod model;

/// The lock as it was a moment ago.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockState {
    /// Who holds it; `None` if it is free.
    pub holder: Option<LockHolder>,
    /// A holder died, or the word was overwritten, and nobody has called
    /// [`LockGuard::mark_recovered`](crate::LockGuard::mark_recovered) since.
    pub needs_recovery: bool,
    /// Somebody sleeps until it is released.
    pub has_waiters: bool,
}

/// The holder of a lock, as the lock word names it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockHolder {
    /// Its slot; `None` if the word names a slot that cannot be.
    pub slot: Option<JoinerSlot>,
    /// The thread, in the holder's own pid namespace.
    pub tid: u32,
    /// Whether that thread is alive.
    pub liveness: Liveness,
    /// What the joiner table says of the process; `None` if its slot holds another joiner by now.
    pub joiner: Option<Box<JoinerInfo>>,
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slot, tid, liveness, joiner } = self;
        write!(f, "thread {tid}")?;
        if let Some(joiner) = joiner {
            write!(f, " of process {}", joiner.pid)?;
        }
        match slot {
            Some(slot) => write!(f, " in joiner slot {slot} ({liveness})"),
            None => write!(f, " in a joiner slot that cannot be ({liveness})"),
        }
    }
}

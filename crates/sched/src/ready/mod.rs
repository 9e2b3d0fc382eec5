//! How a runner learns that a worker is ready: three media behind one trait, and one waiter over them, the worker's
//! death, the time and a cancellation.
//!
//! - [`socket`], [`slot`] (with [`record`]) and [`file`] are the media; [`wait`] is the waiter; [`mishap`] is what else can happen.
//!
//! # Invariants
//! - A medium never blocks: it has a descriptor that becomes readable, and a look that takes what is there.
//! - What a medium says of a worker was checked to come from that worker, or is said to be somebody else's.

pub(crate) mod file;
pub(crate) mod mishap;
mod record;
pub(crate) mod slot;
pub(crate) mod socket;
pub(crate) mod wait;

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

use crate::marker::Identity;
use crate::worker::namespace::Namespaces;
use mishap::Mishap;

/// Who is expected to speak.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// The worker, as this process's `/proc` shows it.
    pub(crate) identity: Identity,
    /// The user that it runs as.
    pub(crate) uid: u32,
    /// Those of this process.
    pub(crate) namespaces: Namespaces,
    /// Seconds and nanoseconds of the file systems' clock before it was started.
    pub(crate) since: (i64, i64),
}

impl Expected {
    /// What is wrong if `pid`, a process of this pid namespace, spoke in place of the worker.
    pub(crate) fn foreign(&self, pid: u32) -> Mishap {
        match Namespaces::of(pid) {
            Ok(found) if found != self.namespaces => self.elsewhere(found),
            _ => Mishap::WrongPeer { peer: mishap::Peer::Process { pid } },
        }
    }

    /// The worker lives in other namespaces.
    pub(crate) fn elsewhere(&self, found: Namespaces) -> Mishap {
        Mishap::WrongNamespace { expected: self.namespaces, found }
    }

    /// [`Mishap::WrongNamespace`] if the worker lives elsewhere now; `None` also if it has gone.
    pub(crate) fn check_namespaces(&self) -> Option<Mishap> {
        let found = Namespaces::of(self.identity.pid).ok()?;
        (found != self.namespaces).then(|| self.elsewhere(found))
    }

    /// [`Mishap::WrongNamespace`] if the children of the worker get numbers elsewhere: then it is a wrapper, and who
    /// was to speak is one of them.
    pub(crate) fn check_child_namespace(&self) -> Option<Mishap> {
        let found = Namespaces::of_children(self.identity.pid).ok()?;
        (found != self.namespaces).then(|| self.elsewhere(found))
    }
}

/// What a medium says.
#[derive(Debug)]
pub(crate) enum Sign {
    /// The worker has a name for what it does.
    Phase(String),
    /// The worker is ready.
    Ready { bytes: Option<u64> },
    /// The worker gives up.
    Failed { code: i32, text: String },
    /// What came of it.
    Report(Vec<u8>),
    /// Somebody else spoke, or nonsense was said.
    Wrong(Mishap),
}

/// A way by which a worker says that it is ready.
pub(crate) trait Medium: fmt::Debug + Send {
    /// Becomes readable when a look may show something new; `None` if nothing will come any more.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// Takes what is there, a bounded amount of it, without blocking.
    fn look(&mut self, expected: &Expected) -> io::Result<Vec<Sign>>;

    /// The worker is dead: whoever looks later, or elsewhere, shall find that.
    fn ended(&mut self) {}
}

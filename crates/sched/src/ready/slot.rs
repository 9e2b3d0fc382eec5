//! A worker's slot, watched: a futex cannot be polled, so a thread sleeps on it and passes wakes on by an eventfd.
//!
//! # Invariants
//! - The thread ends when the worker's state is final, or within [`NAP`] of the medium.
//! - It wakes for a change of the state, not by the clock; the nap bounds what a worker can do by changing it back.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use outlast_probe::sync::{AtomicBool, Ordering};
use rustix::event::{EventfdFlags, eventfd};

use super::mishap::{Difference, Mishap};
use super::record::{DEAD, EMPTY};
use super::{Expected, Medium, Sign};
use crate::worker::slot::{ATTACHED, FAILED, READY, Slot};

/// Longest sleep of the thread.
const NAP: Duration = Duration::from_secs(1);

/// A slot with its watching thread.
#[derive(Debug)]
pub(crate) struct WatchedSlot {
    slot: Slot,
    event: Arc<OwnedFd>,
    closed: Arc<AtomicBool>,
    watcher: Option<JoinHandle<()>>,
    heartbeat: u64,
    /// Ready was said; from now on only a look shows what else comes.
    ready: bool,
    finished: bool,
}

impl WatchedSlot {
    /// Watches an empty slot.
    pub(crate) fn new(slot: Slot) -> io::Result<Self> {
        let event = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let closed = Arc::new(AtomicBool::new(false));
        // What the slot holds before anybody has it: the thread may begin after the worker has spoken.
        let parts = (slot.clone(), slot.word(), Arc::clone(&event), Arc::clone(&closed));
        let watcher = std::thread::Builder::new().name("slot".into()).stack_size(128 << 10);
        let watcher = Some(watcher.spawn(move || watch(&parts.0, parts.1, &parts.2, &parts.3))?);
        Ok(Self { slot, event, closed, watcher, heartbeat: 0, ready: false, finished: false })
    }

    /// Checks that the worker, and no other, has attached.
    fn check(&self, generation: u32, expected: &Expected) -> Result<(), Mishap> {
        let stale = |difference| Err(Mishap::Stale { difference });
        if generation != self.slot.generation() {
            return stale(Difference::Generation { expected: self.slot.generation(), found: generation });
        }
        let (pid, start_time, nonce) = self.slot.read_identity();
        let identity = &expected.identity;
        if nonce != identity.nonce {
            return stale(Difference::Nonce);
        }
        match u32::try_from(pid) {
            Ok(pid) if pid != identity.pid => return Err(expected.foreign(pid)),
            Ok(_) if start_time == identity.start_time => {}
            _ => {
                let (expected, found) = (identity.start_time, start_time);
                return stale(Difference::StartTime { expected, found });
            }
        }
        Ok(())
    }
}

fn watch(slot: &Slot, mut seen: u64, event: &OwnedFd, closed: &AtomicBool) {
    // Relaxed: the flag passes on nothing but itself.
    while !closed.load(Ordering::Relaxed) {
        // Fails only for a mapping that is gone, which the slot keeps.
        if slot.wait(seen, NAP).is_err() {
            return;
        }
        let word = slot.word();
        if word == seen {
            continue;
        }
        seen = word;
        // Non-blocking: a full counter is as readable.
        let _ = rustix::io::write(event, &1_u64.to_le_bytes());
        if READY <= word as u32 {
            return;
        }
    }
}

impl Medium for WatchedSlot {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        (!self.finished && !self.ready).then(|| self.event.as_fd())
    }

    fn look(&mut self, expected: &Expected) -> io::Result<Vec<Sign>> {
        let mut count = [0; 8];
        // Nothing to take is as good.
        let _ = rustix::io::read(&*self.event, &mut count);
        let mut signs = Vec::new();
        if let Some((heartbeat, phase)) = self.slot.read_phase()
            && heartbeat != self.heartbeat
        {
            self.heartbeat = heartbeat;
            signs.push(Sign::Phase(phase));
        }
        let word = self.slot.word();
        let (generation, state) = ((word >> 32) as u32, word as u32);
        let empty = word == u64::from(self.slot.generation()) << 32 | u64::from(EMPTY);
        if self.finished || empty || (self.ready && state == READY) {
            return Ok(signs);
        }
        // Who is ready may still give up.
        self.ready = state == READY;
        self.finished = state != ATTACHED && state != READY;
        if let Err(mishap) = self.check(generation, expected) {
            self.finished = true;
            signs.push(Sign::Wrong(mishap));
            return Ok(signs);
        }
        match state {
            ATTACHED => {}
            READY => signs.push(Sign::Ready { bytes: Some(self.slot.read_bytes()) }),
            FAILED => {
                let (code, text) = self.slot.read_failure();
                signs.push(Sign::Failed { code, text });
            }
            _ => {
                let what = if state == DEAD { "dead".into() } else { format!("{state}, which is none") };
                let source = io::Error::new(io::ErrorKind::InvalidData, format!("its state is {what}"));
                signs.push(Sign::Wrong(Mishap::Io { doing: "reading the slot", source }));
            }
        }
        Ok(signs)
    }

    fn ended(&mut self) {
        // What the slot holds from now on is our own word.
        self.finished = true;
        // Relaxed: the flag passes on nothing but itself; the wake comes after it.
        self.closed.store(true, Ordering::Relaxed);
        self.slot.mark_dead();
    }
}

impl Drop for WatchedSlot {
    fn drop(&mut self) {
        self.ended();
        if let Some(watcher) = self.watcher.take() {
            // It has nothing to panic about.
            let _ = watcher.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marker::Identity;
    use crate::ready::mishap::Peer;
    use crate::worker::namespace::Namespaces;
    use rustix::event::{PollFd, PollFlags, poll};

    const NONCE: u128 = 77;

    fn expected() -> Expected {
        let namespaces = Namespaces::of_self().unwrap();
        let identity = Identity { nonce: NONCE, ..Identity::of_self().unwrap() };
        Expected { identity, uid: 0, namespaces, since: (0, 0) }
    }

    fn two_ends(generation: u32) -> (WatchedSlot, Slot) {
        let slot = Slot::make(5).unwrap();
        let worker = Slot::join(slot.fd().try_clone_to_owned().unwrap(), generation).unwrap();
        (WatchedSlot::new(slot).unwrap(), worker)
    }

    /// Waits for the event, and returns what is wrong.
    fn wrong(mut watched: WatchedSlot, expected: &Expected) -> Mishap {
        let limit = rustix::time::Timespec { tv_sec: 30, tv_nsec: 0 };
        let fds = &mut [PollFd::from_borrowed_fd(watched.fd().unwrap(), PollFlags::IN)];
        assert_eq!(poll(fds, Some(&limit)), Ok(1), "the event comes");
        match watched.look(expected).unwrap().pop() {
            Some(Sign::Wrong(mishap)) => mishap,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_difference_is_told() {
        let expected = expected();
        let own = expected.identity;
        let attached = |identity: &Identity| {
            let (watched, worker) = two_ends(5);
            worker.attach(identity);
            wrong(watched, &expected)
        };
        let mishap = attached(&Identity { nonce: NONCE + 1, ..own });
        assert!(matches!(mishap, Mishap::Stale { difference: Difference::Nonce }), "{mishap:?}");
        let mishap = attached(&Identity { start_time: own.start_time + 1, ..own });
        assert!(matches!(mishap, Mishap::Stale { difference: Difference::StartTime { .. } }), "{mishap:?}");
        // A thread or process that nobody can be: it has gone.
        let mishap = attached(&Identity { pid: i32::MAX as u32, ..own });
        assert!(matches!(mishap, Mishap::WrongPeer { peer: Peer::Process { .. } }), "{mishap:?}");
        let (watched, worker) = two_ends(6);
        worker.attach(&own);
        let mishap = wrong(watched, &expected);
        let generation = Difference::Generation { expected: 5, found: 6 };
        assert!(matches!(mishap, Mishap::Stale { difference } if difference == generation), "{mishap:?}");
    }

    #[test]
    fn a_state_that_is_none_is_an_error() {
        let (watched, worker) = two_ends(5);
        worker.attach(&expected().identity);
        worker.set(1000);
        let mishap = wrong(watched, &expected());
        assert!(matches!(mishap, Mishap::Io { .. }), "{mishap:?}");
    }

    #[test]
    fn the_thread_ends_with_the_medium_while_nobody_attaches() {
        let (watched, worker) = two_ends(5);
        drop(watched);
        assert_eq!(worker.word() as u32, DEAD, "a late observer finds it dead");
    }
}

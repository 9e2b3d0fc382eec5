//! The protocol under loom: every interleaving, and every value that the orderings allow a load to see.
//!
//! The data that the lock protects is a word that holders change by a relaxed load and a relaxed store, so
//! that a missing ordering shows as a lost update. Each model is run a second time over memory that weakens
//! every ordering to `Relaxed`, and has to fail then: a canary for the model itself.

use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU64};
use loom::thread;
use outlast_probe::sync::Ordering;

use super::core::{release, set_waiters, take_over, try_acquire};
use super::word::{Claim, LockWord};
use crate::joiner::JoinerSlot;
use crate::joiner::table::Seat;
use crate::mem::Mem;

const LOCK: usize = 0;
const DATA: usize = 1;

/// Modelled words, as strong as asked for or all relaxed.
struct Modelled {
    words: [AtomicU64; 2],
    weak: bool,
}

impl Modelled {
    fn new(weak: bool) -> Self {
        Self { words: [AtomicU64::new(0), AtomicU64::new(0)], weak }
    }

    fn order(&self, order: Ordering) -> Ordering {
        if self.weak { Ordering::Relaxed } else { order }
    }

    /// What a holder does: one more, in a way that only a lock makes right.
    fn change(&self) {
        let before = self.load(DATA, Ordering::Relaxed);
        self.store(DATA, before + 1, Ordering::Relaxed);
    }
}

impl Mem for Modelled {
    fn len(&self) -> usize {
        self.words.len()
    }

    fn load(&self, index: usize, order: Ordering) -> u64 {
        self.words[index].load(self.order(order))
    }

    fn store(&self, index: usize, value: u64, order: Ordering) {
        self.words[index].store(value, self.order(order));
    }

    fn compare_exchange(
        &self,
        index: usize,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        self.words[index].compare_exchange(current, new, self.order(success), self.order(failure))
    }

    fn fetch_add(&self, index: usize, value: u64, order: Ordering) -> u64 {
        self.words[index].fetch_add(value, self.order(order))
    }

    fn fetch_or(&self, index: usize, value: u64, order: Ordering) -> u64 {
        self.words[index].fetch_or(value, self.order(order))
    }

    fn fetch_and(&self, index: usize, value: u64, order: Ordering) -> u64 {
        self.words[index].fetch_and(value, self.order(order))
    }
}

fn claim(number: usize) -> Claim {
    let slot = JoinerSlot::new(number).unwrap();
    Claim::of_seat(Seat { slot, generation: 1 }).of_thread(100 + number as u32)
}

fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn must_fail(model: impl Fn() + Send + Sync + 'static) {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| explore(model)));
    assert!(outcome.is_err(), "the model passes with orderings that do not suffice: it shows nothing");
}

/// Two threads, two critical sections each at most; none is lost.
fn exclusion(weak: bool) -> impl Fn() + Send + Sync + 'static {
    move || {
        let mem = Arc::new(Modelled::new(weak));
        let work = |number: usize| {
            let mem = Arc::clone(&mem);
            move || {
                let mut done = 0;
                for _ in 0..2 {
                    if let Ok(held) = try_acquire(&*mem, LOCK, claim(number), false) {
                        mem.change();
                        done += 1;
                        assert_eq!(release(&*mem, LOCK, held, false), Ok(false), "nobody waits");
                    }
                }
                done
            }
        };
        let other = thread::spawn(work(1));
        let done = work(0)() + other.join().unwrap();
        assert!(0 < done, "somebody gets a lock that nobody keeps");
        // The joins above order everything, so this is the last value.
        assert_eq!(mem.load(DATA, Ordering::Relaxed), done);
    }
}

/// One thread dies with the lock. Two others meet the dead holder: exactly one takes it over, is told so, and
/// says that it has recovered; no change is lost.
fn takeover(weak: bool) -> impl Fn() + Send + Sync + 'static {
    move || {
        let mem = Arc::new(Modelled::new(weak));
        let dead = Arc::new(AtomicBool::new(false));
        let survivor = |number: usize| {
            let (mem, dead) = (Arc::clone(&mem), Arc::clone(&dead));
            move || {
                let seen = match try_acquire(&*mem, LOCK, claim(number), false) {
                    Ok(held) => return finish(&mem, held),
                    Err(seen) => seen,
                };
                // Acquire: stands for the kernel, which reports an end only after all that came before it.
                if !seen.is_same_holder(claim(0)) || !dead.load(Ordering::Acquire) {
                    return (0, 0);
                }
                match take_over(&*mem, LOCK, seen, claim(number)) {
                    Ok(held) => finish(&mem, held),
                    Err(_) => (0, 0),
                }
            }
        };
        let held = try_acquire(&*mem, LOCK, claim(0), false).unwrap();
        let survivors = [thread::spawn(survivor(1)), thread::spawn(survivor(2))];
        mem.change();
        dead.store(true, Ordering::Release); // Pairs with the Acquire in `survivor`.
        let outcomes = survivors.map(|survivor| survivor.join().unwrap());
        let changes: u64 = outcomes.iter().map(|outcome| outcome.0).sum();
        let recoveries: u64 = outcomes.iter().map(|outcome| outcome.1).sum();
        assert_eq!(mem.load(DATA, Ordering::Relaxed), 1 + changes);
        assert!(recoveries <= 1, "one death, one recovery");
        assert_eq!(recoveries == 1, 0 < changes, "nobody passes the dead holder unwarned");
        if recoveries == 1 {
            assert!(release(&*mem, LOCK, held, false).is_err(), "the dead holder has lost the lock");
        }
    }
}

fn finish(mem: &Modelled, held: LockWord) -> (u64, u64) {
    mem.change();
    let recovery = u64::from(held.is_inconsistent());
    assert!(release(mem, LOCK, held, true).is_ok());
    (1, recovery)
}

/// Whoever has set the waiters flag on the word that it saw is owed a wake-up, or the word has changed.
fn wakeup() {
    let mem = Arc::new(Modelled::new(false));
    let held = try_acquire(&*mem, LOCK, claim(0), false).unwrap();
    let sleeper = thread::spawn({
        let mem = Arc::clone(&mem);
        move || match try_acquire(&*mem, LOCK, claim(1), false) {
            Ok(_) => false,
            Err(seen) => set_waiters(&*mem, LOCK, seen).is_ok_and(|word| !word.is_free()),
        }
    });
    let wake = release(&*mem, LOCK, held, false).unwrap();
    assert_eq!(sleeper.join().unwrap(), wake, "a sleeper is woken, and nobody else");
}

#[test]
fn no_update_is_lost() {
    explore(exclusion(false));
}

#[test]
fn no_update_is_lost_canary() {
    must_fail(exclusion(true));
}

#[test]
fn a_dead_holder_is_taken_over_once() {
    explore(takeover(false));
}

#[test]
fn a_dead_holder_is_taken_over_once_canary() {
    must_fail(takeover(true));
}

#[test]
fn a_sleeper_is_owed_a_wakeup() {
    explore(wakeup);
}

//! Waiting for the lock: a short spin that leaves the word's cache line alone, then timed sleeps, with the
//! holder judged before the first of them and after each that ran out.
//!
//! # Invariants
//! - No path through the loop of `acquire_slowly` avoids the deadline, whatever the word holds.

use ::core::hint::spin_loop;
use std::thread::sleep;
use std::time::{Duration, Instant};

use outlast_probe::sync::Ordering;
use outlast_probe::{blocking, probe};

use super::core::{set_waiters, take_over, try_acquire};
use super::word::{Claim, LockWord};
use crate::error::{Call, LockError};
use crate::join::Join;
use crate::joiner::{JoinerInfo, Liveness};
use crate::layout::LOCK_WORD;
use crate::sys::futex;

/// First pause before another look at the word; each is twice the one before. Much longer than a typical
/// critical section, see `spin`.
const PAUSE_MIN: Duration = Duration::from_micros(8);
/// Looks at the word before the holder is judged, and again before the next sleep.
const LOOKS: u32 = 5;
/// First sleep; each is twice the one before.
const NAP_MIN: Duration = Duration::from_millis(1);
/// Longest sleep, and so the longest that a dead holder goes unnoticed by a sleeper.
const NAP_MAX: Duration = Duration::from_millis(40);

/// Naps without a wake-up while the lock goes round, before one with.
const DROWSY_NAPS: u32 = 4;

/// A lock that was had after waiting.
#[derive(Debug)]
pub(crate) struct Acquired {
    pub(crate) word: LockWord,
    /// The dead holder that it was taken from.
    pub(crate) taken_from: Option<Box<JoinerInfo>>,
}

/// Waits for the lock, which was not free at the first look.
#[cold]
pub(crate) fn acquire_slowly(join: &Join, claim: Claim, timeout: Duration) -> Result<Acquired, LockError> {
    let start = Instant::now();
    // Relaxed: only compared with what is read later.
    let first = LockWord(join.words().load(LOCK_WORD, Ordering::Relaxed));
    if let Some(word) = spin(join, claim, false) {
        return Ok(Acquired { word, taken_from: None });
    }
    let words = join.words();
    let (mut slept, mut nap, mut judged) = (false, NAP_MIN, None);
    let (mut drowsy, mut last) = (DROWSY_NAPS, Some(first.0));
    loop {
        let seen = match try_acquire(&words, LOCK_WORD, claim, slept) {
            Ok(word) => return Ok(Acquired { word, taken_from: None }),
            Err(seen) => seen,
        };
        if seen.is_same_holder(claim) {
            return Err(LockError::Reentrant { tid: seen.tid() });
        }
        if !seen.is_free() && judged != Some(seen.holder()) {
            if let Some(acquired) = take_over_if_dead(join, seen, claim) {
                return Ok(acquired);
            }
            judged = Some(seen.holder());
        }
        let waited = start.elapsed();
        let Some(left) = timeout.checked_sub(waited).filter(|left| !left.is_zero()) else {
            return Err(busy(join, seen, waited));
        };
        if seen.is_free() {
            continue;
        }
        if last.replace(seen.0).is_some_and(|last| last != seen.0) && 0 < drowsy {
            // The lock goes round: its holders live and work. One that is woken at every release would cost them
            // more than it does, so come back by the clock, without asking for a wake-up.
            drowsy -= 1;
            rest(|| sleep(NAP_MIN.min(left)));
            if let Some(word) = spin(join, claim, slept) {
                return Ok(Acquired { word, taken_from: None });
            }
            continue;
        }
        let Ok(word) = set_waiters(&words, LOCK_WORD, seen) else { continue };
        let nap_now = nap.min(left);
        let until = Instant::now() + nap_now;
        rest(|| futex::sleep(join.lock_cell(), word.0, nap_now)).call("futex wait")?;
        let timed_out = until <= Instant::now();
        slept = true;
        if let Some(word) = spin(join, claim, slept) {
            return Ok(Acquired { word, taken_from: None });
        }
        if timed_out {
            // Nobody woke us: judge again, whoever it is now.
            judged = None;
            nap = NAP_MAX.min(nap * 2);
        }
    }
}

/// Sleeps, in whichever way: the one place at which a waiter blocks.
fn rest<T>(asleep: impl FnOnce() -> T) -> T {
    blocking!("shm.lock.wait", asleep())
}

/// Looks at the word a few times, ever more rarely. A holder that loops may have the lock again at once: two
/// busy threads lose less when each keeps the cache line for a while than when they take turns.
fn spin(join: &Join, claim: Claim, slept: bool) -> Option<LockWord> {
    let words = join.words();
    let mut pause = PAUSE_MIN;
    for _ in 0..LOOKS {
        let start = Instant::now();
        while start.elapsed() < pause {
            spin_loop();
        }
        pause *= 2;
        match try_acquire(&words, LOCK_WORD, claim, slept) {
            Ok(word) => return Some(word),
            Err(seen) if seen.is_same_holder(claim) => return None,
            Err(_) => {}
        }
    }
    None
}

/// Judges the holder that `seen` names, and takes the lock from it if it is dead and the word still the same.
fn take_over_if_dead(join: &Join, seen: LockWord, claim: Claim) -> Option<Acquired> {
    let table = join.table();
    if table.judge_holder(seen) != Liveness::Dead {
        return None;
    }
    // Looked up before the takeover: after it, the slot may be given out again.
    let taken_from = table.holder(seen).and_then(|holder| holder.joiner);
    probe!("shm.lock.judged_dead");
    let word = take_over(&table.words, LOCK_WORD, seen, claim).ok()?;
    probe!("shm.lock.taken_over", word.0);
    Some(Acquired { word, taken_from })
}

fn busy(join: &Join, seen: LockWord, waited: Duration) -> LockError {
    let owner = join.table().holder(seen).and_then(|holder| holder.joiner);
    LockError::Busy { owner, tid: seen.tid(), waited }
}

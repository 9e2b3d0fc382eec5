//! The lock's protocol: four transitions of one word, over [`Mem`] so that a model checker can run them.
//!
//! # Invariants
//! - Only a free word, or the exact word that was judged to be a dead holder's, is ever taken.
//! - Only the exact word that was stored on acquisition, the waiters flag aside, is ever released.
//! - `INCONSISTENT` is set by a takeover and cleared by nothing but a release that says "recovered".

use outlast_probe::sync::Ordering;

use super::word::{Claim, INCONSISTENT, LockWord, WAITERS};
use crate::mem::Mem;

/// Takes the lock if it is free. `slept` tells that this thread has slept on the word, so others may still
/// be asleep whose flag the last release has cleared.
///
/// Returns the stored word, or the one that was found instead.
#[inline]
pub(crate) fn try_acquire<M: Mem>(
    mem: &M,
    at: usize,
    claim: Claim,
    slept: bool,
) -> Result<LockWord, LockWord> {
    // Relaxed: the exchange below decides.
    let seen = LockWord(mem.load(at, Ordering::Relaxed));
    if !seen.is_free() {
        return Err(seen);
    }
    take(mem, at, seen, seen.taken_by(claim, if slept { WAITERS } else { 0 }))
}

/// Takes the lock from `judged`, the word of a holder that was proved dead.
///
/// Returns the stored word, or the one that was found instead.
pub(crate) fn take_over<M: Mem>(
    mem: &M,
    at: usize,
    judged: LockWord,
    claim: Claim,
) -> Result<LockWord, LockWord> {
    take(mem, at, judged, judged.taken_by(claim, INCONSISTENT))
}

#[inline]
fn take<M: Mem>(mem: &M, at: usize, from: LockWord, to: LockWord) -> Result<LockWord, LockWord> {
    // Acquire: pairs with the Release in `release`. What a dead holder stored was made visible by its end,
    // which the kernel told us of. Relaxed on failure: nothing is read on its account.
    match mem.compare_exchange(at, from.0, to.0, Ordering::Acquire, Ordering::Relaxed) {
        Ok(_) => Ok(to),
        Err(found) => Err(LockWord(found)),
    }
}

/// Asks the holder of `seen` for a wake-up. Returns the word to sleep on, or the one that was found instead.
pub(crate) fn set_waiters<M: Mem>(mem: &M, at: usize, seen: LockWord) -> Result<LockWord, LockWord> {
    if seen.has_waiters() {
        return Ok(seen);
    }
    let flagged = LockWord(seen.0 | WAITERS);
    // Relaxed: the flag itself is all that is passed on, and the exchange in `release` finds it.
    match mem.compare_exchange(at, seen.0, flagged.0, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => Ok(flagged),
        Err(found) => Err(LockWord(found)),
    }
}

/// Gives the lock back. Returns whether a sleeper is to be woken, or the word that was found instead of the
/// holder's own; then nothing was changed.
#[inline]
pub(crate) fn release<M: Mem>(mem: &M, at: usize, held: LockWord, recovered: bool) -> Result<bool, LockWord> {
    let mut expected = held;
    // Nobody but us takes the waiters flag away while we hold the lock, so the second try succeeds; the
    // bound is for a peer that keeps to no rules.
    for _ in 0..4 {
        let free = expected.released(recovered);
        // Release: pairs with the Acquire in `take`. Relaxed on failure: nothing is read on its account.
        match mem.compare_exchange(at, expected.0, free.0, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return Ok(expected.has_waiters()),
            Err(found) if found | WAITERS == held.0 | WAITERS => expected = LockWord(found),
            Err(found) => return Err(LockWord(found)),
        }
    }
    Err(expected)
}

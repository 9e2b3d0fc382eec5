//! The handle of whoever holds the lock.
//!
//! # Invariants
//! - A guard releases exactly the word that was stored when it was made, and nothing in a forked child.

use ::core::fmt;
use ::core::marker::PhantomData;

use outlast_probe::probe;
use outlast_probe::sync::Ordering;

use super::core::release;
use super::wait::Acquired;
use super::word::{LockWord, WAITERS};
use crate::error::LockError;
use crate::join::Join;
use crate::joiner::JoinerInfo;
use crate::layout::LOCK_WORD;
use crate::sys::{fork, futex};

/// The lock of a region, held until this is dropped.
///
/// Not `Send`: the lock belongs to the thread that took it. If the thread ends without dropping the guard,
/// others find the holder dead. A guard that a forked child inherits does nothing.
///
/// ```compile_fail,E0277
/// fn hand_to_another_thread<T: Send>(_: T) {}
/// fn refused(guard: outlast_shm::LockGuard<'_>) {
///     hand_to_another_thread(guard);
/// }
/// ```
#[must_use = "the lock is released when the guard is dropped"]
pub struct LockGuard<'r> {
    join: &'r Join,
    word: LockWord,
    epoch: u64,
    recovered: bool,
    released: bool,
    taken_from: Option<Box<JoinerInfo>>,
    /// Raw pointers are not `Send`.
    not_send: PhantomData<*const ()>,
}

impl<'r> LockGuard<'r> {
    #[inline]
    pub(crate) fn new(join: &'r Join, epoch: u64, acquired: Acquired) -> Self {
        let Acquired { word, taken_from } = acquired;
        probe!("shm.lock.acquired", word.0);
        Self { join, word, epoch, recovered: false, released: false, taken_from, not_send: PhantomData }
    }

    /// Whether a holder died, now or earlier, and nobody has put its work in order yet. Stays so for later
    /// holders, through any number of deaths, until one calls [`mark_recovered`](Self::mark_recovered).
    #[inline]
    pub fn needs_recovery(&self) -> bool {
        self.word.is_inconsistent() && !self.recovered
    }

    /// Says that what the lock protects is in order again; the next holder will be told so if this one
    /// releases the lock. If it dies first, the next one is told to recover as well.
    pub fn mark_recovered(&mut self) {
        self.recovered = true;
    }

    /// The dead holder that the lock was taken from, if it was taken from one that the joiner table names.
    pub fn taken_from(&self) -> Option<&JoinerInfo> {
        self.taken_from.as_deref()
    }

    /// Whether the lock word is still the one that this guard stored. One load. `false` means that a peer
    /// broke the rules, or that this is a forked child.
    #[inline]
    pub fn is_held(&self) -> bool {
        // Relaxed: the question is only what the word is.
        let found = self.join.words().load(LOCK_WORD, Ordering::Relaxed);
        found | WAITERS == self.word.0 | WAITERS && self.epoch == fork::epoch()
    }

    /// Adds to counters of this process, each given by its number and what is added, with wrap-around. A
    /// reader sees all of them added or none. The lock makes this the only writer; a dozen instructions.
    ///
    /// ```
    /// use outlast_shm::{Region, Spec, USER_OFFSET};
    /// let region = Region::anonymous(&Spec::new(1, 1, USER_OFFSET))?;
    /// let guard = region.lock(std::time::Duration::from_secs(1))?;
    /// guard.count([(0, 1), (1, 4096)]);
    /// let counters = region.counters(region.slot()?).ok_or("torn")?;
    /// assert_eq!(counters[..3], [1, 4096, 0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// If a number is not below [`COUNTER_MAX`](crate::COUNTER_MAX).
    #[inline(always)]
    pub fn count<const N: usize>(&self, deltas: [(usize, u64); N]) {
        // A forked child that inherited the guard is not the holder.
        if let Some(slot) = self.word.slot().filter(|_| self.epoch == fork::epoch()) {
            self.join.count(slot, deltas);
        }
    }

    /// A number that no other joiner of this region has or had: the slot's generation times 256, plus the
    /// slot. Never 0. One load.
    #[inline(always)]
    pub fn joiner_number(&self) -> u64 {
        self.word.slot().map_or(0, |slot| self.join.joiner_number(slot))
    }

    /// Releases the lock; dropping the guard does the same and ignores the error.
    ///
    /// # Errors
    /// [`LockError::Stolen`] if the lock word is not the one that this guard stored; it is left as it is.
    pub fn unlock(mut self) -> Result<(), LockError> {
        self.release()
    }

    #[inline]
    fn release(&mut self) -> Result<(), LockError> {
        self.released = true;
        probe!("shm.lock.before_release", self.word.0);
        let words = self.join.words();
        let stolen = |found: LockWord| LockError::Stolen { expected: self.word.0, found: found.0 };
        if self.epoch != fork::epoch() {
            return Err(stolen(self.join.table().lock_word()));
        }
        let wake = release(&words, LOCK_WORD, self.word, self.recovered).map_err(stolen)?;
        probe!("shm.lock.released", self.word.0);
        if wake {
            futex::wake_one(self.join.lock_cell());
        }
        Ok(())
    }
}

impl Drop for LockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.released {
            // A stolen lock is not ours to give back; `is_held` and `unlock` tell.
            let _ = self.release();
        }
    }
}

impl fmt::Debug for LockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard")
            .field("word", &self.word)
            .field("needs_recovery", &self.needs_recovery())
            .field("taken_from", &self.taken_from)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::core::set_waiters;
    use super::*;
    use crate::layout::USER_OFFSET;
    use crate::region::Region;
    use crate::spec::Spec;

    /// Asleep for as long as a watchdog: only a wake-up ends it earlier.
    #[test]
    fn a_sleeper_is_woken_and_not_left_to_its_timeout() {
        const WATCHDOG: Duration = Duration::from_secs(30);
        let region = Region::anonymous(&Spec::new(1, 1, USER_OFFSET)).unwrap();
        let guard = region.lock(WATCHDOG).unwrap();
        let (join, start) = (guard.join, Instant::now());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let word = set_waiters(&join.words(), LOCK_WORD, join.table().lock_word()).unwrap();
                futex::sleep(join.lock_cell(), word.0, WATCHDOG).unwrap();
            });
            while !region.lock_state().has_waiters {
                std::thread::yield_now();
            }
            guard.unlock().unwrap();
        });
        assert!(start.elapsed() < WATCHDOG, "nobody woke the sleeper");
    }
}

//! The counter block of a joiner slot: one writer, and readers that never stop it.
//!
//! The block is part of the slot that `joiner::table` writes; a sequence word makes it odd while it is being
//! written. It is a sequence lock whose writer is the holder of the region's lock, so plain stores suffice.
//!
//! # Invariants
//! - The sequence is odd before the first store of a change and even after its last, in every order that a kill
//!   or a reader can see; a writer killed in between leaves it odd until the slot is joined again.
//! - A reader stores nothing, and looks a bounded number of times, whatever the words hold.

use core::hint::spin_loop;
use std::thread::yield_now;

use outlast_probe::probe;
use outlast_probe::sync::{Ordering, crash_fence, fence};

use crate::layout::{COUNTER_MAX, joiner};
use crate::mem::Words;

/// The counters of one joiner. What each of them counts is for the layer above to say.
pub type Block = [u64; COUNTER_MAX];

/// How often a reader looks at a block that does not hold still.
const TRIES: u32 = 64;
/// How many of these looks are made without giving the processor away.
const SPINS: u32 = 16;

/// Adds to counters of the joiner slot `words`, whose holder holds the lock.
#[inline(always)]
pub(crate) fn add<const N: usize>(words: &Words<'_>, deltas: [(usize, u64); N]) {
    // Relaxed, here and below: nobody else writes this slot.
    let odd = words.load(joiner::SEQUENCE, Ordering::Relaxed) | 1;
    words.store(joiner::SEQUENCE, odd, Ordering::Relaxed);
    // Release: pairs with the Acquire fence of `steady`; who reads a counter stored below sees the sequence odd,
    // or a later one. The crash fences say the same to a reader after a kill.
    fence(Ordering::Release);
    crash_fence();
    probe!("shm.count.begun");
    for (counter, delta) in deltas {
        assert!(counter < COUNTER_MAX, "counter {counter} of {COUNTER_MAX}");
        let before = words.load(joiner::COUNTERS + counter, Ordering::Relaxed);
        words.store(joiner::COUNTERS + counter, before.wrapping_add(delta), Ordering::Relaxed);
    }
    probe!("shm.count.before_end");
    crash_fence();
    // Release: pairs with the Acquire load of `steady`.
    words.store(joiner::SEQUENCE, odd.wrapping_add(1), Ordering::Release);
}

/// Copies the counters out, whole only between two looks at the sequence.
pub(crate) fn copy(words: &Words<'_>) -> Block {
    // Relaxed: `steady` orders it.
    core::array::from_fn(|index| words.load(joiner::COUNTERS + index, Ordering::Relaxed))
}

/// What `read` finds in the joiner slot `words`, and whether nothing was written there meanwhile.
pub(crate) fn steady<T>(words: &Words<'_>, read: impl Fn(&Words<'_>) -> T) -> (T, bool) {
    for attempt in 0..TRIES {
        // Acquire: pairs with the Release stores of `add` and of a join.
        let before = words.load(joiner::SEQUENCE, Ordering::Acquire);
        if before & 1 == 0 {
            let found = read(words);
            // Acquire: pairs with the Release fences of `add` and of a join.
            fence(Ordering::Acquire);
            // Relaxed: ordered by the fence.
            if words.load(joiner::SEQUENCE, Ordering::Relaxed) == before {
                return (found, true);
            }
        }
        if attempt < SPINS { spin_loop() } else { yield_now() }
    }
    (read(words), false)
}

#[cfg(test)]
mod tests {
    use outlast_probe::sync::{AtomicBool, AtomicU64};

    use super::*;
    use crate::layout::JOINER_BYTES;

    const WORDS: usize = JOINER_BYTES as usize / 8;

    fn slot() -> [AtomicU64; WORDS] {
        [const { AtomicU64::new(0) }; WORDS]
    }

    /// Ends the writer however the reader ends.
    struct Stop<'a>(&'a AtomicBool);

    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Two counters that are always equal, and a reader that runs beside their writer.
    #[test]
    fn a_reader_never_sees_half_of_a_change() {
        let (cells, stop) = (slot(), AtomicBool::new(false));
        let words = Words::new(&cells, true);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    add(&words, [(0, 1), (14, 1)]);
                }
            });
            let _stop = Stop(&stop);
            let (mut last, mut whole) = (0, 0);
            while whole < 10_000 || last < 10_000 {
                let (block, is_steady) = steady(&words, copy);
                if is_steady {
                    assert_eq!(block[0], block[14]);
                    assert!(last <= block[0], "{last} and then {}", block[0]);
                    (last, whole) = (block[0], whole + 1);
                }
            }
        });
    }

    #[test]
    fn a_writer_that_was_cut_short_leaves_no_answer() {
        let cells = slot();
        let words = Words::new(&cells, true);
        add(&words, [(3, 7)]);
        assert_eq!(steady(&words, copy), ([0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], true));
        words.store(joiner::SEQUENCE, 3, Ordering::Relaxed);
        assert!(!steady(&words, copy).1);
        // Whatever the sequence was, the next change makes it even.
        add(&words, [(3, 1)]);
        let (block, is_steady) = steady(&words, copy);
        assert_eq!((block[3], is_steady), (8, true));
    }
}

//! The lock word: who holds the lock, in one atomic word.
//!
//! ```text
//! bit 0 waiters | 1 inconsistent | 2..=10 slot + 1 | 11..=31 sequence | 32..=53 thread | 54..=63 generation
//! ```
//!
//! # Invariants
//! - A slot field of 0 means free; then only the two flags and the sequence mean anything.
//! - The sequence, which is in the half that sleepers compare, changes with every acquisition.

use core::fmt;

use crate::joiner::JoinerSlot;
use crate::joiner::table::Seat;

/// Somebody sleeps until the lock is released.
pub(crate) const WAITERS: u64 = 1;
/// A holder died, and nobody has said since that its work was put in order.
pub(crate) const INCONSISTENT: u64 = 1 << 1;
const SLOT_SHIFT: u32 = 2;
const SLOT_MASK: u64 = 0x1ff << SLOT_SHIFT;
const SEQUENCE_SHIFT: u32 = 11;
const SEQUENCE_MASK: u64 = 0x1f_ffff << SEQUENCE_SHIFT;
const TID_SHIFT: u32 = 32;
const TID_MASK: u64 = 0x3f_ffff << TID_SHIFT;
const GENERATION_SHIFT: u32 = 54;
const GENERATION_MASK: u64 = 0x3ff << GENERATION_SHIFT;

const _: () = {
    let masks = [WAITERS, INCONSISTENT, SLOT_MASK, SEQUENCE_MASK, TID_MASK, GENERATION_MASK];
    let mut all = 0;
    let mut index = 0;
    while index < masks.len() {
        assert!(all & masks[index] == 0, "fields do not overlap");
        all |= masks[index];
        index += 1;
    }
    assert!(all == u64::MAX, "every bit has a meaning");
    assert!(crate::layout::JOINER_MAX < 0x1ff, "every slot has a number in the word");
};

/// A value of the lock word, any value at all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct LockWord(pub(crate) u64);

impl LockWord {
    pub(crate) fn is_free(self) -> bool {
        self.0 & SLOT_MASK == 0
    }

    /// The holder's slot; `None` if free or if no such slot exists.
    pub(crate) fn slot(self) -> Option<JoinerSlot> {
        let number = (self.0 & SLOT_MASK) >> SLOT_SHIFT;
        JoinerSlot::new(usize::try_from(number.checked_sub(1)?).ok()?)
    }

    pub(crate) fn tid(self) -> u32 {
        ((self.0 & TID_MASK) >> TID_SHIFT) as u32
    }

    /// Whether a holder of `generation` could have stored this word.
    pub(crate) fn is_generation(self, generation: u64) -> bool {
        self.0 & GENERATION_MASK == generation << GENERATION_SHIFT
    }

    pub(crate) fn has_waiters(self) -> bool {
        self.0 & WAITERS != 0
    }

    pub(crate) fn is_inconsistent(self) -> bool {
        self.0 & INCONSISTENT != 0
    }

    /// The fields that name the holder.
    pub(crate) fn holder(self) -> u64 {
        self.0 & (SLOT_MASK | TID_MASK | GENERATION_MASK)
    }

    /// Whether the holder is this very thread.
    pub(crate) fn is_same_holder(self, claim: Claim) -> bool {
        self.holder() == claim.0
    }

    /// The word after `claim` has taken the lock from this one; `flags` are set besides those that stay.
    pub(crate) fn taken_by(self, claim: Claim, flags: u64) -> Self {
        let sequence = self.0.wrapping_add(1 << SEQUENCE_SHIFT) & SEQUENCE_MASK;
        Self(claim.0 | sequence | self.0 & (WAITERS | INCONSISTENT) | flags)
    }

    /// The word after its holder has let go of the lock.
    pub(crate) fn released(self, recovered: bool) -> Self {
        let kept = if recovered { 0 } else { self.0 & INCONSISTENT };
        Self(self.0 & SEQUENCE_MASK | kept)
    }
}

impl fmt::Debug for LockWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockWord")
            .field("slot", &self.slot())
            .field("tid", &self.tid())
            .field("sequence", &((self.0 & SEQUENCE_MASK) >> SEQUENCE_SHIFT))
            .field("waiters", &self.has_waiters())
            .field("inconsistent", &self.is_inconsistent())
            .finish()
    }
}

/// The part of a lock word that says which thread of which joiner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim(u64);

impl Claim {
    /// Of a joiner, without a thread. Never 0, so 0 can stand for "not entered".
    pub(crate) fn of_seat(seat: Seat) -> Self {
        let slot = (seat.slot.index() as u64 + 1) << SLOT_SHIFT;
        Self(slot | seat.generation << GENERATION_SHIFT)
    }

    /// Of a thread of this joiner.
    pub(crate) fn of_thread(self, tid: u32) -> Self {
        Self(self.0 | (u64::from(tid) << TID_SHIFT & TID_MASK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_taken_word_names_its_taker(before: u64, slot in 0..256_usize, generation: u64, tid in 1..=0x3f_ffff_u32) {
            let seat = Seat { slot: JoinerSlot::new(slot).unwrap(), generation };
            let claim = Claim::of_seat(seat).of_thread(tid);
            let taken = LockWord(before).taken_by(claim, 0);
            prop_assert_eq!((taken.slot(), taken.tid()), (Some(seat.slot), tid));
            prop_assert!(taken.is_generation(generation) && !taken.is_free() && taken.is_same_holder(claim));
            prop_assert_ne!(taken.0 as u32 & !3, LockWord(before).0 as u32 & !3, "sleepers see a change");
            prop_assert_eq!(taken.is_inconsistent(), LockWord(before).is_inconsistent());
            let released = taken.released(false);
            prop_assert!(released.is_free() && !released.has_waiters());
            prop_assert_eq!(released.is_inconsistent(), taken.is_inconsistent());
            prop_assert!(!taken.released(true).is_inconsistent());
        }
    }
}

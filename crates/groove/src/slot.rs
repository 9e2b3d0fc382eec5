//! The protocol by which slots change hands: the core, over words of any kind, so that a model can check it.
//!
//! The descriptor of a slot's first block is the slot's *claim word*: who holds it is written there before the
//! slot leaves its place in the superblock, and until it has arrived where it goes. The word of the superblock
//! says in one which class it is of and which slots are free, so an exchange of it is right whatever happened
//! meanwhile: equal means that now, the superblock is of this class and the slot free.
//!
//! # Invariants
//! - A slot's bit goes from set to clear only by who holds its descriptor, or all bits at once by who releases
//!   the whole superblock.
//! - A slot's bit goes from clear to set only by who holds its descriptor.
//! - A superblock becomes one, and ceases to be one, only by who holds the descriptor of its first block while
//!   the bit of its slot is clear; roots, which have no slot, by one exchange.
//! - So: bit clear and descriptor neither held, freeing, live nor retired means a superblock below.

use outlast_probe::sync::{Ordering, crash_fence};
use outlast_shm::Mem;

use crate::word::{Claim, Descriptor, Slots, State};

/// A superblock in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its word.
    pub(crate) word: usize,
    /// The class that it shall have.
    pub(crate) class: usize,
    /// The descriptor of its first slot.
    pub(crate) first: usize,
    /// From a slot's descriptor to the next slot's, in words.
    pub(crate) stride: usize,
    /// A bit for each slot that there is: others may be set by somebody hostile.
    pub(crate) mask: u64,
}

/// How often a slot is tried whose descriptor changes under the hand, before the next one is.
const TRIES: u32 = 64;

impl Place {
    #[inline]
    fn descriptor(&self, slot: u32) -> usize {
        self.first + self.stride * slot as usize
    }
}

/// A slot that is held: its bit is clear and its descriptor names the holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) slot: u32,
    /// Its descriptor's word.
    pub(crate) at: usize,
    /// What that word was before.
    pub(crate) before: Descriptor,
}

/// Why a superblock gave no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// It is not of this class, or no superblock at all.
    Gone,
    /// No slot is free.
    Full,
    /// Slots are free, and others hold each of them at this moment; one of them is this.
    Busy(Claim),
}

/// Writes a claim to a descriptor that was seen to be `before`.
#[inline]
fn hold<M: Mem>(mem: &M, at: usize, before: Descriptor, claim: Claim) -> bool {
    let held = Descriptor::held(before.generation(), claim);
    // Acquire: partner is the Release that freed it, so that the next owner's stores come after the last one's.
    mem.compare_exchange(at, before.0, held.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// Puts back what `hold` replaced.
#[inline]
pub(crate) fn let_go<M: Mem>(mem: &M, held: Held) {
    crash_fence();
    // Release: partner is the Acquire of `hold`.
    mem.store(held.at, held.before.0, Ordering::Release);
}

/// Takes a slot out of a superblock. `announce` is told the descriptor before it is touched.
#[inline]
pub(crate) fn take<M: Mem>(
    mem: &M,
    place: Place,
    claim: Claim,
    mut announce: impl FnMut(usize),
) -> Result<Held, Missing> {
    let (mut tried, mut failed) = (0, 0);
    let mut busy = None;
    loop {
        // Acquire: partner is the Release of whoever set the bits, so that the descriptors are as they left them.
        let slots = Slots(mem.load(place.word, Ordering::Acquire));
        if slots.class() != place.class {
            return Err(Missing::Gone);
        }
        let candidates = slots.free() & place.mask & !tried;
        if candidates == 0 {
            return Err(busy.map_or(Missing::Full, Missing::Busy));
        }
        let slot = candidates.trailing_zeros();
        let at = place.descriptor(slot);
        // Relaxed: acted upon only by an exchange of the very value.
        let before = Descriptor(mem.load(at, Ordering::Relaxed));
        match before.state() {
            State::Free => {}
            State::Retired => {
                // For ever, so the bit is of no use.
                clear_bit(mem, place, slots, slot);
                tried |= 1 << slot;
                continue;
            }
            State::Held | State::Freeing => {
                busy = Some(before.claim());
                tried |= 1 << slot;
                continue;
            }
            // Live: a moment ago the bit was set, so the slot has been taken since. Otherwise damage; either way,
            // not ours.
            State::Live | State::Damaged => {
                tried |= 1 << slot;
                continue;
            }
        }
        announce(at);
        crash_fence();
        if !hold(mem, at, before, claim) {
            failed += 1;
            if TRIES < failed {
                busy = Some(claim);
                tried |= 1 << slot;
            }
            continue;
        }
        outlast_probe::probe!("groove.take.held", at as u64);
        crash_fence();
        let held = Held { slot, at, before };
        if clear_bit(mem, place, slots, slot) {
            outlast_probe::probe!("groove.take.cleared", at as u64);
            return Ok(held);
        }
        let_go(mem, held);
        // Somebody had taken the slot before it was held here. Its bit is seen again if it has come back since, and
        // only somebody hostile makes it come and go like that.
        failed += 1;
        if TRIES < failed {
            tried |= 1 << slot;
        }
    }
}

/// Clears the bit of a slot whose descriptor the caller holds; `false` if it is not there, or if
/// the word never holds still.
#[inline]
fn clear_bit<M: Mem>(mem: &M, place: Place, mut seen: Slots, slot: u32) -> bool {
    for _ in 0..TRIES {
        if seen.class() != place.class || !seen.has(slot) {
            return false;
        }
        let without = seen.without(slot);
        // Acquire: partner is the Release of `carve`, whose superblock this is; Release: keeps the chain of those
        // who set other bits, which whoever reads this word relies on.
        match mem.compare_exchange(place.word, seen.0, without.0, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(found) => seen = Slots(found),
        }
    }
    false
}

/// Makes a held slot an object; the moment of the second store is when it exists.
#[inline]
pub(crate) fn commit<M: Mem>(mem: &M, held: Held, live: Descriptor, tag: u64) {
    // Release: partner is the Acquire fence of who looks at the object that was here before: having read this tag,
    // its second look at the descriptor sees that the object is gone.
    mem.store(held.at + 1, tag, Ordering::Release);
    crash_fence();
    // Release: partner is the Acquire of whoever reads the object by a reference.
    mem.store(held.at, live.0, Ordering::Release);
}

/// Ends an object, if it is still `live`; the moment of the exchange is when it is gone. The caller then owes
/// [`give_back`].
///
/// # Errors
/// What the descriptor holds instead.
#[inline]
pub(crate) fn begin_free<M: Mem>(
    mem: &M,
    at: usize,
    live: Descriptor,
    claim: Claim,
) -> Result<(), Descriptor> {
    let freeing = Descriptor::freeing(live.generation(), claim);
    // Release: what this thread did to the object comes before whatever the next owner does, whose partner is
    // the Acquire of `hold`; Acquire: partner is the Release of `commit`.
    match mem.compare_exchange(at, live.0, freeing.0, Ordering::AcqRel, Ordering::Relaxed) {
        Ok(_) => Ok(()),
        Err(found) => Err(Descriptor(found)),
    }
}

/// Sets the bit of a slot whose descriptor the caller has claimed, then stores the descriptor, free or retired.
/// Returns the superblock's word before.
///
/// # Errors
/// The word, unchanged, if it is not of the class or has the bit: damage.
#[inline]
pub(crate) fn give_back<M: Mem>(mem: &M, place: Place, slot: u32, after: Descriptor) -> Result<Slots, Slots> {
    // Relaxed: neither the class nor the bit can change while the slot is ours.
    let seen = Slots(mem.load(place.word, Ordering::Relaxed));
    if seen.class() != place.class || seen.has(slot) {
        return Err(seen);
    }
    // Release: partner is the Acquire of `take`. Acquire: whoever sees the last bit come back sees what the others
    // left.
    let before = Slots(mem.fetch_or(place.word, 1 << slot, Ordering::AcqRel));
    crash_fence();
    outlast_probe::probe!("groove.give_back.set", place.word as u64);
    // Release: partner is the Acquire of `hold`.
    mem.store(place.descriptor(slot), after.0, Ordering::Release);
    Ok(before)
}

/// Takes a block out of use for ever. The caller has claimed the descriptor, and its slot's bit is clear.
pub(crate) fn retire<M: Mem>(mem: &M, at: usize) {
    // Release: as `commit`; nothing follows it.
    mem.store(at, Descriptor::retired().0, Ordering::Release);
}

/// Makes a held slot a superblock, whose word is `word`. `false` if there is one already: damage.
pub(crate) fn carve<M: Mem>(mem: &M, held: Held, word: usize, slots: Slots) -> bool {
    // Release: partner is the Acquire of `take`.
    let made =
        mem.compare_exchange(word, Slots::NONE.0, slots.0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    outlast_probe::probe!("groove.carve.made", word as u64);
    let_go(mem, held);
    made
}

/// Makes an open root a superblock.
pub(crate) fn carve_root<M: Mem>(mem: &M, word: usize, slots: Slots) -> bool {
    // Release: partner is the Acquire of `take`; Acquire: partner is the Release of `release_root`.
    mem.compare_exchange(word, Slots::OPEN.0, slots.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// The word of a superblock if no slot of it is in use: every one free or retired. `first` is what the first
/// descriptor was, if the caller holds it.
fn unused<M: Mem>(mem: &M, place: Place, slot_count: u32, first: Option<Descriptor>) -> Option<Slots> {
    // Acquire: partner is the Release of who gave the last slot back.
    let slots = Slots(mem.load(place.word, Ordering::Acquire));
    if slots.class() != place.class {
        return None;
    }
    let is_unused = |slot: u32| {
        // Acquire: partner is the Release of `retire`, so that what its last owner did to the slot comes before
        // what the next owner of the whole does.
        let load = || Descriptor(mem.load(place.descriptor(slot), Ordering::Acquire));
        slots.has(slot) || first.filter(|_| slot == 0).unwrap_or_else(load).state() == State::Retired
    };
    (0..slot_count).all(is_unused).then_some(slots)
}

/// Gives a superblock without objects back to the one that it is a slot of. Whether it was given back.
pub(crate) fn release<M: Mem>(
    mem: &M,
    place: Place,
    slot_count: u32,
    parent: Place,
    slot: u32,
    claim: Claim,
    announce: impl FnOnce(usize),
) -> bool {
    if unused(mem, place, slot_count, None).is_none() {
        return false;
    }
    // Relaxed: acted upon only by an exchange of the very value.
    let before = Descriptor(mem.load(place.first, Ordering::Relaxed));
    if !matches!(before.state(), State::Free | State::Retired) {
        return false;
    }
    announce(place.first);
    crash_fence();
    if !hold(mem, place.first, before, claim) {
        return false;
    }
    crash_fence();
    outlast_probe::probe!("groove.release.held", place.first as u64);
    let held = Held { slot, at: place.first, before };
    // AcqRel: closes the superblock; partner are `take` and `give_back`.
    let closed = unused(mem, place, slot_count, Some(before)).is_some_and(|slots| {
        mem.compare_exchange(place.word, slots.0, Slots::NONE.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    });
    outlast_probe::probe!("groove.release.closed", place.word as u64);
    if !closed {
        let_go(mem, held);
        return false;
    }
    crash_fence();
    give_back(mem, parent, slot, before).is_ok()
}

/// Makes a root without objects open again. Whether it did.
pub(crate) fn release_root<M: Mem>(mem: &M, place: Place, slot_count: u32) -> bool {
    unused(mem, place, slot_count, None).is_some_and(|slots| {
        // Release: partner is the Acquire of `carve_root`.
        mem.compare_exchange(place.word, slots.0, Slots::OPEN.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    })
}

//! Finishing what a dead joiner was in the middle of, while others go on.
//!
//! A joiner holds at most one descriptor at a time, and its seat says which before it is touched. So there is one
//! place to look at for each dead seat, and what stands there says whether it is that seat's.
//!
//! # Invariants
//! - A seat is taken from its dead owner by an exchange of the very word that was judged; whoever dies while adopting
//!   is adopted in turn, and finds the same.
//! - A descriptor that is held or freeing in a dead seat's name is touched by nobody but the adopter.

use outlast_probe::sync::{Ordering, crash_fence};
use outlast_shm::{JoinerInfo, Liveness};

use crate::class::Home;
use crate::control::{Control, Owner};
use crate::error::AccessError;
use crate::groove::{Groove, Inner, Mapped};
use crate::layout::SEAT_MAX;
use crate::slot;
use crate::verify::below;
use crate::volume::Volume;
use crate::word::{Claim, Descriptor, Slots, State};

/// What was found in the hands of the dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Adopted {
    /// Seats that are free again.
    pub seats: u64,
    /// Slots that were being taken, made into superblocks, or given back: free again.
    pub undone: u64,
    /// Frees that were under way: finished.
    pub finished_frees: u64,
}

impl Groove {
    /// Finishes or undoes what dead joiners were in the middle of, and frees their seats, beside live traffic. Calls
    /// do so by themselves before they say that a groove is full. Some system calls for each joiner.
    ///
    /// # Errors
    /// [`AccessError::Region`] if a volume cannot be mapped.
    pub fn adopt(&self) -> Result<Adopted, AccessError> {
        self.inner.adopt(&self.inner.up_to_date()?)
    }
}

impl Inner {
    pub(crate) fn adopt(&self, mapped: &Mapped) -> Result<Adopted, AccessError> {
        let mut adopted = Adopted::default();
        // Seats first: whoever had one by then was in the joiner table before it was read.
        let taken = |seat| self.control.seat_owner(seat).map(|owner| (seat, owner));
        let taken: Vec<(u32, Owner)> = (0..SEAT_MAX as u32).filter_map(taken).collect();
        let joiners = self.control.region.joiners();
        let here = self.control.identity_in(&joiners)?;
        for (seat, owner) in taken.into_iter().filter(|(_, owner)| is_dead(*owner, &joiners)) {
            let Some(owner) = self.control.take_over_seat(seat, owner, here) else { continue };
            outlast_probe::probe!("groove.adopt.taken_over", seat);
            let claim = Claim::new(seat, owner.sequence(), 0);
            let (volume, at) = self.control.intent(claim);
            match mapped.volume(volume).and_then(|volume| finish(volume, at, claim)) {
                Some(State::Held) => adopted.undone += 1,
                Some(_) => adopted.finished_frees += 1,
                None => {}
            }
            outlast_probe::probe!("groove.adopt.finished", seat);
            self.control.leave_seat(claim);
            adopted.seats += 1;
        }
        Ok(adopted)
    }
}

/// Whether the process that has a seat is dead: it has left without giving it back, or another has its place in the
/// joiner table, or its death is proved.
fn is_dead(owner: Owner, joiners: &[JoinerInfo]) -> bool {
    let info = joiners.iter().find(|info| info.slot.index() == owner.slot());
    info.is_none_or(|info| info.liveness == Liveness::Dead || info.intact && !owner.is_of(info))
}

/// Puts right the slot that begins at a descriptor, if it is in the hand of `claim`'s owner. Returns what it was.
fn finish(volume: &Volume, at: usize, claim: Claim) -> Option<State> {
    let (root, offset) = volume.block_of(at)?;
    let words = volume.words();
    // Acquire: partner is the Release of the dead one's stores, as far as they got.
    let word = Descriptor(words.load(at, Ordering::Acquire));
    let is_ours = matches!(word.state(), State::Held | State::Freeing) && word.claim().is_same_owner(claim);
    let class = word.claim().class();
    let shape = volume.geometry.shape;
    if !is_ours || shape.class_count <= class {
        return None;
    }
    let home = shape.home(class);
    let first = home.superblock_of(offset);
    let slot = home.slot_of(first, offset)?;
    if word.state() == State::Freeing && word.generation() == u32::MAX {
        slot::retire(&words, at);
        return Some(word.state());
    }
    let after = Descriptor::free(word.generation());
    let place = volume.place(class, home, root, first);
    let owes_bit = below(volume, class, root, offset).is_none();
    match owes_bit.then(|| slot::give_back(&words, place, slot, after)) {
        Some(Ok(before)) if before.free() == 0 => hint(volume, home, root, first),
        Some(Ok(_)) => {}
        // The bit is there already, or a superblock has been made of the slot: only the descriptor is owed.
        Some(Err(_)) | None => {
            crash_fence();
            // Release: partner is the Acquire of `slot::take`.
            words.store(at, after.0, Ordering::Release);
        }
    }
    Some(word.state())
}

fn hint(volume: &Volume, home: &Home, root: u32, first: u32) {
    let number = volume.geometry.shape.superblock_in_level(home.level, root, first);
    volume.bits(home).set(&volume.words(), number);
}

const _: () = assert!(Slots::NONE.0 == 0, "`below` finds no superblock in zeros");

impl Control {
    /// The volume and the descriptor that a seat's owner has announced last.
    fn intent(&self, claim: Claim) -> (usize, usize) {
        let word = self.intent_word(claim);
        (((word >> 32) as usize).wrapping_sub(1), word as u32 as usize)
    }
}

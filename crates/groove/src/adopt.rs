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
use crate::groove::{Groove, Inner};
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
        self.inner.adopt()
    }
}

impl Inner {
    pub(crate) fn adopt(&self) -> Result<Adopted, AccessError> {
        let mut adopted = Adopted::default();
        // Seats first: whoever had one by then was in the joiner table before it was read.
        let taken = |seat| self.control.seat_owner(seat).map(|owner| (seat, owner));
        let taken: Vec<(u32, Owner)> = (0..SEAT_MAX as u32).filter_map(taken).collect();
        let joiners = self.control.joiners()?;
        let dead: Vec<_> = taken.into_iter().filter(|(_, owner)| is_dead(*owner, &joiners)).collect();
        if dead.is_empty() {
            return Ok(adopted);
        }
        let here = self.control.identity_in(&joiners)?;
        // Now that they are dead: a volume in which they hold something is in the table, and stays.
        let mapped = self.up_to_date()?;
        for (seat, owner) in dead {
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
    // One that is held and used up was retired, and is the first of a superblock that was being given back.
    let after = word.let_go_of();
    if word.state() == State::Freeing && after.state() == State::Retired {
        slot::retire(&words, at);
        return Some(word.state());
    }
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

#[cfg(test)]
mod tests {
    use outlast_shm::Domain;

    use super::*;
    use crate::groove::CreateOptions;
    use crate::layout::{seat, seat_at};
    use crate::object::ObjRef;

    const SEAT: u32 = 9;

    /// Gives a seat to a process that there is not, which has announced a descriptor.
    fn seat_of_the_dead(groove: &Groove, volume: usize, at: usize) -> Claim {
        let control = &groove.inner.control;
        let owner = 1 << 63 | 200 << 48 | 7 << 32 | 1;
        control.words().store(seat_at(SEAT as usize) + seat::OWNER, owner, Ordering::Relaxed);
        let claim = Claim::new(SEAT, 1, 0);
        control.intent_of(claim).announce(volume, at);
        claim
    }

    fn ground() -> (tempfile::TempDir, Domain, Groove) {
        let directory = tempfile::tempdir().unwrap();
        let domain = Domain::open(&directory.path().join("domain")).unwrap();
        let options = CreateOptions { volume_bytes: 2 << 20 };
        let groove = Groove::create(&domain, &"g".parse().unwrap(), &options).unwrap();
        groove.add_volume(b"").unwrap();
        (directory, domain, groove)
    }

    /// The volume came after this process had looked at the table of volumes last.
    #[test]
    fn what_is_held_in_a_volume_that_is_new_here_is_let_go() {
        let (_directory, domain, groove) = ground();
        let other = Groove::open(&domain, &"g".parse().unwrap()).unwrap();
        let index = other.add_volume(b"").unwrap();
        let mapped = other.inner.up_to_date().unwrap();
        let volume = mapped.volume(index).unwrap();
        let at = volume.geometry.descriptor_at(0, 0);
        let claim = seat_of_the_dead(&groove, index, at);
        volume.words().store(at, Descriptor::held(3, claim).0, Ordering::Relaxed);
        let found = groove.inner.adopt().unwrap();
        assert_eq!(found, Adopted { seats: 1, undone: 1, finished_frees: 0 });
        assert_eq!(volume.descriptor(0, 0), Descriptor::free(3));
    }

    /// Its owner died while it gave a superblock back whose first slot is retired.
    #[test]
    fn what_was_retired_stays_so() {
        let (_directory, _domain, groove) = ground();
        let joiner = groove.joiner().unwrap();
        let object = joiner.alloc(1, 0, 0).unwrap();
        let mapped = groove.inner.up_to_date().unwrap();
        let volume = mapped.volume(0).unwrap();
        let (root, offset) = volume.locate(object).unwrap();
        let at = volume.geometry.descriptor_at(root, offset);
        let last = volume.descriptor(root, offset).with_generation(u32::MAX);
        volume.words().store(at, last.0, Ordering::Relaxed);
        joiner.free(ObjRef::new(0, root, offset, u32::MAX)).unwrap();
        assert_eq!(volume.descriptor(root, offset), Descriptor::retired());
        let parent = volume.geometry.shape.home(0).parent;
        let claim = seat_of_the_dead(&groove, 0, at).with_class(parent);
        volume.words().store(at, Descriptor::held(u32::MAX, claim).0, Ordering::Relaxed);
        assert_eq!(groove.adopt().unwrap().undone, 1);
        assert_eq!(volume.descriptor(root, offset), Descriptor::retired());
        assert_eq!(groove.verify().unwrap().faults, vec![]);
    }
}

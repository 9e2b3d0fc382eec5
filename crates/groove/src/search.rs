//! Finding a slot when the current superblock has none: hints, then a new superblock, then every superblock.
//!
//! # Invariants
//! - A thorough search looks at each superblock of the class: if it finds nothing, there was a moment at which each
//!   one had nothing to give.

use std::sync::Arc;

use crate::class::Home;
use crate::error::{Fault, FaultKind};
use crate::groove::Inner;
use crate::joiner::{Current, Desk};
use crate::layout::ROOT_COUNT;
use crate::slot::{self, Held, Missing};
use crate::volume::Volume;
use crate::word::{Claim, Slots};

/// How many new superblocks in a row may be used up by others before they are cut.
const TRIES: u32 = 64;

/// A slot, held, and the superblock that it is of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) current: Current,
    pub(crate) held: Held,
}

/// One search.
pub(crate) struct Search<'d> {
    inner: &'d Inner,
    claim: Claim,
    desk: &'d mut Desk,
}

impl<'d> Search<'d> {
    pub(crate) fn new(inner: &'d Inner, claim: Claim, desk: &'d mut Desk) -> Self {
        Self { inner, claim, desk }
    }

    /// Takes a slot of a class, and makes its superblock the current one.
    pub(crate) fn take(&mut self, class: usize, thorough: bool) -> Result<Option<Found>, Fault> {
        let found = match self.desk.current[class].and_then(|current| self.try_take(class, current).ok()) {
            Some(found) => Some(found),
            None => match self.hinted(class) {
                Some(found) => Some(found),
                None if thorough => match self.anywhere(class) {
                    Some(found) => Some(found),
                    None => self.cut(class, thorough)?,
                },
                None => self.cut(class, thorough)?,
            },
        };
        self.desk.current[class] = found.map(|found| found.current);
        Ok(found)
    }

    /// The volumes that may be allocated in.
    fn volumes(&self) -> Vec<Arc<Volume>> {
        let open = self.desk.mapped.open.iter();
        open.filter_map(|index| self.desk.mapped.volume(*index).cloned()).collect()
    }

    fn try_take(&self, class: usize, current: Current) -> Result<Found, Missing> {
        let volume = self.desk.mapped.volume(current.volume).ok_or(Missing::Gone)?;
        let claim = self.claim.with_class(class);
        let announce = |word| self.inner.announce(claim, current.volume, word);
        let held = slot::take(&volume.words(), current.place, claim, announce)?;
        Ok(Found { current, held })
    }

    fn current(volume: &Volume, class: usize, home: &Home, root: u32, offset: u32) -> Current {
        let place = volume.place(class, home, root, offset);
        Current { volume: volume.index, root, offset, place, slot_blocks: home.slot_blocks }
    }

    /// A slot of a superblock whose bit says that it may have one.
    fn hinted(&self, class: usize) -> Option<Found> {
        for volume in self.volumes() {
            let shape = volume.geometry.shape;
            let home = shape.home(class);
            let bits = volume.bits(home);
            let words = volume.words();
            let mut busy = Vec::new();
            // As many as there are, in case somebody sets bits as fast as they are cleared.
            let count = ROOT_COUNT * shape.per_root[home.level];
            for _ in 0..count {
                let Some(number) = bits.take(&words, bits.words * 2) else { break };
                if count <= number {
                    continue;
                }
                let (root, offset) = shape.superblock_place(home.level, number);
                match self.try_take(class, Self::current(&volume, class, home, root, offset)) {
                    Ok(found) => {
                        busy.into_iter().for_each(|number| bits.set(&words, number));
                        return Some(found);
                    }
                    // A bit that was set late, or by somebody hostile.
                    Err(Missing::Gone | Missing::Full) => {}
                    Err(Missing::Busy(_)) => busy.push(number),
                }
            }
            busy.into_iter().for_each(|number| bits.set(&words, number));
        }
        None
    }

    /// A slot of any superblock of the class, whoever prefers it.
    fn anywhere(&self, class: usize) -> Option<Found> {
        for volume in self.volumes() {
            let home = volume.geometry.shape.home(class);
            for at in volume.superblocks().filter(|at| at.level == home.level) {
                if volume.superblock(at).0.class() != class {
                    continue;
                }
                let current = Self::current(&volume, class, home, at.root, at.offset);
                if let Ok(found) = self.try_take(class, current) {
                    return Some(found);
                }
            }
        }
        None
    }

    /// A slot of a new superblock.
    fn cut(&mut self, class: usize, thorough: bool) -> Result<Option<Found>, Fault> {
        let home = *self.inner.control.geometry.shape.home(class);
        let whole = Slots::new(class, home.mask());
        for _ in 0..TRIES {
            let current = if home.level == 0 {
                self.cut_root(class, &home, whole)
            } else {
                self.cut_slot(class, &home, whole, thorough)?
            };
            let Some(current) = current else { return Ok(None) };
            match self.try_take(class, current) {
                Ok(found) => return Ok(Some(found)),
                // Others were faster to use it up, or to give it back as unused; or they still hold all of its slots
                // from what was here before, and the next one is another.
                Err(Missing::Full | Missing::Gone | Missing::Busy(_)) => {}
            }
        }
        Ok(None)
    }

    fn cut_root(&self, class: usize, home: &Home, whole: Slots) -> Option<Current> {
        for volume in self.volumes() {
            for root in 0..ROOT_COUNT {
                let current = Self::current(&volume, class, home, root, 0);
                if slot::carve_root(&volume.words(), current.place.word, whole) {
                    outlast_probe::probe!("groove.carve.root", root);
                    return Some(current);
                }
            }
        }
        None
    }

    fn cut_slot(
        &mut self,
        class: usize,
        home: &Home,
        whole: Slots,
        thorough: bool,
    ) -> Result<Option<Current>, Fault> {
        let Some(parent) = self.take(home.parent, thorough)? else { return Ok(None) };
        let Current { volume, root, offset, slot_blocks, .. } = parent.current;
        let Some(volume) = self.desk.mapped.volume(volume) else { return Ok(None) };
        let offset = offset + parent.held.slot * slot_blocks;
        let current = Self::current(volume, class, home, root, offset);
        if slot::carve(&volume.words(), parent.held, current.place.word, whole) {
            return Ok(Some(current));
        }
        Err(volume.fault(FaultKind::FreeSlot, current.place.word, 0, whole.0))
    }
}

#[cfg(test)]
mod tests {
    use outlast_probe::sync::Ordering;
    use outlast_shm::Domain;

    use crate::groove::{CreateOptions, Groove};
    use crate::layout::ROOT_COUNT;
    use crate::word::{Claim, Descriptor};

    fn ground(volumes: usize) -> (tempfile::TempDir, Groove) {
        let directory = tempfile::tempdir().unwrap();
        let domain = Domain::open(&directory.path().join("domain")).unwrap();
        let options = CreateOptions { volume_bytes: 2 << 20 };
        let groove = Groove::create(&domain, &"g".parse().unwrap(), &options).unwrap();
        for _ in 0..volumes {
            groove.add_volume(b"").unwrap();
        }
        (directory, groove)
    }

    /// Who stalls while it frees the slots of a root that has been given back meanwhile withholds that root only.
    #[test]
    fn a_root_whose_slots_are_all_held_is_passed_over() {
        let (_directory, groove) = ground(1);
        let mapped = groove.inner.up_to_date().unwrap();
        let volume = mapped.volume(0).unwrap();
        let joiner = groove.joiner().unwrap();
        let half = volume.geometry.shape.root_blocks / 2;
        for (seat, offset) in [(700, 0), (701, half)] {
            let at = volume.geometry.descriptor_at(0, offset);
            let class = volume.geometry.shape.class_count - 1;
            let freeing = Descriptor::freeing(1, Claim::new(seat, 1, class));
            volume.words().store(at, freeing.0, Ordering::Relaxed);
        }
        let most = groove.object_bytes_max();
        assert_eq!(joiner.alloc(most, 0, 0).unwrap().root(), 1);
        let more = (0..).take_while(|_| joiner.alloc(most, 0, 0).is_ok()).count();
        assert_eq!(more, 2 * (ROOT_COUNT as usize - 1) - 1);
    }

    /// The current superblock is of one volume; the one at the same place in another is not.
    #[test]
    fn a_slot_that_was_freed_in_another_volume_is_found_before_a_superblock_is_cut() {
        let (_directory, groove) = ground(2);
        let joiner = groove.joiner().unwrap();
        let slots = groove.inner.control.geometry.shape.home(0).slots;
        groove.drain(1).unwrap();
        let first: Vec<_> = (0..slots).map(|_| joiner.alloc(1, 0, 0).unwrap()).collect();
        groove.drain(0).unwrap();
        groove.end_drain(1).unwrap();
        let second: Vec<_> = (0..slots).map(|_| joiner.alloc(1, 0, 0).unwrap()).collect();
        assert_eq!((first[0].volume(), second[0].volume()), (0, 1));
        // The current superblock is the second, at the place of the first.
        groove.end_drain(0).unwrap();
        joiner.free(first[5]).unwrap();
        assert_eq!(joiner.alloc(1, 0, 0).unwrap().block(), first[5].block());
    }

    /// Who stalls with a slot of each of two superblocks in hand hides neither when it lets go.
    #[test]
    fn superblocks_that_were_busy_are_found_again() {
        let (_directory, groove) = ground(1);
        let mapped = groove.inner.up_to_date().unwrap();
        let volume = mapped.volume(0).unwrap();
        let joiner = groove.joiner().unwrap();
        let slots = volume.geometry.shape.home(0).slots as usize;
        let objects: Vec<_> = (0..2 * slots).map(|_| joiner.alloc(1, 0, 0).unwrap()).collect();
        drop(joiner);
        let joiner = groove.joiner().unwrap();
        let freed = [objects[5], objects[slots + 5]];
        let at = freed.map(|object| volume.geometry.descriptor_at(object.root(), object.offset()));
        freed.into_iter().for_each(|object| joiner.free(object).unwrap());
        let hold = |word: Descriptor| at.map(|at| volume.words().store(at, word.0, Ordering::Relaxed));
        hold(Descriptor::held(1, Claim::new(700, 1, 0)));
        let third = joiner.alloc(1, 0, 0).unwrap();
        assert!(!freed.iter().any(|object| object.block() == third.block()));
        hold(Descriptor::free(1));
        let other = groove.joiner().unwrap();
        for object in freed {
            assert_eq!(other.alloc(1, 0, 0).unwrap().block(), object.block());
        }
    }
}

//! Looking at a volume: what is there, how much room is left, and whether the rules hold.
//!
//! # Invariants
//! - Nothing here stores. Walks go from a superblock to its slots only, at most four levels down, so they end
//!   whatever the words hold.

use outlast_probe::sync::{Ordering, fence};

use crate::class::{Home, blocks_of_bytes, class_of_blocks};
use crate::error::{AccessError, Fault, FaultKind};
use crate::groove::Groove;
use crate::layout::{BLOCK_BYTES, CLASS_NONE, DESCRIPTOR_WORDS, ROOT_COUNT};
use crate::object::{ObjRef, ObjectInfo};
use crate::volume::{Superblock, Volume};
use crate::word::{Descriptor, Slots, State};

/// What a look at volumes has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Report {
    /// Objects.
    pub objects: u64,
    /// Bytes that they were asked for.
    pub object_bytes: u64,
    /// Bytes that are reserved for them.
    pub reserved_bytes: u64,
    /// Superblocks, roots included.
    pub superblocks: u64,
    /// Those of them without objects.
    pub empty_superblocks: u64,
    /// Blocks that have no generation left.
    pub retired_blocks: u64,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }
}

/// How much of a volume is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Room {
    pub(crate) free_bytes: u64,
    pub(crate) reclaimable_bytes: u64,
    /// A seat that holds a slot right now.
    pub(crate) held_by: Option<u32>,
}

impl Groove {
    /// Checks every rule in all volumes, while nobody uses the groove: a call that is under way, or was cut short,
    /// shows as a fault.
    ///
    /// # Errors
    /// [`AccessError::Region`] if a volume cannot be mapped.
    pub fn verify(&self) -> Result<Report, AccessError> {
        let mapped = self.inner.up_to_date()?;
        let mut report = Report::default();
        mapped.all().for_each(|volume| verify(volume, &mut report));
        Ok(report)
    }

    /// As [`verify`](Self::verify), of one volume; nothing is found in one that there is not. Volumes can be
    /// verified by several threads at a time.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub fn verify_volume(&self, index: usize) -> Result<Report, AccessError> {
        let mapped = self.inner.up_to_date()?;
        let mut report = Report::default();
        mapped.volume(index).into_iter().for_each(|volume| verify(volume, &mut report));
        Ok(report)
    }

    /// Checks, beside live traffic, what holds at every instant: each object lies in a slot that is in use, of a
    /// superblock of its class, and so up to a root.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub fn verify_softly(&self) -> Result<Report, AccessError> {
        let mapped = self.inner.up_to_date()?;
        let mut report = Report::default();
        mapped.all().for_each(|volume| verify_softly(volume, &mut report));
        Ok(report)
    }
}

/// The class of an object, from its descriptor, if it can lie at this block.
pub(crate) fn class_of(volume: &Volume, offset: u32, word: Descriptor) -> Option<(usize, &'static Home)> {
    let shape = volume.geometry.shape;
    if shape.object_bytes_max() < word.size_bytes().into() || 9 < word.align_log2() {
        return None;
    }
    let class = class_of_blocks(blocks_of_bytes(word.size_bytes().into()) as u32);
    let home = shape.home(class);
    home.slot_of(home.superblock_of(offset), offset).map(|_| (class, home))
}

/// Everything about the object that begins at a block and has this descriptor.
pub(crate) fn describe(
    volume: &Volume,
    root: u32,
    offset: u32,
    word: Descriptor,
) -> Result<ObjectInfo, Fault> {
    let at = volume.geometry.descriptor_at(root, offset);
    let fault = || volume.fault(FaultKind::Extent, at, 0, word.0);
    let (class, home) = class_of(volume, offset, word).ok_or_else(fault)?;
    let start = volume.data_offset(root, offset);
    Ok(ObjectInfo {
        reference: ObjRef::new(volume.index, root, offset, word.generation()),
        size_bytes: word.size_bytes().into(),
        align: 1 << word.align_log2(),
        // Relaxed: the caller looks at the descriptor again.
        tag: volume.words().load(at + 1, Ordering::Relaxed),
        class,
        slot: home.slot_of(home.superblock_of(offset), offset).ok_or_else(fault)?,
        start,
        stop: start + u64::from(home.slot_blocks) * BLOCK_BYTES,
    })
}

/// The objects of a volume; one that is freed or made meanwhile may be among them or not.
pub(crate) fn objects(volume: &Volume) -> impl Iterator<Item = ObjectInfo> + '_ {
    let blocks =
        (0..ROOT_COUNT).flat_map(|root| (0..volume.geometry.shape.root_blocks).map(move |b| (root, b)));
    blocks.filter_map(|(root, offset)| {
        let word = volume.descriptor(root, offset);
        if word.state() != State::Live {
            return None;
        }
        let object = describe(volume, root, offset, word).ok()?;
        // As in `Joiner::read`: everything above is of one object if the descriptor is still the same.
        fence(Ordering::Acquire);
        (volume.descriptor(root, offset) == word).then_some(object)
    })
}

/// The object that a block is part of.
pub(crate) fn object_around(volume: &Volume, root: u32, offset: u32) -> Option<ObjRef> {
    let mut at = Superblock { level: 0, root, offset: 0 };
    loop {
        let (slots, Some((class, home))) = volume.superblock(at) else { return None };
        let slot = home.slot_around(at.offset, offset).filter(|slot| !slots.has(*slot))?;
        let start = at.offset + slot * home.slot_blocks;
        match below(volume, class, root, start) {
            Some(child) => at = child,
            None => {
                let word = volume.descriptor(root, start);
                let is_object = word.state() == State::Live
                    && class_of(volume, start, word).is_some_and(|(found, _)| found == class);
                return is_object.then(|| ObjRef::new(volume.index, root, start, word.generation()));
            }
        }
    }
}

/// The superblock that a slot of `class` is, if it is one.
pub(crate) fn below(volume: &Volume, class: usize, root: u32, offset: u32) -> Option<Superblock> {
    let shape = volume.geometry.shape;
    // Classes of one parent share a level, so the first says which.
    let level = (0..class).map(|small| shape.home(small)).find(|home| home.parent == class)?.level;
    let at = Superblock { level, root, offset };
    (volume.superblock(at).0 != Slots::NONE).then_some(at)
}

/// Adds up what is free.
pub(crate) fn room(volume: &Volume) -> Room {
    let mut room = Room::default();
    for at in volume.superblocks() {
        let (slots, Some((_, home))) = volume.superblock(at) else { continue };
        let bytes = u64::from(slots.free().count_ones() * home.slot_blocks) * BLOCK_BYTES;
        room.free_bytes += bytes;
        if slots.free() == home.mask() {
            room.reclaimable_bytes += bytes;
        }
        for slot in (0..home.slots).filter(|slot| slots.has(*slot)) {
            let word = volume.descriptor(at.root, at.offset + slot * home.slot_blocks);
            if matches!(word.state(), State::Held | State::Freeing) {
                room.held_by = Some(word.claim().seat());
            }
        }
    }
    room
}

/// Counts an object.
fn count(report: &mut Report, word: Descriptor, home: &Home) {
    report.objects += 1;
    report.object_bytes += u64::from(word.size_bytes());
    report.reserved_bytes += u64::from(home.slot_blocks) * BLOCK_BYTES;
}

/// Walks from the roots to every slot, then holds the objects that were met against those that there are.
fn verify(volume: &Volume, report: &mut Report) {
    let before = report.objects;
    for root in 0..ROOT_COUNT {
        let at = Superblock { level: 0, root, offset: 0 };
        let slots = volume.superblock(at).0;
        // Closed ones are those of a volume that is being removed.
        if slots != Slots::OPEN && slots != Slots::NONE {
            verify_superblock(volume, at, report);
        }
    }
    let (there, _) = volume.census();
    let met = report.objects - before;
    if there != met {
        let at = volume.geometry.descriptors_at();
        report.faults.push(volume.fault(FaultKind::Overlap, at, met, there));
    }
}

fn verify_superblock(volume: &Volume, at: Superblock, report: &mut Report) {
    let word = volume.slots_at(at);
    let (slots, found) = volume.superblock(at);
    let Some((class, home)) = found else {
        report.faults.push(volume.fault(FaultKind::Class, word, 0, slots.0));
        return;
    };
    report.superblocks += 1;
    report.empty_superblocks += u64::from(slots.free() == home.mask());
    if slots.free() & !home.mask() != 0 {
        report.faults.push(volume.fault(FaultKind::SlotBits, word, home.mask(), slots.free()));
    }
    for slot in 0..home.slots {
        let offset = at.offset + slot * home.slot_blocks;
        let descriptor_at = volume.geometry.descriptor_at(at.root, offset);
        let word = volume.descriptor(at.root, offset);
        let child = below(volume, class, at.root, offset);
        let mut fault = |what| report.faults.push(volume.fault(what, descriptor_at, 0, word.0));
        match (slots.has(slot), child, word.state()) {
            // Its first slot has the same descriptor, so whatever that says is said there.
            (false, Some(child), _) => verify_superblock(volume, child, report),
            (_, _, State::Damaged) => fault(FaultKind::State),
            (_, _, State::Held | State::Freeing) => fault(FaultKind::LostSlot),
            (true, None, State::Free | State::Retired) => {}
            (true, ..) => fault(FaultKind::FreeSlot),
            (false, None, State::Free) => fault(FaultKind::LostSlot),
            (false, None, State::Retired) => report.retired_blocks += 1,
            (false, None, State::Live) => match class_of(volume, offset, word) {
                Some((found, _)) if found == class => count(report, word, home),
                _ => fault(FaultKind::Extent),
            },
        }
    }
}

/// Holds each object against the superblocks above it, as long as it is there.
fn verify_softly(volume: &Volume, report: &mut Report) {
    let words = volume.words();
    for root in 0..ROOT_COUNT {
        for offset in 0..volume.geometry.shape.root_blocks {
            let at = volume.geometry.descriptor_at(root, offset);
            let word = volume.descriptor(root, offset);
            if word.state() != State::Live {
                continue;
            }
            let wrong = match class_of(volume, offset, word) {
                Some((class, home)) => {
                    count(report, word, home);
                    chain_fault(volume, class, root, offset)
                }
                None => Some(volume.fault(FaultKind::Extent, at, 0, word.0)),
            };
            // Acquire: what was read above was so while the object was there, if it still is.
            fence(Ordering::Acquire);
            if words.load(at, Ordering::Relaxed) == word.0 {
                report.faults.extend(wrong);
            }
        }
    }
}

/// The first superblock above a slot that does not say that the slot is in use.
fn chain_fault(volume: &Volume, class: usize, root: u32, offset: u32) -> Option<Fault> {
    let (mut class, mut offset) = (class, offset);
    while class != CLASS_NONE {
        let home = volume.geometry.shape.home(class);
        let superblock = home.superblock_of(offset);
        let at = Superblock { level: home.level, root, offset: superblock };
        let slots = volume.superblock(at).0;
        let slot = home.slot_of(superblock, offset);
        if slots.class() != class || slot.is_none_or(|slot| slots.has(slot)) {
            let expected = Slots::new(class, 0).0;
            return Some(volume.fault(FaultKind::Overlap, volume.slots_at(at), expected, slots.0));
        }
        (class, offset) = (home.parent, superblock);
    }
    None
}

const _: () = assert!(DESCRIPTOR_WORDS == 2, "the tag follows the state");

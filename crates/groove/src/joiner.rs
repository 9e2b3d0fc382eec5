//! What one thread uses a groove through: allocate, free, copy in and out.
//!
//! # Invariants
//! - A joiner's *current* superblock of a class is a preference, not a possession: whoever looks may take slots of
//!   it, and the joiner finds out by an exchange that fails. So who stalls or dies withholds at most the slot that
//!   it has in hand.
//! - Before the joiner touches a descriptor it writes which one into its seat.

use core::cell::RefCell;
use std::sync::Arc;

use outlast_probe::sync::{Ordering, fence};
use outlast_shm::Words;

use crate::class::{blocks_of_bytes, class_of_blocks};
use crate::error::{AccessError, AllocError, FaultKind, FullCause, RefError};
use crate::groove::{Inner, Mapped};
use crate::layout::{ALIGN_MAX, BLOCK_BYTES, CLASS_COUNT};
use crate::object::{ObjRef, ObjectInfo};
use crate::search::{Found, Search};
use crate::slot::{self, Held, Place};
use crate::trim::{self, Trimmed};
use crate::volume::Volume;
use crate::word::{Claim, Descriptor, State};

/// How often a call begins anew because a word that it has checked is another one by now: more only where somebody
/// hostile writes.
const TRIES: u32 = 64;
/// Alignment of who asks for none.
const ALIGN_DEFAULT: u64 = 16;

/// A superblock that a joiner tries first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Current {
    pub(crate) volume: usize,
    pub(crate) root: u32,
    /// Its first block.
    pub(crate) offset: u32,
    pub(crate) place: Place,
    /// Blocks of a slot.
    pub(crate) slot_blocks: u32,
}

/// What a joiner knows, by itself.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) mapped: Mapped,
    pub(crate) current: [Option<Current>; CLASS_COUNT],
}

/// A thread's place in a groove. It can be sent to another thread, not shared; dropping it gives the seat back.
///
/// Calls are lock-free, and only those that map or unmap a volume make a system call. A forked child must take a
/// joiner of its own.
#[derive(Debug)]
pub struct Joiner {
    pub(crate) inner: Arc<Inner>,
    pub(crate) claim: Claim,
    desk: RefCell<Desk>,
}

/// An object found by a reference.
#[derive(Debug, Clone, Copy)]
struct Target {
    root: u32,
    offset: u32,
    word: Descriptor,
}

impl Target {
    #[inline]
    fn is_live(&self, reference: ObjRef) -> bool {
        self.word.is_live(reference.generation())
    }
}

impl Joiner {
    pub(crate) fn new(inner: &Arc<Inner>) -> Result<Self, AccessError> {
        let mapped = inner.up_to_date()?;
        let claim = match inner.control.take_seat() {
            Err(AccessError::Seats { .. }) => {
                inner.adopt()?;
                inner.control.take_seat()?
            }
            other => other?,
        };
        let desk = RefCell::new(Desk { mapped, current: [None; CLASS_COUNT] });
        Ok(Self { inner: Arc::clone(inner), claim, desk })
    }

    /// Number of the seat, which is this joiner's alone as long as it lives.
    pub fn seat(&self) -> u32 {
        self.claim.seat()
    }

    /// Allocates an object of `size_bytes`, which may be 0, at a power of two up to 512, or 0 for 16.
    ///
    /// When it has returned, the object is there whatever dies. About 25 ns; when nothing is free at hand, some
    /// microseconds to cut a superblock, and before it reports [`AllocError::Full`] it has
    /// [trimmed](Self::trim) and looked everywhere. Never waits for anybody. The bytes are those of whoever had
    /// them last.
    ///
    /// # Errors
    /// [`AllocError::TooLarge`], [`AllocError::Align`]; [`AllocError::Full`] with the cause.
    pub fn alloc(&self, size_bytes: u64, align: u64, tag: u64) -> Result<ObjRef, AllocError> {
        let align = if align == 0 { ALIGN_DEFAULT } else { align };
        if !align.is_power_of_two() || ALIGN_MAX < align {
            return Err(AllocError::Align { align });
        }
        let max_bytes = self.inner.control.geometry.shape.object_bytes_max();
        if max_bytes < size_bytes {
            return Err(AllocError::TooLarge { size_bytes, max_bytes });
        }
        // At most 20,480 by the check above.
        let class = class_of_blocks(blocks_of_bytes(size_bytes) as u32);
        let live = Descriptor::live(0, size_bytes as u32, align.trailing_zeros());
        let mut desk = self.desk.borrow_mut();
        self.notice_changes(&mut desk)?;
        if let Some(object) = self.alloc_at_hand(&desk, class, live, tag) {
            return Ok(object);
        }
        desk.current[class] = None;
        for _ in 0..TRIES {
            let Some(Found { current, held }) = self.search(&mut desk, class)? else {
                return Err(AllocError::Full { size_bytes, cause: self.cause(&desk) });
            };
            let Some(volume) = desk.mapped.volume(current.volume) else { continue };
            if let Some(object) = commit(volume, &volume.words(), current, held, live, tag) {
                return Ok(object);
            }
        }
        Err(AllocError::Full { size_bytes, cause: self.cause(&desk) })
    }

    /// Allocates in the current superblock of the class, if that has a slot.
    #[inline]
    fn alloc_at_hand(&self, desk: &Desk, class: usize, live: Descriptor, tag: u64) -> Option<ObjRef> {
        let current = desk.current[class]?;
        let volume = desk.mapped.volume(current.volume)?;
        let words = volume.words();
        let claim = self.claim.with_class(class);
        let announce = |word| self.inner.announce(claim, current.volume, word);
        let held = slot::take(&words, current.place, claim, announce).ok()?;
        commit(volume, &words, current, held, live, tag)
    }

    #[cold]
    #[inline(never)]
    fn search(&self, desk: &mut Desk, class: usize) -> Result<Option<Found>, AccessError> {
        let mut search = Search::new(&self.inner, self.claim, desk);
        if let Some(found) = search.take(class, false)? {
            return Ok(Some(found));
        }
        // What the dead had in hand may be what keeps a superblock from being given back.
        self.inner.adopt()?;
        // Whoever added a volume may have died before it told.
        self.inner.up_to_date()?;
        self.notice_changes(desk)?;
        self.trim_all(desk);
        Ok(Search::new(&self.inner, self.claim, desk).take(class, true)?)
    }

    #[cold]
    fn cause(&self, desk: &Desk) -> FullCause {
        if desk.mapped.open.is_empty() {
            return FullCause::NoVolume;
        }
        let (mut free_bytes, mut reclaimable_bytes) = (0, 0);
        for volume in desk.mapped.open.iter().filter_map(|index| desk.mapped.volume(*index)) {
            let room = crate::verify::room(volume);
            if let Some(seat) = room.held_by {
                return FullCause::Held { seat };
            }
            free_bytes += room.free_bytes;
            reclaimable_bytes += room.reclaimable_bytes;
        }
        FullCause::Fragmented { free_bytes, reclaimable_bytes }
    }

    /// Frees an object. Anybody may free anything. About 20 ns; never waits for anybody.
    ///
    /// # Errors
    /// One variant of [`RefError`] for each way not to be an object, exactly: of two that free the same object at
    /// the same time one succeeds and one has [`RefError::AlreadyFreed`] or [`RefError::Stale`].
    pub fn free(&self, reference: ObjRef) -> Result<(), RefError> {
        let mut desk = self.desk.borrow_mut();
        for _ in 0..TRIES {
            let Target { root, offset, word } = self.target(&mut desk, reference)?;
            let volume = self.volume_of(&desk, reference)?;
            let shape = volume.geometry.shape;
            let class = class_of_blocks(blocks_of_bytes(word.size_bytes().into()) as u32);
            let at = volume.geometry.descriptor_at(root, offset);
            let fault = || volume.fault(FaultKind::Extent, at, 0, word.0);
            if shape.class_count <= class {
                return Err(fault().into());
            }
            let home = shape.home(class);
            let superblock = home.superblock_of(offset);
            let slot = home.slot_of(superblock, offset).ok_or_else(fault)?;
            let place = volume.place(class, home, root, superblock);
            let claim = self.claim.with_class(class);
            let words = volume.words();
            self.inner.announce(claim, volume.index, at);
            if slot::begin_free(&words, at, word, claim).is_err() {
                // Somebody was faster; `target` says how it ended.
                continue;
            }
            outlast_probe::probe!("groove.free.begun", reference.block());
            if word.generation() == u32::MAX {
                slot::retire(&words, at);
                return Ok(());
            }
            let before = slot::give_back(&words, place, slot, Descriptor::free(word.generation()));
            let before = before.map_err(|found| volume.fault(FaultKind::Overlap, place.word, 0, found.0))?;
            let is_here = |current: Current| (current.volume, current.place) == (volume.index, place);
            let is_current = desk.current[class].is_some_and(is_here);
            if before.free() == 0 && !is_current {
                volume.bits(home).set(&words, shape.superblock_in_level(home.level, root, superblock));
            }
            return Ok(());
        }
        Err(self.explain(&desk, reference))
    }

    /// Follows the table of volumes if it has changed.
    #[inline]
    fn notice_changes(&self, desk: &mut Desk) -> Result<bool, AccessError> {
        if self.inner.control.epoch() == desk.mapped.epoch {
            return Ok(false);
        }
        self.follow_changes(desk)?;
        Ok(true)
    }

    #[cold]
    fn follow_changes(&self, desk: &mut Desk) -> Result<(), AccessError> {
        let before = core::mem::replace(&mut desk.mapped, self.inner.up_to_date()?);
        for current in &mut desk.current {
            let keep = |seen: &Current| {
                let same = |new: &Arc<Volume>, old: &Arc<Volume>| Arc::ptr_eq(new, old);
                let pair = desk.mapped.volume(seen.volume).zip(before.volume(seen.volume));
                desk.mapped.open.contains(&seen.volume) && pair.is_some_and(|(new, old)| same(new, old))
            };
            *current = current.take().filter(keep);
        }
        Ok(())
    }

    /// The object of a reference, or why there is none.
    #[inline]
    fn target(&self, desk: &mut Desk, reference: ObjRef) -> Result<Target, RefError> {
        if let Some(target) = self.look(desk, reference).filter(|found| found.is_live(reference)) {
            return Ok(target);
        }
        // What this process has mapped may be a volume that is gone; and whoever added one may have died before it
        // told.
        if !self.inner.is_as_mapped(&desk.mapped, reference.volume()) {
            self.inner.up_to_date()?;
        }
        if self.notice_changes(desk)?
            && let Some(target) = self.look(desk, reference).filter(|found| found.is_live(reference))
        {
            return Ok(target);
        }
        Err(self.explain(desk, reference))
    }

    #[inline]
    fn look(&self, desk: &Desk, reference: ObjRef) -> Option<Target> {
        let volume = desk.mapped.volume(reference.volume())?;
        let (root, offset) = volume.locate(reference)?;
        Some(Target { root, offset, word: volume.descriptor(root, offset) })
    }

    /// The volume of a target, which is mapped if the target was found.
    #[inline]
    fn volume_of<'d>(&self, desk: &'d Desk, reference: ObjRef) -> Result<&'d Arc<Volume>, RefError> {
        desk.mapped.volume(reference.volume()).ok_or(RefError::Foreign { reference })
    }

    /// Why a reference leads to no object.
    #[cold]
    fn explain(&self, desk: &Desk, reference: ObjRef) -> RefError {
        if reference.is_null() {
            return RefError::Null;
        }
        let Some(Target { root, offset, word }) = self.look(desk, reference) else {
            // A volume that is gone leaves the generation behind which no reference of it is.
            let gone = self.inner.control.base_of(reference.volume());
            return match reference.generation() <= gone {
                true => RefError::Stale { reference, found: gone },
                false => RefError::Foreign { reference },
            };
        };
        let base = desk.mapped.volume(reference.volume()).map_or(0, |volume| volume.base);
        let last = word.generation().max(base);
        match (reference.generation().cmp(&last), word.state()) {
            (core::cmp::Ordering::Less, _) => RefError::Stale { reference, found: last },
            (core::cmp::Ordering::Equal, _) if base == last => RefError::Stale { reference, found: last },
            (core::cmp::Ordering::Equal, State::Live) => RefError::Stale { reference, found: last },
            (core::cmp::Ordering::Equal, _) => RefError::AlreadyFreed { reference },
            (core::cmp::Ordering::Greater, _) => {
                let volume = desk.mapped.volume(reference.volume());
                match volume.and_then(|volume| crate::verify::object_around(volume, root, offset)) {
                    Some(object) if object.block() != reference.block() => {
                        RefError::Interior { reference, object }
                    }
                    _ => RefError::NeverAllocated { reference },
                }
            }
        }
    }

    /// What is to be known of an object.
    ///
    /// # Errors
    /// As [`free`](Self::free).
    pub fn info(&self, reference: ObjRef) -> Result<ObjectInfo, RefError> {
        let mut desk = self.desk.borrow_mut();
        let target = self.target(&mut desk, reference)?;
        let volume = self.volume_of(&desk, reference)?;
        let Target { root, offset, word } = target;
        let found = crate::verify::describe(volume, root, offset, word)?;
        // As in `read`: the tag is this object's only if the object is still there.
        fence(Ordering::Acquire);
        if volume.descriptor(root, offset) == word {
            return Ok(found);
        }
        Err(self.explain(&desk, reference))
    }

    /// Copies an object's bytes from `start` on. They are of this object if the call succeeds; what others write at
    /// the same time may arrive mixed with what was there.
    ///
    /// # Errors
    /// [`RefError::Range`]; as [`free`](Self::free), also if the object is freed meanwhile.
    pub fn read(&self, reference: ObjRef, start: u64, into: &mut [u8]) -> Result<(), RefError> {
        self.read_within(reference, start, into, size_of_object)
    }

    /// As [`read`](Self::read), of all that is reserved for the object, from [`start`](ObjectInfo::start) to
    /// [`stop`](ObjectInfo::stop).
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_reserved(&self, reference: ObjRef, start: u64, into: &mut [u8]) -> Result<(), RefError> {
        self.read_within(reference, start, into, reserved_for_object)
    }

    fn read_within(
        &self,
        reference: ObjRef,
        start: u64,
        into: &mut [u8],
        limit: fn(&Volume, &Target) -> u64,
    ) -> Result<(), RefError> {
        let mut desk = self.desk.borrow_mut();
        let target = self.target(&mut desk, reference)?;
        let volume = self.volume_of(&desk, reference)?;
        let Target { root, offset, word } = target;
        let at = range(volume, &target, start, into.len() as u64, limit(volume, &target))?;
        let data = volume.data(at, into.len() as u64)?;
        data.read(0, into).map_err(|error| AccessError::Region(error.into()))?;
        // Acquire: the copy comes before the second look; partner is the fence of `write_within`: whoever has read a
        // byte of the next object sees that this one is gone.
        fence(Ordering::Acquire);
        if volume.descriptor(root, offset) == word {
            return Ok(());
        }
        Err(self.explain(&desk, reference))
    }

    /// Copies `from` into an object's bytes from `start` on.
    ///
    /// Whoever frees an object while others write to it is mistaken: such a write may reach whoever has the bytes
    /// next, as after any free.
    ///
    /// # Errors
    /// [`RefError::Range`]; as [`free`](Self::free).
    pub fn write(&self, reference: ObjRef, start: u64, from: &[u8]) -> Result<(), RefError> {
        self.write_within(reference, start, from, size_of_object)
    }

    /// As [`write`](Self::write), to all that is reserved for the object, from [`start`](ObjectInfo::start) to
    /// [`stop`](ObjectInfo::stop): nobody else has these bytes.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_reserved(&self, reference: ObjRef, start: u64, from: &[u8]) -> Result<(), RefError> {
        self.write_within(reference, start, from, reserved_for_object)
    }

    fn write_within(
        &self,
        reference: ObjRef,
        start: u64,
        from: &[u8],
        limit: fn(&Volume, &Target) -> u64,
    ) -> Result<(), RefError> {
        let mut desk = self.desk.borrow_mut();
        let target = self.target(&mut desk, reference)?;
        let volume = self.volume_of(&desk, reference)?;
        let at = range(volume, &target, start, from.len() as u64, limit(volume, &target))?;
        let data = volume.data(at, from.len() as u64)?;
        // Release: partner is the fence of `read_within`. That the object is live is known here, so who reads a byte
        // of it knows that the one before is not.
        fence(Ordering::Release);
        Ok(data.write(0, from).map_err(|error| AccessError::Region(error.into()))?)
    }

    /// The objects with `tag`, or all; beside live traffic, those that were there all the while are among them.
    /// Reads every descriptor.
    ///
    /// # Errors
    /// [`AccessError::Region`] if a volume cannot be mapped.
    pub fn objects(&self, tag: Option<u64>) -> Result<Vec<ObjectInfo>, AccessError> {
        let mut desk = self.desk.borrow_mut();
        self.notice_changes(&mut desk)?;
        let all = desk.mapped.all().flat_map(|volume| crate::verify::objects(volume));
        Ok(all.filter(|object| tag.is_none_or(|tag| tag == object.tag)).collect())
    }

    /// Gives every superblock without objects back, so that other classes can have the room, in all volumes. Runs
    /// beside live traffic. Some milliseconds for each GiB.
    ///
    /// # Errors
    /// [`AccessError::Region`] if a volume cannot be mapped.
    pub fn trim(&self) -> Result<Trimmed, AccessError> {
        let mut desk = self.desk.borrow_mut();
        self.notice_changes(&mut desk)?;
        Ok(self.trim_all(&desk))
    }

    fn trim_all(&self, desk: &Desk) -> Trimmed {
        desk.mapped.all().fold(Trimmed::default(), |sum, volume| {
            let here = trim::trim(volume, &self.inner.control, self.claim);
            Trimmed { superblocks: sum.superblocks + here.superblocks, roots: sum.roots + here.roots }
        })
    }
}

impl Drop for Joiner {
    fn drop(&mut self) {
        let desk = self.desk.get_mut();
        for (class, current) in desk.current.iter().enumerate() {
            let Some((current, volume)) = current
                .and_then(|current| desk.mapped.volume(current.volume).map(|volume| (current, volume)))
            else {
                continue;
            };
            let home = volume.geometry.shape.home(class);
            let number = volume.geometry.shape.superblock_in_level(home.level, current.root, current.offset);
            volume.bits(home).set(&volume.words(), number);
        }
        if self.inner.control.is_seated(self.claim) {
            self.inner.control.leave_seat(self.claim);
        }
    }
}

/// Makes a held slot an object, of the size and alignment of `live`; `None` if the block has no generation left.
#[inline]
fn commit(
    volume: &Volume,
    words: &Words<'_>,
    current: Current,
    held: Held,
    live: Descriptor,
    tag: u64,
) -> Option<ObjRef> {
    let Some(generation) = held.before.generation().max(volume.base).checked_add(1) else {
        // A free descriptor of the last generation is damage; the slot is of no use any more.
        slot::retire(words, held.at);
        return None;
    };
    slot::commit(words, held, live.with_generation(generation), tag);
    outlast_probe::probe!("groove.alloc.live", generation);
    let offset = current.offset + held.slot * current.slot_blocks;
    Some(ObjRef::new(current.volume, current.root, offset, generation))
}

/// Where a range of an object is in its volume's data, if it ends within the first `limit` bytes of it.
fn range(volume: &Volume, target: &Target, start: u64, len: u64, limit: u64) -> Result<u64, RefError> {
    let end = start.saturating_add(len);
    if limit < end {
        return Err(RefError::Range { start, end, size_bytes: limit });
    }
    Ok(volume.data_offset(target.root, target.offset) + start)
}

fn size_of_object(_: &Volume, target: &Target) -> u64 {
    target.word.size_bytes().into()
}

/// Bytes of the object's slot; none if the descriptor is damaged.
fn reserved_for_object(volume: &Volume, target: &Target) -> u64 {
    let found = crate::verify::class_of(volume, target.offset, target.word);
    found.map_or(0, |(_, home)| u64::from(home.slot_blocks) * BLOCK_BYTES)
}

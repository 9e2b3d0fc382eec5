//! The calls of a workspace: allocate, free, ask, list, reset, rebuild.

use std::collections::HashSet;

use crate::alloc::Refused;
use crate::counter::Counter;
use crate::error::{AccessError, AllocError, Fault, FaultKind, FreeError, QueryError};
use crate::gaddr::{Block, Gaddr};
use crate::layout::{GRANULE, head};
use crate::tables::{Kind, Slot};
use crate::wksp::{Entry, State, Wksp};

/// The alignment to ask for where nothing else is known: a page.
pub const DEFAULT_ALIGN: u64 = 4096;

/// One allocation in a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Partition {
    /// First byte.
    pub gaddr: Gaddr,
    /// Bytes that were asked for.
    pub size_bytes: u64,
    /// Its tag, never 0.
    pub tag: u64,
}

/// How full a workspace is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Bytes of the data region.
    pub data_bytes: u64,
    /// Allocations.
    pub used_count: u64,
    /// Bytes that they asked for.
    pub used_bytes: u64,
    /// Holes between them.
    pub free_count: u64,
    /// Bytes of all holes.
    pub free_bytes: u64,
    /// Bytes of the largest hole.
    pub largest_free_bytes: u64,
    /// Allocations with one of the tags asked about.
    pub matched_count: u64,
    /// Bytes that they asked for.
    pub matched_bytes: u64,
    /// Slots that the table holds now.
    pub slot_count: u64,
}

impl Usage {
    pub(crate) fn add_used(&mut self, partition: &Partition, tags: &HashSet<u64>) {
        self.used_count += 1;
        self.used_bytes += partition.size_bytes;
        if tags.contains(&partition.tag) {
            self.matched_count += 1;
            self.matched_bytes += partition.size_bytes;
        }
    }

    pub(crate) fn add_free(&mut self, bytes: u64) {
        self.free_count += 1;
        self.free_bytes += bytes;
        self.largest_free_bytes = self.largest_free_bytes.max(bytes);
    }
}

impl Wksp {
    /// Allocates `size_bytes` bytes (at least 1) at a gaddr that is a multiple of `align` (a power of two, such
    /// as [`DEFAULT_ALIGN`]) under `tag` (at least 1). The bytes are whatever was there before.
    ///
    /// About 100 ns; fails only if no hole fits, and then looks at every hole before it says so. Waits for the
    /// lock at most as long as [`set_lock_timeout`](Self::set_lock_timeout) says.
    ///
    /// # Errors
    /// [`AllocError`]; the workspace is unchanged.
    ///
    /// ```
    /// use outlast_wksp::{CreateOptions, Wksp};
    /// let wksp = Wksp::anonymous(&CreateOptions::with_size(1 << 20))?;
    /// let block = wksp.alloc(100, 64, 7)?;
    /// wksp.write(block.gaddr().get(), b"kept")?;
    /// assert_eq!(wksp.tag(block.gaddr())?, Some(7));
    /// wksp.free(block)?;
    /// assert!(wksp.free(block).is_err(), "a second free is an error");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn alloc(&self, size_bytes: u64, align: u64, tag: u64) -> Result<Block, AllocError> {
        if size_bytes == 0 {
            return Err(AllocError::ZeroSize);
        }
        if tag == 0 {
            return Err(AllocError::ZeroTag);
        }
        if !align.is_power_of_two() {
            return Err(AllocError::Align { align });
        }
        let mut entry = self.enter()?;
        let made = entry.alloc(size_bytes, align, tag);
        match &made {
            Ok(_) => entry.count([(Counter::AllocCount, 1), (Counter::AllocBytes, size_bytes)]),
            Err(AllocError::NoSpace { .. }) => entry.count([(Counter::NoSpaceCount, 1)]),
            Err(_) => entry.count([(Counter::FailureCount, 1)]),
        }
        entry.leave()?;
        made
    }

    /// As [`alloc`](Self::alloc), but gives all of the granules it takes: the block's size is `size_bytes` or
    /// up to 63 bytes more.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    pub fn alloc_at_least(&self, size_bytes: u64, align: u64, tag: u64) -> Result<Block, AllocError> {
        let whole = size_bytes.checked_next_multiple_of(GRANULE).unwrap_or(size_bytes);
        self.alloc(whole, align, tag)
    }

    /// Frees exactly this block: never anything that was allocated at its address later.
    ///
    /// # Errors
    /// [`FreeError::Stale`] if it was freed before (by whom- and however) or is of another workspace.
    /// After [`AccessError::Corrupt`] the block may be freed: a second call then says `Stale`.
    #[inline]
    pub fn free(&self, block: Block) -> Result<(), FreeError> {
        let entry = self.enter()?;
        let found = entry.block(&block).map_err(|error| entry.refused(error))?;
        entry.free(&found)?;
        entry.leave()?;
        Ok(())
    }

    /// Frees the allocation that holds the byte at `gaddr`, whichever that is by now. Best effort: a stale
    /// address frees whatever has been allocated there since. [`free`](Self::free) is exact.
    ///
    /// # Errors
    /// [`FreeError::OutOfRange`], [`FreeError::NotAllocated`].
    pub fn free_at(&self, gaddr: Gaddr) -> Result<(), FreeError> {
        let last = self.data_bytes() - 1;
        if last < gaddr.get() {
            return Err(FreeError::OutOfRange { gaddr, last });
        }
        let entry = self.enter()?;
        let found = entry.tables.lookup(gaddr.get()).map_err(AccessError::from)?;
        let found = found.ok_or_else(|| entry.refused(FreeError::NotAllocated { gaddr }))?;
        entry.free(&found)?;
        entry.leave()?;
        Ok(())
    }

    /// The tag of the allocation that holds the byte at `gaddr`; `None` if none does.
    ///
    /// # Errors
    /// [`QueryError::Access`].
    pub fn tag(&self, gaddr: Gaddr) -> Result<Option<u64>, QueryError> {
        Ok(self.block_at(gaddr)?.map(|block| block.tag()))
    }

    /// The allocation that holds the byte at `gaddr`, as a block that can be freed exactly.
    ///
    /// # Errors
    /// [`QueryError::Access`].
    pub fn block_at(&self, gaddr: Gaddr) -> Result<Option<Block>, QueryError> {
        if self.data_bytes() <= gaddr.get() {
            return Ok(None);
        }
        let entry = self.enter()?;
        let found = entry.tables.lookup(gaddr.get()).map_err(AccessError::from)?;
        entry.leave()?;
        Ok(found.as_ref().and_then(block_of))
    }

    /// All allocations in address order. Holds the lock while it looks; the list is a moment's picture.
    ///
    /// # Errors
    /// [`QueryError::Access`].
    pub fn partitions(&self) -> Result<Vec<Partition>, QueryError> {
        self.list(|_| true)
    }

    /// The allocations whose tag is one of `tags`, in address order.
    ///
    /// # Errors
    /// [`QueryError::Access`].
    pub fn tag_query(&self, tags: &[u64]) -> Result<Vec<Partition>, QueryError> {
        let tags: HashSet<u64> = tags.iter().copied().collect();
        self.list(|tag| tags.contains(&tag))
    }

    fn list(&self, wanted: impl Fn(u64) -> bool) -> Result<Vec<Partition>, QueryError> {
        let entry = self.enter()?;
        let mut found = Vec::new();
        let walked = entry.tables.walk(|slot| {
            found.extend(partition_of(slot).filter(|partition| wanted(partition.tag)));
            Ok(())
        });
        walked.map_err(AccessError::from)?;
        entry.leave()?;
        Ok(found)
    }

    /// Frees every allocation whose tag is one of `tags`; returns how many and their bytes. A kill in the
    /// middle leaves some of them freed.
    ///
    /// # Errors
    /// [`FreeError::Access`].
    pub fn tag_free(&self, tags: &[u64]) -> Result<(u64, u64), FreeError> {
        let tags: HashSet<u64> = tags.iter().copied().collect();
        let entry = self.enter()?;
        let mut doomed = Vec::new();
        let walked = entry.tables.walk(|slot| {
            doomed.extend((slot.is(Kind::Used) && tags.contains(&slot.tag)).then_some(slot.index));
            Ok(())
        });
        walked.map_err(AccessError::from)?;
        let (mut count, mut bytes) = (0, 0);
        for index in doomed {
            let at = entry.tables.slot_at(index, 0);
            let slot = entry.tables.expect(index, Kind::Used, at).map_err(AccessError::from)?;
            entry.free(&slot)?;
            (count, bytes) = (count + 1, bytes + slot.size);
        }
        entry.leave()?;
        Ok((count, bytes))
    }

    /// Fills all of the allocation that holds the byte at `gaddr` with `byte`, holding the lock; returns how
    /// many bytes that was.
    ///
    /// # Errors
    /// [`QueryError::NotAllocated`].
    pub fn memset(&self, gaddr: Gaddr, byte: u8) -> Result<u64, QueryError> {
        if self.data_bytes() <= gaddr.get() {
            return Err(QueryError::NotAllocated { gaddr });
        }
        let entry = self.enter()?;
        let found = entry.tables.lookup(gaddr.get()).map_err(AccessError::from)?;
        let found = found.ok_or(QueryError::NotAllocated { gaddr })?;
        let bytes = self.bytes(found.start, found.size)?;
        bytes.fill(0, found.size, byte).map_err(|_| QueryError::NotAllocated { gaddr })?;
        entry.leave()?;
        Ok(found.size)
    }

    /// How full the workspace is, and how much of it is allocated under one of `tags` (each counted once).
    ///
    /// # Errors
    /// [`QueryError::Access`].
    pub fn usage(&self, tags: &[u64]) -> Result<Usage, QueryError> {
        let tags: HashSet<u64> = tags.iter().copied().collect();
        let entry = self.enter()?;
        let mut usage = Usage {
            data_bytes: self.data_bytes(),
            slot_count: entry.tables.capacity.into(),
            ..Usage::default()
        };
        let walked = entry.tables.walk(|slot| {
            match partition_of(slot) {
                Some(partition) => usage.add_used(&partition, &tags),
                None => usage.add_free(slot.size),
            }
            Ok(())
        });
        walked.map_err(AccessError::from)?;
        entry.leave()?;
        Ok(usage)
    }

    /// Ends every allocation at once, however damaged the tables are, and makes the index anew with `seed`.
    ///
    /// One store of the header's epoch does it: after a kill the allocations are all there or all gone. It also
    /// ends an interrupted restore.
    ///
    /// # Errors
    /// [`AccessError::Lock`], [`AccessError::Replaced`].
    pub fn reset(&self, seed: u32) -> Result<(), AccessError> {
        let mut entry = self.enter_unchecked()?;
        if entry.tables.head_value(head::STATE) == Ok(State::Replaced as u32) {
            return Err(AccessError::Replaced);
        }
        entry.clear(seed)?;
        entry.set_state(State::Normal);
        entry.guard.mark_recovered();
        entry.leave()
    }

    /// Makes the index anew from the allocations, which it keeps exactly, with `seed`: it decides which of
    /// several like holes is taken first. Rebuilding twice gives what rebuilding once gave.
    ///
    /// # Errors
    /// [`AccessError::Corrupt`] if an allocation's own slot is damaged; nothing is changed then.
    pub fn rebuild(&self, seed: u32) -> Result<(), AccessError> {
        let mut entry = self.enter_unchecked()?;
        entry.tables.epoch = entry.tables.head_value(head::EPOCH)?;
        entry.check_state()?;
        entry.rebuild(seed)?;
        entry.guard.mark_recovered();
        entry.leave()
    }
}

impl Entry<'_> {
    #[inline(always)]
    fn count<const N: usize>(&self, deltas: [(Counter, u64); N]) {
        self.guard.count(deltas.map(|(counter, delta)| (counter as usize, delta)));
    }

    /// Counts a free that found nothing to free.
    #[cold]
    fn refused(&self, error: FreeError) -> FreeError {
        self.count([(Counter::FailureCount, 1)]);
        error
    }

    #[inline(always)]
    fn alloc(&mut self, size: u64, align: u64, tag: u64) -> Result<Block, AllocError> {
        if !self.tables.has_two_slots().map_err(AccessError::from)? {
            self.make_slots(size, align)?;
        }
        match self.tables.alloc(size, align, tag, self.guard.joiner_number()) {
            Ok(made) => {
                // A start is never below the first granule.
                let gaddr = Gaddr::new(made.start).ok_or_else(|| AccessError::from(self.null_fault()))?;
                Ok(Block { gaddr, size_bytes: size, tag, slot: made.index, stamp: made.stamp })
            }
            Err(Refused::NoFit(seen)) => Err(AllocError::NoSpace {
                size_bytes: size,
                align,
                largest_bytes: seen.largest,
                free_bytes: seen.free,
            }),
            Err(Refused::Fault(fault)) => Err(AccessError::from(fault).into()),
        }
    }

    /// Lets the slot table grow: to double, or by a page if there is no room for that.
    #[cold]
    fn make_slots(&mut self, size: u64, align: u64) -> Result<(), AllocError> {
        let slots = u64::from(self.tables.capacity);
        if slots == self.wksp.site.geometry.slots_max() {
            // As many slots as granules: no hole is left that would need another one.
            return Ok(());
        }
        match self.grow(slots * 2).or_else(|_| self.grow(slots + 64)) {
            Ok(()) => Ok(()),
            Err(AccessError::Region(source)) => match self.tables.find(size, align) {
                // Without a hole that fits, the want of slots is not what stops it.
                Err(Ok(_)) => Ok(()),
                _ => Err(AllocError::Table { slots, source }),
            },
            Err(other) => Err(other.into()),
        }
    }

    #[cold]
    fn null_fault(&self) -> Fault {
        let at = self.tables.geometry.data().start;
        Fault { what: FaultKind::Range, at, expected: GRANULE, found: 0 }
    }

    /// The slot of `block` if it still is that allocation.
    #[inline(always)]
    fn block(&self, block: &Block) -> Result<Slot, FreeError> {
        let stale = |found| FreeError::Stale { gaddr: block.gaddr, expected: block.stamp, found };
        if self.tables.capacity <= block.slot {
            return Err(stale(0));
        }
        let at = self.tables.slot_at(block.slot, 0);
        let found = match self.tables.slot(block.slot, at) {
            Ok(found) => found,
            Err(_) if self.tables.truth(block.slot).is_virgin() => return Err(stale(0)),
            Err(fault) => return Err(AccessError::from(fault).into()),
        };
        let alive = found.is(Kind::Used) && found.tag != 0 && found.epoch == self.tables.epoch;
        if !alive || found.stamp != block.stamp || found.start != block.gaddr.get() {
            return Err(stale(found.stamp));
        }
        self.tables.check_range(&found).map_err(AccessError::from)?;
        Ok(found)
    }

    #[inline(always)]
    fn free(&self, slot: &Slot) -> Result<(), FreeError> {
        let freed = self.tables.free(slot);
        freed.map_err(|fault| self.refused(AccessError::from(fault).into()))?;
        if slot.owner() == self.guard.joiner_number() {
            self.count([(Counter::FreeCount, 1), (Counter::FreeBytes, slot.size)]);
        } else {
            self.count([
                (Counter::FreeCount, 1),
                (Counter::FreeBytes, slot.size),
                (Counter::RemoteFreeCount, 1),
                (Counter::RemoteFreeBytes, slot.size),
            ]);
        }
        Ok(())
    }

    /// Ends every allocation and makes an empty index.
    pub(crate) fn clear(&mut self, seed: u32) -> Result<(), AccessError> {
        let epoch = self.tables.next_epoch();
        self.tables.begin();
        self.tables.commit_epoch(epoch);
        outlast_probe::probe!("wksp.reset.committed");
        self.tables.scrub();
        self.rebuild(seed)
    }
}

/// The listing's form of a slot that holds an allocation.
pub(crate) fn partition_of(slot: &Slot) -> Option<Partition> {
    let gaddr = Gaddr::new(slot.start)?;
    slot.is(Kind::Used).then_some(Partition { gaddr, size_bytes: slot.size, tag: slot.tag })
}

fn block_of(slot: &Slot) -> Option<Block> {
    let gaddr = Gaddr::new(slot.start)?;
    Some(Block { gaddr, size_bytes: slot.size, tag: slot.tag, slot: slot.index, stamp: slot.stamp })
}

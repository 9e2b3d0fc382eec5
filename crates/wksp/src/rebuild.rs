//! Makes every index anew from the one truth, the slots that carry a tag of the current epoch.
//!
//! # Invariants
//! - No allocation's tag, range or stamp changes: rebuilding twice gives what rebuilding once gave, and it can
//!   be killed anywhere and begun again.
//! - It refuses, having changed nothing, if the allocations themselves are damaged.

use outlast_probe::probe;
use outlast_probe::sync::{Ordering, crash_fence};

use crate::error::{Fault, FaultKind};
use crate::layout::{CLASS_COUNT, FIRST_GADDR, NONE, PAGE, head, slot};
use crate::seal::seal;
use crate::tables::{Kind, Tables};

/// One allocation: its granules and its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) index: u32,
}

/// What the slots say: the allocations by address, and how many slots they and the gaps between need.
#[derive(Debug)]
pub(crate) struct Census {
    pub(crate) used: Vec<Extent>,
    /// Slots that hold no allocation and are not all zero, ascending; with their last stamps.
    spare: Vec<(u32, u64)>,
    pub(crate) hole_count: u64,
}

impl Census {
    /// Slots that the rebuilt workspace needs.
    pub(crate) fn slots_needed(&self) -> u64 {
        self.used.len() as u64 + self.hole_count
    }
}

impl Tables<'_> {
    /// Reads every slot. Fails at the first one that carries a tag and is damaged, at one that has lost its tag by
    /// other means than a call, and where two overlap.
    pub(crate) fn census(&self) -> Result<Census, Fault> {
        let mut census = Census { used: Vec::new(), spare: Vec::new(), hole_count: 0 };
        // The one slot that may have lost its tag: the one that a call was cut short on.
        let pending = self.head_value(head::PENDING).ok().filter(|_| self.is_torn());
        for index in 0..self.capacity {
            let truth = self.truth(index);
            if truth.is_virgin() {
                continue;
            }
            let [tag, _, _, stamp, epoch_kind] = truth.words;
            if tag == 0 && epoch_kind == self.epoch_kind(Kind::Used) && pending != Some(index) {
                return Err(self.tag_fault(index));
            }
            if tag == 0 {
                census.spare.push((index, stamp));
                continue;
            }
            let found = self.slot(index, self.slot_at(index, 0))?;
            if !found.is(Kind::Used) {
                return Err(self.kind_fault(&found, Kind::Used));
            }
            if found.epoch == self.epoch {
                self.check_range(&found)?;
                census.used.push(Extent { start: found.start, end: found.end(), index });
            } else {
                census.spare.push((index, stamp));
            }
        }
        census.used.sort_unstable_by_key(|extent| extent.start);
        census.hole_count = self.count_holes(&census.used)?;
        Ok(census)
    }

    #[cold]
    pub(crate) fn tag_fault(&self, index: u32) -> Fault {
        Fault { what: FaultKind::LostTag, at: self.slot_at(index, slot::TAG), expected: 1, found: 0 }
    }

    fn count_holes(&self, used: &[Extent]) -> Result<u64, Fault> {
        let (mut at, mut holes) = (FIRST_GADDR, 0);
        for extent in used {
            if extent.start < at {
                let word = self.slot_at(extent.index, slot::START);
                return Err(Fault { what: FaultKind::Overlap, at: word, expected: at, found: extent.start });
            }
            holes += u64::from(at < extent.start);
            at = extent.end;
        }
        Ok(holes + u64::from(at < self.geometry.data_bytes))
    }

    /// Stores the index that `census` asks for. The table must hold `census.slots_needed()` slots.
    ///
    /// The seed decides in which order holes are entered, and so which of several of one class is tried first.
    pub(crate) fn apply(&self, census: &Census, seed: u32) -> Result<(), Fault> {
        self.begin();
        probe!("wksp.rebuild.begun");
        self.clear_heads(seed);
        let holes = self.link_by_address(census)?;
        // Only now is no slot left that a census would have to forgive: a kill before this begins again.
        crash_fence();
        self.set_head_value(head::PENDING, NONE);
        probe!("wksp.rebuild.linked");
        self.map_all(&census.used);
        let turn = seed as usize % holes.len().max(1);
        let (late, early) = holes.split_at(turn);
        for &(index, size) in early.iter().chain(late) {
            self.link_hole(index, size)?;
        }
        probe!("wksp.rebuild.before_end");
        self.end();
        Ok(())
    }

    fn clear_heads(&self, seed: u32) {
        self.set_head_value(head::SEED, seed);
        self.set_head_value(head::IDLE_HEAD, NONE);
        for class in 0..CLASS_COUNT {
            self.set_head_value(head::CLASS_HEADS + class, NONE);
        }
        for word in head::BITMAP..head::RESERVED_BITMAP {
            // Relaxed: only the holder of the lock reads or stores it.
            self.head.store(word, 0, Ordering::Relaxed);
        }
    }

    /// Links allocations and the holes between them; returns the holes' slots and sizes.
    fn link_by_address(&self, census: &Census) -> Result<Vec<(u32, u64)>, Fault> {
        let mut spare = Spare::new(self, census);
        let mut holes = Vec::with_capacity(census.hole_count as usize);
        let (mut at, mut prev, mut prev_prev) = (FIRST_GADDR, NONE, NONE);
        // A partition's links are stored once the partition after it is known.
        let mut link = |index: u32| {
            if prev == NONE {
                self.set_head_value(head::FIRST, index);
            } else {
                self.set_links(prev, prev_prev, index);
            }
            (prev_prev, prev) = (prev, index);
        };
        let end = Extent { start: self.geometry.data_bytes, end: self.geometry.data_bytes, index: NONE };
        for extent in census.used.iter().chain([&end]) {
            if at < extent.start {
                let (index, stamp) = spare.take()?;
                self.store_free(index, Kind::Hole, at, extent.start - at, stamp);
                holes.push((index, extent.start - at));
                link(index);
            }
            link(extent.index);
            at = extent.end;
        }
        spare.finish()?;
        Ok(holes)
    }

    fn map_all(&self, used: &[Extent]) {
        let mut page = 0;
        let mut enter = |until: u64, index: u32| {
            while page < until {
                self.set_page_entry(page, index);
                page += 1;
            }
        };
        for extent in used {
            // Pages before its first hold nothing; pages up to its last name it, unless an earlier one does.
            enter(extent.start / PAGE, NONE);
            enter((extent.end - 1) / PAGE + 1, extent.index);
        }
        enter(self.geometry.pages(), NONE);
    }
}

/// Slots for holes: the spare ones first, then ones never used. What is left over becomes idle.
struct Spare<'t, 'r> {
    tables: &'t Tables<'r>,
    spare: &'t [(u32, u64)],
    next_virgin: u32,
    stamp_base: u64,
}

impl<'t, 'r> Spare<'t, 'r> {
    fn new(tables: &'t Tables<'r>, census: &'t Census) -> Self {
        let last_used = census.used.iter().map(|extent| extent.index + 1).max().unwrap_or(0);
        let last_spare = census.spare.last().map_or(0, |(index, _)| index + 1);
        // Relaxed: static, stored before the region was published.
        let stamp_base = tables.head.load(head::STAMP_BASE, Ordering::Relaxed);
        Self { tables, spare: &census.spare, next_virgin: last_used.max(last_spare), stamp_base }
    }

    fn take(&mut self) -> Result<(u32, u64), Fault> {
        if let Some((first, rest)) = self.spare.split_first() {
            self.spare = rest;
            return Ok(*first);
        }
        let index = self.next_virgin;
        if self.tables.capacity <= index {
            let at = self.tables.head_at(head::HIGH_WATER);
            let (expected, found) = (self.tables.capacity.into(), index.into());
            return Err(Fault { what: FaultKind::SlotIndex, at, expected, found });
        }
        self.next_virgin += 1;
        Ok((index, self.stamp_base))
    }

    fn finish(self) -> Result<(), Fault> {
        for &(index, stamp) in self.spare.iter().rev() {
            self.tables.put_slot(index, stamp)?;
        }
        // Virgin slots between used ones stay virgin on neither list: enter them as idle.
        for index in (0..self.next_virgin).rev() {
            if self.tables.truth(index).is_virgin() {
                self.tables.put_slot(index, self.stamp_base)?;
            }
        }
        self.tables.set_head_value(head::HIGH_WATER, self.next_virgin);
        Ok(())
    }
}

impl Tables<'_> {
    /// Every allocation of this epoch ends here: one store, then the index is made anew.
    ///
    /// If the epoch word itself is damaged, the new epoch is one that no slot has.
    pub(crate) fn next_epoch(&self) -> u32 {
        match self.head_value(head::EPOCH) {
            Ok(epoch) => epoch.wrapping_add(1),
            Err(_) => {
                let taken: std::collections::HashSet<u32> = (0..self.capacity)
                    .map(|index| self.truth(index).words[slot::EPOCH_KIND] as u32)
                    .collect();
                (1..=u32::MAX).find(|epoch| !taken.contains(epoch)).unwrap_or(1)
            }
        }
    }

    /// The commit point of a reset.
    pub(crate) fn commit_epoch(&mut self, epoch: u32) {
        crash_fence();
        // Release: partner is the Acquire fence of `Reader::look`; slots of the old epoch end with it.
        self.head.store(head::EPOCH, seal(epoch, head::EPOCH as u64), Ordering::Release);
        crash_fence();
        self.epoch = epoch;
    }

    /// Clears every tag, whatever else its slot holds, so that a census finds nothing to refuse. Right after
    /// `commit_epoch`, which has ended every allocation.
    pub(crate) fn scrub(&self) {
        for index in 0..self.capacity {
            let truth = self.truth(index);
            if truth.words[slot::TAG] != 0 {
                self.store_free(index, Kind::Idle, 0, 0, truth.words[slot::STAMP]);
            }
        }
    }
}

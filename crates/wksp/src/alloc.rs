//! Allocating and freeing: the two changes of the truth, each with one store that commits it.
//!
//! # Invariants
//! - alloc stores range, stamp, epoch and check, then the tag; free clears the tag before anything else.
//! - The slot that a call works on is named in the header before its tag is touched, so that a slot which has
//!   lost its tag by any other way is known for damage.
//! - A slot is taken before the tag is stored, so an allocation never fails half-way for want of one.

use outlast_probe::probe;
use outlast_probe::sync::crash_fence;

use crate::error::Fault;
use crate::index::{Fit, NoFit};
use crate::layout::{GRANULE, NONE, head};
use crate::tables::{Kind, Slot, Tables};

/// An allocation as the tables know it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allocated {
    pub(crate) index: u32,
    pub(crate) start: u64,
    pub(crate) stamp: u64,
}

/// Why [`Tables::alloc`] allocated nothing.
#[derive(Debug)]
pub(crate) enum Refused {
    NoFit(NoFit),
    Fault(Fault),
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Tables<'_> {
    /// Allocates `size` bytes at `align` (a power of two) under `tag`, both not 0. Two slots must be free to
    /// take (`has_two_slots`).
    /// `owner` is the joiner that asks.
    pub(crate) fn alloc(&self, size: u64, align: u64, tag: u64, owner: u64) -> Result<Allocated, Refused> {
        let align = align.max(GRANULE);
        let Fit { hole, start } = self.find(size, align).map_err(|refused| match refused {
            Ok(no_fit) => Refused::NoFit(no_fit),
            Err(fault) => Refused::Fault(fault),
        })?;
        // Where the allocation before this one ends: two holes are never neighbours, so it is where the hole
        // begins, unless the hole comes first of all.
        let before = (hole.prev != NONE).then_some(hole.start);
        self.begin();
        probe!("wksp.alloc.begun", start);
        let (index, stamp) = self.carve(&hole, start, size)?;
        let stamp = stamp.wrapping_add(1);
        self.set_head_value(head::PENDING, index);
        crash_fence();
        self.prepare_used(index, start, size, stamp, tag);
        self.set_owner(index, owner);
        self.map_insert(index, start, (start + size).next_multiple_of(GRANULE), before);
        probe!("wksp.alloc.before_commit", index);
        self.commit(index, tag);
        probe!("wksp.alloc.committed", index);
        self.end();
        Ok(Allocated { index, start, stamp })
    }

    /// Makes room for an allocation in `hole`: links a slot for it and leaves what remains on either side as
    /// holes. Returns the slot and its last stamp.
    #[inline(always)]
    fn carve(&self, hole: &Slot, start: u64, size: u64) -> Result<(u32, u64), Fault> {
        let end = (start + size).next_multiple_of(GRANULE);
        let (left, right) = (start - hole.start, hole.end() - end);
        if left == 0 && right == 0 {
            self.unlink_hole(hole)?;
            return Ok((hole.index, hole.stamp));
        }
        let Some((index, stamp)) = self.take_slot()? else { return Err(self.table_full()) };
        if left == 0 {
            // The hole keeps its slot and begins later.
            self.relink_hole(hole, end, right)?;
            self.set_links(index, hole.prev, hole.index);
            self.set_links(hole.index, index, hole.next);
            self.set_next_of(hole.prev, hole.index, index)?;
            return Ok((index, stamp));
        }
        self.relink_hole(hole, hole.start, left)?;
        self.set_links(hole.index, hole.prev, index);
        let mut last = index;
        if right != 0 {
            let Some((rest, rest_stamp)) = self.take_slot()? else { return Err(self.table_full()) };
            self.store_free(rest, Kind::Hole, end, right, rest_stamp);
            self.set_links(rest, index, hole.next);
            self.link_hole(rest, right)?;
            self.set_links(index, hole.index, rest);
            last = rest;
        } else {
            self.set_links(index, hole.index, hole.next);
        }
        self.set_prev_of(hole.next, hole.index, last)?;
        Ok((index, stamp))
    }

    /// Gives `hole` another range, and another list if its class changed.
    #[inline(always)]
    fn relink_hole(&self, hole: &Slot, start: u64, size: u64) -> Result<(), Fault> {
        use crate::class::class_of;
        let moves = class_of(hole.size / GRANULE) != class_of(size / GRANULE);
        if moves {
            self.unlink_hole(hole)?;
        }
        self.store_free(hole.index, Kind::Hole, start, size, hole.stamp);
        if moves {
            self.link_hole(hole.index, size)?;
        }
        Ok(())
    }

    #[cold]
    fn table_full(&self) -> Fault {
        let at = self.head_at(head::IDLE_HEAD);
        let what = crate::error::FaultKind::IdleList;
        Fault { what, at, expected: 1, found: 0 }
    }

    /// Ends the allocation in `block`, a slot that `partition` returned as used.
    pub(crate) fn free(&self, block: &Slot) -> Result<(), Fault> {
        let (start, end) = (block.start, block.end());
        let prev = self.prev(block)?;
        let next = self.next(block)?;
        let prev_hole = prev.filter(|prev| prev.is(Kind::Hole));
        let next_hole = next.filter(|next| next.is(Kind::Hole));
        // The allocations on either side, behind a hole or not: the page map wants them.
        let before = match &prev_hole {
            Some(hole) => (hole.prev != NONE).then_some(hole.start),
            None => prev.map(|prev| prev.end()),
        };
        let after = match &next_hole {
            Some(hole) => (hole.next != NONE).then_some((hole.next, hole.end())),
            None => next.map(|next| (next.index, next.start)),
        };
        self.begin();
        self.set_head_value(head::PENDING, block.index);
        probe!("wksp.free.begun", block.index);
        self.retract(block.index);
        probe!("wksp.free.committed", block.index);
        self.map_remove(start, end, before, after);
        self.join_holes(block, prev_hole.as_ref(), next_hole.as_ref())?;
        probe!("wksp.free.before_end", block.index);
        self.end();
        Ok(())
    }

    /// Makes one hole of `block`'s granules and the holes beside it.
    #[inline(always)]
    fn join_holes(&self, block: &Slot, prev: Option<&Slot>, next: Option<&Slot>) -> Result<(), Fault> {
        let end = next.map_or(block.end(), |next| next.end());
        let (last, after) = next.map_or((block.index, block.next), |next| (next.index, next.next));
        if let Some(next) = next {
            self.unlink_hole(next)?;
        }
        if let Some(prev) = prev {
            // Its class links may have changed with `next`'s.
            let at = self.class_links_at(prev.index);
            let (class_prev, class_next) = self.class_links(prev.index, at)?;
            let prev = Slot { class_prev, class_next, ..*prev };
            self.relink_hole(&prev, prev.start, end - prev.start)?;
            self.set_links(prev.index, prev.prev, after);
            self.set_prev_of(after, last, prev.index)?;
            self.put_slot(block.index, block.stamp)?;
        } else {
            let size = end - block.start;
            self.store_free(block.index, Kind::Hole, block.start, size, block.stamp);
            self.set_links(block.index, block.prev, after);
            self.link_hole(block.index, size)?;
            self.set_prev_of(after, last, block.index)?;
        }
        if let Some(next) = next {
            self.put_slot(next.index, next.stamp)?;
        }
        Ok(())
    }
}

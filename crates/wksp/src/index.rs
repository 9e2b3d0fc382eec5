//! The index over the slots: the list by address, the holes by size class, the page map, the idle slots.
//!
//! Everything here can be made anew from the slots (`rebuild`). Each function validates what it reads before
//! it stores; a fault found half-way leaves the change counter odd, which is the same state that a kill
//! leaves, and the next holder of the lock rebuilds.
//!
//! # Invariants
//! - The list by address tiles the data from `FIRST_GADDR` to its end; no two holes are neighbours.
//! - Every hole is in the list of its class, once; a class's bit is set if and only if its list has a hole.
//! - `map[page]` names the first allocation that has a granule in the page.
//! - The idle list holds exactly the idle slots; slots at and above the high-water mark are all zero.

use outlast_probe::sync::Ordering;
use outlast_shm::USER_OFFSET;

use crate::class::class_of;
use crate::error::{Fault, FaultKind};
use crate::layout::{GRANULE, HEAD_BYTES, NONE, PAGE, head};
use crate::seal::{seal, unseal};
use crate::tables::{Kind, Slot, Tables};

/// Seals of the page map live apart from the header's.
const MAP_PLACE: u64 = 1 << 40;

/// A hole and where in it an allocation would begin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fit {
    pub(crate) hole: Slot,
    pub(crate) start: u64,
}

/// What a failed search saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoFit {
    pub(crate) largest: u64,
    pub(crate) free: u64,
}

/// How many holes of a class are looked at before a larger class is tried.
const LOOKS: usize = 8;

impl Tables<'_> {
    // ---- the list by address -------------------------------------------------------------------------

    /// The partition after `of`, checked to begin where `of` ends and to link back.
    #[inline(always)]
    pub(crate) fn next(&self, of: &Slot) -> Result<Option<Slot>, Fault> {
        let Some(index) = Self::some(of.next) else {
            return if of.end() == self.geometry.data_bytes { Ok(None) } else { Err(self.adjacency(of)) };
        };
        let next = self.partition(index, self.links_at(of.index))?;
        if next.start != of.end() {
            return Err(self.adjacency(of));
        }
        if next.prev != of.index {
            return Err(self.link_fault(FaultKind::AddressLink, self.links_at(index), of.index, next.prev));
        }
        Ok(Some(next))
    }

    /// The partition before `of`, checked to end where `of` begins and to link on.
    #[inline(always)]
    pub(crate) fn prev(&self, of: &Slot) -> Result<Option<Slot>, Fault> {
        let Some(index) = Self::some(of.prev) else {
            let first = self.head_value(head::FIRST)?;
            if first == of.index && of.start == crate::layout::FIRST_GADDR {
                return Ok(None);
            }
            return Err(self.link_fault(FaultKind::AddressLink, self.head_at(head::FIRST), of.index, first));
        };
        let prev = self.partition(index, self.links_at(of.index))?;
        if prev.end() != of.start {
            return Err(self.adjacency(&prev));
        }
        if prev.next != of.index {
            return Err(self.link_fault(FaultKind::AddressLink, self.links_at(index), of.index, prev.next));
        }
        Ok(Some(prev))
    }

    /// The first partition by address.
    pub(crate) fn first(&self) -> Result<Slot, Fault> {
        let at = self.head_at(head::FIRST);
        let first = self.partition(self.head_value(head::FIRST)?, at)?;
        if first.prev != NONE || first.start != crate::layout::FIRST_GADDR {
            return Err(self.link_fault(
                FaultKind::AddressLink,
                self.links_at(first.index),
                NONE,
                first.prev,
            ));
        }
        Ok(first)
    }

    #[cold]
    fn adjacency(&self, before: &Slot) -> Fault {
        Fault {
            what: FaultKind::Adjacency,
            at: self.links_at(before.index),
            expected: before.end(),
            found: u64::from(before.next),
        }
    }

    #[cold]
    fn link_fault(&self, what: FaultKind, at: u64, expected: u32, found: u32) -> Fault {
        Fault { what, at, expected: u64::from(expected), found: u64::from(found) }
    }

    /// Calls `visit` for every partition in address order. Starts grow, so it ends.
    pub(crate) fn walk(&self, mut visit: impl FnMut(&Slot) -> Result<(), Fault>) -> Result<(), Fault> {
        let mut at = self.first()?;
        loop {
            visit(&at)?;
            let Some(next) = self.next(&at)? else { return Ok(()) };
            if at.is(Kind::Hole) && next.is(Kind::Hole) {
                let at = self.links_at(at.index);
                return Err(Fault {
                    what: FaultKind::SplitHole,
                    at,
                    expected: NONE.into(),
                    found: next.index.into(),
                });
            }
            at = next;
        }
    }

    // ---- holes by size class ---------------------------------------------------------------------------

    /// Takes `hole` out of the list of its class.
    #[inline(always)]
    pub(crate) fn unlink_hole(&self, hole: &Slot) -> Result<(), Fault> {
        let class = class_of(hole.size / GRANULE);
        let (prev, next) = (hole.class_prev, hole.class_next);
        let at = self.class_links_at(hole.index);
        let mut next_next = NONE;
        if next != NONE {
            let (back, after) = self.class_links(next, at)?;
            self.expect_link(FaultKind::ClassLink, self.class_links_at(next), hole.index, back)?;
            next_next = after;
        }
        if prev == NONE {
            let word = head::CLASS_HEADS + class;
            self.expect_link(FaultKind::ClassLink, self.head_at(word), hole.index, self.head_value(word)?)?;
            self.set_head_value(word, next);
            if next == NONE {
                self.set_class_bit(class, false);
            }
        } else {
            let (before, on) = self.class_links(prev, at)?;
            self.expect_link(FaultKind::ClassLink, self.class_links_at(prev), hole.index, on)?;
            self.set_class_links(prev, before, next);
        }
        if next != NONE {
            self.set_class_links(next, prev, next_next);
        }
        Ok(())
    }

    /// Puts the hole in slot `index`, of `size` bytes, at the head of the list of its class.
    #[inline(always)]
    pub(crate) fn link_hole(&self, index: u32, size: u64) -> Result<(), Fault> {
        let class = class_of(size / GRANULE);
        let word = head::CLASS_HEADS + class;
        let old = self.head_value(word)?;
        if old == NONE {
            self.set_class_bit(class, true);
        } else {
            let (back, after) = self.class_links(old, self.head_at(word))?;
            self.expect_link(FaultKind::ClassLink, self.class_links_at(old), NONE, back)?;
            self.set_class_links(old, index, after);
        }
        self.set_class_links(index, NONE, old);
        self.set_head_value(word, index);
        Ok(())
    }

    #[inline(always)]
    fn expect_link(&self, what: FaultKind, at: u64, expected: u32, found: u32) -> Result<(), Fault> {
        if found == expected { Ok(()) } else { Err(self.link_fault(what, at, expected, found)) }
    }

    /// Lets the partition `prev`, or the head of the list, be followed by `index` instead of `was`.
    #[inline(always)]
    pub(crate) fn set_next_of(&self, prev: u32, was: u32, index: u32) -> Result<(), Fault> {
        if prev == NONE {
            let first = self.head_value(head::FIRST)?;
            self.expect_link(FaultKind::AddressLink, self.head_at(head::FIRST), was, first)?;
            self.set_head_value(head::FIRST, index);
            return Ok(());
        }
        let (before, on) = self.links(prev, self.links_at(was))?;
        self.expect_link(FaultKind::AddressLink, self.links_at(prev), was, on)?;
        self.set_links(prev, before, index);
        Ok(())
    }

    /// Lets the partition `next`, if there is one, follow `index` instead of `was`.
    #[inline(always)]
    pub(crate) fn set_prev_of(&self, next: u32, was: u32, index: u32) -> Result<(), Fault> {
        if next != NONE {
            let (back, after) = self.links(next, self.links_at(was))?;
            self.expect_link(FaultKind::AddressLink, self.links_at(next), was, back)?;
            self.set_links(next, index, after);
        }
        Ok(())
    }

    /// A hole of `class`.
    #[inline(always)]
    fn class_member(&self, index: u32, class: usize, at: u64) -> Result<Slot, Fault> {
        let hole = self.expect(index, Kind::Hole, at)?;
        let found = class_of(hole.size / GRANULE);
        if found == class {
            Ok(hole)
        } else {
            let at = self.class_links_at(index);
            Err(Fault { what: FaultKind::Class, at, expected: class as u64, found: found as u64 })
        }
    }

    #[inline(always)]
    pub(crate) fn set_class_bit(&self, class: usize, on: bool) {
        let word = head::BITMAP + class / 64;
        let bit = 1 << (class % 64);
        // Relaxed: only the holder of the lock reads or stores it.
        let bits = self.head.load(word, Ordering::Relaxed);
        self.head.store(word, if on { bits | bit } else { bits & !bit }, Ordering::Relaxed);
    }

    /// The first class at or above `class` whose bit is set.
    #[inline(always)]
    fn next_class(&self, class: usize) -> Option<usize> {
        let mut word = class / 64;
        let mut keep = u64::MAX << (class % 64);
        while word < head::RESERVED_BITMAP - head::BITMAP {
            // Relaxed: only the holder of the lock reads or stores it.
            let bits = self.head.load(head::BITMAP + word, Ordering::Relaxed) & keep;
            if bits != 0 {
                return Some(word * 64 + bits.trailing_zeros() as usize);
            }
            (word, keep) = (word + 1, u64::MAX);
        }
        None
    }

    /// A hole for `size` bytes at `align`: one of the first few of its own class, all within a sixteenth of each
    /// other, else of the next larger classes, else any hole there is. `Err(Ok(_))` only if none fits.
    #[inline(always)]
    pub(crate) fn find(&self, size: u64, align: u64) -> Result<Fit, Result<NoFit, Fault>> {
        let mut class = class_of(size.div_ceil(GRANULE));
        while let Some(found) = self.next_class(class) {
            if let Some(fit) = self.find_in_class(found, size, align).map_err(Err)? {
                return Ok(fit);
            }
            class = found + 1;
        }
        self.find_anywhere(size, align)
    }

    #[inline(always)]
    fn find_in_class(&self, class: usize, size: u64, align: u64) -> Result<Option<Fit>, Fault> {
        let word = head::CLASS_HEADS + class;
        let mut at = self.head_at(word);
        let mut index = self.head_value(word)?;
        if index == NONE {
            return Err(Fault { what: FaultKind::Bitmap, at, expected: 0, found: class as u64 });
        }
        let mut looks = 0;
        while index != NONE && looks < LOOKS {
            let hole = self.class_member(index, class, at)?;
            if let Some(start) = fit(&hole, size, align) {
                return Ok(Some(Fit { hole, start }));
            }
            looks += 1;
            (index, at) = (hole.class_next, self.class_links_at(index));
        }
        Ok(None)
    }

    /// The slow way, before an allocation fails: every partition in address order, every rule checked.
    #[cold]
    fn find_anywhere(&self, size: u64, align: u64) -> Result<Fit, Result<NoFit, Fault>> {
        let mut seen = NoFit { largest: 0, free: 0 };
        let mut best: Option<Fit> = None;
        let mut bits = [0_u64; head::RESERVED_BITMAP - head::BITMAP];
        self.walk(|partition| {
            if partition.is(Kind::Hole) {
                let class = class_of(partition.size / GRANULE);
                bits[class / 64] |= 1 << (class % 64);
                seen.largest = seen.largest.max(partition.size);
                seen.free += partition.size;
                if let Some(start) = fit(partition, size, align)
                    && best.is_none_or(|best| partition.size < best.hole.size)
                {
                    best = Some(Fit { hole: *partition, start });
                }
            }
            Ok(())
        })
        .map_err(Err)?;
        for (word, &expected) in bits.iter().enumerate() {
            // Relaxed: only the holder of the lock reads or stores it.
            let found = self.head.load(head::BITMAP + word, Ordering::Relaxed);
            if found != expected {
                let at = self.head_at(head::BITMAP + word);
                return Err(Err(Fault { what: FaultKind::Bitmap, at, expected, found }));
            }
        }
        best.ok_or(Ok(seen))
    }

    // ---- the page map ----------------------------------------------------------------------------------

    /// The first allocation that has a granule in `page`.
    #[inline(always)]
    pub(crate) fn page_entry(&self, page: u64) -> Result<u32, Fault> {
        // Relaxed: only the holder of the lock reads or stores it.
        let found = self.map.load(page as usize, Ordering::Relaxed);
        match unseal(found, MAP_PLACE + page) {
            Ok(value) => Ok(value),
            Err(expected) => Err(self.seal_fault(FaultKind::PageMap, self.map_at(page), expected, found)),
        }
    }

    #[inline(always)]
    pub(crate) fn map_at(&self, page: u64) -> u64 {
        USER_OFFSET + HEAD_BYTES + page * 8
    }

    #[inline(always)]
    pub(crate) fn set_page_entry(&self, page: u64, index: u32) {
        // Relaxed: only the holder of the lock reads or stores it.
        self.map.store(page as usize, seal(index, MAP_PLACE + page), Ordering::Relaxed);
    }

    /// Enters the allocation `index` of `start..end`. `before` is where the allocation before it ends, if
    /// there is one.
    #[inline(always)]
    pub(crate) fn map_insert(&self, index: u32, start: u64, end: u64, before: Option<u64>) {
        let (first, last) = (start / PAGE, (end - 1) / PAGE);
        if before.is_none_or(|before| before <= first * PAGE) {
            self.set_page_entry(first, index);
        }
        for page in first + 1..=last {
            self.set_page_entry(page, index);
        }
    }

    /// Takes out an allocation of `start..end`. `before` as in `map_insert`; `after` is the next allocation
    /// and where it starts.
    #[inline(always)]
    pub(crate) fn map_remove(&self, start: u64, end: u64, before: Option<u64>, after: Option<(u32, u64)>) {
        let (first, last) = (start / PAGE, (end - 1) / PAGE);
        let heir = |page: u64| match after {
            Some((index, start)) if start / PAGE == page => index,
            _ => NONE,
        };
        if before.is_none_or(|before| before <= first * PAGE) {
            self.set_page_entry(first, heir(first));
        }
        for page in first + 1..=last {
            self.set_page_entry(page, heir(page));
        }
    }

    /// The allocation that holds the byte at `gaddr`. At most 64 allocations begin in one page.
    #[inline(always)]
    pub(crate) fn lookup(&self, gaddr: u64) -> Result<Option<Slot>, Fault> {
        let page = gaddr / PAGE;
        let Some(index) = Self::some(self.page_entry(page)?) else { return Ok(None) };
        let first = self.expect(index, Kind::Used, self.map_at(page))?;
        let mut at = first;
        if first.start / PAGE > page || first.end() <= page * PAGE {
            let (expected, found) = (page * PAGE, first.start);
            return Err(Fault { what: FaultKind::PageMap, at: self.map_at(page), expected, found });
        }
        loop {
            if gaddr < at.start {
                return Ok(None);
            }
            if at.is(Kind::Used) && gaddr - at.start < at.size {
                return Ok(Some(at));
            }
            let Some(next) = self.next(&at)? else { return Ok(None) };
            at = next;
        }
    }

    // ---- idle slots --------------------------------------------------------------------------------------

    /// Takes a slot that holds nothing; `None` if the table is full. The second value is its last stamp.
    #[inline(always)]
    pub(crate) fn take_slot(&self) -> Result<Option<(u32, u64)>, Fault> {
        let at = self.head_at(head::IDLE_HEAD);
        if let Some(index) = Self::some(self.head_value(head::IDLE_HEAD)?) {
            let idle = self.slot(index, at)?;
            if !idle.is(Kind::Idle) || idle.tag != 0 {
                return Err(self.kind_fault(&idle, Kind::Idle));
            }
            self.set_head_value(head::IDLE_HEAD, idle.class_next);
            return Ok(Some((index, idle.stamp)));
        }
        let mark = self.head_value(head::HIGH_WATER)?;
        if mark == self.capacity {
            return Ok(None);
        }
        if self.capacity < mark {
            let at = self.head_at(head::HIGH_WATER);
            let (expected, found) = (self.capacity.into(), mark.into());
            return Err(Fault { what: FaultKind::SlotIndex, at, expected, found });
        }
        let truth = self.truth(mark);
        if !truth.is_virgin() {
            let at = self.slot_at(mark, 0);
            return Err(Fault { what: FaultKind::Virgin, at, expected: 0, found: truth.words[0] });
        }
        self.set_head_value(head::HIGH_WATER, mark + 1);
        // Relaxed: static, stored before the region was published.
        Ok(Some((mark, self.head.load(head::STAMP_BASE, Ordering::Relaxed))))
    }

    /// How many more slots can be taken without growing the table; counts at most two.
    #[inline(always)]
    pub(crate) fn has_two_slots(&self) -> Result<bool, Fault> {
        let mark = self.head_value(head::HIGH_WATER)?;
        if u64::from(mark) + 2 <= u64::from(self.capacity) {
            return Ok(true);
        }
        let Some(index) = Self::some(self.head_value(head::IDLE_HEAD)?) else { return Ok(false) };
        let idle = self.slot(index, self.head_at(head::IDLE_HEAD))?;
        Ok(mark < self.capacity || idle.class_next != NONE)
    }

    /// Makes slot `index` idle; its last stamp stays with it.
    #[inline(always)]
    pub(crate) fn put_slot(&self, index: u32, stamp: u64) -> Result<(), Fault> {
        let old = self.head_value(head::IDLE_HEAD)?;
        self.store_free(index, Kind::Idle, 0, 0, stamp);
        self.set_class_links(index, NONE, old);
        self.set_head_value(head::IDLE_HEAD, index);
        Ok(())
    }
}

/// Where in `hole` an allocation of `size` bytes at `align` would begin, if it fits.
#[inline(always)]
fn fit(hole: &Slot, size: u64, align: u64) -> Option<u64> {
    // A hole lies below 2^45, so only a huge alignment can overflow.
    let start = hole.start.checked_add(align - 1)? & !(align - 1);
    let end = start.checked_add(size)?;
    (end <= hole.end()).then_some(start)
}

//! The tables of a workspace as words: header, page map and slots, read with every check.
//!
//! `index` keeps the lists that are built over the slots, `alloc` changes the slots themselves, `rebuild`
//! makes every index anew from them.
//!
//! # Invariants
//! - The truth is the slots whose tag is not 0 and whose epoch is the header's; all else can be rebuilt.
//! - Between [`Tables::begin`] and [`Tables::end`] the change counter is odd. It is made odd before the first
//!   store of a change and even after the last, so whoever finds it odd under the lock found a change that
//!   was cut short, by a kill or by a fault, and rebuilds.
//! - A word read from memory becomes an index only after it was compared with `capacity`.

use outlast_probe::sync::{Ordering, crash_fence, fence};
use outlast_shm::{USER_OFFSET, Words};

use crate::error::{Fault, FaultKind};
use crate::layout::{FIRST_GADDR, GRANULE, Geometry, NONE, SLOT_BYTES, SLOT_WORDS, head, slot};
use crate::seal::{seal, slot_check, unseal};

/// What a slot holds, in the high half of `EPOCH_KIND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    Used = 1,
    Hole = 2,
    Idle = 3,
}

/// One slot, copied out and checked. Links are copied as they are: `index` checks them where it follows them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) index: u32,
    pub(crate) tag: u64,
    pub(crate) start: u64,
    pub(crate) size: u64,
    pub(crate) stamp: u64,
    pub(crate) epoch: u32,
    pub(crate) kind: u32,
    pub(crate) prev: u32,
    pub(crate) next: u32,
    pub(crate) class_prev: u32,
    pub(crate) class_next: u32,
}

impl Slot {
    /// One past the last byte of the granules that it takes up.
    #[inline(always)]
    pub(crate) fn end(&self) -> u64 {
        self.start.wrapping_add(self.size).next_multiple_of(GRANULE)
    }

    /// Whether the byte at `gaddr` is one of its bytes.
    #[inline(always)]
    pub(crate) fn holds(&self, gaddr: u64) -> bool {
        gaddr.wrapping_sub(self.start) < self.size
    }

    /// Who made the allocation in it; 0: nobody who has joined. Only of a slot in use.
    #[inline(always)]
    pub(crate) fn owner(&self) -> u64 {
        u64::from(self.class_prev) | u64::from(self.class_next) << 32
    }

    #[inline(always)]
    pub(crate) fn is(&self, kind: Kind) -> bool {
        self.kind == kind as u32
    }
}

/// The five words of truth and their check, as they are in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Truth {
    pub(crate) words: [u64; 5],
    pub(crate) check: u64,
}

impl Truth {
    #[inline(always)]
    pub(crate) fn is_virgin(&self) -> bool {
        self.words.iter().fold(self.check, |bits, word| bits | word) == 0
    }

    #[inline(always)]
    pub(crate) fn expected(&self, index: u32) -> u64 {
        slot_check(index, self.words)
    }
}

/// The words of one workspace while its lock is held (or, read-only, while nothing is promised).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tables<'r> {
    pub(crate) head: Words<'r>,
    pub(crate) map: Words<'r>,
    pub(crate) slots: Words<'r>,
    pub(crate) geometry: &'r Geometry,
    /// Region offset of slot 0.
    pub(crate) slots_start: u64,
    /// Slots that the file is known to hold.
    pub(crate) capacity: u32,
    /// The header's epoch when the tables were entered.
    pub(crate) epoch: u32,
}

impl Tables<'_> {
    /// Region offset of header word `word`.
    #[inline(always)]
    pub(crate) fn head_at(&self, word: usize) -> u64 {
        USER_OFFSET + word as u64 * 8
    }

    /// Region offset of word `word` of slot `index`.
    #[inline(always)]
    pub(crate) fn slot_at(&self, index: u32, word: usize) -> u64 {
        self.slots_start + u64::from(index) * SLOT_BYTES + word as u64 * 8
    }

    /// The value of sealed header word `word`.
    #[inline(always)]
    pub(crate) fn head_value(&self, word: usize) -> Result<u32, Fault> {
        // Relaxed: the lock orders it; a reader without the lock re-checks through SEQUENCE.
        let found = self.head.load(word, Ordering::Relaxed);
        match unseal(found, word as u64) {
            Ok(value) => Ok(value),
            Err(expected) => Err(self.seal_fault(FaultKind::HeaderSeal, self.head_at(word), expected, found)),
        }
    }

    #[cold]
    pub(crate) fn seal_fault(&self, what: FaultKind, at: u64, expected: u64, found: u64) -> Fault {
        Fault { what, at, expected, found }
    }

    #[inline(always)]
    pub(crate) fn set_head_value(&self, word: usize, value: u32) {
        // Relaxed: as in `head_value`.
        self.head.store(word, seal(value, word as u64), Ordering::Relaxed);
    }

    /// Opens a change: the counter becomes odd before anything else is stored.
    #[inline(always)]
    pub(crate) fn begin(&self) {
        // Relaxed: only the holder of the lock stores it.
        let sequence = self.head.load(head::SEQUENCE, Ordering::Relaxed) | 1;
        self.head.store(head::SEQUENCE, sequence, Ordering::Relaxed);
        // Partner: the Acquire fence of `Reader::look`. Whoever reads a word stored below also sees the odd
        // counter. It orders the stores towards a kill as well.
        fence(Ordering::Release);
        crash_fence();
    }

    /// Closes a change.
    #[inline(always)]
    pub(crate) fn end(&self) {
        crash_fence();
        // Relaxed: only the holder of the lock stores it.
        let sequence = self.head.load(head::SEQUENCE, Ordering::Relaxed) | 1;
        // Release: partner is the Acquire load of `Reader::look`.
        self.head.store(head::SEQUENCE, sequence.wrapping_add(1), Ordering::Release);
    }

    /// Whether the last change was cut short.
    #[inline(always)]
    pub(crate) fn is_torn(&self) -> bool {
        // Relaxed: called under the lock.
        self.head.load(head::SEQUENCE, Ordering::Relaxed) & 1 == 1
    }

    /// The words of slot `index`, which must be below `capacity`.
    #[inline(always)]
    fn line(&self, index: u32) -> Words<'_> {
        let first = index as usize * SLOT_WORDS;
        self.slots.sub(first..first + SLOT_WORDS)
    }

    /// The truth of slot `index`, which must be below `capacity`, unchecked.
    #[inline(always)]
    pub(crate) fn truth(&self, index: u32) -> Truth {
        let line = self.line(index);
        // Relaxed: the lock orders it; a reader without the lock re-checks.
        let word = |word: usize| line.load(word, Ordering::Relaxed);
        let words =
            [word(slot::TAG), word(slot::START), word(slot::SIZE), word(slot::STAMP), word(slot::EPOCH_KIND)];
        Truth { words, check: word(slot::CHECK) }
    }

    /// The two halves of a link word of slot `index`, if there is such a slot. `at` is where the index was read.
    #[inline(always)]
    fn link_word(&self, index: u32, word: usize, at: u64) -> Result<(u32, u32), Fault> {
        if self.capacity <= index {
            return Err(self.index_fault(index, at));
        }
        // Relaxed: the lock orders it.
        let links = self.line(index).load(word, Ordering::Relaxed);
        Ok((links as u32, (links >> 32) as u32))
    }

    /// The partitions before and after slot `index`. What they are is for the caller to compare.
    #[inline(always)]
    pub(crate) fn links(&self, index: u32, at: u64) -> Result<(u32, u32), Fault> {
        self.link_word(index, slot::ADDRESS_LINKS, at)
    }

    /// The holes before and after slot `index` in its class.
    #[inline(always)]
    pub(crate) fn class_links(&self, index: u32, at: u64) -> Result<(u32, u32), Fault> {
        self.link_word(index, slot::CLASS_LINKS, at)
    }

    #[cold]
    fn index_fault(&self, index: u32, at: u64) -> Fault {
        let (expected, found) = (u64::from(self.capacity), u64::from(index));
        Fault { what: FaultKind::SlotIndex, at, expected, found }
    }

    #[cold]
    fn check_fault(&self, index: u32, truth: &Truth) -> Fault {
        let at = self.slot_at(index, slot::CHECK);
        Fault { what: FaultKind::SlotCheck, at, expected: truth.expected(index), found: truth.check }
    }

    /// Slot `index` if it exists and its check matches. `at` is where the index was read.
    #[inline(always)]
    pub(crate) fn slot(&self, index: u32, at: u64) -> Result<Slot, Fault> {
        if self.capacity <= index {
            return Err(self.index_fault(index, at));
        }
        let truth = self.truth(index);
        if truth.check != truth.expected(index) {
            return Err(self.check_fault(index, &truth));
        }
        let line = self.line(index);
        // Relaxed: as in `truth`.
        let links = line.load(slot::ADDRESS_LINKS, Ordering::Relaxed);
        let class_links = line.load(slot::CLASS_LINKS, Ordering::Relaxed);
        let [tag, start, size, stamp, epoch_kind] = truth.words;
        Ok(Slot {
            index,
            tag,
            start,
            size,
            stamp,
            epoch: epoch_kind as u32,
            kind: (epoch_kind >> 32) as u32,
            prev: links as u32,
            next: (links >> 32) as u32,
            class_prev: class_links as u32,
            class_next: (class_links >> 32) as u32,
        })
    }

    /// Slot `index` if it is a partition: an allocation of this epoch or a hole, with a sane range.
    #[inline(always)]
    pub(crate) fn partition(&self, index: u32, at: u64) -> Result<Slot, Fault> {
        let found = self.slot(index, at)?;
        let used = found.is(Kind::Used) && found.tag != 0 && found.epoch == self.epoch;
        let hole = found.is(Kind::Hole) && found.tag == 0;
        if !used && !hole {
            return Err(self.kind_fault(&found, Kind::Hole));
        }
        self.check_range(&found)?;
        Ok(found)
    }

    /// Slot `index` if it is a partition of kind `kind`.
    #[inline(always)]
    pub(crate) fn expect(&self, index: u32, kind: Kind, at: u64) -> Result<Slot, Fault> {
        let found = self.partition(index, at)?;
        if found.is(kind) { Ok(found) } else { Err(self.kind_fault(&found, kind)) }
    }

    #[cold]
    pub(crate) fn kind_fault(&self, found: &Slot, expected: Kind) -> Fault {
        Fault {
            what: FaultKind::SlotKind,
            at: self.slot_at(found.index, slot::EPOCH_KIND),
            expected: self.epoch_kind(expected),
            found: u64::from(found.epoch) | u64::from(found.kind) << 32,
        }
    }

    /// The range rules of a partition: aligned, not empty, inside the data.
    #[inline(always)]
    pub(crate) fn check_range(&self, partition: &Slot) -> Result<(), Fault> {
        let Slot { start, size, .. } = *partition;
        let room = self.geometry.data_bytes.wrapping_sub(start);
        let bad_start =
            start & (GRANULE - 1) != 0 || start < FIRST_GADDR || self.geometry.data_bytes <= start;
        if bad_start || size == 0 || room < size {
            return Err(self.range_fault(partition, bad_start, room));
        }
        Ok(())
    }

    #[cold]
    fn range_fault(&self, partition: &Slot, bad_start: bool, room: u64) -> Fault {
        let (word, expected, found) = match bad_start {
            true => (slot::START, FIRST_GADDR, partition.start),
            false => (slot::SIZE, room, partition.size),
        };
        Fault { what: FaultKind::Range, at: self.slot_at(partition.index, word), expected, found }
    }

    /// The word that says the current epoch and `kind`.
    #[inline(always)]
    pub(crate) fn epoch_kind(&self, kind: Kind) -> u64 {
        u64::from(self.epoch) | (kind as u64) << 32
    }

    /// Stores the truth of a slot that holds no allocation, tag 0 included, with its check.
    #[inline(always)]
    pub(crate) fn store_free(&self, index: u32, kind: Kind, start: u64, size: u64, stamp: u64) {
        let line = self.line(index);
        let epoch_kind = self.epoch_kind(kind);
        // Relaxed, here and below: the lock orders it towards other holders, `begin` and the tag towards readers.
        line.store(slot::TAG, 0, Ordering::Relaxed);
        crash_fence();
        line.store(slot::START, start, Ordering::Relaxed);
        line.store(slot::SIZE, size, Ordering::Relaxed);
        line.store(slot::STAMP, stamp, Ordering::Relaxed);
        line.store(slot::EPOCH_KIND, epoch_kind, Ordering::Relaxed);
        line.store(slot::CHECK, slot_check(index, [0, start, size, stamp, epoch_kind]), Ordering::Relaxed);
    }

    /// Stores everything of an allocation but its tag. The slot's tag must be 0.
    #[inline(always)]
    pub(crate) fn prepare_used(&self, index: u32, start: u64, size: u64, stamp: u64, tag: u64) {
        let line = self.line(index);
        let epoch_kind = self.epoch_kind(Kind::Used);
        // The stamp first: a reader that mixes this allocation with the one before sees two stamps.
        // Relaxed, here and below: as in `store_free`.
        line.store(slot::STAMP, stamp, Ordering::Relaxed);
        // Partner: the Acquire fence of `Tables::steady_slot`.
        fence(Ordering::Release);
        line.store(slot::START, start, Ordering::Relaxed);
        line.store(slot::SIZE, size, Ordering::Relaxed);
        line.store(slot::EPOCH_KIND, epoch_kind, Ordering::Relaxed);
        line.store(slot::CHECK, slot_check(index, [tag, start, size, stamp, epoch_kind]), Ordering::Relaxed);
    }

    /// The commit point of an allocation.
    #[inline(always)]
    pub(crate) fn commit(&self, index: u32, tag: u64) {
        crash_fence();
        // Release: partner is the Acquire load of `Tables::steady_slot`.
        self.line(index).store(slot::TAG, tag, Ordering::Release);
        crash_fence();
    }

    /// The commit point of a free.
    #[inline(always)]
    pub(crate) fn retract(&self, index: u32) {
        crash_fence();
        // Relaxed: ordered by the fence.
        self.line(index).store(slot::TAG, 0, Ordering::Relaxed);
        // Partner: the Acquire fence of `Tables::steady_slot`: whoever reads a word stored later sees the tag gone.
        fence(Ordering::Release);
        crash_fence();
    }

    #[inline(always)]
    pub(crate) fn set_links(&self, index: u32, prev: u32, next: u32) {
        // Relaxed: the lock orders it.
        self.line(index).store(
            slot::ADDRESS_LINKS,
            u64::from(prev) | u64::from(next) << 32,
            Ordering::Relaxed,
        );
    }

    #[inline(always)]
    pub(crate) fn set_class_links(&self, index: u32, prev: u32, next: u32) {
        // Relaxed: the lock orders it.
        self.line(index).store(slot::CLASS_LINKS, u64::from(prev) | u64::from(next) << 32, Ordering::Relaxed);
    }

    /// Notes who made the allocation in slot `index`, which is in no list of a class. No part of the truth.
    #[inline(always)]
    pub(crate) fn set_owner(&self, index: u32, owner: u64) {
        // Relaxed: the lock orders it.
        self.line(index).store(slot::CLASS_LINKS, owner, Ordering::Relaxed);
    }

    /// Where the links of `index` lie, for faults.
    #[inline(always)]
    pub(crate) fn links_at(&self, index: u32) -> u64 {
        self.slot_at(index, slot::ADDRESS_LINKS)
    }

    /// Where the class links of `index` lie, for faults.
    #[inline(always)]
    pub(crate) fn class_links_at(&self, index: u32) -> u64 {
        self.slot_at(index, slot::CLASS_LINKS)
    }

    /// A link, or `None` for the end of a list.
    #[inline(always)]
    pub(crate) fn some(index: u32) -> Option<u32> {
        (index != NONE).then_some(index)
    }
}

//! Where everything of a workspace lies in its region. Page: docs/format/wksp.md.
//!
//! ```text
//! region header and joiners (outlast-shm) | header | page map | guard | data ... | guard | slot table ...
//! ```
//!
//! The slot table comes last so that it can grow with the file while the data stays where it is.
//!
//! # Invariants
//! - [`Geometry::new`] is the only source of offsets: the same numbers come out in every process.
//! - The data origin, both guards and the slot table are page-aligned.
//! - `gaddr` counts from the data origin, so a block has the same gaddr whatever the sizes of the tables.

use core::ops::Range;

use outlast_shm::{Expect, USER_OFFSET};

/// Bytes of one page of the smallest kind; the page map has one entry for each of them.
pub(crate) const PAGE: u64 = 4096;
/// Allocations start at multiples of this many bytes and take up whole granules.
pub(crate) const GRANULE: u64 = 64;
/// Bytes of one slot: one cache line.
pub(crate) const SLOT_BYTES: u64 = 64;
/// Words of one slot.
pub(crate) const SLOT_WORDS: usize = 8;
/// First gaddr that can be allocated: granule 0 holds the null address.
pub(crate) const FIRST_GADDR: u64 = GRANULE;
/// "No slot" in links, heads and page map entries.
pub(crate) const NONE: u32 = u32::MAX;
/// Size classes of holes: 31 exact ones, then 16 to a doubling.
pub(crate) const CLASS_COUNT: usize = 640;
/// Largest data region: 32 TiB, so that the region with its largest slot table fits the address space.
pub(crate) const DATA_MAX_BYTES: u64 = 1 << 45;
/// Layout number of the workspace tables; part of the fingerprint.
pub(crate) const FORMAT_VERSION: u64 = 1;
/// What a region holds: the bytes `OLwksp\r\n`.
pub(crate) const KIND: u64 = u64::from_le_bytes(*b"OLwksp\r\n");

macro_rules! words {
    ($(#[$outer:meta])* pub(crate) mod $module:ident, table $table:ident { $($(#[doc = $doc:literal])+ $name:ident = $index:literal $(.. $end:literal)?,)* }) => {
        $(#[$outer])*
        pub(crate) mod $module {
            #![allow(dead_code, reason = "reserved words have a name and nobody uses them")]
            $($(#[doc = $doc])+ pub(crate) const $name: usize = $index;)*
        }
        /// (name, first word, words, what it holds), in order; the format page is checked against it.
        pub(crate) const $table: &[(&str, usize, usize, &str)] = &[
            $((stringify!($name), $index, words!(@len $index $($end)?), concat!($($doc),+)),)*
        ];
        const _: () = {
            let mut at = 0;
            let mut row = 0;
            while row < $table.len() {
                assert!($table[row].1 == at, "rows are in order and leave no hole");
                at += $table[row].2;
                row += 1;
            }
        };
    };
    (@len $index:literal $end:literal) => { $end - $index };
    (@len $index:literal) => { 1 };
}

words! {
    /// Word indices in the workspace header.
    pub(crate) mod head, table HEAD_TABLE {
        /// bytes of the data region, a page multiple; static
        DATA_BYTES = 0,
        /// slots that the file held when it was made; static
        SLOTS_INITIAL = 1,
        /// stamps count up from here; random for each region; static
        STAMP_BASE = 2,
        /// hash of the three static words; static
        STATIC_CHECK = 3,
        /// 0, reserved
        RESERVED_STATIC = 4 .. 8,
        /// sealed: 1 normal, 2 restoring, 3 replaced
        STATE = 8,
        /// low half of the id of the checkpoint being restored
        RESTORE_ID_LOW = 9,
        /// high half of the id of the checkpoint being restored
        RESTORE_ID_HIGH = 10,
        /// sealed: slots of another epoch are not allocations; one store of it is a reset
        EPOCH = 11,
        /// sealed: seed of the index
        SEED = 12,
        /// 0, reserved
        RESERVED_STATE = 13 .. 16,
        /// odd while a holder of the lock changes slots
        SEQUENCE = 16,
        /// sealed: first idle slot
        IDLE_HEAD = 17,
        /// sealed: slots below it have been used once
        HIGH_WATER = 18,
        /// sealed: slot of the partition with the lowest address
        FIRST = 19,
        /// sealed: slot that the current or last alloc or free works on
        PENDING = 20,
        /// 0, reserved
        RESERVED_INDEX = 21 .. 24,
        /// one bit for each size class that has a hole
        BITMAP = 24 .. 34,
        /// 0, reserved
        RESERVED_BITMAP = 34 .. 40,
        /// sealed: first hole of each of the 640 size classes
        CLASS_HEADS = 40 .. 680,
        /// 0, reserved
        RESERVED_TAIL = 680 .. 1024,
    }
}

words! {
    /// Word indices in a slot.
    pub(crate) mod slot, table SLOT_TABLE {
        /// 0 = not an allocation; written last by alloc, first by free: the commit word
        TAG = 0,
        /// gaddr of the first byte, a multiple of 64
        START = 1,
        /// bytes asked for (allocation) or bytes of the hole
        SIZE = 2,
        /// counts the allocations that this slot has held
        STAMP = 3,
        /// low half the epoch, high half the kind: 0 virgin, 1 used, 2 hole, 3 idle
        EPOCH_KIND = 4,
        /// hash of the five words above and the slot's number
        CHECK = 5,
        /// index: low half the previous partition by address, high half the next
        ADDRESS_LINKS = 6,
        /// index: low half the previous hole of the class, high half the next (idle: the next idle slot); an
        /// allocation: who made it, generation of the joiner slot times 256 plus its number, or 0
        CLASS_LINKS = 7,
    }
}

/// Bytes of the workspace header.
pub(crate) const HEAD_BYTES: u64 = 8192;
const _: () = assert!(
    HEAD_BYTES == 8 * 1024
        && head::CLASS_HEADS + CLASS_COUNT == head::RESERVED_TAIL
        && CLASS_COUNT == 64 * (head::RESERVED_BITMAP - head::BITMAP)
        && slot::CLASS_LINKS + 1 == SLOT_WORDS
        && SLOT_WORDS as u64 * 8 == SLOT_BYTES
        && USER_OFFSET.is_multiple_of(PAGE)
);

/// Refuses a workspace whose layout another build laid out differently.
pub(crate) const fn expect() -> Expect {
    Expect { kind: KIND, fingerprint: fingerprint() }
}

/// FNV-1a over every table row's place and the constants above.
const fn fingerprint() -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let tables = [HEAD_TABLE, SLOT_TABLE];
    let mut table = 0;
    while table < tables.len() {
        let mut row = 0;
        while row < tables[table].len() {
            hash = fnv(hash, tables[table][row].1 as u64);
            hash = fnv(hash, tables[table][row].2 as u64);
            row += 1;
        }
        table += 1;
    }
    hash = fnv(hash, GRANULE);
    hash = fnv(hash, PAGE);
    hash = fnv(hash, HEAD_BYTES);
    hash = fnv(hash, SLOT_BYTES);
    fnv(hash, FORMAT_VERSION)
}

const fn fnv(mut hash: u64, value: u64) -> u64 {
    let bytes = value.to_le_bytes();
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    hash
}

/// Every offset of a workspace, computed from the size of its data and of its first slot table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Bytes of the data region, a page multiple.
    pub(crate) data_bytes: u64,
    /// Slots that the file holds when it is made.
    pub(crate) slots_initial: u64,
}

impl Geometry {
    /// `data_bytes` rounded up to pages; a slot for every 16 KiB to begin with unless told otherwise.
    /// `None` if the data region would be larger than 32 TiB or hold nothing.
    pub(crate) fn new(data_bytes: u64, slots_initial: Option<u64>) -> Option<Self> {
        if data_bytes == 0 || DATA_MAX_BYTES < data_bytes {
            return None;
        }
        let data_bytes = data_bytes.next_multiple_of(PAGE);
        let per_page = PAGE / SLOT_BYTES;
        let most = Self { data_bytes, slots_initial: 0 }.slots_max();
        let wanted = slots_initial.unwrap_or(data_bytes / (16 << 10)).clamp(1, most);
        Some(Self { data_bytes, slots_initial: wanted.next_multiple_of(per_page) })
    }

    /// One slot for each granule of the data, rounded up to pages of slots: more can never be needed.
    pub(crate) fn slots_max(&self) -> u64 {
        (self.data_bytes / GRANULE).next_multiple_of(PAGE / SLOT_BYTES).min(u64::from(NONE - 63))
    }

    /// Pages of the data region.
    pub(crate) fn pages(&self) -> u64 {
        self.data_bytes / PAGE
    }

    pub(crate) fn head(&self) -> Range<u64> {
        USER_OFFSET..USER_OFFSET + HEAD_BYTES
    }

    pub(crate) fn map(&self) -> Range<u64> {
        let start = self.head().end;
        start..start + self.pages() * 8
    }

    /// The page that stands between the tables and the data.
    pub(crate) fn guard_low(&self) -> u64 {
        self.map().end.next_multiple_of(PAGE)
    }

    pub(crate) fn data(&self) -> Range<u64> {
        let start = self.guard_low() + PAGE;
        start..start + self.data_bytes
    }

    /// The page that stands between the data and the slot table.
    pub(crate) fn guard_high(&self) -> u64 {
        self.data().end
    }

    /// Bytes of the region that a table of `slots` slots takes up.
    pub(crate) fn slots(&self, slots: u64) -> Range<u64> {
        let start = self.guard_high() + PAGE;
        start..start + slots * SLOT_BYTES
    }

    /// Length of the file when it is made.
    pub(crate) fn len_min(&self) -> u64 {
        self.slots(self.slots_initial).end
    }

    /// Length of the file with the largest slot table that can ever be needed.
    pub(crate) fn len_max(&self) -> u64 {
        self.slots(self.slots_max().max(self.slots_initial)).end
    }

    /// How many slots a file of `len` bytes holds.
    #[cfg(test)]
    pub(crate) fn capacity(&self, len: u64) -> u64 {
        len.saturating_sub(self.slots(0).start) / SLOT_BYTES
    }
}

/// The layout as text: `snapshot` tests pin it and docs/format/wksp.md carries it.
pub fn layout_table() -> String {
    use core::fmt::Write;
    let mut text = String::from("| part | offset | bytes | name | holds |\n|---|---|---|---|---|\n");
    for (part, table) in [("header", HEAD_TABLE), ("slot", SLOT_TABLE)] {
        for (name, word, words, holds) in table {
            let name = name.to_lowercase();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {part} | {} | {} | `{name}` | {} |", word * 8, words * 8, holds.trim());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other_and_are_page_aligned() {
        for data in [1, 4096, 4097, 1 << 20, 512 << 20, (1 << 40) + 1, 1 << 44, DATA_MAX_BYTES] {
            let g = Geometry::new(data, None).unwrap();
            assert!(g.data_bytes >= data && g.data_bytes - data < PAGE);
            assert!(g.head().end <= g.map().start && g.map().end <= g.guard_low());
            assert_eq!(g.guard_low() + PAGE, g.data().start);
            assert_eq!(g.data().end, g.guard_high());
            assert_eq!(g.guard_high() + PAGE, g.slots(0).start);
            for edge in [g.guard_low(), g.data().start, g.guard_high(), g.len_min(), g.len_max()] {
                assert!(edge.is_multiple_of(PAGE), "{edge} of {data}");
            }
            assert!(g.len_min() <= g.len_max());
            assert_eq!(g.capacity(g.len_min()), g.slots_initial);
        }
        assert_eq!(Geometry::new(0, None), None);
        assert_eq!(Geometry::new(DATA_MAX_BYTES + 1, None), None);
        assert_eq!(Geometry::new(4096, Some(1 << 60)).unwrap().slots_initial, 64);
    }

    #[test]
    fn default_tables_are_small_beside_the_data() {
        let g = Geometry::new(512 << 20, None).unwrap();
        let tables = g.len_min() - g.data_bytes;
        assert!(tables * 100 < g.data_bytes, "{tables} bytes of tables");
    }
}

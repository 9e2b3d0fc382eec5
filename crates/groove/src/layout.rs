//! Where everything of a groove lies in its regions. Page: docs/format/groove.md.
//!
//! ```text
//! control region:  region header and joiners (outlast-shm) | control header | volumes | seats
//! volume region:   region header and joiners (outlast-shm) | volume header | superblocks | bits |
//!                  descriptors | data ...
//! ```
//!
//! # Invariants
//! - [`Geometry::new`] is the only source of offsets: the same numbers come out in every process.
//! - A volume of zeros holds nothing and gives nothing: every root is closed, every descriptor free.

use core::ops::Range;

use outlast_shm::{Expect, JOINER_MAX, USER_OFFSET};

use crate::class::Shape;

/// Bytes of a block, the unit of everything below.
pub(crate) const BLOCK_BYTES: u64 = 512;
/// Largest alignment: that of a block.
pub(crate) const ALIGN_MAX: u64 = BLOCK_BYTES;
/// Size classes of the largest volumes.
pub(crate) const CLASS_COUNT: usize = 53;
/// "No class".
pub(crate) const CLASS_NONE: usize = 63;
/// Roots of a volume, of whatever size.
pub(crate) const ROOT_COUNT: u32 = 51;
/// Blocks of a root of the largest volume: 20 MiB.
pub(crate) const ROOT_BLOCKS_MAX: u32 = 40_960;
/// Smallest volume: 2^11 blocks, 1 MiB.
pub(crate) const VOLUME_BLOCKS_LOG2_MIN: u32 = 11;
/// Largest volume: 2^21 blocks, 1 GiB.
pub(crate) const VOLUME_BLOCKS_LOG2_MAX: u32 = 21;
/// Volumes that a groove may have at a time.
pub(crate) const VOLUME_MAX: usize = 1024;
/// Threads that may use a groove at a time.
pub(crate) const SEAT_MAX: usize = 1024;
/// Bytes that a user may leave in a volume's header.
pub(crate) const INFO_BYTES_MAX: usize = 480;
/// Layout number; part of the fingerprints.
pub(crate) const FORMAT_VERSION: u64 = 1;
/// What a control region holds: the bytes `OLgroov\n`.
pub(crate) const CONTROL_KIND: u64 = u64::from_le_bytes(*b"OLgroov\n");
/// What a volume region holds: the bytes `OLvolum\n`.
pub(crate) const VOLUME_KIND: u64 = u64::from_le_bytes(*b"OLvolum\n");
const PAGE: u64 = 4096;

macro_rules! words {
    ($(#[$outer:meta])* pub(crate) mod $module:ident, table $table:ident { $($(#[doc = $doc:literal])+ $name:ident = $index:literal $(.. $end:literal)?,)* }) => {
        $(#[$outer])*
        pub(crate) mod $module {
            #![allow(dead_code, reason = "reserved words have a name and nobody uses them")]
            $($(#[doc = $doc])+ pub(crate) const $name: usize = $index;)*
        }
        const $table: &[(&str, usize, usize, &str)] = &[
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
    /// Word indices in the control header.
    pub(crate) mod control, table CONTROL_TABLE {
        /// blocks of each volume, as a power of two: 11 to 21; static
        BLOCKS_LOG2 = 0,
        /// low half of the random id that the groove's volumes share; static
        ID_LOW = 1,
        /// high half of that id; static
        ID_HIGH = 2,
        /// hash of the three words above; static
        CHECK = 3,
        /// 0, reserved
        RESERVED_STATIC = 4 .. 8,
        /// counts the changes of the table of volumes
        EPOCH = 8,
        /// 0, reserved
        RESERVED = 9 .. 16,
    }
}

words! {
    /// Word indices in an entry of the table of volumes.
    pub(crate) mod entry, table ENTRY_TABLE {
        /// 0 vacant, 1 in use, 2 draining; the commit word of adding and removing
        STATE = 0,
        /// low half of the id of the volume's region
        REGION_LOW = 1,
        /// high half of that id
        REGION_HIGH = 2,
        /// no generation up to this one is given out again by a volume with this index
        BASE = 3,
        /// 0, reserved
        RESERVED = 4 .. 8,
    }
}

words! {
    /// Word indices in a seat, which is what one thread has in a groove.
    pub(crate) mod seat, table SEAT_TABLE {
        /// bit 63 taken, 48 to 55 the joiner's slot, 32 to 47 its generation, 0 to 31 how often the seat was taken
        OWNER = 0,
        /// low half the word of the descriptor that its owner holds or frees, high half the volume's index plus 1
        INTENT = 1,
        /// 0, reserved
        RESERVED = 2 .. 8,
    }
}

words! {
    /// Word indices in the volume header.
    pub(crate) mod head, table HEAD_TABLE {
        /// low half of the groove's id; static
        ID_LOW = 0,
        /// high half of the groove's id; static
        ID_HIGH = 1,
        /// low half the volume's index, high half its blocks as a power of two; static
        INDEX_SIZE = 2,
        /// generations of this volume begin after this one; static
        BASE = 3,
        /// hash of the four words above; static
        CHECK = 4,
        /// 1 open, 2 being rebuilt; anything else is damage
        STATE = 5,
        /// bytes of the user's information, at most 480
        INFO_LEN = 6,
        /// 0, reserved
        RESERVED = 7 .. 8,
        /// the user's information, zero-padded
        INFO = 8 .. 68,
        /// 0, reserved
        RESERVED_TAIL = 68 .. 72,
    }
}

words! {
    /// Word indices in a superblock's record, which has a cache line of its own.
    pub(crate) mod superblock, table SUPERBLOCK_TABLE {
        /// bits 0 to 52: slot is free; bits 58 to 63: class + 1, 62 open root, 0 none
        SLOTS = 0,
        /// 0, reserved
        RESERVED = 1 .. 8,
    }
}

words! {
    /// Word indices in a block's descriptor.
    pub(crate) mod descriptor, table DESCRIPTOR_TABLE {
        /// bits 0 to 3 state, 4 to 7 alignment as a power of two, 8 to 31 size or claim, 32 to 63 generation
        STATE = 0,
        /// the object's tag
        TAG = 1,
    }
}

/// Words of the control header.
pub(crate) const CONTROL_WORDS: usize = 16;
/// Words of an entry, of a seat, of a superblock's record: a cache line each.
pub(crate) const LINE_WORDS: usize = 8;
/// Words of a descriptor.
pub(crate) const DESCRIPTOR_WORDS: usize = 2;
/// Words of the volume header.
pub(crate) const HEAD_WORDS: usize = 72;

const _: () = assert!(
    control::RESERVED + 7 == CONTROL_WORDS
        && entry::RESERVED + 4 == LINE_WORDS
        && seat::RESERVED + 6 == LINE_WORDS
        && superblock::RESERVED + 7 == LINE_WORDS
        && descriptor::TAG + 1 == DESCRIPTOR_WORDS
        && head::RESERVED_TAIL + 4 == HEAD_WORDS
        && HEAD_WORDS.is_multiple_of(LINE_WORDS)
        && (head::RESERVED_TAIL - head::INFO) * 8 == INFO_BYTES_MAX
        && JOINER_MAX <= 256
        && USER_OFFSET.is_multiple_of(PAGE)
);

/// Refuses a region of a build that laid it out differently.
pub(crate) const fn expect(kind: u64) -> Expect {
    Expect { kind, fingerprint: fingerprint() }
}

/// FNV-1a over every table row's place and the constants above.
pub(crate) const fn fingerprint() -> u64 {
    let tables = [CONTROL_TABLE, ENTRY_TABLE, SEAT_TABLE, HEAD_TABLE, SUPERBLOCK_TABLE, DESCRIPTOR_TABLE];
    let mut hash = FNV_START;
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
    let mut class = 0;
    while class < CLASS_COUNT {
        hash = fnv(hash, crate::class::SIZES[class] as u64);
        class += 1;
    }
    hash = fnv(fnv(hash, BLOCK_BYTES), ROOT_COUNT as u64);
    hash = fnv(fnv(hash, VOLUME_MAX as u64), SEAT_MAX as u64);
    fnv(hash, FORMAT_VERSION)
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// The check of a few words.
pub(crate) fn check_of(words: &[u64]) -> u64 {
    words.iter().fold(FNV_START, |hash, word| fnv(hash, *word))
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

/// Bytes of a control region.
pub(crate) const CONTROL_REGION_BYTES: u64 =
    (USER_OFFSET + 8 * (CONTROL_WORDS + LINE_WORDS * (VOLUME_MAX + SEAT_MAX)) as u64).next_multiple_of(PAGE);

/// First word, from the control header on, of a volume's entry.
pub(crate) const fn entry_at(index: usize) -> usize {
    CONTROL_WORDS + LINE_WORDS * index
}

/// First word, from the control header on, of a seat.
pub(crate) const fn seat_at(seat: usize) -> usize {
    entry_at(VOLUME_MAX) + LINE_WORDS * seat
}

/// Every offset of a volume, computed from its size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    /// Blocks, as a power of two.
    pub(crate) blocks_log2: u64,
    /// Classes and superblocks.
    pub(crate) shape: &'static Shape,
}

impl Geometry {
    /// `None` for sizes that no volume has.
    pub(crate) fn new(blocks_log2: u64) -> Option<Self> {
        Some(Self { blocks_log2, shape: Shape::of(blocks_log2)? })
    }

    /// The volumes of `volume_bytes` bytes, a power of two.
    pub(crate) fn of_bytes(volume_bytes: u64) -> Option<Self> {
        let blocks = volume_bytes / BLOCK_BYTES;
        if !volume_bytes.is_power_of_two() || blocks == 0 {
            return None;
        }
        Self::new(blocks.ilog2().into())
    }

    /// Nominal bytes of a volume.
    pub(crate) fn volume_bytes(&self) -> u64 {
        BLOCK_BYTES << self.blocks_log2
    }

    /// First word, from the volume header on, of the record of superblock `number`.
    #[inline]
    pub(crate) fn superblock_at(&self, number: u32) -> usize {
        HEAD_WORDS + LINE_WORDS * number as usize
    }

    /// First word of the bits.
    pub(crate) fn bits_at(&self) -> usize {
        self.superblock_at(self.shape.superblock_count)
    }

    /// First word of the descriptor of block `offset` of `root`.
    #[inline]
    pub(crate) fn descriptor_at(&self, root: u32, offset: u32) -> usize {
        self.descriptors_at() + DESCRIPTOR_WORDS * (root * self.shape.root_blocks + offset) as usize
    }

    /// First word of the descriptors, a cache line's beginning.
    #[inline]
    pub(crate) fn descriptors_at(&self) -> usize {
        (self.bits_at() + self.shape.bits_words).next_multiple_of(LINE_WORDS)
    }

    /// Words from the volume header up to the last descriptor.
    pub(crate) fn table_words(&self) -> usize {
        self.descriptors_at() + DESCRIPTOR_WORDS * self.shape.data_blocks() as usize
    }

    /// Header, superblocks, bits and descriptors, in bytes of the region.
    pub(crate) fn tables(&self) -> Range<u64> {
        USER_OFFSET..USER_OFFSET + 8 * self.table_words() as u64
    }

    /// The data, in bytes of the region.
    pub(crate) fn data(&self) -> Range<u64> {
        let start = self.tables().end.next_multiple_of(PAGE);
        start..start + u64::from(self.shape.data_blocks()) * BLOCK_BYTES
    }

    /// Bytes of a volume's region.
    pub(crate) fn region_bytes(&self) -> u64 {
        self.data().end.next_multiple_of(PAGE)
    }
}

/// The layout as a Markdown table: a snapshot pins it and docs/format/groove.md carries it.
pub fn layout_table() -> String {
    use core::fmt::Write;
    let mut text = String::from("| part | offset | bytes | name | holds |\n|---|---|---|---|---|\n");
    for (part, table) in [
        ("control header", CONTROL_TABLE),
        ("volume entry", ENTRY_TABLE),
        ("seat", SEAT_TABLE),
        ("volume header", HEAD_TABLE),
        ("superblock", SUPERBLOCK_TABLE),
        ("descriptor", DESCRIPTOR_TABLE),
    ] {
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
    fn parts_follow_each_other() {
        for log2 in VOLUME_BLOCKS_LOG2_MIN..=VOLUME_BLOCKS_LOG2_MAX {
            let geometry = Geometry::new(log2.into()).unwrap();
            assert_eq!(Geometry::of_bytes(geometry.volume_bytes()).unwrap().blocks_log2, u64::from(log2));
            assert_eq!(geometry.descriptors_at() % LINE_WORDS, 0);
            assert!(geometry.bits_at() + geometry.shape.bits_words <= geometry.descriptors_at());
            assert!(geometry.data().start.is_multiple_of(PAGE));
            let data = geometry.data().end - geometry.data().start;
            assert!(data <= geometry.volume_bytes() && geometry.volume_bytes() - data < BLOCK_BYTES << log2);
            let overhead = geometry.region_bytes() - USER_OFFSET - data;
            println!("2^{log2} blocks: {data} bytes of data, {overhead} of tables");
            assert!(overhead * 10 < data * 2, "2^{log2}: {overhead} bytes of tables for {data}");
        }
        for log2 in [0, 10, 22, u64::MAX] {
            assert!(Geometry::new(log2).is_none());
        }
        for bytes in [0, 1, 511, (1 << 20) + 1, 3 << 20, 1 << 31, u64::MAX] {
            assert!(Geometry::of_bytes(bytes).is_none());
        }
    }
}

//! Where everything of a region lies in its file. Page: docs/format/region.md.
//!
//! ```text
//! static header | lock word | ... 4096 | 256 joiner slots x 256 B ... 69632 | user area ... length
//! ```
//!
//! # Invariants
//! - The static header is written once, before anybody can find the file, and never changes.
//! - The lock word and every joiner slot have cache lines of their own (128 bytes, two adjacent lines).
//! - `LAYOUT_FINGERPRINT` covers every row below, so a build with another layout refuses the file.

/// Bytes of a page of the smallest kind.
pub(crate) const PAGE_BYTES: u64 = 4096;
/// First bytes of the file: trap bytes that text conversion, 7-bit channels or a mere text would break.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"\x89OLR\r\n\x1a\n");
/// Version of the format as a whole.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// Slots of the joiner table, one for each process that may join for writing at the same time.
pub const JOINER_MAX: usize = 256;
/// Counters in each joiner slot.
pub const COUNTER_MAX: usize = 15;
/// First byte of the file that belongs to the user of the region.
pub const USER_OFFSET: u64 = JOINERS_OFFSET + (JOINER_MAX as u64) * JOINER_BYTES;

/// Bytes of the static header, the last eight of which are its checksum.
pub(crate) const STATIC_BYTES: usize = 256;
/// Byte offset of the joiner table.
pub(crate) const JOINERS_OFFSET: u64 = PAGE_BYTES;
/// Bytes of a joiner slot.
pub(crate) const JOINER_BYTES: u64 = 256;
/// Word index of the lock word.
pub(crate) const LOCK_WORD: usize = head::LOCK / 8;
/// File offset, far beyond any data, of the byte whose open-file-description lock proves the life of the
/// joiner in slot 0; slot n has the n-th byte after it.
pub(crate) const PROOF_BASE: u64 = 1 << 62;
/// File offset of the byte on which every read-only join holds a read lock.
pub(crate) const PROOF_READERS: u64 = PROOF_BASE + JOINER_MAX as u64;

macro_rules! rows {
    ($(#[$outer:meta])* mod $module:ident, table $table:ident, unit $unit:literal {
        $($(#[doc = $doc:literal])+ $name:ident = $start:literal .. $end:literal,)*
    }) => {
        $(#[$outer])*
        #[allow(dead_code, reason = "reserved rows have a name for the table only")]
        pub(crate) mod $module {
            $($(#[doc = $doc])+ pub(crate) const $name: usize = $start;)*
        }
        /// (name, first byte, bytes, what it holds), in order and without holes.
        const $table: &[(&str, usize, usize, &str)] = &[
            $((stringify!($name), $start * $unit, ($end - $start) * $unit, concat!($($doc),+)),)*
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
}

rows! {
    /// Byte offsets in page 0.
    mod head, table HEAD_TABLE, unit 1 {
        /// the bytes `89 4F 4C 52 0D 0A 1A 0A`
        MAGIC = 0 .. 8,
        /// 1
        VERSION = 8 .. 12,
        /// permission bits that the creator asked for
        MODE = 12 .. 16,
        /// hash of this table and the joiner table; another layout is refused
        LAYOUT = 16 .. 24,
        /// what the region holds, a number of the layer above
        KIND = 24 .. 32,
        /// layout of what it holds, a number of the layer above
        FINGERPRINT = 32 .. 40,
        /// length of the file when it was made
        LEN_MIN = 40 .. 48,
        /// length that the file may grow to
        LEN_MAX = 48 .. 56,
        /// bytes of a page: 4096
        PAGE_SIZE = 56 .. 64,
        /// name, zero-padded; all zero for an anonymous region
        NAME = 64 .. 104,
        /// 128 random bits that tell this region from every other
        ID = 104 .. 120,
        /// effective user id of the creator
        CREATOR_UID = 120 .. 124,
        /// 0, reserved
        RESERVED_UID = 124 .. 128,
        /// nanoseconds since 1970-01-01 UTC
        CREATED = 128 .. 136,
        /// offset of a page that nobody may touch, or 0
        GUARD_LOW = 136 .. 144,
        /// offset of another such page, or 0
        GUARD_HIGH = 144 .. 152,
        /// 0, reserved
        RESERVED_STATIC = 152 .. 248,
        /// FNV-1a, 64 bits, of the 248 bytes before it
        CHECKSUM = 248 .. 256,
        /// the lock word
        LOCK = 256 .. 264,
        /// 0, reserved
        RESERVED_PAGE = 264 .. 4096,
    }
}

rows! {
    /// Word indices in a joiner slot.
    mod joiner, table JOINER_TABLE, unit 8 {
        /// 0 free, 1 live; stored last by a join, first by a leave
        STATE = 0 .. 1,
        /// counts the joiners that this slot has held
        GENERATION = 1 .. 2,
        /// low half the process id, high half the thread that joined
        PID_TID = 2 .. 3,
        /// when the process started, in clock ticks since boot; 0 if not known
        START_TIME = 3 .. 4,
        /// low half of the kernel's boot id; 0 if not known
        BOOT_ID_LOW = 4 .. 5,
        /// high half of the kernel's boot id
        BOOT_ID_HIGH = 5 .. 6,
        /// inode of the pid namespace; 0 if not known
        PID_NS = 6 .. 7,
        /// inode of the time namespace; 0 if not known
        TIME_NS = 7 .. 8,
        /// 1 read and write, the only kind of join that takes a slot
        ACCESS = 8 .. 9,
        /// FNV-1a, 64 bits, of the slot's number and the words `generation` to `access`
        CHECK = 9 .. 10,
        /// joins of this region that the process holds
        JOIN_COUNT = 10 .. 11,
        /// 0, reserved
        RESERVED = 11 .. 16,
        /// odd while the record or a counter is being written; never goes back
        SEQUENCE = 16 .. 17,
        /// fifteen counters, written by the joiner alone while it holds the lock
        COUNTERS = 17 .. 32,
    }
}

const _: () = assert!(
    head::CHECKSUM + 8 == STATIC_BYTES
        && head::LOCK.is_multiple_of(128)
        && head::RESERVED_STATIC < STATIC_BYTES
        && joiner::RESERVED + 5 == joiner::SEQUENCE
        // The sequence and the first seven counters share a cache line.
        && (joiner::SEQUENCE * 8).is_multiple_of(64)
        && joiner::SEQUENCE + 1 == joiner::COUNTERS
        && (joiner::COUNTERS + COUNTER_MAX) * 8 == JOINER_BYTES as usize
        && JOINERS_OFFSET.is_multiple_of(JOINER_BYTES)
        && USER_OFFSET.is_multiple_of(PAGE_BYTES)
        && USER_OFFSET == 69632
);

const _: () = assert!(cfg!(target_endian = "little"), "the words of a region are little-endian");
const _: () = assert!(cfg!(target_pointer_width = "64"), "a region is mapped whole");

/// First state of FNV-1a with 64 bits.
pub(crate) const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// One step of FNV-1a: for a given state and a given byte a bijection, so that no change of a single byte
/// goes unnoticed.
pub(crate) const fn fnv_byte(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3)
}

/// FNV-1a over the little-endian bytes of a word.
pub(crate) const fn fnv_word(mut hash: u64, word: u64) -> u64 {
    let bytes = word.to_le_bytes();
    let mut at = 0;
    while at < bytes.len() {
        hash = fnv_byte(hash, bytes[at]);
        at += 1;
    }
    hash
}

/// Hash of every row above.
pub(crate) const LAYOUT_FINGERPRINT: u64 = {
    let tables = [HEAD_TABLE, JOINER_TABLE];
    let mut hash = fnv_word(fnv_word(FNV_START, JOINER_MAX as u64), JOINER_BYTES);
    let mut table = 0;
    while table < tables.len() {
        let mut row = 0;
        while row < tables[table].len() {
            hash = fnv_word(hash, tables[table][row].1 as u64);
            hash = fnv_word(hash, tables[table][row].2 as u64);
            row += 1;
        }
        table += 1;
    }
    fnv_word(hash, PROOF_BASE)
};

/// The layout as a Markdown table: a snapshot pins it and docs/format/region.md carries it.
pub fn layout_table() -> String {
    use core::fmt::Write;
    let mut text = String::from("| part | offset | bytes | name | holds |\n|---|---|---|---|---|\n");
    for (part, table) in [("page 0", HEAD_TABLE), ("joiner slot", JOINER_TABLE)] {
        for (name, offset, bytes, holds) in table {
            let name = name.to_lowercase();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {part} | {offset} | {bytes} | `{name}` | {} |", holds.trim());
        }
    }
    text
}

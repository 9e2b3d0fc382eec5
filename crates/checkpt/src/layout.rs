//! Every byte of the file format: offsets, sizes, constants. Page: `docs/format/checkpt.md`.
//!
//! One macro call per structure yields its typed fields, the proof that they cover the structure without a
//! gap, and the row set from which the page's tables are printed.
//!
//! **Invariants**
//! - The fields of a structure are adjacent, start at 0 and end at its size (asserted at compile time).
//! - All integers are little-endian.

use core::array;

/// First bytes of every checkpoint. A high bit, CR LF and ^Z show damage by text-mode transfers at once.
pub(crate) const MAGIC: [u8; 8] = [0x89, b'O', b'L', b'C', b'K', 0x0D, 0x0A, 0x1A];
/// Last bytes of every complete checkpoint.
pub(crate) const END_MAGIC: [u8; 8] = [0x1A, b'O', b'L', b'C', b'K', b'E', b'N', 0xD9];
/// First four bytes of every record and of the footer, for resynchronisation after damage.
pub(crate) const MARKER: u32 = u32::from_le_bytes([0xD7, b'R', b'E', b'C']);

/// Incompatible readers must refuse a file with another major version.
pub(crate) const MAJOR: u16 = 1;
/// Raised by additions that an older reader may ignore.
pub(crate) const MINOR: u16 = 0;

/// Digest kind 1: xxh3-128 with seed 0, stored as a little-endian 128-bit integer.
pub(crate) const DIGEST_XXH3_128: u8 = 1;
/// Record flag bit 0: a reader that does not know the record kind may skip it.
pub(crate) const FLAG_SKIPPABLE: u8 = 1;

/// Smallest window.
pub(crate) const WINDOW_BYTES_MIN: u64 = 64 << 10;
/// Largest window.
pub(crate) const WINDOW_BYTES_MAX: u64 = 4 << 20;
/// Default window.
pub(crate) const WINDOW_BYTES: u64 = 256 << 10;
/// Largest payload of a PTAB or INDEX record.
pub(crate) const TABLE_BYTES_MAX: usize = 1 << 20;
/// Largest payload of an INFO record.
pub(crate) const INFO_BYTES_MAX: usize = 64 << 10;
/// Partition entries of a full PTAB record.
pub(crate) const PTAB_ENTRIES_MAX: usize = TABLE_BYTES_MAX / partition::SIZE;
/// Window entries of a full INDEX record.
pub(crate) const INDEX_ENTRIES_MAX: usize = TABLE_BYTES_MAX / index::SIZE;

/// Kinds of records.
pub(crate) mod kind {
    /// What was saved: name, sizes, window. Exactly one, first.
    pub(crate) const HEADER: u8 = 1;
    /// Descriptive JSON, never needed to restore; skippable.
    pub(crate) const INFO: u8 = 2;
    /// Partition table.
    pub(crate) const PTAB: u8 = 3;
    /// One window's content.
    pub(crate) const CHUNK: u8 = 4;
    /// One entry per chunk.
    pub(crate) const INDEX: u8 = 5;
    /// The footer carries this kind at the place where a record has it.
    pub(crate) const FOOTER: u8 = 7;
}

macro_rules! integer_field {
    ($name:ident, $integer:ty) => {
        /// A little-endian integer at a fixed offset of a structure.
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct $name(usize);

        impl $name {
            pub(crate) const SIZE: usize = size_of::<$integer>();

            pub(crate) const fn at(offset: usize) -> Self {
                Self(offset)
            }

            pub(crate) fn get<const N: usize>(self, bytes: &[u8; N]) -> $integer {
                <$integer>::from_le_bytes(array::from_fn(|i| bytes[self.0 + i]))
            }

            pub(crate) fn put<const N: usize>(self, bytes: &mut [u8; N], value: $integer) {
                bytes[self.0..self.0 + Self::SIZE].copy_from_slice(&value.to_le_bytes());
            }
        }
    };
}

integer_field!(U8, u8);
integer_field!(U16, u16);
integer_field!(U32, u32);
integer_field!(U64, u64);
integer_field!(U128, u128);

/// `LEN` plain bytes at a fixed offset of a structure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes<const LEN: usize>(usize);

impl<const LEN: usize> Bytes<LEN> {
    pub(crate) const SIZE: usize = LEN;

    pub(crate) const fn at(offset: usize) -> Self {
        Self(offset)
    }

    pub(crate) fn get<const N: usize>(self, bytes: &[u8; N]) -> [u8; LEN] {
        array::from_fn(|i| bytes[self.0 + i])
    }

    pub(crate) fn put<const N: usize>(self, bytes: &mut [u8; N], value: &[u8; LEN]) {
        bytes[self.0..self.0 + LEN].copy_from_slice(value);
    }

    /// Offset of the first byte that is not zero: reserved bytes are checked, never ignored.
    pub(crate) fn first_set<const N: usize>(self, bytes: &[u8; N]) -> Option<usize> {
        self.get(bytes).iter().position(|byte| *byte != 0).map(|at| self.0 + at)
    }
}

/// One field as the page shows it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) offset: usize,
    pub(crate) size: usize,
    #[cfg_attr(not(test), allow(dead_code, reason = "printed into the page by a test"))]
    pub(crate) name: &'static str,
    #[cfg_attr(not(test), allow(dead_code, reason = "printed into the page by a test"))]
    pub(crate) text: &'static str,
}

/// One structure as the page shows it.
#[derive(Debug)]
pub(crate) struct Table {
    #[cfg_attr(not(test), allow(dead_code, reason = "printed into the page by a test"))]
    pub(crate) title: &'static str,
    pub(crate) size: usize,
    pub(crate) rows: &'static [Row],
}

impl Table {
    const fn assert_gapless(&self) {
        let (mut at, mut i) = (0, 0);
        while i < self.rows.len() {
            assert!(self.rows[i].offset == at, "a field starts where the one before it ends");
            at += self.rows[i].size;
            i += 1;
        }
        assert!(at == self.size, "the fields cover the structure");
    }
}

macro_rules! structure {
    ($(#[doc = $doc:literal])* $module:ident, $title:literal, $size:literal {
        $($name:ident: $kind:ty, $offset:literal, $text:literal;)*
    }) => {
        $(#[doc = $doc])*
        pub(crate) mod $module {
            use super::*;

            pub(crate) const SIZE: usize = $size;
            $(#[doc = $text]
            #[allow(dead_code, reason = "some fields are 0 in this version and nobody looks at them")]
            pub(crate) const $name: $kind = <$kind>::at($offset);)*
            pub(crate) const TABLE: Table = Table {
                title: $title,
                size: $size,
                rows: &[$(Row { offset: $offset, size: <$kind>::SIZE, name: stringify!($name), text: $text }),*],
            };
            const _: () = TABLE.assert_gapless();
        }
    };
}

structure! {
    /// First 64 bytes of the file.
    preamble, "Preamble", 64 {
        SIGNATURE: Bytes<8>, 0, "89 4F 4C 43 4B 0D 0A 1A";
        MAJOR_VERSION: U16, 8, "1; a reader refuses any other";
        MINOR_VERSION: U16, 10, "0; a reader accepts any";
        PREAMBLE_BYTES: U32, 12, "64";
        INCOMPAT: U64, 16, "features without which the file cannot be read; an unknown bit is refused";
        RO_COMPAT: U64, 24, "features that a reader may ignore and a writer that appends may not";
        COMPAT: U64, 32, "features that anybody may ignore";
        ID: Bytes<16>, 40, "identity of this checkpoint, a random UUID (version 4) unless given";
        RESERVED: Bytes<4>, 56, "0";
        CRC: U32, 60, "CRC-32 of bytes 0 to 59";
    }
}

structure! {
    /// Precedes the payload of every record.
    record, "Record header", 64 {
        MARK: U32, 0, "D7 52 45 43, to find the next record after damage";
        KIND: U8, 4, "1 HEADER, 2 INFO, 3 PTAB, 4 CHUNK, 5 INDEX";
        STYLE: U8, 5, "how the payload is stored: 0 zero, 1 raw, 2 LZ4, 3 zstd; raw except in a CHUNK";
        DIGEST_KIND: U8, 6, "1: xxh3-128, seed 0";
        FLAGS: U8, 7, "bit 0: a reader that does not know the kind may skip the record";
        STORED_BYTES: U64, 8, "size of the payload that follows";
        RAW_BYTES: U64, 16, "size of the content once decoded";
        NUMBER: U64, 24, "CHUNK: window number; otherwise the record's number within its kind, from 0";
        GADDR: U64, 32, "CHUNK: first used byte; PTAB: first partition; INDEX: first chunk; otherwise 0";
        DIGEST: U128, 40, "digest of the decoded content";
        STORED_CRC: U32, 56, "CRC-32 of the payload as stored";
        CRC: U32, 60, "CRC-32 of bytes 0 to 59";
    }
}

structure! {
    /// Payload of the HEADER record.
    header, "HEADER payload", 160 {
        DATA_MAX_BYTES: U64, 0, "size of the data region that was saved; every partition ends at or below it";
        PAGE_SIZE_BYTES: U64, 8, "page size of the region that was saved; descriptive";
        WINDOW_BYTES: U64, 16, "size of a window, a power of two from 64 KiB to 4 MiB";
        CLOCK_UNIX_NS: U64, 24, "when the checkpoint was begun, nanoseconds since 1970 in UTC";
        SEED: U32, 32, "seed of the workspace that was saved; descriptive";
        FILE_STYLE: U8, 36, "what the writer was asked for: 1 raw, 2 LZ4, 3 zstd, 4 auto; descriptive";
        NAME_BYTES: U8, 37, "bytes of the name, 0 to 64";
        RESERVED: Bytes<2>, 38, "0";
        PARENT_ID: Bytes<16>, 40, "0; reserved for deltas: identity of the parent";
        PARENT_ROOT: Bytes<32>, 56, "0; reserved for deltas: root of the parent";
        CHAIN_DEPTH: Bytes<4>, 88, "0; reserved for deltas: ancestors to open";
        RESERVED_TAIL: Bytes<4>, 92, "0";
        NAME: Bytes<64>, 96, "name of what was saved, UTF-8, zeros behind it";
    }
}

structure! {
    /// One entry of a PTAB record.
    partition, "PTAB entry", 24 {
        GADDR: U64, 0, "first byte";
        SIZE_BYTES: U64, 8, "size, at least 1";
        TAG: U64, 16, "tag, at least 1";
    }
}

structure! {
    /// One entry of an INDEX record.
    index, "INDEX entry", 64 {
        WINDOW: U64, 0, "window number, ascending";
        FILE_OFFSET: U64, 8, "where the chunk's record header starts";
        STORED_BYTES: U32, 16, "size of the payload";
        RAW_BYTES: U32, 20, "used bytes of the window";
        ORIGIN: U16, 24, "0: this file; reserved for deltas: entry of the origin table";
        STYLE: U8, 26, "as in the chunk's record header";
        DIGEST_KIND: U8, 27, "as in the chunk's record header";
        STORED_CRC: U32, 28, "as in the chunk's record header";
        DIGEST: U128, 32, "as in the chunk's record header";
        RESERVED: Bytes<16>, 48, "0";
    }
}

structure! {
    /// Last 160 bytes of the file.
    footer, "Footer", 160 {
        MARK: U32, 0, "D7 52 45 43, as in a record header";
        KIND: U8, 4, "7";
        STYLE: U8, 5, "1";
        DIGEST_KIND: U8, 6, "1: xxh3-128, seed 0; kind of the root";
        FLAGS: U8, 7, "0";
        ID: Bytes<16>, 8, "identity, equal to the preamble's";
        PARENT_ID: Bytes<16>, 24, "0; reserved for deltas";
        PTAB_OFFSET: U64, 40, "where the PTAB section starts";
        CHUNK_OFFSET: U64, 48, "where the CHUNK section starts and the PTAB section ends";
        INDEX_OFFSET: U64, 56, "where the INDEX section starts and the CHUNK section ends";
        FILE_BYTES: U64, 64, "size of the file, this footer included";
        PARTITION_COUNT: U64, 72, "partitions in the PTAB section";
        CHUNK_COUNT: U64, 80, "chunks in the CHUNK section, and entries in the INDEX section";
        USED_BYTES: U64, 88, "sum of the partitions' sizes, which is the sum of the chunks' content";
        STORED_BYTES: U64, 96, "sum of the chunks' payloads";
        ROOT: U128, 104, "digest of bytes 0 to CHUNK_OFFSET and of INDEX_OFFSET to the footer";
        ROOT_TAIL: Bytes<16>, 120, "0; reserved for a 32-byte root";
        RESERVED: Bytes<12>, 136, "0";
        CRC: U32, 148, "CRC-32 of bytes 0 to 147";
        END: Bytes<8>, 152, "1A 4F 4C 43 4B 45 4E D9";
    }
}

#[cfg(test)]
mod tests;

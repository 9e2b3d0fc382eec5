//! Files whose checksums are right and whose content is not: what an attacker or a newer writer makes.

use std::io::Write;

use super::*;
use crate::bounds::encode_preamble;
use crate::digest::crc;
use crate::layout::{FLAG_SKIPPABLE, WINDOW_BYTES};
use crate::partition::Window;
use crate::record::{RecordHeader, push};
use crate::style::Style;

const ID: [u8; 16] = [7; 16];

/// A file in parts; `build` makes offsets, counts, checksums and root right.
struct Parts {
    preamble: [u8; preamble::SIZE],
    header: Vec<u8>,
    /// Records behind HEADER.
    more: Vec<u8>,
    ptab: Vec<u8>,
    chunks: Vec<u8>,
    index: Vec<u8>,
    footer: Footer,
}

fn partition_bytes(gaddr: u64, size_bytes: u64, tag: u64) -> [u8; partition::SIZE] {
    let mut bytes = [0; partition::SIZE];
    partition::GADDR.put(&mut bytes, gaddr);
    partition::SIZE_BYTES.put(&mut bytes, size_bytes);
    partition::TAG.put(&mut bytes, tag);
    bytes
}

impl Parts {
    /// One partition of 100 bytes at 1000, stored raw.
    fn sound() -> Self {
        let content = [0xAB; 100];
        let meta = Meta { data_max_bytes: 1 << 40, ..Meta::default() };
        let shape = Shape { window_bytes: WINDOW_BYTES, clock_unix_ns: 0, style: Style::Raw };
        let window = Window { number: 0, first: 0, raw_bytes: 100, gaddr: 1000, gaddr_end: 1100 };
        let chunk = Chunk {
            window,
            file_offset: 64 + 64 + 160 + 64 + 24,
            stored_bytes: 100,
            style: ChunkStyle::Raw,
            stored_crc: crc(&content),
            digest: Digest::of(&content),
        };
        let footer = Footer {
            id: ID,
            ptab_offset: 0,
            chunk_offset: 0,
            index_offset: 0,
            file_bytes: 0,
            partition_count: 1,
            chunk_count: 1,
            used_bytes: 100,
            stored_bytes: 100,
            root: Digest(0),
        };
        Self {
            preamble: encode_preamble(&ID),
            header: header::encode(&meta, &shape).to_vec(),
            more: Vec::new(),
            ptab: partition_bytes(1000, 100, 1).to_vec(),
            chunks: [chunk.encode_header().as_slice(), &content].concat(),
            index: chunk.encode().to_vec(),
            footer,
        }
    }

    fn build(mut self) -> Vec<u8> {
        let checksum = crc(&self.preamble[..60]);
        preamble::CRC.put(&mut self.preamble, checksum);
        let mut bytes = self.preamble.to_vec();
        push(&mut bytes, kind::HEADER, 0, 0, &self.header);
        bytes.extend_from_slice(&self.more);
        self.footer.ptab_offset = bytes.len() as u64;
        if !self.ptab.is_empty() {
            let gaddr = u64::from_le_bytes(self.ptab[..8].try_into().unwrap());
            push(&mut bytes, kind::PTAB, 0, gaddr, &self.ptab);
        }
        self.footer.chunk_offset = bytes.len() as u64;
        let mut root = DigestStream::new();
        root.write(&bytes);
        bytes.extend_from_slice(&self.chunks);
        self.footer.index_offset = bytes.len() as u64;
        let mut index = Vec::new();
        push(&mut index, kind::INDEX, 0, 1000, &self.index);
        root.write(&index);
        bytes.extend_from_slice(&index);
        self.footer.file_bytes = (bytes.len() + footer::SIZE) as u64;
        self.footer.root = root.finish();
        bytes.extend_from_slice(&self.footer.encode());
        bytes
    }
}

fn open(bytes: &[u8]) -> Result<Checkpoint, ReadError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Checkpoint::from_file(file)
}

fn error_of(change: impl FnOnce(&mut Parts)) -> ReadError {
    let mut parts = Parts::sound();
    change(&mut parts);
    open(&parts.build()).unwrap_err()
}

fn fault_of(change: impl FnOnce(&mut Parts)) -> (What, u64) {
    match error_of(change) {
        ReadError::Corrupt(fault) => (fault.what, fault.file_offset),
        other => panic!("{other}"),
    }
}

#[test]
fn the_unchanged_parts_are_a_checkpoint() {
    let checkpoint = open(&Parts::sound().build()).unwrap();
    assert_eq!(checkpoint.partitions(), [Partition { gaddr: 1000, size_bytes: 100, tag: 1 }]);
    assert!(checkpoint.verify(&crate::RestoreOptions::default()).unwrap().faults.is_empty());
}

#[test]
fn versions_and_features() {
    let error = error_of(|parts| preamble::MAJOR_VERSION.put(&mut parts.preamble, 2));
    assert!(matches!(error, ReadError::UnsupportedVersion { major: 2, minor: 0 }));
    let error = error_of(|parts| preamble::INCOMPAT.put(&mut parts.preamble, 0b101));
    assert!(matches!(error, ReadError::UnknownFeature { incompat_bits: 0b101 }));
    assert_eq!(fault_of(|parts| parts.preamble[57] = 1), (What::Reserved, 57));
    assert_eq!(fault_of(|parts| parts.preamble[12] = 65), (What::PreambleSize, 12));
    let mut parts = Parts::sound();
    preamble::MINOR_VERSION.put(&mut parts.preamble, 9);
    preamble::RO_COMPAT.put(&mut parts.preamble, 1);
    preamble::COMPAT.put(&mut parts.preamble, 1);
    assert!(open(&parts.build()).is_ok(), "a newer minor version and optional features are read");
}

#[test]
fn unknown_records() {
    let record = |kind, flags, change: &dyn Fn(&mut RecordHeader)| {
        let mut header = RecordHeader { flags, ..RecordHeader::of_payload(kind, 0, 0, &[5; 70_000]) };
        change(&mut header);
        [header.encode().as_slice(), &[5; 70_000]].concat()
    };
    let mut parts = Parts::sound();
    parts.more = record(99, FLAG_SKIPPABLE, &|_| {});
    parts.chunks = Vec::new(); // the chunk would start elsewhere: leave it out
    parts.ptab = Vec::new();
    parts.index = Vec::new();
    let Footer { partition_count, chunk_count, used_bytes, stored_bytes, .. } = &mut parts.footer;
    (*partition_count, *chunk_count, *used_bytes, *stored_bytes) = (0, 0, 0, 0);
    let mut bytes = parts.build();
    // `build` made an INDEX record without entries: cut it out again.
    let error = open(&bytes).unwrap_err();
    assert!(matches!(error, ReadError::Corrupt(Fault { what: What::RecordSize, .. })), "{error}");
    let index_at = bytes.len() - footer::SIZE - record::SIZE;
    let mut footer = Footer::decode(bytes[index_at + 64..].try_into().unwrap(), 0).unwrap();
    footer.file_bytes -= 64;
    footer.root = Digest::of(&bytes[..index_at]);
    bytes.truncate(index_at);
    bytes.extend_from_slice(&footer.encode());
    assert!(open(&bytes).unwrap().partitions().is_empty(), "a skippable unknown record is skipped");
    bytes[400] ^= 1;
    let error = open(&bytes).unwrap_err();
    assert!(
        matches!(error, ReadError::Corrupt(Fault { what: What::StoredChecksum, .. })),
        "and yet its bytes are checked: {error}"
    );

    let unsupported = |more: Vec<u8>| match error_of(|parts| parts.more = more) {
        ReadError::UnsupportedStyle { what, number, file_offset } => (what, number, file_offset),
        other => panic!("{other}"),
    };
    let at = 64 + 64 + 160;
    assert_eq!(unsupported(record(99, 0, &|_| {})), ("record kind", 99, at));
    assert_eq!(unsupported(record(99, 4, &|_| {})), ("record flags", 4, at));
    assert_eq!(unsupported(record(2, 1, &|header| header.style = 3)), ("style", 3, at));
    assert_eq!(unsupported(record(2, 1, &|header| header.digest_kind = 2)), ("digest kind", 2, at));
    let fault = |more: Vec<u8>| fault_of(|parts| parts.more = more);
    assert_eq!(fault(record(2, 1, &|_| {})), (What::RecordSize, at), "INFO is at most 64 KiB");
    assert_eq!(fault(record(99, 1, &|header| header.stored_bytes = u64::MAX)), (What::RecordSize, at));
    assert_eq!(fault(record(99, 1, &|header| header.raw_bytes = 1)), (What::RecordSize, at));
    let mut json = Vec::new();
    push(&mut json, kind::INFO, 0, 0, b"[1, 2]");
    assert_eq!(fault(json), (What::Info, at + 64));
    let mut again = Vec::new();
    push(&mut again, kind::HEADER, 0, 0, &[0; 160]);
    assert_eq!(fault(again), (What::RecordKind, at));
}

#[test]
fn header_fields() {
    let at = |offset| 64 + 64 + offset;
    let set = |offset: usize, value: u8| fault_of(|parts| parts.header[offset] = value);
    assert_eq!(set(16, 1), (What::HeaderField, at(16)), "no power of two");
    assert_eq!(fault_of(|parts| parts.header[16..24].fill(0)), (What::HeaderField, at(16)));
    assert_eq!(set(37, 65), (What::HeaderField, at(96)));
    assert_eq!(set(97, b'x'), (What::Reserved, at(97)), "behind a name of 0 bytes");
    for reserved in [38, 40, 56, 88, 92] {
        assert_eq!(set(reserved, 1), (What::Reserved, at(reserved as u64)));
    }
    let name = fault_of(|parts| {
        parts.header[37] = 2;
        parts.header[96..98].copy_from_slice(&[b'a', 0xFF]);
    });
    assert_eq!(name, (What::HeaderField, at(97)), "not UTF-8");
    let error = error_of(|parts| parts.header[36] = 9);
    assert!(matches!(error, ReadError::UnsupportedStyle { what: "file style", number: 9, .. }));
    assert_eq!(fault_of(|parts| parts.header.truncate(100)).0, What::RecordSize);
}

#[test]
fn counts_and_claims_are_bounded_before_memory_is_taken() {
    assert_eq!(fault_of(|parts| parts.footer.partition_count = u64::MAX).0, What::PartitionCount);
    assert_eq!(fault_of(|parts| parts.footer.chunk_count = u64::MAX / 64).0, What::ChunkCount);
    assert_eq!(fault_of(|parts| parts.footer.partition_count = 0).0, What::RecordSize);
    assert_eq!(fault_of(|parts| parts.footer.used_bytes = 99).0, What::ByteCount);
    assert_eq!(fault_of(|parts| parts.footer.stored_bytes = 99).0, What::ByteCount);
    // A partition of half an exabyte needs an index entry per window, and there is one.
    let huge = fault_of(|parts| {
        parts.ptab = partition_bytes(1000, 1 << 39, 1).to_vec();
        parts.footer.used_bytes = 1 << 39;
    });
    assert_eq!(huge.0, What::IndexEntry);
    let beyond = fault_of(|parts| parts.ptab = partition_bytes(1000, u64::MAX, 1).to_vec());
    assert_eq!(beyond.0, What::Partition);
    assert_eq!(fault_of(|parts| parts.ptab = partition_bytes(1000, 100, 0).to_vec()).0, What::Partition);
    assert_eq!(fault_of(|parts| parts.ptab.push(0)).0, What::RecordSize, "no whole number of entries");
    assert_eq!(fault_of(|parts| parts.chunks.extend_from_slice(&[0; 64])).0, What::SectionOffset);
    let more_windows = fault_of(|parts| {
        parts.ptab.extend_from_slice(&partition_bytes(1 << 30, 1, 1));
        parts.footer.partition_count = 2;
        parts.footer.used_bytes = 101;
    });
    assert_eq!(more_windows.0, What::IndexEntry, "the file offset of the chunk moved with PTAB");
}

#[test]
fn index_entries() {
    let entry = 64 + 64 + 160 + 64 + 24 + 164 + 64;
    let set = |offset: usize, value: u8| fault_of(|parts| parts.index[offset] = value);
    assert_eq!(set(0, 1), (What::IndexEntry, entry), "another window");
    assert_eq!(set(8, 0), (What::IndexEntry, entry + 8), "another place");
    assert_eq!(set(20, 99), (What::IndexEntry, entry + 20), "another size of content");
    assert_eq!(set(16, 99), (What::IndexEntry, entry + 16), "raw, yet smaller");
    assert_eq!(set(26, 2), (What::IndexEntry, entry + 16), "LZ4, yet not smaller");
    assert_eq!(set(26, 0), (What::IndexEntry, entry + 16), "zero, yet stored");
    assert_eq!(set(50, 1), (What::Reserved, entry + 50));
    for (offset, what) in [(24, "origin"), (26, "style"), (27, "digest kind")] {
        let error = error_of(|parts| parts.index[offset] = 77);
        assert!(
            matches!(error, ReadError::UnsupportedStyle { what: w, number: 77, file_offset } if (w, file_offset) == (what, entry)),
            "{error}"
        );
    }
    let twice = fault_of(|parts| {
        parts.index.extend_from_within(..);
        parts.footer.chunk_count = 2;
    });
    assert_eq!(twice.0, What::ChunkCount, "more entries than windows");
}

#[test]
fn sections_out_of_order() {
    for field in [40, 48, 56] {
        let mut bytes = Parts::sound().build();
        let at = bytes.len() - footer::SIZE;
        bytes[at + field + 5] = 1;
        let checksum = crc(&bytes[at..at + 148]);
        bytes[at + 148..at + 152].copy_from_slice(&checksum.to_le_bytes());
        let error = open(&bytes).unwrap_err();
        assert!(
            matches!(error, ReadError::Corrupt(Fault { what: What::SectionOffset, .. })),
            "{field}: {error}"
        );
    }
}

#[test]
fn a_root_that_is_not_the_files() {
    let mut bytes = Parts::sound().build();
    let at = bytes.len() - footer::SIZE;
    bytes[at + 104] ^= 1;
    let checksum = crc(&bytes[at..at + 148]);
    bytes[at + 148..at + 152].copy_from_slice(&checksum.to_le_bytes());
    let error = open(&bytes).unwrap_err();
    assert!(matches!(error, ReadError::Corrupt(Fault { what: What::Root, .. })), "{error}");
}

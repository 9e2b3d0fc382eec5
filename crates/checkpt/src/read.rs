//! The reader: [`Checkpoint`], everything about a file that is known without reading its chunks.
//!
//! **Invariants**
//! - A `Checkpoint` exists only if preamble, footer, HEADER, INFO, PTAB and INDEX passed every check: its
//!   partitions are ascending, disjoint and inside the data region; its chunks are exactly the windows of the
//!   partitions and lie one behind the other from the end of PTAB to the start of INDEX.
//! - Memory is proportional to the size of the file, whatever the file says.

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::bounds::{Footer, decode_preamble, resembles_footer};
use crate::digest::{Digest, DigestStream};
use crate::error::{Fault, ReadError, What};
use crate::header::{self, Meta, Shape, decode_info};
use crate::index::Chunk;
use crate::layout::{MAGIC, footer, header as header_layout, index, kind, partition, preamble, record};
use crate::partition::{Partition, Windows, check};
use crate::scan::diagnose;
use crate::section::{Record, Section, read_at};
use crate::style::ChunkStyle;
use crate::summary::Summary;

/// An open checkpoint whose structure was checked.
#[derive(Debug)]
pub struct Checkpoint {
    pub(crate) file: File,
    pub(crate) content: Content,
}

/// What the structure of the file says.
#[derive(Debug, PartialEq)]
pub(crate) struct Content {
    pub(crate) footer: Footer,
    pub(crate) meta: Meta,
    pub(crate) shape: Shape,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) chunks: Vec<Chunk>,
}

/// One chunk as the index describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChunkInfo {
    /// Number of its window: address of the window's first byte divided by the window size.
    pub window: u64,
    /// From its first to past its last used byte.
    pub gaddr: Range<u64>,
    /// Used bytes of the window.
    pub content_bytes: u64,
    /// Bytes they are stored in.
    pub stored_bytes: u64,
    /// How.
    pub style: ChunkStyle,
    /// Where its record header starts; the payload is 64 bytes behind.
    pub file_offset: u64,
    /// Digest of the used bytes.
    pub digest: Digest,
    /// CRC-32 of the stored bytes.
    pub stored_crc: u32,
}

impl Checkpoint {
    /// Opens the checkpoint at `path` and checks everything that can be checked without reading its chunks.
    ///
    /// Reads the tables: 24 bytes per partition and 64 per window.
    ///
    /// # Errors
    /// [`ReadError::Open`] if the file cannot be opened, otherwise as [`from_file`](Self::from_file).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        let path = path.as_ref();
        // NONBLOCK: a pipe under that name is refused, not waited for.
        let flags = OFlags::NONBLOCK.bits() as i32;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
        Self::from_file(opened.map_err(|source| ReadError::Open { path: path.to_owned(), source })?)
    }

    /// The same for a file that is open for reading; its position is neither used nor changed.
    ///
    /// # Errors
    /// See [`ReadError`]. Of several faults the first found is reported: the two ends of the file first, then
    /// the sections in order, then the root digest.
    pub fn from_file(file: File) -> Result<Self, ReadError> {
        let content = Content::read(&file)?;
        Ok(Self { file, content })
    }

    /// What was saved.
    pub fn meta(&self) -> &Meta {
        &self.content.meta
    }

    /// The partitions, ascending and disjoint.
    pub fn partitions(&self) -> &[Partition] {
        &self.content.partitions
    }

    /// The checkpoint's identity.
    pub fn id(&self) -> [u8; 16] {
        self.content.footer.id
    }

    /// Sizes and counts. Costs a pass over the index.
    pub fn summary(&self) -> Summary {
        Summary::new(&self.content.footer, &self.content.shape, &self.content.chunks)
    }

    /// The chunks, ascending by window and by place in the file.
    pub fn chunks(&self) -> impl ExactSizeIterator<Item = ChunkInfo> + '_ {
        self.content.chunks.iter().map(|chunk| ChunkInfo {
            window: chunk.window.number,
            gaddr: chunk.gaddr(),
            content_bytes: chunk.window.raw_bytes.into(),
            stored_bytes: chunk.stored_bytes.into(),
            style: chunk.style,
            file_offset: chunk.file_offset,
            digest: chunk.digest,
            stored_crc: chunk.stored_crc,
        })
    }
}

impl Content {
    pub(crate) fn read(file: &File) -> Result<Self, ReadError> {
        let metadata =
            file.metadata().map_err(|source| ReadError::Io { step: "fstat", file_offset: 0, source })?;
        if !metadata.is_file() {
            return Err(ReadError::NotAFile);
        }
        let file_bytes = metadata.len();
        let preamble = read_preamble(file, file_bytes)?;
        let id = decode_preamble(&preamble)?;
        let footer = read_footer(file, file_bytes, &id)?;
        let mut root = DigestStream::new();
        root.write(&preamble);
        let (meta, shape) = read_header(file, &footer, &mut root)?;
        let partitions = read_partitions(file, &footer, meta.data_max_bytes, &mut root)?;
        let chunks = read_index(file, &footer, &partitions, shape.window_bytes, &mut root)?;
        let root = root.finish();
        if root != footer.root {
            let at = footer.file_bytes - footer::SIZE as u64 + 104;
            return Err(Fault::new(What::Root, at, footer.root.0, root.0).into());
        }
        Ok(Self { footer, meta, shape, partitions, chunks })
    }
}

fn read_preamble(file: &File, file_bytes: u64) -> Result<[u8; preamble::SIZE], ReadError> {
    let mut bytes = [0; preamble::SIZE];
    let size = bytes.len().min(file_bytes as usize);
    read_at(file, &mut bytes[..size], 0)?;
    if size < preamble::SIZE {
        let found = preamble::SIGNATURE.get(&bytes);
        let known = size.min(MAGIC.len());
        return Err(if found[..known] == MAGIC[..known] {
            ReadError::Truncated { file_bytes, complete_bytes: 0 }
        } else {
            ReadError::NotACheckpoint { found }
        });
    }
    Ok(bytes)
}

/// Reads and checks the footer: its own bytes, the file's size, the identity, the order of the sections and
/// whether they have room for what it counts.
fn read_footer(file: &File, file_bytes: u64, id: &[u8; 16]) -> Result<Footer, ReadError> {
    let size = (preamble::SIZE + footer::SIZE) as u64;
    if file_bytes < size {
        return Err(diagnose(file, file_bytes));
    }
    let at = file_bytes - footer::SIZE as u64;
    let mut bytes = [0; footer::SIZE];
    read_at(file, &mut bytes, at)?;
    if !resembles_footer(&bytes) {
        return Err(diagnose(file, file_bytes));
    }
    let footer = Footer::decode(&bytes, at)?;
    if footer.file_bytes != file_bytes {
        return Err(Fault::new(What::FileSize, at + 64, footer.file_bytes, file_bytes).into());
    }
    if footer.id != *id {
        let (expected, found) = (u128::from_le_bytes(*id), u128::from_le_bytes(footer.id));
        return Err(Fault::new(What::Identity, at + 8, expected, found).into());
    }
    let offsets = [preamble::SIZE as u64, footer.ptab_offset, footer.chunk_offset, footer.index_offset, at];
    for (i, pair) in offsets.windows(2).enumerate() {
        if pair[0] > pair[1] {
            return Err(Fault::new(What::SectionOffset, at + 32 + 8 * i as u64, pair[1], pair[0]).into());
        }
    }
    let counts = [
        (
            What::PartitionCount,
            72,
            footer.partition_count,
            footer.chunk_offset - footer.ptab_offset,
            partition::SIZE,
        ),
        (What::ChunkCount, 80, footer.chunk_count, at - footer.index_offset, index::SIZE),
    ];
    for (what, field, count, section_bytes, entry_bytes) in counts {
        let most = section_bytes / entry_bytes as u64;
        if count > most {
            return Err(Fault::new(what, at + field, most, count).into());
        }
    }
    Ok(footer)
}

/// Where the counts of the footer stand, for faults.
fn footer_field(footer: &Footer, field: u64) -> u64 {
    footer.file_bytes - footer::SIZE as u64 + field
}

/// Reads the first section: HEADER, then INFO and records that may be skipped.
fn read_header(file: &File, footer: &Footer, root: &mut DigestStream) -> Result<(Meta, Shape), ReadError> {
    let start = preamble::SIZE as u64;
    let mut section = Section::new(file, start..footer.ptab_offset, root);
    let mut payload = Vec::new();
    let first = section.next(&mut payload)?;
    let bytes: &[u8; header_layout::SIZE] = match (&first, payload.as_slice().try_into()) {
        (Some(record), Ok(bytes)) => {
            expect(record, kind::HEADER, 0, 0)?;
            bytes
        }
        _ => {
            let found = first.map_or(0, |record| record.header.stored_bytes);
            return Err(Fault::new(What::RecordSize, start, header_layout::SIZE as u64, found).into());
        }
    };
    let (mut meta, shape) = header::decode(bytes, start)?;
    let mut info_seen = false;
    while let Some(record) = section.next(&mut payload)? {
        match record.header.kind {
            kind::INFO if !info_seen => {
                expect(&record, kind::INFO, 0, 0)?;
                meta.info = decode_info(&payload, record.file_offset + record::SIZE as u64)?;
                info_seen = true;
            }
            kind::HEADER | kind::INFO | kind::PTAB | kind::INDEX => {
                return Err(
                    Fault::new(What::RecordKind, record.file_offset, kind::INFO, record.header.kind).into()
                );
            }
            _ => {}
        }
    }
    Ok((meta, shape))
}

/// Reads the PTAB section.
fn read_partitions(
    file: &File,
    footer: &Footer,
    data_max_bytes: u64,
    root: &mut DigestStream,
) -> Result<Vec<Partition>, ReadError> {
    let mut section = Section::new(file, footer.ptab_offset..footer.chunk_offset, root);
    let mut payload = Vec::new();
    let mut partitions = Vec::with_capacity(footer.partition_count as usize);
    let mut number = 0;
    while let Some(record) = section.next(&mut payload)? {
        let (entries, rest) = payload.as_chunks::<{ partition::SIZE }>();
        check_entries(&record, entries.len(), rest.len(), footer.partition_count - partitions.len() as u64)?;
        let first = partitions.len();
        partitions.extend(entries.iter().map(|bytes| Partition {
            gaddr: partition::GADDR.get(bytes),
            size_bytes: partition::SIZE_BYTES.get(bytes),
            tag: partition::TAG.get(bytes),
        }));
        expect(&record, kind::PTAB, number, partitions[first].gaddr)?;
        number += 1;
    }
    let found = partitions.len() as u64;
    if found != footer.partition_count {
        let at = footer_field(footer, 72);
        return Err(Fault::new(What::PartitionCount, at, footer.partition_count, found).into());
    }
    check(&partitions, data_max_bytes)
        .map_err(|error| Fault::new(What::Partition, footer.ptab_offset, error.index, error.gaddr))?;
    // No sum of disjoint ranges below 2^64 overflows.
    let used_bytes: u64 = partitions.iter().map(|partition| partition.size_bytes).sum();
    if used_bytes != footer.used_bytes {
        return Err(
            Fault::new(What::ByteCount, footer_field(footer, 88), footer.used_bytes, used_bytes).into()
        );
    }
    Ok(partitions)
}

/// Reads the INDEX section against the windows that the partitions have.
fn read_index(
    file: &File,
    footer: &Footer,
    partitions: &[Partition],
    window_bytes: u64,
    root: &mut DigestStream,
) -> Result<Vec<Chunk>, ReadError> {
    let range = footer.index_offset..footer.file_bytes - footer::SIZE as u64;
    let mut section = Section::new(file, range, root);
    let mut payload = Vec::new();
    let mut windows = Windows::new(partitions, window_bytes);
    let mut chunks: Vec<Chunk> = Vec::with_capacity(footer.chunk_count as usize);
    let (mut number, mut chunk_offset) = (0, footer.chunk_offset);
    while let Some(record) = section.next(&mut payload)? {
        let (entries, rest) = payload.as_chunks::<{ index::SIZE }>();
        check_entries(&record, entries.len(), rest.len(), footer.chunk_count - chunks.len() as u64)?;
        let first = chunks.len();
        for (i, bytes) in entries.iter().enumerate() {
            let entry_offset = record.file_offset + (record::SIZE + i * index::SIZE) as u64;
            let Some(window) = windows.next() else {
                return Err(Fault::new(
                    What::ChunkCount,
                    entry_offset,
                    chunks.len() as u64,
                    footer.chunk_count,
                )
                .into());
            };
            let chunk = Chunk::decode(bytes, entry_offset, window, chunk_offset)?;
            chunk_offset += chunk.record_bytes();
            chunks.push(chunk);
        }
        expect(&record, kind::INDEX, number, chunks[first].window.gaddr)?;
        number += 1;
    }
    check_chunk_totals(footer, &chunks, windows.next().is_some(), chunk_offset)?;
    Ok(chunks)
}

fn check_chunk_totals(
    footer: &Footer,
    chunks: &[Chunk],
    windows_left: bool,
    chunks_end: u64,
) -> Result<(), ReadError> {
    let count = chunks.len() as u64;
    if count != footer.chunk_count || windows_left {
        let found = count + u64::from(windows_left);
        return Err(Fault::new(What::ChunkCount, footer_field(footer, 80), footer.chunk_count, found).into());
    }
    if chunks_end != footer.index_offset {
        return Err(Fault::new(
            What::SectionOffset,
            footer_field(footer, 56),
            chunks_end,
            footer.index_offset,
        )
        .into());
    }
    let stored_bytes: u64 = chunks.iter().map(|chunk| u64::from(chunk.stored_bytes)).sum();
    if stored_bytes != footer.stored_bytes {
        return Err(
            Fault::new(What::ByteCount, footer_field(footer, 96), footer.stored_bytes, stored_bytes).into()
        );
    }
    Ok(())
}

/// A table record has whole entries, at least one, and no more than are still expected.
fn check_entries(record: &Record, entries: usize, rest: usize, expected_max: u64) -> Result<(), ReadError> {
    if rest != 0 || entries == 0 || entries as u64 > expected_max {
        let found = record.header.stored_bytes;
        return Err(Fault::new(What::RecordSize, record.file_offset + 8, expected_max, found).into());
    }
    Ok(())
}

/// The record is of that kind, has that number and that address.
fn expect(record: &Record, kind: u8, number: u64, gaddr: u64) -> Result<(), Fault> {
    let (header, at) = (&record.header, record.file_offset);
    if header.kind != kind {
        return Err(Fault::new(What::RecordKind, at + 4, kind, header.kind));
    }
    if header.number != number {
        return Err(Fault::new(What::RecordNumber, at + 24, number, header.number));
    }
    if header.gaddr != gaddr {
        return Err(Fault::new(What::RecordNumber, at + 32, gaddr, header.gaddr));
    }
    Ok(())
}

#[cfg(test)]
mod tests;

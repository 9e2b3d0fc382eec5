//! Reads the plain records of one section of the file in order, checking each.
//!
//! **Invariants**
//! - Nothing is read or allocated beyond the section, and no record beyond its kind's limit.
//! - Every byte of the section passes through the root digest exactly once.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::digest::DigestStream;
use crate::error::{Fault, ReadError, What};
use crate::layout::{FLAG_SKIPPABLE, INFO_BYTES_MAX, TABLE_BYTES_MAX, header, kind, record};
use crate::record::RecordHeader;

/// Reads exactly `into` at `file_offset`.
pub(crate) fn read_at(file: &File, into: &mut [u8], file_offset: u64) -> Result<(), ReadError> {
    file.read_exact_at(into, file_offset).map_err(|source| match source.kind() {
        io::ErrorKind::UnexpectedEof => {
            let file_bytes = file.metadata().map_or(0, |metadata| metadata.len());
            ReadError::Truncated { file_bytes, complete_bytes: file_offset.min(file_bytes) }
        }
        _ => ReadError::Io { step: "read", file_offset, source },
    })
}

/// A record of a kind this version knows, or of one it may skip.
pub(crate) struct Record {
    pub(crate) header: RecordHeader,
    /// Where its header starts.
    pub(crate) file_offset: u64,
}

/// A cursor over a section.
pub(crate) struct Section<'a> {
    file: &'a File,
    at: u64,
    end: u64,
    root: &'a mut DigestStream,
}

impl<'a> Section<'a> {
    /// `range` lies within the file.
    pub(crate) fn new(file: &'a File, range: Range<u64>, root: &'a mut DigestStream) -> Self {
        Self { file, at: range.start, end: range.end, root }
    }

    /// The next record, its payload in `payload` (left empty for a kind that is skipped); `None` at the end.
    pub(crate) fn next(&mut self, payload: &mut Vec<u8>) -> Result<Option<Record>, ReadError> {
        payload.clear();
        if self.at == self.end {
            return Ok(None);
        }
        let (file_offset, room) = (self.at, self.end - self.at);
        if room < record::SIZE as u64 {
            return Err(Fault::new(What::RecordSize, file_offset, record::SIZE as u64, room).into());
        }
        let mut bytes = [0; record::SIZE];
        read_at(self.file, &mut bytes, file_offset)?;
        let header = RecordHeader::decode(&bytes, file_offset)?;
        self.root.write(&bytes);
        self.at += record::SIZE as u64;
        header.check_plain(&(self.at..self.end))?;
        match payload_bytes_max(header.kind) {
            Some(most) if header.stored_bytes <= most as u64 => self.read_payload(&header, payload)?,
            Some(most) => {
                return Err(
                    Fault::new(What::RecordSize, file_offset, most as u64, header.stored_bytes).into()
                );
            }
            None if header.flags & FLAG_SKIPPABLE != 0 => self.skip_payload(&header)?,
            None => {
                let number = header.kind.into();
                return Err(ReadError::UnsupportedStyle { what: "record kind", number, file_offset });
            }
        }
        Ok(Some(Record { header, file_offset }))
    }

    fn read_payload(&mut self, header: &RecordHeader, payload: &mut Vec<u8>) -> Result<(), ReadError> {
        payload.resize(header.stored_bytes as usize, 0);
        read_at(self.file, payload, self.at)?;
        let mut check = PayloadCheck::new();
        check.write(payload);
        self.root.write(payload);
        check.finish(header, self.at)?;
        self.at += header.stored_bytes;
        Ok(())
    }

    fn skip_payload(&mut self, header: &RecordHeader) -> Result<(), ReadError> {
        let (start, end) = (self.at, self.at + header.stored_bytes);
        let mut check = PayloadCheck::new();
        let mut block = vec![0; INFO_BYTES_MAX.min(header.stored_bytes as usize)];
        while self.at < end {
            let size = (end - self.at).min(block.len() as u64);
            let block = &mut block[..size as usize];
            read_at(self.file, block, self.at)?;
            check.write(block);
            self.root.write(block);
            self.at += size;
        }
        check.finish(header, start).map_err(ReadError::from)
    }
}

/// Largest payload of a kind that this version knows outside the CHUNK section.
fn payload_bytes_max(kind: u8) -> Option<usize> {
    match kind {
        kind::HEADER => Some(header::SIZE),
        kind::INFO => Some(INFO_BYTES_MAX),
        kind::PTAB | kind::INDEX => Some(TABLE_BYTES_MAX),
        _ => None,
    }
}

/// CRC and digest of a payload that arrives in blocks.
struct PayloadCheck {
    crc: crc32fast::Hasher,
    digest: DigestStream,
}

impl PayloadCheck {
    fn new() -> Self {
        Self { crc: crc32fast::Hasher::new(), digest: DigestStream::new() }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        self.digest.write(bytes);
    }

    fn finish(self, header: &RecordHeader, payload_offset: u64) -> Result<(), Fault> {
        let found = self.crc.finalize();
        if found != header.stored_crc {
            return Err(Fault::new(What::StoredChecksum, payload_offset, header.stored_crc, found));
        }
        let found = self.digest.finish();
        if found != header.digest {
            return Err(Fault::new(What::ContentDigest, payload_offset, header.digest.0, found.0));
        }
        Ok(())
    }
}

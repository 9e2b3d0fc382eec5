//! INDEX entries: what the reader knows of each chunk before it reads it.

use core::ops::Range;

use crate::digest::Digest;
use crate::error::{Fault, ReadError, What};
use crate::layout::{index, kind, record};
use crate::partition::Window;
use crate::record::{RecordHeader, chunk_style};
use crate::style::ChunkStyle;

/// One chunk: its window, where it lies and how it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) window: Window,
    pub(crate) file_offset: u64,
    pub(crate) stored_bytes: u32,
    pub(crate) style: ChunkStyle,
    pub(crate) stored_crc: u32,
    pub(crate) digest: Digest,
}

impl Chunk {
    /// Size of the whole record.
    pub(crate) fn record_bytes(&self) -> u64 {
        record::SIZE as u64 + u64::from(self.stored_bytes)
    }

    /// Used range of the window, for faults.
    pub(crate) fn gaddr(&self) -> Range<u64> {
        self.window.gaddr..self.window.gaddr_end
    }

    /// The record header that the chunk has, byte for byte: INDEX determines it.
    pub(crate) fn encode_header(&self) -> [u8; record::SIZE] {
        RecordHeader {
            kind: kind::CHUNK,
            style: self.style.number(),
            digest_kind: Digest::KIND,
            flags: 0,
            stored_bytes: self.stored_bytes.into(),
            raw_bytes: self.window.raw_bytes.into(),
            number: self.window.number,
            gaddr: self.window.gaddr,
            digest: self.digest,
            stored_crc: self.stored_crc,
        }
        .encode()
    }

    pub(crate) fn encode(&self) -> [u8; index::SIZE] {
        let mut bytes = [0; index::SIZE];
        index::WINDOW.put(&mut bytes, self.window.number);
        index::FILE_OFFSET.put(&mut bytes, self.file_offset);
        index::STORED_BYTES.put(&mut bytes, self.stored_bytes);
        index::RAW_BYTES.put(&mut bytes, self.window.raw_bytes);
        index::STYLE.put(&mut bytes, self.style.number());
        index::DIGEST_KIND.put(&mut bytes, Digest::KIND);
        index::STORED_CRC.put(&mut bytes, self.stored_crc);
        index::DIGEST.put(&mut bytes, self.digest.0);
        bytes
    }

    /// Decodes the entry found at `entry_offset`. It must be that of `window`, and its record must start at
    /// `chunk_offset`, where the one before it ends.
    pub(crate) fn decode(
        bytes: &[u8; index::SIZE],
        entry_offset: u64,
        window: Window,
        chunk_offset: u64,
    ) -> Result<Self, ReadError> {
        let unsupported =
            |what, number: u64| ReadError::UnsupportedStyle { what, number, file_offset: entry_offset };
        let origin = index::ORIGIN.get(bytes);
        if origin != 0 {
            return Err(unsupported("origin", origin.into()));
        }
        let digest_kind = index::DIGEST_KIND.get(bytes);
        if digest_kind != Digest::KIND {
            return Err(unsupported("digest kind", digest_kind.into()));
        }
        if let Some(at) = index::RESERVED.first_set(bytes) {
            return Err(Fault::new(What::Reserved, entry_offset + at as u64, 0u8, bytes[at]).into());
        }
        let expected = [window.number, chunk_offset, window.raw_bytes.into()];
        let found =
            [index::WINDOW.get(bytes), index::FILE_OFFSET.get(bytes), index::RAW_BYTES.get(bytes).into()];
        for ((expected, found), at) in expected.into_iter().zip(found).zip([0, 8, 20]) {
            if expected != found {
                let fault = Fault::new(What::IndexEntry, entry_offset + at, expected, found);
                return Err(fault.at_gaddr(window.gaddr..window.gaddr_end).into());
            }
        }
        let style = chunk_style(index::STYLE.get(bytes), entry_offset)?;
        let stored_bytes = index::STORED_BYTES.get(bytes);
        if !style.admits(stored_bytes, window.raw_bytes) {
            return Err(
                Fault::new(What::IndexEntry, entry_offset + 16, window.raw_bytes, stored_bytes).into()
            );
        }
        let stored_crc = index::STORED_CRC.get(bytes);
        Ok(Self {
            window,
            file_offset: chunk_offset,
            stored_bytes,
            style,
            stored_crc,
            digest: Digest(index::DIGEST.get(bytes)),
        })
    }
}

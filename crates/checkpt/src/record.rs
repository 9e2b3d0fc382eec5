//! Record headers: what every record but the footer starts with.

use core::ops::Range;

use crate::digest::{Digest, crc};
use crate::error::{Fault, ReadError, What};
use crate::layout::{FLAG_SKIPPABLE, MARKER, kind, record};
use crate::style::ChunkStyle;

/// Style number of every payload but a chunk's.
pub(crate) const RAW: u8 = 1;

/// A decoded record header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) kind: u8,
    pub(crate) style: u8,
    pub(crate) digest_kind: u8,
    pub(crate) flags: u8,
    pub(crate) stored_bytes: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) number: u64,
    pub(crate) gaddr: u64,
    pub(crate) digest: Digest,
    pub(crate) stored_crc: u32,
}

impl RecordHeader {
    /// Header of a record whose payload is stored as it is.
    pub(crate) fn of_payload(kind: u8, number: u64, gaddr: u64, payload: &[u8]) -> Self {
        Self {
            kind,
            style: RAW,
            digest_kind: Digest::KIND,
            flags: if kind == kind::INFO { FLAG_SKIPPABLE } else { 0 },
            stored_bytes: payload.len() as u64,
            raw_bytes: payload.len() as u64,
            number,
            gaddr,
            digest: Digest::of(payload),
            stored_crc: crc(payload),
        }
    }

    pub(crate) fn encode(&self) -> [u8; record::SIZE] {
        let mut bytes = [0; record::SIZE];
        record::MARK.put(&mut bytes, MARKER);
        record::KIND.put(&mut bytes, self.kind);
        record::STYLE.put(&mut bytes, self.style);
        record::DIGEST_KIND.put(&mut bytes, self.digest_kind);
        record::FLAGS.put(&mut bytes, self.flags);
        record::STORED_BYTES.put(&mut bytes, self.stored_bytes);
        record::RAW_BYTES.put(&mut bytes, self.raw_bytes);
        record::NUMBER.put(&mut bytes, self.number);
        record::GADDR.put(&mut bytes, self.gaddr);
        record::DIGEST.put(&mut bytes, self.digest.0);
        record::STORED_CRC.put(&mut bytes, self.stored_crc);
        let checksum = crc(&bytes[..record::SIZE - 4]);
        record::CRC.put(&mut bytes, checksum);
        bytes
    }

    /// Decodes the header found at `file_offset`, checking its marker and checksum and nothing else.
    pub(crate) fn decode(bytes: &[u8; record::SIZE], file_offset: u64) -> Result<Self, Fault> {
        let (expected, found) = (crc(&bytes[..record::SIZE - 4]), record::CRC.get(bytes));
        let mark = record::MARK.get(bytes);
        if mark != MARKER {
            return Err(Fault::new(What::RecordMarker, file_offset, MARKER, mark));
        }
        if expected != found {
            return Err(Fault::new(What::RecordHeaderChecksum, file_offset, expected, found));
        }
        Ok(Self {
            kind: record::KIND.get(bytes),
            style: record::STYLE.get(bytes),
            digest_kind: record::DIGEST_KIND.get(bytes),
            flags: record::FLAGS.get(bytes),
            stored_bytes: record::STORED_BYTES.get(bytes),
            raw_bytes: record::RAW_BYTES.get(bytes),
            number: record::NUMBER.get(bytes),
            gaddr: record::GADDR.get(bytes),
            digest: Digest(record::DIGEST.get(bytes)),
            stored_crc: record::STORED_CRC.get(bytes),
        })
    }

    /// Refuses what this version does not know in a record that is not a chunk; `payload` is where its
    /// payload may lie in the file.
    pub(crate) fn check_plain(&self, payload: &Range<u64>) -> Result<(), ReadError> {
        let file_offset = payload.start - record::SIZE as u64;
        let unsupported =
            |what, number: u8| Err(ReadError::UnsupportedStyle { what, number: number.into(), file_offset });
        if self.flags & !FLAG_SKIPPABLE != 0 {
            return unsupported("record flags", self.flags);
        }
        if self.digest_kind != Digest::KIND {
            return unsupported("digest kind", self.digest_kind);
        }
        if self.style != RAW {
            return unsupported("style", self.style);
        }
        let room = payload.end - payload.start;
        if self.stored_bytes > room {
            return Err(Fault::new(What::RecordSize, file_offset, room, self.stored_bytes).into());
        }
        if self.raw_bytes != self.stored_bytes {
            return Err(Fault::new(What::RecordSize, file_offset, self.stored_bytes, self.raw_bytes).into());
        }
        Ok(())
    }
}

/// Style of a chunk as INDEX gives it.
pub(crate) fn chunk_style(number: u8, file_offset: u64) -> Result<ChunkStyle, ReadError> {
    ChunkStyle::from_number(number).ok_or(ReadError::UnsupportedStyle {
        what: "style",
        number: number.into(),
        file_offset,
    })
}

/// Appends a record with a payload that is stored as it is.
pub(crate) fn push(out: &mut Vec<u8>, kind: u8, number: u64, gaddr: u64, payload: &[u8]) {
    out.extend_from_slice(&RecordHeader::of_payload(kind, number, gaddr, payload).encode());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips_and_every_flipped_bit_is_found() {
        let header = RecordHeader::of_payload(kind::PTAB, 3, 0x1234, b"payload");
        let bytes = header.encode();
        assert_eq!(RecordHeader::decode(&bytes, 0), Ok(header));
        for bit in 0..record::SIZE * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::decode(&damaged, 77).unwrap_err().file_offset, 77, "bit {bit}");
        }
    }
}

//! The two ends of the file: preamble and footer.

use crate::digest::{Digest, crc};
use crate::error::{Fault, ReadError, What};
use crate::layout::{END_MAGIC, MAGIC, MAJOR, MARKER, MINOR, footer, kind, preamble};
use crate::record::RAW;

/// Encodes the preamble of a file with no special features.
pub(crate) fn encode_preamble(id: &[u8; 16]) -> [u8; preamble::SIZE] {
    let mut bytes = [0; preamble::SIZE];
    preamble::SIGNATURE.put(&mut bytes, &MAGIC);
    preamble::MAJOR_VERSION.put(&mut bytes, MAJOR);
    preamble::MINOR_VERSION.put(&mut bytes, MINOR);
    preamble::PREAMBLE_BYTES.put(&mut bytes, preamble::SIZE as u32);
    preamble::ID.put(&mut bytes, id);
    let checksum = crc(&bytes[..preamble::SIZE - 4]);
    preamble::CRC.put(&mut bytes, checksum);
    bytes
}

/// Checks the preamble and returns the identity. The magic comes first, then the checksum, so that damage
/// is not taken for another version; then what an older build must refuse.
pub(crate) fn decode_preamble(bytes: &[u8; preamble::SIZE]) -> Result<[u8; 16], ReadError> {
    let found = preamble::SIGNATURE.get(bytes);
    if found != MAGIC {
        return Err(ReadError::NotACheckpoint { found });
    }
    let (expected, found) = (crc(&bytes[..preamble::SIZE - 4]), preamble::CRC.get(bytes));
    if expected != found {
        return Err(Fault::new(What::PreambleChecksum, 0, expected, found).into());
    }
    let (major, minor) = (preamble::MAJOR_VERSION.get(bytes), preamble::MINOR_VERSION.get(bytes));
    if major != MAJOR {
        return Err(ReadError::UnsupportedVersion { major, minor });
    }
    let incompat_bits = preamble::INCOMPAT.get(bytes);
    if incompat_bits != 0 {
        return Err(ReadError::UnknownFeature { incompat_bits });
    }
    let size = preamble::PREAMBLE_BYTES.get(bytes);
    if size != preamble::SIZE as u32 {
        return Err(Fault::new(What::PreambleSize, 12, preamble::SIZE as u32, size).into());
    }
    if let Some(at) = preamble::RESERVED.first_set(bytes) {
        return Err(Fault::new(What::Reserved, at as u64, 0u8, bytes[at]).into());
    }
    Ok(preamble::ID.get(bytes))
}

/// What the footer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) id: [u8; 16],
    pub(crate) ptab_offset: u64,
    pub(crate) chunk_offset: u64,
    pub(crate) index_offset: u64,
    pub(crate) file_bytes: u64,
    pub(crate) partition_count: u64,
    pub(crate) chunk_count: u64,
    pub(crate) used_bytes: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) root: Digest,
}

impl Footer {
    pub(crate) fn encode(&self) -> [u8; footer::SIZE] {
        let mut bytes = [0; footer::SIZE];
        footer::MARK.put(&mut bytes, MARKER);
        footer::KIND.put(&mut bytes, kind::FOOTER);
        footer::STYLE.put(&mut bytes, RAW);
        footer::DIGEST_KIND.put(&mut bytes, Digest::KIND);
        footer::ID.put(&mut bytes, &self.id);
        footer::PTAB_OFFSET.put(&mut bytes, self.ptab_offset);
        footer::CHUNK_OFFSET.put(&mut bytes, self.chunk_offset);
        footer::INDEX_OFFSET.put(&mut bytes, self.index_offset);
        footer::FILE_BYTES.put(&mut bytes, self.file_bytes);
        footer::PARTITION_COUNT.put(&mut bytes, self.partition_count);
        footer::CHUNK_COUNT.put(&mut bytes, self.chunk_count);
        footer::USED_BYTES.put(&mut bytes, self.used_bytes);
        footer::STORED_BYTES.put(&mut bytes, self.stored_bytes);
        footer::ROOT.put(&mut bytes, self.root.0);
        footer::END.put(&mut bytes, &END_MAGIC);
        let checksum = crc(&bytes[..148]);
        footer::CRC.put(&mut bytes, checksum);
        bytes
    }

    /// Decodes the 160 bytes found at `file_offset`; checks marks, checksum and reserved bytes.
    pub(crate) fn decode(bytes: &[u8; footer::SIZE], file_offset: u64) -> Result<Self, ReadError> {
        check_marks(bytes, file_offset)?;
        let digest_kind = footer::DIGEST_KIND.get(bytes);
        if digest_kind != Digest::KIND {
            let number = digest_kind.into();
            return Err(ReadError::UnsupportedStyle { what: "digest kind", number, file_offset });
        }
        let start = [footer::KIND.get(bytes), footer::STYLE.get(bytes), footer::FLAGS.get(bytes)];
        for ((found, expected), at) in start.into_iter().zip([kind::FOOTER, RAW, 0]).zip([4, 5, 7]) {
            if found != expected {
                return Err(Fault::new(What::FooterStart, file_offset + at, expected, found).into());
            }
        }
        let reserved = [
            footer::PARENT_ID.first_set(bytes),
            footer::ROOT_TAIL.first_set(bytes),
            footer::RESERVED.first_set(bytes),
        ];
        if let Some(at) = reserved.into_iter().flatten().next() {
            return Err(Fault::new(What::Reserved, file_offset + at as u64, 0u8, bytes[at]).into());
        }
        Ok(Self {
            id: footer::ID.get(bytes),
            ptab_offset: footer::PTAB_OFFSET.get(bytes),
            chunk_offset: footer::CHUNK_OFFSET.get(bytes),
            index_offset: footer::INDEX_OFFSET.get(bytes),
            file_bytes: footer::FILE_BYTES.get(bytes),
            partition_count: footer::PARTITION_COUNT.get(bytes),
            chunk_count: footer::CHUNK_COUNT.get(bytes),
            used_bytes: footer::USED_BYTES.get(bytes),
            stored_bytes: footer::STORED_BYTES.get(bytes),
            root: Digest(footer::ROOT.get(bytes)),
        })
    }
}

fn check_marks(bytes: &[u8; footer::SIZE], file_offset: u64) -> Result<(), Fault> {
    let (expected, found) = (crc(&bytes[..148]), footer::CRC.get(bytes));
    let end = footer::END.get(bytes);
    if end != END_MAGIC {
        let expected = u64::from_le_bytes(END_MAGIC);
        return Err(Fault::new(What::EndMark, file_offset + 152, expected, u64::from_le_bytes(end)));
    }
    let mark = footer::MARK.get(bytes);
    if mark != MARKER {
        return Err(Fault::new(What::FooterStart, file_offset, MARKER, mark));
    }
    if expected != found {
        return Err(Fault::new(What::FooterChecksum, file_offset, expected, found));
    }
    Ok(())
}

/// Whether 160 bytes that do not decode are a damaged footer rather than no footer at all: either their end
/// mark or their checksum is right.
pub(crate) fn resembles_footer(bytes: &[u8; footer::SIZE]) -> bool {
    footer::END.get(bytes) == END_MAGIC || crc(&bytes[..148]) == footer::CRC.get(bytes)
}

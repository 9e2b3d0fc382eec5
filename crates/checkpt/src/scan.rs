//! Says what is wrong with a file that has no footer: walks its records forwards from the start.

use std::fs::File;

use crate::bounds::Footer;
use crate::error::{Fault, ReadError, What};
use crate::layout::{footer, kind, preamble, record};
use crate::record::RecordHeader;
use crate::section::read_at;

/// The error that describes a file of `file_bytes` whose last 160 bytes are no footer and whose preamble is
/// right. Reads 64 bytes per record.
pub(crate) fn diagnose(file: &File, file_bytes: u64) -> ReadError {
    walk(file, file_bytes).unwrap_or_else(|error| error)
}

fn walk(file: &File, file_bytes: u64) -> Result<ReadError, ReadError> {
    let mut at = preamble::SIZE as u64;
    loop {
        let (room, truncated) = (file_bytes - at, ReadError::Truncated { file_bytes, complete_bytes: at });
        if room < record::SIZE as u64 {
            return Ok(truncated);
        }
        let mut bytes = [0; record::SIZE];
        read_at(file, &mut bytes, at)?;
        // The footer starts as a record does, with its own kind and without a header checksum.
        if record::KIND.get(&bytes) == kind::FOOTER {
            return if room < footer::SIZE as u64 { Ok(truncated) } else { at_footer(file, at, file_bytes) };
        }
        let header = match RecordHeader::decode(&bytes, at) {
            Ok(header) => header,
            // What is no record but ends the file where a footer would is a badly damaged footer.
            Err(_) if room == footer::SIZE as u64 => return at_footer(file, at, file_bytes),
            Err(fault) => return Err(fault.into()),
        };
        match header.stored_bytes.checked_add(record::SIZE as u64) {
            Some(record_bytes) if record_bytes <= room => at += record_bytes,
            _ => return Ok(truncated),
        }
    }
}

fn at_footer(file: &File, at: u64, file_bytes: u64) -> Result<ReadError, ReadError> {
    let mut bytes = [0; footer::SIZE];
    read_at(file, &mut bytes, at)?;
    let footer = Footer::decode(&bytes, at)?;
    let end = at + footer::SIZE as u64;
    if footer.file_bytes == end {
        return Ok(ReadError::TrailingBytes { end, file_bytes });
    }
    Ok(Fault::new(What::FileSize, at, end, footer.file_bytes).into())
}

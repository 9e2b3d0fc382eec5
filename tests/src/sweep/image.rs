//! The bytes of a region's file, and files without a name to hold them.
//!
//! # Invariants
//! - Nothing here has a name: whatever ends this process, nothing is left behind.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::sys::memfd::{MFdFlags, memfd_create};
use outlast_shm::USER_OFFSET;
use outlast_wksp::Wksp;

/// Bytes of the region's first page, of one joiner's record, and of one slot of a workspace; see
/// docs/format/region.md and docs/format/wksp.md.
const PAGE_BYTES: usize = 4096;
const JOINER_BYTES: usize = 256;
const SLOT_BYTES: usize = 64;
const HEAD_BYTES: usize = 8192;

/// The joiner records that are watched at every instruction.
const JOINERS_WATCHED: usize = 4;

/// Where the parts of a region lie that holds a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geography {
    /// Bytes of payload.
    pub data_bytes: usize,
    /// First byte of the slot table, which reaches to the end of the file.
    pub slots_start: usize,
}

impl Geography {
    /// Measures a workspace that has just been made.
    ///
    /// # Errors
    /// A text: it cannot be asked.
    pub fn of(wksp: &Wksp) -> Result<Self, String> {
        let usage = wksp.usage(&[]).map_err(|error| format!("usage: {error}"))?;
        let len = file(wksp)?.metadata().map_err(|error| error.to_string())?.len();
        let slots_start = (len - usage.slot_count * SLOT_BYTES as u64) as usize;
        Ok(Self { data_bytes: wksp.data_bytes() as usize, slots_start })
    }

    /// Bytes from the data region's first one on.
    fn data_start(&self) -> usize {
        self.slots_start - PAGE_BYTES - self.data_bytes
    }

    /// The ranges of a file of `len` bytes in which a call of a workspace may store: the lock, the first joiners,
    /// header and page map, slots.
    pub fn watched(&self, len: usize) -> [std::ops::Range<usize>; 3] {
        let tables = USER_OFFSET as usize..self.data_start() - PAGE_BYTES;
        [0..PAGE_BYTES + JOINERS_WATCHED * JOINER_BYTES, tables, self.slots_start..len]
    }

    /// What lies at byte `at`, for messages.
    pub fn place(&self, at: usize) -> String {
        let tables = USER_OFFSET as usize;
        if at < PAGE_BYTES {
            format!("region header +{at}")
        } else if at < tables {
            let (joiner, rest) = ((at - PAGE_BYTES) / JOINER_BYTES, (at - PAGE_BYTES) % JOINER_BYTES);
            format!("joiner {joiner} +{rest}")
        } else if at < tables + HEAD_BYTES {
            format!("workspace header word {}", (at - tables) / 8)
        } else if at < self.data_start() - PAGE_BYTES {
            format!("page map entry {}", (at - tables - HEAD_BYTES) / 8)
        } else if at < self.slots_start {
            format!("payload +{}", at.saturating_sub(self.data_start()))
        } else {
            let (slot, word) =
                ((at - self.slots_start) / SLOT_BYTES, (at - self.slots_start) % SLOT_BYTES / 8);
            format!("slot {slot} word {word}")
        }
    }
}

/// A second handle on the workspace's file.
///
/// # Errors
/// A text.
pub fn file(wksp: &Wksp) -> Result<File, String> {
    Ok(wksp.as_fd().try_clone_to_owned().map_err(|error| format!("dup: {error}"))?.into())
}

/// A new file without a name that holds `bytes`.
///
/// # Errors
/// Those of memfd_create(2) and of writing.
pub fn nameless(bytes: &[u8]) -> io::Result<File> {
    let file =
        File::from(memfd_create(c"outlast-sweep", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    file.write_all_at(bytes, 0)?;
    Ok(file)
}

/// All bytes of `file`.
///
/// # Errors
/// Those of fstat(2) and of reading.
pub fn bytes_of(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.metadata()?.len() as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Another descriptor of `file`.
///
/// # Errors
/// Those of dup(2).
pub fn descriptor(file: &File) -> io::Result<OwnedFd> {
    file.as_fd().try_clone_to_owned()
}

/// The 8 bytes at `at`.
pub fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

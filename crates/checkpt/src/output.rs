//! The file being written: positioned writes that turn full disks and limits into typed errors.
//!
//! **Invariants**
//! - No write goes beyond the process's file size limit, so SIGXFSZ is never raised.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use outlast_probe::fault;
use outlast_probe::sync::{AtomicU64, Ordering};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::error::{Target, WriteError};

/// An open file with what is needed to describe its failures.
pub(crate) struct Output<'a> {
    file: &'a File,
    target: Target,
    limit_bytes: u64,
    needed_bytes: u64,
    written_bytes: AtomicU64,
}

impl<'a> Output<'a> {
    /// `needed_bytes` is an upper bound of the file's final size.
    pub(crate) fn new(file: &'a File, target: Target, needed_bytes: u64) -> Self {
        let limit_bytes = getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
        Self { file, target, limit_bytes, needed_bytes, written_bytes: AtomicU64::new(0) }
    }

    /// Writes all of `bytes` at `offset`. May be called by several threads at once.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), WriteError> {
        if offset.saturating_add(bytes.len() as u64) > self.limit_bytes {
            return Err(self.too_large());
        }
        let written = match fault!("checkpt.write.pwrite") {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => self.file.write_all_at(bytes, offset),
        };
        written.map_err(|error| self.refusal("write", error))?;
        // Relaxed: a figure for error messages.
        self.written_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Cuts off whatever the file had beyond `size_bytes`.
    pub(crate) fn cut(&self, size_bytes: u64) -> Result<(), WriteError> {
        let found = self.file.metadata().map_err(|error| self.refusal("fstat", error))?.len();
        if found > size_bytes {
            self.file.set_len(size_bytes).map_err(|error| self.refusal("truncate", error))?;
        }
        Ok(())
    }

    /// The typed error for what the system said.
    pub(crate) fn refusal(&self, step: &'static str, error: io::Error) -> WriteError {
        match Errno::from_io_error(&error) {
            Some(Errno::NOSPC | Errno::DQUOT) => WriteError::NoSpace {
                target: self.target.clone(),
                // Relaxed: see `write_at`.
                written_bytes: self.written_bytes.load(Ordering::Relaxed),
                needed_bytes: self.needed_bytes,
            },
            Some(Errno::FBIG) => self.too_large(),
            _ => WriteError::Io { step, target: self.target.clone(), source: error },
        }
    }

    fn too_large(&self) -> WriteError {
        WriteError::TooLarge {
            target: self.target.clone(),
            limit_bytes: self.limit_bytes,
            needed_bytes: self.needed_bytes,
        }
    }
}

//! Proof of life: locks on bytes of the file that belong to an open file description.
//!
//! The kernel drops such a lock when the last descriptor of the description is closed, whatever namespace
//! the process lives in and however it ends. The bytes lie far beyond any data.
//!
//! # Invariants
//! - A descriptor never sees its own locks as held by another.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use crate::layout::{PROOF_BASE, PROOF_READERS};

fn byte_lock(kind: libc::c_int, offset: u64) -> libc::flock {
    lock(kind, offset, 1)
}

fn lock(kind: libc::c_int, offset: u64, len: u64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: offset.cast_signed(),
        l_len: len.cast_signed(),
        l_pid: 0,
    }
}

fn set(file: BorrowedFd<'_>, kind: libc::c_int, offset: u64) -> Result<bool, Errno> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&byte_lock(kind, offset))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes the write lock on a byte; `false` if another description holds one.
pub(crate) fn hold(file: BorrowedFd<'_>, offset: u64) -> Result<bool, Errno> {
    set(file, libc::F_WRLCK, offset)
}

/// Takes a read lock on a byte, which any number of descriptions may hold; `false` if there is a write lock.
pub(crate) fn share(file: BorrowedFd<'_>, offset: u64) -> Result<bool, Errno> {
    set(file, libc::F_RDLCK, offset)
}

/// Gives a byte's lock back.
pub(crate) fn release(file: BorrowedFd<'_>, offset: u64) -> Result<(), Errno> {
    set(file, libc::F_UNLCK, offset).map(|_| ())
}

/// Whether any other description holds a lock, of either kind, on a byte.
pub(crate) fn is_held(file: BorrowedFd<'_>, offset: u64) -> Result<bool, Errno> {
    is_free(file, byte_lock(libc::F_WRLCK, offset)).map(|is_free| !is_free)
}

/// Whether any other description holds any of the region's locks.
pub(crate) fn is_any_held(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    let all = lock(libc::F_WRLCK, PROOF_BASE, PROOF_READERS + 1 - PROOF_BASE);
    is_free(file, all).map(|is_free| !is_free)
}

fn is_free(file: BorrowedFd<'_>, mut lock: libc::flock) -> Result<bool, Errno> {
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) == libc::F_UNLCK)
}

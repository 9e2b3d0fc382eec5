//! Telling a forked child from its parent, and giving the child a file description of its own.
//!
//! One anonymous page is marked to be zero in a child (`MADV_WIPEONFORK`). The process draws a number when it
//! finds zero there; a counter in ordinary memory, which a child inherits, makes every number in a line of
//! forks larger than all before it.
//!
//! # Invariants
//! - [`epoch`] is never 0, the same for all threads of a process, and larger in a forked child than anything
//!   its ancestors ever saw.

#![allow(unsafe_code, reason = "madvise and dup3 have no safe wrapper that fits")]

use core::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use memmap2::{MmapOptions, MmapRaw};
use outlast_probe::sync::{AtomicU64, Ordering};
use rustix::fs::{CWD, Mode, OFlags, openat};

/// Number of the last process in the line of forks that drew one.
static LAST: AtomicU64 = AtomicU64::new(0);
static PAGE: OnceLock<MmapRaw> = OnceLock::new();

thread_local! {
    /// The epoch in which the thread id was asked for, and the id: a child's first thread inherits its
    /// parent's copy, whose epoch is another.
    static THREAD: Cell<(u64, u32)> = const { Cell::new((0, 0)) };
}

fn word(page: &MmapRaw) -> &AtomicU64 {
    // SAFETY: a private page, mapped for the life of the process, page-aligned, only ever accessed as this
    // atomic; in a child it reads as zero, which is a valid value.
    unsafe { AtomicU64::from_ptr(page.as_mut_ptr().cast()) }
}

/// Maps the page; to be called before [`epoch`].
pub(crate) fn prepare() -> io::Result<()> {
    if PAGE.get().is_some() {
        return Ok(());
    }
    let page = MmapRaw::from(MmapOptions::new().len(rustix::param::page_size()).map_anon()?);
    // SAFETY: the advice concerns whole pages of a private mapping that nobody else knows of yet.
    let failed = unsafe { libc::madvise(page.as_mut_ptr().cast(), page.len(), libc::MADV_WIPEONFORK) };
    if failed != 0 {
        return Err(io::Error::last_os_error());
    }
    // If another thread was faster, its page is as good.
    let _ = PAGE.set(page);
    Ok(())
}

/// Number of this process in its line of forks. One load unless it is asked for the first time.
///
/// # Panics
/// Without an earlier successful [`prepare`] in this process or an ancestor.
#[inline]
pub(crate) fn epoch() -> u64 {
    let Some(page) = PAGE.get() else { unreachable!("a join prepares the page first") };
    // Relaxed: nothing but the number itself is passed on by it.
    match word(page).load(Ordering::Relaxed) {
        0 => draw(word(page)),
        epoch => epoch,
    }
}

#[cold]
fn draw(word: &AtomicU64) -> u64 {
    // Relaxed: as in `epoch`; the exchange makes all threads agree on one number.
    let drawn = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    match word.compare_exchange(0, drawn, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => drawn,
        Err(found) => found,
    }
}

/// Id of the calling thread. Two loads unless it is asked for the first time.
#[inline]
pub(crate) fn thread_id(epoch: u64) -> u32 {
    let (known_in, id) = THREAD.get();
    if known_in == epoch { id } else { ask_thread_id(epoch) }
}

#[cold]
fn ask_thread_id(epoch: u64) -> u32 {
    let id = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
    THREAD.set((epoch, id));
    id
}

/// Opens the file of a descriptor once more, so that it has a file description, and locks, of its own.
pub(crate) fn reopen(file: BorrowedFd<'_>, writable: bool) -> io::Result<OwnedFd> {
    let access = if writable { OFlags::RDWR } else { OFlags::RDONLY };
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(openat(CWD, path, access | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())?)
}

/// Puts a file description of its own under the number of a descriptor that a fork duplicated.
pub(crate) fn replace_description(file: &OwnedFd) -> io::Result<()> {
    let fresh = reopen(file.as_fd(), true)?;
    // SAFETY: the number stays open and owned by `file`; what it refers to before and after the call is the
    // same file with the same access.
    let number = unsafe { libc::dup3(fresh.as_raw_fd(), file.as_raw_fd(), libc::O_CLOEXEC) };
    if number < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

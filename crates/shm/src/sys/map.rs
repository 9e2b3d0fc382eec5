//! A region's file in this process's memory.
//!
//! # Invariants
//! 1. All `len` bytes of address space belong to the mapping as long as it lives, and are mapped: to the file, or,
//!    once discarded, to private zeros.
//! 2. A view is only made of bytes below the `known` length, to which the file was seen to reach, and outside
//!    of the guard pages; callers check that (`Join::check`).

#![allow(unsafe_code, reason = "turns checked ranges of the mapping into atomics")]

use core::ops::Range;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use memmap2::{MmapOptions, MmapRaw};
use outlast_probe::sync::{AtomicU8, AtomicU64};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};

use crate::layout::PAGE_BYTES;

/// A mapping of a whole region.
#[derive(Debug)]
pub(crate) struct Mapping {
    raw: MmapRaw,
    writable: bool,
}

impl Mapping {
    /// Maps `len` bytes, more than the file may have so far, and takes all access from the guard pages.
    pub(crate) fn new(file: BorrowedFd<'_>, len: u64, writable: bool, guards: &[u64]) -> io::Result<Self> {
        let mut options = MmapOptions::new();
        options.len(usize::try_from(len).map_err(io::Error::other)?);
        let raw = match writable {
            true => options.map_raw(file.as_raw_fd())?,
            false => options.map_raw_read_only(file.as_raw_fd())?,
        };
        for &guard in guards.iter().filter(|guard| **guard != 0) {
            assert!(guard.is_multiple_of(PAGE_BYTES) && guard + PAGE_BYTES <= len, "a guard within the map");
            let page = raw.as_mut_ptr().wrapping_add(guard as usize);
            // SAFETY: a whole page of a mapping that is ours and that nobody has a view of yet.
            unsafe { mprotect(page.cast(), PAGE_BYTES as usize, MprotectFlags::empty()) }?;
        }
        Ok(Self { raw, writable })
    }

    /// Lets go of the file's pages: private zeros take their place, for views that are still in use.
    pub(crate) fn discard(&self) -> io::Result<()> {
        let access = if self.writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        let start = self.raw.as_mut_ptr().cast();
        // SAFETY: replaces, in one step, exactly the pages of a mapping that is ours by invariant 1. Views of it are
        // of atomics, for which zeros are as good as any other value that somebody may store at any time.
        unsafe { mmap_anonymous(start, self.raw.len(), access, flags) }?;
        Ok(())
    }

    /// Whether it may be written.
    pub(crate) fn is_writable(&self) -> bool {
        self.writable
    }

    /// The bytes `range`, which the caller has checked by invariant 2.
    ///
    /// # Panics
    /// If the range is not within the mapping.
    #[inline]
    pub(crate) fn bytes(&self, range: &Range<u64>) -> &[AtomicU8] {
        assert!(range.start <= range.end && range.end <= self.raw.len() as u64, "a range within the map");
        let start: *const AtomicU8 = self.raw.as_ptr().wrapping_add(range.start as usize).cast();
        let bytes = core::ptr::slice_from_raw_parts(start, (range.end - range.start) as usize);
        // SAFETY: in bounds of the mapping by the assert, alive as long as `self` by invariant 1; atomics
        // admit that others, in this process or another, change the bytes; every bit pattern is valid.
        unsafe { &*bytes }
    }

    /// The words of `range`, which the caller has checked by invariant 2.
    ///
    /// # Panics
    /// If the range is not within the mapping or does not consist of whole words.
    #[inline]
    pub(crate) fn words(&self, range: &Range<u64>) -> &[AtomicU64] {
        assert!((range.start | range.end).is_multiple_of(8), "whole words");
        let bytes = self.bytes(range);
        let words = core::ptr::slice_from_raw_parts(bytes.as_ptr().cast::<AtomicU64>(), bytes.len() / 8);
        // SAFETY: the same bytes as those of the slice above, which has whole words and begins at a multiple
        // of 8 from the start of a page; atomics of any size admit any bit pattern.
        unsafe { &*words }
    }
}

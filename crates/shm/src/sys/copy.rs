//! Bulk copies between private and shared bytes.
//!
//! Small blocks go by relaxed atomic words, with single bytes where they begin and end inside a word. Large
//! blocks on x86-64 go by one string instruction, which is as fast as `memcpy` and, being opaque to the
//! compiler, makes no assumption about who else writes the bytes.
//!
//! # Invariants
//! - Shared bytes are accessed by atomics or by an instruction in inline assembly, never by plain loads.
//! - A byte of the shared side outside of the given cells is neither read nor written.

#![allow(unsafe_code, reason = "string instructions and the views of bytes as words")]

use outlast_probe::sync::{AtomicU8, AtomicU64, Ordering};

use crate::bytes::SharedBytes;

/// From this many bytes on the string instructions are at least as fast as the loops.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const STRING_BYTES_MIN: usize = 1024;

/// The cells as single bytes, whole aligned words, single bytes.
fn words_of(cells: &[AtomicU8]) -> (&[AtomicU8], &[AtomicU64], &[AtomicU8]) {
    // SAFETY: eight `AtomicU8` side by side, aligned to 8, are as good as one `AtomicU64`: both are plain
    // integers with interior mutability, every bit pattern is valid for both.
    unsafe { cells.align_to::<AtomicU64>() }
}

/// Copies shared cells to private bytes of the same length.
///
/// # Panics
/// If the lengths differ.
pub(crate) fn copy_out(from: &[AtomicU8], into: &mut [u8]) {
    assert_eq!(from.len(), into.len(), "source and destination differ in length");
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if STRING_BYTES_MIN <= into.len() {
        let (source, destination) = (from.as_ptr().cast::<u8>(), into.as_mut_ptr());
        // SAFETY: both ranges are valid for `into.len()` bytes and do not overlap: `into` is exclusive.
        unsafe { move_string(source, destination, into.len()) };
        return;
    }
    let (head, words, tail) = words_of(from);
    let (into_head, rest) = into.split_at_mut(head.len());
    let (into_words, into_tail) = rest.split_at_mut(words.len() * 8);
    for (byte, cell) in into_head.iter_mut().zip(head) {
        *byte = cell.load(Ordering::Relaxed); // Relaxed, like all in this file: payload is not ordered here.
    }
    for (bytes, word) in into_words.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
    }
    for (byte, cell) in into_tail.iter_mut().zip(tail) {
        *byte = cell.load(Ordering::Relaxed);
    }
}

/// Copies private bytes to shared cells of the same length, which have to be writable.
///
/// # Panics
/// If the lengths differ.
pub(crate) fn copy_in(from: &[u8], into: &[AtomicU8]) {
    assert_eq!(from.len(), into.len(), "source and destination differ in length");
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if STRING_BYTES_MIN <= from.len() {
        let (source, destination) = (from.as_ptr(), into.as_ptr().cast_mut().cast::<u8>());
        // SAFETY: both ranges are valid for `from.len()` bytes and do not overlap: nobody has a plain
        // reference to shared cells.
        unsafe { move_string(source, destination, from.len()) };
        return;
    }
    let (head, words, tail) = words_of(into);
    let (from_head, rest) = from.split_at(head.len());
    let (from_words, from_tail) = rest.split_at(words.len() * 8);
    for (byte, cell) in from_head.iter().zip(head) {
        cell.store(*byte, Ordering::Relaxed);
    }
    for (bytes, word) in from_words.chunks_exact(8).zip(words) {
        let mut value = [0; 8];
        value.copy_from_slice(bytes);
        word.store(u64::from_le_bytes(value), Ordering::Relaxed);
    }
    for (byte, cell) in from_tail.iter().zip(tail) {
        cell.store(*byte, Ordering::Relaxed);
    }
}

/// Stores `byte` in every cell; they have to be writable.
pub(crate) fn fill(cells: &[AtomicU8], byte: u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if STRING_BYTES_MIN <= cells.len() {
        // SAFETY: the range is valid for writes of its length, and nobody has a plain reference to it.
        unsafe { store_string(cells.as_ptr().cast_mut().cast(), byte, cells.len()) };
        return;
    }
    let (head, words, tail) = words_of(cells);
    let word_value = u64::from_le_bytes([byte; 8]);
    head.iter().chain(tail).for_each(|cell| cell.store(byte, Ordering::Relaxed));
    words.iter().for_each(|word| word.store(word_value, Ordering::Relaxed));
}

/// Whether every cell holds `byte`.
pub(crate) fn is_all(cells: &[AtomicU8], byte: u8) -> bool {
    let (head, words, tail) = words_of(cells);
    let expected = u64::from_le_bytes([byte; 8]);
    let blocks = words.chunks_exact(8);
    let rest = blocks.remainder();
    let same = |word: &AtomicU64| word.load(Ordering::Relaxed) ^ expected;
    head.iter().chain(tail).all(|cell| cell.load(Ordering::Relaxed) == byte)
        && rest.iter().all(|word| same(word) == 0)
        && { blocks }.all(|block| block.iter().fold(0, |difference, word| difference | same(word)) == 0)
}

impl<'r> SharedBytes<'r> {
    /// The bytes as a slice, without a copy.
    ///
    /// # Safety
    /// As long as the slice is used,
    /// 1. no thread of this process writes any of the bytes, and
    /// 2. no other process does: it is known that nobody else has joined, or every joiner is trusted to keep
    ///    off. A peer that writes nevertheless makes the behaviour of this process undefined.
    #[allow(clippy::disallowed_methods, reason = "the one place that makes a slice, at the caller's risk")]
    pub unsafe fn as_slice(&self) -> &'r [u8] {
        let cells = self.all();
        // SAFETY: the cells are valid for reads of their length for `'r`; nothing writes them as long as the
        // slice is used, by duties 1 and 2.
        unsafe { core::slice::from_raw_parts(cells.as_ptr().cast(), cells.len()) }
    }
}

/// # Safety
/// `source` is valid for reads and `destination` for writes of `len` bytes, and they do not overlap.
#[cfg(all(target_arch = "x86_64", not(miri)))]
unsafe fn move_string(source: *const u8, destination: *mut u8, len: usize) {
    // SAFETY: copies `len` bytes upwards (the direction flag is clear by the calling convention) from where
    // the caller may read to where it may write, and changes nothing but the three registers.
    unsafe {
        core::arch::asm!(
            "rep movsb",
            inout("rcx") len => _, inout("rsi") source => _, inout("rdi") destination => _,
            options(nostack, preserves_flags)
        );
    }
}

/// # Safety
/// `destination` is valid for writes of `len` bytes.
#[cfg(all(target_arch = "x86_64", not(miri)))]
unsafe fn store_string(destination: *mut u8, byte: u8, len: usize) {
    // SAFETY: stores `len` bytes upwards (the direction flag is clear by the calling convention) where the
    // caller may write, and changes nothing but the two counting registers.
    unsafe {
        core::arch::asm!(
            "rep stosb",
            inout("rcx") len => _, inout("rdi") destination => _, in("al") byte,
            options(nostack, preserves_flags)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(bytes: &[u8]) -> Vec<AtomicU8> {
        bytes.iter().map(|byte| AtomicU8::new(*byte)).collect()
    }

    fn plain(cells: &[AtomicU8]) -> Vec<u8> {
        cells.iter().map(|cell| cell.load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn every_alignment_and_length_copies_exactly_its_bytes() {
        let pattern: Vec<u8> = (0..6000_u32).map(|i| (i * 7 + i / 256) as u8).collect();
        let lengths = (0..40).chain([2040, 2047, 2048, 2049, 4100]);
        for len in lengths {
            for start in 0..17 {
                let shared = cells(&pattern);
                let mut out = vec![0xee; len];
                copy_out(&shared[start..start + len], &mut out);
                assert_eq!(out, pattern[start..start + len], "out {start} {len}");

                let mut expected = pattern.clone();
                let new: Vec<u8> = (0..len).map(|i| (i * 3 + 1) as u8).collect();
                expected[start..start + len].copy_from_slice(&new);
                copy_in(&new, &shared[start..start + len]);
                assert_eq!(plain(&shared), expected, "in {start} {len}");

                expected[start..start + len].fill(0x5a);
                fill(&shared[start..start + len], 0x5a);
                assert_eq!(plain(&shared), expected, "fill {start} {len}");
                assert!(is_all(&shared[start..start + len], 0x5a));
                if 0 < len {
                    for at in [0, len / 2, len - 1] {
                        shared[start + at].store(0x5b, Ordering::Relaxed);
                        assert!(!is_all(&shared[start..start + len], 0x5a), "{start} {len} {at}");
                        shared[start + at].store(0x5a, Ordering::Relaxed);
                    }
                }
            }
        }
    }
}

//! Sleeping on, and waking through, the low half of a shared word.
//!
//! # Invariants
//! - A futex call never writes the word; the kernel only compares it.

#![allow(unsafe_code, reason = "the kernel wants the address of half a word")]

use std::time::Duration;

use outlast_probe::sync::{AtomicU32, AtomicU64};
use rustix::io::Errno;
use rustix::thread::futex::{Flags, wait, wake};

/// The half of the word that lies at its own address.
fn low_half(word: &AtomicU64) -> &AtomicU32 {
    let address: *const AtomicU32 = core::ptr::from_ref(word).cast();
    // SAFETY: the four bytes at the address of a live `AtomicU64` are in bounds, aligned and, on the
    // little-endian targets that `layout` admits, its low half; only the kernel accesses them through it.
    unsafe { &*address }
}

/// Sleeps until woken, at most `timeout`, unless the low half of the word is not that of `expected`.
/// Returns early without harm on a signal.
pub(crate) fn sleep(word: &AtomicU64, expected: u64, timeout: Duration) -> Result<(), Errno> {
    let timeout = rustix::thread::futex::Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    match wait(low_half(word), Flags::empty(), expected as u32, Some(&timeout)) {
        Ok(()) | Err(Errno::AGAIN | Errno::TIMEDOUT | Errno::INTR) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Wakes one sleeper, in whatever process.
pub(crate) fn wake_one(word: &AtomicU64) {
    // The word is mapped and aligned, so the call cannot fail; if it did, sleepers wake by their timeout.
    let _ = wake(low_half(word), Flags::empty(), 1);
}

/// Wakes every sleeper, in whatever process. As [`wake_one`], it cannot fail.
pub(crate) fn wake_all(word: &AtomicU64) {
    let _ = wake(low_half(word), Flags::empty(), i32::MAX as u32);
}

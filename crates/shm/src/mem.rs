//! Words of shared metadata: the trait that protocol cores are written over and its in-place form.
//!
//! # Invariants
//! - A word is only ever accessed whole and atomically.
//! - A view made from a read-only join refuses stores: it panics instead of faulting.

use core::fmt;
use core::ops::Range;
use std::io;
use std::time::Duration;

use outlast_probe::sync::{AtomicU64, Ordering, fence};

use crate::sys::futex;

/// A sequence of 64-bit words that other threads or processes change at the same time.
///
/// Protocols are written over this trait so that a model checker can stand in for shared memory. An index
/// at or beyond [`len`](Mem::len) is a bug of the caller and panics.
pub trait Mem {
    /// How many words there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads word `index`. `order` is `Relaxed`, `Acquire` or `SeqCst`.
    fn load(&self, index: usize, order: Ordering) -> u64;

    /// Writes word `index`. `order` is `Relaxed`, `Release` or `SeqCst`.
    fn store(&self, index: usize, value: u64, order: Ordering);

    /// Writes `new` if the word holds `current`.
    ///
    /// # Errors
    /// What the word holds instead.
    fn compare_exchange(
        &self,
        index: usize,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64>;

    /// Adds with wrap-around; returns the word before.
    fn fetch_add(&self, index: usize, value: u64, order: Ordering) -> u64;

    /// Sets bits; returns the word before.
    fn fetch_or(&self, index: usize, value: u64, order: Ordering) -> u64;

    /// Keeps bits; returns the word before.
    fn fetch_and(&self, index: usize, value: u64, order: Ordering) -> u64;
}

/// A view of the words of a region, as long-lived as the join it comes from.
///
/// Every access is one bounds check and one instruction. What it reads is whatever any process wrote last:
/// read once into a local, check, use.
///
/// # Panics
/// Every access panics for an index out of bounds, and every write through a read-only join; both are bugs
/// of the caller, never a consequence of what the memory holds.
#[derive(Clone, Copy)]
pub struct Words<'r> {
    words: &'r [AtomicU64],
    writable: bool,
}

#[allow(clippy::len_without_is_empty, reason = "`is_empty` is in the trait")]
impl<'r> Words<'r> {
    pub(crate) fn new(words: &'r [AtomicU64], writable: bool) -> Self {
        Self { words, writable }
    }

    /// How many words there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Reads word `index`. `Acquire` is a relaxed load and a fence, the form that is right for read-only
    /// maps too.
    #[inline]
    pub fn load(&self, index: usize, order: Ordering) -> u64 {
        if matches!(order, Ordering::Acquire) {
            // The caller's partner is the partner; the language guarantees only relaxed loads on memory
            // that this process may not write.
            let value = self.words[index].load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            return value;
        }
        self.words[index].load(order)
    }

    /// Writes word `index`.
    #[inline]
    pub fn store(&self, index: usize, value: u64, order: Ordering) {
        self.cell_to_write(index).store(value, order);
    }

    /// Writes `new` if the word holds `current`.
    ///
    /// # Errors
    /// What the word holds instead.
    #[inline]
    pub fn compare_exchange(
        &self,
        index: usize,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        self.cell_to_write(index).compare_exchange(current, new, success, failure)
    }

    /// Adds with wrap-around; returns the word before.
    #[inline]
    pub fn fetch_add(&self, index: usize, value: u64, order: Ordering) -> u64 {
        self.cell_to_write(index).fetch_add(value, order)
    }

    /// Sets bits; returns the word before.
    #[inline]
    pub fn fetch_or(&self, index: usize, value: u64, order: Ordering) -> u64 {
        self.cell_to_write(index).fetch_or(value, order)
    }

    /// Keeps bits; returns the word before.
    #[inline]
    pub fn fetch_and(&self, index: usize, value: u64, order: Ordering) -> u64 {
        self.cell_to_write(index).fetch_and(value, order)
    }

    /// Sleeps until [`wake`](Self::wake) is called on word `index` in any process, at most `timeout`, unless the
    /// low half (32 bits) of the word is not that of `expected` to begin with. Also returns early on a signal, and
    /// whenever a peer wakes it for no reason: load the word afterwards and judge by that, within a time limit of
    /// one's own. The kernel only compares the word, so a read-only join can sleep too. Blocks; one system call.
    ///
    /// # Errors
    /// Whatever else the kernel says, which no content of the region causes.
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    /// use outlast_probe::sync::Ordering;
    /// use outlast_shm::{Region, Spec, USER_OFFSET};
    ///
    /// let region = Region::anonymous(&Spec::new(7, 1, USER_OFFSET + 4096))?;
    /// let words = region.words(USER_OFFSET..USER_OFFSET + 8)?;
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| {
    ///         words.store(0, 1, Ordering::Release);
    ///         words.wake(0);
    ///     });
    ///     while words.load(0, Ordering::Acquire) == 0 {
    ///         words.wait(0, 0, Duration::from_secs(1))?;
    ///     }
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait(&self, index: usize, expected: u64, timeout: Duration) -> io::Result<()> {
        Ok(futex::sleep(&self.words[index], expected, timeout)?)
    }

    /// Wakes everybody who sleeps on word `index`, in whatever process. One system call.
    pub fn wake(&self, index: usize) {
        futex::wake_all(&self.words[index]);
    }

    #[inline]
    fn cell_to_write(&self, index: usize) -> &'r AtomicU64 {
        assert!(self.writable, "a store through a read-only join");
        &self.words[index]
    }

    /// The words `range`, as a view of their own.
    #[inline]
    pub fn sub(&self, range: Range<usize>) -> Words<'r> {
        Words { words: &self.words[range], writable: self.writable }
    }
}

impl fmt::Debug for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Words").field("len", &self.words.len()).field("writable", &self.writable).finish()
    }
}

impl Mem for Words<'_> {
    #[inline]
    fn len(&self) -> usize {
        Words::len(self)
    }

    #[inline]
    fn load(&self, index: usize, order: Ordering) -> u64 {
        Words::load(self, index, order)
    }

    #[inline]
    fn store(&self, index: usize, value: u64, order: Ordering) {
        Words::store(self, index, value, order);
    }

    #[inline]
    fn compare_exchange(
        &self,
        index: usize,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        Words::compare_exchange(self, index, current, new, success, failure)
    }

    #[inline]
    fn fetch_add(&self, index: usize, value: u64, order: Ordering) -> u64 {
        Words::fetch_add(self, index, value, order)
    }

    #[inline]
    fn fetch_or(&self, index: usize, value: u64, order: Ordering) -> u64 {
        Words::fetch_or(self, index, value, order)
    }

    #[inline]
    fn fetch_and(&self, index: usize, value: u64, order: Ordering) -> u64 {
        Words::fetch_and(self, index, value, order)
    }
}

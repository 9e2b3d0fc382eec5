//! Views of payload bytes: copies in and out, never a reference.
//!
//! # Invariants
//! - Every access is checked against the view, and the view was checked against the region.
//! - Bytes that a peer writes during a copy may arrive mixed with the old ones; nothing worse can happen.

use core::fmt;
use core::ops::Range;

use outlast_probe::sync::AtomicU8;

use crate::error::RangeError;
use crate::sys::copy;

/// A view of the bytes of a region, as long-lived as the join it comes from.
///
/// Any other process may write these bytes at any time. They are therefore only copied in and out, by
/// relaxed words, at the speed of `memcpy`; offsets count from the start of the view.
///
/// ```
/// use outlast_shm::{Region, Spec, USER_OFFSET};
///
/// let region = Region::anonymous(&Spec::new(1, 1, USER_OFFSET + 4096))?;
/// let page = region.bytes(USER_OFFSET..USER_OFFSET + 4096)?;
/// page.write(3, b"abc")?;
/// let mut text = [0; 5];
/// page.read(2, &mut text)?;
/// assert_eq!(&text, b"\0abc\0");
/// assert!(page.write(4094, b"abc").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A view does not outlive its join:
///
/// ```compile_fail,E0505
/// fn refused(region: outlast_shm::Region) {
///     let view = region.bytes(0..0).unwrap();
///     drop(region);
///     let _ = view.len();
/// }
/// ```
#[derive(Clone, Copy)]
pub struct SharedBytes<'r> {
    cells: &'r [AtomicU8],
    writable: bool,
}

impl<'r> SharedBytes<'r> {
    pub(crate) fn new(cells: &'r [AtomicU8], writable: bool) -> Self {
        Self { cells, writable }
    }

    /// Bytes of the view.
    #[inline]
    pub fn len(&self) -> u64 {
        self.cells.len() as u64
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Copies `into.len()` bytes from `offset` on.
    ///
    /// # Errors
    /// [`RangeError::Outside`].
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), RangeError> {
        copy::copy_out(self.cells(offset, into.len() as u64)?, into);
        Ok(())
    }

    /// Copies `from` to `offset` and on.
    ///
    /// # Errors
    /// [`RangeError::Outside`], [`RangeError::ReadOnly`].
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<(), RangeError> {
        copy::copy_in(from, self.cells_to_write(offset, from.len() as u64)?);
        Ok(())
    }

    /// Stores `len` times `byte`.
    ///
    /// # Errors
    /// [`RangeError::Outside`], [`RangeError::ReadOnly`].
    pub fn fill(&self, offset: u64, len: u64, byte: u8) -> Result<(), RangeError> {
        copy::fill(self.cells_to_write(offset, len)?, byte);
        Ok(())
    }

    /// Whether `len` bytes from `offset` on are all `byte`; stops at the first that is not.
    ///
    /// # Errors
    /// [`RangeError::Outside`].
    pub fn is_all(&self, offset: u64, len: u64, byte: u8) -> Result<bool, RangeError> {
        Ok(copy::is_all(self.cells(offset, len)?, byte))
    }

    /// The bytes `range` as a view of their own.
    ///
    /// # Errors
    /// [`RangeError::Outside`].
    pub fn sub(&self, range: Range<u64>) -> Result<SharedBytes<'r>, RangeError> {
        let len = range.end.checked_sub(range.start).ok_or_else(|| self.outside(range.start, range.end))?;
        Ok(SharedBytes { cells: self.cells(range.start, len)?, writable: self.writable })
    }

    /// Address of the first byte in this process.
    ///
    /// The pointer is valid for reads, and for writes unless the join is read-only, of [`len`](Self::len)
    /// bytes as long as the join lives. Other processes may write the bytes at any time.
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        self.cells.as_ptr().cast_mut().cast()
    }

    /// All cells of the view.
    pub(crate) fn all(&self) -> &'r [AtomicU8] {
        self.cells
    }

    fn cells_to_write(&self, offset: u64, len: u64) -> Result<&'r [AtomicU8], RangeError> {
        let cells = self.cells(offset, len)?;
        if self.writable { Ok(cells) } else { Err(RangeError::ReadOnly { start: offset, end: offset + len }) }
    }

    #[inline]
    fn cells(&self, offset: u64, len: u64) -> Result<&'r [AtomicU8], RangeError> {
        let end = offset.saturating_add(len);
        // Both fit a `usize` if they are in bounds: the view is a slice.
        self.cells.get(offset as usize..end as usize).ok_or_else(|| self.outside(offset, end))
    }

    #[cold]
    fn outside(&self, start: u64, end: u64) -> RangeError {
        RangeError::Outside { start, end, min: 0, max: self.len() }
    }
}

impl fmt::Debug for SharedBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBytes")
            .field("len", &self.cells.len())
            .field("writable", &self.writable)
            .finish()
    }
}

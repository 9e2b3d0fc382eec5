//! Partitions, and the fixed windows into which their bytes are cut.
//!
//! **Invariants**
//! - A checked partition list is ascending and disjoint, without empty partitions, without tag 0, and ends
//!   at or below the data region's size; so no sum of its fields overflows.
//! - A window's content is the concatenation of its used ranges in ascending order; windows without used
//!   bytes do not exist.

use core::ops::Range;

use crate::error::{PartitionError, PartitionFault};

/// One used range of the data region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Partition {
    /// Where it starts, counted from the data origin.
    pub gaddr: u64,
    /// Its size, at least 1.
    pub size_bytes: u64,
    /// Its tag, at least 1.
    pub tag: u64,
}

impl Partition {
    /// One past its last byte. Only for checked partitions.
    pub(crate) fn end(&self) -> u64 {
        self.gaddr + self.size_bytes
    }
}

/// Checks the first invariant.
pub(crate) fn check(partitions: &[Partition], data_max_bytes: u64) -> Result<(), PartitionError> {
    let mut free_from = 0;
    for (index, partition) in partitions.iter().enumerate() {
        let refuse = |fault| Err(PartitionError { index: index as u64, gaddr: partition.gaddr, fault });
        if partition.size_bytes == 0 {
            return refuse(PartitionFault::Empty);
        }
        if partition.tag == 0 {
            return refuse(PartitionFault::Untagged);
        }
        if partition.gaddr < free_from {
            return refuse(PartitionFault::Overlap { free_from });
        }
        free_from = match partition.gaddr.checked_add(partition.size_bytes) {
            Some(end) if end <= data_max_bytes => end,
            _ => return refuse(PartitionFault::OutOfRange { data_max_bytes }),
        };
    }
    Ok(())
}

/// One window that has used bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// Address of its first byte divided by the window size.
    pub(crate) number: u64,
    /// The first partition that has bytes in it.
    pub(crate) first: usize,
    /// Used bytes; fits `u32` because a window is at most 4 MiB.
    pub(crate) raw_bytes: u32,
    /// First used byte.
    pub(crate) gaddr: u64,
    /// One past the last used byte.
    pub(crate) gaddr_end: u64,
}

/// The windows of a checked partition list, ascending. Lazy, so that a hostile table that claims exabytes
/// costs no more than what is taken from it.
pub(crate) struct Windows<'a> {
    partitions: &'a [Partition],
    window_bytes: u64,
    index: usize,
    /// Everything below is covered by windows already returned.
    covered: u64,
}

impl<'a> Windows<'a> {
    pub(crate) fn new(partitions: &'a [Partition], window_bytes: u64) -> Self {
        Self { partitions, window_bytes, index: 0, covered: 0 }
    }
}

impl Iterator for Windows<'_> {
    type Item = Window;

    fn next(&mut self) -> Option<Window> {
        let partition = self.partitions.get(self.index)?;
        let gaddr = partition.gaddr.max(self.covered);
        let number = gaddr / self.window_bytes;
        let mut window = Window { number, first: self.index, raw_bytes: 0, gaddr, gaddr_end: gaddr };
        for piece in pieces(self.partitions, &window, self.window_bytes) {
            window.raw_bytes += (piece.end - piece.start) as u32;
            window.gaddr_end = piece.end;
            self.covered = piece.end;
            if self.partitions[self.index].end() <= piece.end {
                self.index += 1;
            }
        }
        Some(window)
    }
}

/// The used ranges of a window, ascending, each within one partition.
pub(crate) fn pieces<'a>(
    partitions: &'a [Partition],
    window: &Window,
    window_bytes: u64,
) -> impl Iterator<Item = Range<u64>> + use<'a> {
    let start = window.number * window_bytes;
    let last = start + (window_bytes - 1); // inclusive: the end of the last window may be 2^64
    partitions[window.first..].iter().take_while(move |partition| partition.gaddr <= last).map(
        move |partition| {
            let end = (partition.end() - 1).min(last) + 1;
            partition.gaddr.max(start)..end
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const W: u64 = 64 << 10;

    fn partition(gaddr: u64, size_bytes: u64) -> Partition {
        Partition { gaddr, size_bytes, tag: 1 }
    }

    #[test]
    fn windows_cover_every_used_byte_once() {
        let partitions = [
            partition(1, 1),
            partition(2, W),             // crosses into window 1
            partition(W + 2, 10),        // adjacent
            partition(3 * W - 1, 2 * W), // end of 2, all of 3, most of 4
            partition(7 * W, W),         // exactly window 7
        ];
        let windows: Vec<Window> = Windows::new(&partitions, W).collect();
        assert_eq!(windows.iter().map(|w| w.number).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 7]);
        let used: u64 = windows.iter().map(|w| u64::from(w.raw_bytes)).sum();
        assert_eq!(used, partitions.iter().map(|p| p.size_bytes).sum::<u64>());
        assert_eq!((windows[1].gaddr, windows[1].gaddr_end, windows[1].raw_bytes), (W, W + 12, 12));
        assert_eq!(pieces(&partitions, &windows[1], W).collect::<Vec<_>>(), [W..W + 2, W + 2..W + 12]);
        assert!(pieces(&partitions, &windows[4], W).eq(std::iter::once(4 * W..5 * W - 1)));
    }

    #[test]
    fn the_top_of_the_address_space_does_not_overflow() {
        let partitions = [partition(u64::MAX - 5, 5)];
        check(&partitions, u64::MAX).unwrap();
        let windows: Vec<Window> = Windows::new(&partitions, W).collect();
        assert_eq!((windows.len(), windows[0].raw_bytes, windows[0].gaddr_end), (1, 5, u64::MAX));
    }

    #[test]
    fn bad_lists_are_refused() {
        let fault = |partitions: &[Partition]| check(partitions, 100).unwrap_err().fault;
        assert_eq!(fault(&[partition(0, 0)]), PartitionFault::Empty);
        assert_eq!(fault(&[Partition { gaddr: 1, size_bytes: 1, tag: 0 }]), PartitionFault::Untagged);
        assert_eq!(fault(&[partition(5, 5), partition(9, 1)]), PartitionFault::Overlap { free_from: 10 });
        assert_eq!(fault(&[partition(99, 2)]), PartitionFault::OutOfRange { data_max_bytes: 100 });
        assert_eq!(fault(&[partition(99, u64::MAX)]), PartitionFault::OutOfRange { data_max_bytes: 100 });
        assert_eq!(check(&[partition(0, 50), partition(50, 50)], 100), Ok(()), "adjacent is fine");
    }
}

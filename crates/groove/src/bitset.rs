//! Bits with a summary: which superblocks of a class are worth looking at. Hints, never truth.
//!
//! A bit of the summary says that a word of bits may hold one. The core is over words of any kind, so that a
//! model can check it.
//!
//! # Invariants
//! - When nobody is inside, a bit that is set has its summary bit set, unless its setter was killed.
//! - Whoever gets a bit by [`Bitset::take`] has cleared it: nobody else gets the same one.

use outlast_probe::sync::Ordering;
use outlast_shm::Mem;

/// Where the words are: the bits, then their summary.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bitset {
    /// First word of the bits.
    pub(crate) first: usize,
    /// Words of the bits.
    pub(crate) words: usize,
}

impl Bitset {
    fn summary(&self, word: usize) -> (usize, u64) {
        (self.first + self.words + word / 64, 1 << (word % 64))
    }

    /// Sets a bit.
    pub(crate) fn set<M: Mem>(&self, mem: &M, bit: u32) {
        let word = bit as usize / 64;
        // AcqRel, both: partner is `take`, which clears the summary and then looks at the word again. Of the two
        // exchanges of the summary one comes first: if this one, `take` sees the bit; if that one, this one stays.
        let before = mem.fetch_or(self.first + word, 1 << (bit % 64), Ordering::AcqRel);
        if before == 0 {
            let (at, mask) = self.summary(word);
            mem.fetch_or(at, mask, Ordering::AcqRel);
        }
    }

    /// Clears some bit that is set, and returns it. At most `limit` words are looked at.
    pub(crate) fn take<M: Mem>(&self, mem: &M, limit: usize) -> Option<u32> {
        let mut left = limit;
        for group in 0..self.words.div_ceil(64) {
            loop {
                // Relaxed: a hint; the word itself is read by an exchange.
                let summary = mem.load(self.first + self.words + group, Ordering::Relaxed);
                let word = group * 64 + summary.trailing_zeros() as usize;
                if summary == 0 || self.words <= word || left == 0 {
                    break;
                }
                left -= 1;
                if let Some(bit) = self.take_from(mem, word) {
                    return Some(bit);
                }
            }
        }
        None
    }

    fn take_from<M: Mem>(&self, mem: &M, word: usize) -> Option<u32> {
        let at = self.first + word;
        // More only where somebody hostile sets and clears bits.
        for _ in 0..u64::BITS {
            // Relaxed: acted upon only by the exchange.
            let bits = mem.load(at, Ordering::Relaxed);
            if bits == 0 {
                self.clear_summary(mem, word);
                return None;
            }
            let bit = bits.trailing_zeros();
            // Acquire: partner is the Release of `set`, so that the superblock is as its last owner left it.
            let before = mem.fetch_and(at, !(1 << bit), Ordering::AcqRel);
            if before & 1 << bit != 0 {
                if before == 1 << bit {
                    self.clear_summary(mem, word);
                }
                return Some(word as u32 * 64 + bit);
            }
        }
        None
    }

    /// Clears the summary bit of a word that was seen empty.
    fn clear_summary<M: Mem>(&self, mem: &M, word: usize) {
        let (at, mask) = self.summary(word);
        // AcqRel: partner is `set`; see there.
        mem.fetch_and(at, !mask, Ordering::AcqRel);
        // Relaxed: a bit that this does not see was set after, and so is the summary.
        if mem.load(self.first + word, Ordering::Relaxed) != 0 {
            mem.fetch_or(at, mask, Ordering::AcqRel);
        }
    }
}

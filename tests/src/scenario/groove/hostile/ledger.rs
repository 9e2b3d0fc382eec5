//! How often each word of the volumes was overwritten, for whoever has to judge what rests on it.
//!
//! # Invariants
//! - A word's count is odd while it is being overwritten, and goes up by two each time: who finds the same even count
//!   before and after knows that the word was left alone.

use outlast_probe::sync::{Ordering, fence};
use outlast_shm::{Domain, Draft, Region, RegionError, Span, Spec, USER_OFFSET};
use outlast_wksp::RegionName;

use super::VOLUMES;

/// Words of each volume that are counted: more than its tables have.
const WORDS: usize = 8192;
/// Whether a round is over.
const OVER: usize = 0;
const FIRST: usize = 8;
/// What the region holds: the bytes `OLledgr\n`.
const SPEC: Spec = Spec::new(
    u64::from_le_bytes(*b"OLledgr\n"),
    1,
    (USER_OFFSET + 8 * (FIRST + WORDS * VOLUMES) as u64).next_multiple_of(4096),
);

/// The counts.
#[derive(Debug)]
pub struct Ledger {
    span: Span,
    _region: Region,
}

impl Ledger {
    /// A new one.
    ///
    /// # Errors
    /// Those of the region.
    pub fn create(domain: &Domain, name: &RegionName) -> Result<Self, RegionError> {
        Self::of(Draft::new(domain, name, &SPEC)?.publish()?)
    }

    /// That of this name.
    ///
    /// # Errors
    /// Those of the region.
    pub fn open(domain: &Domain, name: &RegionName) -> Result<Self, RegionError> {
        Self::of(Region::open(domain, name, &SPEC.expect())?)
    }

    fn of(region: Region) -> Result<Self, RegionError> {
        Ok(Self { span: region.span(USER_OFFSET..SPEC.len_bytes)?, _region: region })
    }

    /// A round begins.
    pub fn begin(&self) {
        self.span.words().store(OVER, 0, Ordering::Release);
    }

    /// A round is over: the traffic may end.
    pub fn end(&self) {
        self.span.words().store(OVER, 1, Ordering::Release);
    }

    /// Whether it is.
    pub fn is_over(&self) -> bool {
        self.span.words().load(OVER, Ordering::Acquire) != 0
    }

    /// Overwrites a word of a volume, and counts that.
    ///
    /// # Errors
    /// Those of `overwrite`.
    pub fn enter<E>(
        &self,
        volume: usize,
        word: u64,
        overwrite: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let words = self.span.words();
        let at = FIRST + WORDS * volume + word as usize % WORDS;
        // AcqRel, both: who sees the word overwritten sees the first, and who sees the second sees the word.
        words.fetch_add(at, 1, Ordering::AcqRel);
        let done = overwrite();
        words.fetch_add(at, 1, Ordering::AcqRel);
        done
    }

    /// The counts of a descriptor, whose first word is `word`; `None` while it is being overwritten.
    pub fn of_descriptor(&self, volume: usize, word: u64) -> Option<[u64; 2]> {
        // Acquire: what was asked of the groove before comes before the counts; partner is `enter`.
        fence(Ordering::SeqCst);
        let at = FIRST + WORDS * volume + word as usize % WORDS;
        let count = |at| self.span.words().load(at, Ordering::Acquire);
        let counts = [count(at), count(at + 1)];
        counts.iter().all(|count| count.is_multiple_of(2)).then_some(counts)
    }
}

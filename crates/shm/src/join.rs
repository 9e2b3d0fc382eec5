//! The joins of this process: one mapping for each region and access, however many handles there are.
//!
//! # Invariants
//! - A join is found by (device, inode, access); the inode cannot be given out anew while a join has it open.
//! - The number of handles is changed under the lock of `JOINS` only; the last one to go leaves the table.
//! - In a forked child a join has no slot until it enters anew, with a file description of its own; until
//!   then the child changes nothing in the table.

use core::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outlast_probe::sync::{AtomicU8, AtomicU64, Ordering};

use crate::counters;
use crate::error::{Call, JoinError, RangeError, RegionError};
use crate::header::Header;
use crate::joiner::identity::Identity;
use crate::joiner::table::{Seat, Table};
use crate::joiner::{JoinerSlot, proof};
use crate::layout::{
    JOINER_BYTES, JOINER_MAX, JOINERS_OFFSET, LOCK_WORD, PAGE_BYTES, PROOF_READERS, USER_OFFSET, joiner,
};
use crate::lock::word::Claim;
use crate::mem::Words;
use crate::sys::fork;
use crate::sys::map::Mapping;

static JOINS: Mutex<Vec<Arc<Join>>> = Mutex::new(Vec::new());

fn joins() -> MutexGuard<'static, Vec<Arc<Join>>> {
    // The list is consistent between any two statements that change it, so a panic elsewhere does no harm.
    JOINS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What makes two joins of a process the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    device: u64,
    inode: u64,
    writable: bool,
}

/// One region, mapped.
#[derive(Debug)]
pub(crate) struct Join {
    key: Key,
    pub(crate) file: OwnedFd,
    map: Mapping,
    pub(crate) header: Header,
    /// Length that the file was seen to have; only grows.
    known_len: AtomicU64,
    /// Handles; changed under the lock of `JOINS`.
    handles: AtomicU64,
    /// The epoch in which `slot` and `generation` became ours; 0 before the first time.
    entered: AtomicU64,
    slot: AtomicU64,
    generation: AtomicU64,
    entering: Mutex<()>,
}

impl Join {
    /// Joins the region of an open file, or adds a handle to the join that there is already.
    pub(crate) fn open(file: OwnedFd, header: Header, writable: bool) -> Result<Arc<Self>, RegionError> {
        fork::prepare().call("preparing for forks")?;
        let stat = rustix::fs::fstat(&file).call("fstat")?;
        let key = Key { device: stat.st_dev, inode: stat.st_ino, writable };
        let mut joins = joins();
        if let Some(join) = joins.iter().find(|join| join.key == key) {
            join.claim_if_writable()?;
            join.add_handle();
            return Ok(Arc::clone(join));
        }
        let len = header.spec.len_max_bytes;
        let map = Mapping::new(file.as_fd(), len, writable, &header.spec.guards)
            .map_err(|source| RegionError::Map { len, source })?;
        let join = Self {
            key,
            file,
            map,
            header,
            known_len: AtomicU64::new(0),
            handles: AtomicU64::new(1),
            entered: AtomicU64::new(0),
            slot: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            entering: Mutex::new(()),
        };
        join.refresh_len()?;
        join.claim_if_writable()?;
        if !writable {
            // A peer that write-locks the readers' byte hides this join; nothing depends on it for safety.
            proof::share(join.file.as_fd(), PROOF_READERS).call("locking the readers' byte")?;
        }
        let join = Arc::new(join);
        joins.push(Arc::clone(&join));
        Ok(join)
    }

    fn claim_if_writable(&self) -> Result<(), JoinError> {
        if self.map.is_writable() { self.claim().map(|_| ()) } else { Ok(()) }
    }

    fn add_handle(&self) {
        // Relaxed: under the lock of `JOINS`.
        self.handles.fetch_add(1, Ordering::Relaxed);
        self.publish_handles();
    }

    /// How many handles there are.
    pub(crate) fn handle_count(&self) -> u64 {
        // Relaxed: a number that may change as soon as it was read, unless the caller has the only handle.
        self.handles.load(Ordering::Relaxed)
    }

    /// One more handle of a join that is known to have one.
    pub(crate) fn add(&self) {
        let _joins = joins();
        self.add_handle();
    }

    /// One handle less; the last one leaves the joiner table.
    pub(crate) fn remove(&self) -> Result<(), RegionError> {
        let mut joins = joins();
        // Relaxed: under the lock of `JOINS`.
        if 1 < self.handles.fetch_sub(1, Ordering::Relaxed) {
            self.publish_handles();
            return Ok(());
        }
        let here = joins.iter().position(|join| std::ptr::eq(Arc::as_ptr(join), self));
        let removed = here.map(|index| joins.swap_remove(index));
        let left = self.seat().map_or(Ok(()), |seat| self.table().leave(seat));
        drop(joins);
        drop(removed);
        Ok(left.call("leaving the joiner table")?)
    }

    fn publish_handles(&self) {
        if let Some(seat) = self.seat() {
            // Relaxed: numbers for people.
            let handles = self.handles.load(Ordering::Relaxed);
            self.table().slot(seat.slot).store(joiner::JOIN_COUNT, handles, Ordering::Relaxed);
        }
    }

    /// The slot of this process, unless it has none (read-only, or a forked child before its first lock).
    #[inline]
    pub(crate) fn seat(&self) -> Option<Seat> {
        // Acquire: pairs with the Release in `enter`.
        if self.entered.load(Ordering::Acquire) != fork::epoch() {
            return None;
        }
        // Relaxed: ordered by `entered`.
        let slot = JoinerSlot::new(self.slot.load(Ordering::Relaxed) as usize)?;
        Some(Seat { slot, generation: self.generation.load(Ordering::Relaxed) })
    }

    /// The slot of this process; a forked child gets one of its own here.
    #[inline]
    pub(crate) fn claim(&self) -> Result<Seat, JoinError> {
        match self.seat() {
            Some(seat) => Ok(seat),
            None => self.enter(),
        }
    }

    /// What the calling thread puts in the lock word, and the epoch in which it may.
    #[inline]
    pub(crate) fn claim_for_thread(&self) -> Result<(Claim, u64), JoinError> {
        let seat = self.claim()?;
        let epoch = fork::epoch();
        Ok((Claim::of_seat(seat).of_thread(fork::thread_id(epoch)), epoch))
    }

    #[cold]
    fn enter(&self) -> Result<Seat, JoinError> {
        let _entering = self.entering.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seat) = self.seat() {
            return Ok(seat);
        }
        let epoch = fork::epoch();
        // Relaxed: under the lock of `entering`.
        if self.entered.load(Ordering::Relaxed) != 0 {
            fork::replace_description(&self.file).call("reopening the region in a forked child")?;
        }
        let table = Table { words: self.words(), file: self.file.as_fd(), own: None, is_inherited: false };
        let seat = table.enter(&Identity::of_self(fork::thread_id(epoch)))?;
        self.slot.store(seat.slot.index() as u64, Ordering::Relaxed);
        self.generation.store(seat.generation, Ordering::Relaxed);
        // Release: pairs with the Acquire in `seat`.
        self.entered.store(epoch, Ordering::Release);
        self.publish_handles();
        Ok(seat)
    }

    /// The joiner table as this process sees it. A forked child is entered anew here, because through its
    /// parent's file description the parent's locks look like its own.
    pub(crate) fn table(&self) -> Table<'_> {
        let own = if self.map.is_writable() { self.claim().ok() } else { None };
        let is_inherited = self.map.is_writable() && own.is_none();
        Table { words: self.words(), file: self.file.as_fd(), own, is_inherited }
    }

    /// Page 0 and the joiner table.
    #[inline]
    pub(crate) fn words(&self) -> Words<'_> {
        Words::new(self.map.words(&(0..USER_OFFSET)), self.map.is_writable())
    }

    /// The lock word as the futex calls want it.
    pub(crate) fn lock_cell(&self) -> &AtomicU64 {
        let start = LOCK_WORD as u64 * 8;
        &self.map.words(&(start..start + 8))[0]
    }

    /// Lets go of the memory for good; whoever opens the region again gets another join.
    pub(crate) fn discard(&self) -> Result<(), RegionError> {
        joins().retain(|join| !std::ptr::eq(Arc::as_ptr(join), self));
        let len = self.header.spec.len_max_bytes;
        self.map.discard().map_err(|source| RegionError::Map { len, source })
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.map.is_writable()
    }

    #[inline]
    pub(crate) fn known_len(&self) -> u64 {
        // Acquire: pairs with the Release in `refresh_len`.
        self.known_len.load(Ordering::Acquire)
    }

    /// Asks for the file's length and notes it.
    pub(crate) fn refresh_len(&self) -> Result<u64, RegionError> {
        let stat = rustix::fs::fstat(&self.file).call("fstat")?;
        let found = stat.st_size.cast_unsigned();
        self.header.expect_len(found)?;
        // Release: pairs with the Acquire in `known_len`.
        let before = self.known_len.fetch_max(found, Ordering::Release);
        if found < before {
            let (min, max) = (before, self.header.spec.len_max_bytes);
            return Err(RegionError::Size { found, min, max });
        }
        Ok(found)
    }

    /// The bytes of a range of the user area that may be touched.
    #[inline]
    pub(crate) fn user_bytes(&self, range: &Range<u64>) -> Result<&[AtomicU8], RangeError> {
        self.check(range)?;
        Ok(self.map.bytes(range))
    }

    /// The words of such a range.
    #[inline]
    pub(crate) fn user_words(&self, range: &Range<u64>) -> Result<Words<'_>, RangeError> {
        self.check(range)?;
        expect_words(range)?;
        Ok(Words::new(self.map.words(range), self.map.is_writable()))
    }

    /// Adds to counters of `slot`, which is this process's. Only for the holder of the lock.
    #[inline(always)]
    pub(crate) fn count<const N: usize>(&self, slot: JoinerSlot, deltas: [(usize, u64); N]) {
        let first = (JOINERS_OFFSET + slot.index() as u64 * JOINER_BYTES) as usize / 8;
        counters::add(&self.words().sub(first..first + JOINER_BYTES as usize / 8), deltas);
    }

    /// What tells this process's joiner from every other of the region; only while it has a slot.
    #[inline(always)]
    pub(crate) fn joiner_number(&self, slot: JoinerSlot) -> u64 {
        // Relaxed: whoever has a slot has seen it with its generation.
        self.generation.load(Ordering::Relaxed).wrapping_mul(JOINER_MAX as u64) | slot.index() as u64
    }

    /// The words of a range that `check_span` let pass, as far as the file reaches.
    #[inline(always)]
    pub(crate) fn span_words(&self, range: &Range<u64>) -> Words<'_> {
        let end = range.end.min(self.known_len()).max(range.start);
        Words::new(self.map.words(&(range.start..end)), self.map.is_writable())
    }

    /// Whether a range may be viewed once the file reaches that far.
    pub(crate) fn check_span(&self, range: &Range<u64>) -> Result<(), RangeError> {
        self.check_to(range, self.header.spec.len_max_bytes)?;
        expect_words(range)
    }

    #[inline]
    fn check(&self, range: &Range<u64>) -> Result<(), RangeError> {
        self.check_to(range, self.known_len())
    }

    /// Whether a range lies between the region's own pages and `max` and holds no guard page.
    #[inline]
    fn check_to(&self, range: &Range<u64>, max: u64) -> Result<(), RangeError> {
        let Range { start, end } = *range;
        if start < USER_OFFSET || end < start || max < end {
            return Err(RangeError::Outside { start, end, min: USER_OFFSET, max });
        }
        for guard in self.header.spec.guards {
            if guard != 0 && start < guard + PAGE_BYTES && guard < end {
                return Err(RangeError::Guard { start, end, guard });
            }
        }
        Ok(())
    }
}

#[inline]
fn expect_words(range: &Range<u64>) -> Result<(), RangeError> {
    let Range { start, end } = *range;
    if (start | end).is_multiple_of(8) { Ok(()) } else { Err(RangeError::Misaligned { start, end }) }
}

//! Read-only joins: questions answered without the lock and without a single store.
//!
//! A [`Reader`] cannot take the lock, so it looks while others change things. One slot is read consistently by
//! its stamp (a sequence lock of one slot); a whole picture by the header's change counter. If it moves during
//! every look the answer is [`QueryError::Unstable`] with the holder of the lock.
//!
//! # Invariants
//! - Answers come from the slots alone, never from an index, so a damaged index cannot mislead a reader.

use std::collections::HashSet;

use core::hint::spin_loop;
use std::os::fd::OwnedFd;
use std::thread::yield_now;

use outlast_probe::sync::{Ordering, fence};
use outlast_shm::{Domain, JoinerSlot, ReadOnly, Region, RegionName, SharedBytes};

use crate::counter::Counters;
use crate::error::{AccessError, AttachError, Fault, QueryError};
use crate::gaddr::Gaddr;
use crate::layout::{FIRST_GADDR, expect, head, slot};
use crate::query::{Partition, Usage, partition_of};
use crate::tables::{Kind, Slot, Tables};
use crate::wksp::{Site, State, data_range, read_geometry};

/// How often a reader looks before it says that the tables do not hold still.
const TRIES: u32 = 1000;

/// A workspace that this process has joined for reading only. Nothing it does can disturb anybody.
#[derive(Debug, Clone)]
pub struct Reader {
    region: Region<ReadOnly>,
    site: Site,
}

impl Reader {
    /// Joins the workspace `name` for reading.
    ///
    /// # Errors
    /// As [`Wksp::attach`](crate::Wksp::attach).
    pub fn attach(domain: &Domain, name: &RegionName) -> Result<Self, AttachError> {
        let region = Region::open_read_only(domain, name, &expect())?;
        let site = Site::new(&region, read_geometry(&region)?)?;
        Ok(Self { region, site })
    }

    /// Joins a workspace for reading by a descriptor that was handed over.
    ///
    /// # Errors
    /// As [`Wksp::attach`](crate::Wksp::attach).
    pub fn from_fd(fd: OwnedFd) -> Result<Self, AttachError> {
        let region = Region::from_fd_read_only(fd, &expect())?;
        let site = Site::new(&region, read_geometry(&region)?)?;
        Ok(Self { region, site })
    }

    /// Bytes of the data region.
    pub fn data_bytes(&self) -> u64 {
        self.site.geometry.data_bytes
    }

    /// The region below.
    pub fn region(&self) -> &Region<ReadOnly> {
        &self.region
    }

    /// What joiner `slot` has counted; `None` as for [`Region::counters`].
    pub fn counters(&self, slot: JoinerSlot) -> Option<Counters> {
        self.region.counters(slot).as_ref().map(Counters::from_block)
    }

    /// The tag of the allocation that holds the byte at `gaddr`; `None` if none did at some moment during the
    /// call. Never waits; looks at every slot, so it costs about 2 ns for each.
    ///
    /// # Errors
    /// [`QueryError::Access`] during a restore in place, or where the header is damaged.
    pub fn tag(&self, gaddr: Gaddr) -> Result<Option<u64>, QueryError> {
        let tables = self.enter()?;
        let mut untagged = false;
        for index in 0..tables.capacity {
            match tables.steady_slot(index).map_err(AccessError::from)? {
                Steady::Used(found) if found.holds(gaddr.get()) => return Ok(Some(found.tag)),
                Steady::Untagged => untagged = true,
                _ => {}
            }
        }
        if untagged {
            // A call is at work on it, or its tag is lost: a picture of one moment tells.
            return match self.partitions() {
                Err(QueryError::Unstable { .. }) => Ok(None),
                Err(other) => Err(other),
                Ok(list) => {
                    let holds =
                        |found: &&Partition| gaddr.get().wrapping_sub(found.gaddr.get()) < found.size_bytes;
                    Ok(list.iter().find(holds).map(|found| found.tag))
                }
            };
        }
        Ok(None)
    }

    /// All allocations in address order, as they were at one moment.
    ///
    /// # Errors
    /// [`QueryError::Unstable`] with the holder of the lock if the tables changed during every look.
    pub fn partitions(&self) -> Result<Vec<Partition>, QueryError> {
        self.list(|_| true)
    }

    /// The allocations whose tag is one of `tags`, in address order, as they were at one moment.
    ///
    /// # Errors
    /// As [`partitions`](Self::partitions).
    pub fn tag_query(&self, tags: &[u64]) -> Result<Vec<Partition>, QueryError> {
        let tags: HashSet<u64> = tags.iter().copied().collect();
        self.list(|tag| tags.contains(&tag))
    }

    fn list(&self, wanted: impl Fn(u64) -> bool) -> Result<Vec<Partition>, QueryError> {
        self.look(TRIES, |tables| {
            let mut found = tables.used_slots()?;
            found.retain(|partition| wanted(partition.tag));
            Ok(found)
        })
    }

    /// How full the workspace was at one moment; `tags` as in [`Wksp::usage`](crate::Wksp::usage).
    ///
    /// # Errors
    /// As [`partitions`](Self::partitions).
    pub fn usage(&self, tags: &[u64]) -> Result<Usage, QueryError> {
        self.usage_within(TRIES, tags)
    }

    /// As `usage`, with at most `tries` looks.
    pub(crate) fn usage_within(&self, tries: u32, tags: &[u64]) -> Result<Usage, QueryError> {
        let tags: HashSet<u64> = tags.iter().copied().collect();
        self.look(tries, |tables| {
            let data_bytes = tables.geometry.data_bytes;
            let slot_count = tables.capacity.into();
            let mut usage = Usage { data_bytes, slot_count, ..Usage::default() };
            let mut at = FIRST_GADDR;
            for partition in tables.used_slots()? {
                let start = partition.gaddr.get();
                if at < start {
                    usage.add_free(start - at);
                }
                usage.add_used(&partition, &tags);
                at = (start + partition.size_bytes).next_multiple_of(crate::layout::GRANULE);
            }
            if at < data_bytes {
                usage.add_free(data_bytes - at);
            }
            Ok(usage)
        })
    }

    /// The `len` bytes at `gaddr`, for copying out. What others write meanwhile may come out old or new.
    ///
    /// # Errors
    /// [`QueryError::OutOfRange`].
    pub fn bytes(&self, gaddr: u64, len: u64) -> Result<SharedBytes<'_>, QueryError> {
        let range = data_range(&self.site.geometry, gaddr, len)?;
        let data_bytes = self.site.geometry.data_bytes;
        self.region.bytes(range).map_err(|_| QueryError::OutOfRange { gaddr, len, data_bytes })
    }

    /// Copies the bytes at `gaddr` out.
    ///
    /// # Errors
    /// [`QueryError::OutOfRange`].
    pub fn read(&self, gaddr: u64, into: &mut [u8]) -> Result<(), QueryError> {
        let (len, data_bytes) = (into.len() as u64, self.site.geometry.data_bytes);
        let bytes = self.bytes(gaddr, len)?;
        bytes.read(0, into).map_err(|_| QueryError::OutOfRange { gaddr, len, data_bytes })
    }

    /// The tables as far as the file reaches now, if the workspace is in use.
    fn enter(&self) -> Result<Tables<'_>, AccessError> {
        self.region.refresh_len()?;
        let mut tables = self.site.tables();
        tables.epoch = tables.head_value(head::EPOCH)?;
        let state = tables.head_value(head::STATE)?;
        if state == State::Replaced as u32 {
            return Err(AccessError::Replaced);
        }
        if state == State::Restoring as u32 {
            // Relaxed: an id for the message, nothing depends on it.
            let low = tables.head.load(head::RESTORE_ID_LOW, Ordering::Relaxed);
            let high = tables.head.load(head::RESTORE_ID_HIGH, Ordering::Relaxed);
            return Err(AccessError::Restoring { id: u128::from(low) | u128::from(high) << 64 });
        }
        Ok(tables)
    }

    /// How often the workspace was reset, if that word is sound.
    pub(crate) fn epoch(&self) -> Option<u32> {
        self.site.tables().head_value(head::EPOCH).ok()
    }

    /// Runs `read` until the change counter was even and the same before and after it, `tries` times at most.
    fn look<T>(&self, tries: u32, read: impl Fn(&Tables<'_>) -> Result<T, Fault>) -> Result<T, QueryError> {
        for attempt in 0..tries {
            let tables = self.enter()?;
            // Acquire: partner is the Release store of `Tables::end`.
            let before = tables.head.load(head::SEQUENCE, Ordering::Acquire);
            if before & 1 == 0 {
                let found = read(&tables);
                // Acquire fence: partner is the Release fence of `Tables::begin`. If `read` saw a word of a
                // later change, the load below sees that change's odd counter or a later one.
                fence(Ordering::Acquire);
                // Relaxed: ordered by the fence.
                if tables.head.load(head::SEQUENCE, Ordering::Relaxed) == before {
                    return Ok(found.map_err(AccessError::from)?);
                }
            }
            if attempt < 8 { spin_loop() } else { yield_now() }
        }
        Err(QueryError::Unstable { tries, holder: self.region.lock_state().holder })
    }
}

/// What one slot held while it was read.
enum Steady {
    Used(Slot),
    /// An allocation without its tag.
    Untagged,
    /// No allocation, or another one by the time it was read.
    Other,
}

impl Tables<'_> {
    /// The allocation in slot `index`, if there is one and it held still while it was read. A slot that holds
    /// still and does not match its check is damaged.
    fn steady_slot(&self, index: u32) -> Result<Steady, Fault> {
        let word = index as usize * crate::layout::SLOT_WORDS;
        // Acquire: partner is the Release store of `Tables::commit`: what was stored before the tag is seen.
        let tag = self.slots.load(word + slot::TAG, Ordering::Acquire);
        if tag == 0 {
            let untagged = self.truth(index).words[slot::EPOCH_KIND] == self.epoch_kind(Kind::Used);
            return Ok(if untagged { Steady::Untagged } else { Steady::Other });
        }
        // Relaxed: compared again below.
        let stamp = self.slots.load(word + slot::STAMP, Ordering::Relaxed);
        let found = self.slot(index, self.slot_at(index, 0));
        // Partner: the Release fences of `Tables::prepare_used` and `Tables::retract`: had `found` a word of a
        // later allocation, the loads below would see another stamp or tag.
        fence(Ordering::Acquire);
        // Relaxed: ordered by the fence.
        let same = self.slots.load(word + slot::TAG, Ordering::Relaxed) == tag
            && self.slots.load(word + slot::STAMP, Ordering::Relaxed) == stamp;
        if !same {
            return Ok(Steady::Other);
        }
        let found = found?;
        let used = found.tag == tag && found.is(Kind::Used) && found.epoch == self.epoch;
        Ok(if used && self.check_range(&found).is_ok() { Steady::Used(found) } else { Steady::Other })
    }

    /// Every allocation in address order. A slot that carries a tag must be sound.
    fn used_slots(&self) -> Result<Vec<Partition>, Fault> {
        let mut found = Vec::new();
        for index in 0..self.capacity {
            // Relaxed: `Reader::look` orders it.
            let tag =
                self.slots.load(index as usize * crate::layout::SLOT_WORDS + slot::TAG, Ordering::Relaxed);
            if tag == 0 {
                if self.truth(index).words[slot::EPOCH_KIND] == self.epoch_kind(Kind::Used) {
                    return Err(self.tag_fault(index));
                }
                continue;
            }
            let slot = self.slot(index, self.slot_at(index, 0))?;
            if slot.is(Kind::Used) && slot.epoch == self.epoch {
                self.check_range(&slot)?;
                found.extend(partition_of(&slot));
            }
        }
        found.sort_unstable_by_key(|partition: &Partition| partition.gaddr);
        Ok(found)
    }
}

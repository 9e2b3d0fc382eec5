//! Who has joined a region for writing, and whether they are still alive.
//!
//! `table` holds the slots, `identity` says who a process is, `proof` holds the kernel's proof of life.
//!
//! # Invariants
//! - A slot is written only by the process that holds the write lock on the slot's byte of the file.
//! - Nobody is called dead without proof; who cannot be judged is [`Liveness::Unknown`] and never robbed.

use core::fmt;

use crate::counters::Block;
use crate::layout::JOINER_MAX;

pub(crate) mod identity;
pub(crate) mod proof;
pub(crate) mod table;

/// Number of a slot in the joiner table, `0..256`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JoinerSlot(u32);

impl JoinerSlot {
    /// The slot with this number; `None` from 256 on.
    pub fn new(index: usize) -> Option<Self> {
        (index < JOINER_MAX).then_some(Self(index as u32))
    }

    /// Its number.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for JoinerSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Whether a joiner is alive, as far as it can be proved from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Liveness {
    /// It is, or was a moment ago.
    Alive,
    /// The kernel has released its proof of life, or the process has ended, or its number belongs to another.
    Dead,
    /// Something holds its proof of life, and nothing else about it can be found out from here: another pid
    /// or time namespace, another boot, a damaged record. Treated as alive.
    Unknown,
}

impl fmt::Display for Liveness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Alive => "alive",
            Self::Dead => "dead",
            Self::Unknown => "perhaps alive",
        })
    }
}

/// What the joiner table says about one slot, and what is true about it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JoinerInfo {
    /// The slot.
    pub slot: JoinerSlot,
    /// Process id, in the joiner's own pid namespace.
    pub pid: u32,
    /// Thread that joined, likewise.
    pub tid: u32,
    /// When the process started, in clock ticks since boot as its time namespace counts; 0 if not known.
    pub start_time: u64,
    /// The kernel's boot id; 0 if not known.
    pub boot_id: u128,
    /// Inode of the pid namespace; 0 if not known.
    pub pid_namespace: u64,
    /// Inode of the time namespace; 0 if not known.
    pub time_namespace: u64,
    /// How many joiners the slot has held, this one included.
    pub generation: u64,
    /// Joins of the region that the process holds.
    pub join_count: u64,
    /// Whether the record's check word is right; if not, the fields above mean nothing.
    pub intact: bool,
    /// Whether the joiner is alive.
    pub liveness: Liveness,
    /// Whether it has left: the slot is free, and this is what its last holder wrote.
    pub has_left: bool,
    /// Its counters; `None` if they never held still while they were read, as after a kill in the middle of
    /// counting.
    pub counters: Option<Block>,
}

//! The joiner table: one slot for each process that has joined for writing.
//!
//! # Invariants
//! - A slot's record is complete before its state says `LIVE`, and its state says `FREE` before any of it
//!   changes: a kill at any instruction leaves a free slot or a whole record.
//! - A slot that the lock word names is not given out, so that nobody inherits the lock by mistake.
//! - Whatever the words hold, every loop here is over 256 slots at most, and nothing panics.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use outlast_probe::probe;
use outlast_probe::sync::{Ordering, crash_fence, fence};

use super::identity::{self, Identity};
use super::{JoinerInfo, JoinerSlot, Liveness, proof};
use crate::counters::{self, Block};
use crate::error::JoinError;
use crate::layout::{
    COUNTER_MAX, FNV_START, JOINER_BYTES, JOINER_MAX, JOINERS_OFFSET, LOCK_WORD, PROOF_BASE, PROOF_READERS,
    fnv_word, joiner,
};
use crate::lock::LockHolder;
use crate::lock::word::LockWord;
use crate::mem::Words;

/// State of a slot that nobody has.
pub(crate) const FREE: u64 = 0;
/// State of a slot whose record is whole. Any other value is damage and treated like this one.
pub(crate) const LIVE: u64 = 1;
/// Access word: reads and writes.
const READ_WRITE: u64 = 1;

/// A slot together with the number that tells its holders apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) slot: JoinerSlot,
    pub(crate) generation: u64,
}

/// The table of a mapped region, seen by one process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'r> {
    /// Page 0 and the slots.
    pub(crate) words: Words<'r>,
    pub(crate) file: BorrowedFd<'r>,
    /// The slot of this very process.
    pub(crate) own: Option<Seat>,
    /// The file description is one that this process inherited from its parent, whose locks look like its own.
    pub(crate) is_inherited: bool,
}

/// What a slot holds, read once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    state: u64,
    generation: u64,
    identity: Identity,
    intact: bool,
}

impl Record {
    /// A whole record in a free slot is what the last holder left there.
    fn has_left(&self) -> bool {
        self.state == FREE && self.intact
    }
}

fn proof_offset(slot: JoinerSlot) -> u64 {
    PROOF_BASE + slot.index() as u64
}

fn check(slot: JoinerSlot, fields: &[u64]) -> u64 {
    fields.iter().fold(fnv_word(FNV_START, slot.index() as u64), |hash, word| fnv_word(hash, *word))
}

/// Every slot there is.
pub(crate) fn slots() -> impl Iterator<Item = JoinerSlot> {
    (0..JOINER_MAX).filter_map(JoinerSlot::new)
}

impl<'r> Table<'r> {
    /// The words of one slot.
    pub(crate) fn slot(&self, slot: JoinerSlot) -> Words<'r> {
        let words = JOINER_BYTES as usize / 8;
        let start = JOINERS_OFFSET as usize / 8 + slot.index() * words;
        self.words.sub(start..start + words)
    }

    /// The lock word. Relaxed: whoever acts on it does so by an exchange of the very value.
    pub(crate) fn lock_word(&self) -> LockWord {
        LockWord(self.words.load(LOCK_WORD, Ordering::Relaxed))
    }

    fn record(&self, slot: JoinerSlot) -> Record {
        let words = self.slot(slot);
        // Acquire: pairs with the Release of LIVE in `write`.
        let state = words.load(joiner::STATE, Ordering::Acquire);
        let load = |index| words.load(index, Ordering::Relaxed);
        let mut fields = [0; joiner::CHECK - joiner::GENERATION];
        for (field, index) in fields.iter_mut().zip(joiner::GENERATION..) {
            *field = load(index);
        }
        let field = |index: usize| fields[index - joiner::GENERATION];
        let (low, high) = (field(joiner::BOOT_ID_LOW), field(joiner::BOOT_ID_HIGH));
        Record {
            state,
            generation: field(joiner::GENERATION),
            identity: Identity {
                pid: field(joiner::PID_TID) as u32,
                tid: (field(joiner::PID_TID) >> 32) as u32,
                start_time: field(joiner::START_TIME),
                boot_id: u128::from(high) << 64 | u128::from(low),
                pid_ns: field(joiner::PID_NS),
                time_ns: field(joiner::TIME_NS),
            },
            // A record that is being written right now fails this too, and is then judged by its lock alone.
            intact: load(joiner::CHECK) == check(slot, &fields),
        }
    }

    fn write(&self, slot: JoinerSlot, generation: u64, identity: &Identity) {
        let words = self.slot(slot);
        // Relaxed: nobody else writes this slot, and nobody believes it before LIVE.
        let store = |index, value| words.store(index, value, Ordering::Relaxed);
        store(joiner::STATE, FREE);
        crash_fence();
        // As in `counters::add`, for record and counters together; whatever the last holder left it at.
        let odd = words.load(joiner::SEQUENCE, Ordering::Relaxed) | 1;
        store(joiner::SEQUENCE, odd);
        // Release: pairs with the Acquire fence of `counters::steady`.
        fence(Ordering::Release);
        crash_fence();
        let fields = [
            generation,
            u64::from(identity.tid) << 32 | u64::from(identity.pid),
            identity.start_time,
            identity.boot_id as u64,
            (identity.boot_id >> 64) as u64,
            identity.pid_ns,
            identity.time_ns,
            READ_WRITE,
        ];
        for (index, field) in (joiner::GENERATION..).zip(fields) {
            store(index, field);
        }
        store(joiner::CHECK, check(slot, &fields));
        (joiner::JOIN_COUNT..joiner::SEQUENCE).for_each(|index| store(index, 0));
        (joiner::COUNTERS..joiner::COUNTERS + COUNTER_MAX).for_each(|index| store(index, 0));
        probe!("shm.join.written", slot.0);
        crash_fence();
        // Release: pairs with the Acquire of `counters::steady`.
        words.store(joiner::SEQUENCE, odd.wrapping_add(1), Ordering::Release);
        crash_fence();
        // Release: pairs with the Acquire in `record`.
        words.store(joiner::STATE, LIVE, Ordering::Release);
        probe!("shm.join.published", slot.0);
    }

    /// Enters this process in the first slot whose byte nobody has locked: it is free, or its holder is gone.
    pub(crate) fn enter(&self, identity: &Identity) -> Result<Seat, JoinError> {
        for slot in slots() {
            if !self.take(slot)? {
                continue;
            }
            probe!("shm.join.claimed", slot.0);
            // Relaxed: the last holder stored it before it let go of the byte's lock.
            let last = self.slot(slot).load(joiner::GENERATION, Ordering::Relaxed);
            let generation = last.wrapping_add(1);
            self.write(slot, generation, identity);
            return Ok(Seat { slot, generation });
        }
        Err(JoinError::TableFull { slots: JOINER_MAX })
    }

    /// Takes the lock on a slot's byte unless somebody has it or the lock word names the slot.
    fn take(&self, slot: JoinerSlot) -> Result<bool, JoinError> {
        let failed = |source: Errno| JoinError::Io { what: "locking a joiner slot", source: source.into() };
        if !proof::hold(self.file, proof_offset(slot)).map_err(failed)? {
            return Ok(false);
        }
        // Looked at under the byte's lock: only a holder of the slot can put it in the lock word.
        if self.lock_word().slot() == Some(slot) {
            proof::release(self.file, proof_offset(slot)).map_err(failed)?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Removes this process, which holds `seat`.
    pub(crate) fn leave(&self, seat: Seat) -> Result<(), Errno> {
        // Release: pairs with the Acquire in `record`; all that this process did comes before.
        self.slot(seat.slot).store(joiner::STATE, FREE, Ordering::Release);
        probe!("shm.leave.freed", seat.slot.0);
        proof::release(self.file, proof_offset(seat.slot))
    }

    /// Whether the holder of a slot is alive, and if so the thread `tid` of it, if given.
    fn judge(&self, slot: JoinerSlot, record: &Record, tid: Option<u32>) -> Liveness {
        if self.is_inherited {
            return Liveness::Unknown;
        }
        if self.own == Some(Seat { slot, generation: record.generation }) {
            let ended = tid.is_some_and(identity::own_thread_has_ended);
            return if ended { Liveness::Dead } else { Liveness::Alive };
        }
        match proof::is_held(self.file, proof_offset(slot)) {
            Ok(false) if self.own.is_none_or(|own| own.slot != slot) => Liveness::Dead,
            Ok(true) if record.intact && record.state == LIVE => record.identity.judge(tid),
            _ => Liveness::Unknown,
        }
    }

    /// Whether the holder that a lock word names is alive; no holder counts as dead.
    pub(crate) fn judge_holder(&self, word: LockWord) -> Liveness {
        let Some(slot) = word.slot() else { return Liveness::Dead };
        let record = self.record(slot);
        if self.own.is_some_and(|own| own.slot == slot) {
            return match self.own.is_some_and(|own| word.is_generation(own.generation)) {
                true if identity::own_thread_has_ended(word.tid()) => Liveness::Dead,
                true => Liveness::Alive,
                // The slot is ours now, so the holder that had it before us has left it.
                false => Liveness::Dead,
            };
        }
        if record.intact && record.state == LIVE && !word.is_generation(record.generation) {
            return Liveness::Dead;
        }
        self.judge(slot, &record, Some(word.tid()))
    }

    /// Who the lock word says holds the lock.
    pub(crate) fn holder(&self, word: LockWord) -> Option<LockHolder> {
        if word.is_free() {
            return None;
        }
        let joiner =
            word.slot().map(|slot| self.info(slot)).filter(|info| word.is_generation(info.generation));
        let liveness = self.judge_holder(word);
        Some(LockHolder { slot: word.slot(), tid: word.tid(), liveness, joiner: joiner.map(Box::new) })
    }

    /// What there is to say about a slot.
    pub(crate) fn info(&self, slot: JoinerSlot) -> JoinerInfo {
        let ((record, counters), is_steady) =
            counters::steady(&self.slot(slot), |block| (self.record(slot), counters::copy(block)));
        let identity = record.identity;
        JoinerInfo {
            slot,
            pid: identity.pid,
            tid: identity.tid,
            start_time: identity.start_time,
            boot_id: identity.boot_id,
            pid_namespace: identity.pid_ns,
            time_namespace: identity.time_ns,
            generation: record.generation,
            // Relaxed: a number for people.
            join_count: self.slot(slot).load(joiner::JOIN_COUNT, Ordering::Relaxed),
            intact: record.intact,
            liveness: self.judge(slot, &record, None),
            has_left: record.has_left(),
            counters: is_steady.then_some(counters),
        }
    }

    /// Every slot that is not free.
    pub(crate) fn infos(&self) -> Vec<JoinerInfo> {
        self.taken().map(|slot| self.info(slot)).collect()
    }

    /// Every slot that somebody holds, or was the last to hold.
    pub(crate) fn roster(&self) -> Vec<JoinerInfo> {
        let known = slots().filter(|slot| {
            let record = self.record(*slot);
            record.state != FREE || record.has_left()
        });
        known.map(|slot| self.info(slot)).collect()
    }

    fn taken(&self) -> impl Iterator<Item = JoinerSlot> {
        // Relaxed: `record` reads the state again.
        slots().filter(|slot| self.slot(*slot).load(joiner::STATE, Ordering::Relaxed) != FREE)
    }

    /// Whether anybody has joined for reading only. What cannot be asked counts as yes.
    pub(crate) fn has_readers(&self) -> bool {
        proof::is_held(self.file, PROOF_READERS).unwrap_or(true)
    }

    /// Whether anybody else may have joined, for reading or writing. What cannot be asked counts as yes.
    pub(crate) fn has_others(&self) -> bool {
        self.has_readers()
            || self
                .taken()
                .filter(|slot| self.own.is_none_or(|own| own.slot != *slot))
                .any(|slot| self.judge(slot, &self.record(slot), None) != Liveness::Dead)
    }

    pub(crate) fn counters(&self, slot: JoinerSlot) -> Option<Block> {
        let (block, is_steady) = counters::steady(&self.slot(slot), counters::copy);
        is_steady.then_some(block)
    }
}

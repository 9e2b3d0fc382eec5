//! The record of a worker in a control region: who it is, how far it is, why it failed.
//!
//! The region is anonymous, has one record, and is handed over by descriptor. Words of the record:
//!
//! | word | what |
//! |---|---|
//! | 0 | state in the low half, which is the futex; generation in the high half |
//! | 1, 2 | process id; start time in clock ticks |
//! | 3, 4 | nonce, low and high |
//! | 5 | heartbeat: how many phases were begun |
//! | 6 | bytes that are ready |
//! | 7, 8 | error code; length of its text in bytes |
//! | 9..41 | text of the error |
//! | 41..49, 49..57 | text of a phase with an odd and an even heartbeat: length in bytes, 56 bytes |
//!
//! # Invariants
//! - The worker is the only writer, until it is dead; everything that a state stands for is stored before it.
//! - A reader copies, then checks; no length is believed.

use std::os::fd::OwnedFd;

use outlast_probe::sync::Ordering;
use outlast_shm::{Region, RegionError, Spec, USER_OFFSET, Words};

use crate::marker::Identity;
use crate::message::{PROTOCOL, cut};

pub(crate) const STATE: usize = 0;
pub(crate) const PID: usize = 1;
pub(crate) const START_TIME: usize = 2;
pub(crate) const NONCE: usize = 3;
pub(crate) const HEARTBEAT: usize = 5;
pub(crate) const BYTES: usize = 6;
pub(crate) const ERROR_CODE: usize = 7;
pub(crate) const ERROR_LEN: usize = 8;
pub(crate) const ERROR_TEXT: core::ops::Range<usize> = 9..41;
pub(crate) const PHASES: [usize; 2] = [49, 41];
pub(crate) const PHASE_WORDS: usize = 8;
pub(crate) const WORDS: usize = 57;

/// Longest name of a phase in bytes.
pub(crate) const PHASE_BYTES_MAX: usize = (PHASE_WORDS - 1) * 8;

/// A worker has, and goes on.
pub(crate) const ATTACHED: u32 = 1;
/// It is ready.
pub(crate) const READY: u32 = 2;
/// It has given up.
pub(crate) const FAILED: u32 = 3;

pub(crate) fn spec() -> Spec {
    Spec::new(u64::from_le_bytes(*b"wrkrslot"), PROTOCOL.into(), USER_OFFSET + 4096)
}

/// One end of a slot.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) region: Region,
    pub(crate) generation: u32,
}

impl Slot {
    /// The slot of a region that was handed over.
    pub(crate) fn join(fd: OwnedFd, generation: u32) -> Result<Self, RegionError> {
        Ok(Self { region: Region::from_fd(fd, &spec().expect())?, generation })
    }

    /// Whether the region is as long as it has to be.
    pub(crate) fn is_whole(&self) -> bool {
        self.region.len_bytes() == spec().len_bytes
    }

    /// The words of a slot that is whole.
    pub(crate) fn words(&self) -> Words<'_> {
        match self.region.words(USER_OFFSET..USER_OFFSET + WORDS as u64 * 8) {
            Ok(words) => words,
            Err(error) => unreachable!("the region has a page for the slot: {error}"),
        }
    }

    pub(crate) fn set(&self, state: u32) {
        let word = u64::from(self.generation) << 32 | u64::from(state);
        // Pairs with the Acquire of `word`: who sees the state sees what it stands for.
        self.words().store(STATE, word, Ordering::Release);
        self.words().wake(STATE);
    }

    /// Says who has attached.
    pub(crate) fn attach(&self, identity: &Identity) {
        let words = self.words();
        // Relaxed: published by `set`.
        words.store(PID, identity.pid.into(), Ordering::Relaxed);
        words.store(START_TIME, identity.start_time, Ordering::Relaxed);
        words.store(NONCE, identity.nonce as u64, Ordering::Relaxed);
        words.store(NONCE + 1, (identity.nonce >> 64) as u64, Ordering::Relaxed);
        self.set(ATTACHED);
    }

    /// Says what the worker does from now on. Wakes nobody.
    pub(crate) fn phase(&self, text: &str) {
        let (words, text) = (self.words(), cut(text, PHASE_BYTES_MAX));
        // Relaxed: nobody else writes it.
        let heartbeat = words.load(HEARTBEAT, Ordering::Relaxed).wrapping_add(1);
        let at = PHASES[(heartbeat % 2) as usize];
        words.store(at, text.len() as u64, Ordering::Relaxed);
        store_text(&words.sub(at + 1..at + PHASE_WORDS), text);
        // Pairs with the Acquire of `read_phase`: the text belongs to the heartbeat.
        words.store(HEARTBEAT, heartbeat, Ordering::Release);
    }

    /// Says that the worker is ready.
    pub(crate) fn ready(&self, bytes: u64) {
        self.words().store(BYTES, bytes, Ordering::Relaxed);
        self.set(READY);
    }

    /// Says that the worker gives up.
    pub(crate) fn failed(&self, code: i32, text: &str) {
        let (words, text) = (self.words(), cut(text, ERROR_TEXT.len() * 8));
        words.store(ERROR_CODE, u64::from(code.cast_unsigned()), Ordering::Relaxed);
        words.store(ERROR_LEN, text.len() as u64, Ordering::Relaxed);
        store_text(&words.sub(ERROR_TEXT), text);
        self.set(FAILED);
    }
}

fn store_text(words: &Words<'_>, text: &str) {
    for (index, chunk) in text.as_bytes().chunks(8).enumerate() {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        words.store(index, u64::from_le_bytes(bytes), Ordering::Relaxed);
    }
}

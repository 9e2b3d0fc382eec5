//! The runner's side of a worker's slot: it makes one and reads what the worker says.
//!
//! # Invariants
//! - A reader copies, then checks; no length is believed.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use outlast_probe::sync::Ordering;
use outlast_shm::{Region, RegionError, Words};

use crate::worker::slot::{
    BYTES, ERROR_CODE, ERROR_LEN, ERROR_TEXT, HEARTBEAT, NONCE, PHASE_WORDS, PHASES, PID, START_TIME, STATE,
    Slot, spec,
};

/// Nobody has attached.
pub(crate) const EMPTY: u32 = 0;
/// Its runner has seen it dead.
pub(crate) const DEAD: u32 = 4;

impl Slot {
    /// A region with an empty slot.
    pub(crate) fn make(generation: u32) -> Result<Self, RegionError> {
        let slot = Self { region: Region::anonymous(&spec())?, generation };
        slot.set(EMPTY);
        Ok(slot)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.region.fd()
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// Generation and state.
    pub(crate) fn word(&self) -> u64 {
        // Pairs with the Release of `set`.
        self.words().load(STATE, Ordering::Acquire)
    }

    /// Sleeps until the state is set, at most `timeout`, unless it is no longer that of `word`.
    pub(crate) fn wait(&self, word: u64, timeout: Duration) -> io::Result<()> {
        self.words().wait(STATE, word, timeout)
    }

    /// Notes for whoever looks later that the worker is dead, and wakes whoever waits.
    pub(crate) fn mark_dead(&self) {
        self.set(DEAD);
    }

    /// Who says that it has attached: process id, start time, nonce.
    pub(crate) fn read_identity(&self) -> (u64, u64, u128) {
        let word = |index| self.words().load(index, Ordering::Relaxed);
        (word(PID), word(START_TIME), u128::from(word(NONCE + 1)) << 64 | u128::from(word(NONCE)))
    }

    /// How many bytes are ready.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.words().load(BYTES, Ordering::Relaxed)
    }

    /// Heartbeat and phase, if one was begun.
    pub(crate) fn read_phase(&self) -> Option<(u64, String)> {
        let words = self.words();
        // Pairs with the Release of `phase`.
        let heartbeat = words.load(HEARTBEAT, Ordering::Acquire);
        let at = PHASES[(heartbeat % 2) as usize];
        let len = words.load(at, Ordering::Relaxed);
        (heartbeat != 0).then(|| (heartbeat, load_text(&words.sub(at + 1..at + PHASE_WORDS), len)))
    }

    /// Why it failed.
    pub(crate) fn read_failure(&self) -> (i32, String) {
        let words = self.words();
        let len = words.load(ERROR_LEN, Ordering::Relaxed);
        let code = words.load(ERROR_CODE, Ordering::Relaxed) as u32;
        (code.cast_signed(), load_text(&words.sub(ERROR_TEXT), len))
    }
}

fn load_text(words: &Words<'_>, len: u64) -> String {
    let bytes: Vec<u8> =
        (0..words.len()).flat_map(|index| words.load(index, Ordering::Relaxed).to_le_bytes()).collect();
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(bytes.len());
    String::from_utf8_lossy(&bytes[..len]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marker::Identity;
    use crate::message::cut;
    use crate::worker::slot::{ATTACHED, PHASE_BYTES_MAX, READY, WORDS};

    fn two_ends() -> (Slot, Slot) {
        let runner = Slot::make(9).unwrap();
        let worker = Slot::join(runner.fd().try_clone_to_owned().unwrap(), 9).unwrap();
        (runner, worker)
    }

    #[test]
    fn what_one_end_says_the_other_reads() {
        let (runner, worker) = two_ends();
        assert_eq!((runner.word(), runner.read_phase()), (9 << 32 | u64::from(EMPTY), None));
        worker.attach(&Identity { pid: 5, start_time: 6, boot_id: 0, nonce: 7 << 64 | 8 });
        assert_eq!(runner.word() as u32, ATTACHED);
        assert_eq!(runner.read_identity(), (5, 6, 7 << 64 | 8));
        for (heartbeat, phase) in ["one", "", &"x".repeat(99)].into_iter().enumerate() {
            worker.phase(phase);
            let expected = (heartbeat as u64 + 1, cut(phase, PHASE_BYTES_MAX).to_owned());
            assert_eq!(runner.read_phase(), Some(expected));
        }
        worker.ready(1 << 40);
        assert_eq!((runner.word() as u32, runner.read_bytes()), (READY, 1 << 40));
        worker.failed(-3, &"é".repeat(200));
        assert_eq!(runner.read_failure(), (-3, "é".repeat(128)));
        runner.mark_dead();
        assert_eq!(worker.word() as u32, DEAD);
    }

    #[test]
    fn hostile_words_are_only_data() {
        let (runner, worker) = two_ends();
        for index in 0..WORDS {
            worker.words().store(index, u64::MAX, Ordering::Relaxed);
        }
        assert_eq!(runner.read_failure(), (-1, "\u{fffd}".repeat(256)));
        assert_eq!(runner.read_phase(), Some((u64::MAX, "\u{fffd}".repeat(56))));
        assert_eq!(runner.read_identity(), (u64::MAX, u64::MAX, u128::MAX));
    }
}

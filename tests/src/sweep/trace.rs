//! What a traced call stored, instruction by instruction.
//!
//! # Invariants
//! - Replaying all changes over the base gives the region as it was when the call had returned.

use super::image::Geography;

/// The stores of one instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// How many instructions the child had run, this one included.
    pub instruction: u64,
    /// Address of the next instruction, relative to the program's first mapping; 0 if unknown.
    pub next_address: u64,
    /// Length of the file after it.
    pub len: usize,
    /// (byte offset, new word) for each word that changed, ascending.
    pub words: Vec<(usize, u64)>,
}

/// One traced call.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The region when the call began.
    pub base: Vec<u8>,
    /// Every change, in order.
    pub changes: Vec<Change>,
    /// Instructions that the child ran.
    pub instruction_count: u64,
    /// Where the parts lie.
    pub geography: Geography,
}

impl Trace {
    /// Begins a replay at the base.
    pub fn replay(&self) -> Replay<'_> {
        Replay { changes: &self.changes, applied: 0, bytes: self.base.clone() }
    }

    /// The image after `count` changes.
    pub fn image(&self, count: usize) -> Vec<u8> {
        let mut replay = self.replay();
        while replay.applied < count && replay.advance() {}
        replay.bytes
    }

    /// The first change that stores `value` anywhere.
    pub fn storing(&self, value: u64) -> Option<usize> {
        self.changes.iter().position(|change| change.words.iter().any(|&(_, stored)| stored == value))
    }

    /// The changes of the word at byte `at`, in order.
    pub fn changes_of(&self, at: usize) -> Vec<usize> {
        let touches = |change: &Change| change.words.iter().any(|&(offset, _)| offset == at);
        (0..self.changes.len()).filter(|&index| touches(&self.changes[index])).collect()
    }

    /// Lets change `from` happen as number `to`: what another order of the same stores would have left.
    pub fn reorder(&mut self, from: usize, to: usize) {
        let change = self.changes.remove(from);
        self.changes.insert(to, change);
    }

    /// The words that the last of `applied` changes stored, for messages.
    pub fn describe(&self, applied: usize) -> String {
        let Some(change) = applied.checked_sub(1).and_then(|index| self.changes.get(index)) else {
            return "before its first store".to_owned();
        };
        let words: Vec<String> = change
            .words
            .iter()
            .map(|&(at, value)| format!("{} = {value:#x}", self.geography.place(at)))
            .collect();
        format!(
            "killed at instruction {} of {} (store {applied} of {}, next instruction at +{:#x}), which stored {}",
            change.instruction,
            self.instruction_count,
            self.changes.len(),
            change.next_address,
            words.join(", "),
        )
    }
}

/// The images of a trace, one after the other.
#[derive(Debug)]
pub struct Replay<'t> {
    changes: &'t [Change],
    applied: usize,
    bytes: Vec<u8>,
}

impl Replay<'_> {
    /// The image.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many changes it has.
    pub fn applied(&self) -> usize {
        self.applied
    }

    /// Goes on to the next image; `false` if this was the last.
    pub fn advance(&mut self) -> bool {
        let Some(change) = self.changes.get(self.applied) else { return false };
        self.bytes.resize(change.len, 0);
        for &(at, value) in &change.words {
            self.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        self.applied += 1;
        true
    }
}

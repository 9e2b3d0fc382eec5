//! One worker: takes random slots, allocates and patterns, checks and frees; a thread, or a process.
//!
//! # Invariants
//! - Whoever finds an object checks all of it, whoever made it: size, alignment, tag, and every byte that is
//!   reserved.

use std::path::PathBuf;

use outlast_groove::{AllocError, Groove, Joiner, ObjRef, RefError, VolumeError};
use outlast_shm::Domain;
use outlast_wksp::RegionName;
use serde::{Deserialize, Serialize};

use super::board::{Board, Entry, Phase, SLOTS, Slot};
use crate::draw::Draw;
use crate::end::{Doing, End, require};
use crate::failed;
use crate::worker::channel::Channel;

/// Bytes that are written or checked at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// Steps from one message to the next, and from one look at the stop word to the next.
const BEAT: u64 = 1 << 10;
/// log2 of the least number of random bits that a size has, plus one for each toss of a coin.
const SIZE_BITS: u32 = 12;

/// What a worker is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Parameters {
    /// Directory of the domain.
    pub domain: PathBuf,
    /// Name of the groove.
    pub groove: String,
    /// Name of the board.
    pub board: String,
    /// Its place among the workers of its time.
    pub lane: usize,
    /// Its number, from 1 on, which no other worker of the run has.
    pub worker: u64,
    /// Seed and iteration.
    pub seed: (u64, u64),
    /// Steps that it makes unless it is stopped.
    pub steps: u64,
    /// Bytes of the largest object.
    pub size_max: u64,
}

/// What it has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Account {
    /// Steps.
    pub steps: u64,
    /// Objects allocated and patterned.
    pub allocs: u64,
    /// Objects freed.
    pub frees: u64,
    /// Objects checked that another worker had made.
    pub by_others: u64,
    /// Bytes written and bytes checked.
    pub bytes_patterned: u64,
    /// Bytes checked.
    pub bytes_checked: u64,
    /// Slots drawn that were locked.
    pub busy: u64,
    /// Times that there was no room.
    pub full: u64,
    /// Volumes added.
    pub grown: u64,
    /// Times that there was no room, and no volume to add.
    pub none_left: u64,
    /// Objects freed twice, the second time in vain.
    pub freed_again: u64,
}

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// It has joined and waits at the gate.
    Joined,
    /// It is alive.
    Beat,
    /// It has made its steps.
    Done(Account),
    /// Something is wrong.
    Wrong(String),
}

/// The role.
///
/// # Errors
/// Why it could not go on.
pub fn main(mut channel: Channel) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let parameters: Parameters = channel.receive().map_err(|error| text(&error))?.ok_or("no parameters")?;
    let domain = Domain::open(&parameters.domain).map_err(|error| text(&error))?;
    let name = |name: &str| name.parse::<RegionName>().map_err(|error| text(&error));
    let groove = Groove::open(&domain, &name(&parameters.groove)?).map_err(|error| text(&error))?;
    let board = Board::open(&domain, &name(&parameters.board)?).map_err(|error| text(&error))?;
    // A scenario that is gone has killed this process.
    let done = work(&groove, &board, &parameters, |message| _ = channel.send(&message));
    let last = done.map_or_else(|end| Message::Wrong(end.to_string()), Message::Done);
    channel.send(&last).map_err(|error| text(&error))
}

/// Makes the steps.
///
/// # Errors
/// [`End::Failed`]: whatever is wrong.
pub fn work(
    groove: &Groove,
    board: &Board,
    parameters: &Parameters,
    mut say: impl FnMut(Message),
) -> Result<Account, End> {
    let joiner = groove.joiner().doing("joining")?;
    let (seed, iteration) = parameters.seed;
    let mut hand = Hand {
        groove,
        board,
        joiner,
        worker: parameters.worker,
        size_max: parameters.size_max.min(groove.object_bytes_max()),
        draw: Draw::new(seed, iteration, parameters.worker),
        account: Account::default(),
        must_free: false,
        buffer: vec![0; CHUNK_BYTES],
    };
    say(Message::Joined);
    board.pass_gate();
    while hand.account.steps < parameters.steps {
        if hand.account.steps.is_multiple_of(BEAT) {
            if board.is_stopped() {
                break;
            }
            say(Message::Beat);
        }
        let step = hand.account.steps;
        hand.step().map_err(|end| failed!("worker {}, step {step}: {end}", parameters.worker))?;
        hand.account.steps += 1;
        board.set_steps(parameters.lane, hand.account.steps);
    }
    Ok(hand.account)
}

/// Everything that a worker has.
#[derive(Debug)]
pub struct Hand<'a> {
    groove: &'a Groove,
    board: &'a Board,
    joiner: Joiner,
    worker: u64,
    size_max: u64,
    draw: Draw,
    account: Account,
    /// There was no room, and no volume to add: what is found next is freed.
    must_free: bool,
    buffer: Vec<u8>,
}

impl<'a> Hand<'a> {
    /// Of a scenario that checks and frees what is left.
    ///
    /// # Errors
    /// [`End::Failed`] if it cannot join.
    pub fn of_scenario(groove: &'a Groove, board: &'a Board) -> Result<Self, End> {
        let joiner = groove.joiner().doing("joining")?;
        let (draw, account, buffer) = (Draw::new(0, 0, 0), Account::default(), vec![0; CHUNK_BYTES]);
        Ok(Self { groove, board, joiner, worker: 0, size_max: 0, draw, account, must_free: false, buffer })
    }

    /// The joiner.
    pub fn joiner(&self) -> &Joiner {
        &self.joiner
    }

    /// What it has done.
    pub fn account(&self) -> &Account {
        &self.account
    }

    fn step(&mut self) -> Result<(), End> {
        let slot = loop {
            let which = self.draw.index(SLOTS);
            if let Some(slot) = self.board.try_lock(which, self.worker) {
                break slot;
            }
            self.account.busy += 1;
        };
        match slot.phase() {
            Ok(Phase::Empty) => self.fill(&slot)?,
            Ok(Phase::Full) => {
                let entry = slot.entry();
                self.check(&entry)?;
                if self.draw.once_in(2) || self.must_free {
                    slot.set_phase(Phase::Freeing);
                    self.free(entry.reference)?;
                    slot.set_phase(Phase::Empty);
                    self.must_free = false;
                }
            }
            other => return Err(failed!("a slot that nobody has is {other:?}")),
        }
        slot.unlock();
        Ok(())
    }

    /// Allocates an object into a slot and patterns it; where there is no room, adds a volume and tries again.
    fn fill(&mut self, slot: &Slot<'_>) -> Result<(), End> {
        let mut entry = self.drawn();
        slot.set(&entry, Phase::Allocating);
        loop {
            let available = self.board.available();
            match self.joiner.alloc(entry.size_bytes, entry.align, entry.tag) {
                Ok(reference) => {
                    entry.reference = reference;
                    break;
                }
                Err(AllocError::Full { .. }) => {
                    self.account.full += 1;
                    if !self.grow()? && available == self.board.available() {
                        self.account.none_left += 1;
                        self.must_free = true;
                        slot.set_phase(Phase::Empty);
                        return Ok(());
                    }
                }
                Err(error) => return Err(failed!("allocating {entry:?}: {error}")),
            }
        }
        slot.set(&entry, Phase::Filling);
        self.account.allocs += 1;
        self.pattern(&entry)?;
        slot.set_phase(Phase::Full);
        Ok(())
    }

    /// log2 of the alignment uniform in 0 to 9, or the default; a size with 12 random bits and one more for each
    /// toss of a coin up to the first tail.
    fn drawn(&mut self) -> Entry {
        let align = match self.draw.below(11) {
            10 => 0,
            log2 => 1 << log2,
        };
        let tosses = 1 + self.draw.word().trailing_zeros();
        let bits = (SIZE_BITS + tosses).min(63);
        let size_bytes = (self.draw.word() & ((1 << bits) - 1)).min(self.size_max);
        let tag = self.draw.word();
        Entry { reference: ObjRef::NULL, align, size_bytes, tag, worker: self.worker }
    }

    /// Whether it is worth while to try again: a volume was added, or another worker is adding one.
    fn grow(&mut self) -> Result<bool, End> {
        let random = self.draw.word();
        let add = |number: u64| match self.groove.add_volume(&number.to_le_bytes()) {
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        match self.board.grow(random, add) {
            Some(Ok(true)) => {
                self.account.grown += 1;
                Ok(true)
            }
            Some(Ok(false)) => Ok(false),
            Some(Err(error)) => Err::<bool, VolumeError>(error).doing("adding a volume"),
            None => {
                // Another worker is adding one.
                std::thread::yield_now();
                Ok(self.board.available() != 0)
            }
        }
    }

    /// Frees an object; one in sixteen twice.
    ///
    /// # Errors
    /// [`End::Failed`].
    pub fn free(&mut self, reference: ObjRef) -> Result<(), End> {
        self.joiner.free(reference).doing("freeing")?;
        self.account.frees += 1;
        if self.draw.once_in(16) {
            self.account.freed_again += 1;
            // Its block may be another worker's object by now.
            match self.joiner.free(reference) {
                Err(RefError::AlreadyFreed { .. } | RefError::Stale { .. }) => {}
                other => return Err(failed!("a second free of {reference} gave {other:?}")),
            }
        }
        Ok(())
    }

    /// Writes the pattern of an object to all that is reserved for it.
    fn pattern(&mut self, entry: &Entry) -> Result<(), End> {
        let reserved = self.sound(entry)?;
        let word = pattern_of(entry).to_le_bytes();
        let len = self.buffer.len().min(reserved as usize);
        self.buffer[..len].chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&word));
        for start in (0..reserved).step_by(CHUNK_BYTES) {
            let part = (reserved - start).min(CHUNK_BYTES as u64) as usize;
            let written = self.joiner.write_reserved(entry.reference, start, &self.buffer[..part]);
            written.doing("writing a pattern")?;
        }
        self.account.bytes_patterned += reserved;
        Ok(())
    }

    /// Checks an object and all of its bytes.
    ///
    /// # Errors
    /// [`End::Failed`]: what is wrong.
    pub fn check(&mut self, entry: &Entry) -> Result<(), End> {
        let reserved = self.sound(entry)?;
        let word = pattern_of(entry);
        for start in (0..reserved).step_by(CHUNK_BYTES) {
            let part = &mut self.buffer[..(reserved - start).min(CHUNK_BYTES as u64) as usize];
            self.joiner.read_reserved(entry.reference, start, part).doing("reading a pattern")?;
            let wrong =
                part.as_chunks().0.iter().fold(0, |wrong, found| wrong | (u64::from_le_bytes(*found) ^ word));
            require(wrong == 0, || format!("bytes of {entry:?} from {start} on are not its own"))?;
        }
        self.account.bytes_checked += reserved;
        self.account.by_others += u64::from(entry.worker != self.worker);
        Ok(())
    }

    /// Checks what is known of an object; how many bytes are reserved for it.
    fn sound(&self, entry: &Entry) -> Result<u64, End> {
        let info = self.joiner.info(entry.reference).doing(format!("asking for {entry:?}"))?;
        let align = if entry.align == 0 { 16 } else { entry.align };
        let right = (info.size_bytes, info.align, info.tag) == (entry.size_bytes, align, entry.tag)
            && info.start.is_multiple_of(align)
            && info.start + info.size_bytes <= info.stop
            && info.start < info.stop;
        require(right, || format!("{info:?} is not what was asked for: {entry:?}"))?;
        Ok(info.stop - info.start)
    }
}

/// The word that an object's bytes repeat: its worker and the low half of its tag, mixed.
fn pattern_of(entry: &Entry) -> u64 {
    let word = entry.worker << 32 | entry.tag & 0xffff_ffff;
    twox_hash::XxHash3_128::oneshot(&word.to_le_bytes()) as u64
}

//! What the workers share beside the groove: a start gate, the volumes that may be added, and slots, each with a
//! lock that is only ever tried.
//!
//! # Invariants
//! - What a slot says of its object is changed by the holder of its lock alone, in an order that tells, whenever the
//!   holder is killed, what there may be: the phase is the last to be stored.
//! - A slot has cache lines of its own.

use core::hint::spin_loop;

use outlast_groove::ObjRef;
use outlast_probe::sync::{Ordering, crash_fence};
use outlast_shm::{Domain, Draft, Region, RegionError, Span, Spec, USER_OFFSET, Words};
use outlast_wksp::RegionName;

/// Slots.
pub const SLOTS: usize = 8192;
/// Words of a slot: two cache lines, since the next one is fetched along.
const SLOT_WORDS: usize = 16;
/// The words before the slots, a cache line each.
const GATE: usize = 0;
const STOP: usize = 8;
const AVAILABLE: usize = 16;
const GROWING: usize = 24;
const STEPS: usize = 32;
/// Workers at a time whose steps are counted.
const WORKERS: usize = 64;
const FIRST_SLOT: usize = STEPS + 8 * WORKERS;
/// What the region holds: the bytes `OLboard\n`.
const SPEC: Spec = Spec::new(
    u64::from_le_bytes(*b"OLboard\n"),
    1,
    (USER_OFFSET + 8 * (FIRST_SLOT + SLOT_WORDS * SLOTS) as u64).next_multiple_of(4096),
);

const LOCK: usize = 0;
const PHASE: usize = 1;
const REFERENCE: usize = 2;
const ALIGN: usize = 3;
const SIZE: usize = 4;
const TAG: usize = 5;
const WORKER: usize = 6;

/// What there may be in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing.
    Empty,
    /// Nothing, or an object with the slot's tag.
    Allocating,
    /// An object whose bytes are not written yet.
    Filling,
    /// An object and its bytes.
    Full,
    /// An object, or no more.
    Freeing,
}

impl Phase {
    const ALL: [Self; 5] = [Self::Empty, Self::Allocating, Self::Filling, Self::Full, Self::Freeing];
}

/// What a slot says of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The object.
    pub reference: ObjRef,
    /// Its alignment as it was asked for.
    pub align: u64,
    /// Bytes that were asked for.
    pub size_bytes: u64,
    /// Its tag.
    pub tag: u64,
    /// The worker that has filled it.
    pub worker: u64,
}

/// The shared words.
#[derive(Debug)]
pub struct Board {
    span: Span,
    _region: Region,
}

impl Board {
    /// A new one, with `available` volumes that may be added.
    ///
    /// # Errors
    /// Those of the region.
    pub fn create(domain: &Domain, name: &RegionName, available: u64) -> Result<Self, RegionError> {
        let draft = Draft::new(domain, name, &SPEC)?;
        let board = Self::of(draft.publish()?)?;
        let volumes = u64::MAX.checked_shr(64 - available as u32).unwrap_or(0);
        // Release, as every store here: partner is the Acquire of who looks.
        board.words().store(AVAILABLE, volumes, Ordering::Release);
        Ok(board)
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

    fn words(&self) -> Words<'_> {
        self.span.words()
    }

    fn load(&self, at: usize) -> u64 {
        self.words().load(at, Ordering::Acquire)
    }

    fn store(&self, at: usize, value: u64) {
        crash_fence();
        self.words().store(at, value, Ordering::Release);
        crash_fence();
    }

    /// Lets the workers begin.
    pub fn open_gate(&self) {
        self.store(GATE, 1);
    }

    /// Waits for the gate, however long it takes: the scenario opens it, or ends and its workers with it.
    pub fn pass_gate(&self) {
        while self.load(GATE) == 0 && !self.is_stopped() {
            std::thread::yield_now();
            spin_loop();
        }
    }

    /// Makes the workers end after their step.
    pub fn stop(&self) {
        self.store(STOP, 1);
    }

    /// Whether they shall.
    pub fn is_stopped(&self) -> bool {
        self.load(STOP) != 0
    }

    /// Says how many steps the worker on `lane` has made.
    pub fn set_steps(&self, lane: usize, steps: u64) {
        self.store(STEPS + 8 * (lane % WORKERS), steps);
    }

    /// How many that were.
    pub fn steps(&self, lane: usize) -> u64 {
        self.load(STEPS + 8 * (lane % WORKERS))
    }

    /// Under a lock that is only tried: `add` is given a volume that was available, one at random, until it is none.
    /// `None` if somebody else is at it.
    pub fn grow<E>(&self, random: u64, add: impl FnOnce(u64) -> Result<(), E>) -> Option<Result<bool, E>> {
        let words = self.words();
        // Acquire: partner is the Release below.
        words.compare_exchange(GROWING, 0, 1, Ordering::Acquire, Ordering::Relaxed).ok()?;
        let available = self.load(AVAILABLE);
        let turn = (random % 64) as u32;
        let grown = if available == 0 {
            Ok(false)
        } else {
            let volume = (available.rotate_right(turn).trailing_zeros() + turn) % 64;
            // Afterwards: who finds none left has all of them to allocate in.
            add(volume.into()).map(|()| {
                self.store(AVAILABLE, available & !(1 << volume));
                true
            })
        };
        self.store(GROWING, 0);
        Some(grown)
    }

    /// The volumes that are left to be added, a bit for each.
    pub fn available(&self) -> u64 {
        self.load(AVAILABLE)
    }

    /// Tries the lock of a slot for a worker, whose number is not 0.
    pub fn try_lock(&self, slot: usize, worker: u64) -> Option<Slot<'_>> {
        let at = FIRST_SLOT + SLOT_WORDS * slot;
        // Relaxed: the exchange decides. Acquire: partner is the Release of `Slot::unlock`.
        (self.words().load(at + LOCK, Ordering::Relaxed) == 0).then_some(())?;
        let locked =
            self.words().compare_exchange(at + LOCK, 0, worker, Ordering::Acquire, Ordering::Relaxed);
        locked.ok().map(|_| Slot { board: self, at })
    }

    /// The slots whose locks a worker has that is dead.
    pub fn locked_by(&self, worker: u64) -> impl Iterator<Item = Slot<'_>> {
        let slots = (0..SLOTS).map(|slot| FIRST_SLOT + SLOT_WORDS * slot);
        slots.filter(move |at| self.load(at + LOCK) == worker).map(|at| Slot { board: self, at })
    }
}

/// A slot that is locked.
#[derive(Debug)]
pub struct Slot<'b> {
    board: &'b Board,
    at: usize,
}

impl Slot<'_> {
    /// Its phase, or the word that is none.
    pub fn phase(&self) -> Result<Phase, u64> {
        let word = self.board.load(self.at + PHASE);
        Phase::ALL.get(word as usize).copied().ok_or(word)
    }

    /// What it says of its object.
    pub fn entry(&self) -> Entry {
        let load = |word| self.board.load(self.at + word);
        Entry {
            reference: ObjRef::from_bits(load(REFERENCE)),
            align: load(ALIGN),
            size_bytes: load(SIZE),
            tag: load(TAG),
            worker: load(WORKER),
        }
    }

    /// Says another thing of it, then the phase.
    pub fn set(&self, entry: &Entry, phase: Phase) {
        let store = |word, value| self.board.store(self.at + word, value);
        store(REFERENCE, entry.reference.to_bits());
        store(ALIGN, entry.align);
        store(SIZE, entry.size_bytes);
        store(TAG, entry.tag);
        store(WORKER, entry.worker);
        self.set_phase(phase);
    }

    /// Stores the phase.
    pub fn set_phase(&self, phase: Phase) {
        self.board.store(self.at + PHASE, phase as u64);
    }

    /// Gives the lock back.
    pub fn unlock(self) {
        self.board.store(self.at + LOCK, 0);
    }
}

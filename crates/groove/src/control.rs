//! The control region: which volumes there are, and which threads use them.
//!
//! # Invariants
//! - The table of volumes is changed by the holder of the region's lock only, and each change is committed by one
//!   store, of an entry's state; the epoch goes up after it. So whoever dies with the lock leaves nothing to mend.
//! - A seat belongs to one thread's joiner until that gives it back, or it is freed for it.

use outlast_probe::sync::{Ordering, crash_fence};
use outlast_shm::{
    Domain, Draft, JoinerInfo, LockGuard, Region, RegionError, RegionName, Span, Spec, USER_OFFSET, Words,
};

use crate::error::{AccessError, Fault, FaultKind};
use crate::layout::{
    CONTROL_KIND, CONTROL_REGION_BYTES, Geometry, SEAT_MAX, VOLUME_MAX, check_of, control, entry, entry_at,
    expect, seat, seat_at,
};
use crate::word::Claim;

/// State of an entry without a volume.
pub(crate) const VACANT: u64 = 0;
/// State of an entry whose volume is in use.
pub(crate) const IN_USE: u64 = 1;
/// State of an entry whose volume gives no more slots.
pub(crate) const DRAINING: u64 = 2;
/// Set in the owner word of a seat that is taken.
const SEAT_TAKEN: u64 = 1 << 63;
/// The part of it that stays when the seat is given back: how often it was taken.
const SEQUENCE: u64 = 0xffff_ffff;

/// Who has a seat: a slot of the joiner table, the low 16 bits of that slot's generation, and how often the
/// seat was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner(u64);

impl Owner {
    fn new(joiner: &JoinerInfo, sequence: u64) -> Self {
        let generation = (joiner.generation & 0xffff) << 32;
        Self(SEAT_TAKEN | (joiner.slot.index() as u64) << 48 | generation | sequence & SEQUENCE)
    }

    pub(crate) fn slot(self) -> usize {
        (self.0 >> 48) as usize & 0xff
    }

    pub(crate) fn sequence(self) -> u32 {
        self.0 as u32
    }

    /// Whether it is this joiner, and not another that has had the same slot.
    pub(crate) fn is_of(self, joiner: &JoinerInfo) -> bool {
        Self::new(joiner, self.0) == self
    }
}
/// How long a change of the table of volumes waits for another.
const LOCK_TIMEOUT: core::time::Duration = core::time::Duration::from_secs(30);

/// An entry of the table of volumes, read once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) state: u64,
    pub(crate) region: u128,
    pub(crate) base: u32,
}

/// The control region in this process.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) region: Region,
    span: Span,
    /// What all volumes of the groove carry.
    pub(crate) id: u128,
    pub(crate) geometry: Geometry,
}

impl Control {
    /// Makes one; with `replace`, in place of one that is there.
    pub(crate) fn create(
        domain: &Domain,
        name: &RegionName,
        geometry: Geometry,
        id: Option<u128>,
        entries: &[(usize, Entry)],
    ) -> Result<Self, AccessError> {
        let expect = expect(CONTROL_KIND);
        let spec = Spec::new(expect.kind, expect.fingerprint, CONTROL_REGION_BYTES);
        let draft = Draft::new(domain, name, &spec)?;
        let groove = id.unwrap_or_else(|| draft.region().id());
        let span = draft.region().span(USER_OFFSET..CONTROL_REGION_BYTES).map_err(RegionError::from)?;
        let words = span.words();
        // Relaxed, all of this: nobody else sees the region before it is published.
        let store = |index: usize, value: u64| words.store(index, value, Ordering::Relaxed);
        let fields = [geometry.blocks_log2, groove as u64, (groove >> 64) as u64];
        fields.iter().enumerate().for_each(|(index, field)| store(index, *field));
        store(control::CHECK, check_of(&fields));
        for (index, entry) in entries {
            store_entry(&words, *index, *entry);
        }
        let region = if id.is_some() { draft.publish_replacing()? } else { draft.publish()? };
        Self::of(region)
    }

    /// Joins one.
    pub(crate) fn open(domain: &Domain, name: &RegionName) -> Result<Self, AccessError> {
        Self::of(Region::open(domain, name, &expect(CONTROL_KIND))?)
    }

    fn of(region: Region) -> Result<Self, AccessError> {
        let span = region.span(USER_OFFSET..CONTROL_REGION_BYTES).map_err(RegionError::from)?;
        let mut fields = [0; 3];
        for (index, field) in fields.iter_mut().enumerate() {
            *field = span.words().load(index, Ordering::Relaxed); // Relaxed: static.
        }
        let (expected, found) = (check_of(&fields), span.words().load(control::CHECK, Ordering::Relaxed));
        let fault = |what| Fault { what, volume: 0, at: USER_OFFSET, expected, found };
        if expected != found {
            return Err(fault(FaultKind::Header).into());
        }
        let geometry = Geometry::new(fields[0]).ok_or_else(|| fault(FaultKind::Identity))?;
        let id = u128::from(fields[2]) << 64 | u128::from(fields[1]);
        Ok(Self { region, span, id, geometry })
    }

    #[inline]
    pub(crate) fn words(&self) -> Words<'_> {
        self.span.words()
    }

    /// Counts the changes of the table of volumes.
    #[inline]
    pub(crate) fn epoch(&self) -> u64 {
        // Acquire: partner is the Release of `commit`.
        self.words().load(control::EPOCH, Ordering::Acquire)
    }

    /// Takes the lock that changes of the table of volumes are made under.
    pub(crate) fn lock(&self) -> Result<LockGuard<'_>, AccessError> {
        let mut guard = self.region.lock(LOCK_TIMEOUT)?;
        if guard.needs_recovery() {
            // Each change is one store: there is nothing to mend, but others may not have been told of it.
            self.raise_epoch();
            guard.mark_recovered();
        }
        Ok(guard)
    }

    /// Reads an entry.
    pub(crate) fn entry(&self, index: usize) -> Entry {
        let words = self.words();
        let load = |word, order| words.load(entry_at(index) + word, order);
        // Acquire: partner is the Release of `store_entry`.
        let state = load(entry::STATE, Ordering::Acquire);
        let (low, high) =
            (load(entry::REGION_LOW, Ordering::Relaxed), load(entry::REGION_HIGH, Ordering::Relaxed));
        Entry {
            state,
            region: u128::from(high) << 64 | u128::from(low),
            base: load(entry::BASE, Ordering::Relaxed) as u32,
        }
    }

    /// The generation up to which no reference into the volumes of this index is one any more, if there is none now.
    pub(crate) fn base_of(&self, index: usize) -> u32 {
        let entry = (index < VOLUME_MAX).then(|| self.entry(index));
        entry.filter(|entry| entry.state == VACANT).map_or(0, |entry| entry.base)
    }

    /// Changes an entry; the holder of the lock only.
    pub(crate) fn commit(&self, index: usize, entry: Entry) {
        let words = self.words();
        store_entry(&words, index, entry);
        outlast_probe::probe!("groove.volumes.committed", index as u64);
        crash_fence();
        self.raise_epoch();
    }

    /// Tells everybody to read the table of volumes again.
    pub(crate) fn raise_epoch(&self) {
        // Release: partner is the Acquire of `epoch`.
        self.words().fetch_add(control::EPOCH, 1, Ordering::Release);
    }

    /// This process among those of the joiner table.
    pub(crate) fn identity_in<'i>(&self, joiners: &'i [JoinerInfo]) -> Result<&'i JoinerInfo, AccessError> {
        let slot = self.region.slot().map_err(RegionError::from)?;
        joiners.iter().find(|info| info.slot == slot).ok_or(AccessError::NoPlace { slot: slot.index() })
    }

    /// Takes a seat for a thread of this process.
    pub(crate) fn take_seat(&self) -> Result<Claim, AccessError> {
        let joiners = self.region.joiners();
        let joiner = self.identity_in(&joiners)?;
        let words = self.words();
        for seat in 0..SEAT_MAX {
            let at = seat_at(seat) + seat::OWNER;
            // Relaxed: acted upon only by an exchange of the very value.
            let before = words.load(at, Ordering::Relaxed);
            if before & SEAT_TAKEN != 0 {
                continue;
            }
            let owner = Owner::new(joiner, before.wrapping_add(1));
            // Acquire: partner is the Release of `leave_seat`.
            if words.compare_exchange(at, before, owner.0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                outlast_probe::probe!("groove.join.seated", seat as u64);
                return Ok(Claim::new(seat as u32, owner.sequence(), 0));
            }
        }
        Err(AccessError::Seats { max: SEAT_MAX })
    }

    /// Who has a seat, if anybody.
    pub(crate) fn seat_owner(&self, seat: u32) -> Option<Owner> {
        // Acquire: partner is the Release of `take_seat`.
        let owner = self.words().load(seat_at(seat as usize) + seat::OWNER, Ordering::Acquire);
        (owner & SEAT_TAKEN != 0).then_some(Owner(owner))
    }

    /// Takes a seat from the dead owner that was seen, for this process, which then gives it back.
    pub(crate) fn take_over_seat(&self, seat: u32, dead: Owner, joiner: &JoinerInfo) -> Option<Owner> {
        let owner = Owner::new(joiner, dead.0);
        let at = seat_at(seat as usize) + seat::OWNER;
        // AcqRel: one adopter, which sees what another left that died.
        let taken = self.words().compare_exchange(at, dead.0, owner.0, Ordering::AcqRel, Ordering::Relaxed);
        taken.is_ok().then_some(owner)
    }

    /// What the seat's owner announced last.
    pub(crate) fn intent_word(&self, claim: Claim) -> u64 {
        // Relaxed: ordered by the exchange of the owner.
        self.words().load(seat_at(claim.seat() as usize) + seat::INTENT, Ordering::Relaxed)
    }

    /// Whether a seat is of this process: its forked children have copies of what uses it.
    pub(crate) fn is_seated(&self, claim: Claim) -> bool {
        let owner = self.seat_owner(claim.seat());
        self.region.slot().is_ok_and(|slot| owner.is_some_and(|owner| owner.slot() == slot.index()))
    }

    /// Gives a seat back.
    pub(crate) fn leave_seat(&self, claim: Claim) {
        let at = seat_at(claim.seat() as usize) + seat::OWNER;
        // Release: partner is the Acquire of `take_seat`.
        self.words().fetch_and(at, SEQUENCE, Ordering::Release);
    }

    /// Says which descriptor the seat's owner is about to claim.
    #[inline]
    pub(crate) fn announce(&self, claim: Claim, volume: usize, descriptor_at: usize) {
        let at = seat_at(claim.seat() as usize) + seat::INTENT;
        // What was held before has been let go: the compiler must not put this store before that one.
        crash_fence();
        // Relaxed: read by others only when the owner is dead.
        self.words().store(at, (volume as u64 + 1) << 32 | descriptor_at as u64, Ordering::Relaxed);
    }
}

fn store_entry(words: &Words<'_>, index: usize, entry: Entry) {
    // Relaxed: ordered by the state.
    let store = |word, value| words.store(entry_at(index) + word, value, Ordering::Relaxed);
    store(entry::BASE, entry.base.into());
    // A vacant entry keeps the words of its last volume: it must not have others while its state still names one.
    if entry.state != VACANT {
        store(entry::REGION_LOW, entry.region as u64);
        store(entry::REGION_HIGH, (entry.region >> 64) as u64);
    }
    crash_fence();
    // Release: partner is the Acquire of `Control::entry`.
    words.store(entry_at(index) + entry::STATE, entry.state, Ordering::Release);
}

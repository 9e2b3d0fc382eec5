//! The handle: making, joining, leaving and deleting a workspace, and the way in and out of its lock.
//!
//! # Invariants
//! - Tables are read and changed only through an [`Entry`], which holds the lock.
//! - An entry begins by finishing what a dead or faulted holder left: whoever finds the change counter odd
//!   rebuilds the index before anything else.

use core::ops::Range;
use core::time::Duration;
use std::os::fd::{BorrowedFd, OwnedFd};

use outlast_probe::probe;
use outlast_probe::sync::{Ordering, crash_fence};
use outlast_shm::{
    Access, Domain, Draft, JoinerInfo, JoinerSlot, LockGuard, PageSize, Region, RegionError, RegionName,
    SharedBytes, Span, Spec,
};

use crate::counter::{Counter, Counters};
use crate::error::{AccessError, AttachError, CreateError, Fault, FaultKind, QueryError};
use crate::layout::{Geometry, HEAD_BYTES, SLOT_WORDS, expect, head};
use crate::seal::slot_check;
use crate::tables::Tables;

/// How a workspace is made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreateOptions {
    /// Bytes that allocations share, rounded up to pages; 1 byte to 32 TiB. Default 64 MiB.
    ///
    /// The region is a little larger: about 70 KiB, and 0.6 % of this for the tables.
    pub size_bytes: u64,
    /// Slots (64 bytes each; one for every allocation and every hole) that are reserved at once. Default one
    /// for every 16 KiB. The table grows by itself when it is full, as far as there can be granules.
    pub slots: Option<u64>,
    /// Permission bits of the region's file, exact whatever the umask. Default 0600.
    pub mode: u32,
    /// Page size. Only [`PageSize::Normal`] so far; others are a typed `Unsupported`.
    pub page_size: PageSize,
    /// A cpu whose memory the pages should come from. Not supported so far: a typed `Unsupported`.
    pub near_cpu: Option<u32>,
    /// Seed of the index. Default 0.
    pub seed: u32,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            size_bytes: 64 << 20,
            slots: None,
            mode: 0o600,
            page_size: PageSize::Normal,
            near_cpu: None,
            seed: 0,
        }
    }
}

impl CreateOptions {
    /// Options for `size_bytes` bytes, the rest as by default.
    pub fn with_size(size_bytes: u64) -> Self {
        Self { size_bytes, ..Self::default() }
    }

    /// Bytes of region that a workspace made with these options reserves at once, or `None` if its size is
    /// out of range.
    pub fn region_bytes(&self) -> Option<u64> {
        Geometry::new(self.size_bytes, self.slots).map(|geometry| geometry.len_min())
    }
}

/// What the header says of the workspace as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Normal = 1,
    Restoring = 2,
    Replaced = 3,
}

/// The kind that the region of every workspace carries, as [`RegionInfo`](outlast_shm::RegionInfo) shows it.
pub const REGION_KIND: u64 = crate::layout::KIND;

/// A workspace that this process has joined for reading and writing.
///
/// Any number of threads may use one handle. Cloning it is another join of the same mapping. Dropping the last
/// one leaves the region; nothing that was allocated is freed by that.
#[derive(Debug, Clone)]
pub struct Wksp {
    pub(crate) region: Region,
    pub(crate) site: Site,
    pub(crate) domain: Option<Domain>,
    pub(crate) lock_timeout: Duration,
}

/// How long a call waits for the lock before it says who holds it, unless set otherwise.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

impl Wksp {
    /// Makes the workspace `name` and joins it. It appears under its name whole or not at all.
    ///
    /// Reserves all of its memory at once: about 0.3 s for 1 GiB of fresh tmpfs.
    ///
    /// # Errors
    /// [`CreateError::Size`]; a region error where the name is taken, the memory is not there (what is needed
    /// and what there is), or the page size or placement is not supported. Nothing is left behind.
    pub fn create(domain: &Domain, name: &RegionName, options: &CreateOptions) -> Result<Self, CreateError> {
        let draft = Self::draft(domain, name, options)?;
        Ok(Self::of(draft.publish()?, Self::geometry(options)?, Some(domain.clone()))?)
    }

    /// A workspace that is set up but has no name yet.
    pub(crate) fn draft(
        domain: &Domain,
        name: &RegionName,
        options: &CreateOptions,
    ) -> Result<Draft, CreateError> {
        let geometry = Self::geometry(options)?;
        let draft = Draft::new(domain, name, &Self::spec(&geometry, options))?;
        Self::format(draft.region(), &geometry, options.seed)?;
        Ok(draft)
    }

    /// Makes a workspace without a name. Another process joins it by its descriptor:
    /// [`as_fd`](Self::as_fd), then [`from_fd`](Self::from_fd) there. It ends with the last descriptor and join.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn anonymous(options: &CreateOptions) -> Result<Self, CreateError> {
        let geometry = Self::geometry(options)?;
        let region = Region::anonymous(&Self::spec(&geometry, options))?;
        Self::format(&region, &geometry, options.seed)?;
        Ok(Self::of(region, geometry, None)?)
    }

    /// Joins the workspace `name` for reading and writing.
    ///
    /// # Errors
    /// A region error if there is none, or if it is not ours: another kind of file, owner, version, layout or
    /// size; [`AttachError::Corrupt`] if its geometry is damaged.
    pub fn attach(domain: &Domain, name: &RegionName) -> Result<Self, AttachError> {
        let region = Region::open(domain, name, &expect())?;
        let geometry = read_geometry(&region)?;
        Ok(Self::of(region, geometry, Some(domain.clone()))?)
    }

    /// Joins a workspace by a descriptor that was handed over.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    pub fn from_fd(fd: OwnedFd) -> Result<Self, AttachError> {
        let region = Region::from_fd(fd, &expect())?;
        let geometry = read_geometry(&region)?;
        Ok(Self::of(region, geometry, None)?)
    }

    /// A handle of a region whose workspace is laid out as `geometry` says.
    pub(crate) fn of(
        region: Region,
        geometry: Geometry,
        domain: Option<Domain>,
    ) -> Result<Self, RegionError> {
        Ok(Self { site: Site::new(&region, geometry)?, region, domain, lock_timeout: LOCK_TIMEOUT })
    }

    /// Takes the name `name` away. Processes that have joined keep what they have until they leave.
    ///
    /// # Errors
    /// A region error if there is none of that name or it is not a workspace of ours.
    pub fn delete(domain: &Domain, name: &RegionName) -> Result<(), AttachError> {
        let info = domain.info(name)?;
        if info.kind != crate::layout::KIND {
            return Err(RegionError::Kind { expected: crate::layout::KIND, found: info.kind }.into());
        }
        Ok(domain.unlink(name)?)
    }

    pub(crate) fn geometry(options: &CreateOptions) -> Result<Geometry, CreateError> {
        let size_bytes = options.size_bytes;
        Geometry::new(size_bytes, options.slots).ok_or(CreateError::Size { size_bytes })
    }

    fn spec(geometry: &Geometry, options: &CreateOptions) -> Spec {
        Spec {
            kind: expect().kind,
            fingerprint: expect().fingerprint,
            len_bytes: geometry.len_min(),
            len_max_bytes: geometry.len_max(),
            guards: [geometry.guard_low(), geometry.guard_high()],
            page_size: options.page_size,
            mode: options.mode,
            near_cpu: options.near_cpu,
        }
    }

    /// Sets up the tables of a region that nobody else sees yet, all zero so far.
    fn format(region: &Region, geometry: &Geometry, seed: u32) -> Result<(), CreateError> {
        let site = Site::new(region, *geometry)?;
        let tables = site.tables();
        let id = region.id();
        let base = ((id >> 64) as u64 ^ id as u64) >> 2;
        let words = [geometry.data_bytes, geometry.slots_initial, base];
        for (word, value) in words.into_iter().enumerate() {
            // Relaxed, here and below: publishing the region orders it.
            tables.head.store(head::DATA_BYTES + word, value, Ordering::Relaxed);
        }
        tables.head.store(head::STATIC_CHECK, static_check(words), Ordering::Relaxed);
        tables.set_head_value(head::EPOCH, 0);
        tables.set_head_value(head::STATE, State::Normal as u32);
        let census = tables.census().map_err(AccessError::from)?;
        tables.apply(&census, seed).map_err(AccessError::from)?;
        Ok(())
    }

    /// The workspace's name; `None` for an anonymous one.
    pub fn name(&self) -> Option<RegionName> {
        self.region.name()
    }

    /// The descriptor to hand over; for [`from_fd`](Self::from_fd).
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.region.fd()
    }

    /// Bytes of the data region. Every gaddr is below it.
    pub fn data_bytes(&self) -> u64 {
        self.site.geometry.data_bytes
    }

    /// The region below, for its joiners, lock and id.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Who has joined for reading and writing, this process included.
    pub fn joiners(&self) -> Vec<JoinerInfo> {
        self.region.joiners()
    }

    /// What joiner `slot` has counted; `None` as for [`Region::counters`].
    pub fn counters(&self, slot: JoinerSlot) -> Option<Counters> {
        self.region.counters(slot).as_ref().map(Counters::from_block)
    }

    /// Sets how long a call through this handle waits for the lock before it fails and names the holder.
    /// Default 10 s. A dead holder is never waited for.
    pub fn set_lock_timeout(&mut self, timeout: Duration) {
        self.lock_timeout = timeout;
    }

    /// The `len` bytes at `gaddr`, for copying in and out. Costs a few comparisons; takes no lock and does not
    /// ask whether anything is allocated there.
    ///
    /// # Errors
    /// [`QueryError::OutOfRange`].
    pub fn bytes(&self, gaddr: u64, len: u64) -> Result<SharedBytes<'_>, QueryError> {
        let range = data_range(&self.site.geometry, gaddr, len)?;
        self.region.bytes(range).map_err(|_| out_of_range(&self.site.geometry, gaddr, len))
    }

    /// Copies the bytes at `gaddr` out. Bytes that another process writes meanwhile may come out old or new.
    ///
    /// # Errors
    /// [`QueryError::OutOfRange`].
    pub fn read(&self, gaddr: u64, into: &mut [u8]) -> Result<(), QueryError> {
        let len = into.len() as u64;
        self.bytes(gaddr, len)?.read(0, into).map_err(|_| out_of_range(&self.site.geometry, gaddr, len))
    }

    /// Copies bytes to `gaddr`. Nothing orders them towards other processes but the caller's own protocol.
    ///
    /// # Errors
    /// [`QueryError::OutOfRange`].
    pub fn write(&self, gaddr: u64, from: &[u8]) -> Result<(), QueryError> {
        let len = from.len() as u64;
        self.bytes(gaddr, len)?.write(0, from).map_err(|_| out_of_range(&self.site.geometry, gaddr, len))
    }

    // ---- the way in ----------------------------------------------------------------------------------

    /// Takes the lock, finishes what its last holder left, and checks that the workspace is in use.
    #[inline(always)]
    pub(crate) fn enter(&self) -> Result<Entry<'_>, AccessError> {
        let mut entry =
            Entry { wksp: self, guard: self.region.lock(self.lock_timeout)?, tables: self.site.tables() };
        entry.prepare()?;
        Ok(entry)
    }

    /// Takes the lock and nothing else: for calls that mend.
    pub(crate) fn enter_unchecked(&self) -> Result<Entry<'_>, AccessError> {
        let guard = self.region.lock(self.lock_timeout)?;
        // Another process may have let the slot table grow since we last looked.
        self.region.refresh_len()?;
        Ok(Entry { wksp: self, guard, tables: self.site.tables() })
    }
}

/// The lock of a workspace, held, and its tables.
#[derive(Debug)]
pub(crate) struct Entry<'w> {
    pub(crate) wksp: &'w Wksp,
    pub(crate) guard: LockGuard<'w>,
    pub(crate) tables: Tables<'w>,
}

impl Entry<'_> {
    /// Unlocks. An error says that somebody wrote over the lock word meanwhile: the call's result is void.
    #[inline(always)]
    pub(crate) fn leave(self) -> Result<(), AccessError> {
        Ok(self.guard.unlock()?)
    }

    /// Makes the workspace ready for a call, or says why it is not.
    #[inline(always)]
    fn prepare(&mut self) -> Result<(), AccessError> {
        let mark = self.tables.head_value(head::HIGH_WATER).unwrap_or(0);
        if self.tables.capacity < mark || self.guard.needs_recovery() || self.tables.is_torn() {
            self.recover()?;
        }
        self.tables.epoch = self.tables.head_value(head::EPOCH)?;
        self.check_state()
    }

    /// Finishes what the last holder left, if it left anything. The slots are the truth whatever else it was doing.
    #[cold]
    fn recover(&mut self) -> Result<(), AccessError> {
        probe!("wksp.recover.begun");
        // Another process may have let the slot table grow.
        self.wksp.region.refresh_len()?;
        self.tables = self.wksp.site.tables();
        if !self.guard.needs_recovery() && !self.tables.is_torn() {
            return Ok(());
        }
        self.tables.epoch = self.tables.head_value(head::EPOCH)?;
        // Of an interrupted restore there is nothing to rebuild.
        self.check_state()?;
        if self.tables.is_torn() {
            let seed = self.tables.head_value(head::SEED).unwrap_or(0);
            self.rebuild(seed)?;
        }
        if self.wksp.is_replaced() {
            // A restore was killed between giving its new region the name and saying so in the old one.
            self.set_state(State::Replaced);
        }
        self.guard.mark_recovered();
        self.guard.count([(Counter::RecoveryCount as usize, 1)]);
        probe!("wksp.recover.done");
        Ok(())
    }

    /// Makes the index anew, with a larger slot table if the gaps need one.
    pub(crate) fn rebuild(&mut self, seed: u32) -> Result<(), AccessError> {
        self.wksp.region.refresh_len()?;
        self.tables = Tables { epoch: self.tables.epoch, ..self.wksp.site.tables() };
        let census = self.tables.census()?;
        if u64::from(self.tables.capacity) < census.slots_needed() {
            self.grow(census.slots_needed())?;
        }
        Ok(self.tables.apply(&census, seed)?)
    }

    /// Lets the slot table grow to `slots` slots.
    #[cold]
    pub(crate) fn grow(&mut self, slots: u64) -> Result<(), AccessError> {
        let geometry = &self.wksp.site.geometry;
        let slots = slots.next_multiple_of(64).min(geometry.slots_max());
        self.wksp.region.extend(geometry.slots(slots).end)?;
        self.tables = Tables { epoch: self.tables.epoch, ..self.wksp.site.tables() };
        probe!("wksp.grow.done", slots);
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn check_state(&self) -> Result<(), AccessError> {
        match self.tables.head_value(head::STATE)? {
            state if state == State::Normal as u32 => Ok(()),
            state => Err(self.state_error(state)),
        }
    }

    #[cold]
    fn state_error(&self, state: u32) -> AccessError {
        match state {
            state if state == State::Restoring as u32 => AccessError::Restoring { id: self.restore_id() },
            state if state == State::Replaced as u32 => AccessError::Replaced,
            state => {
                let at = self.tables.head_at(head::STATE);
                Fault { what: FaultKind::State, at, expected: State::Normal as u64, found: state.into() }
                    .into()
            }
        }
    }

    fn restore_id(&self) -> u128 {
        // Relaxed: ordered by the lock.
        let low = self.tables.head.load(head::RESTORE_ID_LOW, Ordering::Relaxed);
        let high = self.tables.head.load(head::RESTORE_ID_HIGH, Ordering::Relaxed);
        u128::from(low) | u128::from(high) << 64
    }

    /// Stores the state, after everything stored before it and before everything stored after it.
    pub(crate) fn set_state(&self, state: State) {
        crash_fence();
        self.tables.set_head_value(head::STATE, state as u32);
        crash_fence();
    }
}

impl Wksp {
    /// Whether another region goes by this one's name now. A region whose name was deleted is as good as ever.
    fn is_replaced(&self) -> bool {
        let (Some(domain), Some(name)) = (&self.domain, self.name()) else { return false };
        domain.info(&name).is_ok_and(|info| info.id != self.region.id())
    }
}

/// Where a workspace's tables lie in its region, checked once.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) geometry: Geometry,
    /// Header and page map, side by side.
    low: Span,
    /// The slot table, as far as it can grow.
    slots: Span,
    slots_start: u64,
}

impl Site {
    pub(crate) fn new<A: Access>(region: &Region<A>, geometry: Geometry) -> Result<Self, RegionError> {
        let slots_start = geometry.slots(0).start;
        let low = region.span(geometry.head().start..geometry.map().end)?;
        Ok(Self { geometry, low, slots: region.span(slots_start..geometry.len_max())?, slots_start })
    }

    /// The tables as far as the region's file is known to reach.
    #[inline(always)]
    pub(crate) fn tables(&self) -> Tables<'_> {
        const HEAD_WORDS: usize = (HEAD_BYTES / 8) as usize;
        let low = self.low.words();
        let slots = self.slots.words();
        Tables {
            head: low.sub(0..HEAD_WORDS),
            map: low.sub(HEAD_WORDS..low.len()),
            slots,
            geometry: &self.geometry,
            slots_start: self.slots_start,
            // At most `slots_max`, which is below 2^32.
            capacity: (slots.len() / SLOT_WORDS) as u32,
            epoch: 0,
        }
    }
}

/// The geometry that a region's header claims, checked against its hash and the region itself.
pub(crate) fn read_geometry<A: Access>(region: &Region<A>) -> Result<Geometry, AttachError> {
    let start = outlast_shm::USER_OFFSET;
    let words = region.words(start..start + crate::layout::HEAD_BYTES).map_err(RegionError::from)?;
    // Relaxed: static, stored before the region was published.
    let read = |word: usize| words.load(word, Ordering::Relaxed);
    let found = [read(head::DATA_BYTES), read(head::SLOTS_INITIAL), read(head::STAMP_BASE)];
    let fault = |word: usize, expected: u64, found: u64| Fault {
        what: FaultKind::Geometry,
        at: start + word as u64 * 8,
        expected,
        found,
    };
    let check = read(head::STATIC_CHECK);
    if check != static_check(found) {
        return Err(fault(head::STATIC_CHECK, static_check(found), check).into());
    }
    let [data_bytes, slots_initial, _] = found;
    let geometry = Geometry::new(data_bytes, Some(slots_initial))
        .filter(|geometry| geometry.data_bytes == data_bytes && geometry.slots_initial == slots_initial)
        .ok_or_else(|| fault(head::DATA_BYTES, 0, data_bytes))?;
    if geometry.len_max() != region.len_max_bytes() || region.len_bytes() < geometry.len_min() {
        return Err(fault(head::DATA_BYTES, geometry.len_max(), region.len_max_bytes()).into());
    }
    Ok(geometry)
}

fn static_check(words: [u64; 3]) -> u64 {
    slot_check(u32::MAX, [words[0], words[1], words[2], 0, 0])
}

fn out_of_range(geometry: &Geometry, gaddr: u64, len: u64) -> QueryError {
    QueryError::OutOfRange { gaddr, len, data_bytes: geometry.data_bytes }
}

/// The region range of `len` data bytes at `gaddr`.
pub(crate) fn data_range(geometry: &Geometry, gaddr: u64, len: u64) -> Result<Range<u64>, QueryError> {
    let end = gaddr.checked_add(len).filter(|end| gaddr != 0 && *end <= geometry.data_bytes);
    let end = end.ok_or_else(|| out_of_range(geometry, gaddr, len))?;
    let origin = geometry.data().start;
    Ok(origin + gaddr..origin + end)
}

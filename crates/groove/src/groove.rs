//! A groove: the volumes that there are, in this process.
//!
//! # Invariants
//! - What a process has mapped is a copy of the table of volumes at some epoch; whoever finds the epoch changed
//!   brings it up to date before it believes that a reference leads nowhere.
//! - A volume is removed only when every root of it is closed, each by an exchange that fails while anything below
//!   it is in use: nobody can be in the middle of taking a slot there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outlast_probe::sync::Ordering;
use outlast_shm::{Domain, Region, RegionError, RegionName};

use crate::control::{Control, DRAINING, Entry, IN_USE, VACANT};
use crate::error::{AccessError, CreateError, VolumeError};
use crate::joiner::Joiner;
use crate::layout::{
    BLOCK_BYTES, Geometry, ROOT_COUNT, VOLUME_BLOCKS_LOG2_MAX, VOLUME_BLOCKS_LOG2_MIN, VOLUME_KIND,
    VOLUME_MAX, expect,
};
use crate::trim;
use crate::volume::{self, Identity, Volume};
use crate::word::Slots;

/// How often the table of volumes is read anew because it changes while volumes cannot be mapped.
const TRIES: u32 = 64;
/// Characters that `.v0000` takes from a name.
const SUFFIX_CHARACTERS: usize = 6;
/// Characters that a region's name may have.
const NAME_CHARACTERS: usize = 39;

/// What a new groove shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreateOptions {
    /// Bytes of each volume: a power of two from 1 MiB to 1 GiB.
    pub volume_bytes: u64,
}

impl Default for CreateOptions {
    /// Volumes of 1 GiB.
    fn default() -> Self {
        Self { volume_bytes: BLOCK_BYTES << VOLUME_BLOCKS_LOG2_MAX }
    }
}

/// A volume as the table of volumes has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VolumeInfo {
    /// Its index.
    pub index: usize,
    /// Whether nothing is allocated in it any more.
    pub is_draining: bool,
    /// What its adder left in it.
    pub info: Vec<u8>,
    /// Objects in it; exact only while nobody allocates or frees.
    pub objects: u64,
}

/// The volumes that this process has mapped.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mapped {
    /// The epoch that this is true of.
    pub(crate) epoch: u64,
    /// By index.
    pub(crate) volumes: Vec<Option<Arc<Volume>>>,
    /// Those that may be allocated in, ascending.
    pub(crate) open: Vec<usize>,
}

impl Mapped {
    /// The volume of this index.
    #[inline]
    pub(crate) fn volume(&self, index: usize) -> Option<&Arc<Volume>> {
        self.volumes.get(index)?.as_ref()
    }

    /// Every volume.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Volume>> {
        self.volumes.iter().flatten()
    }
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) domain: Domain,
    pub(crate) name: RegionName,
    pub(crate) control: Control,
    mapped: Mutex<Mapped>,
}

/// A groove, joined. Clones are of the same join; threads allocate through a [`Joiner`] each.
///
/// ```
/// use outlast_groove::{CreateOptions, Groove};
/// use outlast_shm::Domain;
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("domain");
/// let domain = Domain::open(&path)?;
/// let groove = Groove::create(&domain, &"example".parse()?, &CreateOptions { volume_bytes: 1 << 20 })?;
/// groove.add_volume(b"the first")?;
/// let joiner = groove.joiner()?;
/// let object = joiner.alloc(5000, 0, 42)?;
/// joiner.write(object, 0, b"hello")?;
/// joiner.free(object)?;
/// groove.remove_empty_volume()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Groove {
    pub(crate) inner: Arc<Inner>,
}

impl Groove {
    /// Makes a groove without a volume.
    ///
    /// # Errors
    /// [`CreateError::VolumeSize`], [`CreateError::LongName`]; [`RegionError::Exists`] if the name is taken.
    pub fn create(domain: &Domain, name: &RegionName, options: &CreateOptions) -> Result<Self, CreateError> {
        let geometry = Geometry::of_bytes(options.volume_bytes).ok_or(CreateError::VolumeSize {
            found: options.volume_bytes,
            min: BLOCK_BYTES << VOLUME_BLOCKS_LOG2_MIN,
            max: BLOCK_BYTES << VOLUME_BLOCKS_LOG2_MAX,
        })?;
        check_name(name)?;
        let control = Control::create(domain, name, geometry, None, &[])?;
        Ok(Self::of(domain, name, control))
    }

    /// Joins a groove and maps its volumes.
    ///
    /// # Errors
    /// [`AccessError::Region`] as [`Region::open`]; [`AccessError::Corrupt`].
    pub fn open(domain: &Domain, name: &RegionName) -> Result<Self, AccessError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let groove = Self::of(domain, name, Control::open(domain, name)?);
            groove.refresh()?;
            // A rebuild puts another control region in this one's place before it opens the volumes.
            if Control::open(domain, name)?.region.id() == groove.inner.control.region.id() {
                return Ok(groove);
            }
            if TRIES < tries {
                return Err(AccessError::Rebuilding { volume: 0 });
            }
        }
    }

    pub(crate) fn of(domain: &Domain, name: &RegionName, control: Control) -> Self {
        let mapped = Mutex::new(Mapped { epoch: u64::MAX, ..Mapped::default() });
        Self { inner: Arc::new(Inner { domain: domain.clone(), name: *name, control, mapped }) }
    }

    /// Nominal bytes of each volume.
    pub fn volume_bytes(&self) -> u64 {
        self.inner.control.geometry.volume_bytes()
    }

    /// Bytes of the largest object.
    pub fn object_bytes_max(&self) -> u64 {
        self.inner.control.geometry.shape.object_bytes_max()
    }

    /// Bytes of the file that a volume needs, tables included.
    pub fn volume_region_bytes(&self) -> u64 {
        self.inner.control.geometry.region_bytes()
    }

    /// Takes a seat in the groove for one thread.
    ///
    /// # Errors
    /// [`AccessError::Seats`] if every seat is taken by the living.
    pub fn joiner(&self) -> Result<Joiner, AccessError> {
        Joiner::new(&self.inner)
    }

    /// Brings what this process has mapped up to date; the memory of volumes that were removed is let go. Calls do
    /// so by themselves when they need to; an idle process does when it wants to give memory back.
    ///
    /// # Errors
    /// [`AccessError::Region`] if a volume cannot be mapped.
    pub fn refresh(&self) -> Result<(), AccessError> {
        self.inner.up_to_date().map(|_| ())
    }

    /// The volumes. Reads every descriptor.
    ///
    /// # Errors
    /// As [`refresh`](Self::refresh).
    pub fn volumes(&self) -> Result<Vec<VolumeInfo>, AccessError> {
        let mapped = self.inner.up_to_date()?;
        let describe = |volume: &Arc<Volume>| VolumeInfo {
            index: volume.index,
            is_draining: !mapped.open.contains(&volume.index),
            info: volume.info(),
            objects: volume.census().0,
        };
        Ok(mapped.all().map(describe).collect())
    }

    /// Adds an empty volume, and returns its index, the lowest that is vacant. At most 480 bytes of `info` are kept
    /// with it. About 0.5 ms per MiB.
    ///
    /// # Errors
    /// [`VolumeError::TooMany`]; [`VolumeError::HoldsObjects`] if a file of that name is there already and holds
    /// objects (a [`rebuild`](Self::rebuild) takes it in); [`RegionError::NoSpace`] if there is no room.
    pub fn add_volume(&self, info: &[u8]) -> Result<usize, VolumeError> {
        let inner = &*self.inner;
        let _guard = inner.control.lock()?;
        let vacant = |index: &usize| {
            let entry = inner.control.entry(*index);
            entry.state == VACANT && entry.base < u32::MAX / 2
        };
        let index = (0..VOLUME_MAX).find(vacant).ok_or(VolumeError::TooMany { max: VOLUME_MAX })?;
        let name = inner.volume_name(index)?;
        inner.refuse_objects(&name, index)?;
        let base = inner.control.entry(index).base;
        let geometry = inner.control.geometry;
        let identity = Identity { groove: inner.control.id, index, blocks_log2: geometry.blocks_log2, base };
        let region = Volume::create(&inner.domain, &name, identity, geometry, info)?;
        outlast_probe::probe!("groove.add.published");
        inner.control.commit(index, Entry { state: IN_USE, region: region.id(), base });
        inner.up_to_date()?;
        Ok(index)
    }

    /// Stops allocating in a volume, in every process: calls that begin after this one has returned do not. What it
    /// holds stays as it is; [`Joiner::objects`] lists it.
    ///
    /// # Errors
    /// [`VolumeError::Missing`].
    pub fn drain(&self, index: usize) -> Result<(), VolumeError> {
        self.set_state(index, DRAINING)
    }

    /// Ends a drain: the volume is allocated in again.
    ///
    /// # Errors
    /// [`VolumeError::Missing`].
    pub fn end_drain(&self, index: usize) -> Result<(), VolumeError> {
        self.set_state(index, IN_USE)
    }

    fn set_state(&self, index: usize, state: u64) -> Result<(), VolumeError> {
        let inner = &*self.inner;
        let _guard = inner.control.lock()?;
        let entry = inner.listed(index)?;
        if state == IN_USE {
            // A removal that was killed may have closed some.
            let mapped = inner.up_to_date()?;
            mapped.volume(index).into_iter().for_each(|volume| open_roots(volume));
        }
        inner.control.commit(index, Entry { state, ..entry });
        inner.up_to_date()?;
        Ok(())
    }

    /// Removes a volume that holds no object; its file is unlinked and its memory given back when every process has
    /// noticed, which each does in its next call that needs to.
    ///
    /// References into it are stale for ever, also when a later volume has its index.
    ///
    /// # Errors
    /// [`VolumeError::Missing`]; [`VolumeError::HoldsObjects`], and the volume is as before.
    pub fn remove_volume(&self, index: usize) -> Result<(), VolumeError> {
        let inner = &*self.inner;
        let _guard = inner.control.lock()?;
        let entry = inner.listed(index)?;
        let mapped = inner.up_to_date()?;
        let volume = mapped.volume(index).ok_or(VolumeError::Missing { index })?;
        // Most that hold something are told without disturbing those who allocate.
        let (objects, _) = volume.census();
        if objects != 0 {
            return Err(VolumeError::HoldsObjects { index, objects });
        }
        inner.adopt()?;
        let seat = inner.control.take_seat()?;
        // From here on nothing fails before the volume is gone, or is as it was.
        inner.control.commit(index, Entry { state: DRAINING, ..entry });
        trim::trim(volume, &inner.control, seat);
        inner.control.leave_seat(seat);
        if !close_roots(volume) {
            let (objects, _) = volume.census();
            open_roots(volume);
            inner.control.commit(index, entry);
            inner.up_to_date()?;
            return Err(VolumeError::HoldsObjects { index, objects });
        }
        outlast_probe::probe!("groove.remove.closed");
        let (_, base) = volume.census();
        inner.control.commit(index, Entry { state: VACANT, region: 0, base });
        outlast_probe::probe!("groove.remove.vacant");
        inner.domain.unlink(&inner.volume_name(index)?)?;
        inner.up_to_date()?;
        Ok(())
    }

    /// Removes the empty volume with the highest index, and returns it.
    ///
    /// # Errors
    /// [`VolumeError::NoneEmpty`].
    pub fn remove_empty_volume(&self) -> Result<usize, VolumeError> {
        let volumes = self.volumes()?;
        for volume in volumes.iter().rev().filter(|volume| volume.objects == 0) {
            match self.remove_volume(volume.index) {
                Ok(()) => return Ok(volume.index),
                Err(VolumeError::HoldsObjects { .. } | VolumeError::Missing { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        Err(VolumeError::NoneEmpty)
    }
}

/// Opens the roots that a removal has closed.
fn open_roots(volume: &Volume) {
    let words = volume.words();
    for root in 0..ROOT_COUNT {
        let at = volume.geometry.superblock_at(root);
        // Release: partner is the Acquire of `slot::carve_root`. A root that is not closed stays as it is.
        let _ = words.compare_exchange(at, Slots::NONE.0, Slots::OPEN.0, Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// Closes every root; `false` at the first that is in use.
fn close_roots(volume: &Volume) -> bool {
    let words = volume.words();
    (0..ROOT_COUNT).all(|root| {
        let at = volume.geometry.superblock_at(root);
        outlast_probe::probe!("groove.remove.before_close", root);
        // AcqRel: partner is `slot::carve_root`; one of the two comes first.
        let closed =
            words.compare_exchange(at, Slots::OPEN.0, Slots::NONE.0, Ordering::AcqRel, Ordering::Relaxed);
        // Closed by a removal that was killed is as good.
        closed.is_ok() || closed == Err(Slots::NONE.0)
    })
}

pub(crate) fn check_name(name: &RegionName) -> Result<(), CreateError> {
    let max = NAME_CHARACTERS - SUFFIX_CHARACTERS;
    if max < name.as_str().len() {
        return Err(CreateError::LongName { name: name.to_string(), max });
    }
    Ok(())
}

impl Inner {
    fn mapped(&self) -> MutexGuard<'_, Mapped> {
        // Every change of it is whole between any two statements that can panic.
        self.mapped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn volume_name(&self, index: usize) -> Result<RegionName, RegionError> {
        let name = format!("{}.v{index:04}", self.name);
        Ok(name.as_str().parse()?)
    }

    /// The entry of a volume that there is.
    fn listed(&self, index: usize) -> Result<Entry, VolumeError> {
        let found = (index < VOLUME_MAX).then(|| self.control.entry(index));
        found.filter(|entry| entry.state != VACANT).ok_or(VolumeError::Missing { index })
    }

    /// Refuses to put a volume in place of a file that holds objects.
    fn refuse_objects(&self, name: &RegionName, index: usize) -> Result<(), VolumeError> {
        let region = match Region::open(&self.domain, name, &expect(VOLUME_KIND)) {
            Ok(region) => region,
            Err(RegionError::Missing { .. }) => return Ok(()),
            Err(other) => return Err(other.into()),
        };
        let (objects, _) = Volume::open(region, index, None)?.census();
        if objects == 0 { Ok(()) } else { Err(VolumeError::HoldsObjects { index, objects }) }
    }

    /// What is mapped, after it was brought up to date.
    pub(crate) fn up_to_date(&self) -> Result<Mapped, AccessError> {
        let mut mapped = self.mapped();
        let mut tries = 0;
        loop {
            tries += 1;
            let epoch = self.control.epoch();
            if mapped.epoch == epoch {
                if (0..VOLUME_MAX).all(|index| self.is_as_mapped(&mapped, index)) {
                    return Ok(mapped.clone());
                }
                // Who changed the table has not raised the epoch, and may have died before it could.
                self.control.raise_epoch();
                continue;
            }
            let done = self.map_all(&mut mapped);
            // A volume that was removed while it was being mapped is no error: look again.
            match done {
                Ok(()) => mapped.epoch = epoch,
                Err(error) if self.control.epoch() == epoch || TRIES < tries => return Err(error),
                Err(_) => {}
            }
            // Only somebody hostile changes the table that often; it was so at that epoch.
            if TRIES < tries {
                return Ok(mapped.clone());
            }
        }
    }

    /// Whether a volume is mapped as its entry in the table says.
    pub(crate) fn is_as_mapped(&self, mapped: &Mapped, index: usize) -> bool {
        let entry = self.control.entry(index);
        let region = matches!(entry.state, IN_USE | DRAINING).then_some(entry.region);
        let here = mapped.volume(index).map(|volume| volume.region.id());
        region == here && mapped.open.contains(&index) == (entry.state == IN_USE)
    }

    fn map_all(&self, mapped: &mut Mapped) -> Result<(), AccessError> {
        mapped.volumes.resize(VOLUME_MAX, None);
        mapped.open.clear();
        for index in 0..VOLUME_MAX {
            let entry = self.control.entry(index);
            let is_there = matches!(entry.state, IN_USE | DRAINING);
            let here = &mut mapped.volumes[index];
            if let Some(gone) = here.take_if(|volume| !is_there || volume.region.id() != entry.region) {
                gone.region.discard()?;
            }
            if is_there && here.is_none() {
                *here = Some(self.map(index, entry)?);
            }
            if entry.state == IN_USE {
                mapped.open.push(index);
            }
        }
        Ok(())
    }

    fn map(&self, index: usize, entry: Entry) -> Result<Arc<Volume>, AccessError> {
        let region = Region::open(&self.domain, &self.volume_name(index)?, &expect(VOLUME_KIND))?;
        if region.id() != entry.region {
            return Err(AccessError::Replaced { volume: index });
        }
        let volume = Volume::open(region, index, Some(self.control.id))?;
        match volume.state() {
            volume::OPEN => Ok(volume),
            _ => Err(AccessError::Rebuilding { volume: index }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{SEAT_MAX, control};

    fn ground() -> (tempfile::TempDir, Domain, RegionName, Groove) {
        let directory = tempfile::tempdir().unwrap();
        let domain = Domain::open(&directory.path().join("domain")).unwrap();
        let name = "g".parse().unwrap();
        let groove = Groove::create(&domain, &name, &CreateOptions { volume_bytes: 2 << 20 }).unwrap();
        (directory, domain, name, groove)
    }

    /// Adds a volume as who is killed after the entry was stored and before the epoch went up.
    fn add_untold(groove: &Groove) -> usize {
        let epoch = groove.inner.control.epoch();
        let index = groove.add_volume(b"").unwrap();
        groove.inner.control.words().store(control::EPOCH, epoch, Ordering::Relaxed);
        index
    }

    #[test]
    fn a_volume_that_nobody_was_told_of_is_found() {
        let (_directory, domain, name, groove) = ground();
        let joiner = groove.joiner().unwrap();
        let index = add_untold(&Groove::open(&domain, &name).unwrap());
        let late = Groove::open(&domain, &name).unwrap().joiner().unwrap();
        let object = late.alloc(100, 0, 7).unwrap();
        assert_eq!(object.volume(), index);
        assert_eq!(joiner.info(object).unwrap().tag, 7);
    }

    #[test]
    fn room_that_nobody_was_told_of_is_found() {
        let (_directory, domain, name, groove) = ground();
        let joiner = groove.joiner().unwrap();
        let index = add_untold(&Groove::open(&domain, &name).unwrap());
        assert_eq!(joiner.alloc(100, 0, 7).unwrap().volume(), index);
    }

    /// No seat is free for the removal.
    #[test]
    fn a_volume_that_cannot_be_removed_is_as_it_was() {
        let (_directory, _domain, _name, groove) = ground();
        groove.add_volume(b"").unwrap();
        let joiners: Vec<_> = (0..SEAT_MAX).map(|_| groove.joiner().unwrap()).collect();
        let refused = groove.remove_volume(0);
        assert!(matches!(refused, Err(VolumeError::Access(AccessError::Seats { .. }))), "{refused:?}");
        assert!(!groove.volumes().unwrap()[0].is_draining);
        joiners[0].alloc(100, 0, 0).unwrap();
    }
}

//! Making a groove anew from its volumes alone.
//!
//! The objects are the truth: a descriptor that is live names an object, and its place and size say which
//! superblocks there must be above it. Everything else is made anew: so whatever a dead process was in the middle
//! of is finished or undone, and superblocks without objects are gone.
//!
//! # Invariants
//! - No live descriptor, tag or byte of data is written: a rebuild can be killed and begun again, and finds the same.
//! - It refuses, having changed nothing, if two objects cannot both be where they are.

use outlast_probe::sync::{Ordering, crash_fence, fence};
use outlast_shm::{Domain, Region, RegionName};

use crate::control::{Control, Entry, IN_USE, VACANT};
use crate::error::{AccessError, CreateError, Fault, FaultKind};
use crate::groove::{Groove, check_name};
use crate::layout::{
    CLASS_NONE, DESCRIPTOR_WORDS, HEAD_WORDS, LINE_WORDS, ROOT_COUNT, VOLUME_KIND, VOLUME_MAX, expect, head,
};
use crate::verify::class_of;
use crate::volume::{self, Volume, index_of_name, region_name};
use crate::word::{Descriptor, Slots, State};

/// What a rebuild has found and done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Rebuilt {
    /// Volumes.
    pub volumes: usize,
    /// Objects, all of which are where they were.
    pub objects: u64,
    /// Allocations that were under way and never returned: undone.
    pub undone_allocations: u64,
    /// Frees that were under way: finished.
    pub finished_frees: u64,
    /// Blocks that have no generation left.
    pub retired_blocks: u64,
}

impl Groove {
    /// Makes the groove anew from the volumes of this name in the domain, whether its control region is there or
    /// not, one thread for each volume. References stay what they were. About 40 ms for a full volume of 1 GiB.
    ///
    /// Without the old control region nobody knows which generations were given out by volumes that are gone:
    /// references into those may then come to life if a new volume has their index.
    ///
    /// It can be killed and begun again.
    ///
    /// # Errors
    /// [`CreateError::Busy`] if anybody may have joined the groove or a volume, [`CreateError::NoVolume`],
    /// [`CreateError::Mixed`]; [`AccessError::Corrupt`] if objects themselves are damaged.
    pub fn rebuild(domain: &Domain, name: &RegionName) -> Result<(Self, Rebuilt), CreateError> {
        check_name(name)?;
        let before = open_control(domain, name)?;
        let volumes = open_all(domain, name)?;
        let Some(first) = volumes.first() else {
            return Err(CreateError::NoVolume { name: name.to_string() });
        };
        let (id, geometry) = (first.1, first.0.geometry);
        for (volume, groove) in &volumes {
            if *groove != id || volume.geometry.blocks_log2 != geometry.blocks_log2 {
                let name = region_name(name, volume.index)?.to_string();
                return Err(CreateError::Mixed { name });
            }
        }
        let closed = Closed::new(&volumes);
        // Again, now that whoever comes is turned away: somebody may have come while the volumes were opened.
        let regions = before.iter().map(|control| &control.region);
        regions.chain(volumes.iter().map(|(volume, _)| &volume.region)).try_for_each(refuse_joiners)?;
        let sum = rebuild_all(&volumes)?;
        let entries = entries(&volumes, before.filter(|control| control.id == id).as_ref());
        outlast_probe::probe!("groove.rebuild.before_publish");
        let control = Control::create(domain, name, geometry, Some(id), &entries)?;
        // Not before: who still finds the old control region must not get in.
        closed.open();
        let groove = Self::of(domain, name, control);
        groove.refresh()?;
        Ok((groove, sum))
    }
}

type Volumes = [(std::sync::Arc<Volume>, u128)];

/// Volumes that turn everybody away; they are as they were before when it is dropped.
struct Closed<'v> {
    states: Vec<(&'v Volume, u64)>,
}

impl<'v> Closed<'v> {
    fn new(volumes: &'v Volumes) -> Self {
        let close = |(volume, _): &'v (std::sync::Arc<Volume>, u128)| {
            let before = volume.state();
            // Relaxed: ordered by the fence.
            volume.words().store(head::STATE, volume::REBUILDING, Ordering::Relaxed);
            (&**volume, before)
        };
        let states = volumes.iter().map(close).collect();
        // Who joins looks at the state when it is in the joiner table; here it is the other way round. So one of the
        // two sees the other.
        fence(Ordering::SeqCst);
        outlast_probe::probe!("groove.rebuild.begun");
        Self { states }
    }

    fn open(mut self) {
        self.states.iter_mut().for_each(|(_, state)| *state = volume::OPEN);
        drop(self);
        outlast_probe::probe!("groove.rebuild.open");
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        crash_fence();
        for (volume, state) in &self.states {
            // Release: partner is the Acquire of `Volume::state`.
            volume.words().store(head::STATE, *state, Ordering::Release);
        }
    }
}

/// Rebuilds every volume, each in a thread of its own. All are looked at before any is changed.
fn rebuild_all(volumes: &Volumes) -> Result<Rebuilt, AccessError> {
    let plans: Result<Vec<Plan>, Fault> =
        in_parallel(volumes, |(volume, _)| plan(volume)).into_iter().collect();
    let plans = plans?;
    let pairs: Vec<_> = volumes.iter().zip(&plans).collect();
    in_parallel(&pairs, |((volume, _), plan)| apply(volume, plan));
    let mut sum = Rebuilt { volumes: volumes.len(), ..Rebuilt::default() };
    for one in plans.iter().map(|plan| &plan.counts) {
        sum.objects += one.objects;
        sum.undone_allocations += one.undone_allocations;
        sum.finished_frees += one.finished_frees;
        sum.retired_blocks += one.retired_blocks;
    }
    Ok(sum)
}

/// The table of volumes. Where there is none, the generations that earlier ones have used up are carried over.
fn entries(volumes: &Volumes, before: Option<&Control>) -> Vec<(usize, Entry)> {
    let vacant = |index| {
        let base = before.map_or(0, |control| control.base_of(index));
        (index, Entry { state: VACANT, region: 0, base })
    };
    let mut entries: Vec<_> = (0..VOLUME_MAX).map(vacant).collect();
    for (volume, _) in volumes {
        let entry = Entry { state: IN_USE, region: volume.region.id(), base: volume.base };
        entries[volume.index].1 = entry;
    }
    entries
}

/// The control region, if it is there and sound; otherwise it is made anew.
fn open_control(domain: &Domain, name: &RegionName) -> Result<Option<Control>, CreateError> {
    let control = Control::open(domain, name).ok();
    control.iter().try_for_each(|control| refuse_joiners(&control.region))?;
    Ok(control)
}

fn refuse_joiners(region: &Region) -> Result<(), CreateError> {
    if region.other_joiners() || 1 < region.handle_count() {
        return Err(CreateError::Busy {
            name: region.name().map_or_else(String::new, |name| name.to_string()),
        });
    }
    Ok(())
}

/// The volumes in the domain, each with the id of the groove that it is of.
fn open_all(domain: &Domain, name: &RegionName) -> Result<Vec<(std::sync::Arc<Volume>, u128)>, CreateError> {
    let mut volumes = Vec::new();
    for listing in domain.list()? {
        let index = listing.file_name.to_str().and_then(|file| index_of_name(name, file));
        let Some(index) = index else { continue };
        let of = region_name(name, index)?;
        let region = Region::open(domain, &of, &expect(VOLUME_KIND))?;
        refuse_joiners(&region)?;
        let groove = volume::Identity::read(&region, index)?.groove;
        volumes.push((Volume::open(region, index, None)?, groove));
    }
    Ok(volumes)
}

/// What the objects of a volume ask for.
struct Plan {
    /// For each superblock, by number, its word.
    superblocks: Vec<Slots>,
    counts: Rebuilt,
}

/// Does the same to each, in a thread of its own.
fn in_parallel<T: Sync, R: Send>(all: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = all.iter().map(|one| scope.spawn(move || work(one))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, R>| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        threads.into_iter().map(join).collect()
    })
}

fn plan(volume: &Volume) -> Result<Plan, Fault> {
    let words = volume.words();
    let shape = volume.geometry.shape;
    let mut plan = Plan {
        superblocks: vec![Slots::NONE; shape.superblock_count as usize],
        counts: Rebuilt { volumes: 1, ..Rebuilt::default() },
    };
    for root in 0..ROOT_COUNT {
        for offset in 0..shape.root_blocks {
            let at = volume.geometry.descriptor_at(root, offset);
            // Relaxed: nobody else is here.
            let word = Descriptor(words.load(at, Ordering::Relaxed));
            match word.state() {
                State::Free => {}
                State::Held => plan.counts.undone_allocations += 1,
                State::Freeing => plan.counts.finished_frees += 1,
                State::Retired => plan.counts.retired_blocks += 1,
                State::Damaged => return Err(volume.fault(FaultKind::State, at, 0, word.0)),
                State::Live => {
                    let fault = || volume.fault(FaultKind::Extent, at, 0, word.0);
                    let (class, _) = class_of(volume, offset, word).ok_or_else(fault)?;
                    plan.enter(volume, class, root, offset)?;
                    plan.counts.objects += 1;
                }
            }
        }
    }
    plan.refuse_overlaps(volume)?;
    Ok(plan)
}

impl Plan {
    /// Enters an object: its slot is in use, and so is that of each superblock above it.
    fn enter(&mut self, volume: &Volume, class: usize, root: u32, offset: u32) -> Result<(), Fault> {
        let shape = volume.geometry.shape;
        let (mut class, mut offset) = (class, offset);
        while class != CLASS_NONE {
            let home = shape.home(class);
            let first = home.superblock_of(offset);
            let number = shape.superblock_number(home.level, root, first);
            let slots = &mut self.superblocks[number as usize];
            let is_new = *slots == Slots::NONE;
            if is_new {
                *slots = Slots::new(class, home.mask());
            }
            let slot = home.slot_of(first, offset).filter(|_| slots.class() == class);
            let Some(slot) = slot else {
                let at = volume.geometry.descriptor_at(root, offset);
                return Err(volume.fault(FaultKind::Overlap, at, class as u64, slots.class() as u64));
            };
            let was_free = slots.has(slot);
            *slots = slots.without(slot);
            if !is_new && !was_free {
                // Another object below the same slot has entered everything above.
                return Ok(());
            }
            (class, offset) = (home.parent, first);
        }
        Ok(())
    }

    /// Refuses a slot that is an object and a superblock as well.
    fn refuse_overlaps(&self, volume: &Volume) -> Result<(), Fault> {
        let shape = volume.geometry.shape;
        for at in volume.superblocks().filter(|at| at.level != 0) {
            let slots = self.superblocks[shape.superblock_number(at.level, at.root, at.offset) as usize];
            if slots == Slots::NONE {
                continue;
            }
            let parent = shape.home(slots.class()).parent;
            let word = volume.descriptor(at.root, at.offset);
            let is_object = word.state() == State::Live
                && class_of(volume, at.offset, word).is_some_and(|(class, _)| class == parent);
            if is_object {
                let at = volume.geometry.descriptor_at(at.root, at.offset);
                return Err(volume.fault(FaultKind::Overlap, at, parent as u64, slots.class() as u64));
            }
        }
        Ok(())
    }
}

/// Stores the superblocks and bits that a plan asks for, and makes every descriptor free that is in between.
fn apply(volume: &Volume, plan: &Plan) {
    let words = volume.words();
    let geometry = &volume.geometry;
    // Relaxed, all of this: nobody else is here, and nobody enters before the state says open.
    let store = |index: usize, value: u64| words.store(index, value, Ordering::Relaxed);
    crash_fence();
    (geometry.bits_at()..geometry.descriptors_at()).for_each(|index| store(index, 0));
    for (number, slots) in plan.superblocks.iter().enumerate() {
        let is_open_root = number < ROOT_COUNT as usize && *slots == Slots::NONE;
        let first = HEAD_WORDS + LINE_WORDS * number;
        store(first, if is_open_root { Slots::OPEN.0 } else { slots.0 });
        (first + 1..first + LINE_WORDS).for_each(|index| store(index, 0));
    }
    outlast_probe::probe!("groove.rebuild.superblocks");
    set_bits(volume, plan);
    for at in (geometry.descriptors_at()..geometry.table_words()).step_by(DESCRIPTOR_WORDS) {
        let word = Descriptor(words.load(at, Ordering::Relaxed));
        if matches!(word.state(), State::Held | State::Freeing) {
            store(at, word.let_go_of().0);
        }
    }
    outlast_probe::probe!("groove.rebuild.descriptors");
}

fn set_bits(volume: &Volume, plan: &Plan) {
    let words = volume.words();
    let shape = volume.geometry.shape;
    for at in volume.superblocks() {
        let slots = plan.superblocks[shape.superblock_number(at.level, at.root, at.offset) as usize];
        if slots.free() != 0 {
            let home = shape.home(slots.class());
            let number = shape.superblock_in_level(at.level, at.root, at.offset);
            volume.bits(home).set(&words, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::groove::CreateOptions;

    fn ground() -> (tempfile::TempDir, Domain, RegionName, Groove) {
        let directory = tempfile::tempdir().unwrap();
        let domain = Domain::open(&directory.path().join("domain")).unwrap();
        let name = "g".parse().unwrap();
        let groove = Groove::create(&domain, &name, &CreateOptions { volume_bytes: 2 << 20 }).unwrap();
        groove.add_volume(b"").unwrap();
        (directory, domain, name, groove)
    }

    /// Whoever comes while a rebuild looks at the volumes is turned away, and what it finds otherwise is as before.
    #[test]
    fn nobody_gets_in_while_a_rebuild_looks() {
        let (_directory, domain, name, groove) = ground();
        drop(groove);
        let volumes = open_all(&domain, &name).unwrap();
        let closed = Closed::new(&volumes);
        let come = || Groove::open(&domain, &name);
        assert!(matches!(come(), Err(AccessError::Rebuilding { volume: 0 })));
        rebuild_all(&volumes).unwrap();
        assert!(matches!(come(), Err(AccessError::Rebuilding { volume: 0 })), "the table is not there yet");
        drop(closed);
        drop(come().unwrap());
        let closed = Closed::new(&volumes);
        closed.open();
        drop(come().unwrap());
    }

    #[test]
    fn a_rebuild_that_refuses_leaves_what_was_there() {
        let (_directory, domain, name, groove) = ground();
        let object = groove.joiner().unwrap().alloc(100, 0, 1).unwrap();
        let mapped = groove.inner.up_to_date().unwrap();
        let volume = mapped.volume(0).unwrap();
        let at = volume.geometry.descriptor_at(0, 79);
        let words = volume.words();
        words.store(at, 9, Ordering::Relaxed);
        assert!(matches!(Groove::rebuild(&domain, &name), Err(CreateError::Busy { .. })));
        drop((mapped, groove));
        assert!(matches!(Groove::rebuild(&domain, &name), Err(CreateError::Access(AccessError::Corrupt(_)))));
        let groove = Groove::open(&domain, &name).unwrap();
        assert_eq!(groove.joiner().unwrap().info(object).unwrap().tag, 1);
    }

    #[test]
    fn references_into_a_removed_volume_stay_stale() {
        let (_directory, domain, name, groove) = ground();
        groove.add_volume(b"").unwrap();
        groove.drain(0).unwrap();
        let joiner = groove.joiner().unwrap();
        let object = joiner.alloc(100, 0, 1).unwrap();
        joiner.free(object).unwrap();
        groove.remove_volume(object.volume()).unwrap();
        drop((joiner, groove));
        let (groove, _) = Groove::rebuild(&domain, &name).unwrap();
        assert_eq!(groove.add_volume(b"").unwrap(), object.volume());
        groove.drain(0).unwrap();
        let joiner = groove.joiner().unwrap();
        let next = joiner.alloc(100, 0, 2).unwrap();
        assert_eq!(next.block(), object.block());
        assert!(object.generation() < next.generation());
        assert!(joiner.free(object).is_err());
    }
}

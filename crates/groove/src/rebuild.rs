//! Making a groove anew from its volumes alone.
//!
//! The objects are the truth: a descriptor that is live names an object, and its place and size say which
//! superblocks there must be above it. Everything else is made anew: so whatever a dead process was in the middle
//! of is finished or undone, and superblocks without objects are gone.
//!
//! # Invariants
//! - No live descriptor, tag or byte of data is written: a rebuild can be killed and begun again, and finds the same.
//! - It refuses, having changed nothing, if two objects cannot both be where they are.

use outlast_probe::sync::{Ordering, crash_fence};
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
        let vacant = refuse_joiners(domain, name)?;
        let volumes = open_all(domain, name)?;
        let Some(first) = volumes.first() else {
            return Err(CreateError::NoVolume { name: name.to_string() });
        };
        let (id, geometry) = (Some(first.1), first.0.geometry);
        for (volume, groove) in &volumes {
            if Some(*groove) != id || volume.geometry.blocks_log2 != geometry.blocks_log2 {
                let name = region_name(name, volume.index)?.to_string();
                return Err(CreateError::Mixed { name });
            }
        }
        // All are looked at before any is changed.
        let plans: Result<Vec<Plan>, Fault> =
            in_parallel(&volumes, |(volume, _)| plan(volume)).into_iter().collect();
        let plans = plans.map_err(AccessError::from)?;
        let pairs: Vec<_> = volumes.iter().zip(&plans).collect();
        in_parallel(&pairs, |((volume, _), plan)| apply(volume, plan));
        let mut sum = Rebuilt { volumes: volumes.len(), ..Rebuilt::default() };
        for one in plans.iter().map(|plan| &plan.counts) {
            sum.objects += one.objects;
            sum.undone_allocations += one.undone_allocations;
            sum.finished_frees += one.finished_frees;
            sum.retired_blocks += one.retired_blocks;
        }
        let entry = |volume: &Volume| Entry { state: IN_USE, region: volume.region.id(), base: volume.base };
        // In this order: an index that has a volume after all has that one's entry.
        let found = volumes.iter().map(|(volume, _)| (volume.index, entry(volume)));
        let entries: Vec<_> = vacant.into_iter().chain(found).collect();
        outlast_probe::probe!("groove.rebuild.before_publish");
        let control = Control::create(domain, name, geometry, id, &entries)?;
        let groove = Self::of(domain, name, control);
        groove.refresh()?;
        Ok((groove, sum))
    }
}

/// Refuses if anybody may be in; returns what the old control region says of indices without a volume, if it is there
/// and whole.
fn refuse_joiners(domain: &Domain, name: &RegionName) -> Result<Vec<(usize, Entry)>, CreateError> {
    // Missing or damaged: it is made anew.
    let Ok(control) = Control::open(domain, name) else { return Ok(Vec::new()) };
    if control.region.other_joiners() || 1 < control.region.handle_count() {
        return Err(CreateError::Busy { name: name.to_string() });
    }
    let all = (0..VOLUME_MAX).map(|index| (index, control.entry(index)));
    Ok(all.filter(|(_, entry)| entry.state == VACANT && entry.base != 0).collect())
}

/// The volumes in the domain, each with the id of the groove that it is of.
fn open_all(domain: &Domain, name: &RegionName) -> Result<Vec<(std::sync::Arc<Volume>, u128)>, CreateError> {
    let mut volumes = Vec::new();
    for listing in domain.list()? {
        let index = listing.file_name.to_str().and_then(|file| index_of_name(name, file));
        let Some(index) = index else { continue };
        let of = region_name(name, index)?;
        let region = Region::open(domain, &of, &expect(VOLUME_KIND))?;
        if region.other_joiners() || 1 < region.handle_count() {
            return Err(CreateError::Busy { name: of.to_string() });
        }
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
    store(head::STATE, volume::REBUILDING);
    crash_fence();
    outlast_probe::probe!("groove.rebuild.begun");
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
            store(at, Descriptor::free(word.generation()).0);
        }
    }
    outlast_probe::probe!("groove.rebuild.descriptors");
    crash_fence();
    // Release: partner is the Acquire of `Volume::state`.
    words.store(head::STATE, volume::OPEN, Ordering::Release);
    outlast_probe::probe!("groove.rebuild.open");
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

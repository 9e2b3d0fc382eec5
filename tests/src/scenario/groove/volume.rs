//! `groove/volume`: volumes are added and removed, with information of random length or none, against a model of
//! which there are.
//!
//! # Invariants
//! - Two joins of the same groove, as of two processes, see the same volumes at any time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use outlast_groove::{Groove, Joiner, ObjRef, RefError, VolumeError};

use crate::draw::Draw;
use crate::end::{Doing, End, require};
use crate::failed;
use crate::report::Tally;
use crate::run::{Amount, Run};
use crate::scenario::Scenario;

/// The registry's entry.
pub const SCENARIO: Scenario = Scenario {
    name: "groove/volume",
    about: "volumes come and go, with information of any length or none",
    unit: "rounds",
    needs_probes: false,
    cpus: 1,
    memory_bytes: 32 << 20,
    sample: (50, &[]),
    options: None,
    run,
};

/// Volumes that there are at most.
const VOLUMES: usize = 8;
/// Bytes of information that a volume keeps, and the longest that is offered.
const INFO_KEPT: usize = 480;
const INFO_OFFERED: usize = 960;

struct Model {
    groove: Groove,
    other: Groove,
    joiner: Joiner,
    draw: Draw,
    /// By index, the information.
    there: BTreeMap<usize, Vec<u8>>,
}

fn run(run: &Run<'_>, tally: &mut Tally) -> Result<(), End> {
    super::volume_bytes(run, VOLUMES as u64, super::VOLUME_BYTES_MIN, tally)?;
    let guard = run.place.groove_guard("volume")?;
    let groove = super::create(&guard, super::VOLUME_BYTES_MIN)?;
    let other = Groove::open(guard.domain(), guard.name()).doing("opening the groove")?;
    let joiner = groove.joiner().doing("joining")?;
    let draw = Draw::new(run.seed, 0, 0);
    let mut model = Model { groove, other, joiner, draw, there: BTreeMap::new() };
    let quick_time = Duration::from_secs(8);
    let amount = Amount { exact: None, quick: 2000, quick_time, least: 50, full: 100_000 };
    let begin = Instant::now();
    while run.goes_on(tally.iterations, begin, &amount)? {
        model.round(tally).map_err(|end| failed!("round {}: {end}", tally.iterations))?;
        tally.iterations += 1;
    }
    model.finish(tally)?;
    let left = guard.regions();
    require(left == [*guard.name()], || format!("{left:?} is left without volumes"))?;
    tally.require_some(&["added", "removed", "without_info", "clamped_infos", "refused_with_objects"])
}

impl Model {
    fn round(&mut self, tally: &mut Tally) -> Result<(), End> {
        let (one, two) = (self.draw.index(VOLUMES + 1), self.draw.index(VOLUMES + 1));
        for index in one.min(two)..one.max(two) {
            if self.there.contains_key(&index) {
                self.remove(index, tally)?;
            } else {
                let gone = self.groove.remove_volume(index);
                let is_right = matches!(gone, Err(VolumeError::Missing { index: found }) if found == index);
                require(is_right, || format!("removing {index}, which is not there, gave {gone:?}"))?;
            }
        }
        self.compare()?;
        for _ in 0..self.draw.index(VOLUMES + 1 - self.there.len()) {
            self.add(tally)?;
        }
        self.compare()
    }

    fn add(&mut self, tally: &mut Tally) -> Result<(), End> {
        let mut info = vec![0; if self.draw.once_in(2) { 0 } else { self.draw.index(INFO_OFFERED + 1) }];
        info.iter_mut().for_each(|byte| *byte = self.draw.word() as u8);
        let found = self.groove.add_volume(&info).doing("adding a volume")?;
        let lowest = (0..VOLUMES).find(|index| !self.there.contains_key(index));
        require(Some(found) == lowest, || format!("added volume {found}, expected {lowest:?}"))?;
        tally.add("added", 1);
        tally.add("without_info", u64::from(info.is_empty()));
        tally.add("clamped_infos", u64::from(INFO_KEPT < info.len()));
        info.truncate(INFO_KEPT);
        self.there.insert(found, info);
        Ok(())
    }

    /// Removes a volume; one in two is refused first, because there is an object in it.
    fn remove(&mut self, index: usize, tally: &mut Tally) -> Result<(), End> {
        let object = if self.draw.once_in(2) { self.refuse(index, tally)? } else { None };
        self.groove.remove_volume(index).doing("removing an empty volume")?;
        self.there.remove(&index);
        tally.add("removed", 1);
        let Some(object) = object else { return Ok(()) };
        match self.joiner.info(object) {
            Err(RefError::Stale { .. }) => Ok(()),
            other => Err(failed!("{object}, whose volume is gone, is {other:?}")),
        }
    }

    /// An object of a volume that was not removed because of it; it has been freed.
    fn refuse(&mut self, index: usize, tally: &mut Tally) -> Result<Option<ObjRef>, End> {
        let object = self.joiner.alloc(self.draw.below(5000), 0, 1).doing("allocating")?;
        let refused = self.groove.remove_volume(object.volume());
        let of = object.volume();
        let is_right = matches!(refused, Err(VolumeError::HoldsObjects { index, objects: 1 }) if index == of);
        require(is_right, || format!("removing {of}, which holds an object, gave {refused:?}"))?;
        tally.add("refused_with_objects", 1);
        self.joiner.free(object).doing("freeing")?;
        Ok((of == index).then_some(object))
    }

    fn compare(&self) -> Result<(), End> {
        for groove in [&self.groove, &self.other] {
            let found = groove.volumes().doing("listing the volumes")?;
            let empty = found.iter().all(|volume| volume.objects == 0 && !volume.is_draining);
            let found: BTreeMap<usize, Vec<u8>> =
                found.into_iter().map(|volume| (volume.index, volume.info)).collect();
            require(empty && found == self.there, || format!("found {found:?}, expected {:?}", self.there))?;
        }
        Ok(())
    }

    fn finish(&mut self, tally: &mut Tally) -> Result<(), End> {
        while let Some(highest) = self.there.keys().next_back().copied() {
            let found = self.groove.remove_empty_volume().doing("removing some volume")?;
            require(found == highest, || format!("removed volume {found}, expected {highest}"))?;
            self.there.remove(&highest);
            tally.add("removed", 1);
        }
        self.compare()?;
        super::remove_all_volumes(&self.groove).map(|_| ())
    }
}

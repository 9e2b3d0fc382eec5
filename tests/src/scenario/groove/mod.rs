//! Scenarios of the objects in volumes: descriptors and classes word by word, volumes that come and go, traffic of
//! threads and of processes, kills at random and after every instruction, and tables that are overwritten.
//!
//! [`page`] is the format page once more, in code that shares nothing with the crate's.
//!
//! # Invariants
//! - Volumes are as large as a scenario asks for, or as large as there is room for: then the report says so.

pub mod data;
pub mod header;
pub mod hostile;
pub mod kill;
pub mod page;
pub mod sweep;
pub mod volume;

use outlast_groove::{AllocError, CreateOptions, Groove, ObjRef, VolumeError};

use crate::draw::Draw;
use crate::end::{Doing, End, require};
use crate::failed;
use crate::place::GrooveGuard;
use crate::report::Tally;
use crate::run::Run;

/// Bytes of the smallest volume.
pub const VOLUME_BYTES_MIN: u64 = 1 << 20;
/// Left free beside the volumes: the control region, the slots, directory entries.
const MARGIN_BYTES: u64 = 8 << 20;

/// The largest volume size up to `wanted`, of which there is room for `count`.
///
/// # Errors
/// [`End::Skipped`] if there is no room for the smallest ones.
pub fn volume_bytes(run: &Run<'_>, count: u64, wanted: u64, tally: &mut Tally) -> Result<u64, End> {
    let space = run.place.domain().space().doing("asking for the space of the domain")?;
    let limits = [Some(space.available_bytes), space.control_group_bytes, space.memory_bytes];
    let room = limits.into_iter().flatten().min().unwrap_or(0);
    let size = largest(room.saturating_sub(MARGIN_BYTES) / count.max(1), wanted).ok_or_else(|| {
        let (domain, room) = (run.place.domain().path().display(), room >> 20);
        End::Skipped(format!("no room for {count} volumes of 1 MiB: {room} MiB free for {domain}"))
    })?;
    if size < wanted {
        let (size, wanted, room) = (size >> 20, wanted >> 20, room >> 20);
        tally.note(format!("volumes of {size} MiB instead of {wanted}: {room} MiB are free for regions"));
    }
    Ok(size)
}

/// The largest power of two up to `wanted` whose region is not larger than `room`.
fn largest(room: u64, wanted: u64) -> Option<u64> {
    // Tables take 3.5 % of a large volume, and up to 20 % of a small one.
    let region_bytes = |size: u64| size + size / if size < 64 << 20 { 5 } else { 20 };
    std::iter::successors(Some(wanted), |size| Some(size / 2))
        .take_while(|size| VOLUME_BYTES_MIN <= *size)
        .find(|size| region_bytes(*size) <= room)
}

/// A new groove without volumes.
///
/// # Errors
/// [`End::Failed`].
pub fn create(guard: &GrooveGuard, volume_bytes: u64) -> Result<Groove, End> {
    Groove::create(guard.domain(), guard.name(), &CreateOptions { volume_bytes }).doing("making a groove")
}

/// How many objects of the largest size an empty groove takes; they are freed again in random order.
///
/// # Errors
/// [`End::Failed`].
pub fn largest_objects(groove: &Groove, draw: &mut Draw) -> Result<u64, End> {
    let joiner = groove.joiner().doing("joining")?;
    let mut objects: Vec<ObjRef> = Vec::new();
    let full = loop {
        match joiner.alloc(groove.object_bytes_max(), 0, draw.word()) {
            Ok(object) => objects.push(object),
            Err(error) => break error,
        }
    };
    require(matches!(full, AllocError::Full { .. }), || format!("the largest objects: {full}"))?;
    let count = objects.len() as u64;
    while !objects.is_empty() {
        joiner.free(objects.swap_remove(draw.index(objects.len()))).doing("freeing a largest object")?;
    }
    Ok(count)
}

/// Ends the scenario unless `verify` finds nothing wrong and `objects` objects.
///
/// # Errors
/// [`End::Failed`].
pub fn verify(groove: &Groove, objects: u64, when: &str) -> Result<(), End> {
    let report = groove.verify().doing("verifying")?;
    require(report.is_sound(), || format!("verify {when} found {:?}", report.faults))?;
    require(report.objects == objects, || {
        format!("verify {when} found {} objects, expected {objects}", report.objects)
    })
}

/// Removes every volume of an empty groove; how many there were.
///
/// # Errors
/// [`End::Failed`] if one is not removable.
pub fn remove_all_volumes(groove: &Groove) -> Result<u64, End> {
    let volumes = groove.volumes().doing("listing the volumes")?.len() as u64;
    for _ in 0..volumes {
        groove.remove_empty_volume().doing("removing a volume in which everything was freed")?;
    }
    match groove.remove_empty_volume() {
        Err(VolumeError::NoneEmpty) => Ok(volumes),
        other => Err(failed!("removing a volume of a groove that has none gave {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_shrink_to_the_room() {
        const GIB: u64 = 1 << 30;
        assert_eq!(largest(2 * GIB, GIB), Some(GIB));
        assert_eq!(largest(GIB, GIB), Some(GIB / 2));
        assert_eq!(largest(1 << 21, GIB), Some(1 << 20));
        assert_eq!(largest(1 << 20, GIB), None);
    }
}

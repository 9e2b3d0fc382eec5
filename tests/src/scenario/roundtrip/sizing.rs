//! How large the workspace of a round trip is: 512 MiB, or the largest that fits.
//!
//! # Invariants
//! - There is room for the region and, at the same time, for a checkpoint of all of it in style raw, be they on
//!   one file system or on two. A second region, for a fresh restore, is used where there is room for it.

use std::path::Path;

use outlast_wksp::CreateOptions;

use super::options::Options;
use super::{ALLOCATIONS_MAX, SIZE_BYTES};
use crate::end::{Doing, End};
use crate::place::free_bytes;
use crate::report::Tally;
use crate::run::Run;

/// Smaller than this makes no sense: the tables alone take more than a megabyte.
const LEAST_BYTES: u64 = 1 << 20;

/// What is left free beside everything: directory entries, growth of tables, other processes.
const MARGIN_BYTES: u64 = 2 << 20;

/// Bytes of data for the regions of this run.
///
/// # Errors
/// [`End::Skipped`] if there is no room for any, [`End::Failed`] if it cannot be found out.
pub fn choose(run: &Run<'_>, options: &Options, checkpoint: &Path, tally: &mut Tally) -> Result<u64, End> {
    if let Some(pages) = options.page_cnt {
        return Ok(pages.saturating_mul(options.page_sz.bytes()));
    }
    let domain = run.place.domain();
    let space = domain.space().doing("asking for the space of the domain")?;
    let limits = [Some(space.available_bytes), space.control_group_bytes, space.memory_bytes];
    let room = limits.into_iter().flatten().min().unwrap_or(0);
    let directory =
        checkpoint.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (file_room, file_device) = free_bytes(directory)?;
    let (_, domain_device) = free_bytes(domain.path())?;
    let fits = |size: u64| {
        let (region, file) = (region_bytes(options, size), file_bytes(size));
        let shared = file_device == domain_device;
        let (in_domain, beside) = if shared { (region + file, 0) } else { (region, file) };
        in_domain + MARGIN_BYTES <= room && beside + MARGIN_BYTES <= file_room
    };
    let size = largest(fits).ok_or_else(|| {
        let (domain, room, file_room) = (domain.path().display(), room >> 20, file_room >> 20);
        let directory = directory.display();
        End::Skipped(format!("no room: {room} MiB free for {domain}, {file_room} MiB for {directory}"))
    })?;
    if size < SIZE_BYTES {
        let (size, room) = (size >> 10, room >> 20);
        tally.note(format!("workspaces of {size} KiB instead of 512 MiB: {room} MiB are free for regions"));
    }
    Ok(size)
}

fn region_bytes(options: &Options, size: u64) -> u64 {
    let create: CreateOptions = options.create(size);
    create.region_bytes().unwrap_or(u64::MAX / 4)
}

/// Most bytes of a checkpoint: payload, 64 bytes a window and 24 an allocation, some headers.
fn file_bytes(size: u64) -> u64 {
    size + size / 1024 + 32 * ALLOCATIONS_MAX as u64 + (256 << 10)
}

/// The largest size that fits, in steps of 256 KiB.
fn largest(fits: impl Fn(u64) -> bool) -> Option<u64> {
    const STEP: u64 = 256 << 10;
    if fits(SIZE_BYTES) {
        return Some(SIZE_BYTES);
    }
    let (mut low, mut high) = (LEAST_BYTES / STEP, SIZE_BYTES / STEP);
    if !fits(low * STEP) {
        return None;
    }
    while low + 1 < high {
        let middle = low.midpoint(high);
        if fits(middle * STEP) { low = middle } else { high = middle }
    }
    Some(low * STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_size_that_fits_is_found() {
        assert_eq!(largest(|_| true), Some(SIZE_BYTES));
        assert_eq!(largest(|_| false), None);
        for limit in [LEAST_BYTES, LEAST_BYTES + 1, 30 << 20, SIZE_BYTES - 1] {
            let found = largest(|size| size <= limit).unwrap();
            assert!(found <= limit && limit < found + (256 << 10), "{found} of {limit}");
        }
    }
}

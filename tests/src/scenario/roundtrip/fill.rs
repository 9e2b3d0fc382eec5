//! The allocations of a round trip, and the threads that fill and wipe them.
//!
//! # Invariants
//! - A fill stops at 8192 allocations or for want of room, for nothing else.

use outlast_wksp::{AllocError, Wksp};
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::{Deserialize, Serialize};

use super::ALLOCATIONS_MAX;
use crate::draw::Draw;
use crate::end::{Doing, End};
use crate::failed;

/// One allocation as it must come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// First byte.
    pub gaddr: u64,
    /// Bytes.
    pub size_bytes: u64,
    /// Its number, from 1 on.
    pub tag: u64,
}

/// What every byte of the allocation with this tag holds.
pub fn byte_of(tag: u64) -> u8 {
    1 + (tag % 255) as u8
}

/// Allocates until 8192 or full: sizes by a power law, 1 byte to 1 MiB.
///
/// # Errors
/// [`End::Failed`] for every error but [`AllocError::NoSpace`].
pub fn allocate(wksp: &Wksp, draw: &mut Draw) -> Result<Vec<Allocation>, End> {
    let mut made = Vec::with_capacity(ALLOCATIONS_MAX);
    while made.len() < ALLOCATIONS_MAX {
        let low_bits = draw.below(21);
        let size_bytes = 1 + (u64::from(draw.half()) & ((1 << low_bits) - 1));
        let align = 1 << draw.below(7);
        let tag = made.len() as u64 + 1;
        match wksp.alloc(size_bytes, align, tag) {
            Ok(block) => {
                let gaddr = block.gaddr().get();
                if block.size_bytes() != size_bytes || !gaddr.is_multiple_of(align) || block.tag() != tag {
                    return Err(failed!("asked for {size_bytes} bytes at {align}, tag {tag}: got {block:?}"));
                }
                made.push(Allocation { gaddr, size_bytes, tag });
            }
            Err(AllocError::NoSpace { .. }) => break,
            Err(error) => return Err(failed!("the fill stopped at allocation {tag}: {error}")),
        }
    }
    Ok(made)
}

/// The threads of a round trip.
#[derive(Debug)]
pub struct Workers(ThreadPool);

impl Workers {
    /// So many of them.
    ///
    /// # Errors
    /// [`End::Failed`] if they cannot be started.
    pub fn new(count: usize) -> Result<Self, End> {
        Ok(Self(ThreadPoolBuilder::new().num_threads(count).build().doing("starting threads")?))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.current_num_threads()
    }

    /// What each of them draws from in `iteration`.
    pub fn draws(&self, seed: u64, iteration: u64) -> Vec<Draw> {
        (0..self.count() as u64).map(|worker| Draw::new(seed, iteration, worker)).collect()
    }

    /// Calls `each` for all allocations, worker w of n for every n-th, beginning with the w-th, and its own
    /// stream of `draws`.
    ///
    /// # Errors
    /// That of the first worker that met one.
    pub fn for_all(
        &self,
        made: &[Allocation],
        draws: &[Draw],
        each: impl Fn(&Allocation, &mut Draw) -> Result<(), End> + Sync,
    ) -> Result<(), End> {
        let results = self.0.broadcast(|context| {
            let mut draw = draws[context.index()].clone();
            made.iter()
                .skip(context.index())
                .step_by(context.num_threads())
                .try_for_each(|made| each(made, &mut draw))
        });
        results.into_iter().collect()
    }

    /// Fills each allocation with its byte.
    ///
    /// # Errors
    /// [`End::Failed`] if one is outside of the workspace.
    pub fn fill(&self, wksp: &Wksp, made: &[Allocation]) -> Result<(), End> {
        self.set_all(wksp, made, byte_of)
    }

    /// Fills each allocation with zeros.
    ///
    /// # Errors
    /// As [`fill`](Self::fill).
    pub fn wipe(&self, wksp: &Wksp, made: &[Allocation]) -> Result<(), End> {
        self.set_all(wksp, made, |_| 0)
    }

    fn set_all(&self, wksp: &Wksp, made: &[Allocation], byte: impl Fn(u64) -> u8 + Sync) -> Result<(), End> {
        self.for_all(made, &self.draws(0, 0), |made, _| {
            let bytes = wksp.bytes(made.gaddr, made.size_bytes).doing("looking at an allocation")?;
            bytes.fill(0, made.size_bytes, byte(made.tag)).doing("writing to an allocation")
        })
    }
}

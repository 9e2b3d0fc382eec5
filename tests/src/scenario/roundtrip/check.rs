//! The check of a round trip: every tag, every byte, nothing else, and `verify`.

use outlast_wksp::{Gaddr, Wksp};

use super::fill::{Allocation, Workers, byte_of};
use crate::draw::Draw;
use crate::end::{Doing, End, require};
use crate::failed;

/// A way to break what was restored that the check has to notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Canary {
    /// Break nothing.
    None,
    /// One byte of payload.
    Flip,
    /// One allocation too many.
    Extra,
    /// One allocation too few.
    Lose,
}

/// Compares the workspace with what was made, and verifies it.
///
/// # Errors
/// [`End::Failed`] with the first difference.
pub fn everything(
    wksp: &Wksp,
    workers: &Workers,
    draws: &mut [Draw],
    made: &[Allocation],
) -> Result<(), End> {
    workers.for_all(made, draws, |made, draw| one(wksp, made, draw))?;
    nothing_else(wksp, made)?;
    let report = wksp.verify().doing("verifying")?;
    require(report.is_sound(), || format!("verify found {:?}", report.faults))
}

fn one(wksp: &Wksp, made: &Allocation, draw: &mut Draw) -> Result<(), End> {
    let Allocation { gaddr, size_bytes, tag } = *made;
    for offset in [0, draw.below(size_bytes), size_bytes - 1] {
        let at = Gaddr::new(gaddr + offset).ok_or_else(|| failed!("gaddr 0"))?;
        let found = wksp.tag(at).doing("asking for a tag")?;
        require(found == Some(tag), || format!("tag of byte {offset} of allocation {tag} is {found:?}"))?;
    }
    let bytes = wksp.bytes(gaddr, size_bytes).doing("looking at an allocation")?;
    let expected = byte_of(tag);
    if bytes.is_all(0, size_bytes, expected).doing("reading an allocation")? {
        return Ok(());
    }
    let mut found = vec![0; size_bytes as usize];
    bytes.read(0, &mut found).doing("reading an allocation")?;
    let wrong = found.iter().position(|byte| *byte != expected).unwrap_or(0);
    Err(failed!("byte {wrong} of {size_bytes} of allocation {tag} is {}, expected {expected}", found[wrong]))
}

fn nothing_else(wksp: &Wksp, made: &[Allocation]) -> Result<(), End> {
    let mut expected = made.to_vec();
    expected.sort_unstable_by_key(|made| made.gaddr);
    let found = wksp.partitions().doing("listing the allocations")?;
    let found: Vec<Allocation> = found
        .iter()
        .map(|found| Allocation { gaddr: found.gaddr.get(), size_bytes: found.size_bytes, tag: found.tag })
        .collect();
    let differs = expected.iter().zip(&found).find(|(expected, found)| expected != found);
    require(found == expected, || {
        format!("{} allocations instead of {}; first difference {differs:?}", found.len(), expected.len())
    })
}

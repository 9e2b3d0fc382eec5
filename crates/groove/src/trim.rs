//! Giving superblocks without objects back to the larger ones that they were cut from.
//!
//! # Invariants
//! - Beside live traffic: a superblock is closed by an exchange that fails if a slot of it was taken meanwhile.

use crate::control::Control;
use crate::layout::ROOT_COUNT;
use crate::slot;
use crate::volume::Volume;
use crate::word::Claim;

/// What was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Trimmed {
    /// Superblocks that are slots again.
    pub superblocks: u64,
    /// Roots that any class can have again.
    pub roots: u64,
}

/// Gives back every superblock of a volume that holds no object, smaller ones first, so that one pass does.
pub(crate) fn trim(volume: &Volume, control: &Control, claim: Claim) -> Trimmed {
    let words = volume.words();
    let intent = control.intent_of(claim);
    let mut trimmed = Trimmed::default();
    for at in volume.superblocks() {
        let (_, Some((class, home))) = volume.superblock(at) else { continue };
        let place = volume.place(class, home, at.root, at.offset);
        if at.level == 0 {
            trimmed.roots += u64::from(slot::release_root(&words, place, home.slots));
            continue;
        }
        let Some((parent, slot)) = volume.parent_of(home, at.root, at.offset) else { continue };
        let claim = claim.with_class(home.parent);
        let announce = |word| intent.announce(volume.index, word);
        trimmed.superblocks +=
            u64::from(slot::release(&words, place, home.slots, parent, slot, claim, announce));
    }
    debug_assert!(trimmed.roots <= u64::from(ROOT_COUNT));
    trimmed
}

//! The two words that everything is about: a block's descriptor and a superblock's slots.
//!
//! # Invariants
//! - The all-zero descriptor is free, of generation 0; the all-zero superblock is none.
//! - Packing and unpacking are inverse for every value that a constructor takes.

use crate::layout::{CLASS_NONE, SEAT_MAX};

/// State of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// No object begins at this block.
    Free,
    /// A seat holds the slot that begins here, for the few instructions of taking it, or of making or
    /// releasing a superblock there.
    Held,
    /// An object begins here. The only state that is truth.
    Live,
    /// A seat is giving the slot back.
    Freeing,
    /// No generation is left for this block.
    Retired,
    /// None of these.
    Damaged,
}

/// A descriptor's first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptor(pub(crate) u64);

impl Descriptor {
    pub(crate) const fn free(generation: u32) -> Self {
        Self((generation as u64) << 32)
    }

    /// Of an object. `align_log2` is below 16, `size_bytes` below 2^24.
    #[inline]
    pub(crate) const fn live(generation: u32, size_bytes: u32, align_log2: u32) -> Self {
        Self((generation as u64) << 32 | (size_bytes as u64) << 8 | (align_log2 as u64) << 4 | 2)
    }

    /// The same of another generation.
    #[inline]
    pub(crate) const fn with_generation(self, generation: u32) -> Self {
        Self((generation as u64) << 32 | self.0 & 0xffff_ffff)
    }

    #[inline]
    pub(crate) const fn held(generation: u32, claim: Claim) -> Self {
        Self((generation as u64) << 32 | (claim.0 as u64) << 8 | 1)
    }

    #[inline]
    pub(crate) const fn freeing(generation: u32, claim: Claim) -> Self {
        Self((generation as u64) << 32 | (claim.0 as u64) << 8 | 3)
    }

    pub(crate) const fn retired() -> Self {
        Self((u32::MAX as u64) << 32 | 4)
    }

    #[inline]
    pub(crate) const fn state(self) -> State {
        match self.0 & 0xf {
            0 => State::Free,
            1 => State::Held,
            2 => State::Live,
            3 => State::Freeing,
            4 => State::Retired,
            _ => State::Damaged,
        }
    }

    #[inline]
    pub(crate) const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Bytes that the object was asked for, if it is one.
    #[inline]
    pub(crate) const fn size_bytes(self) -> u32 {
        (self.0 >> 8) as u32 & 0xff_ffff
    }

    /// The object's alignment as a power of two, if it is one.
    #[inline]
    pub(crate) const fn align_log2(self) -> u32 {
        (self.0 >> 4) as u32 & 0xf
    }

    /// Whose slot it is, if held or freeing.
    #[inline]
    pub(crate) const fn claim(self) -> Claim {
        Claim(self.size_bytes())
    }

    /// Whether it is the object of this generation.
    #[inline]
    pub(crate) const fn is_live(self, generation: u32) -> bool {
        matches!(self.state(), State::Live) && self.generation() == generation
    }
}

/// Who holds a slot, and of which class it is: 6 bits of class, 10 of seat, 8 that count the seat's owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim(u32);

impl Claim {
    #[inline]
    pub(crate) const fn new(seat: u32, sequence: u32, class: usize) -> Self {
        Self(class as u32 & 0x3f | (seat & (SEAT_MAX as u32 - 1)) << 6 | (sequence & 0xff) << 16)
    }

    #[inline]
    pub(crate) const fn with_class(self, class: usize) -> Self {
        Self(self.0 & !0x3f | class as u32 & 0x3f)
    }

    pub(crate) const fn class(self) -> usize {
        self.0 as usize & 0x3f
    }

    /// Number of the seat.
    pub(crate) const fn seat(self) -> u32 {
        self.0 >> 6 & (SEAT_MAX as u32 - 1)
    }

    /// Whether both are of one owner, whatever the classes.
    pub(crate) const fn is_same_owner(self, other: Self) -> bool {
        self.0 & !0x3f == other.0 & !0x3f
    }
}

const _: () = assert!(SEAT_MAX == 1 << 10);

/// First bit of a superblock's class.
const CLASS_SHIFT: u32 = 58;
/// The bits below it that slots may have.
const SLOT_BITS: u64 = (1 << CLASS_SHIFT) - 1;

/// A superblock's slots: its class and a bit for each slot that is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slots(pub(crate) u64);

impl Slots {
    /// Not a superblock.
    pub(crate) const NONE: Self = Self(0);
    /// A root that can become one.
    pub(crate) const OPEN: Self = Self(62 << CLASS_SHIFT);

    /// Of a class, with the slots of `free`.
    #[inline]
    pub(crate) const fn new(class: usize, free: u64) -> Self {
        Self((class as u64 + 1) << CLASS_SHIFT | free & SLOT_BITS)
    }

    /// Its class; [`CLASS_NONE`] if it has none.
    #[inline]
    pub(crate) const fn class(self) -> usize {
        match (self.0 >> CLASS_SHIFT) as usize {
            0 | 62 | 63 => CLASS_NONE,
            code => code - 1,
        }
    }

    /// The slots that are free.
    #[inline]
    pub(crate) const fn free(self) -> u64 {
        self.0 & SLOT_BITS
    }

    #[inline]
    pub(crate) const fn has(self, slot: u32) -> bool {
        self.0 & 1 << slot != 0
    }

    #[inline]
    pub(crate) const fn without(self, slot: u32) -> Self {
        Self(self.0 & !(1 << slot))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn descriptors_unpack_what_was_packed(generation: u32, size in 0..1_u32 << 24, align in 0..16_u32,
            seat in 0..SEAT_MAX as u32, sequence: u8, class in 0..53_usize)
        {
            let live = Descriptor::live(generation, size, align);
            prop_assert_eq!((live.state(), live.generation()), (State::Live, generation));
            prop_assert_eq!((live.size_bytes(), live.align_log2()), (size, align));
            prop_assert!(live.is_live(generation) && !live.is_live(generation ^ 1));
            prop_assert_eq!(Descriptor::live(0, size, align).with_generation(generation), live);
            let claim = Claim::new(seat, sequence.into(), class);
            prop_assert_eq!(claim.seat(), seat);
            prop_assert_eq!(claim.with_class(class ^ 1).with_class(class), claim);
            for (word, state) in [
                (Descriptor::held(generation, claim), State::Held),
                (Descriptor::freeing(generation, claim), State::Freeing),
            ] {
                prop_assert_eq!((word.state(), word.generation(), word.claim()), (state, generation, claim));
            }
            let free = Descriptor::free(generation);
            prop_assert_eq!((free.state(), free.generation()), (State::Free, generation));
        }

        #[test]
        fn slots_unpack_what_was_packed(class in 0..53_usize, free in 0..1_u64 << 53, slot in 0..53_u32) {
            let slots = Slots::new(class, free);
            prop_assert_eq!((slots.class(), slots.free()), (class, free));
            prop_assert_eq!(slots.has(slot), free & 1 << slot != 0);
            prop_assert_eq!(slots.without(slot), Slots::new(class, free & !(1 << slot)));
        }
    }

    #[test]
    fn zeros_are_free_and_none() {
        assert_eq!(Descriptor(0), Descriptor::free(0));
        assert_eq!(Slots(0), Slots::NONE);
        assert_eq!((Slots::NONE.class(), Slots::OPEN.class()), (CLASS_NONE, CLASS_NONE));
        assert_eq!(Descriptor::retired().state(), State::Retired);
    }
}

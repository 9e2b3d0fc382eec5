//! Names of objects, and what is to be known of one.
//!
//! # Invariants
//! - The all-zero reference is null: generations begin at 1.

use core::fmt;

/// The name of an object: plain data of eight bytes that mean the same in every process, to be stored in shared
/// memory, and checked whenever it is used.
///
/// Once the object is freed no other ever has the same name: the block's generation goes up, and a block whose
/// generations are used up is retired.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C)]
pub struct ObjRef {
    /// 10 bits of volume, 6 of root, 16 of block in the root.
    block: u32,
    generation: u32,
}

impl ObjRef {
    /// The reference to nothing.
    pub const NULL: Self = Self { block: 0, generation: 0 };

    #[inline]
    pub(crate) const fn new(volume: usize, root: u32, offset: u32, generation: u32) -> Self {
        Self { block: (volume as u32) << 22 | root << 16 | offset, generation }
    }

    /// From what [`to_bits`](Self::to_bits) gave; any number is a reference, and most lead nowhere.
    pub const fn from_bits(bits: u64) -> Self {
        Self { block: bits as u32, generation: (bits >> 32) as u32 }
    }

    /// As one number: block in the low half, generation in the high one.
    pub const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.block as u64
    }

    /// Whether it is the reference to nothing.
    pub const fn is_null(self) -> bool {
        self.generation == 0
    }

    /// The block that the object begins with, volume and all.
    pub const fn block(self) -> u32 {
        self.block
    }

    /// How many objects had begun with this block, with this one.
    #[inline]
    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// Index of the object's volume.
    #[inline]
    pub const fn volume(self) -> usize {
        (self.block >> 22) as usize
    }

    #[inline]
    pub(crate) const fn root(self) -> u32 {
        self.block >> 16 & 0x3f
    }

    #[inline]
    pub(crate) const fn offset(self) -> u32 {
        self.block & 0xffff
    }
}

impl fmt::Display for ObjRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_null() {
            return f.write_str("null");
        }
        write!(f, "{}.{}.{}#{}", self.volume(), self.root(), self.offset(), self.generation)
    }
}

impl fmt::Debug for ObjRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjRef({self})")
    }
}

/// What is to be known of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// Its name.
    pub reference: ObjRef,
    /// Bytes that were asked for.
    pub size_bytes: u64,
    /// Alignment of its first byte.
    pub align: u64,
    /// Its tag.
    pub tag: u64,
    /// Its size class.
    pub class: usize,
    /// Its number in its superblock.
    pub slot: u32,
    /// First byte, in its volume's data.
    pub start: u64,
    /// After the last byte that is reserved for it.
    pub stop: u64,
}

const _: () = assert!(size_of::<ObjRef>() == 8);

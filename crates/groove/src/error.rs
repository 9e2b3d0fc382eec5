//! What can go wrong, one enum for each family of operations.
//!
//! # Invariants
//! - An operation that returns an error has changed no object.

use core::fmt;

use outlast_shm::{LockError, NameError, RegionError};

use crate::object::ObjRef;

/// One place in the tables that is not what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fault {
    /// Which rule is broken.
    pub what: FaultKind,
    /// Index of the volume.
    pub volume: usize,
    /// Byte offset in the volume's region of the word that was read.
    pub at: u64,
    /// What the rule asks for.
    pub expected: u64,
    /// What is there.
    pub found: u64,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, volume, at, expected, found } = self;
        write!(f, "{what} in volume {volume} at offset {at:#x}: expected {expected:#x}, found {found:#x}")
    }
}

impl core::error::Error for Fault {}

macro_rules! fault_kinds {
    ($($(#[doc = $doc:literal])+ $name:ident => $text:literal,)*) => {
        /// Which rule of the layout is broken.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum FaultKind { $($(#[doc = $doc])+ $name,)* }

        impl fmt::Display for FaultKind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$name => $text,)* })
            }
        }
    };
}

fault_kinds! {
    /// The static words of a header do not match their check.
    Header => "header check",
    /// The volume's header is of another groove, index or size.
    Identity => "volume identity",
    /// A superblock's word is of no class that it can have.
    Class => "superblock class",
    /// A superblock has bits beyond its slots.
    SlotBits => "slot bits",
    /// A descriptor is in no known state.
    State => "descriptor state",
    /// An object's size or alignment is impossible where it is.
    Extent => "object extent",
    /// An object lies where its superblocks have none, or two overlap.
    Overlap => "object outside of its superblocks",
    /// A free slot holds an object or a superblock.
    FreeSlot => "free slot in use",
    /// A slot is neither free nor in use: a call was cut short there.
    LostSlot => "slot neither free nor in use",
}

/// Why a groove or a volume could not be entered, whatever was to be done in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// A region failed.
    #[error("{0}")]
    Region(#[from] RegionError),
    /// The lock of the table of volumes could not be had.
    #[error("lock of the groove: {0}")]
    Lock(#[from] LockError),
    /// The tables are damaged.
    #[error("damaged groove: {0} (`rebuild` makes everything anew but the objects themselves)")]
    Corrupt(#[from] Fault),
    /// A rebuild of this volume was interrupted.
    #[error("volume {volume} is being rebuilt, or a rebuild was interrupted: rebuild the groove")]
    Rebuilding {
        /// Index of the volume.
        volume: usize,
    },
    /// The file of this volume is another one than the groove knows.
    #[error("the file of volume {volume} was replaced: rebuild the groove")]
    Replaced {
        /// Index of the volume.
        volume: usize,
    },
    /// This process is not where it entered itself in the joiner table: somebody has written over it.
    #[error("this process is not in slot {slot} of the joiner table any more: open the groove again")]
    NoPlace {
        /// The slot.
        slot: usize,
    },
    /// Every seat is taken.
    #[error("all {max} seats of the groove are taken: let threads share, or leave")]
    Seats {
        /// How many there are.
        max: usize,
    },
}

/// Why a groove could not be made or rebuilt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The size of volumes is none.
    #[error("a volume has a power of two of bytes from {min} to {max}, not {found}")]
    VolumeSize {
        /// What was asked for.
        found: u64,
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// The name leaves no room for those of its volumes.
    #[error("the name {name} is longer than the {max} characters that leave room for `.v0000`")]
    LongName {
        /// The name.
        name: String,
        /// Characters that it may have.
        max: usize,
    },
    /// There is no volume to rebuild from.
    #[error("no volume of a groove {name} is in the domain")]
    NoVolume {
        /// The name.
        name: String,
    },
    /// Somebody may be using the groove that is to be rebuilt.
    #[error("{name} is joined by others: a rebuild needs it for itself")]
    Busy {
        /// The region.
        name: String,
    },
    /// The volumes are not of one groove.
    #[error("{name} is of another groove than the other volumes: move it out of the domain")]
    Mixed {
        /// The volume's region.
        name: String,
    },
    /// As for any use.
    #[error("{0}")]
    Access(#[from] AccessError),
    /// A region failed.
    #[error("{0}")]
    Region(#[from] RegionError),
    /// A name is none.
    #[error("{0}")]
    Name(#[from] NameError),
}

/// Why a volume was not added, drained or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// The groove has all the volumes that it can.
    #[error("the groove has {max} volumes already")]
    TooMany {
        /// How many there may be.
        max: usize,
    },
    /// No such volume.
    #[error("the groove has no volume {index}")]
    Missing {
        /// What was asked for.
        index: usize,
    },
    /// No volume is empty.
    #[error("no volume is empty: drain one, or free its objects")]
    NoneEmpty,
    /// The volume holds objects.
    #[error("volume {index} holds {objects} objects: drain it, or choose another")]
    HoldsObjects {
        /// Its index.
        index: usize,
        /// How many; 0 if only a call that is under way, or was cut short, is in the way.
        objects: u64,
    },
    /// As for any use.
    #[error("{0}")]
    Access(#[from] AccessError),
    /// A region failed.
    #[error("{0}")]
    Region(#[from] RegionError),
}

/// Why there was no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FullCause {
    /// The groove has no volume that is not being drained.
    NoVolume,
    /// The last slots that would do are held by somebody in the middle of a call.
    Held {
        /// One such seat.
        seat: u32,
    },
    /// There are free bytes, in slots too small or of superblocks that are in use.
    Fragmented {
        /// Bytes that are free, in whatever pieces.
        free_bytes: u64,
        /// Those of superblocks without objects; more than a few only if others are just freeing.
        reclaimable_bytes: u64,
    },
}

impl fmt::Display for FullCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVolume => f.write_str("there is no volume to allocate in: add one"),
            Self::Held { seat } => {
                write!(f, "the last slots are held by seat {seat} in the middle of a call: try again")
            }
            Self::Fragmented { free_bytes, reclaimable_bytes } => write!(
                f,
                "{free_bytes} bytes are free in other pieces, {reclaimable_bytes} of them in empty superblocks: \
                 add a volume"
            ),
        }
    }
}

/// Why nothing was allocated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AllocError {
    /// No volume of this size holds such an object.
    #[error("{size_bytes} bytes: objects of this groove have at most {max_bytes}")]
    TooLarge {
        /// What was asked for.
        size_bytes: u64,
        /// The largest there may be.
        max_bytes: u64,
    },
    /// The alignment is none.
    #[error("alignment {align}: an alignment is a power of two up to 512, or 0 for 16")]
    Align {
        /// What was asked for.
        align: u64,
    },
    /// There is no room.
    #[error("no room for {size_bytes} bytes: {cause}")]
    Full {
        /// What was asked for.
        size_bytes: u64,
        /// Why.
        cause: FullCause,
    },
    /// As for any use.
    #[error("{0}")]
    Access(#[from] AccessError),
}

/// Why a reference leads to no object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefError {
    /// It is the null reference.
    #[error("null reference")]
    Null,
    /// It is of a volume that this groove has not, or of a block that volumes of this size have not.
    #[error("{reference} is not of this groove: it has no such block")]
    Foreign {
        /// The reference.
        reference: ObjRef,
    },
    /// No object with this reference was ever given out.
    #[error("{reference} was never given out")]
    NeverAllocated {
        /// The reference.
        reference: ObjRef,
    },
    /// It leads into the middle of an object.
    #[error("{reference} leads into {object}, not to its beginning")]
    Interior {
        /// The reference.
        reference: ObjRef,
        /// The object's own.
        object: ObjRef,
    },
    /// The object has been freed, and its block not been used since.
    #[error("{reference} has been freed already")]
    AlreadyFreed {
        /// The reference.
        reference: ObjRef,
    },
    /// The object has been freed, and its block been used again.
    #[error("{reference} has been freed, and its block is of generation {found} by now")]
    Stale {
        /// The reference.
        reference: ObjRef,
        /// The block's generation.
        found: u32,
    },
    /// The range is not within the object.
    #[error("bytes {start} to {end} of an object of {size_bytes}")]
    Range {
        /// The first byte.
        start: u64,
        /// After the last byte.
        end: u64,
        /// What the object has.
        size_bytes: u64,
    },
    /// As for any use.
    #[error("{0}")]
    Access(#[from] AccessError),
}

impl From<Fault> for AllocError {
    fn from(fault: Fault) -> Self {
        Self::Access(fault.into())
    }
}

impl From<Fault> for RefError {
    fn from(fault: Fault) -> Self {
        Self::Access(fault.into())
    }
}

impl From<Fault> for VolumeError {
    fn from(fault: Fault) -> Self {
        Self::Access(fault.into())
    }
}

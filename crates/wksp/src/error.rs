//! What can go wrong, one enum for each family of operations.

use core::fmt;

use outlast_shm::{LockError, LockHolder, RegionError};

use crate::gaddr::Gaddr;

/// One place in the workspace's tables that is not what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fault {
    /// Which rule is broken.
    pub what: FaultKind,
    /// Byte offset in the region of the word that was read.
    pub at: u64,
    /// What the rule asks for.
    pub expected: u64,
    /// What is there.
    pub found: u64,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, at, expected, found } = self;
        write!(f, "{what} at region offset {at:#x}: expected {expected:#x}, found {found:#x}")
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
    /// The static words of the header do not match their hash or the region's length.
    Geometry => "workspace geometry",
    /// A sealed word of the header does not open.
    HeaderSeal => "sealed header word",
    /// The header's state is none of the known ones.
    State => "workspace state",
    /// A reserved word is not 0.
    Reserved => "reserved word",
    /// A word names a slot at or beyond the high-water mark.
    SlotIndex => "slot index",
    /// A slot's check does not match its words.
    SlotCheck => "slot check",
    /// A slot is of another kind than the place that names it asks for.
    SlotKind => "slot kind",
    /// A slot's range is empty, misaligned or outside the data region.
    Range => "block range",
    /// A partition does not begin where the one before it ends.
    Adjacency => "partition adjacency",
    /// Two holes lie side by side.
    SplitHole => "adjacent holes",
    /// The neighbour by address does not link back.
    AddressLink => "address link",
    /// The neighbour in the class list does not link back.
    ClassLink => "class link",
    /// A hole is kept in the list of another class.
    Class => "hole class",
    /// A class's bit and its list do not agree.
    Bitmap => "class bitmap",
    /// The idle list does not hold exactly the idle slots.
    IdleList => "idle list",
    /// A page map entry does not open or names the wrong slot.
    PageMap => "page map entry",
    /// A slot that was never used is not all zero.
    Virgin => "unused slot",
    /// Two allocations overlap.
    Overlap => "overlapping allocations",
    /// An allocation has no tag, and no call was freeing or making it.
    LostTag => "tag of an allocation",
    /// A slot of an epoch that is over still carries a tag.
    StaleTag => "tag of an earlier epoch",
    /// The change counter is odd though nobody is changing anything.
    Sequence => "change counter",
}

/// Why a workspace could not be entered, whatever was to be done in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// The lock could not be had.
    #[error("workspace lock: {0}")]
    Lock(#[from] LockError),
    /// The tables are damaged; `verify` lists every fault, `rebuild` mends the index, `reset` empties.
    #[error(
        "damaged workspace: {0} (`verify` lists every fault; `rebuild` mends what is not an allocation itself)"
    )]
    Corrupt(#[from] Fault),
    /// A restore in place was interrupted: the contents are neither the old ones nor the new ones.
    #[error("restore {id:032x} was interrupted: restore again or reset")]
    Restoring {
        /// Id of the checkpoint that was being restored.
        id: u128,
    },
    /// The workspace of this name was replaced by a restore; this join still maps the old one.
    #[error("this workspace was replaced by a restore: attach again")]
    Replaced,
    /// The region below failed.
    #[error("{0}")]
    Region(#[from] RegionError),
}

/// Why a workspace could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The size asked for is 0 or more than 32 TiB.
    #[error("a workspace holds 1 byte to 32 TiB, not {size_bytes} bytes")]
    Size {
        /// What was asked for.
        size_bytes: u64,
    },
    /// The region could not be made.
    #[error("{0}")]
    Region(#[from] RegionError),
    /// The new workspace could not be set up.
    #[error("{0}")]
    Access(#[from] AccessError),
}

/// Why nothing was allocated. The workspace is unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AllocError {
    /// An allocation has at least 1 byte.
    #[error("size 0: an allocation has at least 1 byte")]
    ZeroSize,
    /// Tag 0 marks free space.
    #[error("tag 0: a tag is at least 1")]
    ZeroTag,
    /// The alignment is no power of two.
    #[error("alignment {align}: an alignment is a power of two")]
    Align {
        /// What was asked for.
        align: u64,
    },
    /// No hole fits.
    #[error(
        "no hole fits {size_bytes} bytes at alignment {align}: the largest hole has {largest_bytes} bytes, {free_bytes} are free in all"
    )]
    NoSpace {
        /// What was asked for.
        size_bytes: u64,
        /// What was asked for.
        align: u64,
        /// Bytes of the largest hole, whatever its alignment.
        largest_bytes: u64,
        /// Bytes of all holes.
        free_bytes: u64,
    },
    /// The slot table is full and the file system has no room to let it grow.
    #[error("the slot table cannot grow beyond {slots} slots: {source}")]
    Table {
        /// Slots that there are.
        slots: u64,
        /// Why the file could not grow.
        source: RegionError,
    },
    /// The workspace could not be entered.
    #[error("{0}")]
    Access(#[from] AccessError),
}

/// Why nothing was freed. The workspace is unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FreeError {
    /// The address is outside the data region.
    #[error("gaddr {gaddr} is outside the workspace, whose last byte is at {last}")]
    OutOfRange {
        /// The address.
        gaddr: Gaddr,
        /// The last address there is.
        last: u64,
    },
    /// The address lies in no allocation: never allocated, or freed already.
    #[error("gaddr {gaddr} lies in no allocation")]
    NotAllocated {
        /// The address.
        gaddr: Gaddr,
    },
    /// This very block was freed already, or is of another workspace.
    #[error("the block at gaddr {gaddr} is stale: its stamp is {expected}, the slot is at {found}")]
    Stale {
        /// Where the block was.
        gaddr: Gaddr,
        /// The block's stamp.
        expected: u64,
        /// The stamp that its slot has now.
        found: u64,
    },
    /// The workspace could not be entered.
    #[error("{0}")]
    Access(#[from] AccessError),
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// A read-only join saw the tables change under it every time it looked.
    #[error("the tables changed during each of {tries} looks{}", holder_text(.holder))]
    Unstable {
        /// How often it looked.
        tries: u32,
        /// Who holds the lock, if anybody does. A dead one leaves its change to the next joiner that writes.
        holder: Option<LockHolder>,
    },
    /// The address or range is outside the data region.
    #[error("{len} bytes at gaddr {gaddr} are outside the workspace of {data_bytes} bytes")]
    OutOfRange {
        /// First byte.
        gaddr: u64,
        /// Bytes.
        len: u64,
        /// Bytes of the data region.
        data_bytes: u64,
    },
    /// The address lies in no allocation.
    #[error("gaddr {gaddr} lies in no allocation")]
    NotAllocated {
        /// The address.
        gaddr: Gaddr,
    },
    /// The workspace could not be entered.
    #[error("{0}")]
    Access(#[from] AccessError),
}

fn holder_text(holder: &Option<LockHolder>) -> String {
    holder.as_ref().map_or_else(String::new, |holder| format!("; the lock is held by {holder}"))
}

/// Why an attach, or another call by name, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The region could not be joined.
    #[error("{0}")]
    Region(#[from] RegionError),
    /// It is a workspace's region, but its header is damaged.
    #[error("damaged workspace: {0}")]
    Corrupt(#[from] Fault),
}

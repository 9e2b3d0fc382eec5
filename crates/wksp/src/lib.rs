//! A workspace: an allocator inside a shared memory region that any process may use and any process may leave
//! by dying.
//!
//! - Allocations have a size, an alignment and a tag, and are named by a [`Gaddr`] that means the same in every
//!   process and in every checkpoint.
//! - Any joiner frees anything; [`Block`] makes a double free an error for ever.
//! - What a call has returned survives SIGKILL of any process at any instruction. The next call, whoever makes
//!   it, finishes what the dead one left.
//! - Every word of the tables carries a check. Damage is a typed [`Fault`] that says what, where, what was
//!   expected and what was found; it is never a panic, a hang or a lock left held.
//! - Read-only joins ([`Reader`]) ask without the lock and without a store, and so does [`Watch`], which reads
//!   what every joiner has counted.
//!
//! ```
//! use outlast_wksp::{CreateOptions, DEFAULT_ALIGN, Wksp};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let wksp = Wksp::anonymous(&CreateOptions::with_size(1 << 20))?;
//! let block = wksp.alloc(5000, DEFAULT_ALIGN, 42)?;
//! wksp.bytes(block.gaddr().get(), block.size_bytes())?.fill(0, block.size_bytes(), 0xab)?;
//! assert_eq!(wksp.usage(&[42])?.matched_bytes, 5000);
//! assert_eq!(wksp.tag_free(&[42])?, (1, 5000));
//! assert!(wksp.verify()?.is_sound());
//! # Ok(())
//! # }
//! ```
//!
//! # How it is built
//! The truth is a table of 64-byte slots, one for each allocation, each committed by the store of its tag. Lists
//! and maps over them only make calls fast and can be rebuilt from them at any time. docs/format/wksp.md has
//! the bytes; ARCHITECTURE.md the reasons.
//!
//! # What it does not do
//! - It does not protect payload: a process that has joined may write any byte. Metadata that it damages is
//!   noticed, payload is yours.
//! - It does not order payload between processes; bring your own protocol.
//! - It gives no references into shared memory: bytes are copied, or reached through [`SharedBytes`].
//! - Calls take one lock. For small objects from many threads at once this is not the tool.

mod alloc;
#[cfg(feature = "checkpoint")]
mod checkpoint;
mod class;
mod counter;
mod error;
mod gaddr;
mod index;
mod layout;
mod query;
mod reader;
mod rebuild;
mod seal;
mod tables;
mod verify;
mod watch;
mod wksp;

#[cfg(feature = "checkpoint")]
pub use checkpoint::{CheckpointError, RestoreError, RestoreMode, RestoreOptions, Restored};
pub use counter::{Counter, Counters};
pub use error::{AccessError, AllocError, AttachError, CreateError, Fault, FaultKind, FreeError, QueryError};
pub use gaddr::{Address, AddressError, Block, Gaddr};
pub use layout::layout_table;
#[cfg(feature = "checkpoint")]
pub use outlast_checkpt::{Cancel, Progress, Style, Summary, WriteOptions as CheckpointOptions};
pub use outlast_shm::{Domain, PageSize, RegionName, SharedBytes};
pub use query::{DEFAULT_ALIGN, Partition, Usage};
pub use reader::Reader;
pub use verify::Report;
pub use watch::{
    Change, Comparison, Gate, JoinerChange, JoinerCounters, JoinerKey, JoinerState, SNAPSHOT_SCHEMA, Series,
    Snapshot, Value, Values, Watch, WatchError, WatchStop,
};
pub use wksp::{CreateOptions, REGION_KIND, Wksp};

//! Named shared memory regions that survive the death of any process that uses them.
//!
//! A [`Region`] is a file in a [`Domain`] directory (or an anonymous one, handed over by descriptor), mapped
//! by every process that joins it. The region itself keeps three things: a *static header* that says what it
//! is, a *joiner table* that says who uses it and whether they are alive, and a *lock* that can be taken from
//! a dead holder. The rest belongs to the layer above, which sees it as [`Words`] and [`SharedBytes`].
//!
//! ```
//! use std::time::Duration;
//! use outlast_probe::sync::Ordering;
//! use outlast_shm::{Domain, Draft, Region, Spec, USER_OFFSET};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("domain");
//! let domain = Domain::open(&path)?;
//! let name = "counter".parse()?;
//! let spec = Spec::new(u64::from_le_bytes(*b"counter\n"), 1, USER_OFFSET + 4096);
//!
//! // One process makes the region; nobody sees it before it is whole.
//! let region = Draft::new(&domain, &name, &spec)?.publish()?;
//!
//! // Any process of the same user joins it by name.
//! let joined = Region::open(&domain, &name, &spec.expect())?;
//! let mut guard = joined.lock(Duration::from_secs(1))?;
//! if guard.needs_recovery() {
//!     guard.mark_recovered(); // a holder died; one counter has nothing to put right
//! }
//! let words = joined.words(USER_OFFSET..USER_OFFSET + 8)?;
//! words.store(0, words.load(0, Ordering::Relaxed) + 1, Ordering::Relaxed);
//! drop(guard);
//!
//! assert_eq!(region.words(USER_OFFSET..USER_OFFSET + 8)?.load(0, Ordering::Relaxed), 1);
//! domain.unlink(&name)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Invariants
//! - **A peer cannot make this process misbehave.** Whatever bytes another process of the same user writes
//!   into a region, no call panics, touches memory outside of the region or waits beyond its timeout. No safe
//!   function yields a reference into a region. (A peer that truncates the file or debugs the process is
//!   outside of this promise.)
//! - **Nobody sees half a region.** A file gets its name only when it is whole; its mode is exact; its pages
//!   are reserved, so a full file system is an error now and not a signal later.
//! - **Dead means proved dead.** A joiner holds a kernel lock that ends with it, in whatever namespace it
//!   lives; who cannot be judged counts as alive and is never robbed.
//! - **Every wait ends.** At the timeout with an error that names the holder, or within 50 ms of its death
//!   with the lock.
//!
//! # What it does not do
//! It does not know what a region holds, allocate in it, or make a change of several words atomic: a holder
//! that dies leaves what it had stored, and the next one is told to put it right. It does not protect the
//! bytes from processes of the same user. Huge pages and placement on NUMA nodes are refused, not ignored.
//! It needs Linux 5.1 or newer on a 64-bit little-endian machine, and `/proc` for handing over descriptors.
//!
//! The bytes of a region are described in `docs/format/region.md` of the repository.

mod bytes;
mod counters;
mod domain;
mod draft;
mod error;
mod header;
mod join;
mod joiner;
mod layout;
mod lock;
mod mem;
mod name;
mod region;
mod space;
mod spec;
mod sys;

pub use bytes::SharedBytes;
pub use counters::Block as CounterBlock;
pub use domain::{Domain, Listing, RegionInfo};
pub use draft::Draft;
pub use error::{DomainError, JoinError, LockError, RangeError, RegionError, SpaceLimit};
pub use joiner::{JoinerInfo, JoinerSlot, Liveness};
pub use layout::{COUNTER_MAX, JOINER_MAX, USER_OFFSET, layout_table};
pub use lock::guard::LockGuard;
pub use lock::{LockHolder, LockState};
pub use mem::{Mem, Words};
pub use name::{NameError, RegionName};
pub use region::{Access, ReadOnly, ReadWrite, Region, Span};
pub use space::Space;
pub use spec::{Expect, PageSize, PageSizeError, Spec};

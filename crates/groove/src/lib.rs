//! Lock-free objects in shared volumes, for many threads of many processes, any of which may die at any
//! instruction.
//!
//! - A [`Groove`] is a set of *volumes*, regions of shared memory that are added and removed at run time.
//! - A [`Joiner`] is one thread's way in: it allocates, frees, and copies objects of 0 B to 10 MiB in and out.
//! - An [`ObjRef`] names an object: eight bytes of plain data that mean the same in every process and are checked
//!   whenever they are used. Once an object is freed, no other has the same name.
//! - What a call has returned survives SIGKILL of any process. [`Groove::rebuild`] makes a groove from its volumes
//!   alone.
//!
//! ```
//! use outlast_groove::{CreateOptions, Groove, RefError};
//! use outlast_shm::Domain;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("domain");
//! let domain = Domain::open(&path)?;
//! let groove = Groove::create(&domain, &"example".parse()?, &CreateOptions { volume_bytes: 1 << 20 })?;
//! groove.add_volume(b"")?;
//! let joiner = groove.joiner()?;
//! let object = joiner.alloc(5, 0, 42)?;
//! joiner.write(object, 0, b"hello")?;
//!
//! // The number can be stored in shared memory, and any process turns it back, with a check.
//! let stored: u64 = object.to_bits();
//! let other = Groove::open(&domain, &"example".parse()?)?.joiner()?;
//! let mut text = [0; 5];
//! other.read(outlast_groove::ObjRef::from_bits(stored), 0, &mut text)?;
//! assert_eq!(&text, b"hello");
//! other.free(object)?;
//! assert!(matches!(joiner.free(object), Err(RefError::AlreadyFreed { .. })));
//! # Ok(())
//! # }
//! ```
//!
//! # How it is built
//! A volume has a *descriptor* of 16 bytes for every block of 512. An object exists if and only if the descriptor of
//! its first block says so; that is the whole truth. Superblocks cut the volume into slots of a class, each with one
//! word that holds the class and a bit for each slot that is free; they make calls fast and can be made anew from
//! the descriptors. docs/format/groove.md has the bytes, the states and what a kill leaves of each step.
//!
//! # What it does not do
//! - It does not order or protect payload: bring your own protocol.
//! - It gives no references into shared memory: bytes are copied.
//! - An object that was allocated and whose reference was stored nowhere, because its owner died, is found by its
//!   tag only ([`Joiner::objects`]).

mod adopt;
mod bitset;
mod class;
mod control;
mod error;
mod groove;
mod joiner;
mod layout;
#[cfg(test)]
mod model;
mod object;
mod rebuild;
mod search;
mod slot;
mod trim;
mod verify;
mod volume;
mod word;

pub use adopt::Adopted;
pub use error::{AccessError, AllocError, CreateError, Fault, FaultKind, FullCause, RefError, VolumeError};
pub use groove::{CreateOptions, Groove, VolumeInfo};
pub use joiner::Joiner;
pub use layout::layout_table;
pub use object::{ObjRef, ObjectInfo};
pub use rebuild::Rebuilt;
pub use trim::Trimmed;
pub use verify::Report;

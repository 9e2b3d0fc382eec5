//! A checkpoint file: partitions of bytes, written in parallel, checked to the last bit.
//!
//! [`write_file`] takes a list of [`Partition`]s and a [`Source`] of their bytes and publishes one file, whole
//! or not at all. [`Checkpoint::open`] reads that file back: it checks everything but the bytes themselves,
//! [`Checkpoint::verify`] lists every fault of the rest, and [`Checkpoint::restore`] hands the bytes to a
//! [`Sink`], each window only after it was decoded and found right.
//!
//! The format is described byte by byte in `docs/format/checkpt.md`; `layout.rs` is the same in code.
//!
//! # Invariants
//! - No byte of a file is unprotected: every flipped bit and every truncation is found and located, by
//!   `verify` and by `restore`.
//! - For a given identity and clock the bytes of a file depend on content, style, zstd level and window size
//!   (and on the versions of the codecs), never on the number of threads.
//! - Bytes of no partition are neither stored nor read.
//! - Whatever a file contains, reading it neither panics nor allocates more than a small multiple of its size
//!   plus two windows per thread.
//! - A name that [`write_file`] published was complete and synced before it appeared.
//!
//! # What it does not do
//! It knows nothing of workspaces, regions or allocators: whoever calls it stops the writers, and decides
//! whether the partitions fit where they go. It neither prints nor logs. Its checks find accidents, not
//! forgeries: a digest is no signature. Deltas, streams and page-aligned images have their places in the
//! format and are refused by name until they exist.
//!
//! # Example
//! ```
//! use std::sync::Mutex;
//!
//! use outlast_checkpt::*;
//!
//! struct Memory(Mutex<Vec<u8>>);
//!
//! impl Source for Memory {
//!     fn read(&self, gaddr: u64, into: &mut [u8]) -> Result<(), SourceError> {
//!         let memory = self.0.lock().map_err(|_| SourceError::new("poisoned"))?;
//!         into.copy_from_slice(&memory[gaddr as usize..][..into.len()]);
//!         Ok(())
//!     }
//! }
//!
//! impl Sink for Memory {
//!     fn write(&self, gaddr: u64, from: &[u8]) -> Result<(), SinkError> {
//!         let mut memory = self.0.lock().map_err(|_| SinkError::new("poisoned"))?;
//!         memory[gaddr as usize..][..from.len()].copy_from_slice(from);
//!         Ok(())
//!     }
//! }
//!
//! let saved = Memory(Mutex::new((0..=255).cycle().take(4096).collect()));
//! let partitions = [
//!     Partition { gaddr: 64, size_bytes: 100, tag: 1 },
//!     Partition { gaddr: 1024, size_bytes: 2048, tag: 2 },
//! ];
//! let directory = tempfile::tempdir()?;
//! let path = directory.path().join("example.checkpt");
//! let meta = Meta { name: "example".into(), data_max_bytes: 4096, ..Meta::default() };
//! write_file(&path, &meta, &partitions, &saved, &WriteOptions::default().style(Style::Lz4))?;
//!
//! let checkpoint = Checkpoint::open(&path)?;
//! assert_eq!(checkpoint.partitions(), partitions);
//! let restored = Memory(Mutex::new(vec![0; 4096]));
//! checkpoint.restore(&restored, &RestoreOptions::default())?;
//! assert_eq!(restored.0.lock().unwrap()[1024..3072], saved.0.lock().unwrap()[1024..3072]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(not(outlast_probes), forbid(unsafe_code))]
#![cfg_attr(outlast_probes, deny(unsafe_code))]

mod assembly;
mod bounds;
mod codec;
mod digest;
mod error;
mod header;
mod index;
mod layout;
mod options;
mod output;
mod partition;
mod pool;
mod publish;
mod read;
mod record;
mod restore;
mod scan;
mod section;
mod sequencer;
mod style;
mod summary;
mod write;

pub use crate::digest::Digest;
pub use crate::error::{
    Fault, PartitionError, PartitionFault, ReadError, SinkError, SourceError, Target, What, WriteError,
};
pub use crate::header::Meta;
pub use crate::options::{Cancel, Progress, ProgressFn, RestoreOptions, WriteOptions};
pub use crate::partition::Partition;
pub use crate::publish::write_file;
pub use crate::read::{Checkpoint, ChunkInfo};
pub use crate::restore::{Sink, VerifyReport};
pub use crate::style::{ChunkStyle, Style, StyleParseError};
pub use crate::summary::{StyleCounts, Summary};
pub use crate::write::{Source, write_to};

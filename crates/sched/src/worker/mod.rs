//! Worker processes: started in two phases (attach, ready, gate, run, stop, report), watched, and never left behind.
//!
//! - [`endpoint`] is the worker's own side; [`spawn`] starts one; [`handle`] is what the runner holds of it.
//! - [`slot`] is the record of a worker in a control region, [`namespace`] where its numbers mean something,
//!   [`tail`] the last of what it printed.
//!
//! # Invariants
//! - A worker's process group ends with its handle, and the worker with the thread that started it.
//! - A process is known by number and start time, and signalled before it is reaped.

pub(crate) mod endpoint;
#[cfg(feature = "runner")]
pub(crate) mod handle;
pub(crate) mod namespace;
pub(crate) mod slot;
#[cfg(feature = "runner")]
pub(crate) mod spawn;
#[cfg(feature = "runner")]
pub(crate) mod tail;

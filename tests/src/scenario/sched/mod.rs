//! `sched/*`: the runner and its workers put to the proof by themselves.
//!
//! [`queue`] simulates the shipped queue; [`runner`] runs real processes through the shipped runner; [`readiness`] starts
//! workers that become ready, or do not, in every way there is; [`watch`]
//! reads the counters of workers from outside.
//!
//! # Invariants
//! - Every process that a scenario starts has ended when the scenario has.

pub mod mix;
pub mod queue;
pub mod readiness;
pub mod runner;
pub mod watch;

use crate::end::{Doing, End};

/// Descriptors that are open; `None` in a process that does other things as well, where the number says nothing.
///
/// # Errors
/// If they cannot be counted.
fn descriptors() -> Result<Option<usize>, End> {
    if std::env::var_os("OUTLAST_SANDBOX").is_none() {
        return Ok(None);
    }
    Ok(Some(std::fs::read_dir("/proc/self/fd").doing("counting descriptors")?.count()))
}

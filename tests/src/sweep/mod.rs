//! The instruction sweep: SIGKILL at every instruction of every call that changes a workspace.
//!
//! A child process joined to a small workspace performs one call. It is single-stepped (ptrace), and after each
//! instruction that changed the region's bytes those bytes are taken: they are what a SIGKILL at that instruction
//! leaves, because a kill ends a thread between two instructions and the kernel keeps what was stored. Each such
//! image is joined as a stranger would join it, recovered by an ordinary call, and compared with what must be
//! there.
//!
//! - [`operation`] is the call, [`cases`] the workspaces it is made in, [`child`] the process that makes it.
//! - [`tracer`] steps the child and records a [`trace`]: every change, in order.
//! - [`oracle`] says which sets of allocations an image may recover to, and asks.
//! - [`sweep_all`] runs all cases, then sweeps recoveries of recoveries.
//! - [`groove`] does the same to a groove, whose calls take no lock.
//!
//! # Invariants
//! - No store goes unseen: the bytes that are not compared at every instruction (payload, far joiner slots) are
//!   compared at the end, and a change there fails the sweep.
//! - An image differs from its forerunner by exactly one instruction's stores, and from the real region by
//!   nothing: also the child's own record is in it, alive by its pid and dead by its missing file lock.
//! - The set that recovery finds moves from *before* to *after* once and never back; the first image is *before*,
//!   the last one, taken when the call has returned, is *after*.
//!
//! # What it does not do
//! It kills one process. Several at once, and running observers, are `wksp/kill`'s and the models' business.

pub mod cases;
pub mod child;
pub mod groove;
pub mod image;
pub mod operation;
pub mod oracle;
pub mod trace;
pub mod tracer;

mod all;
mod report;
mod tracee;

use std::time::Instant;

pub use all::{Profile, Summary, sweep_all};
pub use cases::Case;
pub use child::Program;
pub use operation::Operation;
pub use report::{Failure, Report};

use oracle::{Oracle, Sheet};
use trace::Trace;

/// Sweeps one case: dry run, trace, then every image against the oracle. Costs a few milliseconds for the child,
/// 5 to 20 µs for each of its instructions and about 0.3 ms for each image.
///
/// # Errors
/// [`Failure::Denied`] where ptrace is not permitted; [`Failure::Broken`] at the first image that does not
/// recover to what it must.
pub fn run(case: &Case, program: &Program) -> Result<Report, Failure> {
    trace_and_check(case, program).map(|(report, _)| report)
}

/// As [`run`], and returns the trace as well, for sweeps of what recovers its images.
///
/// # Errors
/// As [`run`].
pub fn trace_and_check(case: &Case, program: &Program) -> Result<(Report, Trace), Failure> {
    let sheet = Sheet::new().map_err(|text| Failure::setup(case, text))?;
    let mut oracle = Oracle::dry_run(case, sheet).map_err(|text| Failure::setup(case, text))?;
    let begin = Instant::now();
    let trace = tracer::record(case, program, &oracle.outcome())?;
    let trace_time = begin.elapsed();
    let begin = Instant::now();
    check(case, &trace, &mut oracle)?;
    let report = Report {
        name: case.name.clone(),
        operation: case.operation.to_string(),
        instruction_count: trace.instruction_count,
        image_count: trace.changes.len() as u64 + 1,
        before_count: oracle.before_count(),
        after_count: oracle.after_count(),
        partial_count: oracle.partial_count(),
        trace_time,
        check_time: begin.elapsed(),
    };
    Ok((report, trace))
}

/// Puts every image of `trace` before the oracle, in order.
///
/// # Errors
/// [`Failure::Broken`] with the instruction, the words that it stored and what was wrong with the image.
pub fn check(case: &Case, trace: &Trace, oracle: &mut Oracle) -> Result<(), Failure> {
    let mut images = trace.replay();
    loop {
        if let Err(reason) = oracle.judge(images.bytes()) {
            return Err(Failure::broken(case, trace, images.applied(), reason));
        }
        if !images.advance() {
            break;
        }
    }
    oracle.finish().map_err(|reason| Failure::broken(case, trace, images.applied(), reason))
}

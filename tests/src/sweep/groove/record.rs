//! Steps a child through one call on a groove and records what each instruction stored.
//!
//! # Invariants
//! - Tables that no watch looks at, and data, are compared at the end: a store there fails the sweep.

use std::ffi::OsString;

use super::super::child::Program;
use super::super::report::Failure;
use super::super::tracee::{Tracee, Trouble};
use super::WORD;
use super::case::{Case, Operation, Outcome, domain};
use super::image::{Change, Trace, Watch};

/// A call that runs for more instructions than this will not end.
const INSTRUCTIONS_MAX: u64 = 20_000_000;

/// Runs the case's call in a child and records it; returns what the call returned as well.
///
/// # Errors
/// [`Failure::Denied`], [`Failure::NoProgram`]; [`Failure::Setup`] if the child does anything else.
pub fn record(case: &Case, program: &Program) -> Result<(Trace, Outcome), Failure> {
    let fail = |reason: String| case.failure(reason);
    let (_directory, domain) = domain().map_err(fail)?;
    case.base.write(&domain, false).map_err(|error| fail(error.to_string()))?;
    let arguments: [OsString; 3] = [WORD.into(), domain.path().into(), case.operation.to_string().into()];
    let mut command = program.command_with(&arguments);
    let mut tracee = Tracee::start(&mut command).map_err(|trouble| match trouble {
        Trouble::Denied(reason) => Failure::Denied { reason },
        Trouble::NoProgram(reason) => Failure::NoProgram { reason },
        Trouble::Other(reason) => fail(reason),
    })?;
    let unread = |error: std::io::Error| fail(format!("reading the regions: {error}"));
    let mut watch = Watch::new(domain.path()).map_err(unread)?;
    let base = watch.last.clone();
    let origin = tracee.origin();
    let (mut changes, mut instruction_count) = (Vec::new(), 0);
    loop {
        let goes_on = tracee.step().map_err(fail)?;
        instruction_count += 1;
        let words = watch.look().map_err(unread)?;
        if !words.is_empty() {
            let next_address = tracee.next_address(origin);
            changes.push(Change { instruction: instruction_count, next_address, words });
        }
        if !goes_on {
            break;
        }
        if INSTRUCTIONS_MAX <= instruction_count {
            return Err(fail(format!("no end after {instruction_count} instructions")));
        }
    }
    // A rebuild makes its control region anew, and the watch is on the old one.
    if let Some(name) = watch.unwatched().map_err(unread)?.filter(|_| case.operation != Operation::Rebuild) {
        return Err(fail(format!("the call stored where nobody looked, in {name}")));
    }
    let outcome = tracee.finish().map_err(fail)?.trim().parse().map_err(fail)?;
    Ok((Trace { base, changes, instruction_count }, outcome))
}

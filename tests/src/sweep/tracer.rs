//! Steps a child through one call and records what each instruction stored.
//!
//! # Invariants
//! - A change is recorded for the instruction that made it, and no instruction's is missed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::process::Stdio;

use super::cases::Case;
use super::child::Program;
use super::image::{self, Geography};
use super::operation::Outcome;
use super::report::Failure;
use super::trace::{Change, Trace};
use super::tracee::{Tracee, Trouble};

/// A call that runs for more instructions than this will not end.
const INSTRUCTIONS_MAX: u64 = 20_000_000;

/// Runs the case's call in a child and records it. The child must return `expected`.
///
/// # Errors
/// [`Failure::Denied`], [`Failure::NoProgram`]; [`Failure::Setup`] if the child does anything but make the call
/// and return `expected`, or stores where nobody looked.
pub fn record(case: &Case, program: &Program, expected: &Outcome) -> Result<Trace, Failure> {
    let file =
        image::nameless(&case.base).map_err(|error| Failure::setup(case, format!("memfd: {error}")))?;
    let mut tracee = start(case, program, &file)?;
    let trace = step_through(&tracee, case, &file)?;
    let said = tracee.finish().map_err(|reason| Failure::setup(case, reason))?;
    if said.trim() == expected.to_string() {
        return Ok(trace);
    }
    Err(Failure::setup(case, format!("the child says {:?}, the dry run said {expected}", said.trim())))
}

fn start(case: &Case, program: &Program, region: &File) -> Result<Tracee, Failure> {
    let region = image::descriptor(region).map_err(|error| Failure::setup(case, format!("dup: {error}")))?;
    let mut command = program.command(&case.operation);
    command.stdin(Stdio::from(region));
    Tracee::start(&mut command).map_err(|trouble| match trouble {
        Trouble::Denied(reason) => Failure::Denied { reason },
        Trouble::NoProgram(reason) => Failure::NoProgram { reason },
        Trouble::Other(reason) => Failure::setup(case, reason),
    })
}

fn step_through(tracee: &Tracee, case: &Case, file: &File) -> Result<Trace, Failure> {
    let unread = |error: io::Error| Failure::setup(case, format!("reading the region: {error}"));
    let mut watch = Watch::new(file, case.geography).map_err(unread)?;
    let base = watch.last.clone();
    let origin = tracee.origin();
    let (mut changes, mut instruction_count) = (Vec::new(), 0);
    loop {
        let goes_on = tracee.step().map_err(|reason| Failure::setup(case, reason))?;
        instruction_count += 1;
        if let Some(words) = watch.look(file).map_err(unread)? {
            let next_address = tracee.next_address(origin);
            let len = watch.last.len();
            changes.push(Change { instruction: instruction_count, next_address, len, words });
        }
        if !goes_on {
            break;
        }
        if INSTRUCTIONS_MAX <= instruction_count {
            return Err(Failure::setup(case, format!("no end after {instruction_count} instructions")));
        }
    }
    if let Some(at) = watch.unwatched(file).map_err(unread)? {
        let place = case.geography.place(at);
        return Err(Failure::setup(case, format!("the call stored where nobody looked: {place}")));
    }
    Ok(Trace { base, changes, instruction_count, geography: case.geography })
}

/// The region as it was after the last instruction.
struct Watch {
    last: Vec<u8>,
    scratch: Vec<u8>,
    geography: Geography,
}

impl Watch {
    fn new(file: &File, geography: Geography) -> io::Result<Self> {
        let last = image::bytes_of(file)?;
        Ok(Self { scratch: last.clone(), last, geography })
    }

    /// The words that changed in what is watched, or `None`.
    fn look(&mut self, file: &File) -> io::Result<Option<Vec<(usize, u64)>>> {
        let len = file.metadata()?.len() as usize;
        let grown = len != self.last.len();
        self.last.resize(len, 0);
        self.scratch.resize(len, 0);
        let mut words = Vec::new();
        for range in self.geography.watched(len) {
            let start = range.start;
            let (now, last) = (&mut self.scratch[range.clone()], &mut self.last[range]);
            file.read_exact_at(now, start as u64)?;
            if now == last {
                continue;
            }
            for at in (0..now.len()).step_by(8).filter(|&at| now[at..at + 8] != last[at..at + 8]) {
                words.push((start + at, image::word(now, at)));
            }
            last.copy_from_slice(now);
        }
        Ok((grown || !words.is_empty()).then_some(words))
    }

    /// Where the file differs from all that was seen to change, if it does.
    fn unwatched(&self, file: &File) -> io::Result<Option<usize>> {
        let now = image::bytes_of(file)?;
        Ok(now.iter().zip(&self.last).position(|(now, last)| now != last))
    }
}

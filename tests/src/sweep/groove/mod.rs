//! The sweep of a groove: SIGKILL at every instruction of every call that changes a volume.
//!
//! A child joins a groove of one or two small volumes and makes one call, single-stepped. After each instruction
//! that changed the tables of a region, all of them are taken: what a kill leaves there. Each such image is looked
//! at twice: by a *rebuild* from the volumes alone, and by a *survivor* that goes on with the groove as it is.
//!
//! - [`Operation`] is the call, [`cases`] the grooves it is made in, [`record`] steps the child.
//! - [`Oracle`] says what an image may hold, and asks.
//!
//! # Invariants
//! - The child stores nowhere else: data is compared at the end, and a change there fails the sweep.
//! - The set of objects moves from *before* to *after* once and never back; the last image is *after*.

mod case;
mod image;
mod oracle;
mod record;

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use outlast_groove::{Groove, Joiner};
use outlast_shm::{Domain, RegionName};

pub use case::{Case, Operation, Outcome, cases};
pub use image::{Change, Image, Trace};
pub use oracle::Oracle;
pub use record::record;

use super::child::{DENIED, Program};
use super::report::Failure;

/// The first word of the command line that makes the child play this part.
pub(super) const WORD: &str = "groove";

/// The groove's name in every domain of a sweep.
pub(super) fn name() -> RegionName {
    "g".parse().unwrap_or_else(|_| unreachable!("a letter is a name"))
}

/// What a sweep of all cases did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Cases.
    pub case_count: u64,
    /// Instructions stepped.
    pub instruction_count: u64,
    /// Images looked at.
    pub image_count: u64,
    /// Those in which the call had not happened.
    pub before_count: u64,
    /// Those in which it had.
    pub after_count: u64,
    /// Cases that sweep the adoption of an image of another case.
    pub adoption_count: u64,
    /// Wall time.
    pub elapsed: Duration,
}

impl Summary {
    fn add(&mut self, part: Self) {
        self.case_count += part.case_count;
        self.instruction_count += part.instruction_count;
        self.image_count += part.image_count;
        self.before_count += part.before_count;
        self.after_count += part.after_count;
        self.adoption_count += part.adoption_count;
    }
}

/// Sweeps every case that `pick` picks by name, and of those the adoptions that it picks, on as many threads as there
/// are cores.
///
/// # Errors
/// [`Failure::Denied`] where ptrace is not permitted; [`Failure::Broken`] at the first image that is not what it
/// must be.
pub fn sweep_all(
    program: &Program,
    pick: impl Fn(&str) -> bool + Sync,
    tell: impl Fn(&str) + Sync,
) -> Result<Summary, Failure> {
    let begin = Instant::now();
    let cases = cases().map_err(|reason| failure("making the cases", "", reason))?;
    let waiting: VecDeque<Case> = cases.into_iter().filter(|case| pick(&case.name)).collect();
    let waiting = Mutex::new(waiting);
    let lock = || waiting.lock().unwrap_or_else(PoisonError::into_inner);
    let work = |number| {
        // A step is two switches between this thread and the child: on one core they are cheap.
        super::all::pin(number);
        let mut summary = Summary::default();
        loop {
            let Some(case) = lock().pop_front() else { return Ok(summary) };
            if let Err(failure) = sweep_case(&case, program, &pick, &tell, &mut summary) {
                // The others need not go on.
                lock().clear();
                return Err(failure);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let parts: Vec<Result<Summary, Failure>> = std::thread::scope(|scope| {
        let work = &work;
        let handles: Vec<_> = (0..threads).map(|number| scope.spawn(move || work(number))).collect();
        let join = |handle: std::thread::ScopedJoinHandle<'_, _>| match handle.join() {
            Ok(part) => part,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        handles.into_iter().map(join).collect()
    });
    let mut sum = Summary::default();
    for part in parts {
        sum.add(part?);
    }
    sum.elapsed = begin.elapsed();
    Ok(sum)
}

/// One case, and the adoption of what a kill in the middle of it leaves.
fn sweep_case(
    case: &Case,
    program: &Program,
    pick: &impl Fn(&str) -> bool,
    tell: &impl Fn(&str),
    summary: &mut Summary,
) -> Result<(), Failure> {
    let trace = sweep_one(case, program, summary, tell)?;
    // What a survivor does with the image in the middle can be killed as well.
    if trace.changes.len() < 4 || matches!(case.operation, Operation::Remove(_) | Operation::Rebuild) {
        return Ok(());
    }
    let mut image = trace.base.clone();
    trace.changes[..trace.changes.len() / 2].iter().for_each(|change| image.apply(change));
    let before = oracle::rebuilt(&image).map_err(|reason| case.failure(reason))?;
    let adoption = case.adoption(image, before);
    if pick(&adoption.name) {
        sweep_one(&adoption, program, summary, tell)?;
        summary.adoption_count += 1;
    }
    Ok(())
}

fn sweep_one(
    case: &Case,
    program: &Program,
    summary: &mut Summary,
    tell: &impl Fn(&str),
) -> Result<Trace, Failure> {
    let (trace, outcome) = record(case, program)?;
    let mut oracle = Oracle::new(case, &outcome).map_err(|reason| case.failure(reason))?;
    check(case, &trace, &mut oracle)?;
    let (before, after) = oracle.counts();
    tell(&format!(
        "{:<32} {:>7} instructions, {:>5} images ({before} before, {after} after)",
        case.name,
        trace.instruction_count,
        trace.changes.len() + 1
    ));
    summary.case_count += 1;
    summary.instruction_count += trace.instruction_count;
    summary.image_count += trace.changes.len() as u64 + 1;
    summary.before_count += before;
    summary.after_count += after;
    Ok(trace)
}

/// Puts every image of a trace before the oracle, in order.
///
/// # Errors
/// [`Failure::Broken`] with the instruction, what it stored, and what is wrong.
pub fn check(case: &Case, trace: &Trace, oracle: &mut Oracle) -> Result<(), Failure> {
    let mut image = trace.base.clone();
    for applied in 0..=trace.changes.len() {
        let broken = |reason| Failure::Broken {
            case: case.name.clone(),
            operation: case.operation.to_string(),
            place: trace.describe(applied),
            reason,
        };
        if let Some(change) = applied.checked_sub(1).map(|index| &trace.changes[index]) {
            image.apply(change);
        }
        oracle.judge(&image).map_err(broken)?;
        if applied == trace.changes.len() {
            oracle.finish().map_err(broken)?;
        }
    }
    Ok(())
}

fn failure(case: &str, operation: &str, reason: String) -> Failure {
    Failure::Setup { case: case.to_owned(), operation: operation.to_owned(), reason }
}

/// Plays the child: the domain's path, then the call.
pub(super) fn play(arguments: &[String]) -> Result<ExitCode, String> {
    let [path, operation] = arguments else { return Err("a path and a call are the arguments".to_owned()) };
    let operation: Operation = operation.parse()?;
    let domain = Domain::open(path.as_ref()).map_err(|error| error.to_string())?;
    let actor = Actor::new(&domain, &operation)?;
    if let Err(errno) = ptrace::traceme() {
        eprintln!("ptrace: {errno}");
        return Ok(ExitCode::from(DENIED as u8));
    }
    raise(Signal::SIGSTOP).map_err(|errno| format!("raise: {errno}"))?;
    let (outcome, _left) = actor.perform(&operation);
    raise(Signal::SIGSTOP).map_err(|errno| format!("raise: {errno}"))?;
    println!("{}", outcome?);
    Ok(ExitCode::SUCCESS)
}

/// Who makes the call: it has joined, but for a rebuild, which has to be alone.
enum Actor {
    Joined(Groove, Box<Joiner>),
    Alone(Domain),
    /// It has no joiner any more.
    Left(#[allow(dead_code, reason = "kept, not looked at")] Groove),
}

impl Actor {
    fn new(domain: &Domain, operation: &Operation) -> Result<Self, String> {
        if *operation == Operation::Rebuild {
            return Ok(Self::Alone(domain.clone()));
        }
        let groove = Groove::open(domain, &name()).map_err(|error| format!("open: {error}"))?;
        let joiner = groove.joiner().map_err(|error| format!("join: {error}"))?;
        if let Operation::AllocAgain(size, _) | Operation::Leave(size) = *operation {
            let object = joiner.alloc(size, 0, 0).map_err(|error| format!("alloc: {error}"))?;
            joiner.free(object).map_err(|error| format!("free: {error}"))?;
        }
        Ok(Self::Joined(groove, Box::new(joiner)))
    }

    /// Makes the call. What comes back outlives it, so that leaving is part of it only where it is the call.
    fn perform(self, operation: &Operation) -> (Result<Outcome, String>, Option<Self>) {
        match self {
            Self::Joined(groove, joiner) if matches!(operation, Operation::Leave(_)) => {
                drop(joiner);
                (Ok(Outcome::Done), Some(Self::Left(groove)))
            }
            Self::Joined(groove, joiner) => {
                let outcome = operation.perform(&groove, &joiner);
                (outcome, Some(Self::Joined(groove, joiner)))
            }
            Self::Alone(domain) => match Groove::rebuild(&domain, &name()) {
                Ok((groove, _)) => (Ok(Outcome::Done), Some(Self::Left(groove))),
                Err(error) => (Err(format!("rebuild: {error}")), None),
            },
            Self::Left(_) => (Err("it has left".to_owned()), None),
        }
    }
}

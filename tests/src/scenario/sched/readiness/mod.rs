//! `sched/readiness`: workers that get ready, give up, crash, stop, are killed at random moments or spoken for by
//! others, on every medium; each ending has to be told for what it is.
//!
//! `child` is the process and the roles it plays; `cases` what is done with it and what has to come of it.
//!
//! # Invariants
//! - A death after the worker said ready is never told as one before it.
//! - After a round no descriptor is open that was not open before it.

pub mod cases;
pub mod child;

use std::time::{Duration, Instant};

use super::super::Scenario;
use super::descriptors;
use crate::draw::Draw;
use crate::end::{Doing, End, require};
use crate::report::Tally;
use crate::run::{Amount, Profile, Run};

use self::cases::{CASES, Stage};

/// The registry's entry.
pub const SCENARIO: Scenario = Scenario {
    name: "sched/readiness",
    about: "workers get ready, crash, hang or are spoken for, on three media; each ending is told apart",
    unit: "kills after ready",
    needs_probes: false,
    cpus: 2,
    memory_bytes: 128 << 20,
    sample: (1, &[]),
    options: None,
    run,
};

fn run(run: &Run<'_>, tally: &mut Tally) -> Result<(), End> {
    let directory = tempfile::tempdir().doing("making a directory for markers")?;
    let stage = Stage { program: run.program, directory: directory.path() };
    let mut draw = Draw::new(run.seed, 0, 0);
    cases::observed_markers(&stage, if run.profile == Profile::Full { 1000 } else { 100 }, tally)?;
    for case in CASES {
        run.check_stop()?;
        unchanged(case.name, || (case.run)(&stage, &mut draw, tally))?;
        tally.add(case.name, 1);
    }
    let count = if run.profile == Profile::Full { 200 } else { 40 };
    unchanged("at_once", || cases::at_once(&stage, count, tally))?;
    let amount =
        Amount { exact: None, quick: 150, quick_time: Duration::from_secs(20), least: 60, full: 1000 };
    let begin = Instant::now();
    while run.goes_on(tally.iterations, begin, &amount)? {
        unchanged("kills", || cases::killed_after_ready(&stage, &mut draw, tally))?;
        cases::killed_at_any_moment(&stage, &mut draw, tally)?;
        tally.iterations += 1;
    }
    let all: Vec<&str> = CASES.iter().map(|case| case.name).collect();
    tally.require_some(&all)?;
    tally.require_some(&[
        "marker_observations",
        "workers_at_once",
        "killed_and_seen_after_ready",
        "killed_and_seen_before",
    ])
}

/// Runs `what` and requires that as many descriptors are open after it as before.
fn unchanged(name: &str, what: impl FnOnce() -> Result<(), End>) -> Result<(), End> {
    let before = descriptors()?;
    what().map_err(|end| End::Failed(format!("{name}: {end}")))?;
    let after = descriptors()?;
    require(after <= before, || format!("{name}: {before:?} descriptors before, {after:?} after"))
}

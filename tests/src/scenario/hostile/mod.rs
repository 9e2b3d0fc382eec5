//! `wksp/hostile`: one process overwrites words of the tables while another one calls the workspace and compares
//! every answer with an exact model.
//!
//! `model` makes the calls and judges the answers, `traffic` is the process that does so while `damage` is the
//! one that overwrites; `words` says which words there are and how they are damaged; `sweep` does it word by
//! word (`wksp/hostile_sweep`).
//!
//! # Invariants
//! - Every answer is either right or a typed error. A panic, a wrong answer or 30 s of silence fail the scenario.

pub mod damage;
pub mod model;
pub mod sweep;
pub mod traffic;
pub mod words;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use outlast_wksp::{CreateOptions, Wksp};
use serde::{Deserialize, Serialize};

use self::model::Counts;
use super::Scenario;
use crate::end::{Doing, End};
use crate::failed;
use crate::report::Tally;
use crate::run::{Amount, Run};
use crate::worker::Worker;
use crate::worker::role::Role;

/// The registry's entry.
pub const SCENARIO: Scenario = Scenario {
    name: "wksp/hostile",
    about: "a process overwrites the tables during another one's calls; answers are right or typed errors",
    unit: "words overwritten",
    needs_probes: false,
    cpus: 2,
    memory_bytes: 64 << 20,
    sample: (3000, &[]),
    options: None,
    run,
};

/// Bytes of the workspace.
const SIZE_BYTES: u64 = 256 << 10;
/// Words overwritten in one round.
const WRITES: u64 = 100;
/// Calls made in one round.
const CALLS: u64 = 2000;

/// What both processes are told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Parameters {
    /// Directory of the domain.
    pub domain: PathBuf,
    /// Name of the workspace.
    pub name: String,
    /// Seed of the run.
    pub seed: u64,
    /// Let the model be wrong, to see that this is noticed.
    pub canary: bool,
}

/// What they are to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// So many calls, or words.
    Go(u64),
    /// Nobody damages anything any more: put in order what cannot mend itself, and show that all is well.
    Calm,
}

/// What they answer, to each order and first of all when they have joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Done; what was counted.
    Done(Counts),
    /// An answer of the workspace was wrong.
    Wrong(String),
}

fn run(run: &Run<'_>, tally: &mut Tally) -> Result<(), End> {
    traffic_under_damage(run, tally, false)
}

/// The scenario; with `canary` the model is wrong on purpose.
///
/// # Errors
/// As every scenario.
pub fn traffic_under_damage(run: &Run<'_>, tally: &mut Tally, canary: bool) -> Result<(), End> {
    let guard = run.place.guard("hostile")?;
    let mut create = CreateOptions::with_size(SIZE_BYTES);
    create.slots = Some(64);
    // Joined all the while, so that the lock word can name somebody who is alive.
    let _wksp = Wksp::create(guard.domain(), guard.name(), &create).doing("making the workspace")?;
    let domain = guard.domain().path().to_owned();
    let parameters = Parameters { domain, name: guard.name().to_string(), seed: run.seed, canary };
    let mut traffic: Worker<Answer> = Worker::start(run, Role::Traffic, &parameters, None)?;
    // It must have joined: a damaged header would rightly keep it out.
    collect(run, &mut traffic, tally)?;
    let mut damage: Worker<Answer> = Worker::start(run, Role::Damage, &parameters, None)?;
    collect(run, &mut damage, tally)?;
    let quick_time = Duration::from_secs(12);
    let amount = Amount { exact: None, quick: 100_000, quick_time, least: 2000, full: 1_000_000 };
    let begin = Instant::now();
    while run.goes_on(tally.iterations, begin, &amount)? {
        damage.send(&Order::Go(WRITES))?;
        traffic.send(&Order::Go(CALLS))?;
        collect(run, &mut damage, tally)?;
        collect(run, &mut traffic, tally)?;
        tally.iterations = tally.count("words_overwritten");
    }
    damage.send(&Order::Calm)?;
    collect(run, &mut damage, tally)?;
    drop(damage);
    traffic.send(&Order::Calm)?;
    collect(run, &mut traffic, tally)?;
    tally.require_some(&["words_overwritten", "right_answers", "typed_errors", "resets_that_mended"])
}

fn collect(run: &Run<'_>, worker: &mut Worker<Answer>, tally: &mut Tally) -> Result<(), End> {
    match worker.receive(run)? {
        Answer::Done(counts) => {
            counts.iter().for_each(|(name, count)| tally.add(name, *count));
            Ok(())
        }
        Answer::Wrong(what) => Err(failed!("{what}")),
    }
}

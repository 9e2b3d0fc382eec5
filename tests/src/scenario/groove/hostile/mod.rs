//! `groove/hostile`: one process overwrites words of a groove's tables while another one calls it and judges every
//! answer.
//!
//! `traffic` makes the calls, `damage` overwrites, `ledger` says how often each word was overwritten.
//!
//! # Invariants
//! - Every answer is a typed error, or right as far as the words that it rests on were left alone: what is known of
//!   an object rests on its descriptor, so there it must be exact. Payload rests on every superblock.
//! - A panic, a wrong answer or 30 s of silence fail the scenario.

pub mod damage;
pub mod ledger;
pub mod traffic;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use outlast_groove::{CreateError, Groove};
use serde::{Deserialize, Serialize};

use self::ledger::Ledger;
use crate::end::{Doing, End, require};
use crate::failed;
use crate::place::GrooveGuard;
use crate::report::Tally;
use crate::run::{Amount, Run};
use crate::scenario::Scenario;
use crate::worker::Worker;
use crate::worker::role::Role;

/// The registry's entry.
pub const SCENARIO: Scenario = Scenario {
    name: "groove/hostile",
    about: "a process overwrites the tables of volumes during another one's calls; answers are right or typed errors",
    unit: "words overwritten",
    needs_probes: false,
    cpus: 2,
    memory_bytes: 32 << 20,
    sample: (1000, &[]),
    options: None,
    run,
};

/// Bytes of each of the two volumes.
pub const VOLUME_BYTES: u64 = 1 << 20;
/// Volumes of a round's groove.
pub const VOLUMES: usize = 2;
/// Words overwritten in one round: 1 to this many, a power of two, so that some grooves can be rebuilt.
const WRITES_MAX: u64 = 256;

/// What was counted, by name.
pub type Counts = BTreeMap<String, u64>;

/// What both processes are told first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Parameters {
    /// Directory of the domain.
    pub domain: PathBuf,
    /// Name of the ledger.
    pub ledger: String,
    /// Seed of the run.
    pub seed: u64,
    /// Let the judge believe something wrong, to see that this is noticed.
    pub canary: bool,
}

/// A round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// Name of the groove.
    pub groove: String,
    /// Words to overwrite.
    pub writes: u64,
    /// Whether those of the control region are among them.
    pub control: bool,
}

/// What they answer: to the parameters that they are there, to an order when they have the groove, and when they are
/// done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Done; what was counted.
    Done(Counts),
    /// An answer of the groove was wrong.
    Wrong(String),
}

fn run(run: &Run<'_>, tally: &mut Tally) -> Result<(), End> {
    traffic_under_damage(run, tally, false)
}

/// The scenario; with `canary` the judge is wrong on purpose.
///
/// # Errors
/// As every scenario.
pub fn traffic_under_damage(run: &Run<'_>, tally: &mut Tally, canary: bool) -> Result<(), End> {
    super::volume_bytes(run, VOLUMES as u64, VOLUME_BYTES, tally)?;
    let ledger_guard = run.place.guard("ledger")?;
    let domain = run.place.domain();
    let ledger = Ledger::create(domain, ledger_guard.name()).doing("making the ledger")?;
    let (path, name) = (domain.path().to_owned(), ledger_guard.name().to_string());
    let parameters = Parameters { domain: path, ledger: name, seed: run.seed, canary };
    let mut traffic: Worker<Answer> = Worker::start(run, Role::GrooveTraffic, &parameters, None)?;
    let mut damage: Worker<Answer> = Worker::start(run, Role::GrooveDamage, &parameters, None)?;
    let quick_time = Duration::from_secs(10);
    let amount = Amount { exact: None, quick: 20_000, quick_time, least: 1000, full: 1_000_000 };
    let begin = Instant::now();
    let mut rounds: u64 = 0;
    while run.goes_on(tally.iterations, begin, &amount)? {
        ledger.begin();
        let guard = run.place.groove_guard("hostile")?;
        let groove = super::create(&guard, VOLUME_BYTES)?;
        for _ in 0..VOLUMES {
            groove.add_volume(b"").doing("adding a volume")?;
        }
        drop(groove);
        let writes = 1 << (rounds / 2 % (u64::from(WRITES_MAX.ilog2()) + 1));
        let order = Order { groove: guard.name().to_string(), writes, control: rounds % 2 == 1 };
        // It must have joined: a damaged header would rightly keep it out.
        traffic.send(&order)?;
        collect(run, &mut traffic, tally)?;
        damage.send(&order)?;
        collect(run, &mut damage, tally)?;
        ledger.end();
        collect(run, &mut traffic, tally)?;
        look(&guard, tally)?;
        rounds += 1;
        tally.iterations = tally.count("words_overwritten");
    }
    tally.require_some(&["words_overwritten", "right_answers", "typed_errors", "exact_objects"])?;
    tally.require_some(&["rebuilt_and_sound", "rebuilds_refused"])
}

/// What is left of a damaged groove: either a rebuild refuses it, or it makes a sound one.
fn look(guard: &GrooveGuard, tally: &mut Tally) -> Result<(), End> {
    if let Ok(groove) = Groove::open(guard.domain(), guard.name()) {
        // Whatever these find; they come to an end.
        let _ = (groove.volumes(), groove.verify(), groove.verify_softly());
        tally.add("opened_after_damage", 1);
    }
    match Groove::rebuild(guard.domain(), guard.name()) {
        Ok((groove, rebuilt)) => {
            super::verify(&groove, rebuilt.objects, "after a rebuild of a damaged groove")?;
            let joiner = groove.joiner().doing("joining")?;
            let objects = joiner.objects(None).doing("listing")?;
            require(objects.len() as u64 == rebuilt.objects, || {
                format!("{} objects are listed after {rebuilt:?}", objects.len())
            })?;
            for object in objects {
                joiner.free(object.reference).doing("freeing what a rebuild has found")?;
            }
            super::verify(&groove, 0, "after everything was freed")?;
            tally.add("rebuilt_and_sound", 1);
        }
        Err(CreateError::Busy { name }) => {
            return Err(failed!("{name} is joined by nobody and said to be busy"));
        }
        Err(_) => tally.add("rebuilds_refused", 1),
    }
    Ok(())
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

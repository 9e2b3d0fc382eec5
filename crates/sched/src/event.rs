//! What happens during a run, told to every sink in the order in which it happened.
//!
//! A run directory holds the same as JSON lines: `plan.json` is the [`PlanInfo`], `records.jsonl` the [`Record`]s in
//! completion order, `samples.jsonl` the [`Sample`]s, `summary.json` the [`Summary`], written last, so that a run
//! that was cut short is known by its absence.
//!
//! # Invariants
//! - First [`Event::Planned`], last [`Event::Ended`], and between them exactly one [`Event::Finished`] for every job
//!   of the plan, whatever happened.
//! - `ordinal` counts from 0 in plan order; `completion` counts from 0 in the order of the ends.
//! - Moments are times since the run began, from one monotonic clock.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::outcome::{Exit, Outcome, nanos, some_nanos};

/// Version of what is written as JSON. Additions do not change it.
pub const SCHEMA: u32 = 1;

/// One thing that happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// The run begins.
    Planned(Box<PlanInfo>),
    /// A job was given to a slot.
    Assigned {
        /// The job.
        ordinal: u32,
        /// The slot, from 0.
        slot: u32,
        /// CPUs of its own; empty if it shares.
        cpus: Vec<u32>,
        /// When.
        at: Duration,
    },
    /// A job's process runs.
    Started {
        /// The job.
        ordinal: u32,
        /// The slot.
        slot: u32,
        /// Its process.
        pid: u32,
        /// When.
        at: Duration,
    },
    /// A job runs longer than its limit for slow jobs.
    Slow {
        /// The job.
        ordinal: u32,
        /// How long it has run.
        ran: Duration,
    },
    /// A job ended, or will never begin.
    Finished(Box<Record>),
    /// How much is used now.
    Sampled(Sample),
    /// The run is over.
    Ended(Summary),
}

/// The plan of a run, and where it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanInfo {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The run's own name, also that of its directory.
    pub run: String,
    /// The run directory.
    pub directory: PathBuf,
    /// Milliseconds since 1970-01-01 UTC.
    pub started_unix_ms: u64,
    /// The seed of the whole run.
    pub seed: u64,
    /// `quick`, `full`, or whatever the caller calls it.
    pub profile: String,
    /// Which part of a divided plan this is, as `(i, n)`, `i` from 1.
    pub shard: Option<(u32, u32)>,
    /// A digest of the whole plan before it was divided, so that parts of different plans are told apart.
    #[serde(default)]
    pub whole: Option<String>,
    /// Slots of the run.
    pub slots: u32,
    /// The commit that was built, with `+` if the tree had changes; `None` if not known.
    pub commit: Option<String>,
    /// The machine.
    pub host: Host,
    /// The jobs in plan order.
    pub jobs: Vec<JobInfo>,
}

/// The machine of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// CPUs that the runner may use.
    pub cpus: Vec<u32>,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Kernel and architecture.
    pub system: String,
    /// Load average over a minute when the run began.
    pub load: f64,
}

/// A job as the plan lists it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobInfo {
    /// Place in the plan, from 0; people see it from 1.
    pub ordinal: u32,
    /// The job's place in the plan before it was divided into shards; otherwise equal to `ordinal`.
    pub global_ordinal: u32,
    /// Project.
    pub project: String,
    /// Group.
    pub group: String,
    /// Name.
    pub name: String,
    /// Repetition, from 1.
    pub repetition: u32,
    /// How many repetitions there are.
    pub repetitions: u32,
    /// Seed.
    pub seed: u64,
    /// How long it took before, as far as is known.
    #[serde(with = "some_nanos", rename = "expected_ns")]
    pub expected: Option<Duration>,
    /// Durations of earlier passes, the latest last.
    #[serde(default)]
    pub past_ns: Vec<u64>,
}

/// A job's end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Place in the plan, from 0.
    pub ordinal: u32,
    /// Place in the plan before it was divided into shards.
    pub global_ordinal: u32,
    /// Place among the ends, from 0.
    pub completion: u32,
    /// Project.
    pub project: String,
    /// Group.
    pub group: String,
    /// Name.
    pub name: String,
    /// Repetition, from 1.
    pub repetition: u32,
    /// How many repetitions there are.
    pub repetitions: u32,
    /// Seed.
    pub seed: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, in one line; `None` for a pass.
    pub reason: Option<String>,
    /// The full text for people; may be empty.
    pub text: String,
    /// How its process ended, if there was one.
    pub exit: Option<Exit>,
    /// The slot it ran on; `None` if it never began.
    pub slot: Option<u32>,
    /// CPUs of its own.
    pub cpus: Vec<u32>,
    /// When it began, since the run began.
    #[serde(with = "nanos", rename = "start_ns")]
    pub start: Duration,
    /// How long it took.
    #[serde(with = "nanos", rename = "duration_ns")]
    pub duration: Duration,
    /// When its process was there, without what the runner does before and after.
    #[serde(default)]
    pub process: Option<Lifetime>,
    /// How long it was expected to take.
    #[serde(with = "some_nanos", rename = "expected_ns")]
    pub expected: Option<Duration>,
    /// Whether it ran past its limit for slow jobs.
    pub slow: bool,
    /// Most memory that its processes were seen to hold; `None` if it was never looked at.
    pub peak_bytes: Option<u64>,
    /// Processes that it left behind and that were killed, as `pid name`.
    pub leaked: Vec<String>,
    /// Its sandbox, if it was kept.
    pub sandbox: Option<PathBuf>,
    /// The last lines of its standard output.
    pub stdout_tail: String,
    /// The last lines of its standard error.
    pub stderr_tail: String,
    /// The command line that repeats it.
    pub replay: String,
    /// The schedule that failed, if it ran under one.
    pub schedule: Option<String>,
    /// Digest of its inputs, if it has one.
    pub inputs: Option<String>,
    /// What it counted.
    pub report: serde_json::Value,
}

/// From the moment at which a process was started to the one at which its end was noticed, since the run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// The program was running.
    #[serde(with = "nanos", rename = "start_ns")]
    pub start: Duration,
    /// It was no more.
    #[serde(with = "nanos", rename = "end_ns")]
    pub end: Duration,
}

/// What a run uses at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    #[serde(with = "nanos", rename = "at_ns")]
    pub at: Duration,
    /// Jobs that run.
    pub running: u32,
    /// Jobs that have ended.
    pub finished: u32,
    /// Bytes of memory that their processes hold.
    pub memory_bytes: u64,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// [`SCHEMA`].
    pub schema: u32,
    /// How long it took.
    #[serde(with = "nanos", rename = "elapsed_ns")]
    pub elapsed: Duration,
    /// Whether it was interrupted.
    pub interrupted: bool,
    /// Its exit code, see [`exit_code`](crate::exit_code).
    pub exit_code: u8,
}

//! What is to be run: jobs, what each needs, and how long it may take.
//!
//! # Invariants
//! - A job's `name` and `repetition` tell it from every other job of a plan.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// One thing to run, once.
#[derive(Debug, Clone)]
pub struct Job {
    /// Place in the whole plan, before it is divided into shards.
    pub global_ordinal: u32,
    /// What it belongs to; with the group, the heading of its line in the report.
    pub project: String,
    /// Jobs of one group share a line in the report, a median and a limit.
    pub group: String,
    /// Its name, unique but for repetitions; the key of its history.
    pub name: String,
    /// Which of several runs of the same job this is, from 1; `repetitions` is how many there are.
    pub repetition: u32,
    /// How often the job is in the plan.
    pub repetitions: u32,
    /// Everything random in it comes from this.
    pub seed: u64,
    /// A schedule to follow, if it is a replay.
    pub schedule: Option<String>,
    /// What it needs before it begins.
    pub demand: Demand,
    /// How long it may take.
    pub limit: Limit,
    /// What to start.
    pub command: Command,
    /// A directory whose content every sandbox of it begins with.
    pub skeleton: Option<PathBuf>,
    /// A digest of everything it depends on; equal to that of its last pass, it is not run again. `None`: it is
    /// always run.
    pub inputs: Option<String>,
    /// Why it is not to be run, if it is not.
    pub skip: Option<String>,
    /// The command line that runs it again.
    pub replay: String,
}

/// What a job needs while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// How many of the slots it counts for; more than there are counts as all of them. At least 1.
    pub weight: u32,
    /// The CPUs it runs on.
    pub cpus: Cpus,
    /// Bytes of memory file system and heap that it may fill, counted against the run's budget.
    pub memory_bytes: u64,
}

/// Which CPUs a job runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cpus {
    /// Any that the runner may use, shared with others.
    Shared,
    /// So many of its own: no other job with CPUs of its own is on them. Sharing jobs may still be put there by the
    /// kernel. More than there are means all of them.
    Own(u32),
}

impl Default for Demand {
    fn default() -> Self {
        Self { weight: 1, cpus: Cpus::Shared, memory_bytes: 0 }
    }
}

/// How long a job may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// After this it is reported as slow.
    pub slow: Option<Duration>,
    /// After this its process group is sent SIGTERM.
    pub kill: Option<Duration>,
    /// From SIGTERM, by the limit or by an interrupt, to SIGKILL.
    pub grace: Duration,
}

impl Default for Limit {
    fn default() -> Self {
        Self { slow: None, kill: None, grace: Duration::from_secs(5) }
    }
}

/// The process of a job. It runs in its sandbox, in a process group of its own, with standard input empty.
#[derive(Debug, Clone)]
pub struct Command {
    /// The program. A relative path is meant from the runner's directory, not from the sandbox; a name without a slash
    /// is looked for in `PATH`.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables set on top of the runner's own environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Whether it writes a [`Verdict`](crate::Verdict) into its sandbox. If so, none is a failure; if not, its exit
    /// code decides.
    pub reports: bool,
}

/// What is known of a job from earlier runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expectation {
    /// How long it will take: its own average, else the median of its group; `None` if nothing is known.
    pub expected: Option<Duration>,
    /// What the queue sorts by, the longest first: `expected` for a known job; for an unknown one the longest that is
    /// known of its group, so that it goes early.
    pub sort: Duration,
    /// Durations of earlier passes, the latest last.
    pub past: Vec<Duration>,
    /// Digest of the inputs of its last pass, if nothing but passes came after it.
    pub passed_inputs: Option<String>,
}

//! How a run is to be made, and why one cannot begin.
//!
//! # Invariants
//! - Every [`RunError`] comes before the first job begins.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::queue::{QueueError, SLOTS_MAX};

/// How a run is to be made.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many jobs of weight 1 run at once, 1 to [`SLOTS_MAX`].
    pub slots: u32,
    /// Where run directories are made; usually `target/stress`.
    pub root: PathBuf,
    /// Whether the sandboxes of jobs that passed are kept too.
    pub keep: bool,
    /// A file that gets what each job prints: `[NAME]` stands for its name, `[NUMBER]` for its number in the plan,
    /// from 1.
    pub output_to: Option<PathBuf>,
    /// Whether every assignment, start, end and join is told on standard error and in `trace.log`.
    pub trace: bool,
    /// The seed of the whole run, for its records.
    pub seed: u64,
    /// `quick`, `full`, or whatever the caller calls it, for its records.
    pub profile: String,
    /// Which part of a divided plan this is, for its records; see [`Shard::select`](crate::Shard::select).
    pub shard: Option<(u32, u32)>,
    /// A digest of the whole plan before it was divided, for its records.
    pub whole: Option<String>,
    /// The commit that was built, for its records.
    pub commit: Option<String>,
    /// The CPUs that jobs may run on; `None`: those of this process.
    pub cpus: Option<Vec<u32>>,
    /// How much memory running jobs may ask for together; `None`: what is available now, and no more than is free
    /// where regions are made.
    pub memory_bytes: Option<u64>,
    /// How many jobs of a group run at once, for the groups that have a limit.
    pub group_limits: BTreeMap<String, u32>,
    /// How many run directories of earlier runs stay below `root`: older ones that no run holds are removed when a run
    /// begins, except by a run of a part of a plan, whose other parts may be among them. `None`: all stay.
    pub runs_kept: Option<usize>,
    /// How often the memory of running jobs is looked at, besides their beginnings and ends; zero: never.
    pub sample_every: Duration,
}

impl Default for Settings {
    /// A slot for each CPU that may be used, below `target/stress`, a sample each second.
    fn default() -> Self {
        let slots = std::thread::available_parallelism().map_or(1, |count| count.get());
        Self {
            slots: u32::try_from(slots).unwrap_or(SLOTS_MAX).clamp(1, SLOTS_MAX),
            root: PathBuf::from("target/stress"),
            keep: false,
            output_to: None,
            trace: false,
            seed: 0,
            profile: "full".to_owned(),
            shard: None,
            whole: None,
            commit: None,
            cpus: None,
            memory_bytes: None,
            group_limits: BTreeMap::new(),
            runs_kept: None,
            sample_every: Duration::from_secs(1),
        }
    }
}

/// Why a run did not begin. No job was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The plan can never be carried out, whatever is done first.
    #[error("the plan cannot be carried out: {0}")]
    Queue(#[from] QueueError),
    /// A job asks for more memory than all running jobs together may have.
    #[error(
        "{job} needs {needed} bytes of memory and all running jobs together may have {budget}: free some, or give the \
         job less"
    )]
    Memory {
        /// The job.
        job: String,
        /// What it asks for.
        needed: u64,
        /// What there is.
        budget: u64,
    },
    /// There is not an expectation for every job.
    #[error("{jobs} jobs and {expectations} expectations: there must be one for each")]
    Expectations {
        /// How many jobs.
        jobs: usize,
        /// How many expectations.
        expectations: usize,
    },
    /// Two jobs have the same name and repetition.
    #[error("{name} is in the plan twice as repetition {repetition}: results could not be told apart")]
    Twice {
        /// The name.
        name: String,
        /// The repetition.
        repetition: u32,
    },
    /// The run directory, or a directory or file in it, cannot be made.
    #[error("{path} cannot be made: {source}", path = path.display())]
    Directory {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A skeleton cannot be copied.
    #[error("{path} is part of a skeleton and cannot be copied: {source}", path = path.display())]
    Skeleton {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Two jobs would write their output to the same file.
    #[error(
        "the output of jobs {first} and {second} would both go to {path}: put [NUMBER] into the name",
        path = path.display()
    )]
    OutputTo {
        /// The file.
        path: PathBuf,
        /// Number of the one, from 1.
        first: u32,
        /// Number of the other.
        second: u32,
    },
    /// So many slots need more open files than this process may have.
    #[error("so many slots need {needed} open files and the limit is {limit}: raise it (`ulimit -Hn`) or take fewer slots")]
    Descriptors {
        /// How many all slots together may have open.
        needed: u64,
        /// The hard limit.
        limit: u64,
    },
    /// It cannot be learned which CPUs may be used.
    #[error("the CPUs that may be used cannot be learned: {0}; name them")]
    Cpus(io::Error),
    /// The thread of the reports cannot be made.
    #[error("the thread that reports cannot be made: {0}")]
    Thread(io::Error),
}

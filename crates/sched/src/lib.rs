//! Jobs on bounded slots, worker processes and their readiness, and reports of what happened.
//!
//! [`run`] takes [`Job`]s, starts each as a process in a sandbox of its own on one of a few slots, the longest expected
//! first, and tells [`Sink`]s what happens: a terminal, JSON lines, JUnit, one HTML file, the [`History`] that the next
//! run's expectations come from. Runs of parts of a plan on several machines are [`merge`]d into one report.
//!
//! ```
//! # #[cfg(feature = "runner")] {
//! use outlast_sched::{Command, Demand, Expectation, Job, Limit, Outcome, Settings, Stop, run};
//!
//! let job = |name: &str, script: &str| Job {
//!     global_ordinal: 0,
//!     project: "example".into(),
//!     group: "shell".into(),
//!     name: name.into(),
//!     repetition: 1,
//!     repetitions: 1,
//!     seed: 0,
//!     schedule: None,
//!     demand: Demand::default(),
//!     limit: Limit::default(),
//!     command: Command {
//!         program: "/bin/sh".into(),
//!         arguments: vec!["-c".into(), script.into()],
//!         environment: Vec::new(),
//!         reports: false,
//!     },
//!     skeleton: None,
//!     inputs: None,
//!     skip: None,
//!     replay: format!("sh -c '{script}'"),
//! };
//! let directory = tempfile::tempdir()?;
//! let jobs = vec![job("good", "exit 0"), job("bad", "echo no >&2; exit 3")];
//! let expectations = vec![Expectation::default(); jobs.len()];
//! let settings = Settings { root: directory.path().join("runs"), ..Settings::default() };
//! let report = run(jobs, expectations, &settings, Vec::new(), &Stop::new()?)?;
//! assert_eq!(report.records[0].outcome, Outcome::Passed);
//! assert_eq!((report.records[1].outcome, report.records[1].stderr_tail.trim()), (Outcome::Failed, "no"));
//! assert_eq!(report.summary.exit_code, 100);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//! - None: the marker protocol alone, by which a worker says that it is ready. It needs nothing but std.
//! - `worker`: what a worker process links besides: messages over an inherited socket, the slot in a control region.
//! - `runner` (default): everything else.
//! - `notify`: tells the desktop when a long run is over.
//!
//! # Invariants
//! - Every job of a plan has exactly one [`Record`], however the run goes.
//! - A failure is a result: nothing is run again to make it go away.
//! - A job that was to say how it went and has not is no pass.
//! - Only processes that were started here, and what they have started, are ended here.
//!
//! # What it does not do
//! It knows nothing of workspaces. It does not isolate jobs from each other beyond sandboxes, process groups and CPU
//! leases, limits no memory (a budget is an agreement), and needs Linux with pidfds (5.4 or newer) and `/proc`.
//! A runner that is killed takes no job with it: a job that is to end with it says so to the kernel
//! ([`end_with_parent`]).

mod marker;
#[cfg(feature = "worker")]
mod message;
#[cfg(feature = "worker")]
mod worker;

pub use marker::{
    Identity, MARKER_BYTES_MAX, MARKER_READY, Marker, MarkerError, MarkerParseError, Protocol,
    WORKER_NONCE_ENV, WORKER_PARENT_ENV, WORKER_READY_MARKER_OVERRIDE_ENV, WORKER_READY_MARKER_PREFIX,
    WORKER_STDERR_PREFIX, WORKER_STDOUT_READY_PREFIX, publish_ready, worker_ready_marker_path,
};
#[cfg(feature = "worker")]
pub use message::{MESSAGE_BYTES_MAX, MediumKind, REPORT_BYTES_MAX};
#[cfg(feature = "worker")]
pub use worker::{
    endpoint::{Endpoint, EndpointError, Signpost, end_with_parent},
    namespace::Namespaces,
};

/// Modules that are there with the runner only.
macro_rules! runner {
    ($($item:item)*) => { $(#[cfg(feature = "runner")] $item)* };
}

runner! {
    mod event;
    mod history;
    mod job;
    mod lines;
    mod machine;
    mod merge;
    mod outcome;
    mod process;
    mod queue;
    mod ready;
    mod run;
    mod run_directory;
    mod run_record;
    mod sandbox;
    mod shard;
    mod simulate;
    mod sink;
    mod stop;
    mod verdict;

    pub use event::{Event, Host, JobInfo, Lifetime, PlanInfo, Record, SCHEMA, Sample, Summary};
    pub use history::{History, HistorySink, Problem};
    pub use machine::allowed_cpus;
    pub use job::{Command, Cpus, Demand, Expectation, Job, Limit};
    pub use merge::{MergeError, MergedRun, merge};
    pub use outcome::{Exit, Outcome, Verdict, exit_code};
    pub use process::ProcessRunner;
    pub use queue::{Capacity, Grant, Queue, QueueError, SLOTS_MAX};
    pub use ready::file::{Acceptance, MarkerSpec};
    pub use ready::mishap::{Difference, Mishap, Peer, WorkerError};
    pub use run::{Attempt, JobRunner, RunError, RunReport, Settings, Task, run, run_with};
    pub use run_record::{ReadError, RunRecord};
    pub use shard::{Shard, ShardError};
    pub use simulate::{Dealer, Span, play, simulate};
    pub use sink::recital::Failed;
    pub use sink::{Html, JUnit, JsonLines, Progress, Sink, Terminal, TerminalOptions};
    pub use stop::Stop;
    pub use worker::handle::{Finished, Ready, Worker, finish_all, wait_all_ready};
    pub use worker::spawn::{MediumSpec, Spawn, SpawnError};
}

#[cfg(feature = "notify")]
pub use sink::Notify;

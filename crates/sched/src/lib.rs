//! Jobs on bounded slots, worker processes and their readiness, and reports of what happened.

#[cfg(feature = "runner")]
mod event;
#[cfg(feature = "runner")]
mod job;
#[cfg(feature = "runner")]
mod machine;
#[cfg(feature = "runner")]
mod outcome;
#[cfg(feature = "runner")]
mod process;
#[cfg(feature = "runner")]
mod queue;
#[cfg(feature = "runner")]
mod run;
#[cfg(feature = "runner")]
mod run_directory;
#[cfg(feature = "runner")]
mod sandbox;
#[cfg(feature = "runner")]
mod shard;
#[cfg(feature = "runner")]
mod simulate;
#[cfg(feature = "runner")]
mod sink;
#[cfg(feature = "runner")]
mod stop;
#[cfg(feature = "runner")]
mod verdict;

#[cfg(feature = "runner")]
pub use event::{Event, Host, JobInfo, PlanInfo, Record, SCHEMA, Sample, Summary};
#[cfg(feature = "runner")]
pub use job::{Command, Cpus, Demand, Expectation, Job, Limit};
#[cfg(feature = "runner")]
pub use outcome::{Exit, Outcome, Verdict, exit_code};
#[cfg(feature = "runner")]
pub use process::ProcessRunner;
#[cfg(feature = "runner")]
pub use queue::{Capacity, Grant, Queue, QueueError, SLOTS_MAX};
#[cfg(feature = "runner")]
pub use run::{Attempt, JobRunner, RunError, RunReport, Settings, Task, run, run_with};
#[cfg(feature = "runner")]
pub use shard::{Shard, ShardError};
#[cfg(feature = "runner")]
pub use simulate::{Dealer, Span, play, simulate};
#[cfg(feature = "runner")]
pub use sink::Sink;
#[cfg(feature = "runner")]
pub use stop::Stop;

//! Jobs on bounded slots, worker processes and their readiness, and reports of what happened.

#[cfg(feature = "runner")]
mod event;
#[cfg(feature = "runner")]
mod job;
#[cfg(feature = "runner")]
mod outcome;
#[cfg(feature = "runner")]
mod queue;
#[cfg(feature = "runner")]
mod simulate;
#[cfg(feature = "runner")]
mod sink;

#[cfg(feature = "runner")]
pub use event::{Event, Host, JobInfo, PlanInfo, Record, SCHEMA, Sample, Summary};
#[cfg(feature = "runner")]
pub use job::{Command, Cpus, Demand, Expectation, Job, Limit};
#[cfg(feature = "runner")]
pub use outcome::{Exit, Outcome, Verdict, exit_code};
#[cfg(feature = "runner")]
pub use queue::{Capacity, Grant, Queue, QueueError, SLOTS_MAX};
#[cfg(feature = "runner")]
pub use simulate::{Dealer, Span, play, simulate};
#[cfg(feature = "runner")]
pub use sink::Sink;

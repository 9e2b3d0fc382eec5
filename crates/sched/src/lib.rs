//! Jobs on bounded slots, worker processes and their readiness, and reports of what happened.

#[cfg(feature = "runner")]
mod event;
#[cfg(feature = "runner")]
mod history;
#[cfg(feature = "runner")]
mod job;
#[cfg(feature = "runner")]
mod lines;
#[cfg(feature = "runner")]
mod merge;
#[cfg(feature = "runner")]
mod outcome;
#[cfg(feature = "runner")]
mod run_record;
#[cfg(feature = "runner")]
mod sink;

#[cfg(feature = "runner")]
pub use event::{Event, Host, JobInfo, PlanInfo, Record, SCHEMA, Sample, Summary};
#[cfg(feature = "runner")]
pub use history::{History, HistorySink, Problem};
#[cfg(feature = "runner")]
pub use job::{Command, Cpus, Demand, Expectation, Job, Limit};
#[cfg(feature = "runner")]
pub use merge::{MergeError, MergedRun, merge};
#[cfg(feature = "runner")]
pub use outcome::{Exit, Outcome, Verdict, exit_code};
#[cfg(feature = "runner")]
pub use run_record::{ReadError, RunRecord};
#[cfg(feature = "notify")]
pub use sink::Notify;
#[cfg(feature = "runner")]
pub use sink::recital::Failed;
#[cfg(feature = "runner")]
pub use sink::{Html, JUnit, JsonLines, Progress, Sink, Terminal, TerminalOptions};

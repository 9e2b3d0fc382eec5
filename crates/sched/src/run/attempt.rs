//! One attempt at a job: what its runner is given, and what it gives back.
//!
//! # Invariants
//! - A runner is told everything it needs by its [`Task`]; it shares nothing with the runners of other slots.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::desk::Desk;
use super::settings::RunError;
use crate::event::{Event, Lifetime};
use crate::job::Job;
use crate::outcome::{Exit, Outcome};
use crate::stop::Stop;

/// Carries a job out, on the slot's thread. The shipped one is [`ProcessRunner`](crate::ProcessRunner); another one can
/// stand in, to measure or to simulate the rest.
pub trait JobRunner: Sync {
    /// Looks, before any job begins, whether all can be carried out; `directory` is the run's.
    ///
    /// # Errors
    /// What stands in the way; then no job begins.
    fn prepare(&self, jobs: &[Job], directory: &Path) -> Result<(), RunError> {
        let _ = (jobs, directory);
        Ok(())
    }

    /// Carries one job out, and returns when nothing of it runs any more. A panic is that job's failure.
    fn run(&self, task: &Task<'_>) -> Attempt;

    /// Tidies up after the last job.
    fn finish(&self, directory: &Path) {
        let _ = directory;
    }
}

/// A job on a slot.
#[derive(Debug)]
#[non_exhaustive]
pub struct Task<'a> {
    /// The job.
    pub job: &'a Job,
    /// Its place in the plan, from 0.
    pub ordinal: u32,
    /// The slot, from 0.
    pub slot: u32,
    /// CPUs of its own; empty if it shares.
    pub cpus: &'a [u32],
    /// The CPUs that it is to be kept on, if they are other than this thread's.
    pub affinity: Option<&'a [u32]>,
    /// The run directory.
    pub directory: &'a Path,
    /// Whether the run is to stop.
    pub stop: &'a Stop,
    /// When the run began.
    pub run_began: Instant,
    pub(crate) desk: &'a Desk,
}

impl Task<'_> {
    /// To be called when the job's process runs; it must lead a process group, whose memory is then looked at.
    pub fn started(&self, pid: u32) {
        self.desk.started(self.slot, pid);
        let at = self.run_began.elapsed();
        self.desk.tell(Event::Started { ordinal: self.ordinal, slot: self.slot, pid, at });
    }

    /// To be called when the job has run past its limit for slow jobs.
    pub fn slow(&self, ran: Duration) {
        self.desk.tell(Event::Slow { ordinal: self.ordinal, ran });
    }
}

/// What came of a task. The fields are those of a [`Record`](crate::Record).
#[derive(Debug, Clone)]
#[non_exhaustive]
#[allow(missing_docs, reason = "they are documented where they end up, in Record")]
pub struct Attempt {
    pub outcome: Outcome,
    pub reason: Option<String>,
    pub text: String,
    pub exit: Option<Exit>,
    pub process: Option<Lifetime>,
    pub slow: bool,
    pub leaked: Vec<String>,
    pub sandbox: Option<PathBuf>,
    pub stdout_tail: String,
    pub stderr_tail: String,
    pub replay: Option<String>,
    pub schedule: Option<String>,
    pub report: serde_json::Value,
}

impl Attempt {
    /// An attempt that ended like this, for this reason.
    pub fn new(outcome: Outcome, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..Self::from(outcome) }
    }

    /// Adds a line to the text for people.
    pub(crate) fn remark(&mut self, remark: &str) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.text.push_str(remark);
    }
}

impl From<Outcome> for Attempt {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            reason: None,
            text: String::new(),
            exit: None,
            process: None,
            slow: false,
            leaked: Vec::new(),
            sandbox: None,
            stdout_tail: String::new(),
            stderr_tail: String::new(),
            replay: None,
            schedule: None,
            report: serde_json::Value::Null,
        }
    }
}

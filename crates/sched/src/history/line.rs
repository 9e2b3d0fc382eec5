//! The lines of the history's file.
//!
//! # Invariants
//! - A line is at most [`MOST_BYTES`] long: what could be longer is cut before it is written.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::{Record, SCHEMA};
use crate::outcome::Outcome;
use crate::sink::recital::Failed;
use crate::sink::words::short;

/// The longest line that is written or read.
pub(crate) const MOST_BYTES: usize = 256 << 10;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum HistoryLine {
    Job(JobLine),
    Recital(RecitalLine),
}

/// A job that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct JobLine {
    pub(crate) schema: u32,
    pub(crate) group: String,
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    pub(crate) duration_ns: u64,
    pub(crate) seed: u64,
    pub(crate) schedule: Option<String>,
    pub(crate) commit: Option<String>,
    pub(crate) run: String,
    pub(crate) unix_ms: u64,
    pub(crate) inputs: Option<String>,
    pub(crate) reason: Option<String>,
    /// Only of a failure.
    #[serde(default)]
    pub(crate) replay: Option<String>,
}

/// The failures of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecitalLine {
    pub(crate) schema: u32,
    pub(crate) run: String,
    pub(crate) failed: Vec<Failed>,
}

impl JobLine {
    /// The line of a job that ran in a run; `None` if it did not run.
    pub(crate) fn of(record: &Record, run: &str, commit: Option<&str>, unix_ms: u64) -> Option<Self> {
        let ran = !matches!(record.outcome, Outcome::Cached | Outcome::Skipped | Outcome::Interrupted);
        ran.then(|| Self {
            schema: SCHEMA,
            group: cut(&record.group),
            name: cut(&record.name),
            outcome: record.outcome,
            duration_ns: u64::try_from(record.duration.as_nanos()).unwrap_or(u64::MAX),
            seed: record.seed,
            schedule: record.schedule.as_deref().and_then(whole),
            commit: commit.map(cut),
            run: cut(run),
            unix_ms,
            inputs: record.inputs.as_deref().and_then(whole),
            reason: record.reason.as_deref().map(|reason| short(reason, 200).into_owned()),
            replay: record.outcome.is_failure().then(|| whole(&record.replay).unwrap_or_default()),
        })
    }

    pub(crate) fn duration(&self) -> Duration {
        Duration::from_nanos(self.duration_ns)
    }

    /// As a failure that can be called.
    pub(crate) fn failed(&self) -> Failed {
        Failed {
            number: 0,
            group: self.group.clone(),
            name: self.name.clone(),
            seed: self.seed,
            schedule: self.schedule.clone(),
            replay: self.replay.clone().unwrap_or_default(),
        }
    }
}

impl RecitalLine {
    /// The line of a run. Failures that would make it too long are left out from the end.
    pub(crate) fn new(run: &str, failed: Vec<Failed>) -> Self {
        let mut left = MOST_BYTES / 2;
        let fits = |failed: &Failed| {
            let schedule = failed.schedule.as_deref().map_or(0, str::len);
            // JSON may need six bytes for one, and the names of the fields.
            let bytes = 6 * (failed.group.len() + failed.name.len() + schedule + failed.replay.len()) + 128;
            let fits = bytes <= left;
            left = left.saturating_sub(bytes);
            fits
        };
        Self { schema: SCHEMA, run: cut(run), failed: failed.into_iter().take_while(fits).collect() }
    }
}

/// Names are cut, so that a line is never too long.
fn cut(text: &str) -> String {
    short(text, 1000).into_owned()
}

/// What is useless when it is cut is left out if it is too long.
fn whole(text: &str) -> Option<String> {
    (text.len() <= 16 << 10).then(|| text.to_owned())
}

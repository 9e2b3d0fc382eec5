//! What is remembered from run to run: how long jobs take, what failed and how to repeat it.
//!
//! The file has one JSON value a line: a `job` for each job that ran, written when it ended, and a `recital` for each
//! run, written at its end. Jobs that did not run (skipped, cached, interrupted) leave no line, as they teach nothing.
//!
//! # Invariants
//! - A line is appended whole, under a lock, by one write; a torn line that a kill left is closed by a newline first.
//! - A line that cannot be read is reported and passed over; it never hides another.
//! - Memory and, by compaction, the file are bounded by the number of jobs, not by the number of runs.
//! - The numbers of failures stay as they were said until a run with failures says new ones.

mod file;
mod line;
mod show;
mod sink;
mod state;

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::job::Expectation;
use crate::sink::recital::Failed;
use line::JobLine;
use state::State;

pub use sink::HistorySink;

/// What is known from earlier runs.
#[derive(Debug, Clone, Default)]
pub struct History {
    state: State,
}

/// A line of the history that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub what: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}; it was passed over", self.line, self.what)
    }
}

impl History {
    /// Reads a history; one that does not exist is empty. Lines that cannot be used are passed over and reported, of
    /// many only the first hundred.
    ///
    /// # Errors
    /// If the file is there and cannot be read; the message names it.
    pub fn load(path: &Path) -> io::Result<(Self, Vec<Problem>)> {
        let (state, problems) = file::load(path)?;
        Ok((Self { state }, problems))
    }

    /// What to expect of a job: its average (the latest pass weighs 0.3, all earlier ones together 0.7), else the
    /// median of its group. See [`Expectation`].
    pub fn expectation(&self, group: &str, name: &str) -> Expectation {
        let known = self.state.group(group);
        let job = self.state.job(group, name);
        let own = job.and_then(state::Job::average);
        let unknown = known.map_or(self.state.longest(), |group| group.longest);
        Expectation {
            expected: own.or(known.map(|group| group.median)),
            sort: own.unwrap_or(unknown),
            past: job.map(|job| job.passes.iter().map(JobLine::duration).collect()).unwrap_or_default(),
            passed_inputs: job.and_then(state::Job::passed_inputs),
        }
    }

    /// The failures by their numbers: those of the last run that had any, but for jobs that have passed since, and
    /// after them older ones that were not run again.
    pub fn failures(&self) -> Vec<Failed> {
        self.state.failures()
    }

    /// What is known of each job that `wanted(group, name)` chooses, as text: its last outcome, its last durations, the
    /// last seed that failed.
    pub fn show(&self, wanted: impl Fn(&str, &str) -> bool) -> String {
        show::text(&self.state, wanted)
    }
}

/// Of a known group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    median: Duration,
    longest: Duration,
}

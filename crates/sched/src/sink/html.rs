//! The run as one HTML page that needs nothing else: no server, no network, no script to be read.
//!
//! # Invariants
//! - Everything that comes from a job goes through [`escape::text`] or [`escape::json`]: no output of a job becomes
//!   markup.
//! - What colour says is said in words too.
//! - The page refers to nothing outside itself, and its policy forbids it to.

mod chart;
mod curves;
mod escape;
mod failures;
mod gantt;
mod jobs;
mod page;
mod style;

use std::io;
use std::path::PathBuf;

use super::Sink;
use super::gather::Gather;
use super::publish::publish;
use crate::event::Event;

/// Writes a page when the run is over: verdict, failures with the lines that repeat them, a chart of slots over time,
/// throughput and memory, every job against its history, and what was skipped and why.
///
/// Costs memory for all records until the end. A page of 2,000 jobs has about 2 MB.
#[derive(Debug)]
pub struct Html {
    /// `None`: `report.html` in the run directory.
    path: Option<PathBuf>,
    lanes: Vec<String>,
    gather: Gather,
}

impl Html {
    /// The file appears when the run is over, whole, in place of one that may be there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()), lanes: Vec::new(), gather: Gather::default() }
    }

    /// The same as `report.html` in the run directory.
    pub fn in_run_directory() -> Self {
        Self { path: None, lanes: Vec::new(), gather: Gather::default() }
    }

    /// What each slot is called in the chart, from slot 0 on; slots without a name are `slot 1` and so on.
    #[must_use]
    pub fn with_lanes(mut self, lanes: Vec<String>) -> Self {
        self.lanes = lanes;
        self
    }
}

impl Sink for Html {
    fn on(&mut self, event: &Event) -> io::Result<()> {
        match self.gather.on(event) {
            Some(run) => {
                let path = self.path.clone().unwrap_or_else(|| run.plan.directory.join("report.html"));
                publish(&path, page::page(&run, &self.lanes).as_bytes())
            }
            None => Ok(()),
        }
    }
}

//! Writes the history while a run goes on.
//!
//! # Invariants
//! - A job's line is in the file when its end was told, so that a killed run is remembered as far as it came.
//! - The recital's numbers are those that the terminal shows.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::file;
use super::line::{HistoryLine, JobLine, RecitalLine};
use crate::event::{Event, Record};
use crate::sink::Sink;
use crate::sink::recital::Recital;

/// Appends to a history what happens in a run.
///
/// Each end costs one locked append; it waits at most 10 s for another run that writes. At the end of a run a file that
/// has grown past 8 MiB is rewritten with what is still needed of it.
#[derive(Debug)]
pub struct HistorySink {
    path: PathBuf,
    commit: Option<String>,
    run: String,
    started_unix_ms: u64,
    recital: Recital,
}

impl HistorySink {
    /// A sink into the file, which is made if it is missing. Without a `commit`, that of the plan is used.
    pub fn new(path: impl Into<PathBuf>, commit: Option<String>) -> Self {
        Self {
            path: path.into(),
            commit,
            run: String::new(),
            started_unix_ms: 0,
            recital: Recital::default(),
        }
    }

    fn finished(&mut self, record: &Record) -> io::Result<()> {
        self.recital.add(record);
        let end: Duration = record.start.saturating_add(record.duration);
        let unix_ms = self.started_unix_ms.saturating_add(u64::try_from(end.as_millis()).unwrap_or(u64::MAX));
        match JobLine::of(record, &self.run, self.commit.as_deref(), unix_ms) {
            Some(line) => file::append(&self.path, &HistoryLine::Job(line)),
            None => Ok(()),
        }
    }
}

impl Sink for HistorySink {
    fn on(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Planned(plan) => {
                self.run.clone_from(&plan.run);
                self.started_unix_ms = plan.started_unix_ms;
                self.recital = Recital::default();
                if self.commit.is_none() {
                    self.commit.clone_from(&plan.commit);
                }
            }
            Event::Finished(record) => self.finished(record)?,
            Event::Ended(_) => {
                let line = RecitalLine::new(&self.run, self.recital.numbered());
                file::append(&self.path, &HistoryLine::Recital(line))?;
                file::compact(&self.path, file::COMPACT_BYTES)?;
            }
            _ => {}
        }
        Ok(())
    }
}

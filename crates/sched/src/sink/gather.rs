//! Everything of a run, for the sinks that write when it is over.
//!
//! # Invariants
//! - What is gathered from events is what [`RunRecord::read`](crate::RunRecord::read) finds in the run's directory.

use crate::event::Event;
use crate::run_record::RunRecord;

/// A run as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Gather(Option<RunRecord>);

impl Gather {
    /// Takes an event; returns the run when this was its last.
    pub(crate) fn on(&mut self, event: &Event) -> Option<RunRecord> {
        if let Event::Planned(plan) = event {
            self.0 = Some(RunRecord::new((**plan).clone()));
        }
        let run = self.0.as_mut()?;
        match event {
            Event::Finished(record) => run.records.push((**record).clone()),
            Event::Sampled(sample) => run.push_sample(*sample),
            Event::Ended(summary) => {
                run.summary = Some(summary.clone());
                return self.0.take();
            }
            _ => {}
        }
        None
    }
}

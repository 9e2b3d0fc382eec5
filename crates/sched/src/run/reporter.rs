//! The one thread that sinks run on, and that keeps every record whatever the sinks do.
//!
//! # Invariants
//! - A sink that fails or panics gets no more events; the others do not notice.
//! - There is one record for each job of the plan when the end is told.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Receiver;

use crate::event::{Event, Record, SCHEMA, Summary};
use crate::outcome::{Outcome, exit_code};
use crate::sink::Sink;

/// What the reporter has at the end.
#[derive(Debug)]
pub(super) struct Reported {
    pub(super) records: Vec<Record>,
    pub(super) summary: Summary,
    pub(super) errors: Vec<String>,
}

/// Listens until [`Event::Ended`], whose exit code it works out. The first sink is called `run directory` in errors.
pub(super) fn report(events: &Receiver<Event>, sinks: Vec<Box<dyn Sink>>) -> Reported {
    let mut sinks: Vec<(usize, Box<dyn Sink>)> = sinks.into_iter().enumerate().collect();
    let mut records: Vec<Record> = Vec::new();
    let mut errors = Vec::new();
    let mut summary =
        Summary { schema: SCHEMA, elapsed: Default::default(), interrupted: false, exit_code: 0 };
    // The channel closes without an end only if the run itself panicked, and then nobody reads the result.
    while let Ok(mut event) = events.recv() {
        match &mut event {
            Event::Finished(record) => {
                record.completion = u32::try_from(records.len()).unwrap_or(u32::MAX);
                records.push(Record::clone(record));
            }
            Event::Ended(ended) => {
                let outcomes = || records.iter().map(|record| record.outcome);
                ended.interrupted = outcomes().any(|outcome| outcome == Outcome::Interrupted);
                ended.exit_code = exit_code(outcomes());
                summary = ended.clone();
            }
            _ => {}
        }
        sinks.retain_mut(|(index, sink)| match give(sink.as_mut(), &event) {
            Ok(()) => true,
            Err(error) => {
                errors.push(if *index == 0 {
                    format!("run directory: {error}")
                } else {
                    format!("sink {index}: {error}")
                });
                false
            }
        });
        if matches!(event, Event::Ended(_)) {
            break;
        }
    }
    records.sort_by_key(|record| record.ordinal);
    Reported { records, summary, errors }
}

fn give(sink: &mut dyn Sink, event: &Event) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(|| sink.on(event))) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("it panicked: {}", panic_text(&*panic))),
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}

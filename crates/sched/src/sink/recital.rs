//! The numbers by which failures are called again.
//!
//! # Invariants
//! - Numbers count from 1 in plan order; repetitions of one job share a number, with the seed of the first that failed.
//! - The terminal and the history number by this one function, so that they agree.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Record;

/// A failure that can be called by its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Its number, from 1.
    pub number: u32,
    /// The job's group.
    #[serde(default)]
    pub group: String,
    /// The job's name.
    pub name: String,
    /// The seed that failed.
    pub seed: u64,
    /// The schedule that failed, if it ran under one.
    pub schedule: Option<String>,
    /// The command line that repeats it.
    pub replay: String,
}

impl Failed {
    pub(crate) fn of(record: &Record) -> Self {
        Self {
            number: 0,
            group: record.group.clone(),
            name: record.name.clone(),
            seed: record.seed,
            schedule: record.schedule.clone(),
            replay: record.replay.clone(),
        }
    }
}

/// Failures as they come, in any order.
#[derive(Debug, Default)]
pub(crate) struct Recital(BTreeMap<u32, Failed>);

impl Recital {
    pub(crate) fn add(&mut self, record: &Record) {
        if record.outcome.is_failure() {
            self.0.insert(record.ordinal, Failed::of(record));
        }
    }

    pub(crate) fn numbered(&self) -> Vec<Failed> {
        let mut seen = std::collections::HashSet::new();
        let mut failed: Vec<Failed> = self
            .0
            .values()
            .filter(|failed| seen.insert((failed.group.as_str(), failed.name.as_str())))
            .cloned()
            .collect();
        renumber(&mut failed);
        failed
    }
}

/// Numbers from 1 in the order that they have.
pub(crate) fn renumber(failed: &mut [Failed]) {
    for (failed, number) in failed.iter_mut().zip(1..) {
        failed.number = number;
    }
}

//! The jobs of a run with what is known of them, and the records made from them.
//!
//! # Invariants
//! - A record has the job's own words wherever the attempt had nothing to add.

use std::collections::BTreeSet;
use std::time::Duration;

use super::attempt::Attempt;
use super::settings::{RunError, Settings};
use crate::event::{JobInfo, Record, SCHEMA};
use crate::job::{Cpus, Demand, Expectation, Job};
use crate::machine;
use crate::outcome::Outcome;
use crate::queue::{Capacity, Queue, QueueError};

/// A plan.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) jobs: Vec<Job>,
    expectations: Vec<Expectation>,
}

/// When and where something ran.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub(super) slot: Option<u32>,
    pub(super) cpus: Vec<u32>,
    pub(super) start: Duration,
    pub(super) duration: Duration,
    pub(super) peak_bytes: Option<u64>,
}

/// What is to be run, and what is not.
pub(super) struct Sorted {
    pub(super) queue: Queue,
    /// The job of each ordinal of the queue.
    pub(super) queued: Vec<u32>,
    /// Jobs that end without a slot.
    pub(super) settled: Vec<(u32, Attempt)>,
}

impl Plan {
    pub(super) fn new(jobs: Vec<Job>, expectations: Vec<Expectation>) -> Result<Self, RunError> {
        if jobs.len() != expectations.len() {
            return Err(RunError::Expectations { jobs: jobs.len(), expectations: expectations.len() });
        }
        let mut seen = BTreeSet::new();
        for job in &jobs {
            if !seen.insert((&job.name, job.repetition)) {
                return Err(RunError::Twice { name: job.name.clone(), repetition: job.repetition });
            }
        }
        Ok(Self { jobs, expectations })
    }

    /// What there is to be shared out under these settings.
    pub(super) fn capacity(&self, settings: &Settings) -> Result<Capacity, RunError> {
        let cpus = match &settings.cpus {
            Some(cpus) => cpus.clone(),
            None => match machine::allowed_cpus() {
                // They are needed only to be leased.
                Err(error) if self.jobs.iter().any(|job| job.demand.cpus != Cpus::Shared) => {
                    return Err(RunError::Cpus(error));
                }
                cpus => cpus.unwrap_or_default(),
            },
        };
        let memory_bytes = settings.memory_bytes.unwrap_or_else(machine::memory_budget_bytes);
        Ok(Capacity {
            slots: settings.slots,
            cpus,
            memory_bytes,
            group_limits: settings.group_limits.clone(),
        })
    }

    /// Parts what needs a slot from what does not.
    pub(super) fn sort(&self, capacity: &Capacity) -> Result<Sorted, RunError> {
        let (mut settled, mut queued) = (Vec::new(), Vec::new());
        let mut queue: Vec<(String, Demand, Duration)> = Vec::new();
        for (ordinal, (job, expectation)) in (0..).zip(self.jobs.iter().zip(&self.expectations)) {
            if let Some(reason) = &job.skip {
                settled.push((ordinal, Attempt::new(Outcome::Skipped, reason)));
            } else if job.inputs.is_some() && job.inputs == expectation.passed_inputs {
                settled.push((ordinal, Attempt::from(Outcome::Cached)));
            } else {
                queued.push(ordinal);
                queue.push((job.group.clone(), job.demand, expectation.sort));
            }
        }
        let queue = Queue::new(&queue, capacity).map_err(|error| match error {
            QueueError::Memory { ordinal, needed, budget, .. } => {
                let job = self.jobs[queued[ordinal as usize] as usize].name.clone();
                RunError::Memory { job, needed, budget }
            }
            error => error.into(),
        })?;
        Ok(Sorted { queue, queued, settled })
    }

    pub(super) fn infos(&self) -> Vec<JobInfo> {
        let nanoseconds = |past: &Duration| u64::try_from(past.as_nanos()).unwrap_or(u64::MAX);
        let jobs = (0..).zip(self.jobs.iter().zip(&self.expectations));
        jobs.map(|(ordinal, (job, expectation))| JobInfo {
            ordinal,
            global_ordinal: job.global_ordinal,
            project: job.project.clone(),
            group: job.group.clone(),
            name: job.name.clone(),
            repetition: job.repetition,
            repetitions: job.repetitions,
            seed: job.seed,
            expected: expectation.expected,
            past_ns: expectation.past.iter().map(nanoseconds).collect(),
        })
        .collect()
    }

    /// The record of a job's end. Its place among the ends is the reporter's to say.
    pub(super) fn record(&self, ordinal: u32, attempt: Attempt, place: Place) -> Record {
        let job = &self.jobs[ordinal as usize];
        Record {
            schema: SCHEMA,
            ordinal,
            global_ordinal: job.global_ordinal,
            completion: 0,
            project: job.project.clone(),
            group: job.group.clone(),
            name: job.name.clone(),
            repetition: job.repetition,
            repetitions: job.repetitions,
            seed: job.seed,
            outcome: attempt.outcome,
            reason: attempt.reason,
            text: attempt.text,
            exit: attempt.exit,
            slot: place.slot,
            cpus: place.cpus,
            start: place.start,
            duration: place.duration,
            process: attempt.process,
            expected: self.expectations[ordinal as usize].expected,
            slow: attempt.slow,
            peak_bytes: place.peak_bytes,
            leaked: attempt.leaked,
            sandbox: attempt.sandbox,
            stdout_tail: attempt.stdout_tail,
            stderr_tail: attempt.stderr_tail,
            replay: attempt.replay.unwrap_or_else(|| job.replay.clone()),
            schedule: attempt.schedule.or_else(|| job.schedule.clone()),
            inputs: job.inputs.clone(),
            report: attempt.report,
        }
    }
}

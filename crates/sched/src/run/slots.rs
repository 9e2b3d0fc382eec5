//! The slots: one thread each, for the whole run, that take jobs from the queue one at a time.
//!
//! # Invariants
//! - A slot waits only while nothing fits and something runs, whose end wakes it; so no wake-up can be missed.
//! - Whatever a runner does, its grant is given back and its job has a record.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use super::attempt::{Attempt, JobRunner, Task};
use super::desk::{Desk, lock};
use super::plan::{Place, Plan};
use super::reporter::panic_text;
use crate::event::Event;
use crate::outcome::Outcome;
use crate::queue::{Grant, Queue};
use crate::stop::Stop;

/// What the slots of a run share.
#[derive(Debug)]
pub(super) struct Slots<'a, R> {
    pub(super) plan: &'a Plan,
    /// The job of each ordinal of the queue.
    pub(super) queued: Vec<u32>,
    pub(super) queue: Mutex<Queue>,
    pub(super) given_back: Condvar,
    pub(super) runner: &'a R,
    pub(super) desk: &'a Desk,
    pub(super) directory: &'a Path,
    /// The CPUs that jobs are to be kept on, if they are other than this process's.
    pub(super) affinity: Option<&'a [u32]>,
    pub(super) stop: &'a Stop,
}

impl<R: JobRunner> Slots<'_, R> {
    /// Works on one slot until nothing waits or the run is to stop.
    pub(super) fn work(&self, slot: u32) {
        while let Some(grant) = self.next() {
            self.carry_out(slot, &grant);
            lock(&self.queue).give_back(grant);
            self.given_back.notify_all();
        }
        self.desk.trace(format_args!("slot {slot}: joins"));
    }

    /// Takes out what was never begun, for a record of its own: the jobs' ordinals.
    pub(super) fn drain(&self) -> Vec<u32> {
        let waiting = lock(&self.queue).drain();
        waiting.into_iter().map(|place| self.queued[place as usize]).collect()
    }

    /// Ends a job that is on no slot.
    pub(super) fn settle(&self, ordinal: u32, attempt: Attempt) {
        let place = Place { start: self.desk.began.elapsed(), ..Place::default() };
        self.desk.finished();
        self.desk.tell(Event::Finished(Box::new(self.plan.record(ordinal, attempt, place))));
    }

    fn next(&self) -> Option<Grant> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.waiting() == 0 || self.stop.is_requested() {
                return None;
            }
            if let Some(grant) = queue.take() {
                return Some(grant);
            }
            queue = self.given_back.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn carry_out(&self, slot: u32, grant: &Grant) {
        let ordinal = self.queued[grant.ordinal as usize];
        let began = Instant::now();
        let start = began.duration_since(self.desk.began);
        self.desk.occupied(slot);
        self.desk.tell(Event::Assigned { ordinal, slot, cpus: grant.cpus.clone(), at: start });
        let task = Task {
            job: &self.plan.jobs[ordinal as usize],
            ordinal,
            slot,
            cpus: &grant.cpus,
            affinity: if grant.cpus.is_empty() { self.affinity } else { Some(&grant.cpus) },
            directory: self.directory,
            stop: self.stop,
            run_began: self.desk.began,
            desk: self.desk,
        };
        let attempt = catch_unwind(AssertUnwindSafe(|| self.runner.run(&task))).unwrap_or_else(|panic| {
            Attempt::new(Outcome::Failed, format!("its runner panicked: {}", panic_text(&*panic)))
        });
        let (duration, peak_bytes) = (began.elapsed(), self.desk.vacated(slot));
        let place = Place { slot: Some(slot), cpus: grant.cpus.clone(), start, duration, peak_bytes };
        self.desk.tell(Event::Finished(Box::new(self.plan.record(ordinal, attempt, place))));
    }
}

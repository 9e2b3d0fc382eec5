//! A run without processes: virtual time in place of the clock, given durations in place of jobs.
//!
//! It drives the very [`Queue`] that is shipped, so that what holds here of the order of jobs holds of a run, but for
//! what starting a process costs.
//!
//! # Invariants
//! - Nothing is left idle that the dealer would deal: it is asked again after every end.
//! - Jobs that end at the same moment are all given back before the next is taken.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use crate::job::Demand;
use crate::queue::{Capacity, Grant, Queue, QueueError};

/// Deals jobs out: the [`Queue`], or a worse one for comparison.
pub trait Dealer {
    /// What comes back when the job has ended.
    type Deal;
    /// The next job and its deal, if one may begin now.
    fn take(&mut self) -> Option<(u32, Self::Deal)>;
    /// A job has ended.
    fn give_back(&mut self, deal: Self::Deal);
}

impl Dealer for Queue {
    type Deal = Grant;

    fn take(&mut self) -> Option<(u32, Grant)> {
        Self::take(self).map(|grant| (grant.ordinal, grant))
    }

    fn give_back(&mut self, grant: Grant) {
        Self::give_back(self, grant);
    }
}

/// One job of a simulated run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The job.
    pub ordinal: u32,
    /// When it began.
    pub start: Duration,
    /// When it ended.
    pub end: Duration,
}

/// Lets a dealer deal jobs that take the given times, by ordinal, until it has none left; `began` is told of each as
/// it begins. The makespan is the latest end.
///
/// # Panics
/// If the dealer deals a job that has no duration.
pub fn play<D: Dealer>(
    dealer: &mut D,
    durations: &[Duration],
    mut began: impl FnMut(Span, &D::Deal),
) -> Duration {
    let mut now = Duration::ZERO;
    let mut ends = BinaryHeap::new();
    let mut deals = BTreeMap::new();
    loop {
        while let Some((ordinal, deal)) = dealer.take() {
            let end = now + durations[ordinal as usize];
            began(Span { ordinal, start: now, end }, &deal);
            deals.insert(ordinal, deal);
            ends.push(Reverse((end, ordinal)));
        }
        let Some(&Reverse((end, _))) = ends.peek() else { return now };
        now = end;
        while let Some(&Reverse((at, ordinal))) = ends.peek()
            && at == now
        {
            ends.pop();
            if let Some(deal) = deals.remove(&ordinal) {
                dealer.give_back(deal);
            }
        }
    }
}

/// The makespan of jobs of weight 1 that share the CPUs, taken by the shipped queue in the order of `sort_keys`.
///
/// ```
/// use std::time::Duration;
/// let durations = [3, 3, 2, 2, 2].map(Duration::from_secs);
/// let makespan = outlast_sched::simulate(&durations, &durations, 2)?;
/// assert_eq!(makespan, Duration::from_secs(7)); // The best is 6, and 4/3 - 1/6 of it the bound.
/// # Ok::<(), outlast_sched::QueueError>(())
/// ```
///
/// # Errors
/// Those of [`Queue::new`].
///
/// # Panics
/// If there are fewer durations than sort keys.
pub fn simulate(durations: &[Duration], sort_keys: &[Duration], slots: u32) -> Result<Duration, QueueError> {
    let jobs: Vec<_> = sort_keys.iter().map(|&sort| (String::new(), Demand::default(), sort)).collect();
    let capacity = Capacity { slots, cpus: Vec::new(), memory_bytes: 0, group_limits: BTreeMap::new() };
    Ok(play(&mut Queue::new(&jobs, &capacity)?, durations, |_, _| {}))
}

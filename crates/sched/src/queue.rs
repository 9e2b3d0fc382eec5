//! Which job is next: the longest that fits into what is free now.
//!
//! The queue is plain data, with no thread and no clock, so that what is shipped is what is simulated
//! (see [`simulate`](crate::simulate)). The slots ask it under their lock.
//!
//! A job that asks for much may have to wait until little else is left: nothing is held free for it. None waits for
//! ever, since a plan is finite.
//!
//! Jobs of equal demand and group form a class, sorted once; only the head of each class is compared. A plan has few
//! classes, however many jobs it has, so that a choice costs no more than a walk over the heads.
//!
//! # Invariants
//! - Every job is granted exactly once, or handed back by [`Queue::drain`].
//! - Granted weights, memory and group counts never exceed the capacity; granted CPUs are disjoint.
//! - A job that does not fit holds up no other; with nothing granted, every head fits.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::job::{Cpus, Demand};

/// The most slots that a run may have.
pub const SLOTS_MAX: u32 = 256;

/// What there is to be shared out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    /// How many jobs of weight 1 run at once, 1 to [`SLOTS_MAX`].
    pub slots: u32,
    /// The CPUs that the runner may use.
    pub cpus: Vec<u32>,
    /// How much memory all running jobs together may ask for.
    pub memory_bytes: u64,
    /// How many jobs of a group run at once, for the groups that have a limit.
    pub group_limits: BTreeMap<String, u32>,
}

/// Why a plan can never be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The number of slots is out of bounds.
    #[error("{found} slots: there must be 1 to {SLOTS_MAX}")]
    Slots {
        /// What was asked for.
        found: u32,
    },
    /// A group may never run.
    #[error("the limit of group {group} is 0, so that none of its jobs could run: give it at least 1")]
    GroupLimit {
        /// The group.
        group: String,
    },
    /// A job asks for more memory than all jobs together may have.
    #[error(
        "job {ordinal} of group {group} needs {needed} bytes of memory and all jobs together may have {budget}: \
         give the run more, or the job less"
    )]
    Memory {
        /// Place of the job among those given to the queue.
        ordinal: u32,
        /// Its group.
        group: String,
        /// What it asks for.
        needed: u64,
        /// What there is.
        budget: u64,
    },
    /// A job asks for CPUs of its own and there are none.
    #[error("job {ordinal} of group {group} needs CPUs of its own, and the runner was given none")]
    NoCpus {
        /// Place of the job among those given to the queue.
        ordinal: u32,
        /// Its group.
        group: String,
    },
    /// More jobs than ordinals.
    #[error("{found} jobs: there can be at most 4294967295")]
    TooMany {
        /// How many there are.
        found: usize,
    },
}

/// The right to run one job with these CPUs, until it is [given back](Queue::give_back).
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what was granted is occupied until it is given back"]
pub struct Grant {
    /// The job: its place among those given to [`Queue::new`].
    pub ordinal: u32,
    /// CPUs of its own; empty if it shares.
    pub cpus: Vec<u32>,
    class: usize,
}

/// Jobs that wait, and what is free.
///
/// ```
/// use std::time::Duration;
/// use outlast_sched::{Capacity, Demand, Queue};
///
/// let capacity = Capacity { slots: 1, cpus: vec![0], memory_bytes: 0, group_limits: Default::default() };
/// let job = |seconds| (String::from("group"), Demand::default(), Duration::from_secs(seconds));
/// let mut queue = Queue::new(&[job(1), job(9)], &capacity)?;
/// let longest = queue.take().expect("something fits");
/// assert_eq!(longest.ordinal, 1);
/// assert!(queue.take().is_none(), "the only slot is taken");
/// queue.give_back(longest);
/// assert_eq!(queue.take().map(|grant| grant.ordinal), Some(0));
/// # Ok::<(), outlast_sched::QueueError>(())
/// ```
#[derive(Debug)]
pub struct Queue {
    classes: Vec<Class>,
    heads: BTreeSet<Head>,
    waiting: usize,
    running: usize,
    free_slots: u32,
    free_cpus: BTreeSet<u32>,
    free_memory_bytes: u64,
    /// What each limited group may still begin.
    free_of_groups: Vec<u32>,
}

/// Jobs that ask for the same, the first to go in front.
#[derive(Debug)]
struct Class {
    needs: Needs,
    jobs: VecDeque<(Reverse<Duration>, u32)>,
}

/// A demand in terms of what there is: weight and CPUs no more than all, the group by its place among those with limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Needs {
    slots: u32,
    cpus: u32,
    memory_bytes: u64,
    limited_group: Option<usize>,
}

/// First job of a class: the longest goes first, then the earlier in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    sort: Reverse<Duration>,
    ordinal: u32,
    class: usize,
}

impl Queue {
    /// Makes a queue of jobs: group, demand, and the duration to sort by. A job's ordinal is its place in `jobs`.
    /// Costs one sort.
    ///
    /// # Errors
    /// If the capacity is out of bounds, or a job could not run even alone.
    pub fn new(jobs: &[(String, Demand, Duration)], capacity: &Capacity) -> Result<Self, QueueError> {
        if !(1..=SLOTS_MAX).contains(&capacity.slots) {
            return Err(QueueError::Slots { found: capacity.slots });
        }
        if let Some((group, _)) = capacity.group_limits.iter().find(|(_, limit)| **limit == 0) {
            return Err(QueueError::GroupLimit { group: group.clone() });
        }
        if u32::try_from(jobs.len()).is_err() {
            return Err(QueueError::TooMany { found: jobs.len() });
        }
        let free_cpus: BTreeSet<u32> = capacity.cpus.iter().copied().collect();
        let cpus = u32::try_from(free_cpus.len()).unwrap_or(u32::MAX);
        let limited: Vec<&String> = capacity.group_limits.keys().collect();
        let mut classes: BTreeMap<Needs, Vec<(Reverse<Duration>, u32)>> = BTreeMap::new();
        for (ordinal, (group, demand, sort)) in (0..).zip(jobs) {
            let needs = Needs {
                slots: demand.weight.clamp(1, capacity.slots),
                cpus: match demand.cpus {
                    Cpus::Shared => 0,
                    Cpus::Own(_) if cpus == 0 => {
                        return Err(QueueError::NoCpus { ordinal, group: group.clone() });
                    }
                    Cpus::Own(wanted) => wanted.clamp(1, cpus),
                },
                memory_bytes: demand.memory_bytes,
                limited_group: limited.binary_search(&group).ok(),
            };
            if needs.memory_bytes > capacity.memory_bytes {
                let (needed, budget) = (needs.memory_bytes, capacity.memory_bytes);
                return Err(QueueError::Memory { ordinal, group: group.clone(), needed, budget });
            }
            classes.entry(needs).or_default().push((Reverse(*sort), ordinal));
        }
        let classes: Vec<Class> = classes.into_iter().map(|(needs, jobs)| Class::new(needs, jobs)).collect();
        Ok(Self {
            heads: classes.iter().enumerate().filter_map(|(index, class)| class.head(index)).collect(),
            classes,
            waiting: jobs.len(),
            running: 0,
            free_slots: capacity.slots,
            free_cpus,
            free_memory_bytes: capacity.memory_bytes,
            free_of_groups: capacity.group_limits.values().copied().collect(),
        })
    }

    /// Takes the longest job that fits now; of equally long ones, the first of the plan. `None` if none fits until
    /// something is given back, or none is left. Costs a walk over the heads of the classes that do not fit.
    pub fn take(&mut self) -> Option<Grant> {
        if self.free_slots == 0 {
            return None;
        }
        let head = *self.heads.iter().find(|head| self.fits(self.classes[head.class].needs))?;
        self.heads.remove(&head);
        let class = &mut self.classes[head.class];
        class.jobs.pop_front();
        self.heads.extend(class.head(head.class));
        let needs = class.needs;
        let cpus = (0..needs.cpus).filter_map(|_| self.free_cpus.pop_first()).collect();
        self.free_slots -= needs.slots;
        self.free_memory_bytes -= needs.memory_bytes;
        if let Some(group) = needs.limited_group {
            self.free_of_groups[group] -= 1;
        }
        self.waiting -= 1;
        self.running += 1;
        Some(Grant { ordinal: head.ordinal, cpus, class: head.class })
    }

    /// Frees what the job had.
    ///
    /// # Panics
    /// May panic if the grant is that of another queue.
    pub fn give_back(&mut self, grant: Grant) {
        let needs = self.classes[grant.class].needs;
        self.free_slots += needs.slots;
        self.free_memory_bytes += needs.memory_bytes;
        self.free_cpus.extend(grant.cpus);
        if let Some(group) = needs.limited_group {
            self.free_of_groups[group] += 1;
        }
        self.running -= 1;
    }

    /// Takes out every job that waits, in plan order: none of them will be granted.
    pub fn drain(&mut self) -> Vec<u32> {
        self.heads.clear();
        self.waiting = 0;
        let mut ordinals: Vec<u32> = self
            .classes
            .iter_mut()
            .flat_map(|class| class.jobs.drain(..).map(|(_, ordinal)| ordinal))
            .collect();
        ordinals.sort_unstable();
        ordinals
    }

    /// How many jobs wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many jobs are granted and not given back.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Whether nothing waits and nothing runs.
    pub fn is_drained(&self) -> bool {
        self.waiting == 0 && self.running == 0
    }

    fn fits(&self, needs: Needs) -> bool {
        needs.slots <= self.free_slots
            && needs.cpus as usize <= self.free_cpus.len()
            && needs.memory_bytes <= self.free_memory_bytes
            && needs.limited_group.is_none_or(|group| self.free_of_groups[group] > 0)
    }
}

impl Class {
    fn new(needs: Needs, mut jobs: Vec<(Reverse<Duration>, u32)>) -> Self {
        jobs.sort_unstable();
        Self { needs, jobs: jobs.into() }
    }

    fn head(&self, class: usize) -> Option<Head> {
        self.jobs.front().map(|&(sort, ordinal)| Head { sort, ordinal, class })
    }
}

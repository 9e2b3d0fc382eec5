//! Properties of the shipped queue, driven by a simulation in virtual time. Each bound has a canary: a queue that is
//! wrong on purpose and must break it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use outlast_sched::{Capacity, Cpus, Dealer, Demand, Queue, QueueError, Span, play, simulate};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

fn ticks(durations: &[u64]) -> Vec<Duration> {
    durations.iter().copied().map(Duration::from_secs).collect()
}

/// No schedule is shorter: the work over the slots, or the longest job.
fn lower_bound(durations: &[u64], slots: u64) -> u64 {
    let longest = durations.iter().copied().max().unwrap_or(0);
    durations.iter().sum::<u64>().div_ceil(slots).max(longest)
}

/// The best makespan, by trying every assignment of jobs to slots.
fn best(durations: &[u64], slots: usize) -> u64 {
    fn place(rest: &[u64], loads: &mut [u64], best: &mut u64) {
        let Some((&first, rest)) = rest.split_first() else {
            *best = (*best).min(loads.iter().copied().max().unwrap_or(0));
            return;
        };
        for slot in 0..loads.len() {
            // Slots with equal loads are alike: the first of them stands for all.
            if loads[..slot].contains(&loads[slot]) || loads[slot] + first >= *best {
                continue;
            }
            loads[slot] += first;
            place(rest, loads, best);
            loads[slot] -= first;
        }
    }
    let mut found = durations.iter().sum::<u64>() + 1;
    place(durations, &mut vec![0; slots], &mut found);
    if durations.is_empty() { 0 } else { found }
}

/// Whether `makespan <= (2 - 1/m) * bound`, in whole numbers.
fn within_list(makespan: u64, bound: u64, slots: u64) -> bool {
    makespan * slots <= (2 * slots - 1) * bound
}

/// Whether `makespan <= (4/3 - 1/(3m)) * best`, in whole numbers.
fn within_longest_first(makespan: u64, best: u64, slots: u64) -> bool {
    makespan * 3 * slots <= (4 * slots - 1) * best
}

fn makespan(durations: &[u64], sort: &[u64], slots: u64) -> u64 {
    simulate(&ticks(durations), &ticks(sort), slots as u32).unwrap().as_secs()
}

proptest! {
    #[test]
    fn no_order_of_jobs_is_worse_than_the_bound_of_lists(
        jobs in prop::collection::vec((1_u64..100, 0_u64..100), 0..60),
        slots in 1_u64..9,
    ) {
        let (durations, sort): (Vec<_>, Vec<_>) = jobs.into_iter().unzip();
        let found = makespan(&durations, &sort, slots);
        prop_assert!(within_list(found, lower_bound(&durations, slots), slots));
    }

    #[test]
    fn longest_first_is_within_its_bound_of_the_best(
        durations in prop::collection::vec(1_u64..30, 0..9),
        slots in 1_usize..5,
    ) {
        let found = makespan(&durations, &durations, slots as u64);
        let best = best(&durations, slots);
        prop_assert!(within_longest_first(found, best, slots as u64), "{found} against {best}");
    }

    #[test]
    fn every_job_runs_once_and_nothing_is_overdrawn(plan in plans()) {
        check(&plan)?;
    }
}

#[test]
fn the_canary_of_longest_first_is_shortest_first() {
    let durations = [1, 1, 1, 1, 1, 1, 3];
    let shortest_first: Vec<u64> = durations.iter().map(|duration| 100 - duration).collect();
    let best = best(&durations, 3);
    assert_eq!(best, 3);
    assert!(within_longest_first(makespan(&durations, &durations, 3), best, 3));
    assert!(!within_longest_first(makespan(&durations, &shortest_first, 3), best, 3));
}

/// Deals a batch to every slot and the next only when all of it has ended.
struct Batches {
    jobs: VecDeque<u32>,
    size: usize,
    open: usize,
    running: usize,
}

impl Dealer for Batches {
    type Deal = ();
    fn take(&mut self) -> Option<(u32, ())> {
        if self.running == 0 {
            self.open = self.size;
        }
        self.open = self.open.checked_sub(1)?;
        let job = self.jobs.pop_front()?;
        self.running += 1;
        Some((job, ()))
    }
    fn give_back(&mut self, (): ()) {
        self.running -= 1;
    }
}

#[test]
fn the_canary_of_the_bound_of_lists_is_batches() {
    let durations = [10, 1, 10, 1, 10, 1, 10, 1];
    let mut batches = Batches { jobs: (0..8).collect(), size: 2, open: 0, running: 0 };
    let found = play(&mut batches, &ticks(&durations), |_, ()| {}).as_secs();
    assert_eq!(found, 40);
    assert!(!within_list(found, lower_bound(&durations, 2), 2));
    assert!(within_list(makespan(&durations, &durations, 2), lower_bound(&durations, 2), 2));
}

#[derive(Debug, Clone)]
struct Plan {
    jobs: Vec<(String, Demand, Duration)>,
    durations: Vec<u64>,
    capacity: Capacity,
}

fn plans() -> impl Strategy<Value = Plan> {
    let job = (0_u32..4, 0_u32..6, prop::option::of(0_u32..6), 0_u64..=100, 0_u64..20, 0_u64..20);
    let limits = prop::collection::btree_map("[abc]", 1_u32..3, 0..3);
    let capacity = (1_u32..6, prop::collection::vec(0_u32..70, 1..5), limits);
    (prop::collection::vec(job, 0..50), capacity).prop_map(|(jobs, (slots, cpus, group_limits))| Plan {
        durations: jobs.iter().map(|job| job.5).collect(),
        jobs: jobs
            .into_iter()
            .map(|(group, weight, own, memory_bytes, sort, _)| {
                let cpus = own.map_or(Cpus::Shared, Cpus::Own);
                let group = ["a", "b", "c", "d"][group as usize].to_owned();
                (group, Demand { weight, cpus, memory_bytes }, Duration::from_secs(sort))
            })
            .collect(),
        capacity: Capacity { slots, cpus, memory_bytes: 100, group_limits },
    })
}

fn check(plan: &Plan) -> Result<(), TestCaseError> {
    let capacity = &plan.capacity;
    let mut queue = Queue::new(&plan.jobs, capacity).unwrap();
    let mut runs: Vec<(Span, Vec<u32>)> = Vec::new();
    play(&mut queue, &ticks(&plan.durations), |span, grant| runs.push((span, grant.cpus.clone())));
    prop_assert!(queue.is_drained());
    let mut ordinals: Vec<u32> = runs.iter().map(|(span, _)| span.ordinal).collect();
    ordinals.sort_unstable();
    prop_assert_eq!(ordinals, (0..plan.jobs.len() as u32).collect::<Vec<_>>());
    let all: BTreeSet<u32> = capacity.cpus.iter().copied().collect();
    // What runs changes only at a beginning, so looking there is looking everywhere.
    for (moment, _) in &runs {
        let now: Vec<_> =
            runs.iter().filter(|(span, _)| span.start <= moment.start && moment.start < span.end).collect();
        let job = |span: &Span| &plan.jobs[span.ordinal as usize];
        let slots: u32 = now.iter().map(|(span, _)| job(span).1.weight.clamp(1, capacity.slots)).sum();
        prop_assert!(slots <= capacity.slots);
        prop_assert!(now.iter().map(|(span, _)| job(span).1.memory_bytes).sum::<u64>() <= 100);
        let mut groups: BTreeMap<&str, u32> = BTreeMap::new();
        let mut leased = BTreeSet::new();
        for (span, cpus) in now {
            let (group, demand, _) = job(span);
            *groups.entry(group).or_default() += 1;
            let wanted = match demand.cpus {
                Cpus::Shared => 0,
                Cpus::Own(wanted) => wanted.clamp(1, all.len() as u32),
            };
            prop_assert_eq!(cpus.len() as u32, wanted);
            for cpu in cpus {
                prop_assert!(all.contains(cpu) && leased.insert(*cpu), "CPU {} is leased twice", cpu);
            }
        }
        for (group, limit) in &capacity.group_limits {
            prop_assert!(groups.get(group.as_str()).copied().unwrap_or(0) <= *limit);
        }
    }
    Ok(())
}

fn capacity(slots: u32) -> Capacity {
    Capacity { slots, cpus: vec![3], memory_bytes: 10, group_limits: BTreeMap::new() }
}

fn job(demand: Demand, sort: u64) -> (String, Demand, Duration) {
    ("g".to_owned(), demand, Duration::from_secs(sort))
}

#[test]
fn a_job_that_does_not_fit_holds_up_no_other() {
    let wide = Demand { weight: 9, ..Demand::default() };
    let mut queue =
        Queue::new(&[job(Demand::default(), 9), job(wide, 5), job(Demand::default(), 1)], &capacity(2))
            .unwrap();
    let (first, second) = (queue.take().unwrap(), queue.take().unwrap());
    assert_eq!((first.ordinal, second.ordinal), (0, 2));
    queue.give_back(first);
    assert_eq!(queue.take(), None, "the wide job needs both slots");
    queue.give_back(second);
    assert_eq!(queue.take().unwrap().ordinal, 1);
}

#[test]
fn with_one_cpu_jobs_that_want_their_own_run_one_after_another() {
    let own = Demand { cpus: Cpus::Own(8), ..Demand::default() };
    let mut queue = Queue::new(&[job(own, 1), job(own, 1)], &capacity(4)).unwrap();
    let first = queue.take().unwrap();
    assert_eq!(first.cpus, [3]);
    assert_eq!(queue.take(), None);
    queue.give_back(first);
    assert_eq!(queue.take().unwrap().ordinal, 1);
}

#[test]
fn what_waits_can_be_taken_out() {
    let mut queue =
        Queue::new(&[job(Demand::default(), 1), job(Demand::default(), 2)], &capacity(1)).unwrap();
    let grant = queue.take().unwrap();
    assert_eq!(queue.drain(), [0]);
    assert!(!queue.is_drained());
    queue.give_back(grant);
    assert!(queue.is_drained() && queue.take().is_none());
}

#[test]
fn plans_that_can_never_be_carried_out_are_refused() {
    let large = Demand { memory_bytes: 11, ..Demand::default() };
    let own = Demand { cpus: Cpus::Own(1), ..Demand::default() };
    let refuse = |jobs: &[_], capacity: &Capacity| Queue::new(jobs, capacity).unwrap_err();
    for found in [0, 257] {
        assert_eq!(refuse(&[], &capacity(found)), QueueError::Slots { found });
    }
    let group = "g".to_owned();
    assert_eq!(
        refuse(&[job(Demand::default(), 0), job(large, 0)], &capacity(1)),
        QueueError::Memory { ordinal: 1, group: group.clone(), needed: 11, budget: 10 }
    );
    let none = Capacity { cpus: vec![], ..capacity(1) };
    assert_eq!(refuse(&[job(own, 0)], &none), QueueError::NoCpus { ordinal: 0, group: group.clone() });
    let closed = Capacity { group_limits: BTreeMap::from([(group.clone(), 0)]), ..capacity(1) };
    assert_eq!(refuse(&[], &closed), QueueError::GroupLimit { group });
}

/// Durations in seconds: all alike, exponential, log-normal with a long tail, and exponential with five very long ones.
fn mixes(random: &mut Pcg64) -> [(&'static str, Vec<f64>); 5] {
    let mut unit = || 1.0 - random.random::<f64>();
    let alike = vec![0.1; 2000];
    let mut exponential = |count: usize| -> Vec<f64> { (0..count).map(|_| -0.1 * unit().ln()).collect() };
    let plain = exponential(2000);
    let [mut many, mut few] = [2000, 200].map(|count| exponential(count - 5));
    for durations in [&mut many, &mut few] {
        durations.extend([8.0, 9.0, 10.0, 11.0, 12.0]);
    }
    let tailed = (0..2000).map(|_| 0.1 * (1.5 * normal(random) - 1.125).exp()).collect();
    [("alike", alike), ("exponential", plain), ("log-normal", tailed), ("few long", many), ("fewer", few)]
}

/// By the method of Box and Muller.
fn normal(random: &mut Pcg64) -> f64 {
    let (radius, angle) = (1.0 - random.random::<f64>(), random.random::<f64>());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// The makespan over the lower bound on 16 slots.
fn ratio(durations: &[f64], sort: &[f64]) -> f64 {
    let times = |seconds: &[f64]| seconds.iter().copied().map(Duration::from_secs_f64).collect::<Vec<_>>();
    let bound = (durations.iter().sum::<f64>() / 16.0).max(durations.iter().copied().fold(0.0, f64::max));
    simulate(&times(durations), &times(sort), 16).unwrap().as_secs_f64() / bound
}

#[test]
fn two_thousand_jobs_reach_the_lower_bound() {
    let mut worst = (0.0_f64, 0.0_f64, 0.0_f64);
    for seed in 0..30 {
        let mut random = Pcg64::seed_from_u64(seed);
        for (name, durations) in mixes(&mut random) {
            let noisy: Vec<f64> = durations.iter().map(|d| d * (0.5 * normal(&mut random)).exp()).collect();
            let (exact, rough) = (ratio(&durations, &durations), ratio(&durations, &noisy));
            assert!(exact <= 1.005, "{name} with seed {seed} and exact history: {exact}");
            assert!(rough <= 1.03, "{name} with seed {seed} and noise: {rough}");
            let shortest_first: Vec<f64> = durations.iter().map(|duration| 1000.0 - duration).collect();
            worst = (worst.0.max(exact), worst.1.max(rough), worst.2.max(ratio(&durations, &shortest_first)));
        }
    }
    println!("worst: {:.4} exact, {:.4} with noise, {:.4} shortest first", worst.0, worst.1, worst.2);
    assert!(worst.2 > 1.03, "the canary, shortest first, must break the bound: {}", worst.2);
}

#[test]
fn a_hundred_thousand_jobs_are_cheap() {
    let jobs: Vec<_> = (0..100_000_u64).map(|index| job(Demand::default(), index % 977)).collect();
    let durations = ticks(&jobs.iter().map(|job| job.2.as_secs()).collect::<Vec<_>>());
    let began = Instant::now();
    let mut queue = Queue::new(&jobs, &capacity(16)).unwrap();
    let mut count = 0;
    play(&mut queue, &durations, |_, _| count += 1);
    assert_eq!(count, jobs.len());
    assert!(began.elapsed() < Duration::from_secs(30), "a choice must not walk over all jobs");
}

//! `sched/queue`: the shipped queue in virtual time, with plans of every kind: durations of five mixes, expectations
//! that are exact, off or missing, weights, groups with limits, CPUs of their own, a memory budget.
//!
//! # Invariants
//! - Every job is granted once; what is granted never exceeds the capacity; leased CPUs are disjoint.
//! - Without demands the makespan keeps the bound of any list, and with exact expectations that of longest-first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use outlast_sched::{Capacity, Cpus, Demand, Queue, Span, play, simulate};

use super::mix::{Mix, duration, noise};
use crate::draw::Draw;
use crate::end::{Doing, End, require};
use crate::report::Tally;
use crate::run::{Amount, Run};
use crate::scenario::Scenario;

/// The registry's entry.
pub const SCENARIO: Scenario = Scenario {
    name: "sched/queue",
    about: "the shipped queue in virtual time: nothing lost, nothing overdrawn, makespans within their bounds",
    unit: "plans",
    needs_probes: false,
    cpus: 1,
    memory_bytes: 64 << 20,
    sample: (300, &[]),
    options: None,
    run,
};

/// Most jobs of a plan whose best makespan is found by trying everything.
const SMALL: u64 = 8;

fn run(run: &Run<'_>, tally: &mut Tally) -> Result<(), End> {
    let quick_time = Duration::from_secs(10);
    let amount = Amount { exact: None, quick: 20_000, quick_time, least: 2000, full: 1_000_000 };
    let begin = Instant::now();
    while run.goes_on(tally.iterations, begin, &amount)? {
        let mut draw = Draw::new(run.seed, tally.iterations, 0);
        match tally.iterations % 3 {
            0 => any_list(&mut draw, tally)?,
            1 => longest_first(&mut draw, tally)?,
            _ => with_demands(&mut draw, tally)?,
        }
        tally.iterations += 1;
    }
    if 3 <= tally.iterations {
        tally.require_some(&["jobs", "lists", "bests_found", "leases", "waits_for_capacity"])?;
    }
    Ok(())
}

/// Expectations are off or missing: still no worse than any list, `(2 - 1/m)` of the lower bound.
fn any_list(draw: &mut Draw, tally: &mut Tally) -> Result<(), End> {
    let slots = 1 + draw.below(32) as u32;
    let mix = draw.pick(&Mix::ALL);
    let count = 10 + draw.index(300);
    let seconds = mix.seconds(count, draw);
    let durations: Vec<Duration> = seconds.iter().copied().map(duration).collect();
    let keys: Vec<Duration> = seconds
        .iter()
        .map(|seconds| match draw.below(4) {
            0 => Duration::ZERO,
            _ => duration(seconds * noise(draw)),
        })
        .collect();
    let makespan = simulate(&durations, &keys, slots).doing("simulating")?;
    let bound = lower_bound(&durations, slots);
    let limit = bound * (2 * slots - 1) / slots + Duration::from_micros(1);
    require(makespan <= limit, || {
        format!("{mix:?}, {count} jobs on {slots} slots: {makespan:?}, more than {limit:?}")
    })?;
    tally.add("lists", 1);
    tally.add("jobs", durations.len() as u64);
    tally.at_most("worst_list_permille_of_bound", permille(makespan, bound));
    Ok(())
}

/// Expectations are exact and the plan is small: `(4/3 - 1/(3m))` of the best (Graham 1969).
fn longest_first(draw: &mut Draw, tally: &mut Tally) -> Result<(), End> {
    let slots = 1 + draw.below(4) as u32;
    let durations: Vec<Duration> =
        (0..1 + draw.below(SMALL)).map(|_| Duration::from_micros(1 + draw.below(20))).collect();
    let makespan = simulate(&durations, &durations, slots).doing("simulating")?;
    let best = best(&durations, slots as usize);
    require(makespan * 3 * slots <= best * (4 * slots - 1), || {
        format!("{durations:?} on {slots} slots: {makespan:?}, and the best is {best:?}")
    })?;
    tally.add("bests_found", 1);
    tally.add("jobs", durations.len() as u64);
    tally.at_most("worst_permille_of_best", permille(makespan, best));
    Ok(())
}

/// Jobs that need more than a slot.
fn with_demands(draw: &mut Draw, tally: &mut Tally) -> Result<(), End> {
    let groups = ["a", "b", "c"];
    let capacity = Capacity {
        slots: 1 + draw.below(16) as u32,
        cpus: (0..1 + draw.below(8) as u32).map(|cpu| cpu * 3).collect(),
        memory_bytes: 1000,
        group_limits: BTreeMap::from([("a".to_owned(), 1 + draw.below(3) as u32)]),
    };
    let jobs: Vec<(String, Demand, Duration)> = (0..1 + draw.below(120))
        .map(|_| {
            let cpus = if draw.once_in(2) { Cpus::Shared } else { Cpus::Own(1 + draw.below(9) as u32) };
            let demand = Demand { weight: 1 + draw.below(5) as u32, cpus, memory_bytes: draw.below(1001) };
            (draw.pick(&groups).to_owned(), demand, Duration::from_micros(1 + draw.below(50)))
        })
        .collect();
    let durations: Vec<Duration> = jobs.iter().map(|job| job.2).collect();
    let mut queue = Queue::new(&jobs, &capacity).doing("making a queue")?;
    let mut begun: Vec<(Span, Vec<u32>)> = Vec::new();
    play(&mut queue, &durations, |span, grant| begun.push((span, grant.cpus.clone())));
    require(queue.is_drained(), || format!("{} jobs are left and {} run", queue.waiting(), queue.running()))?;
    let once: BTreeSet<u32> = begun.iter().map(|(span, _)| span.ordinal).collect();
    require(once.len() == jobs.len() && begun.len() == jobs.len(), || {
        format!("{} of {} jobs began, in {} beginnings", once.len(), jobs.len(), begun.len())
    })?;
    for (span, _) in &begun {
        let now: Vec<&(Span, Vec<u32>)> =
            begun.iter().filter(|(other, _)| other.start <= span.start && span.start < other.end).collect();
        overlap(&now, &jobs, &capacity)?;
        tally.add("waits_for_capacity", u64::from(Duration::ZERO < span.start));
    }
    tally.add("jobs", jobs.len() as u64);
    tally.add("leases", begun.iter().filter(|(_, cpus)| !cpus.is_empty()).count() as u64);
    Ok(())
}

/// Whether jobs that run at the same moment fit together.
fn overlap(
    now: &[&(Span, Vec<u32>)],
    jobs: &[(String, Demand, Duration)],
    capacity: &Capacity,
) -> Result<(), End> {
    let job = |span: &Span| &jobs[span.ordinal as usize];
    let weight: u32 = now.iter().map(|(span, _)| job(span).1.weight.min(capacity.slots)).sum();
    require(weight <= capacity.slots, || format!("weight {weight} on {} slots", capacity.slots))?;
    let memory: u64 = now.iter().map(|(span, _)| job(span).1.memory_bytes).sum();
    require(memory <= capacity.memory_bytes, || format!("{memory} bytes of {}", capacity.memory_bytes))?;
    for (group, limit) in &capacity.group_limits {
        let count = now.iter().filter(|(span, _)| job(span).0 == *group).count();
        require(count <= *limit as usize, || format!("{count} of group {group}, limit {limit}"))?;
    }
    let mut leased = BTreeSet::new();
    for (span, cpus) in now {
        let wanted = match job(span).1.cpus {
            Cpus::Shared => 0,
            Cpus::Own(count) => capacity.cpus.len().min(count as usize),
        };
        require(cpus.len() == wanted, || format!("{cpus:?} instead of {wanted} CPUs"))?;
        for cpu in cpus {
            let known = capacity.cpus.contains(cpu);
            require(known && leased.insert(*cpu), || {
                format!("CPU {cpu} was given twice, or is none of ours")
            })?;
        }
    }
    Ok(())
}

/// No schedule is shorter: all work over all slots, or the longest job.
pub fn lower_bound(durations: &[Duration], slots: u32) -> Duration {
    let longest = durations.iter().max().copied().unwrap_or_default();
    (durations.iter().sum::<Duration>() / slots).max(longest)
}

/// The shortest makespan there is, by trying everything.
fn best(durations: &[Duration], slots: usize) -> Duration {
    fn place(rest: &[Duration], loads: &mut [Duration], best: &mut Duration) {
        let Some((first, rest)) = rest.split_first() else {
            *best = (*best).min(loads.iter().max().copied().unwrap_or_default());
            return;
        };
        for slot in 0..loads.len() {
            // Slots with equal loads are one and the same.
            if loads[..slot].contains(&loads[slot]) || *best <= loads[slot] + *first {
                continue;
            }
            loads[slot] += *first;
            place(rest, loads, best);
            loads[slot] -= *first;
        }
    }
    let mut best = durations.iter().sum::<Duration>() + Duration::from_micros(1);
    place(durations, &mut vec![Duration::ZERO; slots], &mut best);
    best
}

fn permille(part: Duration, whole: Duration) -> u64 {
    (1000.0 * part.as_secs_f64() / whole.as_secs_f64().max(1e-9)).round() as u64
}

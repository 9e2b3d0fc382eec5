//! `sched/runner`: real processes through the shipped runner: every way for a job to end, leases that the jobs check
//! themselves, order and seeds that repeat, and a run that is interrupted half-way.
//!
//! # Invariants
//! - However a run goes, there is one record for each job of the plan, and each says what really happened.
//! - The runner itself leaves no process, no descriptor and no file but its run directory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use outlast_sched::{
    Command, Cpus, Demand, Event, Expectation, Job, Limit, Outcome, Record, RunReport, Settings, Sink, Stop,
};

use super::descriptors;
use crate::draw::Draw;
use crate::end::{Doing, End, require};
use crate::failed;
use crate::report::{Tally, quoted};
use crate::run::{Amount, Run};
use crate::scenario::Scenario;

/// The registry's entry.
pub const SCENARIO: Scenario = Scenario {
    name: "sched/runner",
    about: "real processes through the runner: every ending, leases, repeatable order, interrupts",
    unit: "runs",
    needs_probes: false,
    cpus: u32::MAX,
    memory_bytes: 64 << 20,
    sample: (6, &[]),
    options: None,
    run,
};

/// Ways for a job to end: a script, and what must be said of it.
const ENDINGS: &[(&str, Outcome)] = &[
    ("exit 0", Outcome::Passed),
    ("exit 3", Outcome::Failed),
    ("kill -SEGV $$", Outcome::Crashed),
    ("kill -KILL $$", Outcome::Crashed),
    ("head -c 3000000 /dev/zero >&2; exit 0", Outcome::Passed),
    ("sleep 3600 & exit 0", Outcome::Leaked),
    ("trap '' TERM; while :; do sleep 0.05; done", Outcome::TimedOut),
    ("no-such-program-anywhere", Outcome::Failed),
];

fn run(run: &Run<'_>, tally: &mut Tally) -> Result<(), End> {
    let amount = Amount { exact: None, quick: 12, quick_time: Duration::from_secs(30), least: 6, full: 600 };
    let begin = Instant::now();
    while run.goes_on(tally.iterations, begin, &amount)? {
        let mut draw = Draw::new(run.seed, tally.iterations, 0);
        let before = descriptors()?;
        match tally.iterations % 3 {
            0 => endings(run, &mut draw, tally)?,
            1 => leases(run, &mut draw, tally)?,
            _ => interrupted(run, &mut draw, tally)?,
        }
        let after = descriptors()?;
        require(before == after, || format!("{before:?} descriptors before a run and {after:?} after it"))?;
        tally.add("runs_without_a_leaked_descriptor", u64::from(before.is_some()));
        tally.iterations += 1;
    }
    if 3 <= tally.iterations {
        tally.require_some(&[
            "jobs",
            "leases_checked",
            "kills_landed",
            "jobs_interrupted",
            "orders_repeated",
        ])?;
        for (_, outcome) in ENDINGS {
            tally.require_some(&[&format!("outcome_{outcome}")])?;
        }
    }
    Ok(())
}

/// Remembers the order in which jobs were given to slots.
#[derive(Debug, Clone, Default)]
struct Order(Arc<Mutex<Vec<u32>>>);

impl Sink for Order {
    fn on(&mut self, event: &Event) -> std::io::Result<()> {
        if let Event::Assigned { ordinal, .. } = event {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(*ordinal);
        }
        Ok(())
    }
}

fn job(ordinal: u32, script: &str) -> Job {
    Job {
        global_ordinal: ordinal,
        project: "outlast".into(),
        group: "sched".into(),
        name: format!("job-{ordinal}"),
        repetition: 1,
        repetitions: 1,
        seed: u64::from(ordinal),
        schedule: None,
        demand: Demand::default(),
        limit: Limit { grace: Duration::from_millis(200), ..Limit::default() },
        command: Command {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: Vec::new(),
            reports: false,
        },
        skeleton: None,
        inputs: None,
        skip: None,
        replay: format!("again {ordinal}"),
    }
}

fn carry_out(
    run: &Run<'_>,
    jobs: Vec<Job>,
    expectations: Vec<Expectation>,
    slots: u32,
    stop: &Stop,
) -> Result<(RunReport, Vec<u32>), End> {
    let settings = Settings {
        slots,
        root: run.directory.join("runs"),
        seed: run.seed,
        memory_bytes: Some(1 << 30),
        ..Settings::default()
    };
    let order = Order::default();
    let count = jobs.len();
    let sinks: Vec<Box<dyn Sink>> = vec![Box::new(order.clone())];
    let report = outlast_sched::run(jobs, expectations, &settings, sinks, stop).doing("running jobs")?;
    require(report.sink_errors.is_empty(), || format!("{:?}", report.sink_errors))?;
    require(report.records.len() == count, || format!("{} records of {count} jobs", report.records.len()))?;
    for (index, record) in report.records.iter().enumerate() {
        require(record.ordinal as usize == index, || format!("record {index} is of job {}", record.ordinal))?;
    }
    std::fs::remove_dir_all(&report.directory).doing("removing the run directory")?;
    std::fs::remove_dir(run.directory.join("runs")).doing("removing the directory of runs")?;
    let order = order.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok((report, order))
}

/// Jobs that end in every way there is, on several slots.
fn endings(run: &Run<'_>, draw: &mut Draw, tally: &mut Tally) -> Result<(), End> {
    let mut chosen: Vec<usize> = (0..ENDINGS.len()).collect();
    chosen.extend((0..16).map(|_| draw.index(3)));
    let mut jobs = Vec::new();
    let mut expectations = Vec::new();
    for (ordinal, ending) in (0..).zip(&chosen) {
        let (script, outcome) = ENDINGS[*ending];
        let mut job = job(ordinal, script);
        if outcome == Outcome::TimedOut {
            job.limit.kill = Some(Duration::from_millis(300));
        }
        jobs.push(job);
        let sort = Duration::from_millis(draw.below(1000));
        expectations.push(Expectation { expected: Some(sort), sort, ..Expectation::default() });
    }
    let missing = Job {
        command: Command { program: "/no/such/program".into(), ..jobs[0].command.clone() },
        ..job(chosen.len() as u32, "")
    };
    jobs.push(missing);
    expectations.push(Expectation::default());
    let stop = Stop::new().doing("making a stop flag")?;
    let (report, order) =
        carry_out(run, jobs.clone(), expectations.clone(), 1 + draw.below(8) as u32, &stop)?;
    for (record, ending) in report.records.iter().zip(&chosen) {
        let (script, outcome) = ENDINGS[*ending];
        require(record.outcome == outcome, || format!("`{script}` is {}: {record:?}", record.outcome))?;
        require(record.outcome.is_pass() == record.reason.is_none(), || format!("reason: {record:?}"))?;
        require(record.replay.starts_with("again "), || format!("no line to repeat it: {record:?}"))?;
        tally.add(&format!("outcome_{outcome}"), 1);
        tally.add("kills_landed", u64::from(matches!(outcome, Outcome::TimedOut | Outcome::Leaked)));
    }
    let last = report.records.last().ok_or_else(|| failed!("no records"))?;
    let named = last.reason.as_deref().is_some_and(|reason| reason.contains("ENOENT"));
    require(last.outcome == Outcome::NotStarted && named, || format!("a missing program is {last:?}"))?;
    require(report.summary.exit_code == 100, || format!("exit code {}", report.summary.exit_code))?;
    require(order.len() == jobs.len(), || format!("{} of {} jobs were assigned", order.len(), jobs.len()))?;
    repeats(run, &jobs, &expectations, tally)?;
    tally.add("jobs", jobs.len() as u64);
    Ok(())
}

/// On one slot the same plan runs in the same order, the longest expected first.
fn repeats(run: &Run<'_>, jobs: &[Job], expectations: &[Expectation], tally: &mut Tally) -> Result<(), End> {
    let passing: Vec<usize> =
        (0..jobs.len()).filter(|at| expectations[*at].sort.as_millis().is_multiple_of(2)).collect();
    let mut again = Vec::new();
    for _ in 0..2 {
        let mut jobs: Vec<Job> = passing.iter().map(|at| jobs[*at].clone()).collect();
        jobs.iter_mut().for_each(|job| job.command.arguments = vec!["-c".into(), "exit 0".into()]);
        let expectations = passing.iter().map(|at| expectations[*at].clone()).collect();
        let stop = Stop::new().doing("making a stop flag")?;
        again.push(carry_out(run, jobs, expectations, 1, &stop)?.1);
    }
    let mut expected: Vec<u32> = (0..passing.len() as u32).collect();
    expected.sort_by_key(|at| std::cmp::Reverse(expectations[passing[*at as usize]].sort));
    require(again[0] == expected && again[1] == expected, || format!("{again:?} instead of {expected:?}"))?;
    tally.add("orders_repeated", 1);
    Ok(())
}

/// Jobs write down on which CPUs they may run and from when to when; none has seen another on its own.
fn leases(run: &Run<'_>, draw: &mut Draw, tally: &mut Tally) -> Result<(), End> {
    let allowed = outlast_sched::allowed_cpus().doing("asking for the CPUs")?;
    let directory = run.directory.join("leases");
    std::fs::create_dir(&directory).doing("making a directory")?;
    let jobs: Vec<Job> = (0..12)
        .map(|ordinal| {
            // A directory stands for each CPU in use: who finds it made shares its CPU with somebody.
            let script = "cpus=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status); \
                          mkdir \"$LEASES/$cpus\" || exit 9; sleep 0.0$((OUTLAST_JOB_SEED % 4)); \
                          rmdir \"$LEASES/$cpus\"; echo \"$cpus\"";
            let mut job = job(ordinal, script);
            job.command.environment.push(("LEASES".into(), directory.clone().into()));
            job.demand.cpus = Cpus::Own(1 + u32::from(draw.once_in(4)) * 64);
            job
        })
        .collect();
    let count = jobs.len();
    let stop = Stop::new().doing("making a stop flag")?;
    let expectations = vec![Expectation::default(); count];
    let (report, _) = carry_out(run, jobs, expectations, 8, &stop)?;
    for record in &report.records {
        require(record.outcome == Outcome::Passed, || format!("a lease was shared or lost: {record:?}"))?;
        let told: Vec<u32> = cpu_list(record.stdout_tail.trim());
        require(told == record.cpus && told.iter().all(|cpu| allowed.contains(cpu)), || {
            format!("ran on {told:?}, leased {:?} of {allowed:?}", record.cpus)
        })?;
        tally.add("leases_checked", 1);
    }
    overlaps(&report.records)?;
    tally.add("jobs", count as u64);
    std::fs::remove_dir(&directory).doing("removing the directory of leases")
}

/// `0-2,5` as the kernel writes it.
fn cpu_list(text: &str) -> Vec<u32> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
            cpus.extend(first..=last);
        }
    }
    cpus
}

/// By the runner's own account as well, no two jobs had one CPU at the same time.
fn overlaps(records: &[Record]) -> Result<(), End> {
    let mut spans: BTreeMap<u32, Vec<(Duration, Duration)>> = BTreeMap::new();
    for record in records {
        for cpu in &record.cpus {
            spans.entry(*cpu).or_default().push((record.start, record.start + record.duration));
        }
    }
    for (cpu, mut spans) in spans {
        spans.sort_unstable();
        for pair in spans.windows(2) {
            require(pair[0].1 <= pair[1].0, || format!("CPU {cpu} was leased twice: {pair:?}"))?;
        }
    }
    Ok(())
}

/// A run that is stopped at some moment: what has ended is told as it ended, all else is interrupted.
fn interrupted(run: &Run<'_>, draw: &mut Draw, tally: &mut Tally) -> Result<(), End> {
    let flag = run.directory.join("flag");
    let mut jobs: Vec<Job> = (0..6).map(|ordinal| job(ordinal, "exit 0")).collect();
    jobs.push(job(6, &format!("touch {}; sleep 3600", quoted(&flag.to_string_lossy()))));
    jobs.extend((7..12).map(|ordinal| job(ordinal, "exit 0")));
    let stop = Stop::new().doing("making a stop flag")?;
    let slots = 1 + draw.below(3) as u32;
    let count = jobs.len();
    let expectations = vec![Expectation::default(); count];
    let report = std::thread::scope(|scope| {
        let running = scope.spawn(|| carry_out(run, jobs, expectations, slots, &stop));
        // The run is stopped once the job that never ends has begun, or has failed to.
        while !flag.exists() && !running.is_finished() && !run.stop.is_cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        stop.request();
        running.join().map_err(|_| failed!("a run panicked"))?
    });
    let (report, _) = report?;
    std::fs::remove_file(&flag).doing("removing the flag")?;
    require(report.summary.exit_code == 130 && report.summary.interrupted, || {
        format!("{:?}", report.summary)
    })?;
    let outcomes: Vec<Outcome> = report.records.iter().map(|record| record.outcome).collect();
    let told = |outcome: &Outcome| matches!(outcome, Outcome::Passed | Outcome::Interrupted);
    require(outcomes.iter().all(told) && outcomes[6] == Outcome::Interrupted, || format!("{outcomes:?}"))?;
    let interrupted = outcomes.iter().filter(|outcome| **outcome == Outcome::Interrupted).count();
    tally.add("jobs", count as u64);
    tally.add("jobs_interrupted", interrupted as u64);
    Ok(())
}

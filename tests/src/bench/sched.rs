//! The runner: makespans in virtual and in real time, the gap between two jobs on a slot, the floor of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use outlast_sched::{
    Command, Demand, Expectation, Job, Limit, Outcome, Record, RunReport, Settings, Stop, simulate,
};

use super::Context;
use super::figure::{Figure, Spread, Target};
use super::measure::{milliseconds, timed};
use crate::draw::Draw;
use crate::end::{Doing, End, require};
use crate::scenario::sched::mix::{Mix, duration, noise};
use crate::scenario::sched::queue::lower_bound;

/// Jobs of each mix, and slots.
const JOBS: usize = 2000;
const SLOTS: u32 = 16;
/// Random sets of each mix.
const SETS: u64 = 30;

/// Makespans of the shipped queue in virtual time, to the lower bound.
///
/// # Errors
/// [`End::Interrupted`].
pub fn simulated(context: &Context) -> Result<Vec<Figure>, End> {
    let mut figures = Vec::new();
    for mix in Mix::ALL {
        let (mut exact, mut noisy) = (Vec::new(), Vec::new());
        for set in 0..SETS {
            context.check()?;
            let mut draw = Draw::new(set, 0, 0);
            let seconds = mix.seconds(JOBS, &mut draw);
            let durations: Vec<Duration> = seconds.iter().copied().map(duration).collect();
            let guesses: Vec<Duration> =
                seconds.iter().map(|seconds| duration(seconds * noise(&mut draw))).collect();
            let bound = lower_bound(&durations, SLOTS).as_secs_f64();
            let makespan = |keys: &[Duration]| simulate(&durations, keys, SLOTS).doing("simulating");
            exact.push(makespan(&durations)?.as_secs_f64() / bound);
            noisy.push(makespan(&guesses)?.as_secs_f64() / bound);
        }
        let what = |history: &str| {
            format!("makespan / lower bound, {}, {history}, {SETS} sets: the worst", mix.as_str())
        };
        let target = Target::AtMost(1.005);
        figures.push(Figure::judged(what("exact history"), worst(exact), "x", target));
        let target = Target::AtMost(1.03);
        figures.push(Figure::judged(what("history off by e^(0.5 z)"), worst(noisy), "x", target));
    }
    Ok(figures)
}

/// A spread that is judged by its largest value.
fn worst(values: Vec<f64>) -> Spread {
    let spread = Spread::of(values);
    Spread { median: spread.max, ..spread }
}

/// The same with processes that sleep: 2,000 of them on 16 slots for each mix, with exact history.
///
/// # Errors
/// [`End::Failed`] if a job fails, [`End::Interrupted`].
pub fn sleeping(context: &Context) -> Result<Vec<Figure>, End> {
    let mut figures = Vec::new();
    let (mut gaps, mut besides) = (Vec::new(), Vec::new());
    for mix in Mix::ALL {
        context.check()?;
        let seconds = mix.seconds(JOBS, &mut Draw::new(1, 0, 0));
        let durations: Vec<Duration> = seconds.iter().copied().map(duration).collect();
        let jobs = durations.iter().zip(0..).map(|(duration, ordinal)| sleeper(ordinal, *duration)).collect();
        let known =
            |time: &Duration| Expectation { expected: Some(*time), sort: *time, ..Expectation::default() };
        let report = carry_out(context, SLOTS, jobs, durations.iter().map(known).collect())?;
        let bound = lower_bound(&durations, SLOTS).as_secs_f64();
        let ends = report.records.iter().map(|record| record.start + record.duration);
        let makespan = ends.max().unwrap_or_default().as_secs_f64();
        let what =
            format!("makespan / lower bound, {} sleeping processes, {}", durations.len(), mix.as_str());
        figures.push(Figure::plain(what, Spread::of(vec![makespan / bound]), "x"));
        gaps.extend(gaps_of(&report.records));
        let spans = report.records.iter().zip(&durations);
        besides.extend(spans.map(|(record, slept)| milliseconds(record.duration.saturating_sub(*slept))));
    }
    figures.extend(gap_figures(&mut gaps, SLOTS));
    let (median, high) = percentiles(&mut besides);
    let what = "a job's time besides its sleep: sandbox, start, exit, removal: 99 %";
    figures.push(Figure::plain(what, high, "ms"));
    figures.push(Figure::plain("the same, median", median, "ms"));
    figures.extend(two_slots(context)?);
    Ok(figures)
}

fn gap_figures(gaps: &mut [f64], slots: u32) -> [Figure; 2] {
    let (median, high) = percentiles(gaps);
    let what = format!(
        "from a process's end to the next one's start on its slot, {slots} slots, {} gaps: 99 %",
        gaps.len()
    );
    let target = Target::AtMost(1.0);
    [Figure::judged(what, high, "ms", target), Figure::plain("the same, median", median, "ms")]
}

/// Gaps where there are no more slots than cores, with jobs of 20 ms.
fn two_slots(context: &Context) -> Result<[Figure; 2], End> {
    context.check()?;
    let slots = context.two() as u32;
    let jobs = (0..400).map(|ordinal| sleeper(ordinal, Duration::from_millis(20))).collect();
    let report = carry_out(context, slots, jobs, vec![Expectation::default(); 400])?;
    Ok(gap_figures(&mut gaps_of(&report.records), slots))
}

/// The median and the value that 99 % do not exceed, each with the spread of all.
fn percentiles(values: &mut [f64]) -> (Spread, Spread) {
    values.sort_by(f64::total_cmp);
    let at = |part: f64| values.get((values.len() as f64 * part) as usize).copied().unwrap_or(0.0);
    let spread = Spread::of(values.to_vec());
    (Spread { median: at(0.5), ..spread }, Spread { median: at(0.99), ..spread })
}

/// How long a run of nothing takes, and one of a single job that does nothing.
///
/// # Errors
/// [`End::Failed`] if a job fails, [`End::Interrupted`].
pub fn floor(context: &Context) -> Result<Vec<Figure>, End> {
    let (mut empty, mut single) = (Vec::new(), Vec::new());
    for _ in 0..=context.pairs {
        context.check()?;
        let (time, report) = timed(|| carry_out(context, SLOTS, Vec::new(), Vec::new()));
        report?;
        empty.push(time.as_secs_f64() * 1e3);
        let (time, report) = timed(|| {
            let jobs = vec![sleeper(0, Duration::ZERO)];
            carry_out(context, SLOTS, jobs, vec![Expectation::default()])
        });
        report?;
        single.push(time.as_secs_f64() * 1e3);
    }
    Ok(vec![
        Figure::judged("a run of an empty plan", Spread::of(empty), "ms", Target::AtMost(50.0)),
        Figure::plain("a run of one job that does nothing", Spread::of(single), "ms"),
    ])
}

fn sleeper(ordinal: u32, time: Duration) -> Job {
    Job {
        global_ordinal: ordinal,
        project: "bench".into(),
        group: "sleep".into(),
        name: format!("sleep-{ordinal}"),
        repetition: 1,
        repetitions: 1,
        seed: 0,
        schedule: None,
        demand: Demand::default(),
        limit: Limit::default(),
        command: Command {
            program: "/bin/sleep".into(),
            arguments: vec![format!("{:.6}", time.as_secs_f64()).into()],
            environment: Vec::new(),
            reports: false,
        },
        skeleton: None,
        inputs: None,
        skip: None,
        replay: String::new(),
    }
}

fn carry_out(
    context: &Context,
    slots: u32,
    jobs: Vec<Job>,
    expectations: Vec<Expectation>,
) -> Result<RunReport, End> {
    let root = tempfile::tempdir_in(&context.directory).doing("making a directory")?;
    let settings = Settings { slots, root: root.path().to_owned(), ..Settings::default() };
    let stop = Stop::new().doing("making a stop flag")?;
    let report = outlast_sched::run(jobs, expectations, &settings, Vec::new(), &stop);
    let report = report.doing("running jobs")?;
    let failed = report.records.iter().find(|record| record.outcome != Outcome::Passed);
    require(failed.is_none(), || format!("a job that does nothing: {failed:?}"))?;
    Ok(report)
}

/// Milliseconds from the end of one process to the start of the next on its slot, while jobs were waiting.
fn gaps_of(records: &[Record]) -> Vec<f64> {
    let last_start = records.iter().map(|record| record.start).max().unwrap_or_default();
    let mut slots: BTreeMap<u32, Vec<(Duration, Duration)>> = BTreeMap::new();
    for record in records {
        if let (Some(slot), Some(process)) = (record.slot, record.process) {
            slots.entry(slot).or_default().push((process.start, process.end));
        }
    }
    let mut gaps = Vec::new();
    for mut spans in slots.into_values() {
        spans.sort_unstable();
        let waiting = spans.windows(2).filter(|pair| pair[1].0 <= last_start);
        gaps.extend(waiting.map(|pair| milliseconds(pair[1].0.saturating_sub(pair[0].1))));
    }
    gaps
}

//! A run from its plan to its report.
//!
//! # Invariants
//! - Every job of the plan has exactly one record, whatever its runner, the sinks or the machine do.
//! - What could stop a run is looked at before the first job begins.

mod attempt;
mod desk;
mod plan;
mod reporter;
mod sampler;
mod settings;
mod slots;

use std::path::PathBuf;
use std::sync::{Condvar, Mutex, mpsc};
use std::thread::{Builder, Scope};

pub use self::attempt::{Attempt, JobRunner, Task};
pub use self::settings::{RunError, Settings};

use self::desk::Desk;
use self::plan::{Plan, Sorted};
use self::reporter::{Reported, panic_text, report};
use self::slots::Slots;
use crate::event::{Event, PlanInfo, Record, SCHEMA, Summary};
use crate::job::{Expectation, Job};
use crate::machine;
use crate::outcome::Outcome;
use crate::process::ProcessRunner;
use crate::run_directory::RunDirectory;
use crate::sink::Sink;
use crate::stop::Stop;

/// What came of a run.
#[derive(Debug)]
#[non_exhaustive]
pub struct RunReport {
    /// One record for each job, in plan order.
    pub records: Vec<Record>,
    /// The end.
    pub summary: Summary,
    /// The run directory.
    pub directory: PathBuf,
    /// What went wrong beside the jobs: sinks that failed, threads that could not be made.
    pub sink_errors: Vec<String>,
}

/// Runs jobs as processes on slots, and tells the sinks. Blocks until all have ended; a request to `stop` shortens that
/// to the longest grace of a running job. Where so many slots need more open files than this process may have, its
/// soft limit is raised for good.
///
/// ```
/// # use outlast_sched::{Command, Demand, Expectation, Job, Limit, Outcome, Settings, Stop};
/// let job = Job {
///     global_ordinal: 0,
///     project: "demo".into(),
///     group: "shell".into(),
///     name: "shell/true".into(),
///     repetition: 1,
///     repetitions: 1,
///     seed: 7,
///     schedule: None,
///     demand: Demand::default(),
///     limit: Limit::default(),
///     command: Command {
///         program: "/bin/sh".into(),
///         arguments: vec!["-c".into(), "test \"$OUTLAST_JOB_SEED\" = 7".into()],
///         environment: vec![],
///         reports: false,
///     },
///     skeleton: None,
///     inputs: None,
///     skip: None,
///     replay: String::new(),
/// };
/// # let root = tempfile::tempdir()?;
/// let settings = Settings { root: root.path().into(), ..Settings::default() };
/// let report = outlast_sched::run(vec![job], vec![Expectation::default()], &settings, vec![], &Stop::new()?)?;
/// assert_eq!(report.records[0].outcome, Outcome::Passed);
/// assert_eq!(report.summary.exit_code, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If the run cannot begin; then no job was started, and there is no run directory.
pub fn run(
    jobs: Vec<Job>,
    expectations: Vec<Expectation>,
    settings: &Settings,
    sinks: Vec<Box<dyn Sink>>,
    stop: &Stop,
) -> Result<RunReport, RunError> {
    run_with(&ProcessRunner::new(settings), jobs, expectations, settings, sinks, stop)
}

/// The same with another runner in place of processes, to measure or simulate everything else.
///
/// # Errors
/// Those of [`run`], and those of the runner's own preparation.
pub fn run_with<R: JobRunner>(
    runner: &R,
    jobs: Vec<Job>,
    expectations: Vec<Expectation>,
    settings: &Settings,
    mut sinks: Vec<Box<dyn Sink>>,
    stop: &Stop,
) -> Result<RunReport, RunError> {
    let plan = Plan::new(jobs, expectations)?;
    let capacity = plan.capacity(settings)?;
    let Sorted { queue, queued, settled } = plan.sort(&capacity)?;
    let directory = RunDirectory::create(&settings.root)?;
    if let (Some(kept), None) = (settings.runs_kept, settings.shard) {
        directory.prune_others(kept);
    }
    let prepared = (|| {
        sinks.insert(0, Box::new(directory.sink()?));
        runner.prepare(&plan.jobs, &directory.path)?;
        settings.trace.then(|| directory.file("trace.log")).transpose()
    })();
    let trace = prepared.inspect_err(|_| directory.abandon())?;

    let (sender, events) = mpsc::channel();
    let desk = Desk::new(settings.slots, sender, trace);
    let info = info(&plan, settings, &directory, capacity.cpus);
    let slots = Slots {
        plan: &plan,
        queued,
        queue: Mutex::new(queue),
        given_back: Condvar::new(),
        runner,
        desk: &desk,
        directory: &directory.path,
        affinity: settings.cpus.as_deref(),
        stop,
    };
    let (reported, errors) = std::thread::scope(|scope| {
        let reporter = Builder::new()
            .name("reporter".to_owned())
            .spawn_scoped(scope, move || report(&events, sinks))
            .map_err(RunError::Thread)?;
        desk.tell(Event::Planned(Box::new(info)));
        for (ordinal, attempt) in settled {
            slots.settle(ordinal, attempt);
        }
        let errors = work(scope, &slots, settings);
        let (elapsed, interrupted) = (desk.began.elapsed(), false);
        desk.tell(Event::Ended(Summary { schema: SCHEMA, elapsed, interrupted, exit_code: 0 }));
        match reporter.join() {
            Ok(reported) => Ok((reported, errors)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
    .inspect_err(|_: &RunError| directory.abandon())?;
    runner.finish(&directory.path);
    let Reported { records, summary, errors: sink_errors } = reported;
    let sink_errors = errors.into_iter().chain(sink_errors).collect();
    Ok(RunReport { records, summary, directory: directory.path.clone(), sink_errors })
}

/// Lets the slots work until nothing is left, and settles what was never begun. Returns what went wrong beside the jobs.
fn work<'scope, R: JobRunner>(
    scope: &'scope Scope<'scope, '_>,
    slots: &'scope Slots<'scope, R>,
    settings: &Settings,
) -> Vec<String> {
    let mut errors = Vec::new();
    let every = settings.sample_every;
    let sampler = (!every.is_zero() && !slots.queued.is_empty()).then(|| {
        let sample = move || sampler::sample_until_closed(slots.desk, every);
        Builder::new().name("sampler".to_owned()).spawn_scoped(scope, sample)
    });
    let wanted = u32::try_from(slots.queued.len()).unwrap_or(u32::MAX).min(settings.slots);
    let mut threads = Vec::new();
    for slot in 0..wanted {
        match Builder::new().name(format!("slot-{slot}")).spawn_scoped(scope, move || slots.work(slot)) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                errors.push(format!("only {slot} of {wanted} slots could be made: {error}"));
                break;
            }
        }
    }
    for thread in threads {
        errors.extend(thread.join().err().map(|panic| format!("a slot panicked: {}", panic_text(&*panic))));
    }
    let never = match errors.first() {
        Some(error) if !slots.stop.is_requested() => Attempt::new(Outcome::NotStarted, error),
        _ => Attempt::new(Outcome::Interrupted, "the run was interrupted before it began"),
    };
    for ordinal in slots.drain() {
        slots.settle(ordinal, never.clone());
    }
    slots.desk.close();
    match sampler {
        Some(Err(error)) => errors.push(format!("memory was not looked at: no thread: {error}")),
        Some(Ok(thread)) => {
            errors.extend(
                thread.join().err().map(|panic| format!("the sampler panicked: {}", panic_text(&*panic))),
            );
        }
        None => {}
    }
    errors
}

fn info(plan: &Plan, settings: &Settings, directory: &RunDirectory, cpus: Vec<u32>) -> PlanInfo {
    PlanInfo {
        schema: SCHEMA,
        run: directory.name.clone(),
        directory: directory.path.clone(),
        started_unix_ms: directory.started_unix_ms,
        seed: settings.seed,
        profile: settings.profile.clone(),
        shard: settings.shard,
        whole: settings.whole.clone(),
        slots: settings.slots,
        commit: settings.commit.clone(),
        host: machine::host(cpus),
        jobs: plan.infos(),
    }
}

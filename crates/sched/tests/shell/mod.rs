//! Jobs of the shell, and runs in a directory that goes away.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::Path;
use std::time::Duration;

use outlast_sched::{
    Command, Demand, Event, Expectation, Job, Limit, RunError, RunReport, Settings, Sink, Stop, run,
};

/// A job that a shell carries out; its exit code decides.
pub(crate) fn job(name: &str, script: &str) -> Job {
    Job {
        global_ordinal: 0,
        project: "project".to_owned(),
        group: "group".to_owned(),
        name: name.to_owned(),
        repetition: 1,
        repetitions: 1,
        seed: 7,
        schedule: None,
        demand: Demand::default(),
        limit: Limit { kill: Some(Duration::from_secs(30)), ..Limit::default() },
        command: Command {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("WORD".into(), "spoken".into())],
            reports: false,
        },
        skeleton: None,
        inputs: None,
        skip: None,
        replay: format!("again {name}"),
    }
}

/// Settings for a run below `root`.
pub(crate) fn settings(root: &Path) -> Settings {
    Settings { slots: 2, root: root.join("stress"), ..Settings::default() }
}

/// Runs without expectations.
pub(crate) fn try_run(
    jobs: Vec<Job>,
    settings: &Settings,
    sinks: Vec<Box<dyn Sink>>,
) -> Result<RunReport, RunError> {
    let expectations = vec![Expectation::default(); jobs.len()];
    run(jobs, expectations, settings, sinks, &Stop::new().unwrap())
}

/// The same, when nothing stands in its way.
pub(crate) fn run_all(jobs: Vec<Job>, settings: &Settings) -> RunReport {
    let report = try_run(jobs, settings, vec![]).unwrap();
    assert_eq!(report.sink_errors, [""; 0]);
    report
}

/// A sink that is a function.
pub(crate) struct Each<F>(pub(crate) F);

impl<F: FnMut(&Event) -> std::io::Result<()> + Send> Sink for Each<F> {
    fn on(&mut self, event: &Event) -> std::io::Result<()> {
        (self.0)(event)
    }
}

/// Whether the process runs; one that nobody has reaped does not.
pub(crate) fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

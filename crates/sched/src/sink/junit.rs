//! The run as JUnit XML, as CI systems read it.
//!
//! # Invariants
//! - One suite for each project and group, one case for each job, in plan order.
//! - A job that is no pass is never shown as one: failed and leaked are failures; what could not be judged (not started,
//!   timed out, crashed, usage, inconclusive, stopped by an interrupt) is an error; what was not run (skipped, cached,
//!   never begun) is skipped, with its reason.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use super::Sink;
use super::brackets::word;
use super::gather::Gather;
use super::publish::publish;
use crate::event::{Event, PlanInfo, Record};
use crate::outcome::Outcome;
use crate::run_record::RunRecord;

/// Writes a JUnit file when the run is over.
#[derive(Debug)]
pub struct JUnit {
    path: PathBuf,
    gather: Gather,
}

impl JUnit {
    /// The file appears when the run is over, whole, in place of one that may be there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), gather: Gather::default() }
    }
}

impl Sink for JUnit {
    fn on(&mut self, event: &Event) -> io::Result<()> {
        match self.gather.on(event) {
            Some(run) => write(&self.path, &run),
            None => Ok(()),
        }
    }
}

fn write(path: &Path, run: &RunRecord) -> io::Result<()> {
    let mut xml = Vec::new();
    report(run).serialize(&mut xml).map_err(io::Error::other)?;
    publish(path, &xml)
}

fn report(run: &RunRecord) -> Report {
    let plan = &run.plan;
    let mut report = Report::new(plan.run.as_str());
    report.timestamp = at(plan, Duration::ZERO);
    report.time = run.summary.as_ref().map(|summary| summary.elapsed);
    let mut suite: Option<TestSuite> = None;
    for record in run.in_plan_order() {
        let name = format!("{}::{}", record.project, record.group);
        if suite
            .as_ref()
            .is_none_or(|suite| suite.name.as_str() != quick_junit::XmlString::new(&name).as_str())
        {
            report.add_test_suites(suite.take());
            suite = Some(begin(plan, &name));
        }
        if let Some(suite) = &mut suite {
            suite.time = Some(suite.time.unwrap_or_default() + record.duration);
            suite.add_test_case(case(plan, record));
        }
    }
    report.add_test_suites(suite);
    report
}

fn begin(plan: &PlanInfo, name: &str) -> TestSuite {
    let mut suite = TestSuite::new(name);
    suite.timestamp = at(plan, Duration::ZERO);
    suite.add_property(Property::new("run", plan.run.as_str()));
    suite.add_property(Property::new("profile", plan.profile.as_str()));
    suite.add_property(Property::new("commit", plan.commit.as_deref().unwrap_or("unknown")));
    suite.add_property(Property::new("seed", plan.seed.to_string()));
    suite
}

fn case(plan: &PlanInfo, record: &Record) -> TestCase {
    let mut status = status(record);
    if record.outcome != Outcome::Passed && record.outcome != Outcome::Unblessed {
        let reason = record.reason.clone().unwrap_or_else(|| word(record.outcome));
        status.set_type(record.outcome.as_str()).set_message(reason);
        if !record.text.is_empty() {
            status.set_description(record.text.as_str());
        }
    }
    let repetition = match record.repetitions {
        0 | 1 => String::new(),
        _ => format!("#{}", record.repetition),
    };
    let mut case = TestCase::new(format!("{}{repetition}", record.name), status);
    case.set_classname(format!("{}::{}", record.project, record.group)).set_time(record.duration);
    case.timestamp = record.slot.and_then(|_| at(plan, record.start));
    let mut property = |name: &str, value: &str| {
        case.add_property(Property::new(name, value));
    };
    property("outcome", record.outcome.as_str());
    property("ordinal", &record.ordinal.to_string());
    property("seed", &record.seed.to_string());
    property("replay", &record.replay);
    if let Some(schedule) = &record.schedule {
        property("schedule", schedule);
    }
    if !record.stdout_tail.is_empty() {
        case.set_system_out(record.stdout_tail.as_str());
    }
    if !record.stderr_tail.is_empty() {
        case.set_system_err(record.stderr_tail.as_str());
    }
    case
}

fn status(record: &Record) -> TestCaseStatus {
    match record.outcome {
        Outcome::Passed | Outcome::Unblessed => TestCaseStatus::success(),
        Outcome::Cached | Outcome::Skipped => TestCaseStatus::skipped(),
        Outcome::Interrupted if record.slot.is_none() => TestCaseStatus::skipped(),
        Outcome::Failed | Outcome::Leaked => TestCaseStatus::non_success(NonSuccessKind::Failure),
        _ => TestCaseStatus::non_success(NonSuccessKind::Error),
    }
}

/// A moment of the run by the calendar; `None` if it is beyond that.
fn at(plan: &PlanInfo, since: Duration) -> Option<chrono::DateTime<chrono::FixedOffset>> {
    let millis = u128::from(plan.started_unix_ms).checked_add(since.as_millis())?;
    Some(chrono::DateTime::from_timestamp_millis(i64::try_from(millis).ok()?)?.fixed_offset())
}

//! A run as its directory holds it, read without trust and told to sinks once more.
//!
//! # Invariants
//! - A record belongs to a job of the plan, and no job has two.
//! - What is read is bounded: the plan's size, the length of a line, the number of records and of samples.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::event::{Event, JobInfo, PlanInfo, Record, SCHEMA, Sample, Summary};
use crate::lines::{Line, Lines};
use crate::outcome::{Outcome, exit_code};
use crate::sink::Sink;

const PLAN: &str = "plan.json";
const RECORDS: &str = "records.jsonl";
const SAMPLES: &str = "samples.jsonl";
const SUMMARY: &str = "summary.json";

/// The largest plan or summary.
const MOST_PLAN_BYTES: u64 = 256 << 20;
/// The longest line.
const MOST_LINE_BYTES: usize = 16 << 20;
/// The most records of one run, in bytes.
const MOST_RECORD_BYTES: u64 = 4 << 30;
/// Samples that are kept; with more of them every second one is given up.
const MOST_SAMPLES: usize = 4096;
/// The most slots that a run can have.
const MOST_SLOTS: u32 = 256;

/// Why a run directory cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A file could not be opened or read.
    #[error("{}: {source}; is this the directory of a run?", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}, line {line}: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// Written by another version.
    #[error("{}, line {line}: schema {found}, expected {SCHEMA}; read it with the version that wrote it", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The version that it has.
        found: u32,
    },
}

/// A whole run: what it planned and what became of it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RunRecord {
    /// The plan.
    pub plan: PlanInfo,
    /// The ends, in completion order.
    pub records: Vec<Record>,
    /// What was used, thinned to some thousands.
    pub samples: Vec<Sample>,
    /// The end; `None` if the run was cut short or still runs.
    pub summary: Option<Summary>,
}

impl RunRecord {
    /// A run of which nothing has happened yet.
    pub(crate) fn new(plan: PlanInfo) -> Self {
        Self { plan, records: Vec::new(), samples: Vec::new(), summary: None }
    }

    /// Reads a run directory. A run without `summary.json` was cut short: then the last line of its records may be
    /// torn, and jobs may be without a record; [`close`](Self::close) gives them one.
    ///
    /// # Errors
    /// [`ReadError`], with the file and the line.
    pub fn read(directory: &Path) -> Result<Self, ReadError> {
        let plan: PlanInfo = document(&directory.join(PLAN))?;
        check_plan(&plan).map_err(|what| damaged(&directory.join(PLAN), 1, what))?;
        let mut run = Self::new(plan);
        run.summary = match document(&directory.join(SUMMARY)) {
            Ok(summary) => Some(summary),
            Err(ReadError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        run.read_records(&directory.join(RECORDS))?;
        run.read_samples(&directory.join(SAMPLES))?;
        Ok(run)
    }

    fn read_records(&mut self, path: &Path) -> Result<(), ReadError> {
        let whole = self.summary.is_some();
        let mut seen = vec![false; self.plan.jobs.len()];
        let mut last = 0;
        each_line(path, whole, |number, bytes| {
            last = number;
            let record: Record = versioned(path, number, bytes)?;
            let wrong = |what: String| Err(damaged(path, number, what));
            let Some(job) = self.plan.jobs.get(record.ordinal as usize) else {
                return wrong(format!("job {} of a plan of {}", record.ordinal, seen.len()));
            };
            if !same_job(job, &record) {
                return wrong(format!(
                    "ordinal {} is {:?} here and {:?} in the plan",
                    record.ordinal, record.name, job.name
                ));
            }
            if std::mem::replace(&mut seen[record.ordinal as usize], true) {
                return wrong(format!("a second record of job {} ({:?})", record.ordinal, record.name));
            }
            if record.slot.is_some_and(|slot| slot >= self.plan.slots) {
                let slot = record.slot.unwrap_or_default();
                return wrong(format!("slot {slot}, expected less than {}", self.plan.slots));
            }
            self.records.push(record);
            Ok(())
        })?;
        match seen.iter().position(|seen| !seen) {
            Some(missing) if whole => {
                let what = format!("no record of job {missing} ({:?})", self.plan.jobs[missing].name);
                Err(damaged(path, last + 1, what))
            }
            _ => Ok(()),
        }
    }

    fn read_samples(&mut self, path: &Path) -> Result<(), ReadError> {
        each_line(path, self.summary.is_some(), |number, bytes| {
            let sample =
                serde_json::from_slice(bytes).map_err(|error| damaged(path, number, describe(&error)))?;
            self.push_sample(sample);
            Ok(())
        })
    }

    pub(crate) fn push_sample(&mut self, sample: Sample) {
        if self.samples.len() >= MOST_SAMPLES {
            let mut kept = false;
            self.samples.retain(|_| {
                kept = !kept;
                kept
            });
        }
        self.samples.push(sample);
    }

    /// The records in plan order.
    pub fn in_plan_order(&self) -> Vec<&Record> {
        let mut records: Vec<_> = self.records.iter().collect();
        records.sort_by_key(|record| record.ordinal);
        records
    }

    /// Gives every job that has none an [`Interrupted`](Outcome::Interrupted) record, and the run a summary. Does
    /// nothing to a run that ended by itself. Returns whether it was cut short.
    pub fn close(&mut self) -> bool {
        if self.summary.is_some() {
            return false;
        }
        let mut seen = vec![false; self.plan.jobs.len()];
        for record in &self.records {
            if let Some(seen) = seen.get_mut(record.ordinal as usize) {
                *seen = true;
            }
        }
        for (job, _) in self.plan.jobs.iter().zip(seen).filter(|(_, seen)| !seen) {
            self.records.push(interrupted(job, self.records.len()));
        }
        let ends = self.records.iter().map(|record| record.start.saturating_add(record.duration));
        let elapsed = ends.chain(self.samples.iter().map(|sample| sample.at)).max().unwrap_or_default();
        let exit_code =
            exit_code(self.records.iter().map(|record| record.outcome).chain([Outcome::Interrupted]));
        self.summary = Some(Summary { schema: SCHEMA, elapsed, interrupted: true, exit_code });
        true
    }

    /// Tells the run to sinks, as if it ran now: plan, ends and samples by time, end. Without a summary the last
    /// event is missing; see [`close`](Self::close).
    ///
    /// # Errors
    /// That of the first sink that fails. It is told no more, the others are.
    pub fn replay(&self, sinks: &mut [&mut dyn Sink]) -> io::Result<()> {
        let mut sinks: Vec<_> = sinks.iter_mut().map(Some).collect();
        let mut first = Ok(());
        let mut tell = |event: Event| {
            for place in &mut sinks {
                if let Some(sink) = place
                    && let Err(error) = sink.on(&event)
                {
                    *place = None;
                    first = std::mem::replace(&mut first, Ok(())).and(Err(error));
                }
            }
        };
        tell(Event::Planned(Box::new(self.plan.clone())));
        let mut samples = self.samples.iter().peekable();
        for record in &self.records {
            let end = record.start.saturating_add(record.duration);
            while let Some(sample) = samples.next_if(|sample| sample.at <= end) {
                tell(Event::Sampled(*sample));
            }
            tell(Event::Finished(Box::new(record.clone())));
        }
        samples.for_each(|sample| tell(Event::Sampled(*sample)));
        self.summary.iter().for_each(|summary| tell(Event::Ended(summary.clone())));
        first
    }
}

fn same_job(job: &JobInfo, record: &Record) -> bool {
    job.global_ordinal == record.global_ordinal
        && job.name == record.name
        && job.group == record.group
        && job.project == record.project
        && job.repetition == record.repetition
}

/// The record of a job of which no end is known.
pub(crate) fn interrupted(job: &JobInfo, completion: usize) -> Record {
    Record {
        schema: SCHEMA,
        ordinal: job.ordinal,
        global_ordinal: job.global_ordinal,
        completion: u32::try_from(completion).unwrap_or(u32::MAX),
        project: job.project.clone(),
        group: job.group.clone(),
        name: job.name.clone(),
        repetition: job.repetition,
        repetitions: job.repetitions,
        seed: job.seed,
        outcome: Outcome::Interrupted,
        reason: Some("the run was cut short before this job ended".to_owned()),
        text: String::new(),
        exit: None,
        slot: None,
        cpus: Vec::new(),
        start: Duration::ZERO,
        duration: Duration::ZERO,
        process: None,
        expected: job.expected,
        slow: false,
        peak_bytes: None,
        leaked: Vec::new(),
        sandbox: None,
        stdout_tail: String::new(),
        stderr_tail: String::new(),
        replay: String::new(),
        schedule: None,
        inputs: None,
        report: serde_json::Value::Null,
    }
}

fn check_plan(plan: &PlanInfo) -> Result<(), String> {
    if !(1..=MOST_SLOTS).contains(&plan.slots) {
        return Err(format!("{} slots, expected 1 to {MOST_SLOTS}", plan.slots));
    }
    if let Some((part, of)) = plan.shard
        && !(1..=of).contains(&part)
    {
        return Err(format!("shard {part} of {of}"));
    }
    for (job, place) in plan.jobs.iter().zip(0..) {
        if job.ordinal != place {
            return Err(format!("job {place} of the plan has ordinal {}", job.ordinal));
        }
    }
    Ok(())
}

fn damaged(path: &Path, line: u64, what: String) -> ReadError {
    ReadError::Damaged { path: path.to_owned(), line, what }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> ReadError {
    move |source| ReadError::Io { path: path.to_owned(), source }
}

/// Calls with each line and its number. The last may be torn unless the file is `whole`.
fn each_line(
    path: &Path,
    whole: bool,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let file = match File::open(path) {
        // A run that was cut short before anything ended.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !whole => return Ok(()),
        file => file.map_err(failed(path))?,
    };
    let mut lines = Lines::new(file.take(MOST_RECORD_BYTES), MOST_LINE_BYTES);
    while let Some((number, line)) = lines.next().map_err(failed(path))? {
        match line {
            Line::Whole(bytes) => take(number, &bytes)?,
            Line::Torn(_) if !whole => {}
            Line::Torn(_) => return Err(damaged(path, number, "the line has no end".to_owned())),
            Line::TooLong => {
                return Err(damaged(path, number, format!("a line of more than {MOST_LINE_BYTES} bytes")));
            }
        }
    }
    Ok(())
}

/// Reads a file of one JSON value.
fn document<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, ReadError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed(path))?;
    file.take(MOST_PLAN_BYTES + 1).read_to_end(&mut bytes).map_err(failed(path))?;
    if bytes.len() as u64 > MOST_PLAN_BYTES {
        return Err(damaged(path, 1, format!("more than {MOST_PLAN_BYTES} bytes")));
    }
    versioned(path, 1, &bytes)
}

/// What is wrong, without the line, which is that of the value and not that of the file.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(&*text, |(what, _)| what);
    format!("column {}: {what}", error.column())
}

/// Reads a value that has a schema number, which is looked at first: another version may have other fields.
fn versioned<T: for<'de> Deserialize<'de>>(path: &Path, line: u64, bytes: &[u8]) -> Result<T, ReadError> {
    #[derive(Deserialize)]
    struct Version {
        schema: u32,
    }
    let wrong = |error: serde_json::Error| {
        damaged(path, line + (error.line() as u64).saturating_sub(1), describe(&error))
    };
    let Version { schema } = serde_json::from_slice(bytes).map_err(wrong)?;
    if schema != SCHEMA {
        return Err(ReadError::Schema { path: path.to_owned(), line, found: schema });
    }
    serde_json::from_slice(bytes).map_err(wrong)
}

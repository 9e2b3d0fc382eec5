//! Several run directories of one divided plan made into one run.
//!
//! # Invariants
//! - Only shards of the same plan go together: same seed, profile, commit and number of shards, each shard once, no
//!   job twice.
//! - Nothing is lost without a word: a shard that is missing and one that was cut short are named, and neither lets the
//!   whole count as passed.
//! - Each shard's times are since that shard began, whenever that was.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::event::{Host, PlanInfo, SCHEMA, Sample, Summary};
use crate::outcome::exit_code;
use crate::run_record::{ReadError, RunRecord};
use crate::sink::Sink;

/// Why runs cannot be merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// No directory was named.
    #[error("no run directories were named; name those of all shards")]
    Nothing,
    /// A directory cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Two directories are not of one plan.
    #[error("{} has {what} {first}, but {} has {second}: these are not shards of one run", one.display(), other.display())]
    Different {
        /// What differs.
        what: &'static str,
        /// A directory.
        one: PathBuf,
        /// What it has.
        first: String,
        /// The other directory.
        other: PathBuf,
        /// What that one has.
        second: String,
    },
    /// A job is in two directories.
    #[error("job {global_ordinal} ({name}) is in {} and in {}: these are not shards of one plan", one.display(), other.display())]
    Overlap {
        /// Its place in the whole plan.
        global_ordinal: u32,
        /// Its name.
        name: String,
        /// A directory that has it.
        one: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// Two directories hold the same shard.
    #[error("shard {part} is in {} and in {}: name each shard once", one.display(), other.display())]
    SameShard {
        /// The shard, from 1.
        part: u32,
        /// A directory that has it.
        one: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// Several directories, and one is a whole plan by itself.
    #[error("{} is no shard but a whole run; merge it alone", directory.display())]
    Whole {
        /// The directory.
        directory: PathBuf,
    },
}

/// One run made of several.
#[derive(Debug, Clone)]
pub struct MergedRun {
    run: RunRecord,
    lanes: Vec<String>,
    /// How many shards there should be; 0 for a whole run.
    of: u32,
    missing: Vec<u32>,
    cut_short: Vec<String>,
}

impl MergedRun {
    /// The run, with all jobs in the order of the whole plan and the slots of all shards one after the other.
    pub fn run(&self) -> &RunRecord {
        &self.run
    }

    /// For each slot what it is called, `shard 2/8, slot 1`: for [`Html::with_lanes`](crate::Html::with_lanes).
    pub fn lanes(&self) -> &[String] {
        &self.lanes
    }

    /// The shards that no directory was named for.
    pub fn missing_shards(&self) -> &[u32] {
        &self.missing
    }

    /// What should be said beside the report: shards that are missing or were cut short. Empty if all is well.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.missing.is_empty() {
            notes.push(format!("missing: {} of {}", shard_list(&self.missing), self.of));
        }
        notes.extend(self.cut_short.iter().map(|name| format!("cut short, without a summary: {name}")));
        notes
    }

    /// Tells the merged run to sinks.
    ///
    /// # Errors
    /// That of the first sink that fails. It is told no more, the others are.
    pub fn replay(&self, sinks: &mut [&mut dyn Sink]) -> io::Result<()> {
        self.run.replay(sinks)
    }
}

/// Reads run directories and makes one run of them. Blocks on reading files; costs memory for all records at once.
///
/// # Errors
/// [`MergeError`]: a directory cannot be read, or the directories do not belong together.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use outlast_sched::{Html, Terminal, TerminalOptions, merge};
/// let merged = merge(&["run-1".into(), "run-2".into()])?;
/// let mut terminal = Terminal::new(Box::new(std::io::stdout()), TerminalOptions::for_stdout());
/// let mut html = Html::new("report.html").with_lanes(merged.lanes().to_vec());
/// merged.replay(&mut [&mut terminal, &mut html])?;
/// # Ok(())
/// # }
/// ```
pub fn merge(directories: &[PathBuf]) -> Result<MergedRun, MergeError> {
    let mut shards = Vec::new();
    for directory in directories {
        shards.push((directory.as_path(), RunRecord::read(directory)?));
    }
    check(&shards)?;
    shards.sort_by_key(|(_, run)| run.plan.shard);
    let mut cut_short = Vec::new();
    for (directory, run) in &mut shards {
        if run.close() {
            cut_short.push(directory.display().to_string());
        }
    }
    let runs: Vec<RunRecord> = shards.into_iter().map(|(_, run)| run).collect();
    let first = runs.first().ok_or(MergeError::Nothing)?;
    let of = first.plan.shard.map_or(0, |(_, of)| of);
    let present: BTreeSet<u32> = runs.iter().filter_map(|run| Some(run.plan.shard?.0)).collect();
    // Bounded, as the number of shards is whatever a file says.
    let missing: Vec<u32> = (1..=of).filter(|part| !present.contains(part)).take(1000).collect();
    let lanes = runs.iter().flat_map(lanes).collect();
    Ok(MergedRun { run: combine(runs, &missing), lanes, of, missing, cut_short })
}

/// `shard 3`, `shards 3 and 5`, `shards 1, 2 and 998 more`.
fn shard_list(parts: &[u32]) -> String {
    let names: Vec<_> = parts.iter().map(u32::to_string).collect();
    match names.as_slice() {
        [one] => format!("shard {one}"),
        names => format!("shards {}", crate::sink::words::names(names, 20)),
    }
}

fn lanes(run: &RunRecord) -> Vec<String> {
    let shard = run.plan.shard.map(|(part, of)| format!("shard {part}/{of}, ")).unwrap_or_default();
    (1..=run.plan.slots).map(|slot| format!("{shard}slot {slot}")).collect()
}

fn check(shards: &[(&Path, RunRecord)]) -> Result<(), MergeError> {
    let [(one, first), rest @ ..] = shards else { return Err(MergeError::Nothing) };
    let mut owners: HashMap<u32, &Path> = HashMap::new();
    let mut parts: HashMap<u32, &Path> = HashMap::new();
    for (directory, run) in shards {
        let plan = &run.plan;
        if plan.shard.is_none() && !rest.is_empty() {
            return Err(MergeError::Whole { directory: directory.to_path_buf() });
        }
        let facts = facts(plan).into_iter().zip(facts(&first.plan));
        for ((what, second), (_, first)) in facts {
            if first != second {
                let (one, other) = (one.to_path_buf(), directory.to_path_buf());
                return Err(MergeError::Different { what, one, first, other, second });
            }
        }
        if let Some((part, _)) = plan.shard
            && let Some(owner) = parts.insert(part, directory)
        {
            return Err(MergeError::SameShard {
                part,
                one: owner.to_owned(),
                other: directory.to_path_buf(),
            });
        }
        for job in &plan.jobs {
            if let Some(owner) = owners.insert(job.global_ordinal, directory) {
                return Err(overlap(job.global_ordinal, &job.name, owner, directory));
            }
        }
    }
    Ok(())
}

fn overlap(global_ordinal: u32, name: &str, one: &Path, other: &Path) -> MergeError {
    let (one, other) = (one.to_owned(), other.to_owned());
    MergeError::Overlap { global_ordinal, name: name.to_owned(), one, other }
}

/// What shards of one plan have in common.
fn facts(plan: &PlanInfo) -> [(&'static str, String); 5] {
    [
        ("seed", plan.seed.to_string()),
        ("profile", plan.profile.clone()),
        ("commit", plan.commit.clone().unwrap_or_else(|| "unknown".to_owned())),
        ("plan", plan.whole.clone().unwrap_or_else(|| "unknown".to_owned())),
        ("number of shards", plan.shard.map_or(1, |(_, of)| of).to_string()),
    ]
}

fn combine(runs: Vec<RunRecord>, missing: &[u32]) -> RunRecord {
    let mut merged = RunRecord::new(plan(&runs, missing));
    let order: HashMap<u32, u32> =
        merged.plan.jobs.iter().map(|job| (job.global_ordinal, job.ordinal)).collect();
    merged.samples = samples(&runs);
    let mut summary = Summary { schema: SCHEMA, elapsed: Duration::ZERO, interrupted: false, exit_code: 0 };
    let mut first_slot = 0;
    for run in runs {
        if let Some(part) = run.summary {
            summary.elapsed = summary.elapsed.max(part.elapsed);
            summary.interrupted |= part.interrupted;
        }
        for mut record in run.records {
            record.slot = record.slot.map(|slot| first_slot + slot);
            record.ordinal = order.get(&record.global_ordinal).copied().unwrap_or(record.ordinal);
            merged.records.push(record);
        }
        first_slot += run.plan.slots;
    }
    merged.records.sort_by_key(|record| record.start.saturating_add(record.duration));
    for (record, completion) in merged.records.iter_mut().zip(0..) {
        record.completion = completion;
    }
    summary.exit_code = exit_code(merged.records.iter().map(|record| record.outcome));
    if summary.interrupted {
        summary.exit_code = 130;
    } else if !missing.is_empty() && matches!(summary.exit_code, 0 | 4) {
        // Nothing is known to be wrong, but not all was shown: inconclusive.
        summary.exit_code = 5;
    }
    merged.summary = Some(summary);
    merged
}

fn plan(runs: &[RunRecord], missing: &[u32]) -> PlanInfo {
    let mut plan = runs[0].plan.clone();
    plan.shard = None;
    plan.jobs = runs.iter().flat_map(|run| run.plan.jobs.iter().cloned()).collect();
    plan.jobs.sort_by_key(|job| job.global_ordinal);
    for (job, ordinal) in plan.jobs.iter_mut().zip(0..) {
        job.ordinal = ordinal;
    }
    plan.started_unix_ms = runs.iter().map(|run| run.plan.started_unix_ms).min().unwrap_or_default();
    plan.slots = runs.iter().map(|run| run.plan.slots).sum();
    if runs.len() > 1 {
        plan.run = format!("{} and {} more", plan.run, runs.len() - 1);
        plan.host = host(runs);
    }
    if !missing.is_empty() {
        plan.profile = format!("{} (missing: {})", plan.profile, shard_list(missing));
    }
    plan
}

/// The machine if all are alike, else what can be said of all together.
fn host(runs: &[RunRecord]) -> Host {
    let first = &runs[0].plan.host;
    let systems: BTreeSet<&str> = runs.iter().map(|run| run.plan.host.system.as_str()).collect();
    let system = match systems.len() {
        1 => format!("{} shards on {}", runs.len(), first.system),
        n => format!("{} shards on {n} kinds of machines, such as {}", runs.len(), first.system),
    };
    let load = runs.iter().map(|run| run.plan.host.load).fold(0.0, f64::max);
    Host { system, load, ..first.clone() }
}

/// A shard that is over runs nothing and holds nothing, whether or not it came to say so.
fn last(run: &RunRecord) -> Option<Sample> {
    let (last, summary) = (run.samples.last()?, run.summary.as_ref()?);
    let is_over = (last.running, last.memory_bytes) == (0, 0);
    let over = Sample { at: last.at.max(summary.elapsed), running: 0, memory_bytes: 0, ..*last };
    (!is_over).then_some(over)
}

/// At each moment that any shard sampled, the sum of the latest of all.
fn samples(runs: &[RunRecord]) -> Vec<Sample> {
    let mut moments: Vec<(usize, Sample)> = runs
        .iter()
        .enumerate()
        .flat_map(|(shard, run)| run.samples.iter().copied().chain(last(run)).map(move |s| (shard, s)))
        .collect();
    moments.sort_by_key(|(_, sample)| sample.at);
    let mut latest: Vec<Sample> =
        vec![Sample { at: Duration::ZERO, running: 0, finished: 0, memory_bytes: 0 }; runs.len()];
    let mut sum = latest[0];
    let mut merged = RunRecord::new(runs[0].plan.clone());
    for (shard, sample) in moments {
        let before = std::mem::replace(&mut latest[shard], sample);
        let step = |sum: u32, before: u32, now: u32| sum.saturating_sub(before).saturating_add(now);
        sum = Sample {
            at: sample.at,
            running: step(sum.running, before.running, sample.running),
            finished: step(sum.finished, before.finished, sample.finished),
            memory_bytes: sum
                .memory_bytes
                .saturating_sub(before.memory_bytes)
                .saturating_add(sample.memory_bytes),
        };
        merged.push_sample(sum);
    }
    merged.samples
}

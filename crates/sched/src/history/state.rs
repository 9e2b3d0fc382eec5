//! What the lines of a history add up to.
//!
//! # Invariants
//! - Of each job it keeps the last [`PASSES`] passes and the last line that was no pass, and nothing else.
//! - The lines that it would be written as add up to the same state.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use super::Group;
use super::line::{HistoryLine, JobLine, RecitalLine};
use crate::sink::recital::{Failed, renumber};

/// Passes that are kept of a job.
pub(crate) const PASSES: usize = 20;

/// Failures that have numbers.
const MOST_FAILED: usize = 1000;

/// The weight of the latest pass in a job's average.
const WEIGHT: f64 = 0.3;

type Key = (String, String);

/// All jobs and the failures.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    jobs: BTreeMap<Key, Job>,
    groups: BTreeMap<String, Group>,
    longest: Duration,
    /// Numbered by the last recital with failures; jobs that passed since are gone.
    failed: Vec<Failed>,
    /// Failures of runs whose recital has not come, with their places among the lines.
    open: BTreeMap<Key, (u64, JobLine)>,
    lines: u64,
}

/// One job.
#[derive(Debug, Clone, Default)]
pub(crate) struct Job {
    pub(crate) passes: VecDeque<JobLine>,
    pub(crate) other: Option<JobLine>,
    /// Places of the last pass and of `other` among the lines.
    pass_at: u64,
    other_at: u64,
}

impl Job {
    /// The exponential average of its passes.
    pub(crate) fn average(&self) -> Option<Duration> {
        let mut times = self.passes.iter().map(|line| line.duration_ns as f64);
        let first = times.next()?;
        let average = times.fold(first, |average, time| average + WEIGHT * (time - average));
        Some(Duration::from_nanos(average as u64))
    }

    pub(crate) fn passed_inputs(&self) -> Option<String> {
        if self.other_at > self.pass_at {
            return None;
        }
        self.passes.back()?.inputs.clone()
    }

    pub(crate) fn last(&self) -> Option<&JobLine> {
        if self.other_at > self.pass_at { self.other.as_ref() } else { self.passes.back() }
    }
}

impl State {
    pub(crate) fn jobs(&self) -> impl Iterator<Item = (&Key, &Job)> {
        self.jobs.iter()
    }

    pub(crate) fn job(&self, group: &str, name: &str) -> Option<&Job> {
        self.jobs.get(&(group.to_owned(), name.to_owned()))
    }

    pub(crate) fn group(&self, group: &str) -> Option<Group> {
        self.groups.get(group).copied()
    }

    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }

    /// Takes the next line of the file.
    pub(crate) fn add(&mut self, line: HistoryLine) {
        self.lines += 1;
        match line {
            HistoryLine::Job(line) => self.add_job(line),
            HistoryLine::Recital(line) => self.add_recital(line),
        }
    }

    fn add_job(&mut self, line: JobLine) {
        let at = self.lines;
        let key = (line.group.clone(), line.name.clone());
        let job = self.jobs.entry(key.clone()).or_default();
        if line.outcome.is_pass() {
            let passed = |group: &str, name: &str| group == line.group && name == line.name;
            self.failed.retain(|failed| !passed(&failed.group, &failed.name));
            // Another run's failure is outlived by this pass; one of this run, of another repetition, is not.
            if self.open.get(&key).is_some_and(|(_, open)| open.run != line.run) {
                self.open.remove(&key);
            }
            job.passes.push_back(line);
            job.pass_at = at;
            if job.passes.len() > PASSES {
                job.passes.pop_front();
            }
            return;
        }
        let first = self.open.get(&key).is_none_or(|(_, open)| open.run != line.run);
        if line.outcome.is_failure() && first {
            self.open.insert(key, (at, line.clone()));
        }
        job.other = Some(line);
        job.other_at = at;
    }

    fn add_recital(&mut self, line: RecitalLine) {
        self.open.retain(|_, (_, open)| open.run != line.run);
        if line.failed.is_empty() {
            return;
        }
        let older = std::mem::replace(&mut self.failed, line.failed);
        append(&mut self.failed, older);
    }

    /// Puts the medians together; called once after the last line.
    pub(crate) fn finish(&mut self) {
        let mut averages: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
        for ((group, _), job) in &self.jobs {
            averages.entry(group).or_default().extend(job.average());
        }
        let known = averages.into_iter().filter_map(|(group, mut times)| {
            times.sort();
            let longest = *times.last()?;
            Some((group.to_owned(), Group { median: times[times.len() / 2], longest }))
        });
        self.groups = known.collect();
        self.longest = self.groups.values().map(|group| group.longest).max().unwrap_or_default();
    }

    /// Failures by their numbers, those of runs that were cut short after the rest.
    pub(crate) fn failures(&self) -> Vec<Failed> {
        let mut failed = self.failed.clone();
        let mut open: Vec<_> = self.open.values().collect();
        open.sort_by_key(|(at, _)| *at);
        append(&mut failed, open.into_iter().map(|(_, line)| line.failed()).collect());
        failed
    }

    /// The fewest lines that add up to this.
    pub(crate) fn lines(&self) -> Vec<HistoryLine> {
        let mut lines: Vec<(u64, &JobLine)> = Vec::new();
        for job in self.jobs.values() {
            lines.extend(job.passes.iter().map(|line| (job.pass_at, line)));
            lines.extend(job.other.iter().map(|line| (job.other_at, line)));
        }
        // Stable, so that a job's passes stay in order.
        lines.sort_by_key(|(at, _)| *at);
        let mut lines: Vec<_> = lines.into_iter().map(|(_, line)| HistoryLine::Job(line.clone())).collect();
        let failed = self.failures();
        if !failed.is_empty() {
            let run = self.jobs.values().filter_map(Job::last).max_by_key(|line| line.unix_ms);
            lines.push(HistoryLine::Recital(RecitalLine::new(
                run.map_or("", |line| line.run.as_str()),
                failed,
            )));
        }
        lines
    }
}

/// Adds those that are not yet there, with the numbers after the largest, up to [`MOST_FAILED`].
fn append(failed: &mut Vec<Failed>, more: Vec<Failed>) {
    let largest = failed.iter().map(|failed| failed.number).max().unwrap_or(0);
    let mut seen: HashSet<Key> = failed.iter().map(|one| (one.group.clone(), one.name.clone())).collect();
    let mut fresh: Vec<Failed> =
        more.into_iter().filter(|one| seen.insert((one.group.clone(), one.name.clone()))).collect();
    renumber(&mut fresh);
    fresh.iter_mut().for_each(|one| one.number = one.number.saturating_add(largest));
    failed.extend(fresh);
    failed.truncate(MOST_FAILED);
}

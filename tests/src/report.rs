//! What came of a scenario: its counts, its outcome, its line of JSON and the line that reproduces it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::end::End;

/// What a scenario did, counted as it goes so that it is known however the scenario ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Iterations that were completed, in the scenario's own unit.
    pub iterations: u64,
    /// The seed, if an option of the scenario said another one.
    pub seed: Option<u64>,
    /// Bytes of payload written to checkpoints.
    pub bytes_checkpointed: u64,
    /// Bytes of payload restored from checkpoints.
    pub bytes_restored: u64,
    /// Everything else that was counted.
    pub counts: BTreeMap<String, u64>,
    /// Things to know that are neither counts nor failures.
    pub notes: Vec<String>,
}

impl Tally {
    /// Adds to a count.
    pub fn add(&mut self, name: &str, count: u64) {
        match self.counts.get_mut(name) {
            Some(sum) => *sum += count,
            None => _ = self.counts.insert(name.to_owned(), count),
        }
    }

    /// Keeps the largest value of a measure.
    pub fn at_most(&mut self, name: &str, value: u64) {
        let largest = self.counts.entry(name.to_owned()).or_default();
        *largest = value.max(*largest);
    }

    /// A count, 0 if nothing was ever added.
    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Something to know, once.
    pub fn note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// Inconclusive unless each of these was counted at least once.
    ///
    /// # Errors
    /// [`End::Inconclusive`] naming those that were not.
    pub fn require_some(&self, names: &[&str]) -> Result<(), End> {
        let missing: Vec<&str> = names.iter().copied().filter(|name| self.count(name) == 0).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(End::Inconclusive(format!("counted no {}", missing.join(", no "))))
    }
}

/// How a scenario ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Everything that was looked at was right.
    Passed,
    /// Not run, with a reason.
    Skipped,
    /// Nothing is known to be wrong, but what was to be shown was not shown.
    Inconclusive,
    /// Something is wrong.
    Failed,
    /// Asked for something that there is not.
    Usage,
    /// Ctrl-C.
    Interrupted,
}

impl Outcome {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Skipped => "skipped",
            Self::Inconclusive => "inconclusive",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Interrupted => "interrupted",
        }
    }
}

/// One scenario's part of the run's report.
#[derive(Debug, Clone)]
pub struct Report {
    /// The scenario.
    pub name: &'static str,
    /// What one iteration is.
    pub unit: &'static str,
    /// The seed of the run.
    pub seed: u64,
    /// `None` if it passed.
    pub end: Option<End>,
    /// What it did.
    pub tally: Tally,
    /// How long it took.
    pub time: Duration,
    /// The command that runs it again up to where it ended.
    pub reproduce: String,
}

impl Report {
    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        match &self.end {
            None => Outcome::Passed,
            Some(End::Skipped(_)) => Outcome::Skipped,
            Some(End::Inconclusive(_)) => Outcome::Inconclusive,
            Some(End::Failed(_)) => Outcome::Failed,
            Some(End::Usage(_)) => Outcome::Usage,
            Some(End::Interrupted) => Outcome::Interrupted,
        }
    }

    /// The line of JSON.
    pub fn to_json(&self) -> Value {
        let Tally { iterations, bytes_checkpointed, bytes_restored, counts, notes, .. } = &self.tally;
        let counts: Map<String, Value> =
            counts.iter().map(|(name, count)| (name.clone(), json!(count))).collect();
        let mut object = json!({
            "name": self.name,
            "outcome": self.outcome().as_str(),
            "seed": self.tally.seed.unwrap_or(self.seed),
            "iterations": iterations,
            "seconds": self.time.as_secs_f64(),
            "bytes_checkpointed": bytes_checkpointed,
            "bytes_restored": bytes_restored,
            "counts": counts,
            "notes": notes,
        });
        if let (Some(end), Some(fields)) = (&self.end, object.as_object_mut()) {
            fields.insert("reason".into(), json!(end.to_string()));
            fields.insert("reproduce".into(), json!(self.reproduce));
        }
        object
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, unit, tally, .. } = self;
        write!(
            f,
            "{:12}  {name}  {} {unit} in {}",
            self.outcome().as_str(),
            tally.iterations,
            Clock(self.time)
        )?;
        if 0 < tally.bytes_checkpointed {
            let mebibytes = |bytes: u64| bytes >> 20;
            let (saved, restored) = (mebibytes(tally.bytes_checkpointed), mebibytes(tally.bytes_restored));
            write!(f, ", {saved} MiB checkpointed, {restored} MiB restored")?;
        }
        for note in &tally.notes {
            write!(f, "\n              {note}")?;
        }
        let counts: Vec<String> =
            tally.counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        for line in counts.chunks(5) {
            write!(f, "\n              {}", line.join(", "))?;
        }
        if let Some(end) = &self.end {
            write!(f, "\n              {end}")?;
        }
        if self.outcome() == Outcome::Failed {
            write!(f, "\n              reproduce: {}", self.reproduce)?;
        }
        Ok(())
    }
}

/// A span of time for people: `1m02.345s`.
#[derive(Debug, Clone, Copy)]
pub struct Clock(pub Duration);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let (minutes, seconds, millis) = (millis / 60_000, millis / 1000 % 60, millis % 1000);
        if minutes == 0 {
            write!(f, "{seconds}.{millis:03}s")
        } else {
            write!(f, "{minutes}m{seconds:02}.{millis:03}s")
        }
    }
}

/// The command line that runs a scenario again, to be pasted into a shell.
pub fn reproduction(name: &str, seed: u64, iterations: u64, profile: &str, options: &[OsString]) -> String {
    // What runs with probes has to be built with them.
    let command = if outlast_probe::ENABLED { "probes" } else { "stress" };
    let mut line = format!(
        "cargo xtask {command} {name} --seed {seed} --iters {} --profile {profile}",
        iterations.max(1)
    );
    if !options.is_empty() {
        line.push_str(" --");
    }
    for option in options {
        line.push(' ');
        line.push_str(&quoted(&option.to_string_lossy()));
    }
    line
}

fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,+%@".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Exit code of a run: the gravest of what happened.
pub fn exit_code(reports: &[Report]) -> u8 {
    let gravest = reports.iter().map(Report::outcome).max();
    let passed = reports.iter().any(|report| report.outcome() == Outcome::Passed);
    match gravest {
        Some(Outcome::Interrupted) => 130,
        Some(Outcome::Usage) => 2,
        Some(Outcome::Failed) => 100,
        Some(Outcome::Inconclusive) => 5,
        _ if passed => 0,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(end: Option<End>) -> Report {
        let (seed, time, tally) = (1, Duration::from_millis(62_345), Tally::default());
        Report { name: "a/b", unit: "steps", seed, end, tally, time, reproduce: String::new() }
    }

    #[test]
    fn the_gravest_outcome_is_the_exit_code() {
        let passed = report(None);
        let skipped = report(Some(End::Skipped("s".into())));
        let inconclusive = report(Some(End::Inconclusive("i".into())));
        let failed = report(Some(End::Failed("f".into())));
        let interrupted = report(Some(End::Interrupted));
        assert_eq!(exit_code(&[]), 4);
        assert_eq!(exit_code(std::slice::from_ref(&skipped)), 4);
        assert_eq!(exit_code(&[skipped.clone(), passed.clone()]), 0);
        assert_eq!(exit_code(&[inconclusive.clone(), skipped, passed.clone()]), 5);
        assert_eq!(exit_code(&[inconclusive, failed.clone(), passed.clone()]), 100);
        assert_eq!(exit_code(&[failed, interrupted, passed]), 130);
    }

    #[test]
    fn the_reproduction_line_survives_a_shell() {
        let options = ["--path".into(), "a b'c".into(), "--keep".into()];
        assert_eq!(
            reproduction("wksp/roundtrip", 7, 0, "quick", &options),
            format!(
                r"cargo xtask {} wksp/roundtrip --seed 7 --iters 1 --profile quick -- --path 'a b'\''c' --keep",
                if outlast_probe::ENABLED { "probes" } else { "stress" }
            )
        );
    }

    #[test]
    fn a_zero_count_is_named() {
        let mut tally = Tally::default();
        tally.add("kills", 2);
        assert_eq!(tally.require_some(&["kills"]), Ok(()));
        let end = tally.require_some(&["kills", "windows"]).unwrap_err();
        assert_eq!(end, End::Inconclusive("counted no windows".into()));
        assert_eq!(Clock(Duration::from_millis(62_345)).to_string(), "1m02.345s");
    }
}

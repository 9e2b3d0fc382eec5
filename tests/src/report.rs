//! What came of a scenario: its counts, its outcome, what it tells the runner and the line that reproduces it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use outlast_sched::{Outcome, Verdict};
use serde_json::json;

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

    /// The same for the runner, which prints it and keeps it.
    pub fn verdict(&self) -> Verdict {
        let Tally { iterations, bytes_checkpointed, bytes_restored, counts, notes, .. } = &self.tally;
        Verdict {
            outcome: self.outcome(),
            reason: self.end.as_ref().map(End::to_string),
            text: self.to_string(),
            report: json!({
                "unit": self.unit,
                "iterations": iterations,
                "seed": self.tally.seed.unwrap_or(self.seed),
                "seconds": self.time.as_secs_f64(),
                "bytes_checkpointed": bytes_checkpointed,
                "bytes_restored": bytes_restored,
                "counts": counts,
                "notes": notes,
            }),
            replay: Some(self.reproduce.clone()),
            schedule: None,
        }
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
pub fn reproduction(
    name: &str,
    seed: u64,
    iterations: Option<u64>,
    profile: &str,
    options: &[OsString],
) -> String {
    // What runs with probes has to be built with them.
    let command = if outlast_probe::ENABLED { "probes" } else { "stress" };
    let iterations = iterations.map_or(String::new(), |count| format!(" --iters {}", count.max(1)));
    let mut line = format!("cargo xtask {command} {name} --seed {seed}{iterations} --profile {profile}");
    if !options.is_empty() {
        line.push_str(" --");
    }
    for option in options {
        line.push(' ');
        line.push_str(&quoted(&option.to_string_lossy()));
    }
    line
}

/// A word as a shell reads it back.
pub(crate) fn quoted(word: &str) -> String {
    // Only a zero byte cannot be quoted, and no argument of a process has one.
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_runner_is_told_is_what_happened() {
        let (seed, time, mut tally) = (1, Duration::from_millis(62_345), Tally::default());
        tally.add("kills", 3);
        let end = Some(End::Failed("a block is lost".into()));
        let report = Report { name: "a/b", unit: "steps", seed, end, tally, time, reproduce: "again".into() };
        let verdict = report.verdict();
        assert_eq!((verdict.outcome, verdict.reason.as_deref()), (Outcome::Failed, Some("a block is lost")));
        assert_eq!(verdict.report["counts"]["kills"], 3);
        assert!(verdict.text.contains("kills 3") && verdict.text.contains("1m02.345s"), "{}", verdict.text);
        assert_eq!(verdict.replay.as_deref(), Some("again"));
    }

    #[test]
    fn the_reproduction_line_survives_a_shell() {
        let options = ["--path".into(), "a b'c".into(), "".into(), "--keep".into()];
        let line = reproduction("wksp/roundtrip", 7, Some(0), "quick", &options);
        let command = if outlast_probe::ENABLED { "probes" } else { "stress" };
        let expected = ["cargo", "xtask", command, "wksp/roundtrip", "--seed", "7", "--iters", "1"];
        let words = shlex::split(&line).unwrap();
        assert_eq!(words[..8], expected, "{line}");
        assert_eq!(words[8..], ["--profile", "quick", "--", "--path", "a b'c", "", "--keep"], "{line}");
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

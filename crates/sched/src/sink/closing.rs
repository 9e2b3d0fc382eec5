//! What is said when a run is over: what was skipped, the banner, the recital, what an interrupt left undone.
//!
//! # Invariants
//! - It keeps of each job only what the end needs, not its output.
//! - Everything that did not pass is named here or counted here with a reason.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

use super::banner::Tally;
use super::brackets::{Palette, legend};
use super::recital::Recital;
use super::words::{names, one_line, short};
use crate::event::{PlanInfo, Record, Summary};
use crate::outcome::Outcome;

/// How many names or numbers a list has before it is cut.
const MOST: usize = 20;

/// The parts of the end, as they come.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    pub(crate) tally: Tally,
    seen: HashSet<Outcome>,
    recital: Recital,
    /// By outcome and reason, the plan numbers.
    reasons: BTreeMap<(Outcome, String), Vec<u32>>,
    stopped: Vec<String>,
    never_began: Vec<String>,
}

impl Closing {
    /// Takes the jobs in plan order.
    pub(crate) fn add(&mut self, record: &Record) {
        self.tally.add(record);
        self.seen.insert(record.outcome);
        self.recital.add(record);
        match record.outcome {
            Outcome::Skipped | Outcome::Inconclusive => {
                let reason = record.reason.as_deref().unwrap_or("no reason given");
                let key = (record.outcome, short(&one_line(reason), 200).into_owned());
                self.reasons.entry(key).or_default().push(record.ordinal);
            }
            Outcome::Interrupted => {
                let list = if record.slot.is_some() { &mut self.stopped } else { &mut self.never_began };
                list.push(one_line(&record.name).into_owned());
            }
            _ => {}
        }
    }

    /// The text of the end.
    pub(crate) fn text(&self, plan: &PlanInfo, summary: &Summary, palette: Palette) -> String {
        let mut text = String::new();
        let mut say = |line: String| text.extend([line.as_str(), "\n"]);
        legend(|outcome| self.seen.contains(&outcome)).into_iter().for_each(&mut say);
        self.undecided().into_iter().for_each(&mut say);
        let banner = self.tally.banner(summary.interrupted, summary.elapsed, plan.slots, plan.jobs.len());
        say(palette.paint(self.worst(summary), &banner));
        if let Some(recital) = self.recital() {
            say(recital);
        }
        if summary.interrupted {
            self.interrupted(plan.jobs.len()).into_iter().for_each(&mut say);
        }
        text
    }

    /// The outcome in whose colour the banner is.
    fn worst(&self, summary: &Summary) -> Outcome {
        match summary.exit_code {
            0 => Outcome::Passed,
            4 => Outcome::Skipped,
            5 | 130 if self.tally.failed == 0 => Outcome::Inconclusive,
            _ => Outcome::Failed,
        }
    }

    /// Skipped and inconclusive jobs by their reasons.
    fn undecided(&self) -> Vec<String> {
        let line = |((outcome, reason), ordinals): (&(Outcome, String), &Vec<u32>)| {
            let numbers: Vec<_> = ordinals.iter().map(|n| (u64::from(*n) + 1).to_string()).collect();
            let what = if *outcome == Outcome::Skipped { "Skipped" } else { "Inconclusive" };
            format!("{what}: {}: {reason}", names(&numbers, MOST))
        };
        let mut lines: Vec<_> = self.reasons.iter().take(MOST).map(line).collect();
        if self.reasons.len() > MOST {
            lines.push(format!("... and {} more reasons", self.reasons.len() - MOST));
        }
        lines
    }

    /// `Failed: 1=name 2=name`, and how to run them again.
    fn recital(&self) -> Option<String> {
        let failed = self.recital.numbered();
        if failed.is_empty() {
            return None;
        }
        let mut text = String::from("Failed:");
        for failed in failed.iter().take(99) {
            let _ = write!(text, " {}={}", failed.number, one_line(&failed.name));
        }
        if failed.len() > 99 {
            let _ = write!(text, " and {} more", failed.len() - 99);
        }
        let numbers: Vec<_> = failed.iter().take(9).map(|failed| failed.number.to_string()).collect();
        let (which, command) = match failed.len() {
            1 => ("it", "1".to_owned()),
            2..=9 => ("them", numbers.join(" ")),
            _ => ("them", "last-failed".to_owned()),
        };
        let _ = write!(text, "\nTo run {which} again: cargo xtask stress {command}");
        Some(text)
    }

    /// What finished and what did not.
    fn interrupted(&self, jobs: usize) -> Vec<String> {
        let undone = self.stopped.len() + self.never_began.len();
        let mut lines = vec![format!("Finished: {} of {jobs}", jobs.saturating_sub(undone))];
        for (what, list) in [("Stopped while running", &self.stopped), ("Never began", &self.never_began)] {
            if !list.is_empty() {
                lines.push(format!("{what}: {}", names(list, MOST)));
            }
        }
        lines
    }
}

//! The sentence that says how a run went.
//!
//! # Invariants
//! - Every job of the plan is counted in exactly one field of the [`Tally`] but `cached`, which is a part of `passed`.
//! - "All" and "both" are only said when every job of the plan was decided.

use std::time::Duration;

use super::words::clock;
use crate::event::Record;
use crate::outcome::Outcome;

/// How many jobs ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    /// Of those that passed: not run, as nothing has changed.
    pub(crate) cached: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    pub(crate) inconclusive: usize,
    /// Interrupted while they ran.
    pub(crate) stopped: usize,
    /// Interrupted before they began.
    pub(crate) never_began: usize,
}

impl Tally {
    pub(crate) fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut tally = Self::default();
        records.into_iter().for_each(|record| tally.add(record));
        tally
    }

    pub(crate) fn add(&mut self, record: &Record) {
        let field = match record.outcome {
            Outcome::Skipped => &mut self.skipped,
            Outcome::Inconclusive => &mut self.inconclusive,
            Outcome::Interrupted if record.slot.is_none() => &mut self.never_began,
            Outcome::Interrupted => &mut self.stopped,
            outcome if outcome.is_pass() => &mut self.passed,
            _ => &mut self.failed,
        };
        *field += 1;
        self.cached += usize::from(record.outcome == Outcome::Cached);
    }

    fn undecided(&self) -> usize {
        self.skipped + self.inconclusive + self.stopped + self.never_began
    }

    /// How the run went, in one sentence without a full stop.
    pub(crate) fn sentence(&self) -> String {
        let mut clauses = Vec::new();
        let all_cached = self.cached == self.passed && self.cached > 1;
        if all_cached {
            let those = if self.failed > 0 { "all that succeeded" } else { "all" };
            clauses.push(format!("{those} were unchanged since their last pass"));
        }
        let mut say = |count: usize, one: &str, many: &str| match count {
            0 => {}
            1 => clauses.push(format!("one {one}")),
            n => clauses.push(format!("{n} {many}")),
        };
        if !all_cached && self.passed + self.failed > 1 {
            say(self.cached, "was unchanged since its last pass", "were unchanged since their last pass");
        }
        say(self.skipped, "was skipped", "were skipped");
        say(self.inconclusive, "was inconclusive", "were inconclusive");
        say(self.stopped, "was stopped by the interrupt", "were stopped by the interrupt");
        say(self.never_began, "never began", "never began");
        let decided = match (self.undecided(), self.passed + self.failed) {
            (0, 0) => return "There was nothing to run".to_owned(),
            (0, _) => self.all_decided(),
            (undecided, 0) => return nothing_decided(undecided, &clauses),
            _ => some_decided(self.passed, self.failed),
        };
        if clauses.is_empty() { decided } else { format!("{decided}; {}", clauses.join(", ")) }
    }

    fn all_decided(&self) -> String {
        match (self.passed, self.failed) {
            (1, 0) if self.cached == 1 => "Succeeded, unchanged since the last pass".to_owned(),
            (1, 0) => "Succeeded".to_owned(),
            (0, 1) => "Failed".to_owned(),
            (2, 0) => "Both tests succeeded".to_owned(),
            (0, 2) => "Both tests failed".to_owned(),
            (1, 1) => "One test succeeded but the other failed".to_owned(),
            (n, 0) => format!("All {n} tests succeeded"),
            (0, n) => format!("All {n} tests failed"),
            (passed, failed) => some_decided(passed, failed),
        }
    }

    /// The sentence with the time and, if there was more than one, how many jobs could run at once.
    pub(crate) fn banner(&self, interrupted: bool, elapsed: Duration, slots: u32, jobs: usize) -> String {
        let head = if interrupted { "Interrupted: " } else { "" };
        let threads = match jobs.min(slots as usize) {
            0 | 1 => String::new(),
            n => format!(", {n} simultaneous threads"),
        };
        format!("{head}{} (time taken {}{threads})", self.sentence(), clock(elapsed))
    }
}

fn some_decided(passed: usize, failed: usize) -> String {
    let tests = |n| if n == 1 { "One test".to_owned() } else { format!("{n} tests") };
    match (passed, failed) {
        (passed, 0) => format!("{} succeeded", tests(passed)),
        (0, failed) => format!("{} failed", tests(failed)),
        (passed, 1) => format!("{} succeeded but one failed", tests(passed)),
        (passed, failed) => format!("{} succeeded but {failed} failed", tests(passed)),
    }
}

/// Nothing passed and nothing failed: the first clause is the sentence.
fn nothing_decided(undecided: usize, clauses: &[String]) -> String {
    let first = match clauses {
        [only] if undecided == 1 => only.replacen("one", "The only test", 1),
        [only] if undecided == 2 => only.replacen('2', "Both tests", 1),
        [only] => format!("All {}", only.replacen(' ', " tests ", 1)),
        _ => {
            let first = clauses[0].replacen("one ", "One test ", 1);
            if first == clauses[0] { first.replacen(' ', " tests ", 1) } else { first }
        }
    };
    std::iter::once(first).chain(clauses.iter().skip(1).cloned()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(counts: [usize; 7]) -> Tally {
        let [passed, cached, failed, skipped, inconclusive, stopped, never_began] = counts;
        Tally { passed, cached, failed, skipped, inconclusive, stopped, never_began }
    }

    #[test]
    fn every_form() {
        let forms = [
            [0, 0, 0, 0, 0, 0, 0],
            [1, 0, 0, 0, 0, 0, 0],
            [1, 1, 0, 0, 0, 0, 0],
            [0, 0, 1, 0, 0, 0, 0],
            [2, 0, 0, 0, 0, 0, 0],
            [0, 0, 2, 0, 0, 0, 0],
            [1, 0, 1, 0, 0, 0, 0],
            [27, 0, 0, 0, 0, 0, 0],
            [0, 0, 27, 0, 0, 0, 0],
            [26, 0, 1, 0, 0, 0, 0],
            [1, 0, 26, 0, 0, 0, 0],
            [27, 0, 2, 0, 0, 0, 0],
            [27, 3, 0, 0, 0, 0, 0],
            [27, 27, 0, 0, 0, 0, 0],
            [27, 27, 2, 0, 0, 0, 0],
            [27, 0, 2, 3, 1, 0, 0],
            [27, 0, 0, 1, 0, 0, 0],
            [1, 0, 0, 1, 0, 0, 0],
            [0, 0, 1, 2, 0, 0, 0],
            [0, 0, 0, 1, 0, 0, 0],
            [0, 0, 0, 2, 0, 0, 0],
            [0, 0, 0, 5, 0, 0, 0],
            [0, 0, 0, 0, 1, 0, 0],
            [0, 0, 0, 1, 3, 0, 0],
            [0, 0, 0, 4, 1, 0, 0],
            [12, 0, 1, 0, 0, 2, 15],
            [0, 0, 0, 0, 0, 1, 0],
            [0, 0, 0, 0, 0, 2, 28],
        ];
        let text: Vec<_> = forms.into_iter().map(|counts| tally(counts).sentence()).collect();
        insta::assert_snapshot!(text.join("\n"));
    }

    #[test]
    fn threads_are_named_when_there_are_several() {
        let time = Duration::from_millis(62_900);
        let banner = |slots, jobs| tally([27, 0, 2, 0, 0, 0, 0]).banner(false, time, slots, jobs);
        assert_eq!(
            banner(8, 29),
            "27 tests succeeded but 2 failed (time taken 1:02, 8 simultaneous threads)"
        );
        assert!(banner(64, 29).ends_with("(time taken 1:02, 29 simultaneous threads)"));
        assert!(banner(1, 29).ends_with("2 failed (time taken 1:02)"));
        assert!(banner(16, 1).ends_with("2 failed (time taken 1:02)"));
        assert!(tally([1, 0, 0, 0, 0, 1, 0]).banner(true, time, 1, 2).starts_with("Interrupted: One test"));
    }
}

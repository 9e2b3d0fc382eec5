//! The mark of a job on its group's line, and the line.
//!
//! | mark | outcome |
//! |---|---|
//! | `[n]` | passed |
//! | `(n)` | cached: not run, inputs unchanged since its last pass |
//! | `-n-` | passed, with nothing blessed to compare with |
//! | `{n}` | skipped |
//! | `?n?` | inconclusive |
//! | `<n>` | interrupted |
//! | `!n failed!` | a failure, with its word |
//!
//! # Invariants
//! - `n` is the ordinal + 1, whatever the outcome.
//! - Lines are written whole, never in parts, so that nothing else can tear them.

use crate::event::JobInfo;
use crate::outcome::Outcome;
use crate::sink::words::one_line;

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Palette(pub(crate) bool);

impl Palette {
    /// The text in the colour of an outcome.
    pub(crate) fn paint(self, outcome: Outcome, text: &str) -> String {
        let code = match outcome {
            Outcome::Passed | Outcome::Cached => "32",
            Outcome::Unblessed => "36",
            Outcome::Skipped => "2",
            Outcome::Inconclusive | Outcome::Interrupted => "33",
            _ => "1;31",
        };
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// An outcome's word with spaces.
pub(crate) fn word(outcome: Outcome) -> String {
    outcome.as_str().replace('_', " ")
}

pub(crate) fn mark(outcome: Outcome, ordinal: u32) -> String {
    let n = u64::from(ordinal) + 1;
    match outcome {
        Outcome::Passed => format!("[{n}]"),
        Outcome::Cached => format!("({n})"),
        Outcome::Unblessed => format!("-{n}-"),
        Outcome::Skipped => format!("{{{n}}}"),
        Outcome::Inconclusive => format!("?{n}?"),
        Outcome::Interrupted => format!("<{n}>"),
        failure => format!("!{n} {}!", word(failure)),
    }
}

/// What the marks mean that do not speak for themselves; `None` if there are only those that do.
pub(crate) fn legend(seen: impl Fn(Outcome) -> bool) -> Option<String> {
    let known = [
        (Outcome::Cached, "(n) unchanged since its last pass"),
        (Outcome::Unblessed, "-n- passed, nothing blessed to compare with"),
        (Outcome::Skipped, "{n} skipped"),
        (Outcome::Inconclusive, "?n? inconclusive"),
        (Outcome::Interrupted, "<n> interrupted"),
    ];
    let parts: Vec<_> =
        known.into_iter().filter(|(outcome, _)| seen(*outcome)).map(|(_, text)| text).collect();
    (!parts.is_empty()).then(|| format!("Marks: [n] passed; {}", parts.join("; ")))
}

/// What stands before the marks of a group.
pub(crate) fn heading(job: &JobInfo) -> String {
    format!("{} -> {}:", one_line(&job.project), one_line(&job.group))
}

/// A line that is being made.
#[derive(Debug)]
pub(crate) struct Line {
    width: usize,
    heading: String,
    text: String,
    columns: usize,
}

impl Line {
    pub(crate) fn new(width: usize) -> Self {
        Self { width: width.max(20), heading: String::new(), text: String::new(), columns: 0 }
    }

    /// Adds a mark; returns a line that is full, if this filled one.
    pub(crate) fn push(&mut self, heading: &str, mark: &str, painted: &str) -> Option<String> {
        let columns = mark.chars().count() + 1;
        let new_group = self.heading != heading;
        let full = if new_group || self.columns + columns > self.width { self.take() } else { None };
        if self.text.is_empty() {
            // A group that goes on after a break is indented, so that its name is said once.
            let start = if new_group { heading } else { "   " };
            self.text = start.to_owned();
            self.columns = start.chars().count();
            self.heading = heading.to_owned();
        }
        self.text.push(' ');
        self.text += painted;
        self.columns += columns;
        full
    }

    /// What there is, as a whole line.
    pub(crate) fn take(&mut self) -> Option<String> {
        self.columns = 0;
        let text = std::mem::take(&mut self.text);
        (!text.is_empty()).then_some(text + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_mark() {
        let text: Vec<_> = Outcome::ALL.into_iter().zip(0..).map(|(outcome, n)| mark(outcome, n)).collect();
        assert_eq!(
            text.join(" "),
            "[1] -2- (3) {4} ?5? !6 not started! !7 leaked! !8 failed! !9 timed out! !10 crashed! !11 usage! <12>"
        );
        assert_eq!(mark(Outcome::Passed, u32::MAX), "[4294967296]");
    }

    #[test]
    fn a_long_group_goes_on_indented() {
        let mut line = Line::new(20);
        let mut lines: Vec<_> =
            (1..=6).filter_map(|n| line.push("p -> group:", &format!("[{n}]"), &format!("[{n}]"))).collect();
        lines.extend(line.push("p -> other:", "[7]", "[7]"));
        lines.extend(line.take());
        assert_eq!(lines.concat(), "p -> group: [1] [2]\n    [3] [4] [5] [6]\np -> other: [7]\n");
        assert_eq!(line.take(), None);
    }
}

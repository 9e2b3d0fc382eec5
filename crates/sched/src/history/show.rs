//! The history as text.
//!
//! # Invariants
//! - One line for each job, and one more if it ever failed.

use std::fmt::Write;

use super::line::JobLine;
use super::state::{Job, State};
use crate::sink::brackets::word;
use crate::sink::words::{moment, one_line, span};

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

pub(crate) fn text(state: &State, wanted: impl Fn(&str, &str) -> bool) -> String {
    let mut text = String::new();
    let mut group = None;
    for ((job_group, name), job) in state.jobs().filter(|((group, name), _)| wanted(group, name)) {
        let Some(last) = job.last() else { continue };
        if group != Some(job_group) {
            let _ = writeln!(text, "{}", one_line(job_group));
            group = Some(job_group);
        }
        let _ = writeln!(text, "  {}: {}", one_line(name), summary(last, job));
        if let Some(other) = &job.other {
            let _ = writeln!(text, "    {}", trouble(other));
        }
    }
    if text.is_empty() {
        text.push_str("Nothing is known of these jobs yet.\n");
    }
    text
}

fn summary(last: &JobLine, job: &Job) -> String {
    let mut text = format!("{} at {}", word(last.outcome), moment(last.unix_ms));
    if let Some(commit) = &last.commit {
        let _ = write!(text, ", commit {}", one_line(commit));
    }
    if let Some(average) = job.average() {
        let _ = write!(text, "; about {}: {}", span(average), sparkline(job));
        let recent: Vec<_> =
            job.passes.iter().rev().take(3).rev().map(|line| span(line.duration())).collect();
        let _ = write!(text, " last {}", recent.join(", "));
    }
    text
}

fn trouble(other: &JobLine) -> String {
    let mut text = format!("last {}: seed {}", word(other.outcome), other.seed);
    if let Some(schedule) = &other.schedule {
        let _ = write!(text, ", schedule {}", one_line(schedule));
    }
    if let Some(reason) = &other.reason {
        let _ = write!(text, ": {}", one_line(reason));
    }
    text
}

/// A bar for each pass, the oldest first, the longest full.
fn sparkline(job: &Job) -> String {
    let longest = job.passes.iter().map(|line| line.duration_ns).max().unwrap_or(0).max(1);
    let bar = |line: &JobLine| {
        let eighth = (line.duration_ns as f64 / longest as f64 * 7.0).round() as usize;
        BARS[eighth.min(7)]
    };
    job.passes.iter().map(bar).collect()
}

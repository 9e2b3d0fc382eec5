//! A note on the desktop when a long run is over.
//!
//! # Invariants
//! - It never fails the run and never holds it up for more than [`LIMIT`].

use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Sink;
use super::banner::Tally;
use super::words::one_line;
use crate::event::Event;

/// Runs with fewer jobs are over before anyone looks away.
const FEWEST_JOBS: usize = 10;

/// How long the note may take.
const LIMIT: Duration = Duration::from_secs(2);

/// Shows the banner on the desktop through the program `notify-send`, for runs of 10 jobs or more; where there is no
/// such program it does nothing.
#[derive(Debug, Default)]
pub struct Notify {
    jobs: usize,
    slots: u32,
    name: String,
    tally: Tally,
}

impl Notify {
    /// A sink that shows a note at the end.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Sink for Notify {
    fn on(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Planned(plan) => {
                *self = Self { jobs: plan.jobs.len(), slots: plan.slots, ..Self::default() };
                self.name = one_line(&plan.run).into_owned();
            }
            Event::Finished(record) => self.tally.add(record),
            Event::Ended(summary) if self.jobs >= FEWEST_JOBS => {
                let banner = self.tally.banner(summary.interrupted, summary.elapsed, self.slots, self.jobs);
                let urgency = if summary.exit_code == 0 { "low" } else { "normal" };
                show("notify-send", &["--app-name=outlast", "--urgency", urgency, "--", &self.name, &banner]);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Runs the program to its end, or kills it at the limit.
fn show(program: &str, arguments: &[&str]) {
    let null = Stdio::null;
    let started = Command::new(program).args(arguments).stdin(null()).stdout(null()).stderr(null()).spawn();
    let Ok(mut child) = started else { return };
    let end = Instant::now() + LIMIT;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() >= end {
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_no_failure_and_a_hanging_one_is_ended() {
        show("there-is-no-such-program", &[]);
        show("sleep", &["1000"]);
    }
}

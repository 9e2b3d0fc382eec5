//! Runs the selected scenarios one after the other and reports each.
//!
//! # Invariants
//! - A scenario that panics has failed; the next one runs all the same.
//! - After an interrupt no further scenario begins.

use std::ffi::OsString;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use outlast_wksp::Cancel;

use crate::end::End;
use crate::place::Place;
use crate::progress::Progress;
use crate::report::{Clock, Outcome, Report, Tally, reproduction};
use crate::scenario::Scenario;

/// How much a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// All scenarios in less than three minutes on two cores.
    Quick,
    /// As much as each scenario stands for.
    Full,
}

impl Profile {
    /// The word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }
}

/// What one scenario is given.
#[derive(Debug)]
pub struct Run<'a> {
    /// Everything random comes from it.
    pub seed: u64,
    /// Exactly so many iterations, if given.
    pub iterations: Option<u64>,
    /// No iteration begins after it, if given.
    pub deadline: Option<Instant>,
    /// How much to do where neither is given.
    pub profile: Profile,
    /// The words after `--`.
    pub options: &'a [OsString],
    /// The stress binary, for worker roles.
    pub program: &'a PathBuf,
    /// Where regions are made.
    pub place: &'a Place,
    /// Set by Ctrl-C.
    pub stop: &'a Cancel,
    /// For somebody who is looking.
    pub progress: Progress,
}

impl Run<'_> {
    /// Whether iteration `done + 1` is to begin; the first one began at `since`.
    ///
    /// # Errors
    /// [`End::Interrupted`].
    pub fn goes_on(&self, done: u64, since: Instant, amount: &Amount) -> Result<bool, End> {
        self.check_stop()?;
        let in_time = self.deadline.is_none_or(|deadline| done == 0 || Instant::now() < deadline);
        if let Some(exact) = amount.exact.or(self.iterations) {
            return Ok(done < exact && in_time);
        }
        if self.deadline.is_some() {
            return Ok(in_time);
        }
        Ok(match self.profile {
            Profile::Quick => {
                done < amount.quick && (done < amount.least || since.elapsed() < amount.quick_time)
            }
            Profile::Full => done < amount.full,
        })
    }

    /// Ends the scenario after Ctrl-C.
    ///
    /// # Errors
    /// [`End::Interrupted`].
    pub fn check_stop(&self) -> Result<(), End> {
        if self.stop.is_cancelled() { Err(End::Interrupted) } else { Ok(()) }
    }
}

/// How many iterations a scenario makes where the command line does not say.
#[derive(Debug, Clone, Copy)]
pub struct Amount {
    /// Exactly so many, if an option of the scenario says so.
    pub exact: Option<u64>,
    /// In the quick profile, at most.
    pub quick: u64,
    /// In the quick profile no iteration begins after this time...
    pub quick_time: Duration,
    /// ... once there have been so many.
    pub least: u64,
    /// In the full profile.
    pub full: u64,
}

/// The run of several scenarios.
#[derive(Debug)]
pub struct Plan {
    /// What to run, in this order, each with its own words after `--`.
    pub selected: Vec<(&'static Scenario, Vec<OsString>)>,
    /// Seed of each.
    pub seed: u64,
    /// Iterations of each, if given.
    pub iterations: Option<u64>,
    /// Time for all of them together, if given.
    pub time: Option<Duration>,
    /// How much to do where neither is given.
    pub profile: Profile,
    /// The stress binary.
    pub program: PathBuf,
    /// Set by Ctrl-C.
    pub stop: Cancel,
    /// Whether progress is shown.
    pub shows_progress: bool,
}

impl Plan {
    /// Runs everything; tells `out` of each scenario as it ends, and `each` its report.
    ///
    /// # Errors
    /// That of writing to `out` or of `each`.
    pub fn run(
        &self,
        out: &mut dyn Write,
        mut each: impl FnMut(&Report) -> std::io::Result<()>,
    ) -> std::io::Result<Vec<Report>> {
        let begin = Instant::now();
        let count = self.selected.len();
        let noun = if count == 1 { "scenario" } else { "scenarios" };
        writeln!(out, "stress: {count} {noun}, profile {}, seed {}", self.profile.as_str(), self.seed)?;
        let mut reports = Vec::new();
        for (index, (scenario, options)) in self.selected.iter().enumerate() {
            let left = (count - index) as u32;
            let share = self.time.map(|time| time.saturating_sub(begin.elapsed()) / left);
            let report = self.one(scenario, options, share);
            writeln!(out, "{report}")?;
            each(&report)?;
            let interrupted = report.outcome() == Outcome::Interrupted;
            reports.push(report);
            if interrupted {
                break;
            }
        }
        writeln!(out, "{}", closing(&reports, begin.elapsed(), self.seed))?;
        Ok(reports)
    }

    fn one(&self, scenario: &'static Scenario, options: &[OsString], share: Option<Duration>) -> Report {
        let begin = Instant::now();
        let mut tally = Tally::default();
        let ended = catch_unwind(AssertUnwindSafe(|| {
            if let Some(reason) = scenario.missing() {
                return Err(End::Skipped(reason));
            }
            let place = Place::open_default(self.seed)?;
            let run = Run {
                seed: self.seed,
                iterations: self.iterations,
                deadline: share.map(|share| begin + share),
                profile: self.profile,
                options,
                program: &self.program,
                place: &place,
                stop: &self.stop,
                progress: Progress::new(scenario.name, self.shows_progress),
            };
            (scenario.run)(&run, &mut tally)
        }));
        let mut end = match ended {
            Ok(ended) => ended.err(),
            Err(panic) => Some(End::Failed(format!("panicked: {}", panic_text(panic.as_ref())))),
        };
        if self.stop.is_cancelled() {
            // Whatever broke did so because it was stopped.
            end = Some(End::Interrupted);
        }
        // The iteration that failed is one more than were completed.
        let again = tally.iterations + u64::from(end.is_some());
        let reproduce = reproduction(scenario.name, self.seed, again, self.profile.as_str(), options);
        let (name, unit, seed, time) = (scenario.name, scenario.unit, self.seed, begin.elapsed());
        Report { name, unit, seed, end, tally, time, reproduce }
    }
}

fn closing(reports: &[Report], time: Duration, seed: u64) -> String {
    let count = |outcome| reports.iter().filter(|report| report.outcome() == outcome).count();
    let mut text = format!("stress: {} passed, {} failed", count(Outcome::Passed), count(Outcome::Failed));
    for outcome in [Outcome::Inconclusive, Outcome::Skipped, Outcome::Usage, Outcome::Interrupted] {
        if 0 < count(outcome) {
            text.push_str(&format!(", {} {}", count(outcome), outcome.as_str()));
        }
    }
    format!("{text} in {}, seed {seed}", Clock(time))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("with something that is no text")
}

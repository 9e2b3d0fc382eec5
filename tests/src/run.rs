//! What one scenario is given, and one scenario run with it.
//!
//! # Invariants
//! - A scenario that panics has failed.
//! - Whatever a scenario says after it was stopped, it was interrupted.

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use outlast_wksp::Cancel;

use crate::end::End;
use crate::place::Place;
use crate::report::{Report, Tally, reproduction};
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
    /// Where files are made: a directory of this run's own, or the temporary directory.
    pub directory: &'a Path,
    /// Set when it is to end early.
    pub stop: &'a Cancel,
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

/// Runs `scenario`; whatever happens in it, there is a report.
pub fn report(scenario: &'static Scenario, run: &Run<'_>) -> Report {
    let begin = Instant::now();
    let mut tally = Tally::default();
    let ended = catch_unwind(AssertUnwindSafe(|| match scenario.missing() {
        Some(reason) => Err(End::Skipped(reason)),
        None => (scenario.run)(run, &mut tally),
    }));
    let mut end = match ended {
        Ok(ended) => ended.err(),
        Err(panic) => Some(End::Failed(format!("panicked: {}", panic_text(panic.as_ref())))),
    };
    if run.stop.is_cancelled() {
        // Whatever broke did so because it was stopped.
        end = Some(End::Interrupted);
    }
    // The iteration that failed is one more than were completed; what showed too little completed all of them.
    let again = tally.iterations + u64::from(!matches!(end, None | Some(End::Inconclusive(_))));
    let reproduce = reproduction(scenario.name, run.seed, Some(again), run.profile.as_str(), run.options);
    let (name, unit, seed, time) = (scenario.name, scenario.unit, run.seed, begin.elapsed());
    Report { name, unit, seed, end, tally, time, reproduce }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("with something that is no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(run: fn(&Run<'_>, &mut Tally) -> Result<(), End>) -> &'static Scenario {
        Box::leak(Box::new(Scenario {
            name: "made/up",
            about: "",
            unit: "steps",
            needs_probes: false,
            cpus: 1,
            memory_bytes: 0,
            sample: (1, &[]),
            options: None,
            run,
        }))
    }

    /// The line that runs it again does as much as it did, and one step more if it broke off within one.
    #[test]
    fn the_line_that_reproduces_has_the_iteration_that_failed() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::open(root.path().join("regions"), 1).unwrap();
        let again = |ended: fn(&Run<'_>, &mut Tally) -> Result<(), End>| {
            let (program, stop) = (PathBuf::new(), Cancel::new());
            let run = Run {
                seed: 1,
                iterations: None,
                deadline: None,
                profile: Profile::Quick,
                options: &[],
                program: &program,
                place: &place,
                directory: root.path(),
                stop: &stop,
            };
            report(scenario(ended), &run).reproduce
        };
        let line = |count| format!("--seed 1 --iters {count} --profile quick");
        let passed = again(|_, tally| {
            tally.iterations = 3;
            Ok(())
        });
        let inconclusive = again(|_, tally| {
            tally.iterations = 3;
            Err(End::Inconclusive("counted nothing".into()))
        });
        let failed = again(|_, tally| {
            tally.iterations = 3;
            Err(End::Failed("wrong".into()))
        });
        assert!(passed.contains(&line(3)) && inconclusive.contains(&line(3)), "{passed}\n{inconclusive}");
        assert!(failed.contains(&line(4)), "{failed}");
    }
}

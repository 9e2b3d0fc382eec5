//! How a job ended, and what the job itself says of it.
//!
//! # Invariants
//! - Every ending has exactly one [`Outcome`]; the gravest of a run decides its exit code.
//! - A job that was to report and did not has failed, whatever its exit code.

use core::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a job ended. Ordered by gravity: the last is the gravest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything that was looked at was right.
    Passed,
    /// Passed, but there was nothing blessed to compare with.
    Unblessed,
    /// Not run: its inputs are those of its last pass.
    Cached,
    /// Not run, with a reason.
    Skipped,
    /// Nothing is known to be wrong, but what was to be shown was not shown.
    Inconclusive,
    /// The job's process could not be started; the reason has the errno.
    NotStarted,
    /// Passed, but left processes behind.
    Leaked,
    /// Something is wrong.
    Failed,
    /// Ran past its limit and was killed.
    TimedOut,
    /// Its process was ended by a signal that the runner did not send.
    Crashed,
    /// Asked for something that there is not.
    Usage,
    /// Stopped, or never begun, because the run was interrupted.
    Interrupted,
}

impl Outcome {
    /// Every outcome, the least grave first.
    pub const ALL: [Self; 12] = [
        Self::Passed,
        Self::Unblessed,
        Self::Cached,
        Self::Skipped,
        Self::Inconclusive,
        Self::NotStarted,
        Self::Leaked,
        Self::Failed,
        Self::TimedOut,
        Self::Crashed,
        Self::Usage,
        Self::Interrupted,
    ];

    /// The word in reports, the same as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Unblessed => "unblessed",
            Self::Cached => "cached",
            Self::Skipped => "skipped",
            Self::Inconclusive => "inconclusive",
            Self::NotStarted => "not_started",
            Self::Leaked => "leaked",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Crashed => "crashed",
            Self::Usage => "usage",
            Self::Interrupted => "interrupted",
        }
    }

    /// Passed, unblessed or cached: the job is as it should be.
    pub fn is_pass(self) -> bool {
        self <= Self::Cached
    }

    /// Whether it counts among the failures: the recital names it and the next run may repeat it by number.
    /// Skipped, inconclusive and interrupted jobs are no failures and no passes.
    pub fn is_failure(self) -> bool {
        matches!(
            self,
            Self::NotStarted | Self::Leaked | Self::Failed | Self::TimedOut | Self::Crashed | Self::Usage
        )
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The exit code of a run: 130 interrupted, 2 usage, 100 failed, 5 inconclusive, 0 passed, 4 nothing ran.
pub fn exit_code(outcomes: impl IntoIterator<Item = Outcome>) -> u8 {
    let (mut gravest, mut passed) = (None, false);
    for outcome in outcomes {
        gravest = gravest.max(Some(outcome));
        passed |= outcome.is_pass();
    }
    match gravest {
        Some(Outcome::Interrupted) => 130,
        Some(Outcome::Usage) => 2,
        Some(outcome) if outcome.is_failure() => 100,
        Some(Outcome::Inconclusive) => 5,
        _ if passed => 0,
        _ => 4,
    }
}

/// How a process ended, as the kernel tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal {
        /// Its number.
        number: i32,
        /// Whether a core was dumped.
        core: bool,
    },
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal { number, core } => {
                let dumped = if *core { ", core dumped" } else { "" };
                match nix::sys::signal::Signal::try_from(*number) {
                    Ok(signal) => write!(f, "{} ({number}{dumped})", signal.as_str()),
                    Err(_) => write!(f, "signal {number}{dumped}"),
                }
            }
        }
    }
}

/// What a job says of itself: the content of the file `verdict.json` that it writes into its sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// [`Passed`](Outcome::Passed), [`Unblessed`](Outcome::Unblessed), [`Skipped`](Outcome::Skipped),
    /// [`Inconclusive`](Outcome::Inconclusive), [`Failed`](Outcome::Failed), [`Usage`](Outcome::Usage) or
    /// [`Interrupted`](Outcome::Interrupted).
    pub outcome: Outcome,
    /// Why, for every outcome but a pass.
    #[serde(default)]
    pub reason: Option<String>,
    /// The full text for people: counts, notes, the failure.
    #[serde(default)]
    pub text: String,
    /// What it counted, for programs.
    #[serde(default)]
    pub report: serde_json::Value,
    /// The command line that repeats it.
    #[serde(default)]
    pub replay: Option<String>,
    /// The schedule that failed, if it ran under one.
    #[serde(default)]
    pub schedule: Option<String>,
}

/// A duration in JSON is a number of nanoseconds.
pub(crate) mod nanos {
    use super::Duration;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_nanos)
    }
}

/// The same for one that may be missing.
pub(crate) mod some_nanos {
    use super::Duration;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_outcome_is_the_exit_code() {
        use Outcome::*;
        for (outcomes, code) in [
            (&[][..], 4),
            (&[Skipped], 4),
            (&[Skipped, Passed], 0),
            (&[Cached], 0),
            (&[Inconclusive, Skipped, Passed], 5),
            (&[Inconclusive, Failed, Passed], 100),
            (&[NotStarted, Passed], 100),
            (&[Leaked], 100),
            (&[Crashed, Usage], 2),
            (&[Failed, Interrupted, Passed], 130),
        ] {
            assert_eq!(exit_code(outcomes.iter().copied()), code, "{outcomes:?}");
        }
    }

    #[test]
    fn words_are_those_of_json_and_the_order_is_that_of_all() {
        assert!(Outcome::ALL.is_sorted());
        for outcome in Outcome::ALL {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
            assert!(!(outcome.is_pass() && outcome.is_failure()));
        }
    }

    #[test]
    fn signals_have_names() {
        assert_eq!(Exit::Signal { number: 9, core: false }.to_string(), "SIGKILL (9)");
        assert_eq!(Exit::Signal { number: 11, core: true }.to_string(), "SIGSEGV (11, core dumped)");
        assert_eq!(Exit::Signal { number: 63, core: false }.to_string(), "signal 63");
        assert_eq!(Exit::Code(3).to_string(), "exit code 3");
    }
}

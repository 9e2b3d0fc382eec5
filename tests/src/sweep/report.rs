//! What a sweep did, and why one failed.

use std::fmt;
use std::time::Duration;

use super::cases::Case;
use super::trace::Trace;

/// One swept case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The case.
    pub name: String,
    /// The call, as text.
    pub operation: String,
    /// Instructions that were stepped.
    pub instruction_count: u64,
    /// Images that were recovered and checked.
    pub image_count: u64,
    /// Images in which the call had not happened.
    pub before_count: u64,
    /// Images in which it had.
    pub after_count: u64,
    /// Images in which a part of it had.
    pub partial_count: u64,
    /// Time to run the child.
    pub trace_time: Duration,
    /// Time to recover and check the images.
    pub check_time: Duration,
}

impl Report {
    /// Microseconds that one step of the child took, everything included.
    pub fn step_micros(&self) -> f64 {
        self.trace_time.as_secs_f64() * 1e6 / self.instruction_count.max(1) as f64
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<28} {:>8} instructions, {:>5} images ({} before, {} partly, {} after), {:.1} us a step, {:.0} us an image",
            self.name,
            self.instruction_count,
            self.image_count,
            self.before_count,
            self.partial_count,
            self.after_count,
            self.step_micros(),
            self.check_time.as_secs_f64() * 1e6 / self.image_count.max(1) as f64,
        )
    }
}

/// Why a sweep has no report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// This process may not trace its own child: the sweep cannot be made here, and nothing is wrong.
    #[error("not permitted to trace a child process: {reason}")]
    Denied {
        /// What the kernel said.
        reason: String,
    },
    /// The program that makes the call is not there: nothing is wrong with what it tests.
    #[error("no program to trace: {reason}")]
    NoProgram {
        /// What was looked for.
        reason: String,
    },
    /// The sweep could not be set up, or its child did something unexpected.
    #[error("sweep {case} ({operation}): {reason}")]
    Setup {
        /// The case.
        case: String,
        /// The call.
        operation: String,
        /// What happened.
        reason: String,
    },
    /// An image does not recover to what it must.
    #[error("sweep {case} ({operation}): {place}: {reason}")]
    Broken {
        /// The case.
        case: String,
        /// The call.
        operation: String,
        /// The kill: instruction and stores.
        place: String,
        /// What is wrong with the image.
        reason: String,
    },
}

impl Failure {
    pub(super) fn setup(case: &Case, reason: impl Into<String>) -> Self {
        Self::Setup { case: case.name.clone(), operation: case.operation.to_string(), reason: reason.into() }
    }

    pub(super) fn broken(case: &Case, trace: &Trace, applied: usize, reason: String) -> Self {
        let (case, operation) = (case.name.clone(), case.operation.to_string());
        Self::Broken { case, operation, place: trace.describe(applied), reason }
    }

    /// Whether the sweep could not be made here, as opposed to having found something.
    pub fn is_skip(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::NoProgram { .. })
    }
}

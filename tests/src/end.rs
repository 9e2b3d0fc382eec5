//! How a scenario ends other than by passing, and how an error on the way becomes that end.
//!
//! # Invariants
//! - Every end but an interrupt says in words why.

use core::fmt::Display;

use outlast_probe::sync::{AtomicBool, Ordering};

/// Whether this process has found something wrong.
static FAILING: AtomicBool = AtomicBool::new(false);

/// Why a scenario did not pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum End {
    /// Something is wrong with what was tested.
    #[error("{0}")]
    Failed(String),
    /// Nothing is known to be wrong, but what was to be shown was not shown.
    #[error("{0}")]
    Inconclusive(String),
    /// It cannot run here.
    #[error("{0}")]
    Skipped(String),
    /// It was asked for something that there is not.
    #[error("{0}")]
    Usage(String),
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

/// A [`End::Failed`] with a formatted text.
#[macro_export]
macro_rules! failed {
    ($($text:tt)*) => { $crate::end::fail(format!($($text)*)) };
}

/// The end of a scenario that has found something wrong. From now on [`is_failing`].
pub fn fail(text: String) -> End {
    // Relaxed: read on the same thread, or by guards of threads that have been joined.
    FAILING.store(true, Ordering::Relaxed);
    End::Failed(text)
}

/// Whether something wrong was found, so that guards keep what they would remove.
pub fn is_failing() -> bool {
    // Relaxed: see `fail`.
    FAILING.load(Ordering::Relaxed) || std::thread::panicking()
}

/// Turns an error into the end of the scenario.
pub trait Doing<T> {
    /// What was being done when it happened.
    ///
    /// # Errors
    /// [`End::Failed`] with `what` and the error's own text.
    fn doing(self, what: impl Display) -> Result<T, End>;
}

impl<T, E: Display> Doing<T> for Result<T, E> {
    fn doing(self, what: impl Display) -> Result<T, End> {
        self.map_err(|error| fail(format!("{what}: {error}")))
    }
}

/// Ends the scenario unless `holds`.
///
/// # Errors
/// [`End::Failed`] with the text.
pub fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), End> {
    if holds { Ok(()) } else { Err(fail(otherwise())) }
}

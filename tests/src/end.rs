//! How a scenario ends other than by passing, and how an error on the way becomes that end.
//!
//! # Invariants
//! - Every end but an interrupt says in words why.

use core::fmt::Display;

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
    ($($text:tt)*) => { $crate::end::End::Failed(format!($($text)*)) };
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
        self.map_err(|error| End::Failed(format!("{what}: {error}")))
    }
}

/// Ends the scenario unless `holds`.
///
/// # Errors
/// [`End::Failed`] with the text.
pub fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), End> {
    if holds { Ok(()) } else { Err(End::Failed(otherwise())) }
}

//! Scenarios of the scheduler's parts.
//!
//! # Invariants
//! - Every process that a scenario starts has ended when the scenario has.

pub mod readiness;

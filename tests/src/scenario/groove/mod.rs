//! Scenarios of grooves.
//!
//! # Invariants
//! - Every scenario counts what it has killed and checked, and a zero where there should be some is no pass.

pub mod sweep;

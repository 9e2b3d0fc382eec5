//! `sched/*`: the runner and its workers put to the proof by themselves.
//!
//! [`queue`] simulates the shipped queue; [`runner`] runs real processes through the shipped runner; [`readiness`] starts
//! workers that become ready, or do not, in every way there is; [`watch`]
//! reads the counters of workers from outside.
//!
//! # Invariants
//! - Every process that a scenario starts has ended when the scenario has.

pub mod mix;
pub mod queue;
pub mod readiness;
pub mod runner;
pub mod watch;

//! `sched/*`: the runner and its workers put to the proof by themselves.
//!
//! [`queue`] simulates the shipped queue; [`runner`] runs real processes through the shipped runner.

pub mod mix;
pub mod queue;
pub mod runner;

//! Watching: what every joiner has counted, read from outside while it works, is stopped, dies or leaves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod actor;
mod comparing;
mod counting;
mod hostile;
mod raw;
mod reading;

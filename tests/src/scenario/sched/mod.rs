//! `sched/...`: worker processes, and what is seen of them from outside.
//!
//! # Invariants
//! - What a worker says of itself is held against what somebody else has seen.

pub mod watch;

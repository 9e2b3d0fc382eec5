//! Scenarios that put the workspace through its life (filled, checkpointed, wiped, restored, killed, damaged),
//! and the `stress` command that runs them.
//!
//! - [`command`] is the command line, which plans jobs and hands them to `outlast-sched`; [`job`] is one of them, a
//!   process that does a [`run`] of one scenario; [`report`] says what came of it.
//! - [`scenario`] is the registry; each scenario is a module below it.
//! - [`worker`] is the other half of a scenario: a process of the same binary, started with a hidden word,
//!   that talks to the scenario over a socket.
//! - [`alloc_worker`] is a process that holds a known number of bytes, for whoever looks from outside.
//! - [`sweep`] single-steps calls and kills them after every instruction; [`mod@bench`] measures.
//! - [`draw`], [`place`], [`end`] are what scenarios are made of: random numbers, a domain that is left as it
//!   was found, the ways to end.
//!
//! A scenario reports what it did ([`report::Tally`]); a count that has to be more than zero and is not makes
//! it inconclusive, never passed.
//!
//! ```
//! use outlast_tests::scenario;
//! assert!(scenario::ALL.iter().any(|scenario| scenario.name == "wksp/roundtrip"));
//! ```
//!
//! # What it does not do
//! It is not a library for others and has no stable interface. It changes nothing outside the regions and
//! files that it makes, unless it is told to (`--wksp`, `--path`).

pub mod alloc_worker;
pub mod bench;
pub mod command;
pub mod draw;
pub mod end;
pub mod interrupt;
pub mod job;
pub mod place;
pub mod probes;
pub mod report;
pub mod run;
pub mod scenario;
pub mod sweep;
pub mod worker;

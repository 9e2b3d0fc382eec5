//! The `outlast` command, end to end: the real binary, in a domain of its own that is removed with the test.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod asking;
mod changing;
mod damage;
mod files;
mod interrupted;
mod joined;
mod output;
mod sandbox;
mod usage;
mod watch;

//! The only place with `unsafe`: mapped memory, bulk copies, futexes, and what a fork leaves behind.
//!
//! # Invariants
//! - Nothing here hands out a plain reference into shared memory except the `unsafe` `SharedBytes::as_slice`.

pub(crate) mod copy;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod map;

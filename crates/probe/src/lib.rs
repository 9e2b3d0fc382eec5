//! Named probe points in the product, and the one façade over atomics.
//!
//! A *probe* marks a step at which another process could see a half-done change or a kill could tear it.
//! A normal build contains nothing of it: [`probe!`], [`fault!`] and [`blocking!`] expand to no code, and no
//! argument is evaluated. A build with `--cfg outlast_probes` (`cargo xtask` appends it to `RUSTFLAGS`)
//! registers every probe at link time; while no hook is installed a probe costs one relaxed load.
//!
//! [`sync`] is the only place of the workspace that imports `core::sync::atomic`.
//!
//! # Invariants
//! - Probe names are `crate.operation.step` and unique in a binary (`registry::duplicate` finds an offender).
//! - Nothing on the path of a probe allocates or blocks unless the installed hook does.
//!
//! # What it does not do
//! It decides nothing: which probe stops, kills or fails is the hook's business, and hooks live in test code.
//!
//! ```
//! use outlast_probe::{blocking, fault, probe};
//!
//! fn commit(index: u64) -> Result<(), i32> {
//!     probe!("example.commit.before", index);
//!     if let Some(errno) = fault!("example.commit.write") {
//!         return Err(errno);
//!     }
//!     let slept = blocking!("example.commit.wait", 7);
//!     assert_eq!(slept, 7);
//!     probe!("example.commit.after", index);
//!     Ok(())
//! }
//! assert_eq!(commit(3), Ok(()));
//! ```

#[cfg(outlast_probes)]
pub mod registry;
pub mod sync;

mod macros;

/// What the macros expand to; not for direct use.
#[cfg(outlast_probes)]
#[doc(hidden)]
pub mod private {
    pub use linkme;
}

/// `true` in a build with `--cfg outlast_probes`.
///
/// Test code uses it to list scenarios that need probes as ignored, with the reason.
pub const ENABLED: bool = cfg!(outlast_probes);

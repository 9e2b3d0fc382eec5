//! The façade over atomics: every atomic of the workspace is imported from here.
//!
//! One import point lets `cargo xtask tidy` hold the rule that shared words are touched only by code that
//! says which ordering it needs and why, and lets protocol cores be written over a small trait that a model
//! checker can stand in for.

pub use core::sync::atomic::{
    AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, compiler_fence, fence,
};

/// Orders the stores before it and the stores after it in the *program order of this thread's machine
/// instructions*, so that a SIGKILL between any two instructions finds every store of the first group done
/// before any store of the second begins.
///
/// A kill stops a thread at an instruction boundary, and the switch away from it drains its store buffer, so
/// a survivor sees exactly a prefix of the instruction stream. What has to be prevented is the compiler's
/// own reordering: a `Release` store only keeps *earlier* stores from sinking below it and lets later ones
/// rise above it. It costs no instruction. Ordering towards *running* observers still needs its own
/// `Release`/`Acquire` pair.
#[inline(always)]
pub fn crash_fence() {
    compiler_fence(Ordering::SeqCst);
}

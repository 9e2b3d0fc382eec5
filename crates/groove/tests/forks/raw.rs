//! What tests of forks cannot do safely.

#![allow(unsafe_code, reason = "fork")]

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// Runs `act` in a forked child, which then ends without any other destructor, and waits for it. Whether it ended
/// without a panic.
pub(crate) fn in_a_fork(act: impl FnOnce()) -> bool {
    // SAFETY: the child uses what its parent's other threads may have been using (the allocator, std's locks) only
    // if those threads were idle, which the caller sees to by running one test alone.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => matches!(waitpid(child, None).unwrap(), WaitStatus::Exited(_, 0)),
        ForkResult::Child => {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
            // SAFETY: ends the process at once, which is always possible.
            unsafe { nix::libc::_exit(i32::from(outcome.is_err())) }
        }
    }
}

//! The two things that tests of processes cannot do safely.

#![allow(unsafe_code, reason = "fork, and a read that is meant to fault")]

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// A forked child of this process; killed, if need be, and waited for when dropped.
pub(crate) struct Forked(Option<Pid>);

impl Forked {
    /// Runs `act` in a forked child, which then ends without running any destructor.
    pub(crate) fn new(act: impl FnOnce()) -> Self {
        // SAFETY: test binaries run their tests in a thread each; the child uses what its parent's other
        // threads may have been using (the allocator, std's locks) only if those threads were idle, which
        // actors see to by running one test alone.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => Self(Some(child)),
            ForkResult::Child => {
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
                // SAFETY: ends the process at once, which is always possible.
                unsafe { libc::_exit(i32::from(outcome.is_err())) }
            }
        }
    }

    pub(crate) fn wait(mut self) -> WaitStatus {
        waitpid(self.0.take().unwrap(), None).unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.unwrap().as_raw().cast_unsigned()
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            let _ = waitpid(pid, None);
        }
    }
}

/// Reads one byte, come what may.
pub(crate) fn read_byte(address: *const u8) -> u8 {
    // SAFETY: not sound in general; the caller is a process that is meant to die of it.
    unsafe { address.read_volatile() }
}

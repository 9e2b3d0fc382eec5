//! A child process that is stepped through one call.
//!
//! # Invariants
//! - However this ends, the child is gone: it is killed by its handle, and by the kernel if this process dies.
//! - One thread starts, steps and reaps a child: ptrace is a matter of threads.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::child::DENIED;

/// Why a child does not stand in front of its call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It may not be traced.
    Denied(String),
    /// There is no such program.
    NoProgram(String),
    /// Anything else.
    Other(String),
}

/// A child that stands in front of the call, or anywhere after.
pub(super) struct Tracee {
    child: Child,
    pid: Pid,
}

impl Drop for Tracee {
    fn drop(&mut self) {
        // Both fail if it has been reaped already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn because(what: &str, error: impl std::fmt::Display) -> String {
    format!("{what}: {error}")
}

impl Tracee {
    /// Starts a program that asks to be traced and raises SIGSTOP before its call and after.
    pub(super) fn start(command: &mut Command) -> Result<Self, Trouble> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command
            .spawn()
            .map_err(|error| Trouble::NoProgram(because(&command.get_program().to_string_lossy(), error)))?;
        // A process id is a positive i32.
        let pid = Pid::from_raw(child.id() as i32);
        let mut tracee = Self { child, pid };
        match waitpid(pid, None).map_err(|errno| Trouble::Other(because("waitpid", errno)))? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
            WaitStatus::Exited(_, code) if code == DENIED => return Err(Trouble::Denied(tracee.complaint())),
            other => {
                let text = format!("the child did not reach the call ({other:?}): {}", tracee.complaint());
                return Err(Trouble::Other(text));
            }
        }
        ptrace::setoptions(pid, ptrace::Options::PTRACE_O_EXITKILL)
            .map_err(|errno| Trouble::Other(because("ptrace", errno)))?;
        Ok(tracee)
    }

    /// What the child wrote to standard error.
    fn complaint(&mut self) -> String {
        let mut text = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            // Only for a message.
            let _ = stderr.read_to_string(&mut text);
        }
        text.trim().to_owned()
    }

    /// Lets the child execute one instruction; `false` if that was the end of its call.
    pub(super) fn step(&self) -> Result<bool, String> {
        ptrace::step(self.pid, None).map_err(|errno| because("single step", errno))?;
        match waitpid(self.pid, None).map_err(|errno| because("waitpid", errno))? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => Ok(true),
            WaitStatus::Stopped(_, Signal::SIGSTOP) => Ok(false),
            other => Err(format!("the child left the call: {other:?}")),
        }
    }

    /// Where the child's program is mapped, to name instructions by; 0 if that cannot be said.
    pub(super) fn origin(&self) -> u64 {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.pid)).unwrap_or_default();
        let first = maps.split('-').next().unwrap_or_default();
        u64::from_str_radix(first, 16).unwrap_or(0)
    }

    /// The address of the child's next instruction, from `origin`; 0 where the platform's registers have no name
    /// here.
    pub(super) fn next_address(&self, origin: u64) -> u64 {
        #[cfg(target_arch = "x86_64")]
        let address = ptrace::getregs(self.pid).map(|registers| registers.rip);
        #[cfg(target_arch = "aarch64")]
        let address = ptrace::getregs(self.pid).map(|registers| registers.pc);
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let address: nix::Result<u64> = Ok(0);
        address.unwrap_or(0).wrapping_sub(origin)
    }

    /// Lets the child go, and returns what it said.
    pub(super) fn finish(&mut self) -> Result<String, String> {
        ptrace::detach(self.pid, None).map_err(|errno| because("detach", errno))?;
        let mut said = String::new();
        if let Some(stdout) = &mut self.child.stdout {
            stdout.read_to_string(&mut said).map_err(|error| because("the child's output", error))?;
        }
        let complaint = self.complaint();
        let status = self.child.wait().map_err(|error| because("wait", error))?;
        if status.success() { Ok(said) } else { Err(format!("the call failed: {status}: {complaint}")) }
    }
}

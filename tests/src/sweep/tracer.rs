//! Steps a child through one call and records what each instruction stored.
//!
//! # Invariants
//! - However this ends, the child is gone: it is killed by its handle, and by the kernel if this process dies.
//! - One thread starts, steps and reaps a child: ptrace is a matter of threads.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::process::{Child, Stdio};

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::cases::Case;
use super::child::{DENIED, Program};
use super::image::{self, Geography};
use super::operation::Outcome;
use super::report::Failure;
use super::trace::{Change, Trace};

/// A call that runs for more instructions than this will not end.
const INSTRUCTIONS_MAX: u64 = 20_000_000;

/// Runs the case's call in a child and records it. The child must return `expected`.
///
/// # Errors
/// [`Failure::Denied`], [`Failure::NoProgram`]; [`Failure::Setup`] if the child does anything but make the call
/// and return `expected`, or stores where nobody looked.
pub fn record(case: &Case, program: &Program, expected: &Outcome) -> Result<Trace, Failure> {
    let file =
        image::nameless(&case.base).map_err(|error| Failure::setup(case, format!("memfd: {error}")))?;
    let mut tracee = Tracee::start(case, program, &file)?;
    let trace = tracee.step_through(case, &file)?;
    let said = tracee.finish(case)?;
    if said.trim() == expected.to_string() {
        return Ok(trace);
    }
    Err(Failure::setup(case, format!("the child says {:?}, the dry run said {expected}", said.trim())))
}

/// A child that stands in front of the call, or anywhere after.
struct Tracee {
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

impl Tracee {
    fn start(case: &Case, program: &Program, region: &File) -> Result<Self, Failure> {
        let fail =
            |what: &str, error: &dyn std::fmt::Display| Failure::setup(case, format!("{what}: {error}"));
        let region = image::descriptor(region).map_err(|error| fail("dup", &error))?;
        let mut command = program.command(&case.operation);
        command.stdin(Stdio::from(region)).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| Failure::NoProgram {
            reason: format!("{}: {error}", program.path().display()),
        })?;
        // A process id is a positive i32.
        let pid = Pid::from_raw(child.id() as i32);
        let mut tracee = Self { child, pid };
        match waitpid(pid, None).map_err(|errno| fail("waitpid", &errno))? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
            WaitStatus::Exited(_, code) if code == DENIED => {
                return Err(Failure::Denied { reason: tracee.complaint() });
            }
            other => {
                let text = format!("the child did not reach the call ({other:?}): {}", tracee.complaint());
                return Err(Failure::setup(case, text));
            }
        }
        ptrace::setoptions(pid, ptrace::Options::PTRACE_O_EXITKILL)
            .map_err(|errno| fail("ptrace", &errno))?;
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

    fn step_through(&self, case: &Case, file: &File) -> Result<Trace, Failure> {
        let fail =
            |what: &str, error: &dyn std::fmt::Display| Failure::setup(case, format!("{what}: {error}"));
        let mut watch =
            Watch::new(file, case.geography).map_err(|error| fail("reading the region", &error))?;
        let base = watch.last.clone();
        let origin = self.origin();
        let (mut changes, mut instruction_count) = (Vec::new(), 0);
        loop {
            ptrace::step(self.pid, None).map_err(|errno| fail("single step", &errno))?;
            instruction_count += 1;
            let status = waitpid(self.pid, None).map_err(|errno| fail("waitpid", &errno))?;
            let words = watch.look(file).map_err(|error| fail("reading the region", &error))?;
            if let Some(words) = words {
                let next_address = self.next_address(origin);
                let len = watch.last.len();
                changes.push(Change { instruction: instruction_count, next_address, len, words });
            }
            match status {
                WaitStatus::Stopped(_, Signal::SIGTRAP) if instruction_count < INSTRUCTIONS_MAX => {}
                WaitStatus::Stopped(_, Signal::SIGSTOP) => break,
                other => return Err(fail("the child left the call", &format!("{other:?}"))),
            }
        }
        if let Some(at) = watch.unwatched(file).map_err(|error| fail("reading the region", &error))? {
            let place = case.geography.place(at);
            return Err(Failure::setup(case, format!("the call stored where nobody looked: {place}")));
        }
        Ok(Trace { base, changes, instruction_count, geography: case.geography })
    }

    /// Where the child's program is mapped, to name instructions by; 0 if that cannot be said.
    fn origin(&self) -> u64 {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.pid)).unwrap_or_default();
        let first = maps.split('-').next().unwrap_or_default();
        u64::from_str_radix(first, 16).unwrap_or(0)
    }

    /// The address of the child's next instruction, from `origin`; 0 where the platform's registers have no name
    /// here.
    fn next_address(&self, origin: u64) -> u64 {
        #[cfg(target_arch = "x86_64")]
        let address = ptrace::getregs(self.pid).map(|registers| registers.rip);
        #[cfg(target_arch = "aarch64")]
        let address = ptrace::getregs(self.pid).map(|registers| registers.pc);
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let address: nix::Result<u64> = Ok(0);
        address.unwrap_or(0).wrapping_sub(origin)
    }

    /// Lets the child go, and returns what it said.
    fn finish(&mut self, case: &Case) -> Result<String, Failure> {
        let fail =
            |what: &str, error: &dyn std::fmt::Display| Failure::setup(case, format!("{what}: {error}"));
        ptrace::detach(self.pid, None).map_err(|errno| fail("detach", &errno))?;
        let mut said = String::new();
        if let Some(stdout) = &mut self.child.stdout {
            stdout.read_to_string(&mut said).map_err(|error| fail("the child's output", &error))?;
        }
        let complaint = self.complaint();
        let status = self.child.wait().map_err(|error| fail("wait", &error))?;
        if status.success() {
            Ok(said)
        } else {
            Err(fail("the call failed", &format!("{status}: {complaint}")))
        }
    }
}

/// The region as it was after the last instruction.
struct Watch {
    last: Vec<u8>,
    scratch: Vec<u8>,
    geography: Geography,
}

impl Watch {
    fn new(file: &File, geography: Geography) -> io::Result<Self> {
        let last = image::bytes_of(file)?;
        Ok(Self { scratch: last.clone(), last, geography })
    }

    /// The words that changed in what is watched, or `None`.
    fn look(&mut self, file: &File) -> io::Result<Option<Vec<(usize, u64)>>> {
        let len = file.metadata()?.len() as usize;
        let grown = len != self.last.len();
        self.last.resize(len, 0);
        self.scratch.resize(len, 0);
        let mut words = Vec::new();
        for range in self.geography.watched(len) {
            let start = range.start;
            let (now, last) = (&mut self.scratch[range.clone()], &mut self.last[range]);
            file.read_exact_at(now, start as u64)?;
            if now == last {
                continue;
            }
            for at in (0..now.len()).step_by(8).filter(|&at| now[at..at + 8] != last[at..at + 8]) {
                words.push((start + at, image::word(now, at)));
            }
            last.copy_from_slice(now);
        }
        Ok((grown || !words.is_empty()).then_some(words))
    }

    /// Where the file differs from all that was seen to change, if it does.
    fn unwatched(&self, file: &File) -> io::Result<Option<usize>> {
        let now = image::bytes_of(file)?;
        Ok(now.iter().zip(&self.last).position(|(now, last)| now != last))
    }
}

//! A worker that was started: what is known of it, and everything that is done with it.
//!
//! # Invariants
//! - The process is reaped only by the drop, after its whole group was killed: until then its number is its own.
//! - However a handle is dropped, no process of the group runs on.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::net::{SendFlags, send};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};

use super::tail::Tail;
use crate::message::{MediumKind, Order, encode};
use crate::outcome::Exit;
use crate::ready::mishap::{Mishap, WorkerError};
use crate::ready::wait::{Over, Source, attend};
use crate::ready::{Expected, Medium, Sign};

/// How often a medium is looked at after the worker's death, at most.
const LAST_ROUNDS: usize = 1024;

/// That a worker is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// By what it said so.
    pub medium: MediumKind,
    /// How long after its start it was heard.
    pub elapsed: Duration,
    /// How many bytes it has in place, if its medium tells.
    pub bytes: Option<u64>,
}

/// How a worker came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// How its process ended.
    pub exit: Exit,
    /// What it reported; `None` only for a worker with a marker, which has no way to.
    pub report: Option<Vec<u8>>,
    /// The last phase that it named.
    pub last_phase: Option<String>,
    /// The last that it wrote on standard output.
    pub stdout_tail: String,
    /// The last that it wrote on standard error.
    pub stderr_tail: String,
}

/// A worker process, its medium and its output. Dropping it kills its process group and reaps it.
pub struct Worker {
    role: String,
    legend: Option<String>,
    kind: MediumKind,
    child: Child,
    process: OwnedFd,
    expected: Expected,
    media: Vec<Box<dyn Medium>>,
    sender: Option<Arc<OwnedFd>>,
    stdout: Tail,
    stderr: Tail,
    begun: Instant,
    last_phase: Option<String>,
    ready: Option<Ready>,
    failed: Option<(i32, String)>,
    wrong: Option<Mishap>,
    report: Option<Vec<u8>>,
    exit: Option<Exit>,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("role", &self.role)
            .field("pid", &self.pid())
            .field("medium", &self.kind)
            .field("ready", &self.ready)
            .field("exit", &self.exit)
            .finish_non_exhaustive()
    }
}

impl Worker {
    #[allow(clippy::too_many_arguments, reason = "the parts of a start, put together in one place")]
    pub(super) fn new(
        role: String,
        legend: Option<String>,
        kind: MediumKind,
        child: Child,
        process: OwnedFd,
        expected: Expected,
        media: Vec<Box<dyn Medium>>,
        sender: Option<Arc<OwnedFd>>,
        (stdout, stderr): (Tail, Tail),
        begun: Instant,
    ) -> Self {
        let (last_phase, ready, failed, wrong, report, exit) = (None, None, None, None, None, None);
        Self {
            role,
            legend,
            kind,
            child,
            process,
            expected,
            media,
            sender,
            stdout,
            stderr,
            begun,
            last_phase,
            ready,
            failed,
            wrong,
            report,
            exit,
        }
    }

    /// What the worker is for.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// Its process, also its process group. The number is its own as long as this handle lives.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its process as a descriptor, readable when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// The last phase that it named, as far as it was heard.
    pub fn last_phase(&self) -> Option<&str> {
        self.last_phase.as_deref()
    }

    /// Waits until the worker says that it is ready. Its output is drained meanwhile.
    ///
    /// `cancel`, if given, ends the wait when it becomes readable. The worker runs on after an error until it is
    /// dropped.
    ///
    /// # Errors
    /// [`WorkerError`] with what happened instead.
    pub fn wait_ready(
        &mut self,
        timeout: Duration,
        cancel: Option<BorrowedFd<'_>>,
    ) -> Result<Ready, WorkerError> {
        let over = attend(&mut [self], timeout, cancel, Self::is_heard).map(|(over, _)| over);
        self.judge_ready(over, timeout)
    }

    /// Tells the worker to begin.
    ///
    /// # Errors
    /// [`Mishap::Io`] if it has no socket or has closed it.
    pub fn open_gate(&mut self) -> Result<(), WorkerError> {
        self.order(Order::Gate, "opening its gate")
    }

    /// Tells the worker to come to an end; one with a marker by SIGTERM to its group.
    ///
    /// # Errors
    /// [`Mishap::Io`] if it cannot be told. That it has ended already is no error.
    pub fn request_stop(&mut self) -> Result<(), WorkerError> {
        match self.order(Order::Stop, "stopping it") {
            Err(error) if self.exit.is_some() || has_gone(&error.mishap) => Ok(()),
            other => other,
        }
    }

    /// Waits until the worker has ended. Its output is drained meanwhile.
    ///
    /// # Errors
    /// [`WorkerError`]: [`Mishap::WorkerReported`] if it gave up, [`Mishap::NoReport`] if it has a socket and sent no
    /// report, [`Mishap::TimedOut`], [`Mishap::Cancelled`], [`Mishap::Io`]. It runs on until it is dropped.
    pub fn finish(
        &mut self,
        timeout: Duration,
        cancel: Option<BorrowedFd<'_>>,
    ) -> Result<Finished, WorkerError> {
        let over = attend(&mut [self], timeout, cancel, Self::is_over).map(|(over, _)| over);
        self.judge_end(over, timeout)
    }

    /// Kills the whole process group with SIGKILL and waits until the worker has ended. How it ended: it may have
    /// been faster.
    ///
    /// # Errors
    /// [`Mishap::Io`], [`Mishap::TimedOut`] after 30 s in the kernel.
    pub fn kill(&mut self) -> Result<Exit, WorkerError> {
        kill_group(self.pid());
        let timeout = Duration::from_secs(30);
        let over = attend(&mut [&mut *self], timeout, None, |worker| worker.exit.is_some());
        match (self.exit, over) {
            (Some(exit), _) => Ok(exit),
            (None, Err(source)) => {
                Err(self.error(Mishap::Io { doing: "waiting for its end", source }, timeout))
            }
            (None, Ok(_)) => Err(self.error(self.timed_out(), timeout)),
        }
    }

    fn order(&mut self, order: Order, doing: &'static str) -> Result<(), WorkerError> {
        let sent = match &self.sender {
            Some(socket) => encode(&order).and_then(|packet| {
                send(socket, &packet, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
                Ok(())
            }),
            None if order == Order::Stop => signal_group(self.pid(), Signal::SIGTERM),
            None => Err(io::Error::new(io::ErrorKind::Unsupported, "a worker with a marker has no gate")),
        };
        sent.map_err(|source| self.error(Mishap::Io { doing, source }, Duration::ZERO))
    }

    /// Whether it is ready or will never be.
    fn is_heard(&self) -> bool {
        self.ready.is_some() || self.failed.is_some() || self.is_over()
    }

    fn is_over(&self) -> bool {
        self.exit.is_some() || self.wrong.is_some()
    }

    /// What to wait for; of a settled worker only its output.
    pub(crate) fn sources(&self, settled: bool) -> impl Iterator<Item = (Source, BorrowedFd<'_>)> {
        let process = (!settled && self.exit.is_none()).then(|| (Source::Process, self.process.as_fd()));
        let media = self.media.iter().enumerate().filter(move |_| !settled);
        let media = media.filter_map(|(index, medium)| Some((Source::Medium(index), medium.fd()?)));
        let stdout = self.stdout.fd().map(|fd| (Source::Stdout, fd));
        let stderr = self.stderr.fd().map(|fd| (Source::Stderr, fd));
        let output = stdout.into_iter().chain(stderr).filter(move |_| self.exit.is_none());
        process.into_iter().chain(media).chain(output)
    }

    /// Takes what has become readable.
    pub(crate) fn take(&mut self, source: Source) {
        let taken = match source {
            Source::Stdout => self.stdout.fill(),
            Source::Stderr => self.stderr.fill(),
            Source::Medium(index) => self.look(index).map(drop),
            Source::Process => self.look_at_process(),
        };
        if let Err(source) = taken {
            self.wrong.get_or_insert(Mishap::Io { doing: "watching it", source });
        }
    }

    /// Looks at everything once, however little time there is.
    pub(crate) fn look_at_all(&mut self) {
        (0..self.media.len()).for_each(|index| self.take(Source::Medium(index)));
        self.take(Source::Stdout);
        self.take(Source::Stderr);
        self.take(Source::Process);
    }

    fn look_at_process(&mut self) -> io::Result<()> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if self.exit.is_some() {
            return Ok(());
        }
        let Some(status) = waitid(WaitId::PidFd(self.process.as_fd()), options)? else { return Ok(()) };
        // What it said last came before its end: all of it is heard before the end is judged.
        (0..self.media.len()).for_each(|index| self.take_rest(index));
        self.stdout.fill()?;
        self.stderr.fill()?;
        self.exit = Some(exit_of(&status));
        self.media.iter_mut().for_each(|medium| medium.ended());
        Ok(())
    }

    /// Takes all that a medium has left to say. A child of the worker may have it too, and speak without end: the rounds
    /// are bounded, by more than what a socket holds.
    fn take_rest(&mut self, index: usize) {
        for _ in 0..LAST_ROUNDS {
            match self.look(index) {
                Ok(0) => return,
                Ok(_) => {}
                Err(source) => {
                    self.wrong.get_or_insert(Mishap::Io { doing: "watching it", source });
                    return;
                }
            }
        }
    }

    /// Takes a bounded part of what a medium says; of how many signs.
    fn look(&mut self, index: usize) -> io::Result<usize> {
        let signs = self.media[index].look(&self.expected)?;
        let count = signs.len();
        for sign in signs {
            match sign {
                Sign::Phase(text) => self.last_phase = Some(text),
                Sign::Ready { bytes } => {
                    let (medium, elapsed) = (self.kind, self.begun.elapsed());
                    self.ready.get_or_insert(Ready { medium, elapsed, bytes });
                }
                Sign::Failed { code, text } => self.failed = Some((code, text)),
                Sign::Report(bytes) => self.report = Some(bytes),
                Sign::Wrong(mishap) => {
                    self.wrong.get_or_insert(mishap);
                }
            }
        }
        Ok(count)
    }

    /// Notes if the worker lives in other namespaces.
    pub(super) fn check_namespaces(&mut self) {
        if self.wrong.is_none() {
            self.wrong = self.expected.check_namespaces();
        }
    }

    fn judge_ready(&mut self, over: io::Result<Over>, timeout: Duration) -> Result<Ready, WorkerError> {
        // It may have ended since it said that it is ready, or moved elsewhere since it was started.
        self.take(Source::Process);
        self.check_namespaces();
        let (last_phase, stderr_tail) = (self.last_phase.clone(), self.stderr.text());
        let mishap = match (self.wrong.take(), self.failed.clone(), self.exit, self.ready) {
            (Some(mishap), ..) => mishap,
            (None, Some((code, text)), ..) => Mishap::WorkerReported { code, text, stderr_tail },
            (None, None, None, Some(ready)) => return Ok(ready),
            (None, None, Some(exit), Some(_)) => Mishap::ExitedAfterReady { exit, last_phase, stderr_tail },
            (None, None, Some(exit), None) => Mishap::ExitedBeforeReady { exit, last_phase, stderr_tail },
            (None, None, None, None) => self.not_settled(over),
        };
        Err(self.error(mishap, timeout))
    }

    fn judge_end(&mut self, over: io::Result<Over>, timeout: Duration) -> Result<Finished, WorkerError> {
        let stderr_tail = self.stderr.text();
        let mishap = match (self.wrong.take(), self.failed.clone(), self.exit) {
            (Some(mishap), ..) => mishap,
            (None, Some((code, text)), Some(_)) => Mishap::WorkerReported { code, text, stderr_tail },
            (None, None, Some(exit)) if self.sender.is_some() && self.report.is_none() => {
                Mishap::NoReport { exit, stderr_tail }
            }
            (None, None, Some(exit)) => {
                let (last_phase, stdout_tail) = (self.last_phase.clone(), self.stdout.text());
                return Ok(Finished {
                    exit,
                    report: self.report.clone(),
                    last_phase,
                    stdout_tail,
                    stderr_tail,
                });
            }
            (None, _, None) => self.not_settled(over),
        };
        Err(self.error(mishap, timeout))
    }

    fn not_settled(&self, over: io::Result<Over>) -> Mishap {
        match over {
            Ok(Over::Cancelled) => Mishap::Cancelled,
            Ok(Over::TimedOut | Over::Settled) => {
                self.expected.check_child_namespace().unwrap_or_else(|| self.timed_out())
            }
            Err(source) => Mishap::Io { doing: "waiting for it", source },
        }
    }

    fn timed_out(&self) -> Mishap {
        let (task_state, threads) = state_and_threads(self.pid());
        let wchan = std::fs::read_to_string(format!("/proc/{}/wchan", self.pid())).ok();
        Mishap::TimedOut {
            last_phase: self.last_phase.clone(),
            task_state,
            wchan: wchan.filter(|name| !name.is_empty() && name != "0"),
            threads,
            stderr_tail: self.stderr.text(),
        }
    }

    fn error(&self, mishap: Mishap, timeout: Duration) -> WorkerError {
        let (role, pid, medium, legend) = (self.role.clone(), self.pid(), self.kind, self.legend.clone());
        WorkerError { role, pid, medium, timeout, legend, mishap: Box::new(mishap) }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        kill_group(self.pid());
        // Killed, so it ends; there is nobody to tell an error.
        let _ = self.child.wait();
        self.media.iter_mut().for_each(|medium| medium.ended());
    }
}

/// Waits for many workers at once, as [`Worker::wait_ready`] does for one: each its result, in order, and how often the
/// kernel woke the caller.
pub fn wait_all_ready(
    workers: &mut [Worker],
    timeout: Duration,
    cancel: Option<BorrowedFd<'_>>,
) -> (Vec<Result<Ready, WorkerError>>, u64) {
    let over = attend(&mut workers.iter_mut().collect::<Vec<_>>(), timeout, cancel, Worker::is_heard);
    let wakeups = over.as_ref().map_or(0, |(_, wakeups)| *wakeups);
    let results = workers.iter_mut().map(|worker| worker.judge_ready(each(&over), timeout));
    (results.collect(), wakeups)
}

/// Asks all workers to stop and waits for all of their ends, with one time limit for them together: each its result, in
/// order, as of [`Worker::finish`].
pub fn finish_all(
    workers: &mut [Worker],
    timeout: Duration,
    cancel: Option<BorrowedFd<'_>>,
) -> Vec<Result<Finished, WorkerError>> {
    let stopped: Vec<_> = workers.iter_mut().map(Worker::request_stop).collect();
    let over = attend(&mut workers.iter_mut().collect::<Vec<_>>(), timeout, cancel, Worker::is_over);
    let ends = workers.iter_mut().map(|worker| worker.judge_end(each(&over), timeout));
    // Who could not be told to stop did not end because of us: that is the earlier cause.
    ends.zip(stopped).map(|(end, stopped)| stopped.and(end)).collect()
}

fn each(over: &io::Result<(Over, u64)>) -> io::Result<Over> {
    match over {
        Ok((over, _)) => Ok(*over),
        Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
    }
}

fn has_gone(mishap: &Mishap) -> bool {
    let gone = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
    matches!(mishap, Mishap::Io { source, .. } if gone.contains(&source.kind()))
}

fn exit_of(status: &WaitIdStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(number)) => Exit::Signal { number, core: status.dumped() },
        (None, None) => unreachable!("only ends are waited for"),
    }
}

fn state_and_threads(pid: u32) -> (Option<char>, Option<u64>) {
    let text = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = text.iter().rposition(|byte| *byte == b')').map_or(0, |at| at + 1);
    let rest = String::from_utf8_lossy(&text[after..]);
    let mut fields = rest.split_ascii_whitespace();
    (fields.next().and_then(|state| state.chars().next()), fields.nth(16).and_then(|text| text.parse().ok()))
}

/// Kills a process group whose leader is not reaped yet.
pub(crate) fn kill_group(leader: u32) {
    // Nobody left in it is as good.
    let _ = signal_group(leader, Signal::SIGKILL);
}

fn signal_group(leader: u32, signal: Signal) -> io::Result<()> {
    Ok(killpg(Pid::from_raw(leader.cast_signed()), signal)?)
}

//! One wait over everything that can happen to a running job: its end, its output, its limits, and the wish to stop.
//!
//! # Invariants
//! - The process is not reaped here, so that its number, and that of its group, stay its own.
//! - The wait is bounded once the job is to end: SIGTERM, its grace, SIGKILL, [`TO_DIE`].

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process_group, pidfd_send_signal};

use super::output::Output;
use super::timespec;
use crate::run::Task;
use crate::sandbox::Sandbox;

/// After SIGKILL a process ends at once, but for one that waits for a device.
const TO_DIE: Duration = Duration::from_secs(30);

/// Why the runner ended a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It ran past its limit.
    Limit(Duration),
    /// The run is to stop.
    Stop,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit(limit) => write!(f, "it ran longer than its limit of {limit:?}"),
            Self::Stop => f.write_str("the run was interrupted"),
        }
    }
}

/// How the watch over a job ended.
#[derive(Debug)]
pub(crate) struct Watched {
    /// Why the runner ended it, if it did.
    pub(crate) cut: Option<Cut>,
    /// Whether it ran past its limit for slow jobs.
    pub(crate) slow: bool,
    /// Whether it has ended. If not, SIGKILL did not help.
    pub(crate) ended: bool,
    /// When the time ends that SIGTERM has left to its group, if SIGKILL has not been sent.
    pub(crate) grace_end: Option<Instant>,
}

/// What is watched.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    pub(crate) task: &'a Task<'a>,
    pub(crate) sandbox: &'a Sandbox,
    pub(crate) group: Pid,
    pub(crate) pidfd: &'a OwnedFd,
    pub(crate) began: Instant,
}

/// The end of a job by the runner's hand, so far.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Running,
    /// SIGTERM was sent; SIGKILL follows then.
    Asked(Cut, Instant),
    /// SIGKILL was sent; it is given up then.
    Killed(Cut, Instant),
}

impl Watch<'_> {
    /// Waits for the end, and drains the outputs meanwhile.
    pub(crate) fn until_end(&self, outputs: &mut [Output]) -> Watched {
        let mut buffer = vec![0; 64 << 10];
        let mut phase = Phase::Running;
        let mut slow = false;
        let ended = loop {
            let (ended, stop) = self.wait(phase, slow, outputs, &mut buffer);
            if ended {
                break true;
            }
            let now = Instant::now();
            let limit = self.task.job.limit;
            if let Some(limit) = limit.slow
                && !slow
                && now.duration_since(self.began) >= limit
            {
                slow = true;
                self.task.slow(now.duration_since(self.began));
            }
            match phase {
                Phase::Running if stop => phase = self.ask(Cut::Stop, now),
                Phase::Running => {
                    if let Some(limit) = limit.kill
                        && now.duration_since(self.began) >= limit
                    {
                        phase = self.ask(Cut::Limit(limit), now);
                    }
                }
                Phase::Asked(cut, at) if now >= at => {
                    self.signal(Signal::KILL, "SIGKILL", cut);
                    phase = Phase::Killed(cut, now + TO_DIE);
                }
                Phase::Killed(_, at) if now >= at => break false,
                Phase::Asked(..) | Phase::Killed(..) => {}
            }
        };
        for output in outputs {
            output.drain(&mut buffer);
        }
        let (cut, grace_end) = match phase {
            Phase::Running => (None, None),
            Phase::Asked(cut, at) => (Some(cut), Some(at)),
            Phase::Killed(cut, _) => (Some(cut), None),
        };
        Watched { cut, slow, ended, grace_end }
    }

    /// Waits for the next thing to happen: whether the process has ended, and whether the run is to stop.
    fn wait(&self, phase: Phase, slow: bool, outputs: &mut [Output], buffer: &mut [u8]) -> (bool, bool) {
        let timeout =
            self.deadline(phase, slow).map(|at| timespec(at.saturating_duration_since(Instant::now())));
        let running = matches!(phase, Phase::Running);
        let stop: Option<BorrowedFd<'_>> = running.then(|| self.task.stop.as_fd());
        let open: Vec<usize> = (0..outputs.len()).filter(|index| outputs[*index].pipe().is_some()).collect();
        let mut descriptors = vec![PollFd::new(self.pidfd, PollFlags::IN)];
        descriptors
            .extend(open.iter().filter_map(|i| outputs[*i].pipe()).map(|p| PollFd::new(p, PollFlags::IN)));
        descriptors.extend(stop.as_ref().map(|stop| PollFd::from_borrowed_fd(*stop, PollFlags::IN)));
        if poll(&mut descriptors, timeout.as_ref()).is_err() {
            // A signal's handler ran, or the kernel is short of memory for a moment: what is true is asked again.
            return (false, false);
        }
        let ready: Vec<bool> =
            descriptors.iter().map(|descriptor| !descriptor.revents().is_empty()).collect();
        for (index, _) in open.iter().zip(&ready[1..]).filter(|(_, ready)| **ready) {
            outputs[*index].read(buffer);
        }
        (ready[0], running && ready.last() == Some(&true))
    }

    fn deadline(&self, phase: Phase, slow: bool) -> Option<Instant> {
        let limit = self.task.job.limit;
        let at = |limit: Option<Duration>| limit.and_then(|limit| self.began.checked_add(limit));
        let slow = if slow { None } else { at(limit.slow) };
        let phase = match phase {
            Phase::Running => at(limit.kill),
            Phase::Asked(_, at) | Phase::Killed(_, at) => Some(at),
        };
        slow.into_iter().chain(phase).min()
    }

    fn ask(&self, cut: Cut, now: Instant) -> Phase {
        self.signal(Signal::TERM, "SIGTERM", cut);
        Phase::Asked(cut, now.checked_add(self.task.job.limit.grace).unwrap_or(now + TO_DIE))
    }

    fn signal(&self, signal: Signal, name: &str, cut: Cut) {
        let sent = kill_process_group(self.group, signal);
        // A leader can leave its group, whether or not others stay in it. Twice is once for SIGKILL only.
        let sent = if sent.is_err() || signal == Signal::KILL {
            pidfd_send_signal(self.pidfd, signal)
        } else {
            sent
        };
        let failed = sent.err().map(|error| format!(", which failed: {error}")).unwrap_or_default();
        self.sandbox.note(format_args!("{name} to process group {}, since {cut}{failed}", self.group));
    }
}

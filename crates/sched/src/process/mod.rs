//! The runner of jobs that are processes: a sandbox, a process group of its own, a watch over it, and a verdict.
//!
//! # Invariants
//! - The group is looked at for leftovers when its leader has been reaped.
//! - After the attempt nothing of it is left: no process, no descriptor, and no sandbox unless it is kept.

mod leftover;
mod output;
mod output_to;
pub(crate) mod proc;
mod watch;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use self::leftover::{Group, TO_LEAVE};
use self::output::Output;
use self::output_to::OutputTo;
use self::watch::{Cut, Watch, Watched};
use crate::event::Lifetime;
use crate::job::Job;
use crate::machine::{allow_descriptors, on_cpus};
use crate::outcome::{Exit, Outcome, Verdict};
use crate::run::{Attempt, JobRunner, RunError, Settings, Task};
use crate::sandbox::{Sandbox, check_skeleton, slot_directory};
use crate::verdict;

/// What a slot has open at once, at most: log, outputs and their pipes, a process, a look at `/proc`, and some to spare.
const DESCRIPTORS_OF_A_SLOT: u64 = 12;

/// What sinks, threads and the caller may open besides.
const DESCRIPTORS_BESIDE: u64 = 64;

/// Runs jobs as processes. What [`run`](crate::run) uses.
#[derive(Debug, Clone)]
pub struct ProcessRunner {
    keep: bool,
    slots: u32,
    output_to: Option<OutputTo>,
}

impl ProcessRunner {
    /// A runner that follows these settings.
    pub fn new(settings: &Settings) -> Self {
        let output_to = settings.output_to.as_deref().map(OutputTo::new);
        Self { keep: settings.keep, slots: settings.slots, output_to }
    }
}

impl JobRunner for ProcessRunner {
    /// Makes the slots' directories, sees to it that there are descriptors for all of them, looks at every skeleton.
    fn prepare(&self, jobs: &[Job], directory: &Path) -> Result<(), RunError> {
        let used = u32::try_from(jobs.len()).unwrap_or(u32::MAX).min(self.slots);
        allow_descriptors(DESCRIPTORS_BESIDE + u64::from(used) * DESCRIPTORS_OF_A_SLOT)?;
        for slot in 0..used {
            let path = slot_directory(directory, slot);
            fs::create_dir(&path).map_err(|source| RunError::Directory { path, source })?;
        }
        let mut skeletons: Vec<&PathBuf> = jobs.iter().filter_map(|job| job.skeleton.as_ref()).collect();
        skeletons.sort();
        skeletons.dedup();
        for skeleton in skeletons {
            check_skeleton(skeleton)
                .map_err(|error| RunError::Skeleton { path: error.path, source: error.source })?;
        }
        self.output_to.as_ref().map_or(Ok(()), |output_to| output_to.check(jobs))
    }

    fn run(&self, task: &Task<'_>) -> Attempt {
        let sandbox = Sandbox::create(task.directory, task.slot, task.ordinal, task.job, task.run_began);
        let sandbox = match sandbox {
            Ok(sandbox) => sandbox,
            Err(error) => {
                return Attempt::new(Outcome::NotStarted, format!("its sandbox could not be made: {error}"));
            }
        };
        sandbox.note(format_args!("{} on slot {}, CPUs {:?}", task.job.name, task.slot, task.cpus));
        let mut attempt = attempt(task, &sandbox);
        sandbox.note(format_args!(
            "{}: {}",
            attempt.outcome,
            attempt.reason.as_deref().unwrap_or("no remarks")
        ));
        if let Some(output_to) = &self.output_to
            && let Err(trouble) = output_to.copy(task.job, task.ordinal, sandbox.path())
        {
            attempt.remark(&trouble);
        }
        if self.keep || !attempt.outcome.is_pass() {
            attempt.sandbox = Some(sandbox.path().to_owned());
        } else if let Err((path, error)) = sandbox.remove() {
            attempt.remark(&format!("its sandbox could not be removed: {error}"));
            attempt.sandbox = Some(path);
        }
        attempt
    }

    fn finish(&self, directory: &Path) {
        for slot in 0..self.slots {
            // Those with a sandbox in them stay.
            let _ = fs::remove_dir(slot_directory(directory, slot));
        }
    }
}

/// A process that runs. Dropped before its end was learned, it is killed with its group, so that a defect here leaves
/// nothing behind.
struct Started {
    child: Child,
    pidfd: OwnedFd,
    group: Pid,
    /// Standard output, standard error.
    outputs: [Output; 2],
    /// Whether its end was learned, or given up on.
    done: bool,
}

impl Started {
    /// Reaps the process if it has ended; waiting for one that SIGKILL did not end could be for ever.
    fn reap(&mut self, ended: bool) -> io::Result<ExitStatus> {
        self.done = true;
        if ended { self.child.wait() } else { Err(io::Error::other("SIGKILL did not end it")) }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if !self.done {
            let _ = kill_process_group(self.group, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

fn attempt(task: &Task<'_>, sandbox: &Sandbox) -> Attempt {
    let began = Instant::now();
    let mut started = match spawn(task, sandbox) {
        Ok(started) => started,
        Err(error) => {
            let program = task.job.command.program.display();
            let reason = format!("{program} could not be started: {}", errno(&error));
            return Attempt::new(Outcome::NotStarted, reason);
        }
    };
    let start = task.run_began.elapsed();
    let pid = started.child.id();
    task.started(pid);
    sandbox.note(format_args!("process {pid} started"));
    let Started { group, pidfd, outputs, .. } = &mut started;
    let watched = Watch { task, sandbox, group: *group, pidfd, began }.until_end(outputs);
    let process = Lifetime { start, end: task.run_began.elapsed() };
    let pipes: Vec<u64> = outputs.iter().filter_map(Output::open_inode).collect();
    let status = started.reap(watched.ended);
    if let Ok(status) = status {
        sandbox.note(format_args!("process {pid} ended: {}", exit_of(status)));
    }
    let group = Group { number: started.group, is_reaped: watched.ended };
    let rest_of_grace = watched.grace_end.map(|at| at.saturating_duration_since(Instant::now()));
    let leaked = leftover::end_all(group, &pipes, rest_of_grace.unwrap_or_default().max(TO_LEAVE));
    for name in &leaked {
        sandbox.note(format_args!("left behind and killed: {name}"));
    }
    if !pipes.is_empty() {
        // What the others of the group have said since.
        let mut buffer = vec![0; 4 << 10];
        started.outputs.iter_mut().for_each(|output| output.drain(&mut buffer));
    }
    let mut attempt = conclude(task.job, sandbox.path(), &watched, status, leaked);
    attempt.process = Some(process);
    let [(stdout, trouble), (stderr, more_trouble)] = started.outputs.each_mut().map(Output::end);
    (attempt.stdout_tail, attempt.stderr_tail) = (stdout, stderr);
    trouble.iter().chain(&more_trouble).for_each(|trouble| attempt.remark(trouble));
    attempt
}

/// Starts the process, on its CPUs before its first instruction.
fn spawn(task: &Task<'_>, sandbox: &Sandbox) -> io::Result<Started> {
    let command = &task.job.command;
    let (stdout, its_stdout) = io::pipe()?;
    let (stderr, its_stderr) = io::pipe()?;
    let outputs = [
        Output::new("stdout", stdout.into(), sandbox.path()),
        Output::new("stderr", stderr.into(), sandbox.path()),
    ];
    let mut process = Process::new(program(&command.program)?);
    process
        .args(&command.arguments)
        .envs(command.environment.iter().map(|(name, value)| (name, value)))
        .env("OUTLAST_SANDBOX", sandbox.path())
        .env("OUTLAST_SLOT", task.slot.to_string())
        .env("OUTLAST_JOB_NAME", &task.job.name)
        .env("OUTLAST_JOB_SEED", task.job.seed.to_string())
        .current_dir(sandbox.path())
        .stdin(Stdio::null())
        .stdout(its_stdout)
        .stderr(its_stderr)
        .process_group(0);
    let child = match task.affinity {
        Some(cpus) => on_cpus(cpus, || process.spawn())?,
        None => process.spawn()?,
    };
    let group = Pid::from_child(&child);
    match pidfd_open(group, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Started { child, pidfd, group, outputs, done: false }),
        Err(error) => {
            // Without a descriptor its end could not be waited for.
            end_at_once(group, child);
            Err(error.into())
        }
    }
}

/// Kills a process that is not reaped yet, and its group.
fn end_at_once(group: Pid, mut child: Child) {
    let _ = kill_process_group(group, Signal::KILL);
    // It may have left its group.
    let _ = child.kill();
    let _ = child.wait();
}

/// The program as seen from here: a relative path would be looked for in the sandbox, a bare name in `PATH`.
fn program(program: &Path) -> io::Result<PathBuf> {
    if program.components().count() > 1 { std::path::absolute(program) } else { Ok(program.to_owned()) }
}

/// The outcome of a process that has ended, or could not be ended.
fn conclude(
    job: &Job,
    sandbox: &Path,
    watched: &Watched,
    status: io::Result<ExitStatus>,
    leaked: Vec<String>,
) -> Attempt {
    let said = verdict::read(sandbox);
    let exit = status.as_ref().ok().map(|status| exit_of(*status));
    let (outcome, reason) = match (watched.cut, exit) {
        (Some(cut @ Cut::Limit(_)), _) => (Outcome::TimedOut, Some(cut.to_string())),
        (Some(cut @ Cut::Stop), _) => (Outcome::Interrupted, Some(cut.to_string())),
        (None, Some(exit)) => verdict::judge(exit, job.command.reports, &said),
        (None, None) => (Outcome::Failed, Some("its end could not be learned".to_owned())),
    };
    let mut attempt = Attempt { exit, slow: watched.slow, leaked, ..Attempt::from(outcome) };
    attempt.reason = reason;
    if let Err(error) = status {
        attempt.remark(&format!("its process was not reaped: {error}"));
    }
    if job.command.reports
        && let Ok(Some(Verdict { text, report, replay, schedule, .. })) = said
    {
        attempt.remark(&text);
        (attempt.report, attempt.replay, attempt.schedule) = (report, replay, schedule);
    }
    if outcome.is_pass() && !attempt.leaked.is_empty() {
        attempt.outcome = Outcome::Leaked;
        attempt.reason = Some(format!("it left processes behind: {}", attempt.leaked.join(", ")));
    }
    attempt
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal { number: signal.unwrap_or(0), core: status.core_dumped() },
    }
}

/// An error with the name of its number.
fn errno(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => format!("{:?}: {error}", nix::errno::Errno::from_raw(number)),
        None => error.to_string(),
    }
}

fn timespec(time: Duration) -> Timespec {
    // More than the kernel takes is never, here.
    let time = time.min(Duration::from_secs(1 << 30));
    Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: i64::from(time.subsec_nanos()) }
}

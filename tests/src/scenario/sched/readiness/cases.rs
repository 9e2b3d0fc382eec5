//! What is done with workers, and what has to come of it.
//!
//! # Invariants
//! - A case ends with every worker dead and reaped: the handles see to it.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use outlast_sched::{
    Acceptance, Exit, Identity, Marker, MarkerSpec, MediumKind, MediumSpec, Mishap, Protocol, Spawn, Worker,
    WorkerError, wait_all_ready,
};

use super::child::WORD;
use crate::draw::Draw;
use crate::end::{Doing, End, require};
use crate::failed;
use crate::report::Tally;

/// Outcomes are waited for at most so long.
const LIMIT: Duration = Duration::from_secs(30);
const LIMIT_MS: u16 = 30_000;
/// Random moments lie within so many turns of a spin loop, and as many nanoseconds.
const SPINS: u64 = 200_000;

/// What every case is given.
#[derive(Debug)]
pub struct Stage<'r> {
    /// The stress binary.
    pub program: &'r PathBuf,
    /// For markers.
    pub directory: &'r Path,
}

/// One case, done once on every medium that it concerns.
#[derive(Debug)]
pub struct Case {
    /// Its count.
    pub name: &'static str,
    /// Does it.
    pub run: fn(&Stage<'_>, &mut Draw, &mut Tally) -> Result<(), End>,
}

/// Every case.
pub const CASES: &[Case] = &[
    Case { name: "ready", run: ready },
    Case { name: "exits_before_ready", run: exits_before_ready },
    Case { name: "signals_before_ready", run: signals_before_ready },
    Case { name: "gave_up", run: gave_up },
    Case { name: "timed_out", run: timed_out },
    Case { name: "stopped", run: stopped },
    Case { name: "cancelled", run: cancelled },
    Case { name: "stale_markers", run: stale_markers },
    Case { name: "floods", run: floods },
    Case { name: "not_started", run: not_started },
];

impl Stage<'_> {
    fn spawn(&self, words: &[&str], medium: MediumSpec) -> Spawn {
        let words = ["worker", WORD].iter().chain(words).copied();
        Spawn::new("readiness", self.program).arguments(words).medium(medium)
    }

    fn start(&self, words: &[&str], medium: MediumSpec) -> Result<Worker, End> {
        self.spawn(words, medium).start().doing("starting a worker")
    }
}

fn marker() -> MediumSpec {
    MediumSpec::Marker(MarkerSpec::default())
}

/// The first word of a role that says ready on this medium.
fn ready_word(medium: &MediumSpec) -> &'static str {
    if medium.kind() == MediumKind::Marker { "marker" } else { "ready" }
}

fn expect_mishap(result: Result<impl std::fmt::Debug, WorkerError>) -> Result<WorkerError, End> {
    match result {
        Ok(found) => Err(failed!("{found:?}, expected a mishap")),
        Err(error) => Ok(error),
    }
}

fn ready(stage: &Stage<'_>, _: &mut Draw, _: &mut Tally) -> Result<(), End> {
    for medium in [MediumSpec::Socket, MediumSpec::Slot, marker()] {
        let mut worker = stage.start(&[ready_word(&medium)], medium)?;
        worker.wait_ready(LIMIT, None).doing("waiting")?;
    }
    Ok(())
}

fn exits_before_ready(stage: &Stage<'_>, _: &mut Draw, _: &mut Tally) -> Result<(), End> {
    for code in [2, 3, 4, 5, 6, 101] {
        for medium in [MediumSpec::Socket, MediumSpec::Slot] {
            let mut worker = stage.start(&["exit", &code.to_string()], medium)?;
            let error = expect_mishap(worker.wait_ready(LIMIT, None))?;
            let right =
                matches!(*error.mishap, Mishap::ExitedBeforeReady { exit, .. } if exit == Exit::Code(code));
            require(right, || error.to_string())?;
        }
    }
    Ok(())
}

fn signals_before_ready(stage: &Stage<'_>, _: &mut Draw, _: &mut Tally) -> Result<(), End> {
    for number in [9, 11, 6] {
        for medium in [MediumSpec::Socket, MediumSpec::Slot] {
            let mut worker = stage.start(&["signal", &number.to_string()], medium)?;
            let error = expect_mishap(worker.wait_ready(LIMIT, None))?;
            let signal = Exit::Signal { number, core: false };
            let right = matches!(*error.mishap, Mishap::ExitedBeforeReady { exit, .. } if exit == signal);
            require(right, || error.to_string())?;
        }
    }
    Ok(())
}

fn gave_up(stage: &Stage<'_>, _: &mut Draw, _: &mut Tally) -> Result<(), End> {
    for medium in [MediumSpec::Socket, MediumSpec::Slot] {
        let error = expect_mishap(stage.start(&["give-up"], medium)?.wait_ready(LIMIT, None))?;
        require(matches!(*error.mishap, Mishap::WorkerReported { code: 9, .. }), || error.to_string())?;
    }
    Ok(())
}

fn timed_out(stage: &Stage<'_>, _: &mut Draw, _: &mut Tally) -> Result<(), End> {
    for medium in [MediumSpec::Socket, MediumSpec::Slot, marker()] {
        let word = if medium.kind() == MediumKind::Marker { "mute" } else { "hang" };
        let error = expect_mishap(stage.start(&[word], medium)?.wait_ready(Duration::from_millis(50), None))?;
        require(matches!(*error.mishap, Mishap::TimedOut { .. }), || error.to_string())?;
    }
    Ok(())
}

/// SIGSTOP, until `/proc` shows it.
fn stopped(stage: &Stage<'_>, _: &mut Draw, _: &mut Tally) -> Result<(), End> {
    let mut worker = stage.start(&["signal", "19"], MediumSpec::Socket)?;
    let begin = Instant::now();
    loop {
        let error = expect_mishap(worker.wait_ready(Duration::from_millis(5), None))?;
        match *error.mishap {
            Mishap::TimedOut { task_state: Some('T'), .. } => return Ok(()),
            Mishap::TimedOut { .. } if begin.elapsed() < LIMIT => {}
            _ => return Err(failed!("{error}")),
        }
    }
}

fn cancelled(stage: &Stage<'_>, _: &mut Draw, _: &mut Tally) -> Result<(), End> {
    // Readable from the start, as a cancellation is.
    let (cancel, writer) = std::io::pipe().doing("making a pipe")?;
    drop(writer);
    for medium in [MediumSpec::Socket, MediumSpec::Slot, marker()] {
        let error = expect_mishap(stage.start(&["mute"], medium)?.wait_ready(LIMIT, Some(cancel.as_fd())))?;
        require(matches!(*error.mishap, Mishap::Cancelled), || error.to_string())?;
    }
    Ok(())
}

/// Markers under the worker's number that are not the worker's.
fn stale_markers(stage: &Stage<'_>, draw: &mut Draw, tally: &mut Tally) -> Result<(), End> {
    for _ in 0..20 {
        let prefix = stage.directory.join("stale-");
        let protocol = Protocol::new(prefix, "OUTLAST_STRESS_NOBODY_SETS_THIS");
        let acceptance = draw.pick(&[Acceptance::Strict, Acceptance::Compatible]);
        let spec = MarkerSpec { acceptance, protocol: Some(protocol.clone()) };
        let mut worker = stage.start(&["mute"], MediumSpec::Marker(spec))?;
        let nonce = u128::from(draw.word()) | 1;
        let identity = Identity::of(worker.pid(), nonce).doing("reading /proc")?;
        let path = protocol.path(worker.pid(), None);
        Marker::Strict(identity).publish(&path).doing("publishing a marker")?;
        let error = expect_mishap(worker.wait_ready(LIMIT, None));
        std::fs::remove_file(&path).doing("removing the marker")?;
        let error = error?;
        require(matches!(*error.mishap, Mishap::Stale { .. }), || error.to_string())?;
        tally.add("stale_markers_refused", 1);
    }
    Ok(())
}

fn floods(stage: &Stage<'_>, _: &mut Draw, _: &mut Tally) -> Result<(), End> {
    for medium in [MediumSpec::Socket, MediumSpec::Slot] {
        stage.start(&["flood"], medium)?.wait_ready(LIMIT, None).doing("waiting for a flood")?;
    }
    Ok(())
}

/// The start of one of several fails: nothing of the others is left.
fn not_started(stage: &Stage<'_>, draw: &mut Draw, _: &mut Tally) -> Result<(), End> {
    let bad = draw.below(5);
    let mut workers = Vec::new();
    for index in 0..5 {
        let medium = draw.pick(&[MediumKind::Socket, MediumKind::Slot]);
        let medium = if medium == MediumKind::Slot { MediumSpec::Slot } else { MediumSpec::Socket };
        let spawn = match index == bad {
            true => Spawn::new("missing", stage.directory.join("no program")).medium(medium),
            false => stage.spawn(&["hang"], medium),
        };
        match spawn.start() {
            Ok(worker) if index != bad => workers.push(worker),
            Err(error) if index == bad => {
                return require(error.source.kind() == std::io::ErrorKind::NotFound, || error.to_string());
            }
            other => return Err(failed!("start {index}, {bad} is to fail: {other:?}")),
        }
    }
    Ok(())
}

/// Many at once on each medium, woken a bounded number of times for each.
pub fn at_once(stage: &Stage<'_>, count: usize, tally: &mut Tally) -> Result<(), End> {
    // A user has 128 inotify instances by default, and each marker is watched by one.
    for (medium, count) in [(MediumSpec::Socket, count), (MediumSpec::Slot, count), (marker(), count.min(64))]
    {
        let mut workers = Vec::new();
        for _ in 0..count {
            workers.push(stage.start(&[ready_word(&medium)], medium.clone())?);
        }
        let (results, wakeups) = wait_all_ready(&mut workers, LIMIT, None);
        for result in results {
            result.doing("waiting for many")?;
        }
        let most = 8 * count as u64;
        require(wakeups <= most, || format!("{wakeups} wake-ups for {count} workers, at most {most}"))?;
        tally.add("workers_at_once", count as u64);
        tally.add("wakeups_at_once", wakeups);
    }
    Ok(())
}

fn any_medium(draw: &mut Draw) -> MediumSpec {
    match draw.below(3) {
        0 => MediumSpec::Socket,
        1 => MediumSpec::Slot,
        _ => marker(),
    }
}

/// The worker says ready and is killed a random while later, so it never ended before it was ready.
pub fn killed_after_ready(stage: &Stage<'_>, draw: &mut Draw, tally: &mut Tally) -> Result<(), End> {
    let (medium, spins) = (any_medium(draw), draw.below(SPINS).to_string());
    let mut worker = stage.start(&[ready_word(&medium), "spin", &spins, "signal", "9"], medium)?;
    if draw.once_in(2) {
        // Dead for sure before anybody looks.
        let mut fds = [PollFd::new(worker.pidfd(), PollFlags::POLLIN)];
        let ended = poll(&mut fds, PollTimeout::from(LIMIT_MS)).doing("waiting for an end")?;
        require(ended == 1, || "it does not end".into())?;
    }
    match worker.wait_ready(LIMIT, None) {
        Ok(_) => tally.add("killed_and_seen_ready", 1),
        Err(error) => match *error.mishap {
            Mishap::ExitedAfterReady { exit: Exit::Signal { number: 9, .. }, .. } => {
                tally.add("killed_and_seen_after_ready", 1);
            }
            _ => return Err(failed!("{error}")),
        },
    }
    Ok(())
}

/// The runner kills the worker at a random moment of its start: before or after it is ready, and nothing else. One in
/// four has no way to get ready; one in four is killed when it is.
pub fn killed_at_any_moment(stage: &Stage<'_>, draw: &mut Draw, tally: &mut Tally) -> Result<(), End> {
    let (medium, kind) = (any_medium(draw), draw.below(4));
    let word = if kind == 0 { "mute" } else { ready_word(&medium) };
    let mut worker = stage.start(&[word], medium)?;
    if kind == 1 {
        worker.wait_ready(LIMIT, None).doing("waiting")?;
    } else {
        let (begin, moment) = (Instant::now(), Duration::from_nanos(draw.below(20 * SPINS)));
        while begin.elapsed() < moment {
            core::hint::spin_loop();
        }
    }
    let exit = worker.kill().doing("killing a worker")?;
    require(exit == Exit::Signal { number: 9, core: false }, || format!("killed, and ended with {exit}"))?;
    let error = expect_mishap(worker.wait_ready(LIMIT, None))?;
    match *error.mishap {
        Mishap::ExitedBeforeReady { .. } if kind != 1 => tally.add("killed_and_seen_before", 1),
        Mishap::ExitedAfterReady { .. } if kind != 0 => tally.add("killed_and_seen_after", 1),
        _ => return Err(failed!("{error}")),
    }
    Ok(())
}

/// Markers of real processes, watched as closely as this machine can: seen whole or not at all.
pub fn observed_markers(stage: &Stage<'_>, count: u64, tally: &mut Tally) -> Result<(), End> {
    let path = stage.directory.join("observed");
    let variable = outlast_sched::WORKER_READY_MARKER_OVERRIDE_ENV;
    for _ in 0..count {
        let mut worker = stage
            .spawn(&["marker"], marker())
            .variable(variable, &path)
            .start()
            .doing("starting a worker")?;
        let begin = Instant::now();
        loop {
            match std::fs::read(&path) {
                Ok(bytes) => {
                    let parsed = Marker::parse(&bytes);
                    let right =
                        matches!(parsed, Ok(Marker::Strict(identity)) if identity.pid == worker.pid());
                    require(right, || format!("a marker was seen as {bytes:?}: {parsed:?}"))?;
                    tally.add("marker_observations", 1);
                    break;
                }
                Err(_) if begin.elapsed() < LIMIT => tally.add("marker_looks_before", 1),
                Err(error) => return Err(failed!("no marker: {error}")),
            }
        }
        worker.wait_ready(LIMIT, None).doing("waiting for the marker")?;
    }
    Ok(())
}

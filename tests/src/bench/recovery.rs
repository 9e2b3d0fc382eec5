//! How long it takes to go on after a holder of the lock was killed: for who comes next, and for who sleeps.
//!
//! # Invariants
//! - Every kill that counts is a real SIGKILL of another process that held the lock, and for the first figures was
//!   in the middle of a change.

use std::io;
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use outlast_probe::sync::Ordering;
use outlast_shm::USER_OFFSET;
use outlast_wksp::{Block, CreateOptions, Wksp};

use super::Context;
use super::figure::{Figure, Spread, Target};
use crate::draw::Draw;
use crate::end::{Doing, End};

const LIVE: usize = 8192;
const SIZE_MAX: u64 = 16 << 10;
const DATA_BYTES: u64 = 128 << 20;

/// Word of the workspace header that is odd in the middle of a change; see docs/format/wksp.md.
const SEQUENCE_WORD: u64 = 16;

/// Kills for each figure, as multiples of the pairs asked for.
const KILLS: usize = 4;

/// What the child is called by.
pub const HOLDER_WORD: &str = "holder";

/// The child: allocates and frees in the workspace that is its standard input, for ever.
pub fn holder() -> ExitCode {
    match hold() {
        Ok(never) => match never {},
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn hold() -> Result<std::convert::Infallible, String> {
    let fd = io::stdin().as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
    let wksp = Wksp::from_fd(fd).map_err(|error| error.to_string())?;
    let mut draw = Draw::new(u64::from(std::process::id()), 0, 0);
    println!("ready");
    loop {
        let block = wksp.alloc(1 + draw.below(SIZE_MAX), 64, 2).map_err(|error| error.to_string())?;
        wksp.free(block).map_err(|error| error.to_string())?;
    }
}

/// A holder that is killed and reaped however its scope is left.
struct Holder(Child);

impl Holder {
    fn start(wksp: &Wksp) -> Result<Self, End> {
        let fd = wksp.as_fd().try_clone_to_owned().doing("the region's descriptor")?;
        let program = std::env::current_exe().doing("finding this program")?;
        let mut command = Command::new(program);
        let child = command.arg(HOLDER_WORD).stdin(Stdio::from(fd)).stdout(Stdio::piped()).spawn();
        let mut holder = Self(child.doing("starting a holder")?);
        let mut line = String::new();
        if let Some(stdout) = holder.0.stdout.take() {
            io::BufRead::read_line(&mut io::BufReader::new(stdout), &mut line)
                .doing("waiting for a holder")?;
        }
        if line.trim() == "ready" { Ok(holder) } else { Err(End::Failed("a holder ended".to_owned())) }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id() as i32)
    }

    /// Stops it with the lock in its hands: `false` if it had let go of it.
    fn stop_inside(&self, wksp: &Wksp, in_change: bool) -> Result<bool, End> {
        kill(self.pid(), Signal::SIGSTOP).doing("stopping a holder")?;
        waitpid(self.pid(), Some(WaitPidFlag::WUNTRACED)).doing("waiting for the holder to stop")?;
        let held = wksp.region().lock_state().holder.is_some();
        if held && (!in_change || is_in_change(wksp)?) {
            return Ok(true);
        }
        kill(self.pid(), Signal::SIGCONT).doing("letting a holder go on")?;
        Ok(false)
    }

    /// SIGKILL, and waits until it is gone.
    fn kill(&mut self) -> Result<(), End> {
        self.0.kill().doing("killing a holder")?;
        self.0.wait().doing("reaping a holder").map(|_| ())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Both fail if it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_in_change(wksp: &Wksp) -> Result<bool, End> {
    let at = USER_OFFSET + SEQUENCE_WORD * 8;
    let word = wksp.region().words(at..at + 8).doing("the change counter")?;
    // Relaxed: the only one who changes it is stopped.
    Ok(word.load(0, Ordering::Relaxed) & 1 == 1)
}

/// A holder that was stopped with the lock in its hands.
fn caught(wksp: &Wksp, in_change: bool, draw: &mut Draw) -> Result<Holder, End> {
    let holder = Holder::start(wksp)?;
    for _ in 0..10_000 {
        std::thread::sleep(Duration::from_micros(draw.below(300)));
        if holder.stop_inside(wksp, in_change)? {
            return Ok(holder);
        }
    }
    Err(End::Inconclusive("a holder was never stopped with the lock in its hands".to_owned()))
}

/// Kills of a holder in the middle of a change, and with sleepers.
///
/// # Errors
/// [`End`].
pub fn killed(context: &Context) -> Result<Vec<Figure>, End> {
    let wksp = Wksp::anonymous(&CreateOptions::with_size(DATA_BYTES)).doing("making a workspace")?;
    let mut draw = Draw::new(4, 0, 0);
    let live = (0..LIVE).map(|_| wksp.alloc(1 + draw.below(SIZE_MAX), 64, 1)).collect::<Result<Vec<_>, _>>();
    let live = live.doing("filling")?;
    let kills = context.pairs * KILLS;
    let (mut next, mut asleep) = (Vec::new(), Vec::new());
    for _ in 0..kills {
        context.check()?;
        let mut holder = caught(&wksp, true, &mut draw)?;
        holder.kill()?;
        next.push(next_comer(&wksp)? * 1e3);
        let holder = caught(&wksp, false, &mut draw)?;
        asleep.push(sleeper(&wksp, holder)? * 1e3);
    }
    check_live(&wksp, &live)?;
    let (next, asleep) = (Spread::of(next), Spread::of(asleep));
    let worst = |spread: Spread| Spread { median: spread.max, ..spread };
    Ok(vec![
        Figure::judged(
            format!(
                "next comer's first try to its allocation, 8192 live, {kills} kills in a change: the slowest"
            ),
            worst(next),
            "ms",
            Target::AtMost(1.0),
        ),
        Figure::plain("the same, median", next, "ms"),
        Figure::judged(
            format!("SIGKILL to a sleeper's allocation, 8192 live, {kills} kills: the slowest"),
            worst(asleep),
            "ms",
            Target::AtMost(50.0),
        ),
        Figure::plain("the same, median", asleep, "ms"),
    ])
}

/// Seconds from the call of alloc, whose first step is to try the lock, to its return.
fn next_comer(wksp: &Wksp) -> Result<f64, End> {
    let begin = Instant::now();
    let block = wksp.alloc(100, 64, 3).doing("alloc after a kill")?;
    let time = begin.elapsed();
    wksp.free(block).doing("free after a kill")?;
    Ok(time.as_secs_f64())
}

/// Seconds from the kill to the allocation of a thread that was asleep at the lock.
fn sleeper(wksp: &Wksp, mut holder: Holder) -> Result<f64, End> {
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            // The receiver outlives this thread.
            let _ = tell.send(());
            let made = wksp.alloc(100, 64, 3);
            (Instant::now(), made)
        });
        told.recv().doing("starting a sleeper")?;
        // Long enough for its longest sleep to have begun; it is not what is measured.
        std::thread::sleep(Duration::from_millis(120));
        let killed = Instant::now();
        holder.kill()?;
        let joined = waiting.join().map_err(|_| End::Failed("a sleeper panicked".to_owned()))?;
        wksp.free(joined.1.doing("a sleeper's alloc")?).doing("free after a kill")?;
        Ok(joined.0.duration_since(killed).as_secs_f64())
    })
}

/// Nothing that was there before the kills is lost.
fn check_live(wksp: &Wksp, live: &[Block]) -> Result<(), End> {
    for block in live {
        if wksp.block_at(block.gaddr()).doing("looking for what was there")? != Some(*block) {
            return Err(crate::failed!("the block at {} is lost", block.gaddr()));
        }
    }
    let report = wksp.verify().doing("verify")?;
    if report.is_sound() {
        Ok(())
    } else {
        Err(crate::failed!("verify found {} faults", report.faults.len()))
    }
}

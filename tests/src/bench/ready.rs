//! Workers: from starting one to hearing that it is ready, on each medium, and two hundred of them at once.

use std::ffi::OsString;
use std::time::Duration;

use outlast_sched::{MarkerSpec, MediumSpec, Spawn, Worker, wait_all_ready};

use super::Context;
use super::figure::{Figure, Spread, Target};
use super::measure::{milliseconds, timed};
use crate::end::{Doing, End, require};
use crate::scenario::sched::readiness::child;

/// The first word of the command line that makes the bench binary a worker; the words behind it are a role of
/// [`child`].
pub const WORD: &str = "ready-worker";

/// Nobody waits longer.
const LIMIT: Duration = Duration::from_secs(30);

/// Starts on each medium.
const STARTS: usize = 150;

/// Workers at once.
const MANY: usize = 200;

fn media() -> [(&'static str, MediumSpec); 3] {
    let marker = MediumSpec::Marker(MarkerSpec::default());
    [("socket", MediumSpec::Socket), ("slot", MediumSpec::Slot), ("marker", marker)]
}

fn start(medium: &MediumSpec) -> Result<Worker, End> {
    let program = std::env::current_exe().doing("finding this program")?;
    let role = if matches!(medium, MediumSpec::Marker(_)) { "marker" } else { "ready" };
    let words = [WORD, role].map(OsString::from);
    Spawn::new("bench", program).arguments(words).medium(medium.clone()).start().doing("starting a worker")
}

fn descriptors() -> Result<usize, End> {
    Ok(std::fs::read_dir("/proc/self/fd").doing("counting descriptors")?.count())
}

/// From the start of a worker to the runner's hearing of it, and the same of one that only exits.
///
/// # Errors
/// [`End::Failed`] if a worker does not get ready, [`End::Interrupted`].
pub fn latency(context: &Context) -> Result<Vec<Figure>, End> {
    let mut figures = Vec::new();
    let mut bare = Vec::new();
    for _ in 0..STARTS {
        context.check()?;
        let (time, exit) = timed(|| std::process::Command::new("/bin/true").status());
        exit.doing("running /bin/true")?;
        bare.push(milliseconds(time));
    }
    let yardstick = Spread::of(bare).median;
    for (name, medium) in media() {
        let mut times = Vec::new();
        for _ in 0..STARTS {
            context.check()?;
            let (time, worker) = timed(|| -> Result<Worker, End> {
                let mut worker = start(&medium)?;
                worker.wait_ready(LIMIT, None).doing("waiting for a worker")?;
                Ok(worker)
            });
            worker?;
            times.push(milliseconds(time));
        }
        let spread = Spread::of(times.clone());
        figures.push(Figure::plain(format!("start to ready, {name}, {STARTS} starts"), spread, "ms"));
        times.sort_by(f64::total_cmp);
        let high = times[times.len() * 99 / 100];
        figures.push(Figure::plain(
            format!("the same, {name}, 99 %"),
            Spread { median: high, ..spread },
            "ms",
        ));
        let ratio = spread.median / yardstick;
        figures.push(Figure::plain(
            format!("the same, {name}, median / running /bin/true"),
            Spread::of(vec![ratio]),
            "x",
        ));
    }
    Ok(figures)
}

/// Two hundred workers, waited for at once by one thread.
///
/// # Errors
/// [`End::Failed`] if one of them does not get ready or a descriptor is left, [`End::Interrupted`].
pub fn many(context: &Context) -> Result<Vec<Figure>, End> {
    let mut figures = Vec::new();
    for (name, medium) in media() {
        context.check()?;
        // A user has 128 inotify instances by default, and each marker is watched by one.
        let count = if name == "marker" { MANY.min(100) } else { MANY };
        let before = descriptors()?;
        let (time, made) = timed(|| -> Result<(usize, u64), End> {
            let mut workers = (0..count).map(|_| start(&medium)).collect::<Result<Vec<_>, End>>()?;
            let (results, wakeups) = wait_all_ready(&mut workers, LIMIT, None);
            Ok((results.into_iter().filter(Result::is_ok).count(), wakeups))
        });
        let (ready, wakeups) = made?;
        require(ready == count, || format!("{ready} of {count} workers got ready by {name}"))?;
        let after = descriptors()?;
        require(after == before, || format!("{before} descriptors before and {after} after"))?;
        let what = format!("{count} workers at once by {name}: ready");
        let target = Target::AtLeast(count as f64);
        figures.push(Figure::judged(what, Spread::of(vec![ready as f64]), "workers", target));
        let each = milliseconds(time) / count as f64;
        figures.push(Figure::plain(
            format!("the same, {name}, start to end of all, each"),
            Spread::of(vec![each]),
            "ms",
        ));
        let each = wakeups as f64 / count as f64;
        figures.push(Figure::plain(format!("the same, {name}, wake-ups each"), Spread::of(vec![each]), ""));
    }
    Ok(figures)
}

/// Plays the worker; `words` are those behind [`WORD`].
pub fn worker(words: &[OsString]) -> std::process::ExitCode {
    child::main(words)
}

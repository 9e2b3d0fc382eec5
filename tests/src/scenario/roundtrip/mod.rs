//! `wksp/roundtrip`: fill a workspace, checkpoint it, wipe it, restore it, and check every byte and that there
//! is nothing else.
//!
//! `options` is what can be asked for, `sizing` how large the workspace is, `fill` makes and wipes the
//! allocations, `check` looks at what was restored, `checker` does so in another process.
//!
//! # Invariants
//! - The main thread draws from stream 0, worker w of n draws from stream w and has every n-th allocation, so
//!   that a seed and a number of workers decide everything.

pub mod check;
pub mod checker;
pub mod fill;
pub mod options;
pub mod sizing;

use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use clap::CommandFactory;
use outlast_shm::RegionError;
use outlast_wksp::{CheckpointOptions, CreateError, CreateOptions, RestoreOptions, Style, Wksp};

use self::check::Canary;
use self::checker::{Request, Verdict};
use self::fill::{Allocation, Workers};
use self::options::Options;
use super::Scenario;
use crate::draw::Draw;
use crate::end::{Doing, End, require};
use crate::failed;
use crate::place::{FileGuard, RegionGuard};
use crate::report::Tally;
use crate::run::{Amount, Run};
use crate::worker::Worker;
use crate::worker::role::Role;

/// The registry's entry.
pub const SCENARIO: Scenario = Scenario {
    name: "wksp/roundtrip",
    about: "fill, checkpoint, wipe, restore, check every byte",
    unit: "round trips",
    needs_probes: false,
    cpus: u32::MAX,
    memory_bytes: 3 << 29,
    sample: (4, &["--page-cnt", "2048", "--worker-cnt", "2"]),
    options: Some(<Options as CommandFactory>::command),
    run,
};

/// Allocations at which a fill stops.
pub const ALLOCATIONS_MAX: usize = 8192;

/// Bytes of data where there is room for them.
pub const SIZE_BYTES: u64 = 512 << 20;

/// The state of a run.
struct Trip<'r> {
    run: &'r Run<'r>,
    options: Options,
    seed: u64,
    size_bytes: u64,
    workers: Workers,
    file: FileGuard,
}

/// The workspace of one iteration, and what has to be done about it afterwards.
struct Target {
    wksp: Wksp,
    /// Takes the name away at the end of the iteration.
    guard: Option<RegionGuard>,
    /// The process that does the checking, joined already.
    checker: Option<Worker<Verdict>>,
}

fn run(run: &Run<'_>, tally: &mut Tally) -> Result<(), End> {
    let options = Options::read(run.options)?;
    let seed = options.seed.unwrap_or(run.seed);
    tally.seed = options.seed;
    let file = FileGuard::new(options.path(run.directory, seed), options.keep);
    let size_bytes = match &options.wksp {
        Some(name) => {
            Wksp::attach(run.place.domain(), name).doing(format!("attaching to {name}"))?.data_bytes()
        }
        None => sizing::choose(run, &options, file.path(), tally)?,
    };
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let workers = Workers::new(options.worker_cnt.unwrap_or(cores).get())?;
    let trip = Trip { run, options, seed, size_bytes, workers, file };
    let quick_time = Duration::from_secs(20);
    let amount = Amount { exact: trip.options.iter_max, quick: 100, quick_time, least: 10, full: 100 };
    let begin = Instant::now();
    while run.goes_on(tally.iterations, begin, &amount)? {
        trip.iterate(tally)?;
        tally.iterations += 1;
    }
    trip.judge(tally)
}

impl Trip<'_> {
    fn iterate(&self, tally: &mut Tally) -> Result<(), End> {
        let iteration = tally.iterations + 1;
        let mut draws = self.workers.draws(self.seed, iteration);
        let mut target = self.target(iteration, tally)?;
        let wksp = &target.wksp;
        wksp.reset(draws[0].half()).doing("resetting")?;

        self.run.check_stop()?;
        let made = fill::allocate(wksp, &mut draws[0])?;
        let payload_bytes = made.iter().map(|made| made.size_bytes).sum::<u64>();
        tally.add("allocations", made.len() as u64);
        tally.add("full_fills", u64::from(made.len() == ALLOCATIONS_MAX));
        self.workers.fill(wksp, &made)?;

        self.run.check_stop()?;
        self.checkpoint(wksp, &mut draws[0], payload_bytes, tally)?;

        self.run.check_stop()?;
        self.workers.wipe(wksp, &made)?;

        self.run.check_stop()?;
        self.restore(&mut target.wksp, &mut draws[0], &made, tally)?;
        self.options.canary.apply(&target.wksp, &made)?;

        self.run.check_stop()?;
        self.check(&mut target, iteration, draws, made, tally)?;
        drop(target.guard);
        Ok(())
    }

    /// The workspace that this iteration uses.
    fn target(&self, iteration: u64, tally: &mut Tally) -> Result<Target, End> {
        let domain = self.run.place.domain();
        if let Some(name) = &self.options.wksp {
            let wksp = Wksp::attach(domain, name).doing(format!("attaching to {name}"))?;
            return Ok(Target { wksp, guard: None, checker: None });
        }
        let create = self.options.create(self.size_bytes);
        if iteration % 2 == 1 {
            let guard = self.run.place.guard("trip")?;
            let wksp = Wksp::create(domain, guard.name(), &create).map_err(refused)?;
            tally.add("named", 1);
            return Ok(Target { wksp, guard: Some(guard), checker: None });
        }
        let wksp = Wksp::anonymous(&create).map_err(refused)?;
        let fd: OwnedFd = wksp.as_fd().try_clone_to_owned().doing("duplicating a descriptor")?;
        let mut checker = Worker::start(self.run, Role::Check, &(), Some(fd))?;
        match checker.receive(self.run)? {
            Verdict::Joined => {}
            other => return Err(failed!("the checking process began with {other:?}")),
        }
        tally.add("anonymous", 1);
        Ok(Target { wksp, guard: None, checker: Some(checker) })
    }

    fn checkpoint(
        &self,
        wksp: &Wksp,
        draw: &mut Draw,
        payload_bytes: u64,
        tally: &mut Tally,
    ) -> Result<(), End> {
        let path = self.file.path();
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed!("removing the old {}: {error}", path.display()));
            }
            _ => {}
        }
        let style = draw.pick(&Style::ALL);
        let options = CheckpointOptions::default()
            .style(style)
            .threads(1 + draw.index(self.workers.count()))
            .mode(self.options.mode)
            .cancel(self.run.stop.clone());
        let summary =
            wksp.checkpoint(path, &options).doing(format!("checkpointing to {}", path.display()))?;
        require(summary.used_bytes == payload_bytes, || {
            format!("the checkpoint holds {} bytes, {payload_bytes} were allocated", summary.used_bytes)
        })?;
        tally.bytes_checkpointed += payload_bytes;
        tally.add(&format!("style_{}", format!("{style:?}").to_lowercase()), 1);
        Ok(())
    }

    fn restore(
        &self,
        wksp: &mut Wksp,
        draw: &mut Draw,
        made: &[Allocation],
        tally: &mut Tally,
    ) -> Result<(), End> {
        let mut options = RestoreOptions::default();
        options.seed = Some(draw.half());
        options.decode =
            options.decode.threads(1 + draw.index(self.workers.count())).cancel(self.run.stop.clone());
        let restored = wksp.restore(self.file.path(), &options).doing("restoring")?;
        let bytes = made.iter().map(|made| made.size_bytes).sum::<u64>();
        require(restored.partition_count == made.len() as u64 && restored.content_bytes == bytes, || {
            format!("restored {restored:?}, expected {} allocations of {bytes} bytes", made.len())
        })?;
        tally.bytes_restored += bytes;
        tally.add(if restored.fresh { "restored_fresh" } else { "restored_in_place" }, 1);
        Ok(())
    }

    fn check(
        &self,
        target: &mut Target,
        iteration: u64,
        mut draws: Vec<Draw>,
        made: Vec<Allocation>,
        tally: &mut Tally,
    ) -> Result<(), End> {
        tally.add("bytes_checked", made.iter().map(|made| made.size_bytes).sum());
        let Some(checker) = &mut target.checker else {
            return check::everything(&target.wksp, &self.workers, &mut draws, &made);
        };
        let workers = self.workers.count();
        checker.send(&Request { seed: self.seed, iteration, workers, made })?;
        match checker.receive(self.run)? {
            Verdict::Right => {}
            Verdict::Wrong(what) => return Err(failed!("the second process found: {what}")),
            Verdict::Joined => return Err(failed!("the checking process joined twice")),
        }
        let (status, _) = checker.wait(self.run)?;
        tally.add("checked_by_second_process", 1);
        require(status.success(), || format!("the checking process ended with {status}"))
    }

    /// What can only be said at the end.
    fn judge(&self, tally: &Tally) -> Result<(), End> {
        let full = tally.count("full_fills");
        if self.options.wksp.is_none() && SIZE_BYTES <= self.size_bytes && full * 10 < tally.iterations * 9 {
            let of = tally.iterations;
            return Err(failed!(
                "only {full} of {of} fills reached {ALLOCATIONS_MAX} allocations in 512 MiB"
            ));
        }
        tally.require_some(&["allocations", "bytes_checked"])?;
        if self.options.wksp.is_none() && 1 < tally.iterations {
            tally.require_some(&["named", "anonymous", "checked_by_second_process"])?;
        }
        Ok(())
    }
}

/// A workspace that was not made: asked for in a way that is not supported, or a failure.
fn refused(error: CreateError) -> End {
    match error {
        CreateError::Region(RegionError::Unsupported { .. }) => {
            End::Usage(format!("making the workspace: {error}"))
        }
        error => failed!("making the workspace: {error}"),
    }
}

impl Options {
    fn create(&self, size_bytes: u64) -> CreateOptions {
        let mut create = CreateOptions::with_size(size_bytes);
        // As many slots as a fill can need, so that the table need not grow where there is no room left.
        create.slots = Some((size_bytes / (16 << 10)).max(2 * ALLOCATIONS_MAX as u64 + 64));
        create.mode = self.mode;
        create.page_size = self.page_sz;
        create.near_cpu = self.near_cpu();
        create
    }
}

impl Canary {
    /// Breaks what was restored, to see that the check notices.
    fn apply(self, wksp: &Wksp, made: &[Allocation]) -> Result<(), End> {
        let Some(victim) = made.get(made.len() / 2) else { return Ok(()) };
        let at = victim.gaddr + victim.size_bytes / 2;
        match self {
            Self::None => {}
            Self::Flip => {
                let byte = [fill::byte_of(victim.tag) ^ 0x10];
                wksp.write(at, &byte).doing("flipping a byte")?;
            }
            Self::Extra => {
                // There is room for one if one was given back.
                wksp.free_at(gaddr(made[0].gaddr)?).doing("making room")?;
                wksp.alloc(made[0].size_bytes, 64, 1).doing("allocating once more")?;
                wksp.alloc(1, 64, u64::MAX).doing("allocating something else")?;
            }
            Self::Lose => wksp.free_at(gaddr(at)?).doing("losing an allocation")?,
        }
        Ok(())
    }
}

fn gaddr(gaddr: u64) -> Result<outlast_wksp::Gaddr, End> {
    outlast_wksp::Gaddr::new(gaddr).ok_or_else(|| failed!("gaddr 0"))
}

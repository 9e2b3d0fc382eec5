//! `wksp/kill_at_probe`: a child dies at every probe of the workspace and its lock, at several hits of each.
//!
//! # Invariants
//! - A kill *at* a probe has happened between two instructions that are known by name: the same seed dies in the
//!   same place.
//! - After each: what had returned is there, `verify` is sound, the next calls work.

use std::time::{Duration, Instant};

use outlast_wksp::{AccessError, CheckpointOptions, CreateOptions, QueryError, RestoreOptions, Wksp};

use super::child::{Acknowledgement, KillAt, Parameters};
use super::lane::{Dead, GATE_TAG, Gate, Lane, Yard};
use super::script::{Block, Plan, Restore, byte_of};
use crate::end::{Doing, End, require};
use crate::failed;
use crate::place::FileGuard;
use crate::probes;
use crate::report::Tally;
use crate::run::{Amount, Run};
use crate::scenario::Scenario;
use crate::worker::Worker;
use crate::worker::role::Role;

/// The registry's entry.
pub const SCENARIO: Scenario = Scenario {
    name: "wksp/kill_at_probe",
    about: "SIGKILL at every probe of workspace and lock; nothing is lost",
    unit: "kills at a probe",
    needs_probes: true,
    cpus: 2,
    memory_bytes: 64 << 20,
    sample: (3, &[]),
    options: None,
    run,
};

/// Bytes of the workspace, so small that its slot table has to grow.
const SIZE_BYTES: u64 = 256 << 10;

fn run(run: &Run<'_>, tally: &mut Tally) -> Result<(), End> {
    let rows = probes::rows();
    let wanted: Vec<&str> = rows
        .iter()
        .filter(|row| {
            row.kind != "fault"
                && ["wksp.", "shm.lock.", "shm.count."].iter().any(|part| row.name.starts_with(part))
        })
        .map(|row| row.name)
        .collect();
    // One round is every probe once; the hit at which it kills grows from round to round.
    let amount = Amount { exact: None, quick: 6, quick_time: Duration::from_secs(20), least: 1, full: 20 };
    let begin = Instant::now();
    let mut rounds = 0;
    let mut missed: Vec<&str> = wanted.clone();
    while run.goes_on(rounds, begin, &amount)? {
        for probe in &wanted {
            run.check_stop()?;
            let kill_at = KillAt { probe: (*probe).to_owned(), nth: 1 + rounds * rounds };
            let landed = match probe.strip_prefix("wksp.restore.") {
                Some(_) => restoring(run, &kill_at, rounds, tally)?,
                None => calling(run, &kill_at, rounds, tally).map_err(|end| match end {
                    End::Failed(text) => failed!("hit {} of {probe}: {text}", kill_at.nth),
                    end => end,
                })?,
            };
            if landed {
                tally.iterations += 1;
                missed.retain(|missed| missed != probe);
            }
        }
        rounds += 1;
    }
    tally.add("probes", wanted.len() as u64);
    tally.add("probes_killed_at", (wanted.len() - missed.len()) as u64);
    tally.require_some(&["probes"])?;
    if missed.is_empty() {
        Ok(())
    } else {
        Err(End::Inconclusive(format!("never killed at {}", missed.join(", "))))
    }
}

/// A child that allocates, frees, resets and rebuilds, dies at the probe. Whether it got there.
fn calling(run: &Run<'_>, kill_at: &KillAt, round: u64, tally: &mut Tally) -> Result<bool, End> {
    let guard = run.place.guard("probe")?;
    let mut create = CreateOptions::with_size(SIZE_BYTES);
    create.slots = Some(64);
    let wksp = Wksp::create(guard.domain(), guard.name(), &create).doing("making the workspace")?;
    let gate = Gate::new(&wksp)?;
    let yard = Yard { wksp, gate, domain: guard.domain().path().to_owned(), name: *guard.name() };
    // Recovery happens only after somebody has died in the lock, waiting only where somebody else is.
    let needs_dead =
        ["recover", "rebuild", "judged_dead", "taken_over"].iter().any(|word| kill_at.probe.contains(word));
    let needs_other = kill_at.probe == "shm.lock.wait";
    let mut dead = Vec::new();
    if needs_dead {
        let plan = Plan { calls_max: 1000, ..Plan::churn(run.seed, 1) };
        let at = KillAt { probe: "wksp.alloc.before_commit".into(), nth: 20 + round };
        let (first, killed) = Lane::start(run, &yard, 0, plan, Some(at))?.wait(run)?;
        require(killed, || "the first child did not get to its probe".into())?;
        dead.push(first);
    }
    let other = match needs_other {
        true => Some(Lane::start(run, &yard, 2, Plan { rebuilds: 300, ..Plan::churn(run.seed, 3) }, None)?),
        false => None,
    };
    // A reset ends the blocks of the other children too.
    let resets = if needs_dead || needs_other { 0 } else { 5 };
    let plan = Plan { live_max: 220, rebuilds: 5, resets, calls_max: 3000, ..Plan::churn(run.seed, 2) };
    let (second, killed) = Lane::start(run, &yard, 1, plan, Some(kill_at.clone()))?.wait(run)?;
    dead.push(second);
    if let Some(other) = other {
        dead.push(other.kill()?);
    }
    check(&yard.wksp, &dead, tally)?;
    Ok(killed)
}

fn check(wksp: &Wksp, dead: &[Dead], tally: &mut Tally) -> Result<(), End> {
    let report = wksp.verify().doing("verifying")?;
    require(report.is_sound(), || format!("verify found {:?}", report.faults))?;
    let found = Block::list(wksp)?;
    for dead in dead {
        let of_dead: Vec<Block> = found.iter().copied().filter(|found| dead.script.owns(found.tag)).collect();
        let effect = dead.script.compare(&of_dead).map_err(End::Failed)?;
        tally.add(effect, 1);
        for block in dead.script.kept() {
            let bytes = wksp.bytes(block.gaddr, block.size_bytes).doing("looking at a block")?;
            let right = bytes.is_all(0, block.size_bytes, byte_of(block.tag)).doing("reading a block")?;
            require(right, || format!("the payload of {block:?} is lost"))?;
            tally.add("blocks_checked", 1);
        }
    }
    let strange =
        |block: &&Block| block.tag != GATE_TAG && !dead.iter().any(|dead| dead.script.owns(block.tag));
    require(!found.iter().any(|block| strange(&block)), || "there is a block that nobody allocated".into())?;
    // And it goes on.
    let block = wksp.alloc(1, 64, 1).doing("allocating afterwards")?;
    wksp.free(block).doing("freeing afterwards")
}

/// A child that restores a checkpoint dies at the probe: the old contents or the new ones are there, or the
/// workspace says that it is in between and a restore mends it.
fn restoring(run: &Run<'_>, kill_at: &KillAt, round: u64, tally: &mut Tally) -> Result<bool, End> {
    let domain = run.place.domain();
    let guard = run.place.guard("restore")?;
    let path = run.directory.join(format!("outlast-stress-{}-probe.checkpt", std::process::id()));
    let file = FileGuard::new(path, false);
    // There may be none.
    let _ = std::fs::remove_file(file.path());
    let wksp = Wksp::create(domain, guard.name(), &CreateOptions::with_size(SIZE_BYTES))
        .doing("making the workspace")?;
    for tag in 1..=20 {
        wksp.alloc(100 * tag, 64, tag).doing("allocating")?;
    }
    wksp.checkpoint(file.path(), &CheckpointOptions::default()).doing("checkpointing")?;
    let new = Block::list(&wksp)?;
    wksp.tag_free(&[2, 3, 5, 7, 11, 13]).doing("freeing")?;
    wksp.alloc(5000, 4096, 1000).doing("allocating")?;
    let old = Block::list(&wksp)?;
    // A fresh restore needs the name for itself.
    drop(wksp);

    // Both ways copy; each has its own other probes, which a restore passes once.
    let in_place = match kill_at.probe.strip_prefix("wksp.restore.") {
        Some("copied") => round.is_multiple_of(2),
        Some("before_exchange" | "exchanged") => false,
        _ => true,
    };
    let restore = Restore { path: file.path().to_owned(), in_place };
    let plan = Plan { restore: Some(restore), ..Plan::churn(run.seed, 1) };
    let parameters = Parameters {
        domain: domain.path().to_owned(),
        name: guard.name().to_string(),
        gate: 0,
        place: 0,
        plan,
        kill_at: Some(KillAt { nth: 1, ..kill_at.clone() }),
    };
    let mut worker: Worker<Acknowledgement> = Worker::start(run, Role::Script, &parameters, None)?;
    let (status, _) = worker.wait(run)?;
    let killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(nix::libc::SIGKILL);
    if !killed && !status.success() {
        return Err(worker.died("it was to restore"));
    }
    let context = |end: End| failed!("killed at {} (in place: {in_place}): {end}", kill_at.probe);
    let mut wksp = Wksp::attach(domain, guard.name()).doing("attaching afterwards").map_err(context)?;
    let found = match wksp.partitions() {
        Err(QueryError::Access(AccessError::Restoring { .. })) => {
            tally.add("restores_interrupted_and_mended", 1);
            wksp.restore(file.path(), &RestoreOptions::default())
                .doing("restoring again")
                .map_err(context)?;
            new.clone()
        }
        Err(error) => return Err(context(failed!("listing: {error}"))),
        Ok(_) => Block::list(&wksp)?,
    };
    require(found == old || found == new, || {
        format!("{found:?} is neither the old contents nor the new ones")
    })
    .map_err(context)?;
    require(Block::list(&wksp)? == found, || "two listings differ".into()).map_err(context)?;
    tally.add(if found == new { "restores_new" } else { "restores_old" }, 1);
    let report = wksp.verify().doing("verifying").map_err(context)?;
    require(report.is_sound(), || format!("verify found {:?}", report.faults)).map_err(context)?;
    let listed = domain.list().doing("listing the domain")?;
    let left: Vec<_> =
        listed.iter().filter(|entry| entry.info.is_err()).map(|entry| entry.file_name.clone()).collect();
    if !left.is_empty() {
        tally.add("odd_files_left_by_a_kill", left.len() as u64);
    }
    Ok(killed)
}

//! `wksp/kill`: children in tight loops on one workspace are killed at random moments, one after the other;
//! nothing that a call had returned is lost, and the others go on.
//!
//! `script` decides what a child calls next, so that the scenario knows what was in flight; `child` is the
//! process, `lane` one child and what is known of it, `at_probe` kills at every probe point.
//!
//! # Invariants
//! - After a kill the workspace holds what the child was told, give or take the one call that had not returned.
//! - In a *quiet* round the other children pause, so that the lock word is seen as the kill left it; in a *busy*
//!   round they go on, and whether the lock was held is told by one of them having recovered it.

pub mod at_probe;
pub mod child;
pub mod lane;
pub mod script;

use std::time::{Duration, Instant};

use outlast_wksp::{CreateOptions, Gaddr, Wksp};

use self::lane::{Gate, Lane, Yard};
use self::script::{Block, byte_of};
use super::Scenario;
use crate::draw::Draw;
use crate::end::{Doing, End, require};
use crate::failed;
use crate::report::Tally;
use crate::run::{Amount, Run};

/// The registry's entry.
pub const SCENARIO: Scenario = Scenario {
    name: "wksp/kill",
    about: "SIGKILL of allocating and freeing children while they hold the lock; nothing is lost",
    unit: "kills in a lock",
    needs_probes: false,
    cpus: 2,
    memory_bytes: 64 << 20,
    sample: (25, &[]),
    options: None,
    run,
};

/// Children at a time.
const LANES: usize = 3;
/// Bytes of the workspace: room for what the children hold at a time, and for what the dead leave.
const SIZE_BYTES: u64 = 2 << 20;
/// Blocks of dead children that are kept and looked at after every kill.
const ORPHANS_MAX: usize = 64;
/// A kill comes at a random moment of so many microseconds.
const DELAY_US: u64 = 400;

struct Rounds<'r> {
    run: &'r Run<'r>,
    yard: Yard,
    lanes: Vec<Lane>,
    orphans: Vec<Block>,
    draw: Draw,
    child_count: u64,
}

fn run(run: &Run<'_>, tally: &mut Tally) -> Result<(), End> {
    let guard = run.place.guard("kill")?;
    let create = CreateOptions::with_size(SIZE_BYTES);
    let wksp = Wksp::create(guard.domain(), guard.name(), &create).doing("making the workspace")?;
    let gate = Gate::new(&wksp)?;
    let yard = Yard { wksp, gate, domain: guard.domain().path().to_owned(), name: *guard.name() };
    let draw = Draw::new(run.seed, 0, 0);
    let mut rounds = Rounds { run, yard, lanes: Vec::new(), orphans: Vec::new(), draw, child_count: 0 };
    for index in 0..LANES {
        let lane = rounds.new_lane(index)?;
        rounds.lanes.push(lane);
    }
    let amount =
        Amount { exact: None, quick: 100, quick_time: Duration::from_secs(60), least: 100, full: 1000 };
    let begin = Instant::now();
    while run.goes_on(tally.iterations, begin, &amount)? {
        rounds.round(tally)?;
    }
    rounds.finish(tally)?;
    tally.add("kills_landed", tally.iterations);
    tally.require_some(&["kills_landed", "landed_in_alloc", "landed_in_free", "landed_seen_in_lock_word"])?;
    tally.require_some(&["landed_and_recovered_by_survivor", "calls_of_survivors"])
}

/// Waits; asleep where children need the cores, awake where the moment is to be random to the microsecond.
fn wait(delay: Duration, awake: bool) {
    let begin = Instant::now();
    if !awake {
        std::thread::sleep(delay);
    }
    while begin.elapsed() < delay {
        std::hint::spin_loop();
    }
}

impl Rounds<'_> {
    fn new_lane(&mut self, index: usize) -> Result<Lane, End> {
        self.child_count += 1;
        let seed = self.run.seed;
        Lane::start(self.run, &self.yard, index, script::Plan::churn(seed, self.child_count), None)
    }

    /// One kill, and everything that is looked at after it.
    fn round(&mut self, tally: &mut Tally) -> Result<(), End> {
        let index = self.draw.index(self.lanes.len());
        let quiet = self.draw.once_in(2);
        let delay = Duration::from_micros(self.draw.below(DELAY_US));
        if quiet {
            self.yard.gate.close_for_all_but(self.run, &self.yard.wksp, index, &mut self.lanes)?;
        }
        // The victim cannot recover itself, but may have recovered others.
        let victim = self.lanes.remove(index);
        let recovered_before = self.recoveries()?;
        wait(delay, quiet);
        let dead = victim.kill()?;
        tally.add("kills", 1);
        let in_lock_word = quiet && self.lock_names(dead.pid);
        // The first call after the kill; it, or a survivor's, finishes what the dead one left.
        let report = self.yard.wksp.verify().doing("verifying after a kill")?;
        require(report.is_sound(), || format!("verify after a kill found {:?}", report.faults))?;
        let recovered = recovered_before < self.recoveries()?;
        if quiet {
            require(recovered == in_lock_word, || {
                format!("lock held by the dead child: {in_lock_word}; recovered by the next one: {recovered}")
            })?;
        }
        if recovered {
            let seen = if quiet { "landed_seen_in_lock_word" } else { "landed_and_recovered_by_survivor" };
            tally.add(seen, 1);
            let call = dead.script.next_call().name();
            tally.add(&format!("landed_in_{call}"), 1);
            // Other calls hold the lock as well, but these change the truth.
            tally.iterations += u64::from(["alloc", "free", "tag_free"].contains(&call));
        }
        self.check(&dead, tally)?;
        self.bury(dead, tally)?;
        self.yard.gate.open(&self.yard.wksp)?;
        for lane in &mut self.lanes {
            lane.catch_up(tally)?;
        }
        let lane = self.new_lane(index)?;
        self.lanes.insert(index, lane);
        Ok(())
    }

    fn lock_names(&self, pid: u32) -> bool {
        let holder = self.yard.wksp.region().lock_state().holder;
        holder.and_then(|holder| holder.joiner).is_some_and(|joiner| joiner.pid == pid)
    }

    /// How often the living have recovered the lock.
    fn recoveries(&self) -> Result<u64, End> {
        let wksp = &self.yard.wksp;
        let own = wksp.region().slot().doing("asking for the own slot")?;
        let slots = self.lanes.iter().map(|lane| lane.slot).chain([own.index() as u32]);
        slots.map(|slot| self.yard.recoveries(slot)).sum()
    }

    /// Compares what the workspace holds of a dead child with what it was told.
    fn check(&mut self, dead: &lane::Dead, tally: &mut Tally) -> Result<(), End> {
        let wksp = &self.yard.wksp;
        let found = Block::list(wksp)?;
        let of_dead: Vec<Block> = found.iter().copied().filter(|found| dead.script.owns(found.tag)).collect();
        let unreturned = dead.script.compare(&of_dead).map_err(|what| failed!("after a kill: {what}"))?;
        tally.add(unreturned, 1);
        for orphan in &self.orphans {
            require(found.contains(orphan), || {
                format!("the block {orphan:?} of an earlier dead child is lost")
            })?;
        }
        for block in dead.script.kept().iter().chain(&self.orphans) {
            let bytes = wksp.bytes(block.gaddr, block.size_bytes).doing("looking at a block")?;
            let right = bytes.is_all(0, block.size_bytes, byte_of(block.tag)).doing("reading a block")?;
            require(right, || format!("the payload of {block:?} is lost"))?;
        }
        tally.add("blocks_checked", (of_dead.len() + self.orphans.len()) as u64);
        Ok(())
    }

    /// Frees most of what a dead child has left, keeps some of it.
    fn bury(&mut self, dead: lane::Dead, tally: &mut Tally) -> Result<(), End> {
        let wksp = &self.yard.wksp;
        let mut left: Vec<Block> =
            Block::list(wksp)?.into_iter().filter(|found| dead.script.owns(found.tag)).collect();
        // Only what was acknowledged has its payload.
        let kept = dead.script.kept();
        left.sort_unstable_by_key(|block| !kept.contains(block));
        let keep = left.len().min(kept.len()).min(2);
        let mut gone = left.split_off(keep);
        self.orphans.extend(left);
        gone.extend(self.orphans.drain(..self.orphans.len().saturating_sub(ORPHANS_MAX)));
        for block in gone {
            let gaddr = Gaddr::new(block.gaddr).ok_or_else(|| failed!("gaddr 0"))?;
            wksp.free_at(gaddr).doing("freeing a block of a dead child")?;
            tally.add("blocks_of_the_dead_freed", 1);
        }
        Ok(())
    }

    /// Ends the children that are left, none of which may have failed.
    fn finish(&mut self, tally: &mut Tally) -> Result<(), End> {
        for mut lane in std::mem::take(&mut self.lanes) {
            lane.catch_up(tally)?;
            let dead = lane.kill()?;
            self.check(&dead, tally)?;
            self.bury(dead, tally)?;
        }
        let report = self.yard.wksp.verify().doing("verifying at the end")?;
        require(report.is_sound(), || format!("verify at the end found {:?}", report.faults))?;
        let mut left = Block::list(&self.yard.wksp)?;
        left.retain(|block| block.tag != lane::GATE_TAG);
        let mut orphans = self.orphans.clone();
        orphans.sort_unstable_by_key(|block| block.gaddr);
        require(left == orphans, || format!("{left:?} is left at the end, expected {orphans:?}"))
    }
}

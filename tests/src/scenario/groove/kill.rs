//! `groove/kill`: the workers of `groove/data` as processes, killed one after the other at random moments; the
//! others go on, and a rebuild finds what was committed and nothing else.
//!
//! # Invariants
//! - What a dead worker was at is told by the phase of the slot that it had locked: an object is there that must
//!   be, and none that must not.

use std::time::{Duration, Instant};

use outlast_groove::{Groove, RefError};
use outlast_shm::Domain;

use super::data::board::{Board, Phase, Slot};
use super::data::full_slots;
use super::data::worker::{Hand, Message, Parameters};
use crate::draw::Draw;
use crate::end::{Doing, End, require};
use crate::failed;
use crate::place::{GrooveGuard, RegionGuard};
use crate::report::Tally;
use crate::run::{Amount, Run};
use crate::scenario::Scenario;
use crate::worker::role::Role;
use crate::worker::{WATCHDOG, Worker};

/// The registry's entry.
pub const SCENARIO: Scenario = Scenario {
    name: "groove/kill",
    about: "SIGKILL of processes that allocate and free; survivors go on; a rebuild loses nothing",
    unit: "kills",
    needs_probes: false,
    cpus: 2,
    memory_bytes: 128 << 20,
    sample: (6, &[]),
    options: None,
    run,
};

/// Workers at a time.
const LANES: usize = 3;
/// Volumes, and the bytes of each where there is room.
const VOLUMES: u64 = 2;
const VOLUME_BYTES: u64 = 32 << 20;
/// Kills from one rebuild to the next.
const KILLS: u64 = 25;
/// A kill comes at a random moment of so many microseconds after the victim has begun.
const DELAY_US: u64 = 2000;
/// The largest objects, in turn: calls are most of the time of a worker; volumes are full most of the time.
const SIZES_MAX: [u64; 2] = [64, 10 << 20];

struct Lane {
    worker: Worker<Message>,
    number: u64,
}

struct Round<'r> {
    run: &'r Run<'r>,
    domain: &'r Domain,
    guard: GrooveGuard,
    board_guard: RegionGuard,
    board: Board,
    size_max: u64,
    draw: Draw,
    lanes: Vec<Lane>,
    started: u64,
}

fn run(run: &Run<'_>, tally: &mut Tally) -> Result<(), End> {
    kills(run, tally, false)
}

/// The scenario; with `canary` a committed object is lost before each rebuild.
///
/// # Errors
/// As every scenario.
pub fn kills(run: &Run<'_>, tally: &mut Tally, canary: bool) -> Result<(), End> {
    let size = super::volume_bytes(run, VOLUMES, VOLUME_BYTES, tally)?;
    let amount =
        Amount { exact: None, quick: 100, quick_time: Duration::from_secs(40), least: 100, full: 1000 };
    let begin = Instant::now();
    let mut rounds = 0;
    while run.goes_on(tally.iterations, begin, &amount)? {
        round(run, (rounds, canary), size, tally, |kills| run.goes_on(kills, begin, &amount))
            .map_err(|end| failed!("round {rounds}: {end}"))?;
        rounds += 1;
    }
    tally.require_some(&["survivors_went_on", "objects_after_rebuild", "bytes_checked", "killed_with_a_slot"])
}

/// Makes a groove, kills, rebuilds, checks, and takes everything away.
fn round(
    run: &Run<'_>,
    (number, canary): (u64, bool),
    volume_bytes: u64,
    tally: &mut Tally,
    goes_on: impl Fn(u64) -> Result<bool, End>,
) -> Result<(), End> {
    let mut draw = Draw::new(run.seed, number, 0);
    let guard = run.place.groove_guard("kill")?;
    let groove = super::create(&guard, volume_bytes)?;
    for _ in 0..VOLUMES {
        groove.add_volume(b"").doing("adding a volume")?;
    }
    let largest = super::largest_objects(&groove, &mut draw)?;
    let board_guard = run.place.guard("board")?;
    let domain = run.place.domain();
    let board = Board::create(domain, board_guard.name(), 0).doing("making the board")?;
    let size_max = SIZES_MAX[number as usize % 2];
    let (lanes, started) = (Vec::new(), 0);
    let mut round = Round { run, domain, guard, board_guard, board, size_max, draw, lanes, started };
    round.board.open_gate();
    for lane in 0..LANES {
        let made = round.start(number, lane)?;
        round.lanes.push(made);
    }
    for _ in 0..KILLS {
        if !goes_on(tally.iterations)? {
            break;
        }
        round.kill(&groove, number, tally)?;
        tally.iterations += 1;
    }
    round.end_workers(tally)?;
    drop(groove);
    round.rebuild(largest, canary, tally)
}

impl Round<'_> {
    fn start(&mut self, round: u64, lane: usize) -> Result<Lane, End> {
        self.started += 1;
        self.board.set_steps(lane, 0);
        let parameters = Parameters {
            domain: self.domain.path().to_owned(),
            groove: self.guard.name().to_string(),
            board: self.board_guard.name().to_string(),
            lane,
            worker: self.started,
            seed: (self.run.seed, round),
            steps: u64::MAX,
            size_max: self.size_max,
        };
        let worker = Worker::start(self.run, Role::Objects, &parameters, None)?;
        Ok(Lane { worker, number: self.started })
    }

    /// One kill, and what is to be found after it.
    fn kill(&mut self, groove: &Groove, round: u64, tally: &mut Tally) -> Result<(), End> {
        let victim = self.draw.index(LANES);
        self.wait_for_steps(victim, 0)?;
        let (begin, delay) = (Instant::now(), Duration::from_micros(self.draw.below(DELAY_US)));
        while begin.elapsed() < delay {
            std::thread::yield_now();
        }
        let number = self.lanes[victim].number;
        let messages = self.lanes[victim].worker.kill()?;
        fail_if_wrong(messages)?;
        let before: Vec<u64> = (0..LANES).map(|lane| self.board.steps(lane)).collect();
        let mut hand = Hand::of_scenario(groove, &self.board)?;
        for slot in self.board.locked_by(number) {
            tally.add("killed_with_a_slot", 1);
            resolve(&mut hand, slot, tally)?;
        }
        drop(hand);
        for survivor in (0..LANES).filter(|lane| *lane != victim) {
            self.wait_for_steps(survivor, before[survivor])?;
            tally.add("survivors_went_on", 1);
        }
        self.lanes[victim] = self.start(round, victim)?;
        Ok(())
    }

    /// Waits until a worker has made more than `before` steps.
    fn wait_for_steps(&mut self, lane: usize, before: u64) -> Result<(), End> {
        let begin = Instant::now();
        while self.board.steps(lane) <= before {
            self.run.check_stop()?;
            let messages: Vec<Message> = self.lanes[lane].worker.arrived()?.into_iter().collect();
            fail_if_wrong(messages)?;
            if WATCHDOG < begin.elapsed() {
                return Err(failed!("a survivor has made no step for {} s", WATCHDOG.as_secs()));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    fn end_workers(&mut self, tally: &mut Tally) -> Result<(), End> {
        self.board.stop();
        for mut lane in self.lanes.drain(..) {
            let (status, messages) = lane.worker.wait(self.run)?;
            for message in &messages {
                if let Message::Done(account) = message {
                    account.count(tally);
                }
            }
            fail_if_wrong(messages)?;
            require(status.success(), || format!("a worker ended with {status}"))?;
        }
        Ok(())
    }

    /// Rebuilds, and holds the groove against the slots.
    fn rebuild(&mut self, largest: u64, canary: bool, tally: &mut Tally) -> Result<(), End> {
        let (groove, rebuilt) = Groove::rebuild(self.domain, self.guard.name()).doing("rebuilding")?;
        let slots = full_slots(&self.board)?;
        if let Some(victim) = slots.first().filter(|_| canary) {
            Hand::of_scenario(&groove, &self.board)?.free(victim.entry().reference)?;
        }
        super::verify(&groove, slots.len() as u64, "after a rebuild")?;
        require(rebuilt.objects == slots.len() as u64, || format!("{rebuilt:?} for {} slots", slots.len()))?;
        tally.add("objects_after_rebuild", rebuilt.objects);
        tally.add("allocations_undone", rebuilt.undone_allocations);
        tally.add("frees_finished", rebuilt.finished_frees);
        let mut hand = Hand::of_scenario(&groove, &self.board)?;
        for slot in slots {
            hand.check(&slot.entry())?;
            hand.free(slot.entry().reference)?;
        }
        tally.add("bytes_checked", hand.account().bytes_checked);
        drop(hand);
        super::verify(&groove, 0, "after everything was freed")?;
        let found = super::largest_objects(&groove, &mut self.draw)?;
        require(found == largest, || {
            format!("{found} of the largest objects fit, {largest} when it was new")
        })?;
        super::remove_all_volumes(&groove).map(|_| ())
    }
}

fn fail_if_wrong(messages: Vec<Message>) -> Result<(), End> {
    for message in messages {
        if let Message::Wrong(what) = message {
            return Err(failed!("{what}"));
        }
    }
    Ok(())
}

/// Finds out what a dead worker was at, beside the traffic of the others, and makes the slot good.
fn resolve(hand: &mut Hand<'_>, slot: Slot<'_>, tally: &mut Tally) -> Result<(), End> {
    let entry = slot.entry();
    let phase = slot.phase().map_err(|word| failed!("a dead worker's slot is {word}"))?;
    tally.add(&format!("killed_while_{phase:?}").to_lowercase(), 1);
    match phase {
        Phase::Empty => {}
        Phase::Full => hand.check(&entry)?,
        Phase::Allocating => {
            let found = hand.joiner().objects(Some(entry.tag)).doing("looking for a tag")?;
            let align = if entry.align == 0 { 16 } else { entry.align };
            let is_whole = found.iter().all(|one| (one.size_bytes, one.align) == (entry.size_bytes, align));
            require(is_whole && found.len() <= 1, || format!("{found:?} is there of {entry:?}"))?;
            for object in found {
                tally.add("unreferenced_found_by_tag", 1);
                hand.free(object.reference)?;
            }
        }
        Phase::Filling => hand.free(entry.reference)?,
        Phase::Freeing => match hand.joiner().info(entry.reference) {
            Ok(found) => {
                require(found.tag == entry.tag, || format!("{found:?} is there of {entry:?}"))?;
                hand.free(entry.reference)?;
            }
            Err(RefError::AlreadyFreed { .. } | RefError::Stale { .. }) => {}
            Err(error) => return Err(failed!("{entry:?}, which was being freed: {error}")),
        },
    }
    slot.set_phase(if phase == Phase::Full { Phase::Full } else { Phase::Empty });
    slot.unlock();
    Ok(())
}

//! `sched/watch`: workers allocate and free, also each other's blocks, and are killed, while their counters are
//! read from outside.
//!
//! # Invariants
//! - Whenever the workers are at rest, what is read equals what they say of themselves, to the byte.
//! - While they work, no counter goes back and none is read half.
//! - A worker that was killed at rest keeps its last values, as dead ones.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use outlast_wksp::{
    Block, Counter, CreateOptions, Domain, FreeError, Gaddr, JoinerCounters, JoinerKey, JoinerState,
    RegionName, Snapshot, Value, Watch, Wksp,
};
use serde::{Deserialize, Serialize};

use crate::draw::Draw;
use crate::end::{Doing, End, require};
use crate::failed;
use crate::report::Tally;
use crate::run::{Amount, Run};
use crate::scenario::Scenario;
use crate::worker::Worker;
use crate::worker::channel::Channel;
use crate::worker::role::Role;

/// The registry's entry.
pub const SCENARIO: Scenario = Scenario {
    name: "sched/watch",
    about: "workers churn and are killed while their counters are read; at rest these equal their own account",
    unit: "snapshots",
    needs_probes: false,
    cpus: 2,
    memory_bytes: 64 << 20,
    sample: (300, &[]),
    options: None,
    run,
};

/// Bytes of the workspace.
const SIZE_BYTES: u64 = 8 << 20;
/// Workers at a time.
const WORKERS: usize = 3;
/// Calls of one worker in one round.
const CALLS: u64 = 2000;
/// Blocks that a worker keeps at most, their largest size, and how many it leaves to others in a round.
const LIVE: usize = 64;
const SIZE_MAX: u64 = 4000;
const GIVEN: usize = 4;
/// Rounds from one kill at rest to the next.
const KILL_EVERY: u64 = 5;
/// Kills of workers at work, after the last round.
const KILLS_AT_WORK: u64 = 3;
/// Counters that a worker keeps account of itself: all but the recoveries.
const KNOWN: usize = Counter::RecoveryCount as usize;

type Account = [u64; KNOWN];

/// What a worker is told first.
#[derive(Debug, Serialize, Deserialize)]
struct Parameters {
    domain: PathBuf,
    name: String,
    seed: u64,
    /// Its tag; no two workers have the same.
    tag: u64,
}

/// What a worker is to do.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    /// Blocks of others to free.
    foreign: Vec<u64>,
    calls: u64,
}

/// What it has done since it began.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    account: Account,
    /// Blocks that it leaves to others.
    given: Vec<u64>,
}

/// The role.
///
/// # Errors
/// Why it could not go on.
pub fn main(mut channel: Channel) -> Result<(), String> {
    let parameters: Parameters = channel.receive().map_err(text)?.ok_or("no parameters")?;
    let domain = Domain::open(&parameters.domain).map_err(text)?;
    let name: RegionName = parameters.name.parse().map_err(text)?;
    let wksp = Wksp::attach(&domain, &name).map_err(text)?;
    let (draw, tag) = (Draw::new(parameters.seed, 0, parameters.tag), parameters.tag);
    let mut churn = Churn { wksp, draw, tag, live: vec![], account: [0; KNOWN] };
    channel.send(&Answer { account: churn.account, given: vec![] }).map_err(text)?;
    while let Some(Order { foreign, calls }) = channel.receive().map_err(text)? {
        foreign.into_iter().try_for_each(|gaddr| churn.free_foreign(gaddr))?;
        (0..calls).try_for_each(|_| churn.step())?;
        let given = churn.live.split_off(churn.live.len().saturating_sub(GIVEN));
        let given = given.iter().map(|block| block.gaddr().get()).collect();
        channel.send(&Answer { account: churn.account, given }).map_err(text)?;
    }
    Ok(())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

struct Churn {
    wksp: Wksp,
    draw: Draw,
    tag: u64,
    live: Vec<Block>,
    account: Account,
}

impl Churn {
    fn count(&mut self, counter: Counter, delta: u64) {
        self.account[counter as usize] += delta;
    }

    fn step(&mut self) -> Result<(), String> {
        if self.draw.once_in(500) {
            self.wksp.alloc(SIZE_BYTES, 64, self.tag).err().ok_or("an allocation larger than all")?;
            self.count(Counter::NoSpaceCount, 1);
        }
        if self.live.len() < LIVE && (self.live.is_empty() || self.draw.once_in(2)) {
            let size = 1 + self.draw.below(SIZE_MAX);
            self.live.push(self.wksp.alloc(size, 64, self.tag).map_err(text)?);
            self.count(Counter::AllocCount, 1);
            self.count(Counter::AllocBytes, size);
            return Ok(());
        }
        let block = self.live.swap_remove(self.draw.index(self.live.len()));
        self.wksp.free(block).map_err(text)?;
        self.count(Counter::FreeCount, 1);
        self.count(Counter::FreeBytes, block.size_bytes());
        if self.draw.once_in(50) {
            match self.wksp.free(block) {
                Err(FreeError::Stale { .. }) => self.count(Counter::FailureCount, 1),
                other => return Err(format!("a second free ended with {other:?}")),
            }
        }
        Ok(())
    }

    fn free_foreign(&mut self, gaddr: u64) -> Result<(), String> {
        let gaddr = Gaddr::new(gaddr).ok_or("a null gaddr")?;
        let block = self.wksp.block_at(gaddr).map_err(text)?.ok_or("a foreign block is gone")?;
        self.wksp.free(block).map_err(text)?;
        for (counter, delta) in [
            (Counter::FreeCount, 1),
            (Counter::FreeBytes, block.size_bytes()),
            (Counter::RemoteFreeCount, 1),
            (Counter::RemoteFreeBytes, block.size_bytes()),
        ] {
            self.count(counter, delta);
        }
        Ok(())
    }
}

/// A worker and what is known of it.
struct Hand {
    worker: Worker<Answer>,
    tag: u64,
    account: Account,
    /// Blocks that it left to others.
    given: Vec<u64>,
}

struct Yard<'r, 'p> {
    run: &'r Run<'p>,
    wksp: Wksp,
    watch: Watch,
    parameters: Box<dyn Fn(u64) -> Parameters>,
    hands: Vec<Hand>,
    next_tag: u64,
    /// Bytes that live according to the accounts of everybody, the dead included.
    live_of_gone: i64,
    /// What was last read of each joiner.
    seen: BTreeMap<JoinerKey, JoinerCounters>,
}

fn run(run: &Run<'_>, tally: &mut Tally) -> Result<(), End> {
    let guard = run.place.guard("watch")?;
    let (domain, name) = (guard.domain().clone(), *guard.name());
    let wksp =
        Wksp::create(&domain, &name, &CreateOptions::with_size(SIZE_BYTES)).doing("making the workspace")?;
    let watch = Watch::attach(&domain, &name).doing("watching the workspace")?;
    let (path, seed) = (domain.path().to_owned(), run.seed);
    let parameters =
        Box::new(move |tag| Parameters { domain: path.clone(), name: name.to_string(), seed, tag });
    let mut yard = Yard {
        run,
        wksp,
        watch,
        parameters,
        hands: vec![],
        next_tag: 1,
        live_of_gone: 0,
        seen: BTreeMap::new(),
    };
    let quick_time = Duration::from_secs(10);
    let amount = Amount { exact: None, quick: 20_000, quick_time, least: 300, full: 200_000 };
    let (begin, mut round) = (Instant::now(), 0);
    while run.goes_on(tally.iterations, begin, &amount)? {
        yard.fill_up()?;
        yard.work(tally)?;
        yard.check_at_rest(tally)?;
        round += 1;
        if round % KILL_EVERY == 0 {
            yard.kill_at_rest(tally)?;
        }
    }
    yard.kill_at_rest(tally)?;
    for _ in 0..KILLS_AT_WORK {
        yard.fill_up()?;
        yard.kill_at_work(tally)?;
    }
    tally.require_some(&["measured", "dead", "kills_at_rest", "kills_at_work", "remote_frees", "rests"])
}

impl Yard<'_, '_> {
    /// Starts workers until there are enough.
    fn fill_up(&mut self) -> Result<(), End> {
        while self.hands.len() < WORKERS {
            let tag = self.next_tag;
            self.next_tag += 1;
            let mut worker = Worker::start(self.run, Role::Churn, &(self.parameters)(tag), None)?;
            let Answer { account, given } = worker.receive(self.run)?;
            self.hands.push(Hand { worker, tag, account, given });
        }
        Ok(())
    }

    /// Gives everybody work, and the next one's left blocks to free.
    fn send_all(&mut self, calls: u64) -> Result<(), End> {
        let mut given: Vec<Vec<u64>> =
            self.hands.iter_mut().map(|hand| std::mem::take(&mut hand.given)).collect();
        given.rotate_left(1);
        let orders = self.hands.iter_mut().zip(given);
        orders.into_iter().try_for_each(|(hand, foreign)| hand.worker.send(&Order { foreign, calls }))
    }

    /// A round: everybody works, and is watched until all are done.
    fn work(&mut self, tally: &mut Tally) -> Result<(), End> {
        self.send_all(CALLS)?;
        let mut at_work: Vec<usize> = (0..self.hands.len()).collect();
        let begin = Instant::now();
        while !at_work.is_empty() {
            self.run.check_stop()?;
            require(begin.elapsed() < crate::worker::WATCHDOG, || "a round takes 30 s".to_owned())?;
            self.look(tally)?;
            let mut still = vec![];
            for index in at_work {
                match self.hands[index].worker.arrived()? {
                    Some(Answer { account, given }) => {
                        self.hands[index].account = account;
                        self.hands[index].given = given;
                    }
                    None => still.push(index),
                }
            }
            at_work = still;
        }
        Ok(())
    }

    /// Takes a snapshot and holds it against the one before.
    fn look(&mut self, tally: &mut Tally) -> Result<Snapshot, End> {
        let snapshot = self.watch.snapshot().doing("taking a snapshot")?;
        tally.iterations += 1;
        for joiner in &snapshot.joiners {
            for counter in Counter::ALL {
                let value = joiner.values.get(counter);
                match value {
                    Value::Measured(_) => tally.add("measured", 1),
                    Value::Dead(_) => tally.add("dead", 1),
                    Value::Torn => tally.add("torn", 1),
                    Value::Absent => return Err(failed!("a counter of a joiner is absent: {joiner:?}")),
                }
                let before = self.seen.get(&joiner.key).and_then(|seen| seen.values.get(counter).known());
                let back = before.zip(value.known()).is_some_and(|(before, now)| now < before);
                require(!back, || format!("{} went back from {before:?}: {joiner:?}", counter.name()))?;
            }
            if joiner.values.get(Counter::AllocCount) != Value::Torn {
                self.seen.insert(joiner.key, *joiner);
            }
        }
        Ok(snapshot)
    }

    /// Nobody works: every worker's counters equal its own account, and all together what is allocated.
    fn check_at_rest(&mut self, tally: &mut Tally) -> Result<(), End> {
        let snapshot = self.look(tally)?;
        let mut live = self.live_of_gone;
        for hand in &self.hands {
            expect(&snapshot, hand, JoinerState::Alive, Value::Measured)?;
            live += live_bytes(&hand.account);
        }
        let used = Value::Measured(live.cast_unsigned());
        require(snapshot.used_bytes == used, || {
            format!("expected {used:?} to be used by the workers' accounts, found {:?}", snapshot.used_bytes)
        })?;
        tally.add("rests", 1);
        Ok(())
    }

    /// Kills a worker that does nothing; its values stay. Then frees what it had, each one a remote free.
    fn kill_at_rest(&mut self, tally: &mut Tally) -> Result<(), End> {
        if self.hands.is_empty() {
            return Ok(());
        }
        let mut hand = self.hands.swap_remove(0);
        hand.worker.kill()?;
        let snapshot = self.look(tally)?;
        expect(&snapshot, &hand, JoinerState::Dead, Value::Dead)?;
        tally.add("kills_at_rest", 1);
        let own = |snapshot: &Snapshot| {
            let own = snapshot.joiners.iter().find(|joiner| joiner.key.pid == std::process::id());
            own.and_then(|own| own.values.get(Counter::RemoteFreeCount).known()).unwrap_or(0)
        };
        let before = own(&snapshot);
        let (count, bytes) = self.wksp.tag_free(&[hand.tag]).doing("freeing what a dead worker had")?;
        let counted = own(&self.look(tally)?) - before;
        require(counted == count, || format!("{count} remote frees were counted as {counted}"))?;
        tally.add("remote_frees", count + hand.account[Counter::RemoteFreeCount as usize]);
        self.live_of_gone += live_bytes(&hand.account) - bytes.cast_signed();
        Ok(())
    }

    /// Kills a worker in the middle of its work: it is dead, and each value is a last one or torn.
    fn kill_at_work(&mut self, tally: &mut Tally) -> Result<(), End> {
        self.send_all(CALLS)?;
        self.look(tally)?;
        let mut hand = self.hands.swap_remove(0);
        let pid = hand.worker.pid();
        hand.worker.kill()?;
        let snapshot = self.look(tally)?;
        let joiner = find(&snapshot, pid)?;
        let is_last = |counter| matches!(joiner.values.get(counter), Value::Dead(_) | Value::Torn);
        require(joiner.state == JoinerState::Dead && Counter::ALL.into_iter().all(is_last), || {
            format!("expected the last values of a dead worker, found {joiner:?}")
        })?;
        tally.add("kills_at_work", 1);
        for hand in &mut self.hands {
            let Answer { account, given } = hand.worker.receive(self.run)?;
            (hand.account, hand.given) = (account, given);
        }
        let snapshot = self.look(tally)?;
        self.hands.iter().try_for_each(|hand| expect(&snapshot, hand, JoinerState::Alive, Value::Measured))
    }
}

fn live_bytes(account: &Account) -> i64 {
    account[Counter::AllocBytes as usize].cast_signed() - account[Counter::FreeBytes as usize].cast_signed()
}

fn find(snapshot: &Snapshot, pid: u32) -> Result<&JoinerCounters, End> {
    let found = snapshot.joiners.iter().find(|joiner| joiner.key.pid == pid);
    found.ok_or_else(|| failed!("worker {pid} is not in the snapshot"))
}

/// Whether the snapshot says of a worker what it says of itself.
fn expect(
    snapshot: &Snapshot,
    hand: &Hand,
    state: JoinerState,
    value: impl Fn(u64) -> Value,
) -> Result<(), End> {
    let joiner = find(snapshot, hand.worker.pid())?;
    require(joiner.state == state, || format!("expected a worker to be {state:?}, found {joiner:?}"))?;
    for (counter, account) in Counter::ALL.into_iter().zip(hand.account) {
        let (expected, found) = (value(account), joiner.values.get(counter));
        require(expected == found, || {
            format!("{}: the worker's account says {expected:?}, read was {found:?}", counter.name())
        })?;
    }
    Ok(())
}

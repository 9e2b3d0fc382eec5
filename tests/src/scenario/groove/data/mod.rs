//! `groove/data`: workers, now threads and now processes, allocate, pattern, check and free objects in thousands of
//! shared slots; volumes are added when there is no room, and removable when everything is freed.
//!
//! `options` is what can be asked for, `board` what the workers share, `worker` is one of them.
//!
//! # Invariants
//! - Every object that is found is checked whole by whoever comes next, and once more by the scenario at the end.

pub mod board;
pub mod options;
pub mod worker;

use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use clap::CommandFactory;
use outlast_groove::Groove;

use self::board::{Board, Phase, SLOTS, Slot};
use self::options::{Canary, Options};
use self::worker::{Account, Hand, Message, Parameters};
use crate::draw::Draw;
use crate::end::{Doing, End, require};
use crate::failed;
use crate::place::{GrooveGuard, RegionGuard};
use crate::report::Tally;
use crate::run::{Amount, Profile, Run};
use crate::scenario::Scenario;
use crate::worker::role::Role;
use crate::worker::{WATCHDOG, Worker};

/// The registry's entry.
pub const SCENARIO: Scenario = Scenario {
    name: "groove/data",
    about: "threads and processes allocate, pattern, check and free objects of any size in shared slots",
    unit: "runs",
    needs_probes: false,
    cpus: u32::MAX,
    memory_bytes: 5 << 28,
    sample: (2, &["--alloc-cnt", "600", "--volume-cnt", "3", "--volume-sz", "2097152"]),
    options: Some(<Options as CommandFactory>::command),
    run,
};

/// Bytes of a volume where there is room for it.
const VOLUME_BYTES: u64 = 1 << 30;
/// Half of a worker's steps, in the full profile and in the quick one.
const ALLOC_CNT: u64 = 1 << 20;
const ALLOC_CNT_QUICK: u64 = 1 << 18;
/// How often the groove is looked at beside the traffic.
const SOFT_VERIFY: Duration = Duration::from_millis(500);
/// The worker that stands for the scenario itself.
const SCENARIO_WORKER: u64 = u32::MAX as u64;

struct Traffic<'r> {
    run: &'r Run<'r>,
    options: Options,
    volume_bytes: u64,
}

/// What a run works on.
struct Ground {
    groove: Groove,
    /// Of a groove of its own.
    guard: Option<GrooveGuard>,
    board: Board,
    board_guard: RegionGuard,
    /// Objects that were there before.
    before: u64,
    /// How many of the largest objects an empty volume takes.
    largest: u64,
}

fn run(run: &Run<'_>, tally: &mut Tally) -> Result<(), End> {
    let options = Options::read(run.options)?;
    let volume_bytes = match (&options.name, options.volume_sz) {
        (Some(_), _) => 0,
        (None, Some(bytes)) => bytes,
        (None, None) => super::volume_bytes(run, options.volume_cnt, VOLUME_BYTES, tally)?,
    };
    let traffic = Traffic { run, options, volume_bytes };
    let amount = Amount { exact: None, quick: 2, quick_time: Duration::from_secs(20), least: 2, full: 4 };
    let begin = Instant::now();
    while run.goes_on(tally.iterations, begin, &amount)? {
        traffic.iterate(tally)?;
        tally.iterations += 1;
    }
    tally.require_some(&["allocs", "frees", "checked_of_others", "bytes_checked", "soft_verifies"])
}

impl Traffic<'_> {
    fn iterate(&self, tally: &mut Tally) -> Result<(), End> {
        let iteration = tally.iterations + 1;
        let mut draw = Draw::new(self.run.seed, iteration, 0);
        let ground = self.ground(&mut draw)?;
        let by_processes = iteration.is_multiple_of(2);
        let what = if by_processes { "processes" } else { "threads" };
        let accounts = if by_processes {
            self.by_processes(&ground, iteration, tally)?
        } else {
            self.by_threads(&ground, iteration, tally)?
        };
        tally.add(&format!("runs_of_{what}"), 1);
        accounts.iter().for_each(|account| account.count(tally));
        self.finish(&ground, &mut draw, tally)
    }

    fn ground(&self, draw: &mut Draw) -> Result<Ground, End> {
        let (place, domain) = (self.run.place, self.run.place.domain());
        let board_guard = place.guard("board")?;
        let board =
            Board::create(domain, board_guard.name(), self.options.volume_cnt).doing("making the board")?;
        if let Some(name) = &self.options.name {
            let groove = Groove::open(domain, name).doing(format!("joining {name}"))?;
            let before = groove.verify().doing("verifying")?.objects;
            return Ok(Ground { groove, guard: None, board, board_guard, before, largest: 0 });
        }
        let guard = place.groove_guard("data")?;
        let groove = super::create(&guard, self.volume_bytes)?;
        groove.add_volume(b"").doing("adding a volume")?;
        let largest = super::largest_objects(&groove, draw)?;
        super::remove_all_volumes(&groove)?;
        Ok(Ground { groove, guard: Some(guard), board, board_guard, before: 0, largest })
    }

    fn parameters(&self, ground: &Ground, iteration: u64) -> Vec<Parameters> {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get) as u64;
        let workers = self.options.worker_cnt.unwrap_or(cores.clamp(2, 64));
        let alloc_cnt = self.options.alloc_cnt.unwrap_or(match self.run.profile {
            Profile::Quick => ALLOC_CNT_QUICK,
            Profile::Full => ALLOC_CNT,
        });
        let groove = self.options.name.as_ref().or(ground.guard.as_ref().map(GrooveGuard::name));
        let one = |worker: u64| Parameters {
            domain: self.run.place.domain().path().to_owned(),
            groove: groove.map(ToString::to_string).unwrap_or_default(),
            board: ground.board_guard.name().to_string(),
            lane: worker as usize,
            worker: worker + 1,
            seed: (self.run.seed, iteration),
            steps: 2 * alloc_cnt,
            size_max: self.options.sz_max,
        };
        (0..workers).map(one).collect()
    }

    fn by_threads(&self, ground: &Ground, iteration: u64, tally: &mut Tally) -> Result<Vec<Account>, End> {
        let all = self.parameters(ground, iteration);
        let (sender, inbox) = channel();
        std::thread::scope(|scope| {
            for (index, parameters) in all.iter().enumerate() {
                let sender = sender.clone();
                scope.spawn(move || {
                    // Who hears no more has seen another worker fail.
                    let say = |message| _ = sender.send((index, message));
                    let done = worker::work(&ground.groove, &ground.board, parameters, say);
                    let last = done.map_or_else(|end| Message::Wrong(end.to_string()), Message::Done);
                    let _ = sender.send((index, last));
                });
            }
            drop(sender);
            let ended = self.attend(ground, all.len(), tally, || next(&inbox));
            ground.board.stop();
            ended
        })
    }

    fn by_processes(&self, ground: &Ground, iteration: u64, tally: &mut Tally) -> Result<Vec<Account>, End> {
        let mut workers = Vec::new();
        for parameters in self.parameters(ground, iteration) {
            let worker: Worker<Message> = Worker::start(self.run, Role::Objects, &parameters, None)?;
            workers.push((worker, false));
        }
        let count = workers.len();
        let accounts = self.attend(ground, count, tally, || {
            for (index, (worker, is_done)) in workers.iter_mut().enumerate().filter(|(_, worker)| !worker.1) {
                if let Some(message) = worker.arrived()? {
                    *is_done = matches!(message, Message::Done(_));
                    return Ok(Some((index, message)));
                }
            }
            std::thread::sleep(Duration::from_millis(2));
            Ok(None)
        })?;
        for (worker, _) in &mut workers {
            let (status, _) = worker.wait(self.run)?;
            require(status.success(), || format!("a worker ended with {status}"))?;
        }
        Ok(accounts)
    }

    /// Opens the gate when all have joined, and waits until all are done; looks at the groove meanwhile.
    fn attend(
        &self,
        ground: &Ground,
        workers: usize,
        tally: &mut Tally,
        mut next: impl FnMut() -> Result<Option<(usize, Message)>, End>,
    ) -> Result<Vec<Account>, End> {
        let (mut accounts, mut joined) = (Vec::new(), 0);
        let (mut heard, mut looked) = (Instant::now(), None::<Instant>);
        while accounts.len() < workers {
            self.run.check_stop()?;
            match next()? {
                None if WATCHDOG < heard.elapsed() => {
                    return Err(failed!("the workers hang: silent for {} s", WATCHDOG.as_secs()));
                }
                None => {}
                Some((_, message)) => {
                    heard = Instant::now();
                    match message {
                        Message::Joined => joined += 1,
                        Message::Beat => {}
                        Message::Done(account) => accounts.push(account),
                        Message::Wrong(what) => return Err(failed!("{what}")),
                    }
                }
            }
            if joined == workers && looked.is_none_or(|looked| SOFT_VERIFY < looked.elapsed()) {
                ground.board.open_gate();
                let report = ground.groove.verify_softly().doing("verifying beside the traffic")?;
                require(report.is_sound(), || format!("verify beside the traffic: {:?}", report.faults))?;
                tally.add("soft_verifies", 1);
                looked = Some(Instant::now());
            }
        }
        Ok(accounts)
    }

    /// Verifies, checks and frees all, verifies again, and takes the volumes away.
    fn finish(&self, ground: &Ground, draw: &mut Draw, tally: &mut Tally) -> Result<(), End> {
        let groove = &ground.groove;
        let mut slots = full_slots(&ground.board)?;
        break_something(self.options.canary, groove, &slots)?;
        super::verify(groove, ground.before + slots.len() as u64, "after the traffic")?;
        tally.at_most("objects_at_the_end", slots.len() as u64);
        let mut hand = Hand::of_scenario(groove, &ground.board)?;
        while !slots.is_empty() {
            let slot = slots.swap_remove(draw.index(slots.len()));
            hand.check(&slot.entry())?;
            hand.free(slot.entry().reference)?;
            slot.set_phase(Phase::Empty);
            slot.unlock();
        }
        tally.add("bytes_checked", hand.account().bytes_checked);
        drop(hand);
        super::verify(groove, ground.before, "after everything was freed")?;
        if ground.guard.is_none() {
            return Ok(());
        }
        let volumes = groove.volumes().doing("listing the volumes")?.len() as u64;
        let largest = super::largest_objects(groove, draw)?;
        require(largest == volumes * ground.largest, || {
            let (fresh, largest_bytes) = (ground.largest, groove.object_bytes_max());
            format!(
                "{volumes} volumes in which everything was freed take {largest} objects of {largest_bytes} bytes, \
                 a fresh one {fresh}"
            )
        })?;
        tally.at_most("largest_objects", largest);
        tally.add("volumes_removed", super::remove_all_volumes(groove)?);
        Ok(())
    }
}

fn next(inbox: &Receiver<(usize, Message)>) -> Result<Option<(usize, Message)>, End> {
    match inbox.recv_timeout(Duration::from_millis(20)) {
        Ok(message) => Ok(Some(message)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => Err(failed!("a worker has ended without a word")),
    }
}

/// The slots with an object, locked; of a board that nobody works on.
///
/// # Errors
/// [`End::Failed`] if a slot is locked or in the middle of something.
pub fn full_slots(board: &Board) -> Result<Vec<Slot<'_>>, End> {
    let mut full = Vec::new();
    for index in 0..SLOTS {
        let slot = board.try_lock(index, SCENARIO_WORKER);
        let slot = slot.ok_or_else(|| failed!("slot {index} is locked, and nobody is there"))?;
        match slot.phase() {
            Ok(Phase::Empty) => slot.unlock(),
            Ok(Phase::Full) => full.push(slot),
            other => return Err(failed!("slot {index}, which nobody has, is {other:?}")),
        }
    }
    Ok(full)
}

fn break_something(canary: Canary, groove: &Groove, slots: &[Slot<'_>]) -> Result<(), End> {
    let joiner = groove.joiner().doing("joining")?;
    match (canary, slots.first()) {
        (Canary::Flip, Some(slot)) => {
            let object = slot.entry().reference;
            let info = joiner.info(object).doing("asking for the victim")?;
            let (last, mut byte) = (info.stop - info.start - 1, [0]);
            joiner.read_reserved(object, last, &mut byte).doing("reading the victim")?;
            joiner.write_reserved(object, last, &[byte[0] ^ 0x10]).doing("flipping a byte")?;
        }
        (Canary::Extra, _) => _ = joiner.alloc(1, 0, 1).doing("allocating something else")?,
        _ => {}
    }
    Ok(())
}

impl Account {
    /// Adds it to a tally.
    pub fn count(&self, tally: &mut Tally) {
        for (name, count) in [
            ("steps", self.steps),
            ("allocs", self.allocs),
            ("frees", self.frees),
            ("checked_of_others", self.by_others),
            ("bytes_patterned", self.bytes_patterned),
            ("bytes_checked", self.bytes_checked),
            ("slots_busy", self.busy),
            ("full", self.full),
            ("volumes_grown", self.grown),
            ("full_with_none_left", self.none_left),
            ("freed_again", self.freed_again),
        ] {
            tally.add(name, count);
        }
    }
}

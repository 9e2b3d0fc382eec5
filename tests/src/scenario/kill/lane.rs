//! One child, what is known of it, and the gate at which children pause.

use std::path::PathBuf;
use std::time::Instant;

use outlast_wksp::{RegionName, Wksp};

use super::child::{Acknowledgement, KillAt, Parameters};
use super::script::{Plan, Returned, Script};
use crate::end::{Doing, End};
use crate::failed;
use crate::report::Tally;
use crate::run::Run;
use crate::worker::role::Role;
use crate::worker::{WATCHDOG, Worker};

/// Tag of the block that holds the gate.
pub const GATE_TAG: u64 = u64::MAX;

/// Most children at a time.
const PLACES: u64 = 63;

/// Where the children of a scenario work.
#[derive(Debug)]
pub struct Yard {
    /// The scenario's own join.
    pub wksp: Wksp,
    /// Where children pause.
    pub gate: Gate,
    /// Directory of the domain.
    pub domain: PathBuf,
    /// Name of the workspace.
    pub name: RegionName,
}

/// How often the counters of a process that is alive are looked at until they hold still.
const LOOKS: u32 = 10_000;

impl Yard {
    /// How often the joiner in `slot`, which is alive, has recovered the lock.
    ///
    /// # Errors
    /// [`End::Failed`] if its counters never held still: it is stopped while it counts.
    pub fn recoveries(&self, slot: u32) -> Result<u64, End> {
        let Some(slot) = outlast_shm::JoinerSlot::new(slot as usize) else { return Ok(0) };
        let counters = (0..LOOKS).find_map(|_| self.wksp.counters(slot));
        let counters = counters.ok_or_else(|| failed!("the counters of joiner {slot} never hold still"))?;
        Ok(counters.recovery_count)
    }
}

/// A block of the workspace: byte 0 is 0 when open, else 1 + the number of the only lane that may go on; byte
/// 1 + n says whether lane n pauses.
#[derive(Debug, Clone, Copy)]
pub struct Gate {
    /// First byte of the block.
    pub gaddr: u64,
}

impl Gate {
    /// A gate, open.
    ///
    /// # Errors
    /// [`End::Failed`] if there is no room for it.
    pub fn new(wksp: &Wksp) -> Result<Self, End> {
        let block = wksp.alloc(1 + PLACES, 64, GATE_TAG).doing("allocating the gate")?;
        wksp.memset(block.gaddr(), 0).doing("opening the gate")?;
        Ok(Self { gaddr: block.gaddr().get() })
    }

    /// Lets all go on.
    ///
    /// # Errors
    /// [`End::Failed`].
    pub fn open(&self, wksp: &Wksp) -> Result<(), End> {
        wksp.write(self.gaddr, &[0]).doing("opening the gate")
    }

    /// Waits until all lanes but one pause.
    ///
    /// # Errors
    /// [`End::Failed`] if one does not, or has failed.
    pub fn close_for_all_but(
        &self,
        run: &Run<'_>,
        wksp: &Wksp,
        goes_on: usize,
        lanes: &mut [Lane],
    ) -> Result<(), End> {
        wksp.write(self.gaddr, &[lanes[goes_on].place + 1]).doing("closing the gate")?;
        let begin = Instant::now();
        for (index, lane) in lanes.iter_mut().enumerate().filter(|(index, _)| *index != goes_on) {
            let mut pauses = [0];
            while pauses == [0] {
                wksp.read(self.gaddr + 1 + u64::from(lane.place), &mut pauses)
                    .doing("looking at the gate")?;
                run.check_stop()?;
                if WATCHDOG < begin.elapsed() {
                    return Err(failed!("the child in lane {index} is stuck: it does not come to the gate"));
                }
                lane.poll()?;
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    /// The child's side: pauses while another lane is to go on alone.
    pub fn pass(&self, wksp: &Wksp, place: u8) -> Result<(), String> {
        let at = self.gaddr + 1 + u64::from(place);
        let text = |error: outlast_wksp::QueryError| error.to_string();
        let mut gate = [0];
        wksp.read(self.gaddr, &mut gate).map_err(text)?;
        if gate == [0] || gate == [place + 1] {
            return Ok(());
        }
        wksp.write(at, &[1]).map_err(text)?;
        while gate != [0] && gate != [place + 1] {
            std::thread::sleep(std::time::Duration::from_micros(20));
            wksp.read(self.gaddr, &mut gate).map_err(text)?;
        }
        wksp.write(at, &[0]).map_err(text)
    }
}

/// A running child.
#[derive(Debug)]
pub struct Lane {
    place: u8,
    worker: Worker<Acknowledgement>,
    script: Script,
    slowest_us: u64,
    /// Its slot in the joiner table.
    pub slot: u32,
}

/// A child that is no more.
#[derive(Debug)]
pub struct Dead {
    /// Its process id.
    pub pid: u32,
    /// Where it was in its plan.
    pub script: Script,
}

impl Lane {
    /// Starts a child and waits until it has joined.
    ///
    /// # Errors
    /// [`End::Failed`] if it does not.
    pub fn start(
        run: &Run<'_>,
        yard: &Yard,
        place: usize,
        plan: Plan,
        kill_at: Option<KillAt>,
    ) -> Result<Self, End> {
        let place = place as u8;
        let parameters = Parameters {
            domain: yard.domain.clone(),
            name: yard.name.to_string(),
            // A reset ends the gate too.
            gate: if plan.resets == 0 { yard.gate.gaddr } else { 0 },
            place,
            plan: plan.clone(),
            kill_at,
        };
        // A child that died while it paused has left its mark.
        yard.wksp.write(yard.gate.gaddr + 1 + u64::from(place), &[0]).doing("readying the gate")?;
        let mut worker = Worker::start(run, Role::Script, &parameters, None)?;
        let slot = match worker.receive(run)? {
            Acknowledgement::Joined { slot } => slot,
            other => return Err(failed!("a child began with {other:?}")),
        };
        Ok(Self { place, worker, script: Script::new(plan), slowest_us: 0, slot })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.worker.pid()
    }

    /// Takes note of what its calls have returned so far; every one of them must have succeeded.
    ///
    /// # Errors
    /// [`End::Failed`].
    pub fn catch_up(&mut self, tally: &mut Tally) -> Result<(), End> {
        let before = self.script.calls();
        self.poll()?;
        tally.add("calls_of_survivors", self.script.calls() - before);
        tally.at_most("slowest_call_us", self.slowest_us);
        Ok(())
    }

    fn poll(&mut self) -> Result<(), End> {
        while let Some(acknowledgement) = self.worker.arrived()? {
            self.take(&acknowledgement)?;
        }
        Ok(())
    }

    fn take(&mut self, acknowledgement: &Acknowledgement) -> Result<(), End> {
        match acknowledgement {
            Acknowledgement::Returned { call, returned, slowest_us } => {
                self.slowest_us = self.slowest_us.max(*slowest_us);
                self.follow(*call, returned)
            }
            other => Err(failed!("a child said {other:?}")),
        }
    }

    fn follow(&mut self, call: u64, returned: &Returned) -> Result<(), End> {
        let expected = self.script.calls() + 1;
        if call != expected || self.script.returned(returned).is_none() {
            let next = self.script.next_call();
            return Err(failed!(
                "a child acknowledged call {call} with {returned:?}, expected {expected}, {next:?}"
            ));
        }
        Ok(())
    }

    /// Kills it.
    ///
    /// # Errors
    /// [`End::Failed`] if it had ended by itself, or one of its calls had failed.
    pub fn kill(mut self) -> Result<Dead, End> {
        let rest = self.worker.kill()?;
        self.bury(&rest)
    }

    /// Waits for its end, by its own plan (`false`) or by a kill at a probe (`true`).
    ///
    /// # Errors
    /// [`End::Failed`] if it ended in any other way.
    pub fn wait(mut self, run: &Run<'_>) -> Result<(Dead, bool), End> {
        let (status, rest) = self.worker.wait(run)?;
        let killed = match std::os::unix::process::ExitStatusExt::signal(&status) {
            Some(nix::libc::SIGKILL) => true,
            _ if status.success() => false,
            _ => return Err(self.worker.died("it was to run to its end or to a probe")),
        };
        Ok((self.bury(&rest)?, killed))
    }

    fn bury(mut self, rest: &[Acknowledgement]) -> Result<Dead, End> {
        for acknowledgement in rest {
            self.take(acknowledgement)?;
        }
        Ok(Dead { pid: self.worker.pid(), script: self.script })
    }
}

//! Where slots say what they do: who occupies which slot, and the way to the reporter.
//!
//! # Invariants
//! - Events of one slot reach the reporter in the order in which they were told.
//! - Telling never blocks: the way to the reporter holds any number of events.

use std::fs::File;
use std::io::Write;
use std::sync::mpsc::Sender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::event::{Event, Sample};

/// The desk of one run.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) began: Instant,
    events: Sender<Event>,
    trace: Option<File>,
    state: Mutex<State>,
    changed: Condvar,
}

/// What is known at this moment.
#[derive(Debug)]
pub(super) struct State {
    /// By slot.
    pub(super) occupants: Vec<Option<Occupant>>,
    pub(super) finished: u32,
    /// Whether a job began or ended since the last look.
    pub(super) changed: bool,
    /// Whether no more will happen.
    pub(super) over: bool,
}

/// A job on a slot.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Occupant {
    /// Its process group, once it runs.
    pub(super) group: Option<u32>,
    /// The most memory seen.
    pub(super) peak_bytes: Option<u64>,
}

/// A lock whose data are whole whoever panicked: nothing is half done under these locks.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    pub(super) fn new(slots: u32, events: Sender<Event>, trace: Option<File>) -> Self {
        let occupants = vec![None; slots as usize];
        Self {
            began: Instant::now(),
            events,
            trace,
            state: Mutex::new(State { occupants, finished: 0, changed: false, over: false }),
            changed: Condvar::new(),
        }
    }

    /// Tells the reporter, and the trace if there is one.
    pub(crate) fn tell(&self, event: Event) {
        match &event {
            Event::Assigned { ordinal, slot, cpus, .. } => {
                self.trace(format_args!("slot {slot}: assigned job {ordinal}, CPUs {cpus:?}"));
            }
            Event::Started { ordinal, slot, pid, .. } => {
                self.trace(format_args!("slot {slot}: started job {ordinal} as process {pid}"));
            }
            Event::Slow { ordinal, ran } => self.trace(format_args!("job {ordinal} is slow after {ran:?}")),
            Event::Finished(record) => {
                let slot = record.slot.map_or_else(|| "no slot".to_owned(), |slot| format!("slot {slot}"));
                self.trace(format_args!("{slot}: finished job {}: {}", record.ordinal, record.outcome));
            }
            _ => {}
        }
        // The reporter listens until it is told the end, which is told last.
        let _ = self.events.send(event);
    }

    /// Says on standard error and in the trace file what happens, if that is wanted.
    pub(super) fn trace(&self, what: std::fmt::Arguments<'_>) {
        if let Some(mut file) = self.trace.as_ref() {
            let line = format!("{:12.6} {what}\n", self.began.elapsed().as_secs_f64());
            // A trace that cannot be written stops no run.
            let _ = file.write_all(line.as_bytes());
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    /// A job is on the slot.
    pub(super) fn occupied(&self, slot: u32) {
        self.change(|state| state.occupants[slot as usize] = Some(Occupant::default()));
    }

    /// Its process runs.
    pub(super) fn started(&self, slot: u32, pid: u32) {
        self.change(|state| {
            if let Some(occupant) = &mut state.occupants[slot as usize] {
                occupant.group = Some(pid);
            }
        });
    }

    /// The job has left the slot; the most memory that it was seen to hold.
    pub(super) fn vacated(&self, slot: u32) -> Option<u64> {
        self.change(|state| {
            state.finished += 1;
            state.occupants[slot as usize].take().and_then(|occupant| occupant.peak_bytes)
        })
    }

    /// A job has ended that never was on a slot.
    pub(super) fn finished(&self) {
        self.change(|state| state.finished += 1);
    }

    /// No more will happen.
    pub(super) fn close(&self) {
        self.change(|state| state.over = true);
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Waits for a change or until the time has passed.
    pub(super) fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        time: std::time::Duration,
    ) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    /// A sample of now, with this much memory.
    pub(super) fn sample(&self, state: &State, memory_bytes: u64) -> Sample {
        let running = state.occupants.iter().flatten().count();
        let running = u32::try_from(running).unwrap_or(u32::MAX);
        Sample { at: self.began.elapsed(), running, finished: state.finished, memory_bytes }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        // The sampler knows of a change that it has not looked at yet, and need not be woken for the next.
        let news = !std::mem::replace(&mut state.changed, true) || state.over;
        drop(state);
        if news {
            self.changed.notify_all();
        }
        result
    }
}

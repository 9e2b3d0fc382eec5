//! Looks at the memory of running jobs, now and then and after each beginning and end.
//!
//! A job's memory is the sum of the resident sets of its process group, from `/proc/PID/stat`. Pages of a shared region
//! count once for each process that has them, which proportional sets would not, but those cost a walk over every page.
//!
//! # Invariants
//! - One walk over `/proc` serves all jobs, and at most [`BURST`] of them fall into one interval, however fast jobs are.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::desk::Desk;
use crate::event::Event;
use crate::process::proc::{group_of, pids, stat};

/// How many looks an interval may have.
const BURST: u32 = 10;

/// Samples until the desk is closed.
pub(super) fn sample_until_closed(desk: &Desk, every: Duration) {
    let mut last: Option<Instant> = None;
    loop {
        let mut state = desk.state();
        loop {
            if state.over {
                let last = desk.sample(&state, 0);
                drop(state);
                desk.tell(Event::Sampled(last));
                return;
            }
            let pause = if state.changed { every / BURST } else { every };
            let pause = last.map_or(Duration::ZERO, |last| pause.saturating_sub(last.elapsed()));
            if pause.is_zero() {
                break;
            }
            state = desk.wait(state, pause);
        }
        state.changed = false;
        drop(state);
        last = Some(Instant::now());
        look(desk);
    }
}

fn look(desk: &Desk) {
    let groups = |state: &super::desk::State| -> BTreeMap<u32, u64> {
        state.occupants.iter().flatten().filter_map(|occupant| Some((occupant.group?, 0))).collect()
    };
    let mut bytes = groups(&desk.state());
    let page_bytes = rustix::param::page_size() as u64;
    if !bytes.is_empty() {
        for pid in pids() {
            if let Some(sum) = group_of(pid).and_then(|group| bytes.get_mut(&group))
                && let Some(stat) = stat(pid)
            {
                *sum += stat.resident_pages.saturating_mul(page_bytes);
            }
        }
    }
    let mut state = desk.state();
    for occupant in state.occupants.iter_mut().flatten() {
        // A process that has ended holds nothing, and was not looked at while it held something.
        if let Some(&held) = occupant.group.and_then(|group| bytes.get(&group))
            && held > 0
        {
            occupant.peak_bytes = occupant.peak_bytes.max(Some(held));
        }
    }
    let sample = desk.sample(&state, bytes.values().sum());
    drop(state);
    desk.tell(Event::Sampled(sample));
}

//! `wksp/hostile_sweep`: every word of the tables of a small workspace, damaged in several ways; each call is made
//! on a fresh copy of the damaged workspace.
//!
//! # Invariants
//! - The order of words, damages and calls is fixed; the seed decides values and addresses only.

use std::ops::Range;
use std::time::{Duration, Instant};

use outlast_wksp::{CreateOptions, Domain, RegionName, Wksp};

use super::model::{Counts, Judged, Kind, Model};
use super::words::{DAMAGES, Tables, damaged};
use super::{Answer, Order, Parameters};
use crate::draw::Draw;
use crate::end::{Doing, End};
use crate::failed;
use crate::report::Tally;
use crate::run::{Amount, Run};
use crate::scenario::Scenario;
use crate::worker::Worker;
use crate::worker::channel::Channel;
use crate::worker::role::Role;

/// The registry's entry.
pub const SCENARIO: Scenario = Scenario {
    name: "wksp/hostile_sweep",
    about: "every word of the tables damaged in several ways, every call on each",
    unit: "damaged words",
    needs_probes: false,
    cpus: 1,
    memory_bytes: 64 << 20,
    sample: (2000, &[]),
    options: None,
    run,
};

/// Bytes of the workspace.
const SIZE_BYTES: u64 = 32 << 10;
/// Damaged words in one message.
const BATCH: u64 = 256;

fn run(run: &Run<'_>, tally: &mut Tally) -> Result<(), End> {
    let guard = run.place.guard("words")?;
    let mut create = CreateOptions::with_size(SIZE_BYTES);
    create.slots = Some(64);
    let wksp = Wksp::create(guard.domain(), guard.name(), &create).doing("making the workspace")?;
    let words = words(&Tables::of(&wksp).doing("looking at the tables")?)
        .doing("looking at the tables")?
        .len() as u64;
    drop(wksp);
    let domain = guard.domain().path().to_owned();
    let parameters = Parameters { domain, name: guard.name().to_string(), seed: run.seed, canary: false };
    let mut worker: Worker<Answer> = Worker::start(run, Role::Sweep, &parameters, None)?;
    let all = words * DAMAGES as u64;
    let amount =
        Amount { exact: None, quick: all, quick_time: Duration::from_secs(60), least: all, full: 10 * all };
    let begin = Instant::now();
    while run.goes_on(tally.iterations, begin, &amount)? {
        worker.send(&Order::Go(BATCH.min(all)))?;
        match worker.receive(run)? {
            Answer::Done(counts) => counts.iter().for_each(|(name, count)| tally.add(name, *count)),
            Answer::Wrong(what) => return Err(failed!("{what}")),
        }
        tally.iterations = tally.count("words_damaged");
    }
    tally.add("words", words);
    tally.require_some(&["words_damaged", "right_answers", "typed_errors"])
}

/// Every word that is swept: all that calls can meet, and the first joiners of the 256 there is room for.
fn words(tables: &Tables) -> std::io::Result<Vec<u64>> {
    let [fixed, lock, _, header, map, slots] = tables.parts()?;
    let parts: [Range<u64>; 6] = [fixed, lock, Tables::first_joiners(3), header, map, slots];
    Ok(parts.into_iter().flat_map(|part| part.step_by(8)).collect())
}

/// The role: goes on where the last order ended.
///
/// # Errors
/// Why it could not go on.
pub fn main(mut channel: Channel) -> Result<(), String> {
    let parameters: Parameters = channel.receive().map_err(text)?.ok_or("no parameters")?;
    let domain = Domain::open(&parameters.domain).map_err(text)?;
    let name: RegionName = parameters.name.parse().map_err(text)?;
    let mut wksp = Wksp::attach(&domain, &name).map_err(text)?;
    wksp.set_lock_timeout(Duration::from_micros(200));
    let tables = Tables::of(&wksp).map_err(text)?;
    let mut model = Model::new(wksp, domain, name, parameters.canary);
    let mut draw = Draw::new(parameters.seed, 0, 0);
    furnish(&mut model, &mut draw)?;
    let words = words(&tables).map_err(text)?;
    let mut cases = (0..).flat_map(|round| (0..DAMAGES).map(move |damage| (round, damage)));
    let mut case = cases.next();
    let mut next = 0;
    while let Some(order) = channel.receive().map_err(text)? {
        let mut counts = Counts::new();
        let Order::Go(count) = order else { return Ok(()) };
        let mut wrong = None;
        for _ in 0..count {
            if next == words.len() {
                (case, next) = (cases.next(), 0);
            }
            let Some((_, damage)) = case else { break };
            let done = one_word(&mut model, &tables, words[next], damage, &mut draw, &mut counts);
            if let Err(what) = done {
                wrong = Some(format!("word at {:#x}, damage {damage}: {what}", words[next]));
                break;
            }
            next += 1;
        }
        let answer = wrong.map_or(Answer::Done(counts), Answer::Wrong);
        channel.send(&answer).map_err(text)?;
    }
    Ok(())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Blocks and holes of several sizes, one over several pages, an idle slot.
fn furnish(model: &mut Model, draw: &mut Draw) -> Result<(), String> {
    for kind in [Kind::Alloc; 14].into_iter().chain([Kind::Free; 4]).chain([Kind::Alloc]) {
        if model.call(kind, draw)? != Judged::Right {
            return Err("a sound workspace refused a call".into());
        }
    }
    Ok(())
}

fn one_word(
    model: &mut Model,
    tables: &Tables,
    at: u64,
    damage: usize,
    draw: &mut Draw,
    counts: &mut Counts,
) -> Result<(), String> {
    let old = tables.read(at).map_err(text)?;
    let new = damaged(old, damage, draw);
    if new == old {
        *counts.entry("words_damaged".into()).or_default() += 1;
        *counts.entry("damages_without_effect".into()).or_default() += 1;
        return Ok(());
    }
    let [fixed, lock, joiners, header, map, slots] = tables.parts().map_err(text)?;
    let joiners = joiners.start..Tables::first_joiners(4).end;
    let sound: Vec<_> = [fixed, lock, joiners, header, map, slots]
        .into_iter()
        .map(|part| tables.save(part))
        .collect::<Result<_, _>>()
        .map_err(text)?;
    let remembered = model.remember();
    for kind in Kind::ALL {
        tables.write(at, new).map_err(text)?;
        let judged =
            model.call(kind, draw).map_err(|what| format!("{old:#x} became {new:#x}: {kind:?}: {what}"))?;
        let mut count = |name: &str| *counts.entry(name.to_owned()).or_default() += 1;
        match &judged {
            Judged::Right => {
                count("right_answers");
                // What it left is sound, or says that it is not.
                model
                    .call(Kind::Partitions, draw)
                    .map_err(|what| format!("{old:#x} became {new:#x}: after {kind:?}: {what}"))?;
            }
            Judged::Typed { name, .. } => {
                count("typed_errors");
                count(&format!("error_{name}"));
            }
        }
        sound.iter().try_for_each(|saved| tables.put_back(saved)).map_err(text)?;
        tables.wipe_beyond(&sound).map_err(text)?;
        model.go_back(&remembered)?;
    }
    *counts.entry("words_damaged".into()).or_default() += 1;
    Ok(())
}

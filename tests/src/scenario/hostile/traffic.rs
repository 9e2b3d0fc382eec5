//! The process that calls the workspace while it is damaged.

use std::time::Duration;

use outlast_wksp::{Domain, RegionName, Wksp};

use super::model::{Counts, Judged, Kind, Maybe, Model};
use super::words::Tables;
use super::{Answer, Order, Parameters};
use crate::draw::Draw;
use crate::worker::channel::Channel;

/// How long a call waits for the lock; an overwritten lock word may name somebody who is alive.
const LOCK_TIMEOUT: Duration = Duration::from_millis(5);

/// The role.
///
/// # Errors
/// Why it could not go on.
pub fn main(mut channel: Channel) -> Result<(), String> {
    let parameters: Parameters = channel.receive().map_err(text)?.ok_or("no parameters")?;
    let domain = Domain::open(&parameters.domain).map_err(text)?;
    let name: RegionName = parameters.name.parse().map_err(text)?;
    let mut wksp = Wksp::attach(&domain, &name).map_err(text)?;
    wksp.set_lock_timeout(LOCK_TIMEOUT);
    let tables = Tables::of(&wksp).map_err(text)?;
    let mut model = Model::new(wksp, domain, name, parameters.canary);
    let mut draw = Draw::new(parameters.seed, 0, 0);
    channel.send(&Answer::Done(Counts::new())).map_err(text)?;
    while let Some(order) = channel.receive().map_err(text)? {
        let mut counts = Counts::new();
        let done = match order {
            Order::Go(calls) => go(&mut model, &tables, &mut draw, calls, &mut counts),
            Order::Calm => calm(&mut model, &tables, &mut draw, &mut counts),
        };
        let answer = match done {
            Ok(()) => Answer::Done(counts),
            Err(wrong) => Answer::Wrong(wrong),
        };
        channel.send(&answer).map_err(text)?;
    }
    Ok(())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn go(
    model: &mut Model,
    tables: &Tables,
    draw: &mut Draw,
    calls: u64,
    counts: &mut Counts,
) -> Result<(), String> {
    for _ in 0..calls {
        let judged = model.call(Kind::random(draw), draw)?;
        let mut count = |name: String| *counts.entry(name).or_default() += 1;
        match judged {
            Judged::Right => count("right_answers".into()),
            Judged::Typed { name, maybe } => {
                count(format!("error_{name}"));
                count("typed_errors".into());
                // A join that fails says nothing about those who have joined.
                if !name.starts_with("attach") {
                    model.mend(&maybe, tables, draw, counts)?;
                }
            }
        }
    }
    Ok(())
}

/// Nobody damages any more: after one reset every answer is right.
fn calm(model: &mut Model, tables: &Tables, draw: &mut Draw, counts: &mut Counts) -> Result<(), String> {
    tables.write(Tables::LOCK, 0).map_err(text)?;
    // Reserved words are nobody's to mend.
    let reserved = [(4, 8), (13, 16), (20, 24), (34, 40), (680, 1024)];
    for word in reserved.into_iter().flat_map(|(first, end)| first..end) {
        tables.write(outlast_shm::USER_OFFSET + word * 8, 0).map_err(text)?;
    }
    match model.call(Kind::Reset, draw)? {
        Judged::Right => {}
        Judged::Typed { name, .. } => return Err(format!("a reset in peace is refused: {name}")),
    }
    for call in 0..2000 {
        let kind = Kind::random(draw);
        match model.call(kind, draw)? {
            Judged::Right => *counts.entry("right_answers_in_peace".into()).or_default() += 1,
            Judged::Typed { name, maybe } => {
                let found = model.wksp().verify().map(|report| report.faults);
                let changes = maybe != Maybe::Nothing;
                return Err(format!(
                    "call {call} in peace, {kind:?}: {name} (changes: {changes}); verify {found:?}"
                ));
            }
        }
    }
    if model.is_aligned() { Ok(()) } else { Err("a block is not aligned".into()) }
}

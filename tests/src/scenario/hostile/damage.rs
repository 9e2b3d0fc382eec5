//! The process that overwrites words, at random and at a random pace.

use std::ops::Range;
use std::time::{Duration, Instant};

use outlast_wksp::{Domain, RegionName, Wksp};

use super::model::Counts;
use super::words::{Tables, damaged};
use super::{Answer, Order, Parameters};
use crate::draw::Draw;
use crate::worker::channel::Channel;

/// A word is overwritten every so many microseconds on average: seldom enough for calls to succeed between.
const PAUSE_US: u64 = 200;

/// The role.
///
/// # Errors
/// Why it could not go on.
pub fn main(mut channel: Channel) -> Result<(), String> {
    let parameters: Parameters = channel.receive().map_err(text)?.ok_or("no parameters")?;
    let domain = Domain::open(&parameters.domain).map_err(text)?;
    let name: RegionName = parameters.name.parse().map_err(text)?;
    let wksp = Wksp::attach(&domain, &name).map_err(text)?;
    let tables = Tables::of(&wksp).map_err(text)?;
    let saved: Vec<_> = Tables::static_parts()
        .into_iter()
        .map(|part| tables.save(part))
        .collect::<Result<_, _>>()
        .map_err(text)?;
    let mut draw = Draw::new(parameters.seed, 0, 1);
    channel.send(&Answer::Done(Counts::new())).map_err(text)?;
    while let Some(order) = channel.receive().map_err(text)? {
        let mut counts = Counts::new();
        match order {
            Order::Go(count) => {
                for _ in 0..count {
                    let part = overwrite(&tables, &saved, &mut draw).map_err(text)?;
                    *counts.entry(format!("overwritten_{part}")).or_default() += 1;
                    *counts.entry("words_overwritten".into()).or_default() += 1;
                    pause(draw.below(2 * PAUSE_US));
                }
            }
            Order::Calm => saved.iter().try_for_each(|saved| tables.put_back(saved)).map_err(text)?,
        }
        channel.send(&Answer::Done(counts)).map_err(text)?;
    }
    Ok(())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn pause(micros: u64) {
    let (begin, pause) = (Instant::now(), Duration::from_micros(micros));
    while begin.elapsed() < pause {
        // The traffic may need this core.
        std::thread::yield_now();
    }
}

const PARTS: [&str; 6] = ["static", "lock", "joiners", "header", "page_map", "slots"];

/// Damages one word; says of which part.
fn overwrite(tables: &Tables, saved: &[(u64, Vec<u8>)], draw: &mut Draw) -> std::io::Result<&'static str> {
    let parts = tables.parts()?;
    // The parts that calls look at most are hit most.
    let index = draw.pick(&[0, 1, 2, 3, 3, 3, 4, 4, 5, 5, 5, 5]);
    let mut part: Range<u64> = parts[index].clone();
    match index {
        // Static words are put back as often as they are damaged, else nobody could join ever after.
        0 if draw.once_in(2) => {
            saved.iter().try_for_each(|saved| tables.put_back(saved))?;
            return Ok(PARTS[0]);
        }
        2 if !draw.once_in(4) => part = Tables::first_joiners(4),
        // The words before the 640 class heads are looked at more often than those.
        3 if !draw.once_in(3) => part.end = part.start + 48 * 8,
        _ => {}
    }
    let at = part.start + draw.below((part.end - part.start) / 8) * 8;
    let old = tables.read(at)?;
    let new = if draw.once_in(6) {
        let source = &parts[draw.index(parts.len())];
        tables.read(source.start + draw.below((source.end - source.start) / 8) * 8)?
    } else {
        let damage = draw.index(super::words::DAMAGES);
        damaged(old, damage, draw)
    };
    tables.write(at, new)?;
    Ok(PARTS[index])
}

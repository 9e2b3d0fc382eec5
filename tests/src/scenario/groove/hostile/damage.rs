//! The process that overwrites words, at random and at a random pace.

use std::io;
use std::time::{Duration, Instant};

use outlast_shm::Domain;

use super::ledger::Ledger;
use super::{Answer, Counts, Order, Parameters, VOLUME_BYTES, VOLUMES};
use crate::draw::Draw;
use crate::scenario::groove::page::{Page, Words};
use crate::scenario::hostile::words::{DAMAGES, damaged};
use crate::worker::channel::Channel;

/// A word is overwritten every so many microseconds on average.
const PAUSE_US: u64 = 100;
/// Words of the control header; where the seats begin; words of an entry and of a seat. docs/format/groove.md.
const CONTROL_WORDS: u64 = 16;
const SEATS: u64 = CONTROL_WORDS + 1024 * 8;
const LINE_WORDS: u64 = 8;
/// Entries and seats that are damaged.
const LINES: u64 = 3;
/// The parts of a volume, those that calls look at most several times.
const PARTS: [(usize, &str); 8] = [
    (0, "header"),
    (1, "superblocks"),
    (1, "superblocks"),
    (1, "superblocks"),
    (2, "bits"),
    (3, "descriptors"),
    (3, "descriptors"),
    (3, "descriptors"),
];

/// The role.
///
/// # Errors
/// Why it could not go on.
pub fn main(mut channel: Channel) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let parameters: Parameters = channel.receive().map_err(|error| text(&error))?.ok_or("no parameters")?;
    let domain = Domain::open(&parameters.domain).map_err(|error| text(&error))?;
    let name = parameters.ledger.parse().map_err(|error| text(&error))?;
    let ledger = Ledger::open(&domain, &name).map_err(|error| text(&error))?;
    let mut draw = Draw::new(parameters.seed, 0, 1);
    while let Some(order) = channel.receive::<Order>().map_err(|error| text(&error))? {
        let done =
            Files::open(&domain, &order.groove).and_then(|files| files.damage(&order, &ledger, &mut draw));
        let answer = done.map_or_else(|error| Answer::Wrong(format!("overwriting: {error}")), Answer::Done);
        channel.send(&answer).map_err(|error| text(&error))?;
    }
    Ok(())
}

struct Files {
    control: Words,
    volumes: Vec<Words>,
    page: Page,
}

impl Files {
    fn open(domain: &Domain, groove: &str) -> io::Result<Self> {
        let volume = |index| Words::open(domain, &format!("{groove}.v{index:04}"));
        Ok(Self {
            control: Words::open(domain, groove)?,
            volumes: (0..VOLUMES).map(volume).collect::<io::Result<_>>()?,
            page: Page::new(VOLUME_BYTES),
        })
    }

    fn damage(&self, order: &Order, ledger: &Ledger, draw: &mut Draw) -> io::Result<Counts> {
        let mut counts = Counts::new();
        for _ in 0..order.writes {
            let part = if order.control && draw.once_in(3) {
                self.damage_control(draw)?;
                "control"
            } else {
                self.damage_volume(ledger, draw)?
            };
            *counts.entry(format!("overwritten_{part}")).or_default() += 1;
            *counts.entry("words_overwritten".into()).or_default() += 1;
            pause(draw.below(2 * PAUSE_US));
        }
        Ok(counts)
    }

    fn damage_control(&self, draw: &mut Draw) -> io::Result<()> {
        let at = match draw.below(3) {
            0 => draw.below(CONTROL_WORDS),
            1 => CONTROL_WORDS + draw.below(LINES * LINE_WORDS),
            _ => SEATS + draw.below(LINES * LINE_WORDS),
        };
        let [old] = self.control.read(at)?;
        let damage = draw.index(DAMAGES);
        self.control.write(at, &[damaged(old, damage, draw)])
    }

    fn damage_volume(&self, ledger: &Ledger, draw: &mut Draw) -> io::Result<&'static str> {
        let volume = draw.index(VOLUMES);
        let words = &self.volumes[volume];
        let (part, name) = draw.pick(&PARTS);
        let at = self.word_of(part, draw);
        let [old] = words.read(at)?;
        let new = if draw.once_in(4) {
            // Plausible: it stands somewhere else.
            words.read::<1>(self.word_of(part, draw))?[0]
        } else {
            let damage = draw.index(DAMAGES);
            damaged(old, damage, draw)
        };
        ledger.enter(volume, at, || words.write(at, &[new]))?;
        Ok(name)
    }

    fn word_of(&self, part: usize, draw: &mut Draw) -> u64 {
        let (start, end) = self.page.parts()[part];
        match part {
            // The other seven words of a record are reserved.
            1 if !draw.once_in(8) => start + draw.below((end - start) / 8) * 8,
            // Where objects are most of the time.
            3 if draw.once_in(2) => start + draw.below((end - start) / 4),
            _ => start + draw.below(end - start),
        }
    }
}

fn pause(micros: u64) {
    let (begin, pause) = (Instant::now(), Duration::from_micros(micros));
    while begin.elapsed() < pause {
        // The traffic may need this core.
        std::thread::yield_now();
    }
}

//! The process that calls a groove while it is damaged, and judges every answer.
//!
//! # Invariants
//! - An object counts as *exact* as long as nobody has overwritten its descriptor since it was allocated; then what
//!   a call says of it must be true. It is looked up after the call has returned.

use outlast_groove::{AllocError, Groove, Joiner, ObjRef, ObjectInfo, RefError};
use outlast_shm::Domain;
use outlast_wksp::RegionName;

use super::ledger::Ledger;
use super::{Answer, Counts, Order, Parameters, VOLUME_BYTES};
use crate::draw::Draw;
use crate::scenario::groove::page::{BLOCK_BYTES, Page};
use crate::worker::channel::Channel;

/// Objects that are held at most.
const LIVE_MAX: usize = 96;
/// The largest of them.
const SIZE_MAX: u64 = 6000;

/// An object as the judge knows it.
#[derive(Debug, Clone, Copy)]
struct Known {
    reference: ObjRef,
    size_bytes: u64,
    align: u64,
    tag: u64,
    /// First word of its descriptor, and how often that was overwritten when it was allocated; `None` if it was at
    /// that moment.
    word: u64,
    counts: Option<[u64; 2]>,
}

struct Judge<'a> {
    groove: Groove,
    joiner: Joiner,
    ledger: &'a Ledger,
    page: Page,
    draw: &'a mut Draw,
    known: Vec<Known>,
    counts: Counts,
    order: Order,
    canary: bool,
}

type Verdict<T> = Result<T, String>;

/// The role.
///
/// # Errors
/// Why it could not go on.
pub fn main(mut channel: Channel) -> Result<(), String> {
    let parameters: Parameters = channel.receive().map_err(text)?.ok_or("no parameters")?;
    let domain = Domain::open(&parameters.domain).map_err(text)?;
    let name: RegionName = parameters.ledger.parse().map_err(text)?;
    let ledger = Ledger::open(&domain, &name).map_err(text)?;
    let mut draw = Draw::new(parameters.seed, 0, 0);
    while let Some(order) = channel.receive::<Order>().map_err(text)? {
        let mut judge = Judge::new(&domain, order, &ledger, &mut draw, parameters.canary)?;
        channel.send(&Answer::Done(Counts::new())).map_err(text)?;
        let done = judge.judge();
        let counts = std::mem::take(&mut judge.counts);
        // Nobody has joined when a rebuild is tried.
        drop(judge);
        let answer = done.map_or_else(Answer::Wrong, |()| Answer::Done(counts));
        channel.send(&answer).map_err(text)?;
    }
    Ok(())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl<'a> Judge<'a> {
    fn new(
        domain: &Domain,
        order: Order,
        ledger: &'a Ledger,
        draw: &'a mut Draw,
        canary: bool,
    ) -> Verdict<Self> {
        let name: RegionName = order.groove.parse().map_err(text)?;
        let groove = Groove::open(domain, &name).map_err(text)?;
        let joiner = groove.joiner().map_err(text)?;
        let page = Page::new(VOLUME_BYTES);
        let (known, counts) = (Vec::new(), Counts::new());
        Ok(Self { groove, joiner, ledger, page, draw, known, counts, order, canary })
    }

    fn judge(&mut self) -> Verdict<()> {
        while !self.ledger.is_over() {
            for _ in 0..16 {
                self.call()?;
            }
        }
        Ok(())
    }

    fn count(&mut self, name: &str) {
        *self.counts.entry(name.to_owned()).or_default() += 1;
    }

    fn typed(&mut self, kind: &str) {
        self.count("typed_errors");
        self.count(&format!("error_{kind}"));
    }

    fn call(&mut self) -> Verdict<()> {
        self.count("calls");
        match self.draw.below(100) {
            0..36 if self.known.len() < LIVE_MAX => self.alloc(),
            0..60 if !self.known.is_empty() => self.free(),
            60..80 if !self.known.is_empty() => self.info(),
            80..92 if !self.known.is_empty() => self.bytes(),
            92..96 => self.anything(),
            96..98 => self.list(),
            98 => self.whole(),
            _ => Ok(()),
        }
    }

    /// Whether nobody has overwritten what is known of an object from.
    fn is_exact(&self, known: &Known) -> bool {
        let now = self.ledger.of_descriptor(known.reference.volume(), known.word);
        now.is_some() && now == known.counts
    }

    fn is_right(known: &Known, found: &ObjectInfo) -> bool {
        (found.reference, found.size_bytes, found.align, found.tag)
            == (known.reference, known.size_bytes, known.align, known.tag)
    }

    fn alloc(&mut self) -> Verdict<()> {
        let (size_bytes, tag) = (self.draw.below(SIZE_MAX), self.draw.word());
        let align = 1 << self.draw.below(10);
        let reference = match self.joiner.alloc(size_bytes, align, tag) {
            Ok(reference) => reference,
            Err(AllocError::Full { .. }) => {
                self.typed("full");
                return Ok(());
            }
            Err(AllocError::Access(_)) => {
                self.typed("alloc_access");
                return Ok(());
            }
            Err(other) => return Err(format!("alloc of {size_bytes} bytes at {align}: {other}")),
        };
        let twice = self.known.iter().find(|known| known.reference.block() == reference.block());
        if let Some(twice) = twice.filter(|twice| self.is_exact(twice)) {
            return Err(format!("{reference} was given out while {twice:?} is there"));
        }
        self.known.retain(|known| known.reference.block() != reference.block());
        let (root, offset) = (reference.block() >> 16 & 0x3f, reference.block() & 0xffff);
        let word = self.page.descriptor(root, offset);
        let counts = self.ledger.of_descriptor(reference.volume(), word);
        let mut known = Known { reference, size_bytes, align, tag, word, counts };
        match self.joiner.info(reference) {
            Ok(found) if Self::is_right(&known, &found) => self.count("exact_objects"),
            // It may have been overwritten between its allocation and the first look at the ledger.
            _ => known.counts = None,
        }
        if self.canary && self.known.len() == LIVE_MAX / 2 {
            known.tag ^= 1;
        }
        let bytes = vec![tag as u8; size_bytes as usize];
        // Right or a typed error; what it has come to is seen when it is read.
        let _ = self.joiner.write(reference, 0, &bytes);
        self.known.push(known);
        self.count("right_answers");
        Ok(())
    }

    fn free(&mut self) -> Verdict<()> {
        let known = self.known.swap_remove(self.draw.index(self.known.len()));
        if let Err(error) = self.joiner.free(known.reference) {
            self.typed(kind(&error));
            return Ok(());
        }
        let again = self.joiner.free(known.reference);
        match again {
            Ok(()) if self.is_exact(&known) => return Err(format!("{known:?} was freed twice")),
            Ok(()) => self.count("unjudged"),
            Err(RefError::Range { .. } | RefError::Null) => {
                return Err(format!("{known:?} again: {again:?}"));
            }
            Err(_) => self.count("right_answers"),
        }
        Ok(())
    }

    fn info(&mut self) -> Verdict<()> {
        let known = self.known[self.draw.index(self.known.len())];
        match self.joiner.info(known.reference) {
            Ok(found) => match (Self::is_right(&known, &found), self.is_exact(&known)) {
                (true, _) => self.count("right_answers"),
                (false, false) => self.count("unjudged"),
                (false, true) => return Err(format!("{found:?} is said of {known:?}")),
            },
            Err(error) => self.refused(&known, &error)?,
        }
        Ok(())
    }

    /// An object that is there is not said to be gone, unless its volume may be.
    fn refused(&mut self, known: &Known, error: &RefError) -> Verdict<()> {
        let is_access = matches!(error, RefError::Access(_));
        if !is_access && !self.order.control && self.is_exact(known) {
            return Err(format!("{known:?} is said to be gone: {error}"));
        }
        self.typed(kind(error));
        Ok(())
    }

    fn bytes(&mut self) -> Verdict<()> {
        let known = self.known[self.draw.index(self.known.len())];
        let start = self.draw.below(known.size_bytes + 1);
        let len = self.draw.below(known.size_bytes - start + 1);
        let mut bytes = vec![0; len as usize];
        match self.joiner.read(known.reference, start, &mut bytes) {
            Ok(()) if bytes.iter().all(|byte| *byte == known.tag as u8) => self.count("right_answers"),
            // Superblocks that were overwritten give bytes out twice.
            Ok(()) => self.count("payload_overwritten"),
            Err(RefError::Range { .. }) if self.is_exact(&known) => {
                return Err(format!("bytes {start} to {} are said not to be of {known:?}", start + len));
            }
            Err(RefError::Range { .. }) => self.typed("range"),
            Err(error) => self.refused(&known, &error)?,
        }
        Ok(())
    }

    /// Any number as a reference, in every call: an answer of some sort.
    fn anything(&mut self) -> Verdict<()> {
        let bits = match self.draw.below(3) {
            0 => self.draw.word(),
            // A small generation of a block that there is.
            _ => {
                self.draw.below(4) << 32
                    | self.draw.below(2) << 22
                    | self.draw.below(51) << 16
                    | self.draw.below(40)
            }
        };
        let reference = ObjRef::from_bits(bits);
        if self.known.iter().any(|known| known.reference == reference) {
            return Ok(());
        }
        let mut byte = [0];
        let answers = [
            self.joiner.info(reference).err(),
            self.joiner.read(reference, 0, &mut byte).err(),
            self.joiner.read_reserved(reference, BLOCK_BYTES, &mut byte).err(),
            self.joiner.free(reference).err(),
        ];
        answers.iter().flatten().for_each(|error| self.typed(kind(error)));
        Ok(())
    }

    fn list(&mut self) -> Verdict<()> {
        let tag = self.known.first().filter(|_| self.draw.once_in(2)).map(|known| known.tag);
        let Ok(found) = self.joiner.objects(tag) else {
            self.typed("list_access");
            return Ok(());
        };
        for known in &self.known {
            let is_asked_for = tag.is_none_or(|tag| tag == known.tag) && !self.order.control;
            let is_there = found.iter().any(|found| Self::is_right(known, found));
            if is_asked_for && !is_there && self.is_exact(known) {
                return Err(format!("{known:?} is not among {} objects", found.len()));
            }
        }
        self.count("right_answers");
        Ok(())
    }

    fn whole(&mut self) -> Verdict<()> {
        let answers = [
            self.groove.verify_softly().is_ok(),
            self.groove.verify().is_ok(),
            self.groove.volumes().is_ok(),
            self.joiner.trim().is_ok(),
        ];
        for is_answer in answers {
            if is_answer {
                self.count("whole_looks");
            } else {
                self.typed("whole_access");
            }
        }
        Ok(())
    }
}

fn kind(error: &RefError) -> &'static str {
    match error {
        RefError::Null => "null",
        RefError::Foreign { .. } => "foreign",
        RefError::NeverAllocated { .. } => "never_allocated",
        RefError::Interior { .. } => "interior",
        RefError::AlreadyFreed { .. } => "already_freed",
        RefError::Stale { .. } => "stale",
        RefError::Range { .. } => "range",
        RefError::Access(_) => "access",
        _ => "other",
    }
}

//! Which sets of allocations an image may recover to, and whether it does.
//!
//! # Invariants
//! - An image is judged through the public calls of a process that joins it: no table is read directly.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use outlast_wksp::{AllocError, FreeError, Gaddr, Wksp};

use super::cases::Case;
use super::image;
use super::operation::Outcome;

/// One allocation, with what makes its block exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Bytes asked for.
    pub size: u64,
    /// Its tag.
    pub tag: u64,
    /// Its slot.
    pub slot: u32,
    /// Its stamp.
    pub stamp: u64,
}

/// The allocations of a workspace by gaddr.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State(BTreeMap<u64, Held>);

impl State {
    /// Asks `wksp`.
    ///
    /// # Errors
    /// A text: it cannot say, or its list and its lookups differ.
    pub fn of(wksp: &Wksp) -> Result<Self, String> {
        let listed = wksp.partitions().map_err(|error| format!("partitions: {error}"))?;
        let mut state = Self::default();
        for partition in listed {
            let gaddr = partition.gaddr.get();
            let last =
                partition.gaddr.checked_add(partition.size_bytes - 1).ok_or("a partition ends nowhere")?;
            let (first, last) = (block_at(wksp, partition.gaddr)?, block_at(wksp, last)?);
            if first != last || first.0 != gaddr {
                return Err(format!("lookup in the partition at gaddr {gaddr} finds {first:?} and {last:?}"));
            }
            let held = Held { size: partition.size_bytes, tag: partition.tag, slot: first.1, stamp: first.2 };
            state.insert(gaddr, held)?;
        }
        Ok(state)
    }

    /// Adds an allocation.
    ///
    /// # Errors
    /// A text: it overlaps another one.
    pub fn insert(&mut self, gaddr: u64, held: Held) -> Result<(), String> {
        let below = self.0.range(..gaddr + held.size).next_back();
        if let Some((at, other)) = below.filter(|(at, other)| gaddr < **at + other.size) {
            return Err(format!("{} bytes at {gaddr} overlap {} bytes at {at}", held.size, other.size));
        }
        self.0.insert(gaddr, held);
        Ok(())
    }

    /// Removes the allocation that holds the byte at `gaddr`.
    ///
    /// # Errors
    /// A text: there is none.
    pub fn remove_at(&mut self, gaddr: u64) -> Result<(), String> {
        let found = self.0.range(..=gaddr).next_back().filter(|(at, held)| gaddr - **at < held.size);
        let at = *found.ok_or(format!("nothing is allocated at gaddr {gaddr}"))?.0;
        self.0.remove(&at);
        Ok(())
    }

    /// Removes what `keep` says no to.
    pub fn retain(&mut self, keep: impl Fn(&Held) -> bool) {
        self.0.retain(|_, held| keep(held));
    }

    /// How many allocations are in one of the two and not the same in the other.
    fn distance(&self, other: &Self) -> usize {
        let missing = |a: &Self, b: &Self| a.0.iter().filter(|(at, held)| b.0.get(at) != Some(held)).count();
        missing(self, other) + missing(other, self)
    }

    fn is_subset(&self, of: &Self) -> bool {
        self.0.iter().all(|(at, held)| of.0.get(at) == Some(held))
    }

    /// The first few differences, for messages.
    fn difference(&self, expected: &Self) -> String {
        let side = |a: &Self, b: &Self, what: &str| {
            let found = a.0.iter().filter(|(at, held)| b.0.get(at) != Some(held));
            found.take(3).map(|(at, held)| format!("{what} {held:?} at {at}")).collect::<Vec<_>>()
        };
        let mut all = side(self, expected, "unexpected");
        all.extend(side(expected, self, "missing"));
        all.join("; ")
    }
}

fn block_at(wksp: &Wksp, gaddr: Gaddr) -> Result<(u64, u32, u64), String> {
    let block = wksp.block_at(gaddr).map_err(|error| format!("block_at {gaddr}: {error}"))?;
    Ok(block.ok_or(format!("gaddr {gaddr} is listed and not found"))?.to_parts())
}

/// Tag of the allocation that tries whether a recovered workspace works.
const PROBE_TAG: u64 = 0x5eed_0fa1_10c8;

/// The file that images are put in to be joined; one is enough, since they are looked at one after the other.
#[derive(Debug)]
pub struct Sheet(File);

impl Sheet {
    /// An empty one.
    ///
    /// # Errors
    /// A text.
    pub fn new() -> Result<Self, String> {
        image::nameless(&[]).map(Self).map_err(|error| format!("memfd: {error}"))
    }

    /// The sheet with `image` on it and nothing else.
    ///
    /// # Errors
    /// A text.
    pub fn load(&self, image: &[u8]) -> Result<&File, String> {
        let put = || {
            self.0.set_len(image.len() as u64)?;
            self.0.write_all_at(image, 0)
        };
        put().map(|()| &self.0).map_err(|error| format!("writing an image: {error}"))
    }

    /// Joins `image`, lets an ordinary call recover it, and checks that it is sound and works.
    ///
    /// # Errors
    /// A text: what does not work.
    pub fn survey(&self, image: &[u8]) -> Result<State, String> {
        let fd = image::descriptor(self.load(image)?).map_err(|error| format!("dup: {error}"))?;
        let wksp = Wksp::from_fd(fd).map_err(|error| format!("a newcomer cannot join: {error}"))?;
        let state = State::of(&wksp)?;
        sound(&wksp, "after recovery")?;
        try_out(&wksp, &state)?;
        sound(&wksp, "after an allocation and a free")?;
        let again = State::of(&wksp)?;
        if again != state {
            return Err(format!("an allocation and a free changed others: {}", again.difference(&state)));
        }
        Ok(state)
    }
}

fn sound(wksp: &Wksp, when: &str) -> Result<(), String> {
    let report = wksp.verify().map_err(|error| format!("verify {when}: {error}"))?;
    match report.faults.first() {
        None => Ok(()),
        Some(fault) => Err(format!("{} faults {when}, the first: {fault}", report.faults.len())),
    }
}

/// Allocates and frees once; a full workspace may refuse.
fn try_out(wksp: &Wksp, state: &State) -> Result<(), String> {
    let block = match wksp.alloc(100, 64, PROBE_TAG) {
        Ok(block) => block,
        Err(AllocError::NoSpace { largest_bytes, .. }) if largest_bytes < 100 => return Ok(()),
        Err(error) => return Err(format!("alloc after recovery: {error}")),
    };
    let (gaddr, slot, stamp) = block.to_parts();
    state.clone().insert(gaddr, Held { size: 100, tag: PROBE_TAG, slot, stamp })?;
    if wksp.tag(block.gaddr()).map_err(|error| format!("tag after recovery: {error}"))? != Some(PROBE_TAG) {
        return Err("a new allocation's tag is not found".to_owned());
    }
    wksp.free(block).map_err(|error| format!("free after recovery: {error}"))?;
    match wksp.free(block) {
        Err(FreeError::Stale { .. }) => Ok(()),
        other => Err(format!("a second free says {other:?}")),
    }
}

/// What the images of one case may be.
#[derive(Debug)]
pub struct Oracle {
    before: State,
    after: State,
    partial: bool,
    outcome: Outcome,
    sheet: Sheet,
    /// How far from `before` the last image was.
    distance: usize,
    last: Option<State>,
    counts: [u64; 3],
}

impl Oracle {
    /// Makes the call once on a copy, in this process, and compares what it did with the call's model.
    ///
    /// # Errors
    /// A text: the call itself does the wrong thing.
    pub fn dry_run(case: &Case, sheet: Sheet) -> Result<Self, String> {
        let before = sheet.survey(&case.base)?;
        let fd = image::descriptor(sheet.load(&case.base)?).map_err(|error| format!("dup: {error}"))?;
        let prepared = case.operation.prepare(fd)?;
        let (outcome, wksp) = case.operation.perform(prepared)?;
        drop(wksp);
        let after = case.operation.model(&before, outcome)?;
        let file = image::bytes_of(&sheet.0).map_err(|error| format!("reading back: {error}"))?;
        let found = sheet.survey(&file)?;
        if found != after {
            return Err(format!("the dry run does the wrong thing: {}", found.difference(&after)));
        }
        let partial = case.operation.is_partial();
        Ok(Self { before, after, partial, outcome, sheet, distance: 0, last: None, counts: [0; 3] })
    }

    /// What the call returned in the dry run.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Judges the next image.
    ///
    /// # Errors
    /// A text: what is wrong with it.
    pub fn judge(&mut self, image: &[u8]) -> Result<(), String> {
        let state = self.sheet.survey(image)?;
        let partly = self.partial && self.after.is_subset(&state) && state.is_subset(&self.before);
        let kind = match () {
            () if state == self.before => 0,
            () if state == self.after => 1,
            () if partly => 2,
            () => {
                let (old, new) = (state.difference(&self.before), state.difference(&self.after));
                return Err(format!("neither before ({old}) nor after ({new})"));
            }
        };
        let distance = state.distance(&self.before);
        if distance < self.distance {
            return Err(format!("{} changes of an earlier image are undone", self.distance - distance));
        }
        if self.last.is_none() && state != self.before {
            return Err(format!(
                "the call has happened before its first store: {}",
                state.difference(&self.before)
            ));
        }
        self.distance = distance;
        self.counts[kind] += 1;
        self.last = Some(state);
        Ok(())
    }

    /// After the last image: the call has returned, so it must have happened.
    ///
    /// # Errors
    /// A text: it has not.
    pub fn finish(&self) -> Result<(), String> {
        match &self.last {
            Some(last) if *last == self.after => Ok(()),
            Some(last) => Err(format!("the call returned and is lost: {}", last.difference(&self.after))),
            None => Err("no image was judged".to_owned()),
        }
    }

    /// Images in which the call had not happened.
    pub fn before_count(&self) -> u64 {
        self.counts[0]
    }

    /// Images in which it had; 0 if it changes no allocation.
    pub fn after_count(&self) -> u64 {
        self.counts[1]
    }

    /// Images in which a part of it had.
    pub fn partial_count(&self) -> u64 {
        self.counts[2]
    }
}

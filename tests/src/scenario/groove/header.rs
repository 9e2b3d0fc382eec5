//! `groove/header`: random descriptors, packed and unpacked by the crate and by the format page; the class of what
//! each slot holds; the superblock of each object.
//!
//! # Invariants
//! - Whatever the crate stores is read as the page says, and whatever is stored as the page says is read back by
//!   the crate.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use outlast_groove::{AllocError, Joiner, ObjRef, ObjectInfo, RefError};

use super::page::{BLOCK_BYTES, Object, Page, Words};
use crate::draw::Draw;
use crate::end::{Doing, End, require};
use crate::failed;
use crate::report::Tally;
use crate::run::{Amount, Run};
use crate::scenario::Scenario;

/// The registry's entry.
pub const SCENARIO: Scenario = Scenario {
    name: "groove/header",
    about: "random descriptors pack and unpack as the format page says; classes; superblocks of objects",
    unit: "descriptors",
    needs_probes: false,
    cpus: 1,
    memory_bytes: 5 << 28,
    sample: (2000, &[]),
    options: None,
    run,
};

/// Bytes of the volume where there is room for it: one with every class.
const VOLUME_BYTES: u64 = 1 << 30;
/// Objects that are there at a time.
const LIVE_MAX: usize = 64;
/// How often the clock and Ctrl-C are looked at.
const CHUNK: u64 = 1 << 10;

struct Volume {
    joiner: Joiner,
    page: Page,
    words: Words,
    draw: Draw,
    live: VecDeque<ObjRef>,
}

fn run(run: &Run<'_>, tally: &mut Tally) -> Result<(), End> {
    let size = super::volume_bytes(run, 1, VOLUME_BYTES, tally)?;
    let guard = run.place.groove_guard("header")?;
    let groove = super::create(&guard, size)?;
    groove.add_volume(b"").doing("adding a volume")?;
    let words =
        Words::open(guard.domain(), &format!("{}.v0000", guard.name())).doing("opening the volume")?;
    let joiner = groove.joiner().doing("joining")?;
    let page = Page::new(size);
    let draw = Draw::new(run.seed, 0, 0);
    let mut volume = Volume { joiner, page, words, draw, live: VecDeque::new() };
    let quick_time = Duration::from_secs(10);
    let amount = Amount { exact: None, quick: 200_000, quick_time, least: 1000, full: 10_000_000 };
    let begin = Instant::now();
    loop {
        let looks = tally.iterations.is_multiple_of(CHUNK) || run.iterations.is_some();
        if looks && !run.goes_on(tally.iterations, begin, &amount)? {
            break;
        }
        volume.step(tally).map_err(|end| failed!("descriptor {}: {end}", tally.iterations))?;
        tally.iterations += 1;
    }
    while let Some(object) = volume.live.pop_front() {
        volume.free(object)?;
    }
    super::verify(&groove, 0, "at the end")?;
    tally.require_some(&["packed", "unpacked", "superblocks", "stale_references", "largest_of_a_class"])
}

impl Volume {
    fn step(&mut self, tally: &mut Tally) -> Result<(), End> {
        let class = self.draw.index(self.page.classes.len());
        let size = self.size(class, tally);
        let align = self.draw.pick(&[0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
        let tag = self.draw.word();
        let reference = self.alloc(size, align, tag, tally)?;
        let info = self.joiner.info(reference).doing("asking for an object")?;
        let align = if align == 0 { 16 } else { align };
        let generation = reference.generation();
        let object = Object { generation, size_bytes: size as u32, align, tag };
        self.check(&info, &object, class)?;
        let at = self.superblock(&info, class)?;
        tally.add("superblocks", 1);
        let found = Object::unpack(self.words.read(at).doing("reading a descriptor")?);
        require(found == Some(object), || format!("the words at {at} say {found:?}, stored was {object:?}"))?;
        tally.add("unpacked", 1);
        let again = self.overwrite(at, &info, class, tally)?;
        self.live.push_back(again);
        if LIVE_MAX < self.live.len()
            && let Some(oldest) = self.live.pop_front()
        {
            self.free(oldest)?;
        }
        Ok(())
    }

    /// A size of a class, its smallest and its largest as often as all others.
    fn size(&mut self, class: usize, tally: &mut Tally) -> u64 {
        let bytes = |class: usize| u64::from(self.page.classes[class].blocks) * BLOCK_BYTES;
        let (low, high) = (if class == 0 { 0 } else { bytes(class - 1) + 1 }, bytes(class));
        match self.draw.below(4) {
            0 => low,
            1 => {
                tally.add("largest_of_a_class", 1);
                high
            }
            _ => low + self.draw.below(high - low + 1),
        }
    }

    fn alloc(&mut self, size: u64, align: u64, tag: u64, tally: &mut Tally) -> Result<ObjRef, End> {
        loop {
            match self.joiner.alloc(size, align, tag) {
                Ok(reference) => return Ok(reference),
                Err(AllocError::Full { .. }) if !self.live.is_empty() => {
                    tally.add("full", 1);
                    let oldest = self.live.pop_front().unwrap_or_default();
                    self.free(oldest)?;
                }
                Err(error) => return Err(error).doing("allocating"),
            }
        }
    }

    fn check(&self, info: &ObjectInfo, object: &Object, class: usize) -> Result<(), End> {
        let found = Object {
            generation: info.reference.generation(),
            size_bytes: info.size_bytes as u32,
            align: info.align,
            tag: info.tag,
        };
        let reserved = u64::from(self.page.classes[class].blocks) * BLOCK_BYTES;
        require(found == *object, || format!("{info:?}, expected {object:?}"))?;
        let fits = info.class == class && info.stop - info.start == reserved;
        require(fits, || format!("{info:?}, expected class {class} with slots of {reserved} bytes"))?;
        require(info.start.is_multiple_of(info.align), || format!("{info:?} is not aligned"))
    }

    /// Finds the superblock of an object, and returns the word of the object's descriptor.
    fn superblock(&self, info: &ObjectInfo, class: usize) -> Result<u64, End> {
        let Page { root_blocks, classes, .. } = &self.page;
        let of = classes[class];
        let block = (info.start / BLOCK_BYTES) as u32;
        let (root, offset) = (block / root_blocks, block % root_blocks);
        let named = (info.reference.block() >> 16 & 0x3f, info.reference.block() & 0xffff);
        require(named == (root, offset), || format!("{info:?} is named as block {named:?}"))?;
        let first = offset / of.superblock_blocks * of.superblock_blocks;
        let places = first + info.slot * of.blocks == offset
            && (info.slot + 1) * of.blocks <= of.superblock_blocks
            && first + of.superblock_blocks <= *root_blocks;
        require(places, || format!("{info:?} is not in a superblock of {of:?} at {first}"))?;
        let [word] =
            self.words.read(self.page.superblock(of.level, root, first)).doing("reading a superblock")?;
        let right = word >> 58 == class as u64 + 1 && word >> info.slot & 1 == 0;
        require(right, || format!("the superblock of {info:?} has the word {word:#x}"))?;
        Ok(self.page.descriptor(root, offset))
    }

    /// Stores another object in the place of one, as the page says, and asks the crate for it.
    fn overwrite(
        &mut self,
        at: u64,
        info: &ObjectInfo,
        class: usize,
        tally: &mut Tally,
    ) -> Result<ObjRef, End> {
        let size = self.size(class, tally);
        let generation = 1 + self.draw.below(u64::from(u32::MAX) - 1) as u32;
        let (align, tag) = (1 << self.draw.below(10), self.draw.word());
        let object = Object { generation, size_bytes: size as u32, align, tag };
        self.words.write(at, &object.pack()).doing("writing a descriptor")?;
        let block = u64::from(info.reference.block());
        let reference = ObjRef::from_bits(u64::from(generation) << 32 | block);
        let found = self.joiner.info(reference).doing("asking for an object that was written")?;
        self.check(&found, &object, class)?;
        tally.add("packed", 1);
        match (self.joiner.info(info.reference), info.reference.generation().cmp(&generation)) {
            (Err(RefError::Stale { .. }), std::cmp::Ordering::Less) => tally.add("stale_references", 1),
            (Err(RefError::NeverAllocated { .. }), std::cmp::Ordering::Greater)
            | (Ok(_), std::cmp::Ordering::Equal) => {}
            (other, _) => return Err(failed!("{} of generation {generation} is {other:?}", info.reference)),
        }
        Ok(reference)
    }

    fn free(&self, object: ObjRef) -> Result<(), End> {
        self.joiner.free(object).doing("freeing")?;
        match self.joiner.free(object) {
            Err(RefError::AlreadyFreed { .. }) => Ok(()),
            other => Err(failed!("a second free of {object} gave {other:?}")),
        }
    }
}

//! `wksp/user_model`: the classic user test. Random calls against a model that knows every block and byte: at most
//! 256 live blocks of 1 to 128 bytes under four tags; `verify` and the sums of `usage` every 8,388,608 steps.
//!
//! # Invariants
//! - Every answer is compared; nothing is tolerated but what the model says.

use std::time::{Duration, Instant};

use outlast_wksp::{Block, CreateOptions, FreeError, Gaddr, Wksp};

use super::Scenario;
use crate::draw::Draw;
use crate::end::{Doing, End, require};
use crate::failed;
use crate::report::Tally;
use crate::run::{Amount, Run};

/// The registry's entry.
pub const SCENARIO: Scenario = Scenario {
    name: "wksp/user_model",
    about: "random calls of one process against a model of every block and byte",
    unit: "steps",
    needs_probes: false,
    cpus: 1,
    memory_bytes: 64 << 20,
    sample: (50_000, &[]),
    options: None,
    run,
};

/// Bytes of the workspace: more than can be live at a time.
const SIZE_BYTES: u64 = 64 << 10;
/// Live blocks at most.
const LIVE_MAX: usize = 256;
/// Once in so many steps: free by tags, reset or rebuild.
const RARE: u64 = 1 << 20;
/// Everything is looked at once in so many steps.
const WHOLE: u64 = 1 << 23;
/// How often the clock and Ctrl-C are looked at.
const CHUNK: u64 = 1 << 14;

struct Live {
    block: Block,
    fill: u8,
}

struct Model {
    wksp: Wksp,
    draw: Draw,
    tags: [u64; 4],
    live: Vec<Live>,
}

fn run(run: &Run<'_>, tally: &mut Tally) -> Result<(), End> {
    let mut model = Model::new(run.seed)?;
    let quick_time = Duration::from_secs(60);
    let amount = Amount { exact: None, quick: 200_000, quick_time, least: 200_000, full: 20_000_000 };
    let begin = Instant::now();
    loop {
        // The clock is dearer than a step.
        if (tally.iterations.is_multiple_of(CHUNK) || run.deadline.is_none())
            && !run.goes_on(tally.iterations, begin, &amount)?
        {
            break;
        }
        let step = tally.iterations;
        model.step(tally).map_err(|end| failed!("step {step}: {end}"))?;
        tally.iterations += 1;
        if tally.iterations.is_multiple_of(WHOLE) {
            model.whole(tally)?;
        }
    }
    for which in 0..3 {
        model.rare(which, tally)?;
        model.whole(tally)?;
    }
    tally.require_some(&["allocs", "frees", "memsets", "whole_checks"])
}

impl Model {
    fn new(seed: u64) -> Result<Self, End> {
        let wksp = Wksp::anonymous(&CreateOptions::with_size(SIZE_BYTES)).doing("making the workspace")?;
        let mut draw = Draw::new(seed, 0, 0);
        let tags = core::array::from_fn(|_| draw.word() | 1);
        Ok(Self { wksp, draw, tags, live: Vec::new() })
    }

    fn step(&mut self, tally: &mut Tally) -> Result<(), End> {
        if self.draw.once_in(RARE) {
            let which = self.draw.below(3);
            self.rare(which, tally)?;
        }
        self.random_tag()?;
        match self.draw.below(4) {
            0 | 1 if self.live.len() < LIVE_MAX => {
                tally.add("allocs", 1);
                self.alloc()
            }
            2 if !self.live.is_empty() => {
                tally.add("frees", 1);
                self.free()
            }
            3 if !self.live.is_empty() => {
                tally.add("memsets", 1);
                self.memset()
            }
            _ => Ok(()),
        }
    }

    /// The tag of a random address is that of the block there, or none.
    fn random_tag(&mut self) -> Result<(), End> {
        let Some(gaddr) = Gaddr::new(self.draw.below(self.wksp.data_bytes())) else { return Ok(()) };
        let holds = |live: &&Live| {
            let start = live.block.gaddr().get();
            (start..start + live.block.size_bytes()).contains(&gaddr.get())
        };
        let expected = self.live.iter().find(holds).map(|live| live.block.tag());
        let found = self.wksp.tag(gaddr).doing("asking for a tag")?;
        require(found == expected, || format!("the tag at {gaddr} is {found:?}, expected {expected:?}"))
    }

    fn alloc(&mut self) -> Result<(), End> {
        let size = 1 + self.draw.below(128);
        let (align, tag) = (1 << self.draw.below(4), self.draw.pick(&self.tags));
        let block = self.wksp.alloc(size, align, tag).doing("allocating")?;
        let (start, end) = (block.gaddr().get(), block.gaddr().get() + size);
        let sane = start.is_multiple_of(align) && end <= self.wksp.data_bytes() && block.size_bytes() == size;
        require(sane, || format!("asked for {size} bytes at {align}, got {block:?}"))?;
        for other in &self.live {
            let (low, high) =
                (other.block.gaddr().get(), other.block.gaddr().get() + other.block.size_bytes());
            require(end <= low || high <= start, || format!("{block:?} overlaps {:?}", other.block))?;
        }
        let fill = self.draw.word() as u8;
        self.wksp.memset(block.gaddr(), fill).doing("filling")?;
        self.live.push(Live { block, fill });
        Ok(())
    }

    fn free(&mut self) -> Result<(), End> {
        let index = self.draw.index(self.live.len());
        let victim = self.live.swap_remove(index);
        self.check(&victim)?;
        if self.draw.once_in(2) {
            let inside = self.draw.below(victim.block.size_bytes());
            let gaddr =
                victim.block.gaddr().checked_add(inside).ok_or_else(|| failed!("an address beyond 2^64"))?;
            self.wksp.free_at(gaddr).doing("freeing by address")?;
        } else {
            self.wksp.free(victim.block).doing("freeing")?;
        }
        match self.wksp.free(victim.block) {
            Err(FreeError::Stale { .. }) => Ok(()),
            other => Err(failed!("a second free of {:?} gave {other:?}", victim.block)),
        }
    }

    fn memset(&mut self) -> Result<(), End> {
        let index = self.draw.index(self.live.len());
        self.check(&self.live[index])?;
        let (block, fill) = (self.live[index].block, self.draw.word() as u8);
        let inside = self.draw.below(block.size_bytes());
        let gaddr = block.gaddr().checked_add(inside).ok_or_else(|| failed!("an address beyond 2^64"))?;
        let filled = self.wksp.memset(gaddr, fill).doing("filling")?;
        self.live[index].fill = fill;
        require(filled == block.size_bytes(), || format!("filled {filled} bytes of {block:?}"))
    }

    fn check(&self, live: &Live) -> Result<(), End> {
        let mut bytes = [0; 128];
        let bytes = &mut bytes[..live.block.size_bytes() as usize];
        self.wksp.read(live.block.gaddr().get(), bytes).doing("reading")?;
        let wrong = bytes.iter().find(|byte| **byte != live.fill);
        require(wrong.is_none(), || format!("{:?} holds {wrong:?}, expected {}", live.block, live.fill))
    }

    fn rare(&mut self, which: u64, tally: &mut Tally) -> Result<(), End> {
        match which {
            0 => {
                let count = 1 + self.draw.index(4);
                let tags = self.tags[..count].to_vec();
                let (before, bytes) = (self.live.len(), self.bytes_of(&tags));
                self.live.retain(|live| !tags.contains(&live.block.tag()));
                let expected = ((before - self.live.len()) as u64, bytes);
                let freed = self.wksp.tag_free(&tags).doing("freeing by tag")?;
                require(freed == expected, || format!("tag_free freed {freed:?}, expected {expected:?}"))?;
                tally.add("tag_frees", 1);
            }
            1 => {
                self.wksp.reset(self.draw.half()).doing("resetting")?;
                self.live.clear();
                tally.add("resets", 1);
            }
            _ => {
                self.wksp.rebuild(self.draw.half()).doing("rebuilding")?;
                tally.add("rebuilds", 1);
            }
        }
        Ok(())
    }

    fn bytes_of(&self, tags: &[u64]) -> u64 {
        let of_tags = self.live.iter().filter(|live| tags.contains(&live.block.tag()));
        of_tags.map(|live| live.block.size_bytes()).sum()
    }

    fn whole(&self, tally: &mut Tally) -> Result<(), End> {
        let report = self.wksp.verify().doing("verifying")?;
        require(report.is_sound(), || format!("verify found {:?}", report.faults))?;
        let usage = self.wksp.usage(&self.tags).doing("asking for the usage")?;
        let (count, bytes) = (self.live.len() as u64, self.bytes_of(&self.tags));
        let right = (usage.used_count, usage.used_bytes) == (count, bytes)
            && (usage.matched_count, usage.matched_bytes) == (count, bytes);
        require(right, || format!("{usage:?}, expected {count} blocks of {bytes} bytes"))?;
        let mut expected: Vec<(u64, u64)> =
            self.live.iter().map(|live| (live.block.gaddr().get(), live.block.tag())).collect();
        expected.sort_unstable();
        let found = self.wksp.partitions().doing("listing")?;
        let found: Vec<(u64, u64)> = found.iter().map(|found| (found.gaddr.get(), found.tag)).collect();
        require(found == expected, || format!("listed {found:?}, expected {expected:?}"))?;
        self.live.iter().try_for_each(|live| self.check(live))?;
        tally.add("whole_checks", 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The canaries: whatever the model and the workspace do not agree on is noticed.
    #[test]
    fn a_model_that_differs_is_noticed() {
        let lies: [fn(&mut Model); 4] = [
            |model| model.live[0].fill ^= 1,
            |model| _ = model.live.pop(),
            |model| model.wksp.free(model.live[0].block).unwrap(),
            |model| _ = model.wksp.alloc(1, 1, model.tags[0]).unwrap(),
        ];
        for lie in lies {
            let (mut model, mut tally) = (Model::new(1).unwrap(), Tally::default());
            while model.live.len() < 10 {
                model.step(&mut tally).unwrap();
            }
            assert_eq!(model.whole(&mut tally), Ok(()));
            lie(&mut model);
            assert!(matches!(model.whole(&mut tally), Err(End::Failed(_))));
        }
    }
}

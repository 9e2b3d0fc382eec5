//! What a child calls next: decided by its seed and what its calls have returned, so that the scenario can
//! follow it by its acknowledgements and knows which call was in flight when it died.
//!
//! # Invariants
//! - Child and scenario hold equal scripts after equal acknowledgements.
//! - A tag names the child and the call: it is never used twice.

use std::path::PathBuf;

use outlast_wksp::Wksp;
use serde::{Deserialize, Serialize};

use crate::draw::Draw;
use crate::end::{Doing, End};

/// A block as listings show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// First byte.
    pub gaddr: u64,
    /// Bytes.
    pub size_bytes: u64,
    /// Tag.
    pub tag: u64,
}

impl Block {
    /// Everything that is allocated, in address order.
    ///
    /// # Errors
    /// [`End::Failed`].
    pub fn list(wksp: &Wksp) -> Result<Vec<Self>, End> {
        let found = wksp.partitions().doing("listing the allocations")?;
        let block = |found: &outlast_wksp::Partition| Self {
            gaddr: found.gaddr.get(),
            size_bytes: found.size_bytes,
            tag: found.tag,
        };
        Ok(found.iter().map(block).collect())
    }
}

/// What every byte of the block with this tag holds.
pub fn byte_of(tag: u64) -> u8 {
    1 + (tag.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57) as u8
}

/// How a child's calls are chosen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// Seed of the run.
    pub seed: u64,
    /// Number of the child, from 1 on.
    pub child: u64,
    /// Blocks that it holds at most.
    pub live_max: u64,
    /// Out of 1000 calls so many are `rebuild`.
    pub rebuilds: u64,
    /// Out of 1000 calls so many are `reset`.
    pub resets: u64,
    /// Calls after which it ends by itself; 0 for never.
    pub calls_max: u64,
    /// Instead of all that: restore this checkpoint.
    pub restore: Option<Restore>,
}

/// A restore that a child makes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Restore {
    /// The checkpoint.
    pub path: PathBuf,
    /// Into the region itself, or into a fresh one.
    pub in_place: bool,
}

impl Plan {
    /// Allocating and freeing for ever, and hardly anything else.
    pub fn churn(seed: u64, child: u64) -> Self {
        Self { seed, child, live_max: 48, rebuilds: 1, resets: 0, calls_max: 0, restore: None }
    }
}

/// One call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `alloc`, then the payload is written.
    Alloc {
        /// Bytes.
        size_bytes: u64,
        /// Alignment.
        align: u64,
        /// Tag.
        tag: u64,
    },
    /// `free` of a live block.
    Free {
        /// Index among the live ones.
        which: usize,
    },
    /// `tag_free` of a live block's tag.
    TagFree {
        /// Index among the live ones.
        which: usize,
    },
    /// `tag` of a live block.
    Query {
        /// Index among the live ones.
        which: usize,
    },
    /// `rebuild`.
    Rebuild {
        /// Its seed.
        seed: u32,
    },
    /// `reset`.
    Reset {
        /// Its seed.
        seed: u32,
    },
}

impl Call {
    /// The name in counts.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Alloc { .. } => "alloc",
            Self::Free { .. } => "free",
            Self::TagFree { .. } => "tag_free",
            Self::Query { .. } => "query",
            Self::Rebuild { .. } => "rebuild",
            Self::Reset { .. } => "reset",
        }
    }
}

/// What a call returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Returned {
    /// A block at this gaddr, payload written.
    Allocated(u64),
    /// No room.
    Full,
    /// What was asked for was done.
    Done,
}

/// Where a child is in its plan.
#[derive(Debug, Clone)]
pub struct Script {
    plan: Plan,
    draw: Draw,
    live: Vec<Block>,
    calls: u64,
}

impl Script {
    /// At its beginning.
    pub fn new(plan: Plan) -> Self {
        let draw = Draw::new(plan.seed, 0, plan.child);
        Self { plan, draw, live: Vec::new(), calls: 0 }
    }

    /// Calls that have returned.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// Whether the plan is at its end.
    pub fn is_over(&self) -> bool {
        self.plan.calls_max != 0 && self.plan.calls_max <= self.calls
    }

    /// What it holds after the calls that have returned.
    pub fn live(&self) -> &[Block] {
        &self.live
    }

    /// Whether a tag is one of this child's.
    pub fn owns(&self, tag: u64) -> bool {
        tag >> 32 == self.plan.child
    }

    /// The call that comes next.
    pub fn next_call(&self) -> Call {
        let mut draw = self.draw.clone();
        let dice = draw.below(1000);
        if dice < self.plan.rebuilds {
            return Call::Rebuild { seed: draw.half() };
        }
        if dice < self.plan.rebuilds + self.plan.resets {
            return Call::Reset { seed: draw.half() };
        }
        let held = self.live.len() as u64;
        // Half full on average, so that blocks are freed in any order.
        if draw.below(self.plan.live_max) >= held {
            let size_bytes = 1 + (u64::from(draw.half()) & ((1 << draw.below(13)) - 1));
            let align = 1 << draw.below(9);
            return Call::Alloc { size_bytes, align, tag: self.plan.child << 32 | (self.calls + 1) };
        }
        let which = draw.index(self.live.len());
        match draw.below(16) {
            0 => Call::Query { which },
            1 | 2 => Call::TagFree { which },
            _ => Call::Free { which },
        }
    }

    /// Takes note of what the next call has returned. `None` if it cannot have returned that.
    pub fn returned(&mut self, returned: &Returned) -> Option<()> {
        match (self.next_call(), returned) {
            (Call::Alloc { size_bytes, tag, .. }, Returned::Allocated(gaddr)) => {
                self.live.push(Block { gaddr: *gaddr, size_bytes, tag });
            }
            (Call::Alloc { .. }, Returned::Full) => {}
            (Call::Free { which } | Call::TagFree { which }, Returned::Done) => {
                _ = self.live.swap_remove(which)
            }
            (Call::Query { .. } | Call::Rebuild { .. }, Returned::Done) => {}
            (Call::Reset { .. }, Returned::Done) => self.live.clear(),
            _ => return None,
        }
        self.draw.word();
        self.calls += 1;
        Some(())
    }

    /// Blocks that must be there whether or not the call in flight took effect.
    pub fn kept(&self) -> Vec<Block> {
        let mut kept = self.live.clone();
        match self.next_call() {
            Call::Free { which } | Call::TagFree { which } => _ = kept.swap_remove(which),
            Call::Reset { .. } => kept.clear(),
            _ => {}
        }
        kept
    }

    /// Compares what the workspace holds of this child, in any order, with what its calls have returned: exactly
    /// that, or that and the effect of the call in flight. Says which.
    ///
    /// # Errors
    /// What is lost, or there though it should not be.
    pub fn compare(&self, found: &[Block]) -> Result<&'static str, String> {
        let lost: Vec<&Block> = self.live.iter().filter(|block| !found.contains(block)).collect();
        let extra: Vec<&Block> = found.iter().filter(|block| !self.live.contains(block)).collect();
        let call = self.next_call();
        let took_effect = match (call, &lost[..], &extra[..]) {
            (_, [], []) => return Ok("calls_without_effect"),
            (Call::Alloc { size_bytes, align, tag }, [], [block]) => {
                block.size_bytes == size_bytes && block.tag == tag && block.gaddr.is_multiple_of(align)
            }
            (Call::Free { which } | Call::TagFree { which }, [block], []) => **block == self.live[which],
            (Call::Reset { .. }, lost, []) => lost.len() == self.live.len(),
            _ => false,
        };
        if took_effect {
            return Ok("calls_with_effect_but_not_returned");
        }
        Err(format!("lost {lost:?}, not expected {extra:?}, in flight {call:?} after {} calls", self.calls))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advance(script: &mut Script) {
        let returned = match script.next_call() {
            Call::Alloc { .. } => Returned::Allocated(64 * (script.calls() + 1)),
            _ => Returned::Done,
        };
        script.returned(&returned).unwrap();
    }

    fn advanced(calls: u64) -> Script {
        let mut script = Script::new(Plan { rebuilds: 5, resets: 1, ..Plan::churn(3, 9) });
        (0..calls).for_each(|_| advance(&mut script));
        script
    }

    #[test]
    fn a_script_is_decided_by_its_seed() {
        assert_eq!(advanced(500).live(), advanced(500).live());
        assert_eq!(advanced(500).next_call(), advanced(500).next_call());
        assert!(
            advanced(500).returned(&Returned::Full).is_none()
                || matches!(advanced(500).next_call(), Call::Alloc { .. })
        );
    }

    #[test]
    fn every_call_comes_up() {
        let mut names = std::collections::BTreeSet::new();
        let mut script = advanced(0);
        for _ in 0..10_000 {
            names.insert(script.next_call().name());
            advance(&mut script);
        }
        assert_eq!(
            names.into_iter().collect::<Vec<_>>(),
            ["alloc", "free", "query", "rebuild", "reset", "tag_free"]
        );
    }

    /// The canary: a comparison that could not fail would be no proof.
    #[test]
    fn a_lost_or_strange_block_is_noticed() {
        let mut checked = 0;
        for calls in 20..220 {
            let script = advanced(calls);
            let live = script.live().to_vec();
            assert_eq!(script.compare(&live), Ok("calls_without_effect"));
            for index in 0..live.len() {
                let mut found = live.clone();
                let gone = found.remove(index);
                let allowed = match script.next_call() {
                    Call::Free { which } | Call::TagFree { which } => live[which] == gone,
                    Call::Reset { .. } => live.len() == 1,
                    _ => false,
                };
                assert_eq!(script.compare(&found).is_ok(), allowed);
                let mut found = live.clone();
                found[index].size_bytes += 1;
                assert!(script.compare(&found).is_err());
                checked += 1;
            }
            let mut found = live.clone();
            found.push(Block { gaddr: 1 << 30, size_bytes: 1, tag: 9 << 32 | 77_777 });
            assert!(script.compare(&found).is_err());
        }
        assert!(checked > 500, "{checked}");
    }
}

//! The calls that are swept, as plain text so that they can be handed to a child, and as a model of what they do.
//!
//! # Invariants
//! - [`Operation::model`] knows nothing of the tables: it is written from the documentation of the calls.

use std::fmt;
use std::os::fd::OwnedFd;
use std::str::FromStr;

use outlast_wksp::{Block, Gaddr, Wksp};

use super::oracle::{Held, State};

/// One call on a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// `alloc(size, align, tag)`.
    Alloc(u64, u64, u64),
    /// The same by a process that has not joined yet: the sweep begins with the join.
    JoinAlloc(u64, u64, u64),
    /// `free` of the block that begins at this gaddr.
    Free(u64),
    /// `free_at` of this gaddr.
    FreeAt(u64),
    /// `tag_free` of these tags.
    TagFree(Vec<u64>),
    /// `reset(seed)`.
    Reset(u32),
    /// `rebuild(seed)`.
    Rebuild(u32),
    /// `usage`: changes nothing by itself, and finishes what a killed holder of the lock left.
    Usage,
    /// Leaving the workspace.
    Leave,
    /// `memset` of the allocation at this gaddr: the one call that stores payload, which the sweep does not
    /// follow. It is here so that tests can see the sweep notice.
    Memset(u64, u8),
}

/// What a call returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded and has nothing to say.
    Done,
    /// It allocated: (gaddr, slot, stamp).
    Allocated(u64, u32, u64),
    /// It refused, as it should.
    Refused,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Allocated(gaddr, slot, stamp) => write!(f, "allocated {gaddr} {slot} {stamp}"),
            Self::Refused => f.write_str("refused"),
        }
    }
}

/// A call with everything at hand that comes before it: the join, and the block to free.
#[derive(Debug)]
pub enum Prepared {
    /// The caller has joined.
    Joined(Wksp, Option<Block>),
    /// The caller joins as part of the call.
    Newcomer(OwnedFd),
}

impl Operation {
    /// Does what comes before the call.
    ///
    /// # Errors
    /// A text: the join failed, or the block to free is not there.
    pub fn prepare(&self, fd: OwnedFd) -> Result<Prepared, String> {
        if let Self::JoinAlloc(..) = self {
            return Ok(Prepared::Newcomer(fd));
        }
        let wksp = Wksp::from_fd(fd).map_err(|error| format!("join: {error}"))?;
        let block = match self {
            Self::Free(gaddr) => {
                let gaddr = Gaddr::new(*gaddr).ok_or("gaddr 0 cannot be freed")?;
                wksp.block_at(gaddr).map_err(|error| format!("block_at: {error}"))?
            }
            _ => None,
        };
        Ok(Prepared::Joined(wksp, block))
    }

    /// Makes the call. The join that comes back outlives it, so that leaving is not part of it.
    ///
    /// # Errors
    /// A text: an error that is no answer, such as damage.
    pub fn perform(&self, prepared: Prepared) -> Result<(Outcome, Option<Wksp>), String> {
        match (self, prepared) {
            (Self::JoinAlloc(size, align, tag), Prepared::Newcomer(fd)) => {
                let wksp = Wksp::from_fd(fd).map_err(|error| format!("join: {error}"))?;
                Ok((alloc(&wksp, *size, *align, *tag)?, Some(wksp)))
            }
            (Self::Leave, Prepared::Joined(wksp, _)) => {
                drop(wksp);
                Ok((Outcome::Done, None))
            }
            (_, Prepared::Joined(wksp, block)) => Ok((self.perform_joined(&wksp, block)?, Some(wksp))),
            (_, Prepared::Newcomer(_)) => Err("only an allocation is made by a newcomer".to_owned()),
        }
    }

    fn perform_joined(&self, wksp: &Wksp, block: Option<Block>) -> Result<Outcome, String> {
        use outlast_wksp::FreeError;
        let free = |result: Result<(), FreeError>| match result {
            Ok(()) => Ok(Outcome::Done),
            Err(FreeError::Stale { .. } | FreeError::NotAllocated { .. }) => Ok(Outcome::Refused),
            Err(other) => Err(other.to_string()),
        };
        let text = |error: &dyn fmt::Display| error.to_string();
        match self {
            Self::Alloc(size, align, tag) | Self::JoinAlloc(size, align, tag) => {
                alloc(wksp, *size, *align, *tag)
            }
            Self::Free(gaddr) => {
                free(wksp.free(block.ok_or(format!("nothing is allocated at gaddr {gaddr}"))?))
            }
            Self::FreeAt(gaddr) => free(wksp.free_at(Gaddr::new(*gaddr).ok_or("gaddr 0")?)),
            Self::TagFree(tags) => wksp.tag_free(tags).map(|_| Outcome::Done).map_err(|e| text(&e)),
            Self::Reset(seed) => wksp.reset(*seed).map(|()| Outcome::Done).map_err(|e| text(&e)),
            Self::Rebuild(seed) => wksp.rebuild(*seed).map(|()| Outcome::Done).map_err(|e| text(&e)),
            Self::Usage => wksp.usage(&[]).map(|_| Outcome::Done).map_err(|e| text(&e)),
            Self::Memset(gaddr, byte) => {
                let gaddr = Gaddr::new(*gaddr).ok_or("gaddr 0")?;
                wksp.memset(gaddr, *byte).map(|_| Outcome::Done).map_err(|e| text(&e))
            }
            Self::Leave => Ok(Outcome::Done),
        }
    }

    /// What the call makes of the allocations `before`, given what it returned.
    ///
    /// # Errors
    /// A text: what it returned cannot be right.
    pub fn model(&self, before: &State, outcome: Outcome) -> Result<State, String> {
        let mut after = before.clone();
        match (self, outcome) {
            (_, Outcome::Refused) => {}
            (Self::Alloc(size, align, tag) | Self::JoinAlloc(size, align, tag), made) => {
                let Outcome::Allocated(gaddr, slot, stamp) = made else {
                    return Err("alloc returned no block".into());
                };
                if gaddr == 0 || gaddr % align != 0 {
                    return Err(format!("gaddr {gaddr} is not aligned to {align}"));
                }
                after.insert(gaddr, Held { size: *size, tag: *tag, slot, stamp })?;
            }
            (Self::Free(gaddr) | Self::FreeAt(gaddr), _) => after.remove_at(*gaddr)?,
            (Self::TagFree(tags), _) => after.retain(|held| !tags.contains(&held.tag)),
            (Self::Reset(_), _) => after.retain(|_| false),
            (Self::Rebuild(_) | Self::Usage | Self::Leave | Self::Memset(..), _) => {}
        }
        Ok(after)
    }

    /// Whether a kill in the middle may leave a part of it done.
    pub fn is_partial(&self) -> bool {
        matches!(self, Self::TagFree(_))
    }
}

fn alloc(wksp: &Wksp, size: u64, align: u64, tag: u64) -> Result<Outcome, String> {
    use outlast_wksp::AllocError;
    match wksp.alloc(size, align, tag) {
        Ok(block) => {
            let (gaddr, slot, stamp) = block.to_parts();
            Ok(Outcome::Allocated(gaddr, slot, stamp))
        }
        Err(AllocError::NoSpace { .. }) => Ok(Outcome::Refused),
        Err(other) => Err(other.to_string()),
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alloc(size, align, tag) => write!(f, "alloc:{size}:{align}:{tag}"),
            Self::JoinAlloc(size, align, tag) => write!(f, "join-alloc:{size}:{align}:{tag}"),
            Self::Free(gaddr) => write!(f, "free:{gaddr}"),
            Self::FreeAt(gaddr) => write!(f, "free-at:{gaddr}"),
            Self::TagFree(tags) => {
                f.write_str("tag-free")?;
                tags.iter().try_for_each(|tag| write!(f, ":{tag}"))
            }
            Self::Reset(seed) => write!(f, "reset:{seed}"),
            Self::Rebuild(seed) => write!(f, "rebuild:{seed}"),
            Self::Usage => f.write_str("usage"),
            Self::Leave => f.write_str("leave"),
            Self::Memset(gaddr, byte) => write!(f, "memset:{gaddr}:{byte}"),
        }
    }
}

impl FromStr for Operation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let numbers: Result<Vec<u64>, _> = parts.map(str::parse).collect();
        let numbers = numbers.map_err(|error| format!("operation {text:?}: {error}"))?;
        let small =
            |number: u64| u32::try_from(number).map_err(|_| format!("operation {text:?}: seed too large"));
        Ok(match (name, numbers.as_slice()) {
            ("alloc", &[size, align, tag]) => Self::Alloc(size, align, tag),
            ("join-alloc", &[size, align, tag]) => Self::JoinAlloc(size, align, tag),
            ("free", &[gaddr]) => Self::Free(gaddr),
            ("free-at", &[gaddr]) => Self::FreeAt(gaddr),
            ("tag-free", tags) => Self::TagFree(tags.to_vec()),
            ("reset", &[seed]) => Self::Reset(small(seed)?),
            ("rebuild", &[seed]) => Self::Rebuild(small(seed)?),
            ("usage", []) => Self::Usage,
            ("leave", []) => Self::Leave,
            ("memset", &[gaddr, byte]) => Self::Memset(gaddr, byte as u8),
            _ => return Err(format!("no operation is called {text:?}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_comes_back() {
        for text in ["alloc:1:64:2", "join-alloc:1:64:2", "free:64", "free-at:65", "tag-free:1:2", "tag-free"]
        {
            assert_eq!(text.parse::<Operation>().unwrap().to_string(), text);
        }
        for text in ["reset:1", "rebuild:7", "usage", "leave", "memset:64:255"] {
            assert_eq!(text.parse::<Operation>().unwrap().to_string(), text);
        }
        for text in ["", "alloc", "alloc:1:64", "free:x", "usage:1", "reset:4294967296"] {
            assert!(text.parse::<Operation>().is_err(), "{text:?}");
        }
    }
}

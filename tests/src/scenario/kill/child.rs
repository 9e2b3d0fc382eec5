//! The process that is killed: calls by its script, and acknowledges each call after it has returned.

use std::path::PathBuf;
use std::time::Instant;

use outlast_wksp::{AllocError, Block, Domain, RegionName, RestoreMode, RestoreOptions, Wksp};
use serde::{Deserialize, Serialize};

use super::lane::Gate;
use super::script::{Call, Plan, Restore, Returned, Script, byte_of};
use crate::worker::channel::Channel;

/// What it is told.
#[derive(Debug, Serialize, Deserialize)]
pub struct Parameters {
    /// Directory of the domain.
    pub domain: PathBuf,
    /// Name of the workspace.
    pub name: String,
    /// First byte of the gate; 0 if there is none.
    pub gate: u64,
    /// Its place at the gate.
    pub place: u8,
    /// Its plan.
    pub plan: Plan,
    /// Where it is to kill itself, if anywhere.
    pub kill_at: Option<KillAt>,
}

/// A moment that only a build with probes can hit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KillAt {
    /// Name of the probe.
    pub probe: String,
    /// At which hit, from 1 on.
    pub nth: u64,
}

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Acknowledgement {
    /// It has joined the workspace.
    Joined {
        /// Its slot.
        slot: u32,
    },
    /// A call has returned.
    Returned {
        /// Number of the call, from 1 on.
        call: u64,
        /// What it returned.
        returned: Returned,
        /// The longest that any call has taken so far.
        slowest_us: u64,
    },
    /// A call that has to succeed did not.
    Refused {
        /// Which, and what it said.
        what: String,
    },
}

/// The role.
///
/// # Errors
/// Why it could not go on; a closed channel is the scenario's end.
pub fn main(mut channel: Channel) -> Result<(), String> {
    let parameters: Parameters = channel.receive().map_err(text)?.ok_or("no parameters")?;
    let domain = Domain::open(&parameters.domain).map_err(text)?;
    let name: RegionName = parameters.name.parse().map_err(text)?;
    let wksp = Wksp::attach(&domain, &name).map_err(text)?;
    let slot = wksp.region().slot().map_err(text)?.index() as u32;
    channel.send(&Acknowledgement::Joined { slot }).map_err(text)?;
    if let Some(kill_at) = parameters.kill_at {
        suicide::arm(kill_at)?;
    }
    if let Some(restore) = &parameters.plan.restore {
        return self::restore(wksp, restore);
    }
    let gate = Gate { gaddr: parameters.gate };
    let mut script = Script::new(parameters.plan);
    let mut held: Vec<Block> = Vec::new();
    let mut slowest_us = 0;
    while !script.is_over() {
        if parameters.gate != 0 {
            gate.pass(&wksp, parameters.place)?;
        }
        let call = script.next_call();
        let begin = Instant::now();
        let answer = make(&wksp, &call, &mut held);
        slowest_us = slowest_us.max(begin.elapsed().as_micros() as u64);
        let acknowledgement = match answer {
            Ok(returned) => {
                script.returned(&returned).ok_or_else(|| format!("{call:?} cannot return {returned:?}"))?;
                Acknowledgement::Returned { call: script.calls(), returned, slowest_us }
            }
            Err(what) => Acknowledgement::Refused { what: format!("{call:?}: {what}") },
        };
        channel.send(&acknowledgement).map_err(text)?;
    }
    Ok(())
}

fn restore(mut wksp: Wksp, restore: &Restore) -> Result<(), String> {
    let mut options = RestoreOptions::default();
    options.mode = if restore.in_place { RestoreMode::InPlace } else { RestoreMode::Fresh };
    wksp.restore(&restore.path, &options).map(|_| ()).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Makes the call; `held` follows the script's list of live blocks.
fn make(wksp: &Wksp, call: &Call, held: &mut Vec<Block>) -> Result<Returned, String> {
    match *call {
        Call::Alloc { size_bytes, align, tag } => match wksp.alloc(size_bytes, align, tag) {
            Ok(block) => {
                let gaddr = block.gaddr().get();
                let bytes = wksp.bytes(gaddr, size_bytes).map_err(text)?;
                bytes.fill(0, size_bytes, byte_of(tag)).map_err(text)?;
                held.push(block);
                return Ok(Returned::Allocated(gaddr));
            }
            Err(AllocError::NoSpace { .. }) => return Ok(Returned::Full),
            Err(error) => return Err(text(error)),
        },
        Call::Free { which } => wksp.free(held.swap_remove(which)).map_err(text)?,
        Call::TagFree { which } => {
            let block = held.swap_remove(which);
            let freed = wksp.tag_free(&[block.tag()]).map_err(text)?;
            if freed != (1, block.size_bytes()) {
                return Err(format!("freed {freed:?} of {block:?}"));
            }
        }
        Call::Query { which } => {
            let found = wksp.tag(held[which].gaddr()).map_err(text)?;
            if found != Some(held[which].tag()) {
                return Err(format!("the tag is {found:?}"));
            }
        }
        Call::Rebuild { seed } => wksp.rebuild(seed).map_err(text)?,
        Call::Reset { seed } => {
            wksp.reset(seed).map_err(text)?;
            held.clear();
        }
    }
    Ok(Returned::Done)
}

/// SIGKILL at a probe, by the process itself: nothing runs between the probe and its end.
#[cfg(outlast_probes)]
pub mod suicide {
    use std::sync::OnceLock;

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::getpid;
    use outlast_probe::registry::{self, Probe};
    use outlast_probe::sync::{AtomicU64, Ordering};

    use super::KillAt;

    static TARGET: OnceLock<KillAt> = OnceLock::new();
    static HITS: AtomicU64 = AtomicU64::new(0);

    fn hook(probe: &'static Probe, _arguments: &[u64]) -> Option<i32> {
        let target = TARGET.get()?;
        if probe.name() == target.probe {
            // Relaxed: one thread hits probes.
            let hit = HITS.fetch_add(1, Ordering::Relaxed) + 1;
            if hit == target.nth {
                // The signal is delivered before the call returns.
                let _ = kill(getpid(), Signal::SIGKILL);
            }
        }
        None
    }

    /// From now on the process dies at the target.
    ///
    /// # Errors
    /// If a target is set already.
    pub fn arm(target: KillAt) -> Result<(), String> {
        TARGET.set(target).map_err(|_| "a target is set already")?;
        if registry::install(hook) { Ok(()) } else { Err("a hook is installed already".into()) }
    }
}

/// Without probes there is nowhere to die.
#[cfg(not(outlast_probes))]
pub mod suicide {
    use super::KillAt;

    /// Refuses.
    ///
    /// # Errors
    /// Always.
    pub fn arm(target: KillAt) -> Result<(), String> {
        Err(format!("cannot die at {}: this build has no probes", target.probe))
    }
}

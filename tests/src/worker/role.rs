//! The roles that the stress binary can be started in by a scenario: `stress worker ROLE PID`.

use std::ffi::OsString;
use std::process::ExitCode;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

use super::channel::Channel;
use crate::scenario::{groove, hostile, kill, roundtrip, sched};

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Checks what was restored, in a region handed over by descriptor.
    Check,
    /// Allocates and frees by a script, and acknowledges every call.
    Script,
    /// Calls a workspace that is damaged meanwhile, and compares every answer with a model.
    Traffic,
    /// Damages a workspace.
    Damage,
    /// Damages every word of a small workspace and makes every call.
    Sweep,
    /// Allocates and frees, and keeps account of it.
    Churn,
    /// Allocates, patterns, checks and frees objects of a groove.
    Objects,
    /// Calls a groove that is damaged meanwhile, and judges every answer.
    GrooveTraffic,
    /// Damages a groove.
    GrooveDamage,
}

impl Role {
    const ALL: [Self; 9] = [
        Self::Check,
        Self::Script,
        Self::Traffic,
        Self::Damage,
        Self::Sweep,
        Self::Churn,
        Self::Objects,
        Self::GrooveTraffic,
        Self::GrooveDamage,
    ];

    /// The word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Script => "script",
            Self::Traffic => "traffic",
            Self::Damage => "damage",
            Self::Sweep => "sweep",
            Self::Churn => "churn",
            Self::Objects => "objects",
            Self::GrooveTraffic => "groove-traffic",
            Self::GrooveDamage => "groove-damage",
        }
    }
}

/// Runs the role `words[0]` for the process `words[1]`. Exits with 0, or 1 with the reason on stderr.
pub fn main(words: &[OsString]) -> ExitCode {
    if let [word, rest @ ..] = words
        && word == sched::readiness::child::WORD
    {
        return sched::readiness::child::main(rest);
    }
    match begin(words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn begin(words: &[OsString]) -> Result<(), String> {
    let [role, parent] = words else {
        return Err("worker roles are started by the scenarios that need them".into());
    };
    let role = Role::ALL.into_iter().find(|known| role == known.as_str()).ok_or("there is no such role")?;
    let parent: i32 = parent.to_str().and_then(|text| text.parse().ok()).ok_or("no process id")?;
    set_pdeathsig(Signal::SIGKILL).map_err(|error| format!("prctl: {error}"))?;
    if getppid().as_raw() != parent {
        return Err("the process that started this worker has ended".into());
    }
    let channel = Channel::inherited().map_err(|error| format!("no channel on standard input: {error}"))?;
    match role {
        Role::Check => roundtrip::checker::main(channel),
        Role::Script => kill::child::main(channel),
        Role::Traffic => hostile::traffic::main(channel),
        Role::Damage => hostile::damage::main(channel),
        Role::Sweep => hostile::sweep::main(channel),
        Role::Churn => sched::watch::main(channel),
        Role::Objects => groove::data::worker::main(channel),
        Role::GrooveTraffic => groove::hostile::traffic::main(channel),
        Role::GrooveDamage => groove::hostile::damage::main(channel),
    }
}

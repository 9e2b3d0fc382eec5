//! What can come between a worker and what is waited for, each told apart.
//!
//! # Invariants
//! - A worker's death is judged only after its medium was looked at once more.
//! - Every text names the worker, its process, the medium, and what to do.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::marker::MarkerParseError;
use crate::message::MediumKind;
use crate::outcome::Exit;
use crate::worker::namespace::Namespaces;

/// Why a worker is not where it was waited for.
#[derive(Debug)]
#[non_exhaustive]
pub enum Mishap {
    /// It ended without having said that it is ready.
    ExitedBeforeReady {
        /// How.
        exit: Exit,
        /// The last phase that it named.
        last_phase: Option<String>,
        /// The last that it wrote on standard error.
        stderr_tail: String,
    },
    /// It said that it is ready, and had ended before anything was made of that.
    ExitedAfterReady {
        /// How.
        exit: Exit,
        /// The last phase that it named.
        last_phase: Option<String>,
        /// The last that it wrote on standard error.
        stderr_tail: String,
    },
    /// It gave up by itself and said why.
    WorkerReported {
        /// Its own number for it.
        code: i32,
        /// Its own words.
        text: String,
        /// The last that it wrote on standard error.
        stderr_tail: String,
    },
    /// Time was over.
    TimedOut {
        /// The last phase that it named.
        last_phase: Option<String>,
        /// The state of its process in `/proc`: `R`, `S`, `D`, `T`, ...
        task_state: Option<char>,
        /// In which function of the kernel it sleeps, where `/proc` tells.
        wchan: Option<String>,
        /// How many threads it has.
        threads: Option<u64>,
        /// The last that it wrote on standard error.
        stderr_tail: String,
    },
    /// Something says ready, but not for this worker.
    Stale {
        /// What tells that.
        difference: Difference,
    },
    /// Somebody else spoke.
    WrongPeer {
        /// Who.
        peer: Peer,
    },
    /// The worker lives in another pid or mount namespace: its numbers and paths mean something else there.
    WrongNamespace {
        /// Those of this process.
        expected: Namespaces,
        /// Those of the worker.
        found: Namespaces,
    },
    /// It was not to be waited for any longer.
    Cancelled,
    /// It ended without a report.
    NoReport {
        /// How.
        exit: Exit,
        /// The last that it wrote on standard error.
        stderr_tail: String,
    },
    /// A system call failed, or what came was no message.
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

/// What tells that something says ready for another process than the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// The nonce is not that of the worker.
    Nonce,
    /// The process began at another time: an earlier one with the same number.
    StartTime {
        /// Of the worker, in clock ticks.
        expected: u64,
        /// In the medium.
        found: u64,
    },
    /// It was written before the machine started.
    BootId,
    /// The slot is of another use.
    Generation {
        /// Of the worker.
        expected: u32,
        /// In the slot.
        found: u32,
    },
    /// The marker is older than the worker.
    OlderThanSpawn,
    /// The marker does not say whose it is, and has to.
    Unsigned,
    /// The marker is none.
    Content(MarkerParseError),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nonce => f.write_str("its nonce is not that of this worker"),
            Self::StartTime { expected, found } => {
                write!(f, "its process began at tick {found}, this worker at {expected}")
            }
            Self::BootId => f.write_str("it was written before the machine started"),
            Self::Generation { expected, found } => {
                write!(f, "the slot is of generation {found}, expected {expected}")
            }
            Self::OlderThanSpawn => f.write_str("it is older than this worker"),
            Self::Unsigned => f.write_str("it does not say whose it is"),
            Self::Content(error) => write!(f, "it is no marker: {error}"),
        }
    }
}

/// Who spoke in place of the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// Another process.
    Process {
        /// Its number.
        pid: u32,
    },
    /// Another user owns the marker.
    Owner {
        /// The user.
        uid: u32,
    },
    /// There is a symbolic link in place of the marker.
    Symlink,
    /// There is something in place of the marker that is no file.
    NotAFile,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid } => write!(f, "process {pid} spoke in its place"),
            Self::Owner { uid } => write!(f, "user {uid} owns the marker"),
            Self::Symlink => f.write_str("the marker is a symbolic link, which is not followed"),
            Self::NotAFile => f.write_str("the marker is no regular file"),
        }
    }
}

/// A worker that is not where it was waited for.
#[derive(Debug)]
#[non_exhaustive]
pub struct WorkerError {
    /// What the worker is for, as its [`Spawn`](crate::Spawn) says.
    pub role: String,
    /// Its process.
    pub pid: u32,
    /// By what it was to say that it is ready.
    pub medium: MediumKind,
    /// How long was to be waited.
    pub timeout: Duration,
    /// What its exit codes mean, as its [`Spawn`](crate::Spawn) says.
    pub legend: Option<String>,
    /// What happened.
    pub mishap: Box<Mishap>,
}

impl std::error::Error for WorkerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.mishap {
            Mishap::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl fmt::Display for WorkerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, pid, medium, timeout, legend, mishap } = self;
        write!(f, "worker {role} (process {pid}, medium {medium}) ")?;
        mishap.write(f, *timeout)?;
        if let (Some(legend), Some(_)) = (legend, mishap.exit()) {
            write!(f, "; its exit codes: {legend}")?;
        }
        match mishap.stderr_tail() {
            Some("") => f.write_str("; it wrote nothing on stderr"),
            Some(tail) => write!(f, "; its stderr ends with:\n{}", tail.trim_end()),
            None => Ok(()),
        }
    }
}

impl Mishap {
    /// How the worker ended, if it did.
    pub fn exit(&self) -> Option<Exit> {
        match self {
            Self::ExitedBeforeReady { exit, .. }
            | Self::ExitedAfterReady { exit, .. }
            | Self::NoReport { exit, .. } => Some(*exit),
            _ => None,
        }
    }

    /// The last that the worker wrote on standard error, where that may tell why.
    pub fn stderr_tail(&self) -> Option<&str> {
        match self {
            Self::ExitedBeforeReady { stderr_tail, .. }
            | Self::ExitedAfterReady { stderr_tail, .. }
            | Self::WorkerReported { stderr_tail, .. }
            | Self::TimedOut { stderr_tail, .. }
            | Self::NoReport { stderr_tail, .. } => Some(stderr_tail),
            _ => None,
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, timeout: Duration) -> fmt::Result {
        match self {
            Self::ExitedBeforeReady { exit, last_phase, .. } => {
                write!(f, "ended with {exit} before it was ready{}", Phase(last_phase.as_deref()))
            }
            Self::ExitedAfterReady { exit, last_phase, .. } => {
                let phase = Phase(last_phase.as_deref());
                write!(f, "was ready, and ended with {exit} before the runner went on{phase}")
            }
            Self::WorkerReported { code, text, .. } => write!(f, "gave up with code {code}: {text}"),
            Self::TimedOut { last_phase, task_state, wchan, threads, .. } => {
                write!(f, "timed out after {timeout:?}{}", Phase(last_phase.as_deref()))?;
                if let Some(state) = task_state {
                    write!(f, ", in state {state} ({})", state_name(*state))?;
                }
                if let Some(wchan) = wchan {
                    write!(f, " in {wchan}")?;
                }
                if let Some(threads) = threads {
                    write!(f, ", threads: {threads}")?;
                }
                match task_state {
                    Some('T' | 't') => f.write_str("; continue it with SIGCONT"),
                    _ => f.write_str("; give it more time, or see where it hangs"),
                }
            }
            Self::Stale { difference } => {
                write!(f, "is not what says ready: {difference}; remove what an earlier process left")
            }
            Self::WrongPeer { peer } => write!(f, "is not who spoke: {peer}; let nobody else use its medium"),
            Self::WrongNamespace { expected, found } => write!(
                f,
                "lives in namespaces {found}, the runner in {expected}; start both in the same ones"
            ),
            Self::Cancelled => f.write_str("was not waited for any longer: cancelled"),
            Self::NoReport { exit, .. } => write!(f, "ended with {exit} and without a report"),
            Self::Io { doing, source } => write!(f, "could not be watched: {doing}: {source}"),
        }
    }
}

struct Phase<'a>(Option<&'a str>);

impl fmt::Display for Phase<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(phase) => write!(f, ", in phase `{phase}`"),
            None => f.write_str(", in no phase that it named"),
        }
    }
}

fn state_name(state: char) -> &'static str {
    match state {
        'R' => "running",
        'S' => "sleeping",
        'D' => "in an uninterruptible sleep",
        'T' => "stopped",
        't' => "stopped by a debugger",
        'Z' | 'X' => "dead",
        'I' => "idle",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differences() -> impl Iterator<Item = Mishap> {
        let content = [
            MarkerParseError::TooLong,
            MarkerParseError::Incomplete,
            MarkerParseError::NotReady,
            MarkerParseError::Field { name: "pid" },
        ];
        let others = [
            Difference::Nonce,
            Difference::StartTime { expected: 7, found: 5 },
            Difference::BootId,
            Difference::Generation { expected: 3, found: 2 },
            Difference::OlderThanSpawn,
            Difference::Unsigned,
        ];
        let all = others.into_iter().chain(content.map(Difference::Content));
        all.map(|difference| Mishap::Stale { difference })
    }

    fn peers() -> impl Iterator<Item = Mishap> {
        let peers = [Peer::Process { pid: 12 }, Peer::Owner { uid: 34 }, Peer::Symlink, Peer::NotAFile];
        peers.into_iter().map(|peer| Mishap::WrongPeer { peer })
    }

    fn others() -> Vec<Mishap> {
        let (exit, stderr_tail) = (Exit::Code(3), "one\ntwo\n".to_owned());
        let killed = Exit::Signal { number: 9, core: false };
        let last_phase = Some("fill".to_owned());
        let timed_out = |task_state, wchan: Option<&str>, threads| Mishap::TimedOut {
            last_phase: None,
            task_state,
            wchan: wchan.map(str::to_owned),
            threads,
            stderr_tail: String::new(),
        };
        let namespaces = |number| Namespaces { pid: number, mount: number + 1 };
        vec![
            Mishap::ExitedBeforeReady { exit, last_phase: last_phase.clone(), stderr_tail: stderr_tail.clone() },
            Mishap::ExitedAfterReady { exit: killed, last_phase, stderr_tail: String::new() },
            Mishap::WorkerReported { code: 9, text: "no room".to_owned(), stderr_tail: stderr_tail.clone() },
            timed_out(Some('S'), Some("futex_do_wait"), Some(2)),
            timed_out(Some('T'), None, Some(1)),
            timed_out(None, None, None),
            Mishap::WrongNamespace { expected: namespaces(10), found: namespaces(20) },
            Mishap::Cancelled,
            Mishap::NoReport { exit: Exit::Code(0), stderr_tail },
            Mishap::Io { doing: "reading the ready marker", source: io::ErrorKind::InvalidData.into() },
        ]
    }

    #[test]
    fn every_text() {
        let said = |mishap: Mishap| {
            let error = WorkerError {
                role: "filler".to_owned(),
                pid: 4711,
                medium: MediumKind::Socket,
                timeout: Duration::from_secs(30),
                legend: Some("3 = no room".to_owned()),
                mishap: Box::new(mishap),
            };
            error.to_string()
        };
        let text: Vec<_> = others().into_iter().chain(differences()).chain(peers()).map(said).collect();
        insta::assert_snapshot!(text.join("\n"));
    }
}

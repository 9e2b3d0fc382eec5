//! The process of `sched/readiness`, and the roles that it plays: `stress worker sched-readiness ROLE...`.
//!
//! # Invariants
//! - It ends with the runner that started it.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, raise};
use outlast_sched::{Endpoint, Protocol, WORKER_PARENT_ENV, end_with_parent, publish_ready};

/// The word behind `stress worker`.
pub const WORD: &str = "sched-readiness";

/// Plays a role. Exits with 1 and the reason on stderr if it cannot.
pub fn main(words: &[OsString]) -> ExitCode {
    let words: Option<Vec<&str>> = words.iter().map(|word| word.to_str()).collect();
    let played = words.ok_or_else(|| "roles are UTF-8".into()).and_then(|words| play(&words));
    played.unwrap_or_else(|reason| {
        eprintln!("{reason}");
        ExitCode::FAILURE
    })
}

fn play(words: &[&str]) -> Result<ExitCode, String> {
    // What crashes on purpose leaves no core.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(|error| error.to_string())?;
    match words {
        ["marker", rest @ ..] => {
            end_with_runner()?;
            publish_ready(&Protocol::default()).map_err(|error| error.to_string())?;
            after(rest)
        }
        ["mute"] => {
            end_with_runner()?;
            park()
        }
        _ => endpoint(words).map_err(|error| error.to_string())?,
    }
}

fn end_with_runner() -> Result<(), String> {
    let parent = std::env::var(WORKER_PARENT_ENV).ok().and_then(|text| text.parse().ok());
    end_with_parent(parent.ok_or("no runner")?).map_err(|error| error.to_string())
}

fn endpoint(words: &[&str]) -> Result<Result<ExitCode, String>, outlast_sched::EndpointError> {
    let mut runner = Endpoint::inherited()?;
    runner.phase("fill")?;
    Ok(match words {
        ["ready", rest @ ..] => {
            runner.ready(1)?;
            after(rest)
        }
        ["give-up"] => {
            runner.failed(9, "no room")?;
            park()
        }
        ["flood"] => {
            let block = [b'.'; 1 << 16];
            for _ in 0..32 {
                if std::io::stderr().write_all(&block).is_err() {
                    return Ok(Err("stderr is closed".into()));
                }
            }
            runner.ready(1)?;
            park()
        }
        other => after(other),
    })
}

/// What it does at the end.
fn after(words: &[&str]) -> Result<ExitCode, String> {
    let number = |text: &str| text.parse::<u32>().map_err(|error| format!("{text}: {error}"));
    match words {
        [] | ["hang"] => park(),
        ["exit", code] => Ok(ExitCode::from(number(code)? as u8)),
        ["signal", signal] => raise_for_good(number(signal)?),
        ["spin", spins, "signal", signal] => {
            (0..number(spins)?).for_each(|_| core::hint::spin_loop());
            raise_for_good(number(signal)?)
        }
        _ => Err(format!("there is no role {words:?}")),
    }
}

/// More than once: the first SIGSEGV goes to std's look for an overflown stack. After SIGSTOP and SIGCONT once more.
fn raise_for_good(signal: u32) -> Result<ExitCode, String> {
    let signal = Signal::try_from(signal.cast_signed()).map_err(|error| error.to_string())?;
    loop {
        raise(signal).map_err(|error| error.to_string())?;
    }
}

fn park() -> Result<ExitCode, String> {
    loop {
        std::thread::park();
    }
}

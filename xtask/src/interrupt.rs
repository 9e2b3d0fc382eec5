//! Ctrl-C: the running child is told, and the command ends with 130 when the child has ended.
//!
//! # Invariants
//! - A child is never left behind: xtask ends only after the child it waits for.
//!   (`stress`, `bench` and `probes` end by *becoming* the binary, which then has the signals to itself.)

use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::failure::Failure;

struct State {
    interrupted: bool,
    child: Option<Pid>,
}

static STATE: Mutex<State> = Mutex::new(State { interrupted: false, child: None });

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes over SIGINT, SIGTERM and SIGHUP.
pub(crate) fn install() -> Result<(), Failure> {
    ctrlc::set_handler(|| {
        let mut state = state();
        state.interrupted = true;
        match state.child {
            // A child that got the terminal's own SIGINT already is ending; this one reaches it in any case.
            Some(child) => _ = kill(child, Signal::SIGTERM),
            None => std::process::exit(i32::from(Failure::Interrupted.code())),
        }
    })
    .map_err(|error| Failure::Check(format!("cannot take over Ctrl-C: {error}")))
}

/// Runs a child to its end, so that an interrupt reaches it; `on_stdout` reads its output where that is piped.
pub(crate) fn wait_for(
    command: &mut Command,
    mut on_stdout: impl FnMut(&mut dyn std::io::Read) -> std::io::Result<()>,
) -> Result<ExitStatus, Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let refused = |error: std::io::Error| Failure::Check(format!("cannot run `{name}`: {error}"));
    let mut child = {
        let mut state = state();
        let child = command.stdin(Stdio::null()).spawn().map_err(refused)?;
        state.child = i32::try_from(child.id()).ok().map(Pid::from_raw);
        child
    };
    let read = child.stdout.take().map_or(Ok(()), |mut stdout| on_stdout(&mut stdout));
    let waited = child.wait();
    let mut state = state();
    state.child = None;
    if state.interrupted {
        return Err(Failure::Interrupted);
    }
    read.map_err(refused)?;
    waited.map_err(refused)
}

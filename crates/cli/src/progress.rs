//! Progress and interruption of the long commands.
//!
//! # Invariants
//! - Progress goes to stderr, only if that is a terminal, and the line is gone when the command ends.
//! - The first Ctrl-C asks the operation to stop and clean up; the second ends the process.

use std::io::{self, IsTerminal, Stderr, Write};
use std::sync::Mutex;

use outlast_wksp::{Cancel, Progress, WatchStop};

use crate::exit::Status;
use crate::failure::Failure;

/// A line of percent.
#[derive(Debug)]
struct Line<W: Write> {
    what: &'static str,
    state: Mutex<State<W>>,
}

#[derive(Debug)]
struct State<W> {
    terminal: W,
    /// Least percentage to show next.
    percent: u64,
    dirty: bool,
}

impl<W: Write> Line<W> {
    fn new(what: &'static str, terminal: W) -> Self {
        Self { what, state: Mutex::new(State { terminal, percent: 0, dirty: false }) }
    }

    /// Shows a percentage. Calls overlap and may come out of order; what is behind is not shown.
    fn advance(&self, progress: Progress) {
        let percent = u128::from(progress.done_bytes) * 100 / u128::from(progress.total_bytes.max(1));
        let percent = u64::try_from(percent).unwrap_or(100);
        let Ok(mut state) = self.state.lock() else { return };
        if state.percent <= percent {
            // After the end comes the next pass.
            state.percent = if percent < 100 { percent + 1 } else { 0 };
            state.dirty = true;
            // Nobody is told if the terminal is gone.
            let _ = write!(state.terminal, "\r{} {percent:3} %", self.what);
        }
    }
}

impl<W: Write> Drop for Line<W> {
    fn drop(&mut self) {
        let blank = self.what.len() + 6;
        let Ok(state) = self.state.get_mut() else { return };
        if state.dirty {
            let _ = write!(state.terminal, "\r{:blank$}\r", "");
        }
    }
}

/// What to call with the progress of `what`, if anybody looks.
pub(crate) fn on_terminal(what: &'static str) -> Option<impl Fn(Progress) + Send + Sync + use<>> {
    let line: Option<Line<Stderr>> = io::stderr().is_terminal().then(|| Line::new(what, io::stderr()));
    line.map(|line| move |progress| line.advance(progress))
}

/// A flag that Ctrl-C sets.
pub(crate) fn cancel_on_interrupt() -> Result<Cancel, Failure> {
    let cancel = Cancel::new();
    let flag = cancel.clone();
    handle(move || match flag.is_cancelled() {
        true => std::process::exit(i32::from(Status::Interrupted.code())),
        false => flag.cancel(),
    })?;
    Ok(cancel)
}

/// The end of a series, which Ctrl-C, SIGTERM or SIGHUP asks for.
pub(crate) fn stop_on_interrupt() -> Result<WatchStop, Failure> {
    let stop = WatchStop::new();
    let flag = stop.clone();
    handle(move || match flag.is_stopped() {
        true => std::process::exit(i32::from(Status::Interrupted.code())),
        false => flag.stop(),
    })?;
    Ok(stop)
}

fn handle(handler: impl FnMut() + Send + 'static) -> Result<(), Failure> {
    let failed =
        |error: ctrlc::Error| Failure::new(Status::Failed, format!("no handler for Ctrl-C: {error}"));
    ctrlc::set_handler(handler).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_forward_and_is_gone_at_the_end() {
        let mut terminal = Vec::new();
        let line = Line::new("saved", &mut terminal);
        // Two passes; late calls and calls within one percent show nothing.
        for done_bytes in [10, 305, 304, 200, 1000, 500, 900, 1000] {
            line.advance(Progress { done_bytes, total_bytes: 1000 });
        }
        drop(line);
        let shown = String::from_utf8(terminal).unwrap();
        let parts: Vec<&str> = shown.split('\r').collect();
        let expected =
            ["", "saved   1 %", "saved  30 %", "saved 100 %", "saved  50 %", "saved  90 %", "saved 100 %"];
        assert_eq!(parts[..7], expected);
        assert_eq!(parts[7..], [" ".repeat("saved 100 %".len()).as_str(), ""]);
    }

    #[test]
    fn nothing_is_shown_without_progress() {
        let mut terminal = Vec::new();
        drop(Line::new("saved", &mut terminal));
        assert!(terminal.is_empty());
    }
}

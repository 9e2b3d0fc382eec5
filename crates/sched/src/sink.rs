//! Where events go: the terminal, files, the history. Sinks stand side by side and do not know each other.
//!
//! # Invariants
//! - A sink shows nothing that is not in the events, so that a run that is read back looks like the one that ran.
//! - Names, reasons and outputs are hostile text: nothing of them reaches a terminal, XML or HTML unescaped.
//! - Files that are written at the end appear whole, under their name, or not at all.

mod banner;
pub(crate) mod brackets;
mod closing;
mod gather;
mod html;
mod json_lines;
mod junit;
#[cfg(feature = "notify")]
mod notify;
mod progress;
pub(crate) mod publish;
pub(crate) mod recital;
mod terminal;
pub(crate) mod words;

use std::io;

use crate::event::Event;

pub use html::Html;
pub use json_lines::JsonLines;
pub use junit::JUnit;
#[cfg(feature = "notify")]
pub use notify::Notify;
pub use progress::Progress;
pub use terminal::{Terminal, TerminalOptions};

/// Takes every event of a run, in order, on one thread.
pub trait Sink: Send {
    /// Takes one event.
    ///
    /// # Errors
    /// If it cannot be written where it belongs. The run goes on without this sink and says so at its end.
    fn on(&mut self, event: &Event) -> io::Result<()>;
}

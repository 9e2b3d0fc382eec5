//! Where events go: the terminal, files, the history. Sinks stand side by side and do not know each other.

use std::io;

use crate::event::Event;

/// Takes every event of a run, in order, on one thread.
pub trait Sink: Send {
    /// Takes one event.
    ///
    /// # Errors
    /// If it cannot be written where it belongs. The run goes on without this sink and says so at its end.
    fn on(&mut self, event: &Event) -> io::Result<()>;
}

//! One line of JSON for each job that ended, in completion order.
//!
//! # Invariants
//! - Every line is a whole [`Record`](crate::Record), with `ordinal` and `completion`, and is out when the event was
//!   taken.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use super::Sink;
use super::publish::named;
use crate::event::Event;

/// Writes records as JSON lines.
pub struct JsonLines {
    out: Box<dyn Write + Send>,
}

impl JsonLines {
    /// Makes the file, in place of one that may be there.
    ///
    /// # Errors
    /// If the file cannot be made; the message names it.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self::to(Box::new(named(path, || File::create(path))?)))
    }

    /// Writes to anything, such as standard output.
    pub fn to(out: Box<dyn Write + Send>) -> Self {
        Self { out }
    }
}

impl fmt::Debug for JsonLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonLines").finish_non_exhaustive()
    }
}

impl Sink for JsonLines {
    fn on(&mut self, event: &Event) -> io::Result<()> {
        let Event::Finished(record) = event else { return Ok(()) };
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.out.write_all(&line)?;
        self.out.flush()
    }
}

//! A sink that takes away the regions of a job that was killed, and keeps images of them if it has failed.
//!
//! A scenario that ends by itself does both on its own.
//!
//! # Invariants
//! - Only regions are touched whose names say that the job's own process has made them.

use std::collections::HashMap;
use std::io;

use outlast_sched::{Event, Record, Sink};
use outlast_wksp::Domain;

use crate::place::{keep_image, name_prefix};

/// Knows the process of each job that runs.
#[derive(Debug)]
pub(super) struct Regions {
    domain: Domain,
    processes: HashMap<u32, u32>,
}

impl Regions {
    /// Looks after the regions in `domain`.
    pub(super) fn new(domain: Domain) -> Self {
        Self { domain, processes: HashMap::new() }
    }

    fn clear(&mut self, record: &Record) -> io::Result<()> {
        let Some(pid) = self.processes.remove(&record.ordinal) else { return Ok(()) };
        let prefix = name_prefix(pid);
        let listings = self.domain.list().map_err(io::Error::other)?;
        let names = listings.into_iter().filter_map(|listing| listing.file_name.to_str()?.parse().ok());
        for name in names.filter(|name: &outlast_wksp::RegionName| name.as_str().starts_with(&prefix)) {
            if let Some(sandbox) = record.sandbox.as_deref().filter(|_| record.outcome.is_failure()) {
                keep_image(&self.domain, &name, sandbox)?;
            }
            self.domain.unlink(&name).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

impl Sink for Regions {
    fn on(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Started { ordinal, pid, .. } => _ = self.processes.insert(*ordinal, *pid),
            Event::Finished(record) => self.clear(record)?,
            // What was killed while it took its name.
            Event::Ended(_) => _ = self.domain.sweep().map_err(io::Error::other)?,
            _ => {}
        }
        Ok(())
    }
}

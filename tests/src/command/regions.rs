//! Regions of jobs that were killed: taken away by a sink, with images kept of them if the job has failed, or, if the
//! runner was killed as well, by the next run.
//!
//! A scenario that ends by itself does both on its own.
//!
//! # Invariants
//! - Only regions are touched whose names say that a job has made them: that job, when it has ended, or any, when no run
//!   is at work in the domain and nobody who lives has joined them.
//! - A region of which no image can be kept is taken away all the same, and the next job's are as well.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use outlast_sched::{Event, Record, Sink};
use outlast_shm::{Domain, JoinerInfo, Liveness, RegionError, RegionInfo, RegionName};

use crate::end::{Doing, End};
use crate::place::{keep_image, name_prefix};

/// Takes away the regions that the jobs of killed runners have left in the domain, unless another run is at work there:
/// each holds the directory's lock as long as it lives.
///
/// # Errors
/// [`End::Failed`] if the domain cannot be read, or a region in it not be removed.
pub(super) fn take_away_orphans(path: &Path) -> Result<(), End> {
    let Ok(directory) = File::open(path) else { return Ok(()) };
    let Ok(_alone) = Flock::lock(directory, FlockArg::LockExclusiveNonblock) else { return Ok(()) };
    let domain = Domain::open(path).doing("opening the domain")?;
    for listing in domain.list().doing("reading the domain")? {
        let name = listing.file_name.to_str().filter(|name| is_of_a_job(name));
        let Some(name) = name.and_then(|name| name.parse::<RegionName>().ok()) else { continue };
        // One that is damaged, as by a scenario that does that, nobody uses.
        if listing.info.is_ok_and(|info| is_in_use(&info)) {
            continue;
        }
        match domain.unlink(&name) {
            Err(RegionError::Missing { .. }) => {}
            done => done.doing(format_args!("taking {name} away"))?,
        }
    }
    Ok(())
}

/// Whether it is a name as [`Place::name`](crate::place::Place::name) makes them.
fn is_of_a_job(name: &str) -> bool {
    let parts: Vec<&str> = name.splitn(4, '-').collect();
    matches!(parts[..], ["stress", pid, seed, _]
        if pid.parse::<u32>().is_ok() && seed.len() == 8 && u32::from_str_radix(seed, 16).is_ok())
}

/// Whether somebody has joined it who is not known to be dead.
fn is_in_use(region: &RegionInfo) -> bool {
    let lives = |joiner: &JoinerInfo| !joiner.has_left && joiner.liveness != Liveness::Dead;
    region.has_readers || region.joiners.iter().any(lives)
}

/// Knows the process of each job that runs, and what went wrong on the way.
#[derive(Debug)]
pub(super) struct Regions {
    domain: Domain,
    processes: HashMap<u32, u32>,
    trouble: Option<io::Error>,
}

impl Regions {
    /// Looks after the regions in `domain`.
    pub(super) fn new(domain: Domain) -> Self {
        Self { domain, processes: HashMap::new(), trouble: None }
    }

    fn clear(&mut self, record: &Record) -> io::Result<()> {
        let Some(pid) = self.processes.remove(&record.ordinal) else { return Ok(()) };
        let prefix = name_prefix(pid);
        let listings = self.domain.list().map_err(io::Error::other)?;
        let names = listings.into_iter().filter_map(|listing| listing.file_name.to_str()?.parse().ok());
        for name in names.filter(|name: &RegionName| name.as_str().starts_with(&prefix)) {
            if let Some(sandbox) = record.sandbox.as_deref().filter(|_| record.outcome.is_failure()) {
                self.note(keep_image(&self.domain, &name, sandbox));
            }
            self.domain.unlink(&name).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Remembers the first error until the end: a sink that fails is told of nothing more.
    fn note(&mut self, done: io::Result<()>) {
        let trouble = self.trouble.take();
        self.trouble = trouble.or(done.err());
    }
}

impl Sink for Regions {
    fn on(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Started { ordinal, pid, .. } => _ = self.processes.insert(*ordinal, *pid),
            Event::Finished(record) => {
                let cleared = self.clear(record);
                self.note(cleared);
            }
            Event::Ended(_) => {
                // What was killed while it took its name.
                self.domain.sweep().map_err(io::Error::other)?;
                return self.trouble.take().map_or(Ok(()), Err);
            }
            _ => {}
        }
        Ok(())
    }
}

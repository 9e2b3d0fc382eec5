//! The directory of one run, and what is written there whatever other sinks there are.
//!
//! `plan.json` is written before the first job begins, a line of `records.jsonl` at each end, a line of `samples.jsonl`
//! at each look, and `summary.json` last and by rename, so that its absence tells of a run that was cut short.
//!
//! # Invariants
//! - Two runs never share a directory: it is made under a fresh name, and locked (`flock`) until the run is over.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use crate::event::Event;
use crate::run::RunError;
use crate::sink::Sink;

/// How many names are tried. The chance that one is taken is 2^-32 for each run of this process in this second.
const NAMES: u32 = 16;

/// A directory that is this run's as long as this value lives.
#[derive(Debug)]
pub(crate) struct RunDirectory {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) started_unix_ms: u64,
    /// Closing it ends the lock.
    _lock: File,
}

impl RunDirectory {
    /// Makes and locks one below `root`, which is made if it is not there.
    pub(crate) fn create(root: &Path) -> Result<Self, RunError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| RunError::Directory { path, source }
        };
        let root = std::path::absolute(root).map_err(failed(root))?;
        fs::create_dir_all(&root).map_err(failed(&root))?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let random = RandomState::new();
        let mut attempt = 0;
        let (name, path) = loop {
            let draw = random.hash_one(attempt) & 0xffff_ffff;
            let name = format!("{}-{}-{draw:08x}", date(since.as_secs()), std::process::id());
            let path = root.join(&name);
            match fs::create_dir(&path) {
                Ok(()) => break (name, path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < NAMES => attempt += 1,
                Err(error) => return Err(failed(&path)(error)),
            }
        };
        let lock = File::open(&path).map_err(failed(&path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| failed(&path)(error.into()))?;
        let started_unix_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Ok(Self { name, path, started_unix_ms, _lock: lock })
    }

    /// Removes what there is of it, since the run does not begin.
    pub(crate) fn abandon(&self) {
        // Nobody is helped by a second error besides the one that is the reason.
        let _ = fs::remove_dir_all(&self.path);
    }

    /// Makes a file in it.
    pub(crate) fn file(&self, name: &str) -> Result<File, RunError> {
        let path = self.path.join(name);
        File::create_new(&path).map_err(|source| RunError::Directory { path, source })
    }

    /// The sink that writes into it.
    pub(crate) fn sink(&self) -> Result<DirectorySink, RunError> {
        let (records, samples) = (self.file("records.jsonl")?, self.file("samples.jsonl")?);
        Ok(DirectorySink { path: self.path.clone(), records, samples })
    }
}

/// Writes the events of a run into its directory.
#[derive(Debug)]
pub(crate) struct DirectorySink {
    path: PathBuf,
    records: File,
    samples: File,
}

impl Sink for DirectorySink {
    fn on(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Planned(plan) => self.publish("plan.json", plan),
            Event::Finished(record) => line(&mut self.records, record),
            Event::Sampled(sample) => line(&mut self.samples, sample),
            Event::Ended(summary) => self.publish("summary.json", summary),
            _ => Ok(()),
        }
    }
}

impl DirectorySink {
    /// Writes a file that is whole or not there.
    fn publish(&self, name: &str, content: &impl Serialize) -> io::Result<()> {
        let part = self.path.join(format!("{name}.part"));
        let mut bytes = serde_json::to_vec_pretty(content)?;
        bytes.push(b'\n');
        fs::write(&part, bytes)?;
        fs::rename(&part, self.path.join(name))
    }
}

/// Writes one line with one call, so that no reader sees half of it.
fn line(file: &mut File, content: &impl Serialize) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(content)?;
    bytes.push(b'\n');
    file.write_all(&bytes)
}

/// Seconds since 1970 as `YYYYMMDD-HHMMSS` in UTC.
fn date(seconds: u64) -> String {
    let (mut days, time) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}{month:02}{:02}-{hour:02}{minute:02}{second:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "19700101-000000"),
            (951_827_696, "20000229-123456"),
            (1_709_251_199, "20240229-235959"),
            (1_735_689_599, "20241231-235959"),
            (4_107_542_400, "21000301-000000"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }

    #[test]
    fn two_runs_never_share_and_each_holds_its_lock() {
        let root = tempfile::tempdir().unwrap();
        let (first, second) =
            (RunDirectory::create(root.path()).unwrap(), RunDirectory::create(root.path()).unwrap());
        assert_ne!(first.path, second.path);
        let other = File::open(&first.path).unwrap();
        let try_lock = || flock(&other, FlockOperation::NonBlockingLockExclusive);
        try_lock().unwrap_err();
        drop(first);
        try_lock().unwrap();
    }
}

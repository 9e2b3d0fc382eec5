//! The directory of one run, and what is written there whatever other sinks there are.
//!
//! `plan.json` is written before the first job begins, a line of `records.jsonl` at each end, a line of `samples.jsonl`
//! at each look, and `summary.json` last and by rename, so that its absence tells of a run that was cut short.
//!
//! # Invariants
//! - Two runs never share a directory: it is made under a fresh name, and locked (`flock`) until the run is over.
//! - A directory whose lock somebody holds is never removed, nor one that has not the name of a run.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
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
        let (name, path, lock) = loop {
            let draw = random.hash_one(attempt) & 0xffff_ffff;
            let name = format!("{}-{}-{draw:08x}", date(since.as_secs()), std::process::id());
            let path = root.join(&name);
            match fs::create_dir(&path) {
                Ok(()) => match lock(&path) {
                    Ok(lock) => break (name, path, lock),
                    // Another run has taken it for an old one, by a clock that is ahead of ours.
                    Err(_) if !path.exists() && attempt < NAMES => attempt += 1,
                    Err(error) => {
                        let _ = fs::remove_dir(&path);
                        return Err(failed(&path)(error));
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < NAMES => attempt += 1,
                Err(error) => return Err(failed(&path)(error)),
            }
        };
        let started_unix_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Ok(Self { name, path, started_unix_ms, _lock: lock })
    }

    /// Removes what there is of it, since the run does not begin.
    pub(crate) fn abandon(&self) {
        // Nobody is helped by a second error besides the one that is the reason.
        let _ = fs::remove_dir_all(&self.path);
    }

    /// Removes the directories beside it of runs that are over, but for the `kept` latest.
    pub(crate) fn prune_others(&self, kept: usize) {
        let beside = self.path.parent().and_then(|root| fs::read_dir(root).ok()).into_iter().flatten().flatten();
        let directories = beside.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut names: Vec<_> =
            directories.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_run(name)).collect();
        names.sort_unstable_by(|left, right| right.cmp(left));
        let over = names.iter().filter(|name| **name != self.name).map(|name| self.path.with_file_name(name));
        let over = over.filter_map(|path| Some((lock(&path).ok()?, path)));
        for (_lock, path) in over.skip(kept) {
            // What cannot be removed hinders no run.
            let _ = fs::remove_dir_all(path);
        }
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

/// Locks a directory that is still where it was when the lock was had.
fn lock(path: &Path) -> io::Result<File> {
    let lock = File::open(path)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    let same = fs::metadata(path)?.ino() == lock.metadata()?.ino();
    if same { Ok(lock) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// Whether this is a name that [`RunDirectory::create`] gives: date, time, process, eight hexadecimal digits.
fn is_run(name: &str) -> bool {
    let parts: Vec<&str> = name.split('-').collect();
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    matches!(parts[..], [date, time, pid, draw]
        if [date, time, pid].into_iter().all(digits)
            && (date.len(), time.len(), draw.len()) == (8, 6, 8)
            && draw.bytes().all(|byte| byte.is_ascii_hexdigit()))
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

    #[test]
    fn old_runs_go_and_nothing_else_does() {
        let root = tempfile::tempdir().unwrap();
        let mut names: Vec<String> = (10..30).map(|day| format!("200001{day}-000000-1-0123abcd")).collect();
        names.extend(["mine".to_owned(), "20000101-000000-1-0123abcx".to_owned()]);
        names.iter().for_each(|name| fs::create_dir_all(root.path().join(name).join("slot-0/a.1")).unwrap());
        fs::write(root.path().join("20000101-000000-1-0123abcd"), "a file").unwrap();
        std::os::unix::fs::symlink("mine", root.path().join("20000102-000000-1-0123abcd")).unwrap();
        let held = lock(&root.path().join(&names[3])).unwrap();
        let own = RunDirectory::create(root.path()).unwrap();
        let before = fs::read_dir(root.path()).unwrap().count();
        own.prune_others(19);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), before, "one of the 20 is held");
        own.prune_others(5);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), before - 14);
        for name in names[15..].iter().chain([&names[3], &own.name]) {
            assert!(root.path().join(name).exists(), "{name}");
        }
        drop(held);
        own.prune_others(5);
        assert!(!root.path().join(&names[3]).exists());
        assert!(root.path().join("mine").exists());
    }
}

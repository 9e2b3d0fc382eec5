//! The history's file: locked, atomic appends, reading without trust, compaction.
//!
//! # Invariants
//! - Whoever writes holds the lock of the file that the name leads to, not of one that was replaced meanwhile.
//! - The wait for the lock is bounded by [`LOCK_LIMIT`].
//! - Compaction replaces the file by rename, so that a kill leaves the old one or the new one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Problem;
use super::line::{HistoryLine, MOST_BYTES};
use super::state::State;
use crate::event::SCHEMA;
use crate::lines::{Line, Lines};
use crate::sink::publish::{named, publish};

/// A file longer than this is compacted at the end of a run.
pub(crate) const COMPACT_BYTES: u64 = 8 << 20;

/// How much of a file is read at most.
const MOST_FILE_BYTES: u64 = 1 << 30;

const LOCK_LIMIT: Duration = Duration::from_secs(10);

const MOST_PROBLEMS: usize = 100;

/// Reads the file; a missing one is empty.
pub(crate) fn load(path: &Path) -> io::Result<(State, Vec<Problem>)> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Default::default()),
        file => named(path, || read(file?)),
    }
}

/// Reads lines from anything.
pub(crate) fn read(from: impl Read) -> io::Result<(State, Vec<Problem>)> {
    let mut state = State::default();
    let mut problems = Vec::new();
    let mut lines = Lines::new(from.take(MOST_FILE_BYTES), MOST_BYTES);
    while let Some((number, line)) = lines.next()? {
        let what = match line {
            Line::Whole(bytes) if bytes.is_empty() => continue,
            // A torn line is often whole but for its newline; if not, it does not parse.
            Line::Whole(bytes) | Line::Torn(bytes) => match parse(&bytes) {
                Ok(line) => {
                    state.add(line);
                    continue;
                }
                Err(what) => what,
            },
            Line::TooLong => format!("longer than {MOST_BYTES} bytes"),
        };
        if problems.len() < MOST_PROBLEMS {
            problems.push(Problem { line: number, what });
        }
    }
    state.finish();
    Ok((state, problems))
}

fn parse(bytes: &[u8]) -> Result<HistoryLine, String> {
    let line: HistoryLine = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let (HistoryLine::Job(super::line::JobLine { schema, .. })
    | HistoryLine::Recital(super::line::RecitalLine { schema, .. })) = &line;
    if *schema == SCHEMA { Ok(line) } else { Err(format!("schema {schema}, expected {SCHEMA}")) }
}

/// Appends one line, and makes the file and its directory if they are missing.
pub(crate) fn append(path: &Path, line: &HistoryLine) -> io::Result<()> {
    named(path, || {
        let mut file = lock(path)?;
        let mut bytes = Vec::new();
        if !ends_with_newline(&mut file)? {
            bytes.push(b'\n');
        }
        serde_json::to_writer(&mut bytes, line)?;
        bytes.push(b'\n');
        file.write_all(&bytes)
    })
}

/// Rewrites the file with what is needed of it, if it is longer than `most_bytes`.
pub(crate) fn compact(path: &Path, most_bytes: u64) -> io::Result<()> {
    if named(path, || fs::metadata(path))?.len() <= most_bytes {
        return Ok(());
    }
    let file = named(path, || lock(path))?;
    let (state, _) = read(&file)?;
    let mut bytes = Vec::new();
    for line in state.lines() {
        serde_json::to_writer(&mut bytes, &line)?;
        bytes.push(b'\n');
    }
    publish(path, &bytes)
}

/// Opens the file and locks it.
fn lock(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory)?;
    }
    let end = Instant::now() + LOCK_LIMIT;
    loop {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        match file.try_lock() {
            Ok(()) if same_file(&file, path) => return Ok(file),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(2)),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if Instant::now() >= end {
            let what = format!("another process has held its lock for {} s", LOCK_LIMIT.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, what));
        }
    }
}

/// Whether the name still leads to the file: a compaction may have replaced it between opening and locking.
fn same_file(file: &File, path: &Path) -> bool {
    let identity = |data: fs::Metadata| (data.dev(), data.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(file), Ok(path)) => identity(file) == identity(path),
        _ => false,
    }
}

fn ends_with_newline(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::super::History;
    use super::super::line::{JobLine, RecitalLine};
    use super::*;
    use crate::outcome::Outcome;

    fn job(run: u32, name: u32, failed: bool) -> JobLine {
        JobLine {
            schema: SCHEMA,
            group: "g".to_owned(),
            name: format!("g/{name}"),
            outcome: if failed { Outcome::Failed } else { Outcome::Passed },
            duration_ns: u64::from(run * 7 + name) * 1_000_003 % 900_000_000,
            seed: u64::from(run),
            schedule: None,
            commit: None,
            run: run.to_string(),
            unix_ms: u64::from(run),
            inputs: Some(format!("inputs {}", run / 9)),
            reason: None,
            replay: failed.then(|| format!("replay {run}")),
        }
    }

    fn write_runs(path: &Path, runs: std::ops::Range<u32>) {
        for run in runs {
            let mut failed = Vec::new();
            for name in 0..6 {
                let line = job(run, name, (run * 5 + name) % 11 == 3);
                if line.outcome.is_failure() {
                    failed.push(line.failed());
                }
                append(path, &HistoryLine::Job(line)).unwrap();
            }
            crate::sink::recital::renumber(&mut failed);
            // Every seventh run is killed before its end.
            if run % 7 != 0 {
                append(path, &HistoryLine::Recital(RecitalLine::new(&run.to_string(), failed))).unwrap();
            }
        }
    }

    /// Everything that is asked of a history.
    fn answers(path: &Path) -> impl PartialEq + std::fmt::Debug {
        let (history, problems) = History::load(path).unwrap();
        assert_eq!(problems, []);
        let expectations: Vec<_> =
            (0..8).map(|name| history.expectation("g", &format!("g/{name}"))).collect();
        (history.failures(), expectations, history.show(|_, _| true))
    }

    #[test]
    fn a_compacted_history_answers_the_same_and_goes_on_the_same() {
        let directory = tempfile::tempdir().unwrap();
        for runs in [1, 7, 8, 30, 63, 100] {
            let whole = directory.path().join(format!("whole-{runs}.jsonl"));
            let small = directory.path().join(format!("small-{runs}.jsonl"));
            write_runs(&whole, 0..runs);
            fs::copy(&whole, &small).unwrap();
            compact(&small, u64::MAX).unwrap();
            assert_eq!(fs::read(&small).unwrap(), fs::read(&whole).unwrap());
            compact(&small, 0).unwrap();
            assert_eq!(answers(&small), answers(&whole), "after {runs} runs");
            assert!(fs::read_to_string(&small).unwrap().lines().count() <= 6 * 21 + 1);
            for path in [&whole, &small] {
                write_runs(path, runs..runs + 3);
            }
            assert_eq!(answers(&small), answers(&whole), "after {runs} runs and three more");
        }
    }
}

//! Publishing: whole or not at all, whoever else writes, whatever runs out, whenever the writer dies.
//!
//! Where a test needs a process of its own it runs this binary again with the role in the environment.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fixture;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;

use fixture::{Image, Region, fixed, names};
use outlast_checkpt::{
    Cancel, Checkpoint, Partition, Progress, ReadError, RestoreOptions, Sink, SinkError, Source, SourceError,
    Style, WriteError, WriteOptions, write_file,
};
use outlast_probe::sync::{AtomicU64, Ordering};

const ROLE: &str = "OUTLAST_CHECKPT_TEST_ROLE";
const PATH: &str = "OUTLAST_CHECKPT_TEST_PATH";

fn image() -> Image {
    Image::new(&[(64, 3 << 20)], |at| (at % 249) as u8)
}

fn publish(image: &Image, path: &Path, options: &WriteOptions) -> Result<(), WriteError> {
    write_file(path, &image.meta(), &image.partitions, image, options).map(drop)
}

/// This binary again, running only `test`, as `role`.
fn child(test: &str, role: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(ROLE, role).env(PATH, path);
    command
}

fn role() -> Option<(String, PathBuf)> {
    Some((std::env::var(ROLE).ok()?, std::env::var_os(PATH)?.into()))
}

#[test]
fn mode_is_exact_and_nothing_else_is_left() {
    let directory = tempfile::tempdir().unwrap();
    for mode in [0o600, 0o644, 0o666, 0o400, 0o777] {
        let path = directory.path().join(format!("{mode:o}"));
        publish(&image(), &path, &WriteOptions::default().mode(mode)).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, mode);
        fs::remove_file(path).unwrap();
        assert_eq!(names(directory.path()), [""; 0]);
    }
    let error = publish(&image(), &directory.path().join("x"), &WriteOptions::default().mode(0o10_000));
    assert!(matches!(error, Err(WriteError::Mode { mode: 0o10_000 })));
}

#[test]
fn what_exists_is_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("taken");
    fs::write(&path, "precious").unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    for taken in [&path, &link, &directory.path().join(".").join("taken")] {
        let error = publish(&image(), taken, &WriteOptions::default()).unwrap_err();
        assert!(matches!(&error, WriteError::AlreadyExists { path } if path == taken), "{error}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    assert_eq!(names(directory.path()), ["link", "taken"]);
    let error = publish(&image(), Path::new("/"), &WriteOptions::default()).unwrap_err();
    assert!(matches!(error, WriteError::NotAFileName { .. }), "{error}");
    let error = publish(&image(), &directory.path().join("missing/x"), &WriteOptions::default()).unwrap_err();
    assert!(matches!(error, WriteError::Io { step: "open directory", .. }), "{error}");
}

/// Publishes the same path itself while the first read of the outer writer is under way.
struct Overtaken<'a> {
    image: &'a Image,
    path: &'a Path,
    reads: AtomicU64,
}

impl Source for Overtaken<'_> {
    fn read(&self, gaddr: u64, into: &mut [u8]) -> Result<(), SourceError> {
        // Relaxed: one thread.
        if self.reads.fetch_add(1, Ordering::Relaxed) == 0 {
            publish(self.image, self.path, &WriteOptions::default().threads(1)).map_err(SourceError::new)?;
        }
        self.image.read(gaddr, into)
    }
}

#[test]
fn of_two_writers_of_one_path_one_succeeds() {
    let directory = tempfile::tempdir().unwrap();
    let (image, path) = (image(), directory.path().join("contended"));
    let source = Overtaken { image: &image, path: &path, reads: AtomicU64::new(0) };
    let options = WriteOptions::default().threads(1);
    let error = write_file(&path, &image.meta(), &image.partitions, &source, &options).unwrap_err();
    assert!(matches!(error, WriteError::AlreadyExists { .. }), "{error}");
    assert_eq!(names(directory.path()), ["contended"], "the inner writer's, and no temporary file");
    let region = Region::new(image.bytes.len());
    Checkpoint::open(&path).unwrap().restore(&region, &RestoreOptions::default()).unwrap();
    image.assert_restored(region);
}

/// Fails, panics or cancels when a given address is read.
struct Tripwire<'a> {
    image: &'a Image,
    at: u64,
    trip: &'a (dyn Fn() -> Result<(), SourceError> + Sync),
}

impl Source for Tripwire<'_> {
    fn read(&self, gaddr: u64, into: &mut [u8]) -> Result<(), SourceError> {
        if (gaddr..gaddr + into.len() as u64).contains(&self.at) {
            (self.trip)()?;
        }
        self.image.read(gaddr, into)
    }
}

#[test]
fn a_writer_that_fails_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (image, path) = (image(), directory.path().join("never"));
    for threads in [1, 2, 8] {
        for style in Style::ALL {
            let cancel = Cancel::new();
            let options = fixed(style, threads).window_bytes(64 << 10).cancel(cancel.clone());
            let write = |trip: &(dyn Fn() -> Result<(), SourceError> + Sync)| {
                let source = Tripwire { image: &image, at: 1 << 20, trip };
                write_file(&path, &image.meta(), &image.partitions, &source, &options)
            };
            match write(&|| Err(SourceError::new("gone"))).unwrap_err() {
                WriteError::Source { gaddr, size_bytes, source } => {
                    assert!((gaddr..gaddr + size_bytes).contains(&(1 << 20)));
                    assert_eq!(source.to_string(), "gone");
                }
                other => panic!("{other}"),
            }
            assert_eq!(names(directory.path()), [""; 0]);
            let panicked =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| write(&|| panic!("tripped"))));
            assert!(panicked.is_err(), "the source's panic reaches the caller");
            assert_eq!(names(directory.path()), [""; 0]);
            let trip = || {
                cancel.cancel();
                Ok(())
            };
            let error = write(&trip).unwrap_err();
            assert!(
                matches!(error, WriteError::Cancelled { done_bytes, total_bytes } if done_bytes < total_bytes),
                "{error}"
            );
            assert_eq!(names(directory.path()), [""; 0]);
        }
    }
}

struct Refusing;

impl Sink for Refusing {
    fn write(&self, _gaddr: u64, _from: &[u8]) -> Result<(), SinkError> {
        Err(SinkError::new("full"))
    }
}

#[test]
fn progress_adds_up_and_reading_can_be_refused_and_cancelled() {
    let directory = tempfile::tempdir().unwrap();
    let (image, path) = (image(), directory.path().join("x"));
    let total = 3 << 20;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = |seen: &Arc<Mutex<Vec<Progress>>>| {
        let seen = Arc::clone(seen);
        move |progress: Progress| seen.lock().unwrap().push(progress)
    };
    let check = |seen: &Arc<Mutex<Vec<Progress>>>| {
        let mut seen = std::mem::take(&mut *seen.lock().unwrap());
        seen.sort_by_key(|progress| progress.done_bytes);
        assert!(seen.windows(2).all(|pair| pair[0].done_bytes < pair[1].done_bytes));
        assert!(seen.iter().all(|progress| progress.total_bytes == total));
        assert_eq!(seen.last().unwrap().done_bytes, total);
    };
    publish(&image, &path, &WriteOptions::default().threads(3).progress(note(&seen))).unwrap();
    check(&seen);
    let checkpoint = Checkpoint::open(&path).unwrap();
    let options = RestoreOptions::default().threads(3).progress(note(&seen));
    checkpoint.verify(&options).unwrap();
    check(&seen);
    checkpoint.restore(&Region::new(image.bytes.len()), &options).unwrap();
    check(&seen);

    let error = checkpoint.restore(&Refusing, &RestoreOptions::default().threads(1)).unwrap_err();
    assert!(matches!(error, ReadError::Sink { gaddr: 64, .. }), "{error}");
    let cancel = Cancel::new();
    cancel.cancel();
    let options = RestoreOptions::default().cancel(cancel);
    let cancelled =
        |error| matches!(error, ReadError::Cancelled { done_bytes: 0, total_bytes } if total_bytes == total);
    assert!(cancelled(checkpoint.verify(&options).unwrap_err()));
    assert!(cancelled(checkpoint.restore(&Refusing, &options).unwrap_err()));
}

#[test]
fn what_cannot_be_a_checkpoint_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    assert!(matches!(Checkpoint::open(path("missing")), Err(ReadError::Open { .. })));
    assert!(matches!(Checkpoint::open(directory.path()), Err(ReadError::NotAFile)));
    let fifo = path("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    assert!(matches!(Checkpoint::open(&fifo), Err(ReadError::NotAFile)), "and it does not hang");
    fs::write(path("text"), "This is no checkpoint, however long it goes on.".repeat(20)).unwrap();
    let error = Checkpoint::open(path("text")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "not a checkpoint: it starts with 5468697320697320, expected 894f4c434b0d0a1a"
    );
    fs::write(path("short"), "PK").unwrap();
    assert!(matches!(Checkpoint::open(path("short")), Err(ReadError::NotACheckpoint { .. })));
}

#[test]
fn bad_requests_are_refused_before_anything_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let (image, path) = (image(), directory.path().join("x"));
    let write = |meta: &outlast_checkpt::Meta, partitions: &[Partition]| {
        write_file(&path, meta, partitions, &image, &WriteOptions::default()).unwrap_err()
    };
    let mut meta = image.meta();
    let beyond = [Partition { gaddr: 0, size_bytes: meta.data_max_bytes + 1, tag: 1 }];
    assert!(matches!(write(&meta, &beyond), WriteError::Partition(error) if error.index == 0));
    meta.name = "n".repeat(65);
    assert!(matches!(write(&meta, &[]), WriteError::NameTooLong { size_bytes: 65, max_bytes: 64 }));
    let mut meta = image.meta();
    meta.info.insert("long".into(), "i".repeat(64 << 10).into());
    assert!(matches!(write(&meta, &[]), WriteError::InfoTooLarge { max_bytes: 65_536, .. }));
    let mut meta = image.meta();
    let deep = (0..200).fold(serde_json::Value::Null, |inner, _| vec![inner].into());
    meta.info.insert("deep".into(), deep);
    assert!(matches!(write(&meta, &[]), WriteError::InfoTooDeep));
    assert_eq!(names(directory.path()), [""; 0]);
}

#[test]
fn file_size_limit_is_an_error_not_a_signal() {
    if let Some((_, path)) = role() {
        let limit = rustix::process::Rlimit { current: Some(1 << 20), maximum: Some(1 << 20) };
        rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
        let directory = path.parent().unwrap();
        for threads in [1, 4] {
            let error = publish(&image(), &path, &WriteOptions::default().threads(threads)).unwrap_err();
            assert!(
                matches!(error, WriteError::TooLarge { limit_bytes: 0x10_0000, needed_bytes, .. }
                    if needed_bytes > 3 << 20),
                "{error}"
            );
            assert_eq!(names(directory), [""; 0]);
        }
        let small = Image::new(&[(0, 1000)], |_| 1);
        publish(&small, &path, &WriteOptions::default()).unwrap();
        return println!("limit held");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("limited");
    let output = child("file_size_limit_is_an_error_not_a_signal", "limit", &path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("limit held"), "{:?}: {text}", output.status);
}

#[test]
fn a_full_file_system_is_an_error_and_leaves_nothing() {
    if let Some((_, path)) = role() {
        let directory = path.parent().unwrap();
        for threads in [1, 4] {
            let error = publish(&image(), &path, &WriteOptions::default().threads(threads)).unwrap_err();
            match error {
                WriteError::NoSpace { written_bytes, needed_bytes, .. } => {
                    assert!(written_bytes <= 1 << 20 && needed_bytes > 3 << 20);
                }
                other => panic!("{other}"),
            }
            assert_eq!(names(directory), [""; 0]);
        }
        let zeros = Image::new(&[(0, 3 << 20)], |_| 0);
        publish(&zeros, &path, &WriteOptions::default()).unwrap();
        return println!("space held");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("crowded");
    let test = child("a_full_file_system_is_an_error_and_leaves_nothing", "full", &path);
    let script = "mount -t tmpfs -o size=1m tmpfs \"$1\" || exit 77; shift; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(directory.path());
    command.arg(test.get_program()).args(test.get_args()).env(ROLE, "full").env(PATH, &path);
    match command.output() {
        Ok(output) if String::from_utf8_lossy(&output.stdout).contains("running 1 test") => {
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("space held"), "{:?}: {text}", output.status);
        }
        Ok(output) => {
            println!("skipped: no user namespace with a tmpfs: {}", String::from_utf8_lossy(&output.stderr))
        }
        Err(error) => println!("skipped: unshare does not start: {error}"),
    }
}

/// Says that it is half way, then waits for a line before it goes on.
fn pause_half_way() -> Result<(), SourceError> {
    println!("half way");
    std::io::stdout().flush().map_err(SourceError::new)?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(SourceError::new)?;
    Ok(())
}

/// A writer of `path` that is half way.
fn half_way(path: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut command = child("a_killed_writer_leaves_no_file_and_the_next_one_sweeps", "writer", path);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.ends_with("half way\n") {
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "the writer ended early: {line}");
    }
    (child, output)
}

#[test]
fn a_killed_writer_leaves_no_file_and_the_next_one_sweeps() {
    let image = image();
    if let Some((_, path)) = role() {
        let source = Tripwire { image: &image, at: 2 << 20, trip: &pause_half_way };
        let options = WriteOptions::default().threads(2);
        let written = write_file(&path, &image.meta(), &image.partitions, &source, &options);
        return println!("writer says {written:?}");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("target");
    let other = directory.path().join("target2");

    let (mut killed, _) = half_way(&path);
    let temps = names(directory.path());
    assert!(temps.len() == 1 && temps[0].starts_with(".target."), "{temps:?}");
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(names(directory.path()), temps, "the temporary file, and nothing under the final name");
    assert!(Checkpoint::open(directory.path().join(&temps[0])).is_err(), "it is no checkpoint");

    publish(&image, &other, &WriteOptions::default()).unwrap();
    assert_eq!(names(directory.path()).len(), 2, "another target's temporary file is not ours to sweep");
    fs::remove_file(&other).unwrap();

    // A live writer's temporary file is not swept; the dead one's is.
    let (mut live, mut output) = half_way(&path);
    assert_eq!(names(directory.path()).len(), 1, "swept");
    publish(&image, &path, &WriteOptions::default()).unwrap();
    assert_eq!(names(directory.path()).len(), 2, "ours, and the live writer's");
    live.stdin.take().unwrap().write_all(b"go on\n").unwrap();
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    live.wait().unwrap();
    assert!(said.contains("writer says Err(AlreadyExists"), "{said}");
    assert_eq!(names(directory.path()), ["target"]);
    let report = Checkpoint::open(&path).unwrap().verify(&RestoreOptions::default()).unwrap();
    assert!(report.faults.is_empty());
}

//! A fresh directory for one attempt at a job, and the log of what was done with it.
//!
//! # Invariants
//! - A sandbox never existed before its attempt: it holds the skeleton's content and what this attempt wrote.
//! - Skeletons are plain: directories and files. Symbolic links are refused, since through one two sandboxes could share
//!   what each takes for its own.
//! - A program in a sandbox can be run as soon as the sandbox is there.

use core::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::fs::OFlags;

use crate::job::Job;

/// The directory that is the `slot`'s in a run.
pub(crate) fn slot_directory(run: &Path, slot: u32) -> PathBuf {
    run.join(format!("slot-{slot}"))
}

/// A job's name as a file name: what is neither letter, digit, `.`, `_` nor `-` becomes `-`, and no more than 200 bytes.
pub(crate) fn file_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    name.chars().take(200).map(plain).collect()
}

/// What stands in the way of a skeleton or sandbox, and where.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}", path = path.display())]
pub(crate) struct SandboxError {
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> SandboxError {
    |source| SandboxError { path: path.to_owned(), source }
}

/// The sandbox of one attempt.
#[derive(Debug)]
pub(crate) struct Sandbox {
    path: PathBuf,
    log: File,
    began: Instant,
}

impl Sandbox {
    /// Makes the sandbox of a job on a slot. Two names that look alike as file names are told apart by the ordinal.
    pub(crate) fn create(
        run: &Path,
        slot: u32,
        ordinal: u32,
        job: &Job,
        began: Instant,
    ) -> Result<Self, SandboxError> {
        let slot = slot_directory(run, slot);
        let name = format!("{}.{}", file_name(&job.name), job.repetition);
        let mut path = slot.join(&name);
        let made = match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                path = slot.join(format!("{name}.{ordinal}"));
                fs::create_dir(&path)
            }
            made => made,
        };
        made.map_err(at(&path))?;
        if let Some(skeleton) = &job.skeleton {
            copy(skeleton, &path)?;
        }
        let log = path.join("log");
        let log = OpenOptions::new().append(true).create(true).open(&log).map_err(at(&log))?;
        Ok(Self { path, log, began })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Notes what was done, with the time since the run began. A log that cannot be written fails no job.
    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        let line = format!("{:12.6} {what}\n", self.began.elapsed().as_secs_f64());
        let _ = (&self.log).write_all(line.as_bytes());
    }

    /// Removes it; what could not be removed is still there.
    pub(crate) fn remove(self) -> Result<(), (PathBuf, io::Error)> {
        fs::remove_dir_all(&self.path).map_err(|error| (self.path, error))
    }
}

/// Opens a file that the job was to leave in its sandbox. The job may have put anything there: a link is not followed,
/// a pipe is not waited for, and nothing but a file is opened.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a file")) }
}

/// Looks whether a skeleton can be copied: every directory can be listed, every file be opened.
pub(crate) fn check_skeleton(skeleton: &Path) -> Result<(), SandboxError> {
    visit(skeleton, &mut |entry, is_directory| {
        if is_directory { Ok(()) } else { File::open(entry).map(drop).map_err(at(entry)) }
    })
}

/// Copies what is in a skeleton, modes included, by `cp`.
///
/// This process must not do it: a child that another slot forks meanwhile would hold the copy open for writing until
/// after its exec, and a program that anyone holds open for writing cannot be run (`ETXTBSY`).
fn copy(skeleton: &Path, sandbox: &Path) -> Result<(), SandboxError> {
    let mut process = Command::new("cp");
    process.arg("-R").arg("--").arg(skeleton.join(".")).arg(sandbox).env("LC_ALL", "C").stdin(Stdio::null());
    let output = process.process_group(0).output().map_err(at(Path::new("cp")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(at(sandbox)(io::Error::other(format!("{}, {}", output.status, said.trim_end()))))
}

/// Calls `each` with every directory before its content, and every file.
fn visit(
    path: &Path,
    each: &mut dyn FnMut(&Path, bool) -> Result<(), SandboxError>,
) -> Result<(), SandboxError> {
    let kind = fs::symlink_metadata(path).map_err(at(path))?.file_type();
    if kind.is_file() {
        return each(path, false);
    }
    if !kind.is_dir() {
        let refused =
            io::Error::other("a skeleton holds files and directories only, no links and nothing special");
        return Err(at(path)(refused));
    }
    each(path, true)?;
    for entry in fs::read_dir(path).map_err(at(path))? {
        visit(&entry.map_err(at(path))?.path(), each)?;
    }
    Ok(())
}

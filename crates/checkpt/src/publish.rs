//! Puts a checkpoint under its final name whole or not at all.
//!
//! The bytes go into a temporary file in the target's directory, named after the target and locked (`flock`)
//! by its writer for as long as it lives. It is synced, renamed without replacing anything, and the directory
//! is synced.
//!
//! **Invariants**
//! - Under the final name there is never anything but a complete checkpoint, whose bytes were synced before
//!   it got that name.
//! - A temporary file that is not locked belongs to nobody, and the next writer of the same target removes it.

use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use outlast_probe::{fault, probe};
use rand::TryRng;
use rand::rngs::SysRng;
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, fchmod, fstat, linkat, openat, renameat_with, statat,
    unlinkat,
};
use rustix::io::Errno;

use crate::digest::Digest;
use crate::error::{Target, WriteError};
use crate::header::Meta;
use crate::options::WriteOptions;
use crate::partition::Partition;
use crate::summary::Summary;
use crate::write::{Plan, Source};

/// Writes a checkpoint and publishes it under `path`, which must not exist.
///
/// The file appears under that name complete and durable, or not at all; on an error no file is left. A crash
/// leaves at most a temporary file beside it, which the next call for the same path removes.
///
/// `partitions` are ascending and disjoint. Blocks for as long as reading, compressing, writing and syncing
/// take; needs about four windows of memory per thread and 24 bytes per partition.
///
/// # Errors
/// See [`WriteError`]; `AlreadyExists` is found before the work and again at its end, so of two writers of
/// one path exactly one succeeds.
///
/// # Panics
/// Only if `source` or the progress callback does; no file is left then either.
///
/// ```
/// use outlast_checkpt::*;
///
/// struct Fill;
/// impl Source for Fill {
///     fn read(&self, _gaddr: u64, into: &mut [u8]) -> Result<(), SourceError> {
///         into.fill(7);
///         Ok(())
///     }
/// }
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("sevens");
/// let meta = Meta { name: "sevens".into(), data_max_bytes: 1 << 20, ..Meta::default() };
/// let partitions = [Partition { gaddr: 4096, size_bytes: 1000, tag: 1 }];
/// let summary = write_file(&path, &meta, &partitions, &Fill, &WriteOptions::default())?;
/// assert_eq!(summary.used_bytes, 1000);
/// assert!(Checkpoint::open(&path)?.verify(&RestoreOptions::default())?.faults.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_file(
    path: &Path,
    meta: &Meta,
    partitions: &[Partition],
    source: &dyn Source,
    options: &WriteOptions,
) -> Result<Summary, WriteError> {
    if options.mode & !0o7777 != 0 {
        return Err(WriteError::Mode { mode: options.mode });
    }
    let plan = Plan::new(meta, partitions, options)?;
    let place = Place::open(path)?;
    place.check_vacant()?;
    place.sweep();
    let temp = Temp::create(&place)?;
    let summary = plan.write(&temp.file, place.target(), source)?;
    temp.publish(options.mode)?;
    Ok(summary)
}

/// The directory and the name under which the checkpoint shall appear.
struct Place {
    path: PathBuf,
    directory: File,
    name: OsString,
}

impl Place {
    fn open(path: &Path) -> Result<Self, WriteError> {
        let Some(name) = path.file_name() else {
            return Err(WriteError::NotAFileName { path: path.to_owned() });
        };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let target = Target::Path(path.to_owned());
        let directory =
            File::open(parent).map_err(|source| WriteError::Io { step: "open directory", target, source })?;
        Ok(Self { path: path.to_owned(), directory, name: name.to_owned() })
    }

    fn target(&self) -> Target {
        Target::Path(self.path.clone())
    }

    fn refusal(&self, step: &'static str, error: impl Into<io::Error>) -> WriteError {
        let error = error.into();
        match Errno::from_io_error(&error) {
            Some(Errno::EXIST) => WriteError::AlreadyExists { path: self.path.clone() },
            Some(Errno::NOSPC | Errno::DQUOT) => {
                WriteError::NoSpace { target: self.target(), written_bytes: 0, needed_bytes: 0 }
            }
            _ => WriteError::Io { step, target: self.target(), source: error },
        }
    }

    fn check_vacant(&self) -> Result<(), WriteError> {
        match statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(WriteError::AlreadyExists { path: self.path.clone() }),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.refusal("stat", error)),
        }
    }

    /// What the names of all temporary files of this target start with. The hash tells apart targets whose
    /// names are cut here.
    fn temp_prefix(&self) -> Vec<u8> {
        let name = self.name.as_bytes();
        let mut prefix = b".".to_vec();
        prefix.extend_from_slice(&name[..name.len().min(128)]);
        prefix.extend_from_slice(format!(".{}.", Digest::of(name)).as_bytes());
        prefix
    }

    /// Removes temporary files of this target that no writer holds. Whatever cannot be removed stays: it is
    /// not in the way.
    fn sweep(&self) {
        let Ok(entries) = Dir::read_from(&self.directory) else { return };
        let prefix = self.temp_prefix();
        for entry in entries.flatten() {
            let name = entry.file_name().to_bytes();
            if name.starts_with(&prefix) && name.ends_with(TEMP_SUFFIX) {
                self.sweep_one(OsStr::from_bytes(name));
            }
        }
    }

    fn sweep_one(&self, name: &OsStr) {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = openat(&self.directory, name, flags, Mode::empty()) else { return };
        let file = File::from(file);
        if file.try_lock().is_ok() && self.is_named(&file, name) {
            let _ = unlinkat(&self.directory, name, AtFlags::empty());
        }
    }

    /// Whether `name` in the directory is that regular file.
    fn is_named(&self, file: &File, name: &OsStr) -> bool {
        let Ok(held) = fstat(file) else { return false };
        statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|named| {
            (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)
                && FileType::from_raw_mode(held.st_mode) == FileType::RegularFile
        })
    }
}

const TEMP_SUFFIX: &[u8] = b".tmp";

/// A temporary file, locked; unlinked when dropped unpublished.
struct Temp<'a> {
    place: &'a Place,
    name: OsString,
    file: File,
    is_published: bool,
}

impl<'a> Temp<'a> {
    fn create(place: &'a Place) -> Result<Self, WriteError> {
        loop {
            let mut random = [0; 8];
            SysRng
                .try_fill_bytes(&mut random)
                .map_err(|error| place.refusal("draw a name", io::Error::other(error)))?;
            let mut name = place.temp_prefix();
            name.extend_from_slice(format!("{:016x}", u64::from_le_bytes(random)).as_bytes());
            name.extend_from_slice(TEMP_SUFFIX);
            let name = OsString::from_vec(name);
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = match openat(&place.directory, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => File::from(file),
                Err(Errno::EXIST) => continue,
                Err(error) => return Err(place.refusal("create temporary file", error)),
            };
            let temp = Self { place, name, file, is_published: false };
            // A sweeper that came between creation and lock holds the lock or has removed the name: then
            // this one is lost, and dropped. Where files cannot be locked nobody sweeps.
            let is_lost = matches!(temp.file.try_lock(), Err(TryLockError::WouldBlock));
            if !is_lost && place.is_named(&temp.file, &temp.name) {
                return Ok(temp);
            }
        }
    }

    fn publish(mut self, mode: u32) -> Result<(), WriteError> {
        let place = self.place;
        fchmod(&self.file, Mode::from_raw_mode(mode)).map_err(|error| place.refusal("chmod", error))?;
        probe!("checkpt.publish.before_fsync");
        let synced = match fault!("checkpt.publish.fsync") {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => self.file.sync_all(),
        };
        synced.map_err(|error| place.refusal("fsync", error))?;
        probe!("checkpt.publish.before_rename");
        self.rename().map_err(|error| place.refusal("rename", error))?;
        probe!("checkpt.publish.after_rename");
        // From here on the final name is what has to go if the rest fails.
        self.name.clone_from(&place.name);
        let synced = match fault!("checkpt.publish.dirsync") {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => place.directory.sync_all(),
        };
        synced.map_err(|error| place.refusal("fsync of the directory", error))?;
        self.is_published = true;
        probe!("checkpt.publish.after_dirsync");
        Ok(())
    }

    fn rename(&self) -> Result<(), Errno> {
        if let Some(errno) = fault!("checkpt.publish.rename") {
            return Err(Errno::from_raw_os_error(errno));
        }
        let directory = &self.place.directory;
        match renameat_with(directory, &self.name, directory, &self.place.name, RenameFlags::NOREPLACE) {
            // A file system without the flag: a hard link does not replace anything either.
            Err(Errno::INVAL | Errno::NOSYS) => {
                linkat(directory, &self.name, directory, &self.place.name, AtFlags::empty())?;
                unlinkat(directory, &self.name, AtFlags::empty())
            }
            renamed => renamed,
        }
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if !self.is_published && self.place.is_named(&self.file, &self.name) {
            let _ = unlinkat(&self.place.directory, &self.name, AtFlags::empty());
        }
    }
}

//! The marker file, watched: its directory by inotify since before the worker began.
//!
//! # Invariants
//! - The watch is older than the first look, so no marker is missed.
//! - What is read is a regular file of the worker's user, not reached through a symbolic link, and bounded.
//! - A directory that was made for the marker is removed with it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use super::mishap::{Difference, Mishap, Peer};
use super::{Expected, Medium, Sign};
use crate::marker::{Identity, MARKER_BYTES_MAX, Marker, MarkerParseError, Protocol};

/// Which markers say that a worker is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acceptance {
    /// Those that say in their second line that they are of this worker.
    #[default]
    Strict,
    /// Also the bare line `ready`, in a file of the worker's user that is younger than the worker's start.
    Compatible,
}

/// Where the marker of a worker appears, and what is accepted there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MarkerSpec {
    /// What is accepted.
    pub acceptance: Acceptance,
    /// Where the worker publishes if nothing overrides it. `None`: in a directory of its own with mode 0700 below
    /// [`std::env::temp_dir`], of which the worker hears by
    /// [`WORKER_READY_MARKER_OVERRIDE_ENV`](crate::WORKER_READY_MARKER_OVERRIDE_ENV).
    pub protocol: Option<Protocol>,
}

/// Where the marker will appear, watched already.
#[derive(Debug)]
pub(crate) struct Watch {
    inotify: OwnedFd,
    acceptance: Acceptance,
    protocol: Protocol,
    /// The path, if it does not depend on the process id.
    path: Option<PathBuf>,
    private: Option<PrivateDirectory>,
}

#[derive(Debug)]
struct PrivateDirectory(PathBuf);

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // Whatever cannot be removed is only a leftover.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Watch {
    /// Watches the directory of the marker of a worker that will have this nonce, and `variable` in its environment.
    pub(crate) fn begin(
        spec: &MarkerSpec,
        nonce: u128,
        variable: impl FnOnce(&OsStr) -> Option<OsString>,
    ) -> io::Result<Self> {
        let protocol = spec.protocol.clone().unwrap_or_default();
        let given = variable(&protocol.variable).filter(|path| !path.is_empty()).map(PathBuf::from);
        let mut private = None;
        let path = match (given, &spec.protocol) {
            (Some(path), _) => Some(path),
            (None, Some(_)) => None,
            (None, None) => {
                let directory = std::env::temp_dir().join(format!("outlast-worker-{nonce:032x}"));
                DirBuilder::new().mode(0o700).create(&directory)?;
                let path = directory.join("ready");
                private = Some(PrivateDirectory(directory));
                Some(path)
            }
        };
        let example = path.clone().unwrap_or_else(|| protocol.path(0, None));
        let directory = match example.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(|error| match error {
            Errno::MFILE => {
                io::Error::other("no inotify instance is left: see fs.inotify.max_user_instances")
            }
            other => other.into(),
        })?;
        // A link, a directory or a pipe appears by its creation alone.
        let appears = WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE | WatchFlags::CREATE;
        let flags = appears | WatchFlags::ONLYDIR;
        add_watch(&inotify, directory, flags)?;
        Ok(Self { inotify, acceptance: spec.acceptance, protocol, path, private })
    }

    /// What has to be in the worker's environment.
    pub(crate) fn variable(&self) -> Option<(&OsStr, &Path)> {
        let path = self.private.as_ref().and(self.path.as_ref())?;
        Some((&self.protocol.variable, path))
    }

    /// The watch on the marker of process `pid`.
    pub(crate) fn of(self, pid: u32) -> WatchedMarker {
        let path = self.path.clone().unwrap_or_else(|| self.protocol.path(pid, None));
        WatchedMarker { watch: self, path, seen: false, finished: false }
    }
}

/// A marker's path, watched.
#[derive(Debug)]
pub(crate) struct WatchedMarker {
    watch: Watch,
    path: PathBuf,
    /// Whether it was the worker's own.
    seen: bool,
    finished: bool,
}

impl WatchedMarker {
    /// What there is at a path; `None` if nothing is there yet, or not all of it.
    fn read(&self, path: &Path, expected: &Expected) -> Result<Option<Marker>, Mishap> {
        let failed = |source| Mishap::Io { doing: "reading the ready marker", source };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = match open(path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(Mishap::WrongPeer { peer: Peer::Symlink }),
            Err(Errno::NXIO) => return Err(Mishap::WrongPeer { peer: Peer::NotAFile }),
            Err(Errno::ACCESS) => return Err(owner_or(path, Errno::ACCESS.into())),
            Err(error) => return Err(failed(error.into())),
        };
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(Mishap::WrongPeer { peer: Peer::NotAFile });
        }
        if metadata.uid() != expected.uid {
            return Err(Mishap::WrongPeer { peer: Peer::Owner { uid: metadata.uid() } });
        }
        if (metadata.mtime(), metadata.mtime_nsec()) < expected.since {
            return Err(Mishap::Stale { difference: Difference::OlderThanSpawn });
        }
        let mut bytes = Vec::new();
        file.take(MARKER_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        match Marker::parse(&bytes) {
            Ok(marker) => Ok(Some(marker)),
            // Its writer does not rename: closing the file is an event of its own.
            Err(MarkerParseError::Incomplete) => Ok(None),
            Err(error) => Err(Mishap::Stale { difference: Difference::Content(error) }),
        }
    }

    /// What is wrong if the file `name` is a marker with this worker's nonce under another number: the worker has that
    /// number in a pid namespace of its own.
    fn misplaced(&self, name: &OsStr, expected: &Expected) -> Option<Mishap> {
        let path = self.path.with_file_name(name);
        let prefix = self.watch.protocol.prefix.as_bytes();
        if path == self.path || !path.as_os_str().as_bytes().starts_with(prefix) {
            return None;
        }
        match self.read(&path, expected) {
            Ok(Some(marker @ Marker::Strict(found))) if found.nonce == expected.identity.nonce => {
                accept(marker, Acceptance::Strict, expected).err()
            }
            _ => None,
        }
    }

    /// Takes a bounded number of events. The path is looked at whatever they are; what is left keeps the descriptor
    /// readable.
    fn events(&self, expected: &Expected) -> io::Result<Option<Mishap>> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(&self.watch.inotify, &mut buffer);
        let mut wrong = None;
        loop {
            match events.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    wrong = wrong.or_else(|| self.misplaced(name?, expected));
                }
                Err(Errno::AGAIN | Errno::INTR) => return Ok(wrong),
                Err(error) => return Err(error.into()),
            }
            if events.is_buffer_empty() {
                return Ok(wrong);
            }
        }
    }
}

/// A file that may not be read is somebody else's, or an error.
fn owner_or(path: &Path, source: io::Error) -> Mishap {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.uid() != rustix::process::geteuid().as_raw() => {
            Mishap::WrongPeer { peer: Peer::Owner { uid: metadata.uid() } }
        }
        _ => Mishap::Io { doing: "reading the ready marker", source },
    }
}

/// Whether a marker says that the expected worker is ready.
fn accept(marker: Marker, acceptance: Acceptance, expected: &Expected) -> Result<(), Mishap> {
    let stale = |difference| Err(Mishap::Stale { difference });
    let found = match marker {
        Marker::Simple if acceptance == Acceptance::Compatible => return Ok(()),
        Marker::Simple => return stale(Difference::Unsigned),
        Marker::Strict(identity) => identity,
    };
    let Identity { pid, start_time, boot_id, nonce } = expected.identity;
    let unsigned = found.nonce == 0 && acceptance == Acceptance::Compatible;
    if found.boot_id != boot_id {
        return stale(Difference::BootId);
    }
    if found.nonce != nonce && !unsigned {
        return stale(Difference::Nonce);
    }
    if found.pid != pid {
        // With the right nonce: the worker under a number of another namespace, or a child of it.
        let elsewhere = expected.check_namespaces().or_else(|| expected.check_child_namespace());
        return Err(elsewhere.unwrap_or_else(|| expected.foreign(found.pid)));
    }
    if found.start_time != start_time {
        return stale(Difference::StartTime { expected: start_time, found: found.start_time });
    }
    Ok(())
}

impl Medium for WatchedMarker {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        (!self.finished).then(|| self.watch.inotify.as_fd())
    }

    fn look(&mut self, expected: &Expected) -> io::Result<Vec<Sign>> {
        if self.finished {
            return Ok(Vec::new());
        }
        let misplaced = self.events(expected)?;
        let own = self.read(&self.path, expected);
        let own = own.and_then(|marker| match marker {
            Some(marker) => accept(marker, self.watch.acceptance, expected).map(Some),
            None => misplaced.map_or(Ok(None), Err),
        });
        Ok(match own {
            Ok(None) => Vec::new(),
            Ok(Some(())) => {
                (self.seen, self.finished) = (true, true);
                vec![Sign::Ready { bytes: None }]
            }
            Err(mishap) => {
                self.finished = true;
                vec![Sign::Wrong(mishap)]
            }
        })
    }
}

impl Drop for WatchedMarker {
    fn drop(&mut self) {
        if self.seen {
            // Our worker's own; the worker is gone, and the next one of its number must not find it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

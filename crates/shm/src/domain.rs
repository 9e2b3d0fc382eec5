//! The directory that regions are found in.
//!
//! # Invariants
//! - The directory belongs to the effective user, and nobody else may enter it; it was not reached through a
//!   symbolic link in the last component, and is used by descriptor from then on.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, chmod, fstat, mkdirat, openat, statat, unlinkat,
};
use rustix::io::Errno;

use crate::draft::DRAFT_PREFIX;
use crate::error::{Call, DomainError, RegionError};
use crate::joiner::table::Table;
use crate::joiner::{JoinerInfo, proof};
use crate::layout::USER_OFFSET;
use crate::lock::LockState;
use crate::mem::Words;
use crate::name::RegionName;
use crate::region::{check_file, lock_state, open_entry, read_header};
use crate::space::Space;
use crate::spec::PageSize;
use crate::sys::map::Mapping;

/// A directory of regions, open. Clones share the descriptor.
#[derive(Debug, Clone)]
pub struct Domain {
    directory: Arc<OwnedFd>,
    path: PathBuf,
}

/// One entry of a domain.
#[derive(Debug)]
#[non_exhaustive]
pub struct Listing {
    /// The file's name, which need not be one of a region.
    pub file_name: OsString,
    /// What it is, or why it is not a region that this user can join.
    pub info: Result<RegionInfo, RegionError>,
}

/// What can be said about a region without joining it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionInfo {
    /// Its name, the same as in its header.
    pub name: RegionName,
    /// 128 random bits that tell it from every other.
    pub id: u128,
    /// What it holds, as its creator said.
    pub kind: u64,
    /// Layout of what it holds, as its creator said.
    pub fingerprint: u64,
    /// Length of the file in bytes.
    pub len_bytes: u64,
    /// Length in bytes that it was made with.
    pub len_min_bytes: u64,
    /// Length in bytes that it can grow to.
    pub len_max_bytes: u64,
    /// Size of its pages.
    pub page_size: PageSize,
    /// Permission bits of the file.
    pub mode: u32,
    /// Effective user id of the creator.
    pub creator_uid: u32,
    /// When it was made, in nanoseconds since 1970-01-01 UTC.
    pub created_unix_ns: u64,
    /// Who has joined it for writing and not left, the dead included.
    pub joiners: Vec<JoinerInfo>,
    /// Whether anybody has joined it for reading only.
    pub has_readers: bool,
    /// Its lock.
    pub lock: LockState,
}

impl Domain {
    /// Opens the directory that the environment variable `OUTLAST_DIR` names, else
    /// `/dev/shm/outlast-UID`.
    ///
    /// # Errors
    /// As [`Domain::open`].
    pub fn open_default() -> Result<Self, DomainError> {
        match std::env::var_os("OUTLAST_DIR").filter(|path| !path.is_empty()) {
            Some(path) => Self::open(Path::new(&path)),
            None => {
                let uid = rustix::process::geteuid().as_raw();
                Self::open(Path::new(&format!("/dev/shm/outlast-{uid}")))
            }
        }
    }

    /// Opens a directory, making it, mode 0700 whatever the umask, if its last component does not exist.
    ///
    /// # Errors
    /// [`DomainError`] if it is a symbolic link or no directory, belongs to another user, or lets others in.
    pub fn open(path: &Path) -> Result<Self, DomainError> {
        // Without the slashes at the end, which would have a link followed.
        let path: PathBuf = path.components().collect();
        let failed = |what: &'static str| {
            let path = path.clone();
            move |source: Errno| DomainError::Io { what, path, source: source.into() }
        };
        let made = match mkdirat(CWD, &path, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(failed("making")(error)),
        };
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        if made {
            // The umask may have taken any bit, so by a path that needs none.
            let entry = openat(CWD, &path, flags | OFlags::PATH, Mode::empty()).map_err(failed("opening"))?;
            if fstat(&entry).map_err(failed("stat of"))?.st_mode & 0o7777 != 0o700 {
                let by_descriptor = format!("/proc/self/fd/{}", entry.as_raw_fd());
                chmod(by_descriptor, Mode::RWXU).map_err(failed("chmod of"))?;
            }
        }
        let directory = openat(CWD, &path, flags, Mode::empty());
        let directory = match directory {
            Ok(directory) => directory,
            Err(Errno::LOOP | Errno::NOTDIR) => {
                let stat = statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("stat of"))?;
                let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
                return Err(if is_link {
                    DomainError::Symlink { path }
                } else {
                    DomainError::NotADirectory { path }
                });
            }
            Err(error) => return Err(failed("opening")(error)),
        };
        let stat = fstat(&directory).map_err(failed("stat of"))?;
        let expected = rustix::process::geteuid().as_raw();
        if stat.st_uid != expected {
            return Err(DomainError::Owner { path, expected, found: stat.st_uid });
        }
        let found = stat.st_mode & 0o777;
        if found != 0o700 {
            return Err(DomainError::Mode { path, found });
        }
        Ok(Self { directory: Arc::new(directory), path })
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Every entry, region or not, sorted by name.
    ///
    /// # Errors
    /// [`RegionError::Io`] if the directory itself cannot be read.
    pub fn list(&self) -> Result<Vec<Listing>, RegionError> {
        let mut listings = Vec::new();
        for entry in Dir::read_from(&self.directory).call("reading the domain")? {
            let entry = entry.call("reading the domain")?;
            let file_name = OsStr::from_bytes(entry.file_name().to_bytes());
            if file_name != "." && file_name != ".." {
                listings.push(Listing { file_name: file_name.to_owned(), info: self.entry_info(file_name) });
            }
        }
        listings.sort_by(|left, right| left.file_name.cmp(&right.file_name));
        Ok(listings)
    }

    fn entry_info(&self, file_name: &OsStr) -> Result<RegionInfo, RegionError> {
        self.info(&RegionName::from_bytes(file_name.as_bytes())?)
    }

    /// What there is to say about a region, without joining it.
    ///
    /// # Errors
    /// As [`Region::open`](crate::Region::open), but for the kind.
    pub fn info(&self, name: &RegionName) -> Result<RegionInfo, RegionError> {
        let file = self.open_file(name, false)?;
        let header = read_header(file.as_fd())?;
        if header.name != Some(*name) {
            return Err(RegionError::HeaderName { expected: *name, found: header.name });
        }
        let stat = fstat(&file).call("fstat")?;
        let map = Mapping::new(file.as_fd(), USER_OFFSET, false, &[])
            .map_err(|source| RegionError::Map { len: USER_OFFSET, source })?;
        let words = Words::new(map.words(&(0..USER_OFFSET)), false);
        let table = Table { words, file: file.as_fd(), own: None, is_inherited: false };
        Ok(RegionInfo {
            name: *name,
            id: header.id,
            kind: header.spec.kind,
            fingerprint: header.spec.fingerprint,
            len_bytes: stat.st_size.cast_unsigned(),
            len_min_bytes: header.spec.len_bytes,
            len_max_bytes: header.spec.len_max_bytes,
            page_size: header.spec.page_size,
            mode: stat.st_mode & 0o7777,
            creator_uid: header.creator_uid,
            created_unix_ns: header.created_unix_ns,
            joiners: table.infos(),
            has_readers: table.has_readers(),
            lock: lock_state(&table),
        })
    }

    /// Removes the name. Whoever has joined the region keeps it; its memory is given back when the last of
    /// them leaves.
    ///
    /// # Errors
    /// [`RegionError::Missing`]; [`RegionError::NotAFile`] and [`RegionError::Owner`] for what is not a file
    /// of this user. A damaged region can be unlinked.
    pub fn unlink(&self, name: &RegionName) -> Result<(), RegionError> {
        let stat = statat(&self.directory, name.as_str(), AtFlags::SYMLINK_NOFOLLOW);
        let stat = self.or_missing(name, stat, "stat")?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            return Err(RegionError::Symlink);
        }
        check_file(&stat)?;
        self.or_missing(name, unlinkat(&self.directory, name.as_str(), AtFlags::empty()), "unlink")
    }

    /// Removes the drafts that a killed process left under a temporary name, and the replaced regions that it
    /// had no time to unlink, unless somebody has them open. Returns their names. A few system calls for each
    /// entry.
    ///
    /// Only [`Draft::publish_replacing`](crate::Draft::publish_replacing), and file systems that know no files
    /// without a name, have temporary names at all.
    ///
    /// # Errors
    /// [`RegionError::Io`]; what was removed so far stays removed.
    pub fn sweep(&self) -> Result<Vec<OsString>, RegionError> {
        let mut removed = Vec::new();
        for entry in Dir::read_from(&self.directory).call("reading the domain")? {
            let entry = entry.call("reading the domain")?;
            let name = entry.file_name();
            if !name.to_bytes().starts_with(DRAFT_PREFIX.as_bytes()) {
                continue;
            }
            let Ok(file) = open_entry(self.directory.as_fd(), name.to_bytes(), false) else { continue };
            // A draft holds a proof of life from before its header is written until its region is joined.
            let is_region = read_header(file.as_fd()).is_ok();
            if is_region && !proof::is_any_held(file.as_fd()).call("asking for locks")? {
                unlinkat(&self.directory, name, AtFlags::empty()).call("unlink")?;
                removed.push(OsStr::from_bytes(name.to_bytes()).to_owned());
            }
        }
        removed.sort();
        Ok(removed)
    }

    /// Room for regions here.
    ///
    /// # Errors
    /// [`RegionError::Io`].
    pub fn space(&self) -> Result<Space, RegionError> {
        Space::of(self.directory.as_fd())
    }

    /// Opens the file of a region, not yet knowing whether it is one.
    pub(crate) fn open_file(&self, name: &RegionName, writable: bool) -> Result<OwnedFd, RegionError> {
        match open_entry(self.directory.as_fd(), name.as_str().as_bytes(), writable) {
            Err(Errno::LOOP) => Err(RegionError::Symlink),
            Err(Errno::ISDIR | Errno::NXIO) => {
                let stat = statat(&self.directory, name.as_str(), AtFlags::SYMLINK_NOFOLLOW).call("stat")?;
                Err(RegionError::NotAFile { mode: stat.st_mode })
            }
            result => self.or_missing(name, result, "opening the region"),
        }
    }

    fn or_missing<T>(
        &self,
        name: &RegionName,
        result: Result<T, Errno>,
        what: &'static str,
    ) -> Result<T, RegionError> {
        match result {
            Err(Errno::NOENT) => Err(RegionError::Missing { name: *name }),
            result => Ok(result.call(what)?),
        }
    }
}

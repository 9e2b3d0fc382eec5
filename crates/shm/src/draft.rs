//! A region in the making: a file without a name until it is whole.
//!
//! # Invariants
//! - Nobody can open a draft by its final name before `publish` has returned.
//! - Whatever fails, no file is left: a draft has no name at all, or a temporary one that is unlinked.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

use outlast_probe::{fault, probe};
use rustix::fs::{
    AtFlags, CWD, MemfdFlags, Mode, OFlags, RenameFlags, SealFlags, fchmod, fcntl_add_seals, linkat,
    memfd_create, openat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use crate::domain::Domain;
use crate::error::{Call, RegionError};
use crate::header::Header;
use crate::joiner::proof;
use crate::layout::PROOF_READERS;
use crate::name::RegionName;
use crate::region::{ReadWrite, Region, check_file};
use crate::space::reserve;
use crate::spec::Spec;

/// Temporary names begin like this, as no region's name can.
pub(crate) const DRAFT_PREFIX: &str = ".draft-";

/// A new region that has no name yet, joined and ready to be formatted. Dropping it leaves nothing behind.
///
/// ```
/// use outlast_shm::{Domain, Draft, Region, Spec, USER_OFFSET};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("domain");
/// let domain = Domain::open(&path)?;
/// let name = "example".parse()?;
/// let spec = Spec::new(u64::from_le_bytes(*b"example\n"), 1, USER_OFFSET + 4096);
/// let draft = Draft::new(&domain, &name, &spec)?;
/// draft.region().bytes(USER_OFFSET..USER_OFFSET + 4096)?.write(0, b"hello")?;
/// let region = draft.publish()?;
///
/// let same = Region::open(&domain, &name, &spec.expect())?;
/// assert_eq!(same.id(), region.id());
/// domain.unlink(&name)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Draft {
    region: Region<ReadWrite>,
    name: RegionName,
    temporary: Temporary,
}

/// A name in a directory that is unlinked when this is dropped, if it is there.
#[derive(Debug)]
struct Temporary {
    directory: OwnedFd,
    name: String,
    is_linked: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.is_linked {
            // There is nobody to tell; `Domain::list` shows what is left, and `Domain::sweep` removes it.
            let _ = unlinkat(&self.directory, self.name.as_str(), AtFlags::empty());
        }
    }
}

impl Draft {
    /// Makes a file as `spec` asks, with all its pages reserved, and joins it. About 0.5 ms per MiB.
    ///
    /// # Errors
    /// [`RegionError::Spec`] and [`RegionError::Unsupported`] for what cannot be had,
    /// [`RegionError::NoSpace`] and [`RegionError::FileSizeLimit`] if there is no room.
    pub fn new(domain: &Domain, name: &RegionName, spec: &Spec) -> Result<Self, RegionError> {
        Self::with(domain, name, spec, true)
    }

    fn with(domain: &Domain, name: &RegionName, spec: &Spec, nameless: bool) -> Result<Self, RegionError> {
        spec.check()?;
        let header = header(spec, Some(*name))?;
        let directory = domain.directory().try_clone().call("duplicating the domain's descriptor")?;
        let temporary_name = format!("{DRAFT_PREFIX}{:032x}", header.id);
        let mut temporary = Temporary { directory, name: temporary_name, is_linked: false };
        let directory = temporary.directory.as_fd();
        let file = match nameless.then(|| open_nameless(directory)) {
            Some(Ok(file)) => file,
            None | Some(Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL)) => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
                let file = openat(directory, temporary.name.as_str(), flags, Mode::RUSR | Mode::WUSR);
                let file = file.call("making a temporary file")?;
                temporary.is_linked = true;
                file
            }
            Some(Err(error)) => Err(error).call("making a file without a name")?,
        };
        let region = format(file, header)?;
        Ok(Self { region, name: *name, temporary })
    }

    /// The region, joined for writing, to put its first contents in.
    pub fn region(&self) -> &Region<ReadWrite> {
        &self.region
    }

    /// Gives the region its name.
    ///
    /// # Errors
    /// [`RegionError::Exists`] if the name is taken; the draft is gone then.
    pub fn publish(mut self) -> Result<Region<ReadWrite>, RegionError> {
        let directory = self.temporary.directory.as_fd();
        let linked = match self.temporary.is_linked {
            true => {
                let from = self.temporary.name.as_str();
                renameat_with(directory, from, directory, self.name.as_str(), RenameFlags::NOREPLACE)
            }
            false => link(self.region.fd(), directory, self.name.as_str()),
        };
        match linked {
            Err(Errno::EXIST) => return Err(RegionError::Exists { name: self.name }),
            other => other.call("publishing the region")?,
        }
        self.temporary.is_linked = false;
        probe!("shm.create.published");
        Ok(self.region)
    }

    /// Gives the region its name, whether the name is taken or not: at every instant the name leads to the
    /// old region or to this one. Whoever has joined the old one keeps it, nameless.
    ///
    /// # Errors
    /// [`RegionError::NotAFile`] and [`RegionError::Owner`] if the name is taken by something that is not a
    /// file of this user; [`RegionError::Io`] if the file system cannot exchange names.
    pub fn publish_replacing(mut self) -> Result<Region<ReadWrite>, RegionError> {
        match statat(&self.temporary.directory, self.name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return self.publish(),
            stat => check_file(&stat.call("stat")?)?,
        }
        let directory = self.temporary.directory.as_fd();
        let from = self.temporary.name.as_str();
        if !self.temporary.is_linked {
            link(self.region.fd(), directory, from).call("linking the region")?;
            self.temporary.is_linked = true;
            probe!("shm.create.linked");
        }
        match renameat_with(directory, from, directory, self.name.as_str(), RenameFlags::EXCHANGE) {
            // Unlinked by somebody since we looked.
            Err(Errno::NOENT) => return self.publish(),
            other => other.call("exchanging the region's name")?,
        }
        probe!("shm.create.exchanged");
        // The temporary name now leads to the old region and goes away with `self.temporary`.
        Ok(self.region)
    }
}

impl Region<ReadWrite> {
    /// Makes a region without a name, to be handed to other processes by its [descriptor](Region::fd). Its
    /// memory is given back when the last process lets go of it; nobody can cut it.
    ///
    /// # Errors
    /// As [`Draft::new`].
    pub fn anonymous(spec: &Spec) -> Result<Self, RegionError> {
        spec.check()?;
        let header = header(spec, None)?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Without execution where the kernel knows of it and the mode does not ask for it.
        let strict = flags | MemfdFlags::NOEXEC_SEAL;
        let file = match spec.mode & 0o111 {
            0 => memfd_create("outlast", strict).or_else(|_| memfd_create("outlast", flags)),
            _ => memfd_create("outlast", flags),
        };
        let region = format(file.call("memfd_create")?, header)?;
        fcntl_add_seals(region.fd(), SealFlags::SHRINK).call("sealing the region")?;
        Ok(region)
    }
}

fn header(spec: &Spec, name: Option<RegionName>) -> Result<Header, RegionError> {
    let mut id = [0; 16];
    let mut filled = 0;
    while filled < id.len() {
        filled += rustix::rand::getrandom(&mut id[filled..], rustix::rand::GetRandomFlags::empty())
            .call("getrandom")?;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Header {
        spec: spec.clone(),
        name,
        id: u128::from_le_bytes(id),
        creator_uid: rustix::process::geteuid().as_raw(),
        created_unix_ns: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
    })
}

fn open_nameless(directory: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    if let Some(errno) = fault!("shm.create.tmpfile") {
        return Err(Errno::from_raw_os_error(errno));
    }
    openat(directory, ".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)
}

/// Gives an empty file its mode, its pages and its header, and joins it.
fn format(file: OwnedFd, header: Header) -> Result<Region<ReadWrite>, RegionError> {
    // Until the join has its own: `Domain::sweep` takes a whole header without any lock for one that was left.
    proof::share(file.as_fd(), PROOF_READERS).call("locking the draft")?;
    fchmod(&file, Mode::from_raw_mode(header.spec.mode)).call("chmod")?;
    reserve(file.as_fd(), 0, header.spec.len_bytes)?;
    probe!("shm.create.reserved");
    let bytes = header.encode();
    let mut written = 0;
    while written < bytes.len() {
        match rustix::io::pwrite(&file, &bytes[written..], written as u64) {
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            error => error.map(|_| ()).call("writing the header")?,
        }
    }
    probe!("shm.create.formatted");
    let region = Region::of_file(file, header)?;
    proof::release(region.fd(), PROOF_READERS).call("unlocking the draft")?;
    Ok(region)
}

/// Gives a nameless file a name: directly if this process may, else by way of /proc.
fn link(file: BorrowedFd<'_>, directory: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    match linkat(file, "", directory, name, AtFlags::EMPTY_PATH) {
        Err(Errno::NOENT | Errno::PERM | Errno::INVAL) => {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            linkat(CWD, path, directory, name, AtFlags::SYMLINK_FOLLOW)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::USER_OFFSET;

    /// As on a file system that knows no files without a name.
    #[test]
    fn a_temporary_name_serves_where_there_are_no_nameless_files() {
        let directory = tempfile::tempdir().unwrap();
        let domain = Domain::open(&directory.path().join("domain")).unwrap();
        let entries = || {
            let names = std::fs::read_dir(domain.path()).unwrap();
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        let name = "r".parse().unwrap();
        let spec = Spec::new(1, 2, USER_OFFSET);
        let draft = || Draft::with(&domain, &name, &spec, false).unwrap();
        let dropped = draft();
        assert!(entries()[0].starts_with(".draft-"), "{:?}", entries());
        drop(dropped);
        assert!(entries().is_empty());
        let old = draft().publish().unwrap();
        assert!(matches!(draft().publish(), Err(RegionError::Exists { .. })));
        assert_eq!(entries(), ["r"]);
        let new = draft().publish_replacing().unwrap();
        assert_eq!(entries(), ["r"]);
        let found = Region::open(&domain, &name, &spec.expect()).unwrap();
        assert!(found.id() == new.id() && new.id() != old.id());
        assert_eq!(entries(), ["r"]);
    }
}

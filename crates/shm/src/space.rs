//! How much room there is, and taking it before anybody relies on it.
//!
//! # Invariants
//! - Bytes that a file's length covers are backed by pages: `reserve` grows a file by `fallocate` only.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use outlast_probe::fault;
use rustix::fs::{CWD, FallocateFlags, Mode, OFlags, fallocate, fstatfs, openat};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::error::{Call, RegionError, SpaceLimit};

/// Bytes reserved by one call: small enough that a signal does not throw away much work.
const STEP_BYTES: u64 = 8 << 20;
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Room for regions, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Space {
    /// Size of the file system; `u64::MAX` if it has no limit.
    pub total_bytes: u64,
    /// Free bytes of the file system; `u64::MAX` if it has no limit.
    pub available_bytes: u64,
    /// What the tightest control group (version 2) still allows, page cache of files counted as free;
    /// `None` without a limit, or if the file system does not live in memory.
    pub control_group_bytes: Option<u64>,
    /// Free memory and swap of the machine; `None` if the file system does not live in memory.
    pub memory_bytes: Option<u64>,
    /// Directory of that control group.
    control_group: PathBuf,
}

impl Space {
    /// Room on the file system of a directory, which need not be a domain.
    ///
    /// # Errors
    /// [`RegionError::Io`] if it cannot be opened or asked.
    pub fn of_directory(path: &Path) -> Result<Self, RegionError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = openat(CWD, path, flags, Mode::empty()).call("opening a directory")?;
        Self::of(directory.as_fd())
    }

    /// Room on the file system of an open file or directory.
    pub(crate) fn of(file: BorrowedFd<'_>) -> Result<Self, RegionError> {
        let stat = fstatfs(file).call("fstatfs")?;
        let block = u64::try_from(stat.f_bsize).unwrap_or(0);
        let bytes = |blocks: u64| if stat.f_blocks == 0 { u64::MAX } else { blocks.saturating_mul(block) };
        let in_memory = u64::try_from(stat.f_type) == Ok(TMPFS_MAGIC);
        let control_group = if in_memory { tightest_control_group() } else { None };
        Ok(Self {
            total_bytes: bytes(stat.f_blocks),
            available_bytes: bytes(stat.f_bavail),
            control_group_bytes: control_group.as_ref().map(|(bytes, _)| *bytes),
            memory_bytes: if in_memory { free_memory() } else { None },
            control_group: control_group.map_or_else(PathBuf::new, |(_, path)| path),
        })
    }

    /// Refuses what does not fit, naming the tightest limit; `place` is where the file is.
    fn admit(&self, needed: u64, place: impl FnOnce() -> PathBuf) -> Result<(), RegionError> {
        match self.tightest() {
            (available, _) if needed <= available => Ok(()),
            (available, limit) => Err(self.no_space(needed, available, limit, place())),
        }
    }

    /// The file system said that it is full: tells how much there is by now.
    fn full(&self, needed: u64, place: PathBuf) -> RegionError {
        match self.tightest() {
            (available, limit) if available < needed => self.no_space(needed, available, limit, place),
            // Somebody else has given room back since, or it is a quota that is exhausted.
            _ => self.no_space(needed, self.available_bytes, SpaceLimit::FileSystem, place),
        }
    }

    fn no_space(&self, needed: u64, available: u64, limit: SpaceLimit, place: PathBuf) -> RegionError {
        let place = match limit {
            SpaceLimit::FileSystem => place,
            SpaceLimit::ControlGroup => self.control_group.clone(),
            SpaceLimit::Memory => "/proc/meminfo".into(),
        };
        RegionError::NoSpace { needed, available, limit, place }
    }

    fn tightest(&self) -> (u64, SpaceLimit) {
        let mut tightest = (self.available_bytes, SpaceLimit::FileSystem);
        let others =
            [(self.control_group_bytes, SpaceLimit::ControlGroup), (self.memory_bytes, SpaceLimit::Memory)];
        for (bytes, limit) in others {
            if let Some(bytes) = bytes.filter(|bytes| *bytes < tightest.0) {
                tightest = (bytes, limit);
            }
        }
        tightest
    }
}

/// Makes the file `to` bytes long and gives it all its pages; `from` is the length that it has.
///
/// On failure a file that existed before may be longer than it was, never beyond the pages that it has.
pub(crate) fn reserve(file: BorrowedFd<'_>, from: u64, to: u64) -> Result<(), RegionError> {
    if let Some(limit) = getrlimit(Resource::Fsize).current.filter(|limit| *limit < to) {
        // Asking for more would raise SIGXFSZ.
        return Err(RegionError::FileSizeLimit { needed: to, limit });
    }
    let needed = to.saturating_sub(from);
    Space::of(file)?.admit(needed, || place_of(file))?;
    let mut at = from;
    while at < to {
        let step = STEP_BYTES.min(to - at);
        let result = match fault!("shm.create.fallocate") {
            Some(errno) => Err(Errno::from_raw_os_error(errno)),
            None => fallocate(file, FallocateFlags::empty(), at, step),
        };
        match result {
            Ok(()) => at += step,
            Err(Errno::INTR) => {}
            Err(Errno::NOSPC | Errno::DQUOT) => return Err(Space::of(file)?.full(needed, place_of(file))),
            Err(Errno::FBIG) => return Err(RegionError::FileSizeLimit { needed: to, limit: at }),
            error => error.call("fallocate")?,
        }
    }
    Ok(())
}

/// Path of an open file, for messages.
fn place_of(file: BorrowedFd<'_>) -> PathBuf {
    let link = fs::read_link(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())).unwrap_or_default();
    match link.parent() {
        Some(directory) if directory != Path::new("/") => directory.to_owned(),
        _ => link,
    }
}

/// `MemAvailable` and `SwapFree` together.
fn free_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
    };
    Some(field("MemAvailable:")? + field("SwapFree:").unwrap_or(0))
}

/// The control group of this process, or an ancestor, that allows least.
fn tightest_control_group() -> Option<(u64, PathBuf)> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = Path::new("/sys/fs/cgroup");
    let own = root.join(own);
    let groups = own.ancestors().take_while(|path| path.starts_with(root));
    groups.filter_map(|path| Some((free_in_control_group(path)?, path.to_owned()))).min()
}

fn free_in_control_group(path: &Path) -> Option<u64> {
    let number = |file: &str| fs::read_to_string(path.join(file)).ok()?.trim().parse::<u64>().ok();
    let (max, current) = (number("memory.max")?, number("memory.current")?);
    let stat = fs::read_to_string(path.join("memory.stat")).unwrap_or_default();
    let field = |name: &str| {
        let line = stat.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    // Pages of files can be dropped or written back; those of tmpfs are not counted among them here.
    let reclaimable = field("active_file ") + field("inactive_file ");
    Some(max.saturating_sub(current.saturating_sub(reclaimable)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_limit_decides_and_is_named() {
        let space = |available_bytes, control_group_bytes, memory_bytes| Space {
            total_bytes: 1 << 40,
            available_bytes,
            control_group_bytes,
            memory_bytes,
            control_group: "/group".into(),
        };
        let refused = |space: Space| match space.admit(100, || "/domain".into()) {
            Err(RegionError::NoSpace { needed: 100, available, limit, place }) => {
                Some((available, limit, place))
            }
            Err(error) => panic!("{error}"),
            Ok(()) => None,
        };
        assert_eq!(refused(space(100, Some(100), Some(100))), None);
        assert_eq!(refused(space(u64::MAX, None, None)), None);
        assert_eq!(refused(space(99, None, None)), Some((99, SpaceLimit::FileSystem, "/domain".into())));
        assert_eq!(
            refused(space(99, Some(98), Some(99))),
            Some((98, SpaceLimit::ControlGroup, "/group".into()))
        );
        assert_eq!(
            refused(space(100, Some(200), Some(97))),
            Some((97, SpaceLimit::Memory, "/proc/meminfo".into()))
        );
    }

    #[test]
    fn memory_is_found() {
        assert!(free_memory().is_none_or(|bytes| 0 < bytes));
    }
}

//! What can go wrong: one enum for each family of operations, every text with what, expected and found.
//!
//! # Invariants
//! - An operation that returns an error has left nothing behind: no file, no slot, no lock.

use core::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::joiner::JoinerInfo;
use crate::name::{NameError, RegionName};

/// Why a domain could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DomainError {
    /// The path leads to a symbolic link.
    #[error("domain {} is a symbolic link: name the directory itself", path.display())]
    Symlink {
        /// The path.
        path: PathBuf,
    },
    /// The path leads to something that is not a directory.
    #[error("domain {} is not a directory", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The directory belongs to somebody else.
    #[error("domain {} belongs to user {found}, not to user {expected}: set OUTLAST_DIR to a directory of your own", path.display())]
    Owner {
        /// The path.
        path: PathBuf,
        /// The effective user.
        expected: u32,
        /// The owner.
        found: u32,
    },
    /// Others may enter, or the owner may not.
    #[error("domain {} has mode {found:04o}, expected 0700: run chmod 0700 on it", path.display())]
    Mode {
        /// The path.
        path: PathBuf,
        /// Its permission bits.
        found: u32,
    },
    /// A system call failed.
    #[error("{what} domain {} failed: {source}", path.display())]
    Io {
        /// The call.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What bounds the space of a region.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpaceLimit {
    /// The file system that the domain lies in.
    FileSystem,
    /// `memory.max` of a control group.
    ControlGroup,
    /// Free memory of the machine, swap included.
    Memory,
}

impl fmt::Display for SpaceLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FileSystem => "the file system",
            Self::ControlGroup => "the control group (memory.max)",
            Self::Memory => "the machine's memory",
        })
    }
}

impl SpaceLimit {
    fn remedy(&self) -> &'static str {
        match self {
            Self::FileSystem => "raise its size (tmpfs: mount -o remount,size=...)",
            Self::ControlGroup => "raise it",
            Self::Memory => "free some",
        }
    }
}

/// Why a region could not be made, opened, published, extended, listed or unlinked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegionError {
    /// Not supported by this version, and not to be ignored either.
    #[error("{what} are not supported yet: leave them out")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
    },
    /// A field of the [`Spec`](crate::Spec) breaks its rule.
    #[error("spec field {field} is {found}: expected {rule}")]
    Spec {
        /// The field.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What it has to be.
        rule: &'static str,
    },
    /// There is no room for the region, or for its growth.
    #[error("needs {}, {limit} at {} has {} free: {} or ask for less", Bytes(*needed), place.display(), Bytes(*available), limit.remedy())]
    NoSpace {
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that there are.
        available: u64,
        /// What bounds them.
        limit: SpaceLimit,
        /// Where that is: a domain's path, a control group's directory.
        place: PathBuf,
    },
    /// The process may not write files that large (`RLIMIT_FSIZE`).
    #[error("needs a file of {}, the process is limited to {}: raise RLIMIT_FSIZE (ulimit -f) or ask for less", Bytes(*needed), Bytes(*limit))]
    FileSizeLimit {
        /// Bytes of the file.
        needed: u64,
        /// The limit.
        limit: u64,
    },
    /// [`Region::extend`](crate::Region::extend) was asked for more than the creator allowed.
    #[error("cannot extend to {asked} bytes: the region was made for {max} bytes at most, in pages of 4096")]
    Extend {
        /// Bytes asked for.
        asked: u64,
        /// Most that is allowed.
        max: u64,
    },
    /// The name is taken.
    #[error("region {name} exists already: unlink it or take another name")]
    Exists {
        /// The name.
        name: RegionName,
    },
    /// There is no region of this name.
    #[error("there is no region {name}")]
    Missing {
        /// The name.
        name: RegionName,
    },
    /// The entry's name could not be one of a region.
    #[error("not a region: {0}")]
    Name(#[from] NameError),
    /// The entry is a symbolic link.
    #[error("not a region: a symbolic link")]
    Symlink,
    /// The entry is a directory, pipe, socket or device.
    #[error("not a region: not a regular file (mode {mode:o})")]
    NotAFile {
        /// `st_mode` of it.
        mode: u32,
    },
    /// The file belongs to somebody else.
    #[error("the region belongs to user {found}, not to user {expected}")]
    Owner {
        /// The effective user.
        expected: u32,
        /// The owner.
        found: u32,
    },
    /// The file does not begin like a region.
    #[error("not a region: magic {found:#018x} at offset 0, expected {expected:#018x}")]
    Magic {
        /// What it has to be.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// A region of another version of the format.
    #[error("format version {found}, this build reads {expected}: use a build of that version")]
    Version {
        /// What this build reads.
        expected: u32,
        /// What the file has.
        found: u32,
    },
    /// The static header is damaged.
    #[error("damaged header: checksum {found:#018x} at offset 248, its bytes hash to {expected:#018x}")]
    Checksum {
        /// Hash of the bytes.
        expected: u64,
        /// What is stored.
        found: u64,
    },
    /// A region whose header or joiner table another build laid out differently.
    #[error("region layout {found:#018x}, this build has {expected:#018x}: use the build that made it")]
    Layout {
        /// Of this build.
        expected: u64,
        /// Of the file.
        found: u64,
    },
    /// A field of the header has a value that no creator writes.
    #[error("bad header: field {field} at offset {offset} holds {found:#x}")]
    Header {
        /// The field.
        field: &'static str,
        /// Where it is.
        offset: u64,
        /// The eight bytes there.
        found: u64,
    },
    /// The file's name and the name in its header differ.
    #[error("the header is of a region named {}, not {expected}: restore the file's own name", display_name(.found))]
    HeaderName {
        /// Name of the file.
        expected: RegionName,
        /// Name in the header; `None` for an anonymous region.
        found: Option<RegionName>,
    },
    /// The region holds something else.
    #[error("the region holds kind {found:#018x}, expected {expected:#018x}")]
    Kind {
        /// What was to be opened.
        expected: u64,
        /// What the region holds.
        found: u64,
    },
    /// The region's contents are laid out differently.
    #[error(
        "layout of the contents {found:#018x}, this build has {expected:#018x}: use the build that made it"
    )]
    Fingerprint {
        /// Of this build.
        expected: u64,
        /// Of the region.
        found: u64,
    },
    /// The file's length is not one that the header allows.
    #[error(
        "the file has {found} bytes, expected pages of 4096 from {min} to {max} bytes: it was cut or appended to"
    )]
    Size {
        /// Bytes of the file.
        found: u64,
        /// Least that is allowed.
        min: u64,
        /// Most that is allowed.
        max: u64,
    },
    /// The region could not be mapped.
    #[error("mapping {} failed: {source}", Bytes(*len))]
    Map {
        /// Bytes of address space.
        len: u64,
        /// Why.
        source: io::Error,
    },
    /// The process could not be entered in the joiner table.
    #[error("{0}")]
    Join(#[from] JoinError),
    /// A view was asked for that the region does not reach.
    #[error("{0}")]
    Range(#[from] RangeError),
    /// A system call failed.
    #[error("{what} failed: {source}")]
    Io {
        /// The call.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Why a process could not be entered in the joiner table.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// As many processes as the table holds have joined, and all may be alive.
    #[error("all {slots} joiner slots are taken by processes that may be alive: let one of them leave")]
    TableFull {
        /// Slots of the table.
        slots: usize,
    },
    /// A system call failed.
    #[error("{what} failed: {source}")]
    Io {
        /// The call.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Why the lock was not had, or not given back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Its owner is alive, or cannot be proved dead, and did not let go in time.
    #[error("lock busy for {} ms, held by {}", waited.as_millis(), display_owner(.owner, *tid))]
    Busy {
        /// Who holds it, as far as the joiner table says.
        owner: Option<Box<JoinerInfo>>,
        /// The thread that holds it, in the owner's pid namespace.
        tid: u32,
        /// How long it was waited for.
        waited: Duration,
    },
    /// This thread holds it already.
    #[error("thread {tid} holds the lock already")]
    Reentrant {
        /// The thread.
        tid: u32,
    },
    /// On unlock: the lock word is not the one that this guard stored, or this process is a forked child
    /// of the one that holds the lock.
    #[error("the lock is not held by this guard: its word is {found:#018x}, expected {expected:#018x}")]
    Stolen {
        /// What the guard stored.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// The process could not be entered in the joiner table.
    #[error("{0}")]
    Join(#[from] JoinError),
    /// A system call failed.
    #[error("{what} failed: {source}")]
    Io {
        /// The call.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Why a range of a region cannot be viewed or accessed. Offsets count from the start of the region, or of
/// the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// Outside of what can be touched.
    #[error("bytes {start}..{end} are not within {min}..{max}")]
    Outside {
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
        /// First byte that there is.
        min: u64,
        /// One past the last byte that there is.
        max: u64,
    },
    /// Words are asked for that do not begin and end at multiples of 8.
    #[error("bytes {start}..{end} are not whole words of 8 bytes")]
    Misaligned {
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
    },
    /// A guard page lies in the range.
    #[error("bytes {start}..{end} hold the guard page at {guard}")]
    Guard {
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
        /// Offset of the guard page.
        guard: u64,
    },
    /// A write through a read-only join.
    #[error("bytes {start}..{end} cannot be written through a read-only join")]
    ReadOnly {
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
    },
}

/// Turns a failed system call into the `Io` variant of a family.
pub(crate) trait Call<T> {
    fn call(self, what: &'static str) -> Result<T, Failed>;
}

/// A failed system call on its way into an error family.
#[derive(Debug)]
pub(crate) struct Failed(&'static str, io::Error);

impl<T, E: Into<io::Error>> Call<T> for Result<T, E> {
    fn call(self, what: &'static str) -> Result<T, Failed> {
        self.map_err(|source| Failed(what, source.into()))
    }
}

impl From<Failed> for RegionError {
    fn from(Failed(what, source): Failed) -> Self {
        Self::Io { what, source }
    }
}

impl From<Failed> for JoinError {
    fn from(Failed(what, source): Failed) -> Self {
        Self::Io { what, source }
    }
}

impl From<Failed> for LockError {
    fn from(Failed(what, source): Failed) -> Self {
        Self::Io { what, source }
    }
}

/// Bytes for people: the largest unit that leaves at least 1, one decimal unless it divides.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, scale) = match self.0 {
            0x4000_0000.. => ("GiB", 1 << 30),
            0x10_0000.. => ("MiB", 1 << 20),
            0x400.. => ("KiB", 1 << 10),
            _ => ("bytes", 1),
        };
        if self.0.is_multiple_of(scale) {
            return write!(f, "{} {unit}", self.0 / scale);
        }
        let tenths = u128::from(self.0) * 10 / u128::from(scale);
        write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

fn display_name(name: &Option<RegionName>) -> &str {
    name.as_ref().map_or("nothing at all", RegionName::as_str)
}

fn display_owner(owner: &Option<Box<JoinerInfo>>, tid: u32) -> String {
    match owner {
        Some(info) => format!(
            "joiner {} (process {}, thread {tid}, {}): let it go on or end it",
            info.slot, info.pid, info.liveness
        ),
        None => format!("thread {tid} of a process that the joiner table does not name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_well() {
        let text = |bytes| Bytes(bytes).to_string();
        assert_eq!(text(0), "0 bytes");
        assert_eq!(text(1023), "1023 bytes");
        assert_eq!(text(1536), "1.5 KiB");
        assert_eq!(text(512 << 20), "512 MiB");
        assert_eq!(text(u64::MAX), "17179869183.9 GiB");
    }

    #[test]
    fn errors_say_what_to_do() {
        let error = RegionError::NoSpace {
            needed: 512 << 20,
            available: 60 << 20,
            limit: SpaceLimit::FileSystem,
            place: "/dev/shm".into(),
        };
        assert_eq!(
            error.to_string(),
            "needs 512 MiB, the file system at /dev/shm has 60 MiB free: \
             raise its size (tmpfs: mount -o remount,size=...) or ask for less"
        );
    }
}

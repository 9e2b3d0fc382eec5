//! A joined region.
//!
//! # Invariants
//! - Every handle counts as one join; what a handle lends lives no longer than the handle.
//! - A read-only join never changes a byte of the file.

use core::fmt;
use core::marker::PhantomData;
use core::ops::Range;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::io::Errno;

use crate::bytes::SharedBytes;
use crate::counters::Block;
use crate::domain::Domain;
use crate::error::{Call, JoinError, LockError, RangeError, RegionError};
use crate::header::Header;
use crate::join::Join;
use crate::joiner::{JoinerInfo, JoinerSlot};
use crate::layout::{LOCK_WORD, STATIC_BYTES};
use crate::lock::LockState;
use crate::lock::core::try_acquire;
use crate::lock::guard::LockGuard;
use crate::lock::wait::{Acquired, acquire_slowly};
use crate::mem::Words;
use crate::name::RegionName;
use crate::space::reserve;
use crate::spec::{Expect, is_page_in};
use crate::sys::fork;

mod sealed {
    pub trait Sealed {
        const WRITABLE: bool;
    }
}

/// How a region is joined: [`ReadOnly`] or [`ReadWrite`]. The two are separate mappings; there is no upgrade.
pub trait Access: sealed::Sealed + fmt::Debug + Send + Sync + 'static {}

/// A join that can only look. It takes no slot in the joiner table.
///
/// ```compile_fail,E0599
/// fn refused(reader: outlast_shm::Region<outlast_shm::ReadOnly>) {
///     let _ = reader.lock(std::time::Duration::ZERO);
/// }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ReadOnly;

/// A join that reads and writes, has a slot in the joiner table and can take the lock.
#[derive(Debug, Clone, Copy)]
pub struct ReadWrite;

impl sealed::Sealed for ReadOnly {
    const WRITABLE: bool = false;
}
impl sealed::Sealed for ReadWrite {
    const WRITABLE: bool = true;
}
impl Access for ReadOnly {}
impl Access for ReadWrite {}

/// A joined region of shared memory.
///
/// All joins of one region with one access share a mapping in the process; each handle, clones included,
/// counts as one join. Dropping the last one leaves the region. The region itself lives on until it is
/// unlinked (or, anonymous, until the last process lets go of it).
///
/// # Forks
/// A forked child may use the handles that it inherits: its first lock, or other use of the joiner table,
/// enters it anew. As always after a fork, that is only sound if no other thread of the parent was inside
/// this library (or the memory allocator) at that moment. Dropping inherited handles does nothing to the
/// parent.
pub struct Region<A: Access = ReadWrite> {
    join: Arc<Join>,
    left: bool,
    access: PhantomData<A>,
}

/// A range of a region's words that was checked once, for those who view it in every call.
///
/// It keeps the mapping, not the join: whoever has one also keeps a handle of the region.
#[derive(Debug, Clone)]
pub struct Span {
    join: Arc<Join>,
    /// Within the region, of whole words, without a guard page.
    range: Range<u64>,
}

impl Span {
    /// The words of the range, as far as the file is known to reach. One load and a few instructions.
    #[inline(always)]
    pub fn words(&self) -> Words<'_> {
        self.join.span_words(&self.range)
    }
}

impl<A: Access> Region<A> {
    pub(crate) fn of_file(file: OwnedFd, header: Header) -> Result<Self, RegionError> {
        let join = Join::open(file, header, A::WRITABLE)?;
        Ok(Self { join, left: false, access: PhantomData })
    }

    fn open_any(domain: &Domain, name: &RegionName, expect: &Expect) -> Result<Self, RegionError> {
        let file = domain.open_file(name, A::WRITABLE)?;
        let header = read_header(file.as_fd())?;
        if header.name != Some(*name) {
            return Err(RegionError::HeaderName { expected: *name, found: header.name });
        }
        header.expect(expect)?;
        Self::of_file(file, header)
    }

    fn from_any_fd(fd: &OwnedFd, expect: &Expect) -> Result<Self, RegionError> {
        // Looked at before it is opened anew: opening a device or pipe can have effects of its own.
        check_file(&fstat(fd).call("fstat")?)?;
        let file = fork::reopen(fd.as_fd(), A::WRITABLE).call("reopening the descriptor")?;
        let header = read_header(file.as_fd())?;
        header.expect(expect)?;
        Self::of_file(file, header)
    }

    /// Its name; `None` if it is anonymous.
    pub fn name(&self) -> Option<RegionName> {
        self.join.header.name
    }

    /// 128 random bits that tell it from every other region.
    pub fn id(&self) -> u128 {
        self.join.header.id
    }

    /// What it holds, as its creator said.
    pub fn kind(&self) -> u64 {
        self.join.header.spec.kind
    }

    /// Layout of what it holds, as its creator said.
    pub fn fingerprint(&self) -> u64 {
        self.join.header.spec.fingerprint
    }

    /// The file, for handing over to another process (see [`Region::from_fd`]).
    ///
    /// Its record locks are this library's proof of life: do not touch them.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.join.file.as_fd()
    }

    /// Length of the file in bytes, as this process last saw it; views reach up to it. One load.
    pub fn len_bytes(&self) -> u64 {
        self.join.known_len()
    }

    /// Length of the file in bytes now; another process may have [extended](Region::extend) it. One system
    /// call.
    ///
    /// # Errors
    /// [`RegionError::Size`] if the file was cut, or grew beyond what its creator allowed.
    pub fn refresh_len(&self) -> Result<u64, RegionError> {
        self.join.refresh_len()
    }

    /// Length in bytes that the file can grow to.
    pub fn len_max_bytes(&self) -> u64 {
        self.join.header.spec.len_max_bytes
    }

    /// The words of `range`, in bytes from the start of the file, from [`USER_OFFSET`](crate::USER_OFFSET) to
    /// [`len_bytes`](Self::len_bytes).
    ///
    /// # Errors
    /// [`RangeError`] if the range reaches beyond that, is not of whole words, or holds a guard page.
    #[inline]
    pub fn words(&self, range: Range<u64>) -> Result<Words<'_>, RangeError> {
        self.join.user_words(&range)
    }

    /// A range of words that is checked now and viewed often; it may reach up to
    /// [`len_max_bytes`](Self::len_max_bytes), beyond what the file has so far.
    ///
    /// # Errors
    /// [`RangeError`] if the range reaches beyond that, is not of whole words, or holds a guard page.
    pub fn span(&self, range: Range<u64>) -> Result<Span, RangeError> {
        self.join.check_span(&range)?;
        Ok(Span { join: Arc::clone(&self.join), range })
    }

    /// The bytes of `range`, in bytes from the start of the file, from [`USER_OFFSET`](crate::USER_OFFSET) to
    /// [`len_bytes`](Self::len_bytes).
    ///
    /// # Errors
    /// [`RangeError`] if the range reaches beyond that or holds a guard page.
    #[inline]
    pub fn bytes(&self, range: Range<u64>) -> Result<SharedBytes<'_>, RangeError> {
        Ok(SharedBytes::new(self.join.user_bytes(&range)?, self.join.is_writable()))
    }

    /// Every process that has joined for writing and not left, the dead included. Some system calls for each.
    pub fn joiners(&self) -> Vec<JoinerInfo> {
        self.join.table().infos()
    }

    /// Every process that has joined for writing, also those that have left, as long as their slots have not
    /// been given out again. Some system calls for each.
    pub fn roster(&self) -> Vec<JoinerInfo> {
        self.join.table().roster()
    }

    /// The counters of a slot, as they were at one moment; all zero if nobody has had it. `None` if they never
    /// held still within a bounded number of looks: their owner was stopped or killed while it counted. Waits
    /// for nobody.
    pub fn counters(&self, slot: JoinerSlot) -> Option<Block> {
        self.join.table().counters(slot)
    }

    /// Who holds the lock, and whether that thread is alive. Does not block; some system calls.
    pub fn lock_state(&self) -> LockState {
        lock_state(&self.join.table())
    }

    /// Whether another process may have joined for writing, or anybody, this process included, for reading
    /// only. Processes that cannot be judged count. Some system calls for each joiner.
    pub fn other_joiners(&self) -> bool {
        self.join.table().has_others()
    }

    /// How many handles of this join there are in this process, this one included.
    pub fn handle_count(&self) -> u64 {
        self.join.handle_count()
    }

    /// Lets go of the region's memory in this process, while views of it may still be in use.
    ///
    /// Private zeros take the place of all its bytes, header and joiner table included, for every handle of this
    /// join: reads find zeros, stores reach nobody, and nothing else is of use any more. For a layer above that
    /// has unlinked the region and whose zeros mean "nothing here". One system call.
    ///
    /// # Errors
    /// [`RegionError::Map`] if the kernel refuses.
    pub fn discard(&self) -> Result<(), RegionError> {
        self.join.discard()
    }

    /// Leaves the region with this handle; dropping it does the same and ignores the error.
    ///
    /// # Errors
    /// [`RegionError::Io`] if the last handle's proof of life could not be given back; the kernel does so when
    /// the file is closed right after.
    pub fn leave(mut self) -> Result<(), RegionError> {
        self.left = true;
        self.join.remove()
    }
}

pub(crate) fn lock_state(table: &crate::joiner::table::Table<'_>) -> LockState {
    let word = table.lock_word();
    LockState {
        holder: table.holder(word),
        needs_recovery: word.is_inconsistent(),
        has_waiters: word.has_waiters(),
    }
}

impl Region<ReadOnly> {
    /// Joins a region by name, for reading only.
    ///
    /// # Errors
    /// As [`Region::open`].
    pub fn open_read_only(domain: &Domain, name: &RegionName, expect: &Expect) -> Result<Self, RegionError> {
        Self::open_any(domain, name, expect)
    }

    /// Joins the region of a descriptor that was handed over, for reading only.
    ///
    /// # Errors
    /// As [`Region::from_fd`].
    pub fn from_fd_read_only(fd: OwnedFd, expect: &Expect) -> Result<Self, RegionError> {
        Self::from_any_fd(&fd, expect)
    }
}

impl Region<ReadWrite> {
    /// Joins a region by name.
    ///
    /// # Errors
    /// [`RegionError::Missing`]; one variant for each way not to be a region of this user and of the
    /// expected kind; [`RegionError::Join`] if the joiner table is full.
    pub fn open(domain: &Domain, name: &RegionName, expect: &Expect) -> Result<Self, RegionError> {
        Self::open_any(domain, name, expect)
    }

    /// Joins the region of a descriptor that was handed over, as an inherited one or by a socket. The file is
    /// opened anew through `/proc/self/fd`, and `fd` is closed.
    ///
    /// # Errors
    /// As [`Region::open`], without the name.
    pub fn from_fd(fd: OwnedFd, expect: &Expect) -> Result<Self, RegionError> {
        Self::from_any_fd(&fd, expect)
    }

    /// Makes the file at least `len_bytes` long, every page of it reserved; other processes see the growth by
    /// [`refresh_len`](Self::refresh_len). Returns the length, which may be larger already. One load if this
    /// process knows of enough, else about 0.5 ms per MiB.
    ///
    /// # Errors
    /// [`RegionError::Extend`] for more than the creator allowed or no page multiple, and as
    /// [`Draft::new`](crate::Draft::new) if there is no room; the region stays usable as it was.
    pub fn extend(&self, len_bytes: u64) -> Result<u64, RegionError> {
        let known = self.join.known_len();
        if len_bytes <= known {
            return Ok(known);
        }
        let max = self.join.header.spec.len_max_bytes;
        if !is_page_in(len_bytes, &(0..max + 1)) {
            return Err(RegionError::Extend { asked: len_bytes, max });
        }
        let found = self.join.refresh_len()?;
        if found < len_bytes {
            reserve(self.join.file.as_fd(), found, len_bytes)?;
        }
        self.join.refresh_len()
    }

    /// Takes the lock, waiting at most `timeout` for a holder that is, or may be, alive.
    ///
    /// Spins for a few microseconds, then sleeps. A dead holder's lock is taken over: before the first sleep,
    /// or at the latest 50 ms after the death. About 20 ns if the lock is free.
    ///
    /// ```
    /// use std::time::Duration;
    /// use outlast_shm::{Region, Spec, USER_OFFSET};
    ///
    /// let region = Region::anonymous(&Spec::new(1, 1, USER_OFFSET + 4096))?;
    /// let mut guard = region.lock(Duration::from_secs(1))?;
    /// if guard.needs_recovery() {
    ///     // Put right what a dead holder may have left half done, then:
    ///     guard.mark_recovered();
    /// }
    /// guard.unlock()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`LockError::Busy`] with the holder, [`LockError::Reentrant`] if this thread has it already,
    /// [`LockError::Join`] if a forked child finds no slot in the joiner table.
    #[inline]
    pub fn lock(&self, timeout: Duration) -> Result<LockGuard<'_>, LockError> {
        let (claim, epoch) = self.join.claim_for_thread()?;
        let acquired = match try_acquire(&self.join.words(), LOCK_WORD, claim, false) {
            Ok(word) => Acquired { word, taken_from: None },
            Err(_) => acquire_slowly(&self.join, claim, timeout)?,
        };
        Ok(LockGuard::new(&self.join, epoch, acquired))
    }

    /// This process's slot in the joiner table; a forked child is entered anew.
    ///
    /// # Errors
    /// [`JoinError`], only in a forked child.
    pub fn slot(&self) -> Result<JoinerSlot, JoinError> {
        Ok(self.join.claim()?.slot)
    }
}

impl<A: Access> Clone for Region<A> {
    fn clone(&self) -> Self {
        self.join.add();
        Self { join: Arc::clone(&self.join), left: false, access: PhantomData }
    }
}

impl<A: Access> Drop for Region<A> {
    fn drop(&mut self) {
        if !mem::replace(&mut self.left, true) {
            // The kernel gives back what could not be given back here; `leave` tells.
            let _ = self.join.remove();
        }
    }
}

impl<A: Access> fmt::Debug for Region<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("name", &self.name())
            .field("id", &format_args!("{:032x}", self.id()))
            .field("fd", &self.fd().as_raw_fd())
            .field("writable", &A::WRITABLE)
            .field("len_bytes", &self.len_bytes())
            .finish()
    }
}

/// Refuses what is not a regular file of this user.
pub(crate) fn check_file(stat: &Stat) -> Result<(), RegionError> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(RegionError::NotAFile { mode: stat.st_mode });
    }
    let expected = rustix::process::geteuid().as_raw();
    if stat.st_uid != expected {
        return Err(RegionError::Owner { expected, found: stat.st_uid });
    }
    Ok(())
}

/// Opens an entry of a directory without following links, waiting for pipes, or opening terminals.
pub(crate) fn open_entry(directory: BorrowedFd<'_>, entry: &[u8], writable: bool) -> Result<OwnedFd, Errno> {
    let access = if writable { OFlags::RDWR } else { OFlags::RDONLY };
    let careful = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat(directory, entry, access | careful, Mode::empty())
}

/// Reads and checks the static header and the length of an open file.
pub(crate) fn read_header(file: BorrowedFd<'_>) -> Result<Header, RegionError> {
    let stat = fstat(file).call("fstat")?;
    check_file(&stat)?;
    let mut bytes = [0; STATIC_BYTES];
    let mut filled = 0;
    while filled < STATIC_BYTES {
        match rustix::io::pread(file, &mut bytes[filled..], filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            error => error.map(|_| ()).call("reading the header")?,
        }
    }
    // A file that ends early is padded with zeros here: too short for the magic, or for its own length.
    let header = Header::decode(&bytes)?;
    header.expect_len(stat.st_size.cast_unsigned())?;
    Ok(header)
}

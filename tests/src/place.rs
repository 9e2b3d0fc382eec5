//! Where a run keeps its regions and files: the domain, names that no other run has, and guards.
//!
//! # Invariants
//! - A domain directory that this run made is gone afterwards if nobody else has used it meanwhile: runs hold a
//!   shared `flock` on it, and the one that can turn its own into an exclusive one is the last.
//! - A guard removes what it stands for however its scope is left; that of a region keeps an image of it first, in
//!   the sandbox of a run that has found something wrong.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statvfs::statvfs;
use nix::unistd::geteuid;
use outlast_wksp::{Domain, RegionName};

use crate::end::{Doing, End, is_failing};

/// The largest region of which an image is kept.
pub const IMAGE_BYTES_MAX: u64 = 64 << 20;

/// How often, and with what pause, the domain's lock is asked for: more than a second.
const HOLD_TRIES: u32 = 1000;
const HOLD_PAUSE: Duration = Duration::from_millis(1);

/// The domain of a run.
#[derive(Debug)]
pub struct Place {
    domain: Domain,
    seed: u64,
    made: bool,
    hold: Option<Flock<File>>,
    images: Option<PathBuf>,
}

impl Place {
    /// The default domain: `$OUTLAST_DIR`, else `/dev/shm/outlast-$UID`.
    ///
    /// # Errors
    /// [`End::Failed`] if it cannot be opened.
    pub fn open_default(seed: u64) -> Result<Self, End> {
        Self::open(Self::default_path(), seed)
    }

    /// `$OUTLAST_DIR`, else `/dev/shm/outlast-$UID`.
    pub fn default_path() -> PathBuf {
        match std::env::var_os("OUTLAST_DIR") {
            Some(path) => PathBuf::from(path),
            None => PathBuf::from(format!("/dev/shm/outlast-{}", geteuid())),
        }
    }

    /// The domain in the directory `path`, made if there is none.
    ///
    /// # Errors
    /// [`End::Failed`] if it cannot be opened.
    pub fn open(path: PathBuf, seed: u64) -> Result<Self, End> {
        let made = !path.exists();
        // Another run may remove the directory between our opening and our holding it, or hold it alone for the moment
        // in which it removes that or what dead runs have left: then once more, since a lock cannot be waited for with
        // a limit.
        for _ in 0..HOLD_TRIES {
            let domain = Domain::open(&path).doing("opening the domain")?;
            let file = File::open(&path).doing("opening the domain's directory")?;
            let hold = match Flock::lock(file, FlockArg::LockSharedNonblock) {
                Err((_, Errno::EWOULDBLOCK)) => {
                    std::thread::sleep(HOLD_PAUSE);
                    continue;
                }
                hold => hold.ok(),
            };
            let held = hold.as_ref().and_then(|hold| hold.metadata().ok()).map(|metadata| metadata.ino());
            if held.is_none() || held == path.metadata().ok().map(|metadata| metadata.ino()) {
                return Ok(Self { domain, seed, made, hold, images: None });
            }
        }
        let path = path.display();
        Err(End::Failed(format!("the domain {path} does not stay where it is, or somebody keeps it locked")))
    }

    /// The domain.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// A name for a region of this run.
    ///
    /// # Errors
    /// [`End::Failed`] if `stem` is not part of a region's name, or longer than 12 characters.
    pub fn name(&self, stem: &str) -> Result<RegionName, End> {
        let name = format!("{}{:08x}-{stem}", name_prefix(std::process::id()), self.seed as u32);
        name.parse().doing("naming a region")
    }

    /// Keeps images of the regions of a run that fails in `directory`.
    #[must_use]
    pub fn with_images_in(mut self, directory: PathBuf) -> Self {
        self.images = Some(directory);
        self
    }

    /// The name `stem`, removed at the end of the guard's scope.
    ///
    /// # Errors
    /// As [`name`](Self::name).
    pub fn guard(&self, stem: &str) -> Result<RegionGuard, End> {
        Ok(RegionGuard { domain: self.domain.clone(), name: self.name(stem)?, images: self.images.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(hold) = self.hold.take().filter(|_| self.made) else { return };
        if hold.relock(FlockArg::LockExclusiveNonblock).is_ok() {
            // Not empty, or gone already: then it is somebody else's to remove.
            let _ = std::fs::remove_dir(self.domain.path());
        }
    }
}

/// A region's name that is taken away when the guard is dropped.
#[derive(Debug)]
pub struct RegionGuard {
    domain: Domain,
    name: RegionName,
    images: Option<PathBuf>,
}

impl RegionGuard {
    /// The name.
    pub fn name(&self) -> &RegionName {
        &self.name
    }

    /// The domain it is in.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }
}

impl Drop for RegionGuard {
    fn drop(&mut self) {
        if let Some(images) = self.images.as_deref().filter(|_| is_failing()) {
            // It is a courtesy to whoever looks for the reason.
            let _ = keep_image(&self.domain, &self.name, images);
        }
        // There may be none, or none any more.
        let _ = self.domain.unlink(&self.name);
    }
}

/// What the names of all regions begin with that the process `pid` makes for a run.
pub fn name_prefix(pid: u32) -> String {
    format!("stress-{pid}-")
}

/// Copies a region into `directory` as `NAME.img`, unless it is larger than [`IMAGE_BYTES_MAX`]: then a file beside
/// says so.
///
/// # Errors
/// If it cannot be read or written.
pub fn keep_image(domain: &Domain, name: &RegionName, directory: &Path) -> std::io::Result<()> {
    let region = domain.path().join(name.as_str());
    let bytes = region.metadata()?.len();
    if IMAGE_BYTES_MAX < bytes {
        let text = format!("{bytes} bytes, more than the {IMAGE_BYTES_MAX} of which images are kept\n");
        return std::fs::write(directory.join(format!("{name}.img.left-out")), text);
    }
    std::fs::copy(region, directory.join(format!("{name}.img"))).map(|_| ())
}

/// A file that is removed when the guard is dropped, unless it is to be kept.
#[derive(Debug)]
pub struct FileGuard {
    path: PathBuf,
    keep: bool,
}

impl FileGuard {
    /// Stands for `path`.
    pub fn new(path: PathBuf, keep: bool) -> Self {
        Self { path, keep }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for FileGuard {
    fn drop(&mut self) {
        if !self.keep {
            // There may be none.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Free bytes of the file system of a directory, and which one it is.
///
/// # Errors
/// [`End::Failed`] if it cannot be asked.
pub fn free_bytes(directory: &Path) -> Result<(u64, u64), End> {
    let what = || format!("asking for the free space of {}", directory.display());
    let space = statvfs(directory).doing(what())?;
    let device = directory.metadata().doing(what())?.dev();
    Ok((space.blocks_available().saturating_mul(space.fragment_size()), device))
}

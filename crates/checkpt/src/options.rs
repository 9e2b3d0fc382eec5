//! What a caller may choose: options of writing and of reading, progress, cancellation.

use core::fmt;
use core::num::NonZeroUsize;
use std::sync::Arc;

use outlast_probe::sync::{AtomicBool, Ordering};

use crate::layout::WINDOW_BYTES;
use crate::style::Style;

/// How far an operation has come, in bytes of content (the partitions' bytes, whatever they compress to).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// Called after each window by whichever thread finished it, so calls may overlap and arrive out of order;
/// exactly one of a completed operation's calls has `done_bytes == total_bytes`.
///
/// An operation without content makes no call. A slow callback slows the operation down.
pub type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;

/// A flag that stops an operation at the next window. Clones share the flag; it stays set.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks every operation that was given this flag to stop with its `Cancelled` error.
    pub fn cancel(&self) {
        // Relaxed: the flag carries no data; a worker that sees it a window later is as good.
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        // Relaxed: see `cancel`.
        self.0.load(Ordering::Relaxed)
    }
}

/// Options of [`write_file`](crate::write_file) and [`write_to`](crate::write_to).
///
/// ```
/// use outlast_checkpt::{Style, WriteOptions};
/// let options = WriteOptions::default().style(Style::Zstd).threads(2);
/// assert_eq!(options.mode, 0o600);
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct WriteOptions {
    /// How the bytes are stored; default raw.
    pub style: Style,
    /// Threads that read, hash, compress and write; default one per core. The bytes written do not depend
    /// on it.
    pub threads: NonZeroUsize,
    /// zstd's level; default 1.
    pub zstd_level: i32,
    /// Permission bits of the published file, exact whatever the umask; default `0o600`.
    pub mode: u32,
    /// Identity of the checkpoint; default a fresh random UUID.
    pub id: Option<[u8; 16]>,
    /// Time recorded in the file, nanoseconds since 1970 in UTC; default now.
    pub clock_unix_ns: Option<u64>,
    /// Window size in bytes, a power of two from 64 KiB to 4 MiB; default 256 KiB.
    pub window_bytes: u64,
    /// Called after each window.
    pub progress: Option<ProgressFn>,
    /// Stops the operation.
    pub cancel: Option<Cancel>,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            style: Style::default(),
            threads: core_count(),
            zstd_level: 1,
            mode: 0o600,
            id: None,
            clock_unix_ns: None,
            window_bytes: WINDOW_BYTES,
            progress: None,
            cancel: None,
        }
    }
}

impl WriteOptions {
    /// Sets [`style`](Self::style).
    pub fn style(mut self, style: Style) -> Self {
        self.style = style;
        self
    }

    /// Sets [`threads`](Self::threads); 0 counts as 1.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
        self
    }

    /// Sets [`zstd_level`](Self::zstd_level).
    pub fn zstd_level(mut self, level: i32) -> Self {
        self.zstd_level = level;
        self
    }

    /// Sets [`mode`](Self::mode).
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Sets [`id`](Self::id).
    pub fn id(mut self, id: [u8; 16]) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets [`clock_unix_ns`](Self::clock_unix_ns).
    pub fn clock_unix_ns(mut self, clock_unix_ns: u64) -> Self {
        self.clock_unix_ns = Some(clock_unix_ns);
        self
    }

    /// Sets [`window_bytes`](Self::window_bytes).
    pub fn window_bytes(mut self, window_bytes: u64) -> Self {
        self.window_bytes = window_bytes;
        self
    }

    /// Sets [`progress`](Self::progress).
    pub fn progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    /// Sets [`cancel`](Self::cancel).
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = Some(cancel);
        self
    }
}

impl fmt::Debug for WriteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteOptions")
            .field("style", &self.style)
            .field("threads", &self.threads)
            .field("zstd_level", &self.zstd_level)
            .field("mode", &format_args!("{:o}", self.mode))
            .field("id", &self.id)
            .field("clock_unix_ns", &self.clock_unix_ns)
            .field("window_bytes", &self.window_bytes)
            .field("progress", &self.progress.is_some())
            .field("cancel", &self.cancel)
            .finish()
    }
}

/// Options of [`Checkpoint::restore`](crate::Checkpoint::restore) and
/// [`Checkpoint::verify`](crate::Checkpoint::verify).
#[derive(Clone)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// Threads that read, decode, check and hand over; default one per core.
    pub threads: NonZeroUsize,
    /// Called after each window.
    pub progress: Option<ProgressFn>,
    /// Stops the operation.
    pub cancel: Option<Cancel>,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self { threads: core_count(), progress: None, cancel: None }
    }
}

impl RestoreOptions {
    /// Sets [`threads`](Self::threads); 0 counts as 1.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
        self
    }

    /// Sets [`progress`](Self::progress).
    pub fn progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    /// Sets [`cancel`](Self::cancel).
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = Some(cancel);
        self
    }
}

impl fmt::Debug for RestoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestoreOptions")
            .field("threads", &self.threads)
            .field("progress", &self.progress.is_some())
            .field("cancel", &self.cancel)
            .finish()
    }
}

fn core_count() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

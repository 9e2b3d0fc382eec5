//! Runs one closure on several threads, and the small state that its workers share: which window is next,
//! how far they are, and the first error.
//!
//! **Invariants**
//! - Window numbers are claimed in ascending order, each once.
//! - Of several errors the one of the lowest window is reported.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use outlast_probe::sync::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use rayon::ThreadPoolBuilder;

use crate::options::{Cancel, Progress, ProgressFn};

/// More threads than this are never of use.
const THREADS_MAX: usize = 1024;

/// Threads for `window_count` windows when `asked` are wanted.
pub(crate) fn thread_count(asked: usize, window_count: usize) -> usize {
    asked.min(window_count).clamp(1, THREADS_MAX)
}

/// Runs `work` on `threads` threads at once and returns when all have; on the caller's alone for 1. A panic
/// of `work` is passed on.
pub(crate) fn run(threads: usize, work: &(dyn Fn() + Sync)) -> io::Result<()> {
    if threads == 1 {
        work();
        return Ok(());
    }
    let name = |index| format!("checkpt-{index}");
    let pool = ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build();
    pool.map_err(io::Error::other)?.broadcast(|_| work());
    Ok(())
}

/// Locks; a panic elsewhere is passed on by the pool, so the data behind a poisoned lock is not read for a
/// result any more.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the workers of one operation share.
pub(crate) struct Crew<'a, E> {
    window_count: usize,
    next: AtomicUsize,
    stopped: AtomicBool,
    done_bytes: AtomicU64,
    total_bytes: u64,
    first_error: Mutex<Option<(usize, E)>>,
    progress: Option<&'a ProgressFn>,
    cancel: Option<&'a Cancel>,
}

impl<'a, E> Crew<'a, E> {
    pub(crate) fn new(
        window_count: usize,
        total_bytes: u64,
        progress: Option<&'a ProgressFn>,
        cancel: Option<&'a Cancel>,
    ) -> Self {
        Self {
            window_count,
            next: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            done_bytes: AtomicU64::new(0),
            total_bytes,
            first_error: Mutex::new(None),
            progress,
            cancel,
        }
    }

    /// The next window, `None` when there is none left or the work was stopped or cancelled.
    pub(crate) fn claim(&self) -> Option<usize> {
        if self.is_stopped() || self.is_cancelled() {
            return None;
        }
        // Relaxed: only uniqueness matters; what is written about a window passes through a mutex or the
        // join of the threads.
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        (index < self.window_count).then_some(index)
    }

    /// Whether the caller asked to stop.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.is_some_and(Cancel::is_cancelled)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        // Relaxed: a hint to stop early; the error itself is behind the mutex.
        self.stopped.load(Ordering::Relaxed)
    }

    /// Lets nobody claim another window.
    pub(crate) fn stop(&self) {
        // Relaxed: see `is_stopped`.
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Records the error of window `index` and stops.
    pub(crate) fn fail(&self, index: usize, error: E) {
        self.stop();
        let mut first = lock(&self.first_error);
        if first.as_ref().is_none_or(|(at, _)| index < *at) {
            *first = Some((index, error));
        }
    }

    /// Counts a finished window and reports the progress.
    pub(crate) fn advance(&self, bytes: u64) {
        // Relaxed: a counter; each sum is seen by exactly one thread.
        let done_bytes = self.done_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(progress) = self.progress {
            progress(Progress { done_bytes, total_bytes: self.total_bytes });
        }
    }

    /// The outcome once all workers have returned; `cancelled` makes the error from done and total bytes.
    pub(crate) fn finish(self, cancelled: impl FnOnce(u64, u64) -> E) -> Result<(), E> {
        // Relaxed: the workers were joined.
        let done_bytes = self.done_bytes.load(Ordering::Relaxed);
        let is_cancelled = self.is_cancelled();
        match self.first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((_, error)) => Err(error),
            None if is_cancelled && done_bytes < self.total_bytes => {
                Err(cancelled(done_bytes, self.total_bytes))
            }
            None => Ok(()),
        }
    }
}

//! Watching a live workspace from outside: its joiners' counters, one snapshot after the other.
//!
//! `snapshot` is what a look finds, `comparison` what two of them say together. Below it is a
//! [`Reader`], a read-only join: it takes no slot and no lock, stores nothing, and stops nobody.
//!
//! # Invariants
//! - A value that was not read whole is never a number: it says why there is none.
//! - A joiner is told by slot, generation, pid and start time, never by its slot alone.
//! - Every look ends after a bounded number of steps, whatever the region holds and whoever is stopped.

use core::time::Duration;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use outlast_shm::{Domain, RegionError, RegionName};
use rustix::time::{ClockId, clock_gettime};

use crate::error::{AttachError, QueryError};
use crate::reader::Reader;

mod comparison;
mod snapshot;

pub use comparison::{Change, Comparison, Gate, JoinerChange};
pub use snapshot::{JoinerCounters, JoinerKey, JoinerState, SNAPSHOT_SCHEMA, Snapshot, Value, Values};

/// How often the tables are looked at for one snapshot until they hold still.
const TRIES: u32 = 3;

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The workspace could not be joined for reading.
    #[error("{0}")]
    Attach(#[from] AttachError),
    /// The name belongs to another region now: the workspace was restored, or deleted and made again.
    #[error("workspace {name} is another region now: {found:032x}, no longer {expected:032x}; watch it anew")]
    Replaced {
        /// The workspace.
        name: RegionName,
        /// Id of the region that was watched.
        expected: u128,
        /// Id of the region that has the name now.
        found: u128,
    },
    /// The name was taken away; processes that have joined may still use the memory.
    #[error("workspace {name} was deleted while it was watched")]
    Deleted {
        /// The workspace.
        name: RegionName,
    },
    /// The region's file is no longer what it was: cut short, or its name belongs to something else.
    #[error("{0}")]
    Region(#[from] RegionError),
}

/// A workspace that is watched.
///
/// ```
/// use outlast_wksp::{Counter, CreateOptions, Domain, Value, Watch, Wksp};
/// # let directory = tempfile::tempdir()?;
/// # let domain = Domain::open(&directory.path().join("domain"))?;
/// # let name = "prices".parse()?;
/// let wksp = Wksp::create(&domain, &name, &CreateOptions::with_size(1 << 20))?;
/// let watch = Watch::attach(&domain, &name)?; // any process, at any time
/// wksp.alloc(5000, 64, 1)?;
/// let snapshot = watch.snapshot()?;
/// assert_eq!(snapshot.joiners[0].values.get(Counter::AllocBytes), Value::Measured(5000));
/// assert_eq!(snapshot.live_bytes(), Some(5000));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Watch {
    reader: Reader,
    domain: Domain,
    name: RegionName,
}

impl Watch {
    /// Joins the workspace `name` for reading only.
    ///
    /// # Errors
    /// [`WatchError::Attach`], as [`Reader::attach`].
    pub fn attach(domain: &Domain, name: &RegionName) -> Result<Self, WatchError> {
        Ok(Self { reader: Reader::attach(domain, name)?, domain: domain.clone(), name: *name })
    }

    /// What is there now. A few system calls for each joiner, about 10 microseconds, and 2 ns for each slot of
    /// the workspace's table. Never waits for anybody.
    ///
    /// Each joiner's counters are those of one moment; two joiners' may be of two.
    ///
    /// # Errors
    /// [`WatchError::Replaced`], [`WatchError::Deleted`]; [`WatchError::Region`] if the file was cut.
    pub fn snapshot(&self) -> Result<Snapshot, WatchError> {
        self.check_name()?;
        self.reader.region().refresh_len()?;
        let (at_monotonic_ns, at_unix_ns) = (monotonic_ns(), unix_ns());
        let joiners: Vec<JoinerCounters> =
            self.reader.region().roster().iter().map(JoinerCounters::of).collect();
        let (used_bytes, used_count) = match self.reader.usage_within(TRIES, &[]) {
            Ok(usage) => (Value::Measured(usage.used_bytes), Value::Measured(usage.used_count)),
            Err(QueryError::Unstable { .. }) => (Value::Torn, Value::Torn),
            Err(_) => (Value::Absent, Value::Absent),
        };
        Ok(Snapshot {
            schema_version: SNAPSHOT_SCHEMA,
            at_monotonic_ns,
            at_unix_ns,
            boot_id: boot_id(),
            name: self.name.to_string(),
            region_id: self.reader.region().id(),
            data_bytes: self.reader.data_bytes(),
            epoch: self.reader.epoch().map_or(Value::Absent, |epoch| Value::Measured(epoch.into())),
            used_bytes,
            used_count,
            joiners,
        })
    }

    /// A snapshot now and one after each `interval`, `count` of them or until `stop`. A snapshot that comes too
    /// late does not make the next one come earlier. An error ends the series.
    pub fn series(&self, interval: Duration, count: Option<u64>, stop: &WatchStop) -> Series<'_> {
        Series {
            watch: self,
            interval,
            left: count,
            next: Instant::now(),
            stop: stop.clone(),
            is_over: false,
        }
    }

    /// Whether the name still is the region's that was joined.
    fn check_name(&self) -> Result<(), WatchError> {
        let (name, expected) = (self.name, self.reader.region().id());
        match self.domain.info(&name) {
            Ok(info) if info.id == expected => Ok(()),
            Ok(info) => Err(WatchError::Replaced { name, expected, found: info.id }),
            Err(RegionError::Missing { .. }) => Err(WatchError::Deleted { name }),
            Err(other) => Err(other.into()),
        }
    }
}

/// Ends series from another thread, for instance that of a signal handler.
#[derive(Debug, Clone, Default)]
pub struct WatchStop(Arc<(Mutex<bool>, Condvar)>);

impl WatchStop {
    /// One that has not been asked to stop.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends every series that has it, at once if it waits, else after the snapshot in hand.
    pub fn stop(&self) {
        let (stopped, changed) = &*self.0;
        *stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }

    /// Whether [`stop`](Self::stop) was called.
    pub fn is_stopped(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `until` or until it is stopped; whether it is.
    fn wait_until(&self, until: Instant) -> bool {
        let (stopped, changed) = &*self.0;
        let guard = stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let left = until.saturating_duration_since(Instant::now());
        let waited = changed.wait_timeout_while(guard, left, |stopped| !*stopped);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// An iterator of snapshots that waits between them; see [`Watch::series`].
#[derive(Debug)]
pub struct Series<'w> {
    watch: &'w Watch,
    interval: Duration,
    left: Option<u64>,
    next: Instant,
    stop: WatchStop,
    is_over: bool,
}

impl Iterator for Series<'_> {
    type Item = Result<Snapshot, WatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over || self.left == Some(0) || self.stop.wait_until(self.next) {
            return None;
        }
        self.left = self.left.map(|left| left - 1);
        // A clock that cannot count that far ends the series after this one.
        match self.next.max(Instant::now()).checked_add(self.interval) {
            Some(next) => self.next = next,
            None => self.is_over = true,
        }
        let snapshot = self.watch.snapshot();
        self.is_over |= snapshot.is_err();
        Some(snapshot)
    }
}

fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec.cast_unsigned())
}

fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The kernel's boot id; empty if it is not told.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

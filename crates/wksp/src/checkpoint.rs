//! A workspace to one verified file, and back: into a fresh region, or in place.
//!
//! # Invariants
//! - `checkpoint` holds the lock: the list of allocations and their bytes belong to one state of the tables.
//! - A fresh restore touches the old workspace only after the new one is complete and has its name.
//! - A restore in place decodes and checks the whole file before it changes anything; from the first change to
//!   the last the state is `RESTORING`.

use std::path::Path;

use outlast_checkpt::{
    Checkpoint, Meta, ReadError, RestoreOptions as DecodeOptions, Sink, SinkError, Source, SourceError,
    Summary, WriteError, WriteOptions, write_file, write_to,
};
use outlast_probe::probe;
use outlast_probe::sync::Ordering;
use outlast_shm::{Domain, Draft, PageSize, RegionError, RegionName};

use crate::error::{AccessError, CreateError};
use crate::layout::{GRANULE, head, slot};
use crate::query::{Partition, partition_of};
use crate::tables::Kind;
use crate::wksp::{CreateOptions, Entry, State, Wksp};

/// Why no checkpoint was written. No file is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file could not be written.
    #[error("{0}")]
    Write(#[from] WriteError),
    /// The workspace could not be entered.
    #[error("{0}")]
    Access(#[from] AccessError),
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The file is damaged, or no checkpoint, or could not be read.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// The checkpoint reaches further than the target's data region.
    #[error("the checkpoint needs {needed_bytes} bytes of data region, the target has {data_bytes}")]
    DoesNotFit {
        /// One past the last byte of the checkpoint's last allocation.
        needed_bytes: u64,
        /// Bytes of the target's data region.
        data_bytes: u64,
    },
    /// An allocation in the file does not begin at a granule of this workspace.
    #[error(
        "the checkpoint has an allocation at gaddr {gaddr}: allocations begin at multiples of 64, not at 0"
    )]
    Granule {
        /// Where it begins.
        gaddr: u64,
    },
    /// A fresh region, or another size, was asked for, and others have joined this one, or it has no name, or it
    /// was to be restored in place.
    #[error(
        "a fresh region or another size needs a name and no other joiner: restore in place, at this size"
    )]
    Shared,
    /// The fresh region could not be made.
    #[error("{0}")]
    Create(#[from] CreateError),
    /// The fresh region could not be given its name.
    #[error("{0}")]
    Region(#[from] RegionError),
    /// The workspace could not be entered.
    #[error("{0}")]
    Access(#[from] AccessError),
    /// The file changed between the pass that checked it and the pass that restored from it. The workspace is in
    /// the state [`AccessError::Restoring`].
    #[error("the file changed while it was restored in place: {0}")]
    Interrupted(ReadError),
}

/// Where a restore goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RestoreMode {
    /// Into a fresh region if the workspace has a name, nobody else has joined it and there is room for a second
    /// one meanwhile; else in place.
    #[default]
    Auto,
    /// Into a fresh region that takes over the name when it is complete. Any failure leaves the old one as it was.
    Fresh,
    /// Into this region: one pass that checks the whole file, then one that writes. Joiners stay.
    InPlace,
}

/// Options of [`Wksp::restore`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// Where it goes.
    pub mode: RestoreMode,
    /// Seed of the new index. Default: the checkpoint's.
    pub seed: Option<u32>,
    /// Bytes of the data region of a fresh region. Default: as many as this one has. Asking for a size asks for
    /// a fresh region.
    pub size_bytes: Option<u64>,
    /// Threads, progress and cancellation.
    pub decode: DecodeOptions,
}

/// What [`Wksp::restore`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// Allocations restored.
    pub partition_count: u64,
    /// Their bytes.
    pub content_bytes: u64,
    /// Whether they went into a fresh region.
    pub fresh: bool,
}

/// Payload by gaddr, copied through private buffers.
struct Payload<'w>(&'w Wksp);

impl Source for Payload<'_> {
    fn read(&self, gaddr: u64, into: &mut [u8]) -> Result<(), SourceError> {
        self.0.read(gaddr, into).map_err(SourceError::new)
    }
}

impl Sink for Payload<'_> {
    fn write(&self, gaddr: u64, from: &[u8]) -> Result<(), SinkError> {
        self.0.write(gaddr, from).map_err(SinkError::new)
    }
}

/// Takes everything and keeps nothing: for the pass that only checks.
struct Discard;

impl Sink for Discard {
    fn write(&self, _gaddr: u64, _from: &[u8]) -> Result<(), SinkError> {
        Ok(())
    }
}

impl Wksp {
    /// Writes every allocation to the file `path`, which must not exist: in parallel, checksummed, and published
    /// whole or not at all. `info` is kept as descriptive text.
    ///
    /// Holds the lock all the while, so nobody allocates or frees; payload that others write meanwhile is
    /// saved old or new. Blocks for the file's I/O and an fsync.
    ///
    /// # Errors
    /// [`CheckpointError::Write`] (path, what was needed); no file is left behind.
    ///
    /// ```
    /// use outlast_wksp::{CheckpointOptions, CreateOptions, RestoreOptions, Style, Wksp};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("saved");
    /// let mut wksp = Wksp::anonymous(&CreateOptions::with_size(1 << 20))?;
    /// let block = wksp.alloc(9, 64, 1)?;
    /// wksp.write(block.gaddr().get(), b"outlasts!")?;
    /// wksp.checkpoint(&path, &CheckpointOptions::default().style(Style::Lz4))?;
    /// wksp.reset(0)?;
    /// assert_eq!(wksp.tag(block.gaddr())?, None);
    /// wksp.restore(&path, &RestoreOptions::default())?;
    /// let mut bytes = [0; 9];
    /// wksp.read(block.gaddr().get(), &mut bytes)?;
    /// assert_eq!(&bytes, b"outlasts!");
    /// # Ok(())
    /// # }
    /// ```
    pub fn checkpoint(&self, path: &Path, options: &WriteOptions) -> Result<Summary, CheckpointError> {
        self.save(|meta, partitions| write_file(path, meta, partitions, &Payload(self), options))
    }

    /// As [`checkpoint`](Self::checkpoint), but into an open file from its first byte on, without publishing
    /// and without fsync: what is in the file after an error is of no use.
    ///
    /// # Errors
    /// As [`checkpoint`](Self::checkpoint).
    pub fn checkpoint_to(
        &self,
        file: &std::fs::File,
        options: &WriteOptions,
    ) -> Result<Summary, CheckpointError> {
        self.save(|meta, partitions| write_to(file, meta, partitions, &Payload(self), options))
    }

    fn save(
        &self,
        write: impl FnOnce(&Meta, &[outlast_checkpt::Partition]) -> Result<Summary, WriteError>,
    ) -> Result<Summary, CheckpointError> {
        let entry = self.enter()?;
        let mut partitions = Vec::new();
        let walked = entry.tables.walk(|slot| {
            partitions.extend(partition_of(slot).map(saved));
            Ok(())
        });
        walked.map_err(AccessError::from)?;
        let meta = Meta {
            name: self.name().map(|name| name.to_string()).unwrap_or_default(),
            data_max_bytes: self.data_bytes(),
            seed: entry.tables.head_value(head::SEED).map_err(AccessError::from)?,
            page_size_bytes: PageSize::Normal.bytes(),
            info: serde_json::Map::new(),
        };
        let summary = write(&meta, &partitions)?;
        entry.leave()?;
        Ok(summary)
    }

    /// Replaces everything in this workspace by what the checkpoint at `path` holds, at the same gaddrs.
    ///
    /// See [`RestoreMode`] for where it goes. After a fresh restore this handle is a join of the new region. The
    /// target may be of another size as long as the checkpoint fits.
    ///
    /// # Errors
    /// [`RestoreError`]. The workspace is as it was, except after [`RestoreError::Interrupted`] (or a kill)
    /// in place: then every call says [`AccessError::Restoring`] until a restore or a reset succeeds.
    pub fn restore(&mut self, path: &Path, options: &RestoreOptions) -> Result<Restored, RestoreError> {
        let file = Checkpoint::open(path)?;
        let needed_bytes = needed_bytes(file.partitions())?;
        let must_be_fresh = options.mode == RestoreMode::Fresh || options.size_bytes.is_some();
        if must_be_fresh && (self.is_shared() || options.mode == RestoreMode::InPlace) {
            return Err(RestoreError::Shared);
        }
        let in_place = options.mode == RestoreMode::InPlace || self.is_shared();
        if !in_place {
            match self.restore_fresh(&file, options) {
                Err(RestoreError::Create(CreateError::Region(RegionError::NoSpace { .. })))
                    if !must_be_fresh => {}
                done => return done,
            }
        }
        check_fit(needed_bytes, self.data_bytes())?;
        self.restore_in_place(&file, options)
    }

    /// Makes the workspace `name` from the checkpoint at `path`. It appears under its name whole or not at all.
    ///
    /// Its data region is as large as the saved one, unless `options.size_bytes` says otherwise.
    ///
    /// # Errors
    /// [`RestoreError`]; nothing is left behind.
    pub fn create_from(
        domain: &Domain,
        name: &RegionName,
        path: &Path,
        options: &RestoreOptions,
    ) -> Result<(Self, Restored), RestoreError> {
        let file = Checkpoint::open(path)?;
        let size_bytes = options.size_bytes.unwrap_or(file.meta().data_max_bytes);
        let (draft, fresh) =
            Self::draft_from(domain, name, &file, &CreateOptions::with_size(size_bytes), options)?;
        let region = draft.publish()?;
        Ok((Self { region, ..fresh }, restored(&file, true)))
    }

    /// A workspace that holds what `file` does and has no name yet, and a handle of it.
    fn draft_from(
        domain: &Domain,
        name: &RegionName,
        file: &Checkpoint,
        create: &CreateOptions,
        options: &RestoreOptions,
    ) -> Result<(Draft, Self), RestoreError> {
        let slots = (file.partitions().len() as u64 * 2 + 64).max(create.size_bytes / (16 << 10));
        let create = CreateOptions { slots: Some(slots), ..create.clone() };
        let geometry = Self::geometry(&create)?;
        check_fit(needed_bytes(file.partitions())?, geometry.data_bytes)?;
        let draft = Self::draft(domain, name, &create)?;
        let region = draft.region().clone();
        let fresh = Self::of(region, geometry, Some(domain.clone()))?;
        let mut entry = fresh.enter()?;
        entry.fill(file, options, false)?;
        entry.leave()?;
        Ok((draft, fresh))
    }

    /// Whether anybody but this handle has joined, or could without being seen (by descriptor).
    fn is_shared(&self) -> bool {
        self.domain.is_none()
            || self.name().is_none()
            || self.region.other_joiners()
            || 1 < self.region.handle_count()
    }

    fn restore_fresh(
        &mut self,
        file: &Checkpoint,
        options: &RestoreOptions,
    ) -> Result<Restored, RestoreError> {
        let (Some(domain), Some(name)) = (&self.domain, self.name()) else {
            return Err(RestoreError::Shared);
        };
        // Nobody allocates in the old one from here on; nobody sees the new one yet.
        let old = self.enter_unchecked()?;
        if self.region.other_joiners() {
            return Err(RestoreError::Shared);
        }
        // What a restore that was killed here left beside it. Not a reason to fail.
        let _ = domain.sweep();
        let mut create = CreateOptions::with_size(options.size_bytes.unwrap_or(self.data_bytes()));
        create.mode = domain.info(&name)?.mode;
        let (draft, fresh) = Self::draft_from(domain, &name, file, &create, options)?;
        probe!("wksp.restore.before_exchange");
        let region = draft.publish_replacing()?;
        probe!("wksp.restore.exchanged");
        old.set_state(State::Replaced);
        old.leave()?;
        *self = Self { region, lock_timeout: self.lock_timeout, ..fresh };
        Ok(restored(file, true))
    }

    fn restore_in_place(
        &mut self,
        file: &Checkpoint,
        options: &RestoreOptions,
    ) -> Result<Restored, RestoreError> {
        let mut entry = match self.enter() {
            Ok(entry) => entry,
            // What is there is lost already, or damaged: a restore mends both.
            Err(AccessError::Restoring { .. } | AccessError::Corrupt(_)) => self.enter_unchecked()?,
            Err(other) => return Err(other.into()),
        };
        if entry.tables.head_value(head::STATE) == Ok(State::Replaced as u32) {
            return Err(AccessError::Replaced.into());
        }
        file.restore(&Discard, &options.decode)?;
        probe!("wksp.restore.checked");
        entry.set_restore_id(u128::from_le_bytes(file.id()));
        entry.set_state(State::Restoring);
        probe!("wksp.restore.begun");
        entry.clear(0)?;
        entry.fill(file, options, true)?;
        probe!("wksp.restore.before_done");
        entry.set_state(State::Normal);
        entry.guard.mark_recovered();
        entry.leave()?;
        Ok(restored(file, false))
    }
}

impl Entry<'_> {
    /// Fills an empty workspace: payload, then slots, then the index.
    fn fill(
        &mut self,
        file: &Checkpoint,
        options: &RestoreOptions,
        in_place: bool,
    ) -> Result<(), RestoreError> {
        let partitions = file.partitions();
        let wanted = partitions.len() as u64 * 2 + 1;
        let wanted = wanted.min(self.wksp.site.geometry.slots_max());
        if u64::from(self.tables.capacity) < wanted {
            self.grow(wanted)?;
        }
        file.restore(&Payload(self.wksp), &options.decode).map_err(|error| match error {
            error if in_place => RestoreError::Interrupted(error),
            error => RestoreError::Read(error),
        })?;
        probe!("wksp.restore.copied");
        self.tables.begin();
        // Relaxed: static.
        let base = self.tables.head.load(head::STAMP_BASE, Ordering::Relaxed);
        for (index, partition) in (0_u32..).zip(partitions) {
            let stamp = self.tables.truth(index).words[slot::STAMP].max(base);
            self.tables.store_free(index, Kind::Idle, 0, 0, stamp);
            let outlast_checkpt::Partition { gaddr, size_bytes, tag } = *partition;
            self.tables.prepare_used(index, gaddr, size_bytes, stamp.wrapping_add(1), tag);
            self.tables.set_owner(index, 0);
            self.tables.commit(index, tag);
        }
        Ok(self.rebuild(options.seed.unwrap_or(file.meta().seed))?)
    }

    fn set_restore_id(&self, id: u128) {
        // Relaxed: the state stored next is what makes it count; the lock orders it.
        self.tables.head.store(head::RESTORE_ID_LOW, id as u64, Ordering::Relaxed);
        self.tables.head.store(head::RESTORE_ID_HIGH, (id >> 64) as u64, Ordering::Relaxed);
    }
}

fn saved(partition: Partition) -> outlast_checkpt::Partition {
    let Partition { gaddr, size_bytes, tag } = partition;
    outlast_checkpt::Partition { gaddr: gaddr.get(), size_bytes, tag }
}

fn restored(file: &Checkpoint, fresh: bool) -> Restored {
    let partitions = file.partitions();
    let content_bytes = partitions.iter().map(|partition| partition.size_bytes).sum();
    Restored { partition_count: partitions.len() as u64, content_bytes, fresh }
}

/// One past the last byte of the last allocation. The file's reader has checked order, size and tag.
fn needed_bytes(partitions: &[outlast_checkpt::Partition]) -> Result<u64, RestoreError> {
    let misplaced = |gaddr: u64| gaddr == 0 || !gaddr.is_multiple_of(GRANULE);
    if let Some(partition) = partitions.iter().find(|partition| misplaced(partition.gaddr)) {
        return Err(RestoreError::Granule { gaddr: partition.gaddr });
    }
    Ok(partitions.last().map_or(0, |last| last.gaddr.saturating_add(last.size_bytes)))
}

fn check_fit(needed_bytes: u64, data_bytes: u64) -> Result<(), RestoreError> {
    if data_bytes < needed_bytes {
        Err(RestoreError::DoesNotFit { needed_bytes, data_bytes })
    } else {
        Ok(())
    }
}

//! Checkpoint and restore.
//!
//! # Invariants
//! - A restore that fails leaves no workspace behind that was not there before.

use std::io::{self, Write};
use std::path::Path;

use outlast_shm::{RegionError, RegionName};
use outlast_wksp::{
    AttachError, CheckpointOptions, RestoreError, RestoreMode, RestoreOptions, Restored, Summary, Wksp,
};
use serde::Serialize;

use super::{Session, explain, explain_attach};
use crate::args;
use crate::cmd::checkpt;
use crate::failure::Failure;
use crate::progress::{cancel_on_interrupt, on_terminal};
use crate::render::{Count, Id, Show};
use crate::size::Human;

impl Session {
    pub(super) fn checkpoint(&self, checkpoint: &args::Checkpoint) -> Result<(), Failure> {
        let args::Checkpoint { name, path, style, threads, mode } = checkpoint;
        let wksp = self.attach(name)?;
        let cancel = cancel_on_interrupt()?;
        let mut options = CheckpointOptions::default().style(*style).mode(*mode).cancel(cancel);
        if let Some(threads) = threads {
            options = options.threads(*threads);
        }
        if let Some(advance) = on_terminal("saved") {
            options = options.progress(advance);
        }
        let summary = wksp.checkpoint(path, &options);
        // The progress line goes with the options.
        drop(options);
        let summary = summary.map_err(|error| explain(error, name))?;
        self.screen.print(&Saved::of(name, path, &summary))
    }

    pub(super) fn restore(&self, restore: &args::Restore) -> Result<(), Failure> {
        let args::Restore { name, path, threads, seed, size, .. } = restore;
        let mut options = RestoreOptions::default();
        (options.seed, options.size_bytes) = (*seed, *size);
        options.decode = options.decode.cancel(cancel_on_interrupt()?);
        if let Some(threads) = threads {
            options.decode = options.decode.threads(*threads);
        }
        if let Some(advance) = on_terminal("restored") {
            options.decode = options.decode.progress(advance);
        }
        options.mode = match (restore.in_place, restore.fresh) {
            (true, _) => RestoreMode::InPlace,
            (_, true) => RestoreMode::Fresh,
            _ => RestoreMode::Auto,
        };
        let (restored, made) = match Wksp::attach(&self.domain, name) {
            Err(AttachError::Region(RegionError::Missing { .. })) => {
                let made = Wksp::create_from(&self.domain, name, path, &options);
                (made.map(|(_, restored)| restored), true)
            }
            attached => {
                let mut wksp = attached.map_err(|error| explain_attach(error, name))?;
                wksp.set_lock_timeout(self.timeout);
                (wksp.restore(path, &options), false)
            }
        };
        // The progress line goes with the options.
        drop(options);
        let restored = restored.map_err(|error| explain_restore(error, name, path))?;
        self.screen.print(&BroughtBack::of(name, path, &restored, made))
    }
}

/// Says of a failed restore whether it was the file or the workspace, and what may help.
fn explain_restore(error: RestoreError, name: &RegionName, path: &Path) -> Failure {
    let shared = matches!(error, RestoreError::Shared);
    let of_file = matches!(error, RestoreError::Read(_));
    let failure = Failure::from(error);
    let failure = if of_file { checkpt::explain(failure, path) } else { explain(failure, name) };
    if shared { failure.or_next("`--in-place` restores under its joiners") } else { failure }
}

/// The answer of `checkpoint`.
#[derive(Debug, Serialize)]
struct Saved {
    name: String,
    path: String,
    id: Id,
    style: String,
    partition_count: u64,
    chunk_count: u64,
    used_bytes: u64,
    stored_bytes: u64,
    file_bytes: u64,
}

impl Saved {
    fn of(name: &RegionName, path: &Path, summary: &Summary) -> Self {
        Self {
            name: name.to_string(),
            path: path.display().to_string(),
            id: Id(u128::from_le_bytes(summary.id)),
            style: summary.style.to_string(),
            partition_count: summary.partition_count,
            chunk_count: summary.chunk_count,
            used_bytes: summary.used_bytes,
            stored_bytes: summary.stored_bytes,
            file_bytes: summary.file_bytes,
        }
    }
}

impl Show for Saved {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { name, path, partition_count, used_bytes, file_bytes, .. } = self;
        let (count, used, file) =
            (Count(*partition_count, "allocation"), Human(*used_bytes), Human(*file_bytes));
        writeln!(out, "saved {name} to {path}: {count}, {used} in {file}")
    }
}

/// The answer of `restore`.
#[derive(Debug, Serialize)]
struct BroughtBack {
    name: String,
    path: String,
    partition_count: u64,
    content_bytes: u64,
    /// Whether the workspace was made for it.
    made: bool,
    /// Whether it went into a fresh region that took over the name.
    fresh: bool,
}

impl BroughtBack {
    fn of(name: &RegionName, path: &Path, restored: &Restored, made: bool) -> Self {
        Self {
            name: name.to_string(),
            path: path.display().to_string(),
            partition_count: restored.partition_count,
            content_bytes: restored.content_bytes,
            made,
            fresh: restored.fresh,
        }
    }
}

impl Show for BroughtBack {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { name, path, partition_count, content_bytes, made, fresh } = self;
        let (count, bytes) = (Count(*partition_count, "allocation"), Human(*content_bytes));
        let place = match (made, fresh) {
            (true, _) => "a new workspace",
            (false, true) => "a fresh region",
            (false, false) => "the same region",
        };
        writeln!(out, "restored {name} from {path} into {place}: {count}, {bytes}")
    }
}

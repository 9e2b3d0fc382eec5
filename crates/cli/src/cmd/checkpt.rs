//! `outlast checkpt ...`: what is in a checkpoint file, and whether it is sound.

use std::io::{self, Write};
use std::path::Path;

use outlast_checkpt::{Checkpoint, ChunkInfo, Fault, ReadError, RestoreOptions, Summary, VerifyReport};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::args::Checkpt;
use crate::exit::Status;
use crate::failure::Failure;
use crate::progress::{cancel_on_interrupt, on_terminal};
use crate::render::{Align, Count, Id, Moment, Partition, Screen, Show, fact, partition_table, table};
use crate::size::{Bytes, Human};

pub(super) fn run(command: &Checkpt, screen: Screen) -> Result<(), Failure> {
    match command {
        Checkpt::Inspect { path, partitions, chunks } => {
            let checkpoint = open(path)?;
            screen.print(&Contents::of(path, &checkpoint, *partitions, *chunks))
        }
        Checkpt::Verify { path, threads } => verify(path, *threads, screen),
    }
}

/// Opens a checkpoint, with the path and what to do in the failure.
pub(super) fn open(path: &Path) -> Result<Checkpoint, Failure> {
    Checkpoint::open(path).map_err(|error| explain(error.into(), path))
}

/// Says which checkpoint a failure is about and what to do if it is damaged.
pub(super) fn explain(failure: Failure, path: &Path) -> Failure {
    let path = path.display().to_string();
    // Some errors begin with the path.
    let failure = if failure.message().starts_with(&path) {
        failure
    } else {
        failure.about(format_args!("checkpoint {path}"))
    };
    failure.next_if(Status::Damaged, "take another copy of it: what is damaged is not restored")
}

fn verify(path: &Path, threads: Option<usize>, screen: Screen) -> Result<(), Failure> {
    let report = match Checkpoint::open(path) {
        Ok(checkpoint) => {
            let mut options = RestoreOptions::default().cancel(cancel_on_interrupt()?);
            if let Some(threads) = threads {
                options = options.threads(threads);
            }
            if let Some(advance) = on_terminal("verified") {
                options = options.progress(advance);
            }
            let report = checkpoint.verify(&options).map_err(|error| explain(error.into(), path))?;
            Verified::of(path, &report)
        }
        Err(ReadError::Corrupt(fault)) => Verified::tables_only(path, &fault),
        Err(error) => return Err(explain(error.into(), path)),
    };
    let printed = screen.print(&report);
    if report.sound {
        return printed;
    }
    let count = Count(report.faults.len() as u64, "fault");
    let failure = Failure::new(Status::Damaged, format!("{count} found"));
    Err(explain(failure, path))
}

/// The answer of `inspect`.
#[derive(Debug, Serialize)]
struct Contents {
    path: String,
    id: Id,
    root: Id,
    name: String,
    style: String,
    created_unix_ns: Moment,
    data_max_bytes: u64,
    page_size_bytes: u64,
    seed: u32,
    window_bytes: u64,
    file_bytes: u64,
    used_bytes: u64,
    stored_bytes: u64,
    partition_count: u64,
    chunk_count: u64,
    chunk_styles: ChunkStyles,
    info: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partitions: Option<Vec<Partition>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunks: Option<Vec<Chunk>>,
}

/// How many chunks are stored how.
#[derive(Debug, Serialize)]
struct ChunkStyles {
    zero: u64,
    raw: u64,
    lz4: u64,
    zstd: u64,
}

#[derive(Debug, Serialize)]
struct Chunk {
    window: u64,
    gaddr: u64,
    gaddr_end: u64,
    content_bytes: u64,
    stored_bytes: u64,
    style: String,
    file_offset: u64,
    digest: String,
    stored_crc: String,
}

impl Contents {
    fn of(path: &Path, checkpoint: &Checkpoint, partitions: bool, chunks: bool) -> Self {
        let (meta, summary) = (checkpoint.meta(), checkpoint.summary());
        let Summary { id, root, style, clock_unix_ns, window_bytes, file_bytes, .. } = summary;
        let counts = summary.style_counts;
        Self {
            path: path.display().to_string(),
            id: Id(u128::from_le_bytes(id)),
            root: Id(root.0),
            name: meta.name.clone(),
            style: style.to_string(),
            created_unix_ns: Moment(clock_unix_ns),
            data_max_bytes: meta.data_max_bytes,
            page_size_bytes: meta.page_size_bytes,
            seed: meta.seed,
            window_bytes,
            file_bytes,
            used_bytes: summary.used_bytes,
            stored_bytes: summary.stored_bytes,
            partition_count: summary.partition_count,
            chunk_count: summary.chunk_count,
            chunk_styles: ChunkStyles {
                zero: counts.zero,
                raw: counts.raw,
                lz4: counts.lz4,
                zstd: counts.zstd,
            },
            info: meta.info.clone(),
            partitions: partitions.then(|| checkpoint.partitions().iter().map(partition).collect()),
            chunks: chunks.then(|| checkpoint.chunks().map(Chunk::from).collect()),
        }
    }
}

fn partition(partition: &outlast_checkpt::Partition) -> Partition {
    Partition { gaddr: partition.gaddr, size: partition.size_bytes, tag: partition.tag }
}

impl From<ChunkInfo> for Chunk {
    fn from(info: ChunkInfo) -> Self {
        Self {
            window: info.window,
            gaddr: info.gaddr.start,
            gaddr_end: info.gaddr.end,
            content_bytes: info.content_bytes,
            stored_bytes: info.stored_bytes,
            style: info.style.to_string(),
            file_offset: info.file_offset,
            digest: info.digest.to_string(),
            stored_crc: format!("{:08x}", info.stored_crc),
        }
    }
}

impl Show for Contents {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        fact(out, "path", &self.path)?;
        fact(out, "id", self.id)?;
        fact(out, "root", self.root)?;
        fact(out, "workspace", if self.name.is_empty() { "without a name" } else { &self.name })?;
        fact(out, "created", self.created_unix_ns)?;
        fact(out, "data region", format_args!("{}, seed {}", Bytes(self.data_max_bytes), self.seed))?;
        fact(out, "file", format_args!("{}, style {}", Bytes(self.file_bytes), self.style))?;
        let (count, used) = (Count(self.partition_count, "allocation"), Bytes(self.used_bytes));
        fact(out, "holds", format_args!("{count}, {used}"))?;
        let (count, window) = (Count(self.chunk_count, "chunk"), Human(self.window_bytes));
        fact(out, "stored", format_args!("{count} of up to {window}, {}", Bytes(self.stored_bytes)))?;
        let ChunkStyles { zero, raw, lz4, zstd } = self.chunk_styles;
        fact(out, "chunks", format_args!("{zero} zero, {raw} raw, {lz4} lz4, {zstd} zstd"))?;
        if !self.info.is_empty() {
            fact(out, "info", Value::Object(self.info.clone()))?;
        }
        if let Some(partitions) = &self.partitions {
            writeln!(out)?;
            partition_table(out, partitions)?;
        }
        if let Some(chunks) = &self.chunks {
            writeln!(out)?;
            chunk_table(out, chunks)?;
        }
        Ok(())
    }
}

fn chunk_table(out: &mut dyn Write, chunks: &[Chunk]) -> io::Result<()> {
    let cells = |chunk: &Chunk| {
        let numbers = [chunk.window, chunk.gaddr, chunk.gaddr_end, chunk.content_bytes, chunk.stored_bytes];
        let [window, gaddr, end, content, stored] = numbers.map(|number| number.to_string());
        [
            window,
            gaddr,
            end,
            content,
            stored,
            chunk.style.clone(),
            chunk.file_offset.to_string(),
            chunk.digest.clone(),
        ]
    };
    let rows: Vec<[String; 8]> = chunks.iter().map(cells).collect();
    let titles = [
        ("window", Align::Right),
        ("gaddr", Align::Right),
        ("to", Align::Right),
        ("content", Align::Right),
        ("stored", Align::Right),
        ("style", Align::Left),
        ("offset", Align::Right),
        ("digest", Align::Left),
    ];
    table(out, titles, &rows)
}

/// The answer of `verify`.
#[derive(Debug, Serialize)]
struct Verified {
    path: String,
    sound: bool,
    /// Whether the tables were sound enough to look at the chunks.
    chunks_read: bool,
    chunk_count: u64,
    file_bytes: u64,
    faults: Vec<FileFault>,
}

#[derive(Debug, Serialize)]
struct FileFault {
    what: String,
    file_offset: u64,
    gaddr: Option<u64>,
    gaddr_end: Option<u64>,
    expected: String,
    found: String,
    #[serde(skip)]
    text: String,
}

impl Verified {
    fn of(path: &Path, report: &VerifyReport) -> Self {
        Self {
            path: path.display().to_string(),
            sound: report.faults.is_empty(),
            chunks_read: true,
            chunk_count: report.chunk_count,
            file_bytes: report.file_bytes,
            faults: report.faults.iter().map(FileFault::of).collect(),
        }
    }

    /// The tables are damaged at `fault`, so nothing behind it could be looked at.
    fn tables_only(path: &Path, fault: &Fault) -> Self {
        let faults = vec![FileFault::of(fault)];
        let file_bytes = path.metadata().map_or(0, |metadata| metadata.len());
        Self {
            path: path.display().to_string(),
            sound: false,
            chunks_read: false,
            chunk_count: 0,
            file_bytes,
            faults,
        }
    }
}

impl FileFault {
    fn of(fault: &Fault) -> Self {
        Self {
            what: fault.what.to_string(),
            file_offset: fault.file_offset,
            gaddr: fault.gaddr.as_ref().map(|gaddr| gaddr.start),
            gaddr_end: fault.gaddr.as_ref().map(|gaddr| gaddr.end),
            expected: format!("{:#x}", fault.expected),
            found: format!("{:#x}", fault.found),
            text: fault.to_string(),
        }
    }
}

impl Show for Verified {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { path, chunk_count, file_bytes, .. } = self;
        if self.sound {
            let chunks = Count(*chunk_count, "chunk");
            return writeln!(out, "{path} is sound: {chunks}, {file_bytes} bytes checked");
        }
        self.faults.iter().try_for_each(|fault| writeln!(out, "{}", fault.text))?;
        if self.chunks_read {
            return Ok(());
        }
        writeln!(out, "its tables are damaged, so its chunks were not looked at")
    }
}

//! The writer: plan, front, chunks in parallel, index, footer.

use std::fs::File;
use std::time::{SystemTime, UNIX_EPOCH};

use outlast_probe::probe;
use rand::TryRng;
use rand::rngs::SysRng;

use crate::assembly::Assembly;
use crate::bounds::{Footer, encode_preamble};
use crate::digest::{Digest, DigestStream};
use crate::error::{SourceError, Target, WriteError};
use crate::header::{self, Meta, Shape};
use crate::index::Chunk;
use crate::layout::{
    INDEX_ENTRIES_MAX, PTAB_ENTRIES_MAX, WINDOW_BYTES_MAX, WINDOW_BYTES_MIN, footer, index, kind, partition,
    record,
};
use crate::options::WriteOptions;
use crate::output::Output;
use crate::partition::{Partition, Window, Windows, check};
use crate::pool::{Crew, run, thread_count};
use crate::record::push;
use crate::sequencer::Sequencer;
use crate::summary::Summary;

/// Where the bytes of partitions come from.
///
/// The writer reads every byte of every partition once, in ascending order within a window, from several
/// threads at once. `into` is private memory of the writer.
pub trait Source: Sync {
    /// Fills `into` with the bytes from `gaddr` on; the range lies within one partition.
    ///
    /// # Errors
    /// Whatever keeps the bytes from being read; the checkpoint is then not written.
    fn read(&self, gaddr: u64, into: &mut [u8]) -> Result<(), SourceError>;
}

/// Writes a checkpoint into `file` from offset 0 and cuts the file off behind it. Neither publishes nor
/// syncs anything: [`write_file`](crate::write_file) does.
///
/// `partitions` are ascending and disjoint. Blocks for as long as reading, compressing and writing take;
/// needs about four windows of memory per thread and 24 bytes per partition.
///
/// # Errors
/// See [`WriteError`]; the file's content is then undefined.
///
/// # Panics
/// Only if `source` or the progress callback does.
pub fn write_to(
    file: &File,
    meta: &Meta,
    partitions: &[Partition],
    source: &dyn Source,
    options: &WriteOptions,
) -> Result<Summary, WriteError> {
    let plan = Plan::new(meta, partitions, options)?;
    plan.write(file, Target::OpenFile, source)
}

/// A request that was checked, and all bytes that are known before the first chunk.
pub(crate) struct Plan<'a> {
    partitions: &'a [Partition],
    options: &'a WriteOptions,
    id: [u8; 16],
    shape: Shape,
    windows: Vec<Window>,
    used_bytes: u64,
    /// Preamble, HEADER, INFO and PTAB.
    front: Vec<u8>,
    ptab_offset: u64,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(
        meta: &Meta,
        partitions: &'a [Partition],
        options: &'a WriteOptions,
    ) -> Result<Self, WriteError> {
        meta.check()?;
        check(partitions, meta.data_max_bytes)?;
        let window_bytes = options.window_bytes;
        if !header::is_window(window_bytes) {
            let (min_bytes, max_bytes) = (WINDOW_BYTES_MIN, WINDOW_BYTES_MAX);
            return Err(WriteError::WindowSize { window_bytes, min_bytes, max_bytes });
        }
        let id = options.id.map_or_else(fresh_id, Ok)?;
        let clock_unix_ns = options.clock_unix_ns.unwrap_or_else(now_unix_ns);
        let shape = Shape { window_bytes, clock_unix_ns, style: options.style };
        let mut front = encode_preamble(&id).to_vec();
        push(&mut front, kind::HEADER, 0, 0, &header::encode(meta, &shape));
        push(&mut front, kind::INFO, 0, 0, &meta.encode_info()?);
        let ptab_offset = front.len() as u64;
        push_partitions(&mut front, partitions);
        let windows: Vec<Window> = Windows::new(partitions, window_bytes).collect();
        let used_bytes = partitions.iter().map(|partition| partition.size_bytes).sum();
        Ok(Self { partitions, options, id, shape, windows, used_bytes, front, ptab_offset })
    }

    /// Upper bound of the file's size: every chunk raw.
    fn needed_bytes(&self) -> u64 {
        let window_count = self.windows.len();
        let per_window = window_count * (record::SIZE + index::SIZE);
        let index_records = window_count.div_ceil(INDEX_ENTRIES_MAX) * record::SIZE;
        (self.front.len() + per_window + index_records + footer::SIZE) as u64 + self.used_bytes
    }

    /// Writes everything into `file`.
    pub(crate) fn write(
        &self,
        file: &File,
        target: Target,
        source: &dyn Source,
    ) -> Result<Summary, WriteError> {
        let output = Output::new(file, target, self.needed_bytes());
        output.write_at(&self.front, 0)?;
        let (chunks, index_offset) = self.write_chunks(&output, source)?;
        let mut tail = Vec::new();
        push_index(&mut tail, &chunks);
        let mut root = DigestStream::new();
        root.write(&self.front);
        root.write(&tail);
        let stored_bytes = chunks.iter().map(|chunk| u64::from(chunk.stored_bytes)).sum();
        let footer = self.footer(&chunks, index_offset, tail.len(), stored_bytes, root.finish());
        tail.extend_from_slice(&footer.encode());
        output.write_at(&tail, index_offset)?;
        output.cut(footer.file_bytes)?;
        Ok(Summary::new(&footer, &self.shape, &chunks))
    }

    fn footer(
        &self,
        chunks: &[Chunk],
        index_offset: u64,
        index_bytes: usize,
        stored_bytes: u64,
        root: Digest,
    ) -> Footer {
        Footer {
            id: self.id,
            ptab_offset: self.ptab_offset,
            chunk_offset: self.front.len() as u64,
            index_offset,
            file_bytes: index_offset + (index_bytes + footer::SIZE) as u64,
            partition_count: self.partitions.len() as u64,
            chunk_count: chunks.len() as u64,
            used_bytes: self.used_bytes,
            stored_bytes,
            root,
        }
    }

    fn write_chunks(
        &self,
        output: &Output<'_>,
        source: &dyn Source,
    ) -> Result<(Vec<Chunk>, u64), WriteError> {
        let threads = thread_count(self.options.threads.get(), self.windows.len());
        let (progress, cancel) = (self.options.progress.as_ref(), self.options.cancel.as_ref());
        let crew = Crew::new(self.windows.len(), self.used_bytes, progress, cancel);
        let payload_max = self.windows.iter().map(|window| window.raw_bytes).max().unwrap_or(0) as usize;
        let assembly = Assembly {
            partitions: self.partitions,
            window_bytes: self.shape.window_bytes,
            style: self.options.style,
            zstd_level: self.options.zstd_level,
            payload_max,
            source,
        };
        let frame_count = 3 * threads;
        let room = assembly.frame_bytes().map_err(|error| output.refusal("set up compression", error))?;
        let sequencer = Sequencer::new(self.front.len() as u64, self.windows.len(), frame_count, room);
        run(threads, &|| self.work(output, &assembly, &sequencer, &crew))
            .map_err(|error| output.refusal("start threads", error))?;
        crew.finish(|done_bytes, total_bytes| WriteError::Cancelled { done_bytes, total_bytes })?;
        Ok(sequencer.finish())
    }

    /// One worker: take a frame, claim a window, fill, place, write what is ready.
    fn work(
        &self,
        output: &Output<'_>,
        assembly: &Assembly<'_>,
        sequencer: &Sequencer,
        crew: &Crew<'_, WriteError>,
    ) {
        // However this worker ends, by panic of the source too, the others must not wait for its window.
        let _close = CloseOnDrop(sequencer);
        let mut bench = match assembly.bench() {
            Ok(bench) => bench,
            Err(error) => return crew.fail(0, output.refusal("set up compression", error)),
        };
        let mut ready = Vec::new();
        while let Some(mut frame) = sequencer.frame() {
            let Some(index) = crew.claim() else { return sequencer.free(frame) };
            let window = &self.windows[index];
            probe!("checkpt.write.chunk", window.number);
            match assembly.fill(window, &mut frame, &mut bench) {
                Ok(chunk) => sequencer.place(index, chunk, frame, &mut ready),
                Err(error) => return crew.fail(index, error.into_write_error(output)),
            }
            for (chunk, mut frame) in ready.drain(..) {
                if let Err(error) = output.write_at(frame.record(&chunk), chunk.file_offset) {
                    return crew.fail(index, error);
                }
                sequencer.free(frame);
                crew.advance(chunk.window.raw_bytes.into());
            }
        }
    }
}

/// Lets no worker wait for a frame once one has left: it left because no window is unclaimed, or because of
/// a failure or panic.
struct CloseOnDrop<'a>(&'a Sequencer);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn push_partitions(out: &mut Vec<u8>, partitions: &[Partition]) {
    let mut payload = Vec::new();
    for (number, entries) in partitions.chunks(PTAB_ENTRIES_MAX).enumerate() {
        payload.clear();
        for entry in entries {
            let mut bytes = [0; partition::SIZE];
            partition::GADDR.put(&mut bytes, entry.gaddr);
            partition::SIZE_BYTES.put(&mut bytes, entry.size_bytes);
            partition::TAG.put(&mut bytes, entry.tag);
            payload.extend_from_slice(&bytes);
        }
        push(out, kind::PTAB, number as u64, entries[0].gaddr, &payload);
    }
}

fn push_index(out: &mut Vec<u8>, chunks: &[Chunk]) {
    let mut payload = Vec::new();
    for (number, entries) in chunks.chunks(INDEX_ENTRIES_MAX).enumerate() {
        payload.clear();
        entries.iter().for_each(|chunk| payload.extend_from_slice(&chunk.encode()));
        push(out, kind::INDEX, number as u64, entries[0].window.gaddr, &payload);
    }
}

/// A random UUID, version 4 of RFC 9562.
fn fresh_id() -> Result<[u8; 16], WriteError> {
    let mut id = [0; 16];
    SysRng.try_fill_bytes(&mut id).map_err(|error| WriteError::Io {
        step: "draw an identity",
        target: Target::OpenFile,
        source: std::io::Error::other(error),
    })?;
    id[6] = id[6] & 0x0F | 0x40;
    id[8] = id[8] & 0x3F | 0x80;
    Ok(id)
}

/// 0 before 1970, the largest number after 2554.
fn now_unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

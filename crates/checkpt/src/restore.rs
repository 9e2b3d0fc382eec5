//! Reading chunks: [`Checkpoint::restore`] hands them to a sink, [`Checkpoint::verify`] lists what is wrong.
//!
//! **Invariants**
//! - No byte reaches a sink before its whole window was decoded and its digest found right.

use std::os::unix::fs::FileExt;
use std::sync::Mutex;

use rustix::io::Errno;

use crate::codec::Decoder;
use crate::digest::{Digest, crc};
use crate::error::{Fault, ReadError, SinkError, What};
use crate::index::Chunk;
use crate::layout::record;
use crate::options::RestoreOptions;
use crate::partition::pieces;
use crate::pool::{Crew, lock, run, thread_count};
use crate::read::{Checkpoint, Content};
use crate::style::ChunkStyle;

/// Where restored bytes go.
///
/// Every byte of every partition is handed over once, in ascending order within a window, from several
/// threads at once, in ranges that lie within one partition and one window. `from` is private memory of the
/// reader and was checked.
pub trait Sink: Sync {
    /// Takes the bytes that belong at `gaddr`.
    ///
    /// # Errors
    /// Whatever keeps the bytes from being taken; the restore then stops.
    fn write(&self, gaddr: u64, from: &[u8]) -> Result<(), SinkError>;
}

/// What [`Checkpoint::verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Everything that is wrong, ascending by file offset; empty if nothing is.
    pub faults: Vec<Fault>,
    /// Chunks that were read.
    pub chunk_count: u64,
    /// Bytes of the file that were read: all of them.
    pub file_bytes: u64,
}

impl Checkpoint {
    /// Reads every byte of the file and lists all faults: the structure again, and of each chunk its header,
    /// the CRC of its stored bytes, its decoded size and the digest of its content.
    ///
    /// Blocks; needs two windows of memory per thread.
    ///
    /// # Errors
    /// `Cancelled`, or `Io` if no threads can be started. A range that the system cannot read is a fault.
    ///
    /// # Panics
    /// Only if the progress callback does.
    pub fn verify(&self, options: &RestoreOptions) -> Result<VerifyReport, ReadError> {
        let faults = Mutex::new(Vec::new());
        match Content::read(&self.file) {
            Ok(content) if content == self.content => {}
            Ok(content) => {
                let (expected, found) = (self.content.footer.root, content.footer.root);
                lock(&faults).push(Fault::new(What::Root, 0, expected.0, found.0));
            }
            Err(ReadError::Corrupt(fault)) => lock(&faults).push(fault),
            Err(error) => return Err(error),
        }
        self.for_each_chunk(options, &|chunk, bench| {
            bench.inspect(&self.file, chunk, &mut |fault| lock(&faults).push(fault));
            Ok(())
        })?;
        let mut faults = faults.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        faults.sort_by_key(|fault| fault.file_offset);
        let (chunk_count, file_bytes) = (self.content.footer.chunk_count, self.content.footer.file_bytes);
        Ok(VerifyReport { faults, chunk_count, file_bytes })
    }

    /// Hands every byte of every partition to `sink`, in parallel by window.
    ///
    /// A window is read, decoded and checked whole before its first byte is handed over. On an error other
    /// windows may have been handed over already: a caller who must not lose its old state restores into a
    /// fresh place, or verifies first.
    ///
    /// Blocks; needs two windows of memory per thread.
    ///
    /// # Errors
    /// See [`ReadError`]; of several the one of the lowest window.
    ///
    /// # Panics
    /// Only if `sink` or the progress callback does.
    pub fn restore(&self, sink: &dyn Sink, options: &RestoreOptions) -> Result<(), ReadError> {
        let content = &self.content;
        self.for_each_chunk(options, &|chunk, bench| {
            let mut rest = bench.load(&self.file, chunk)?;
            for piece in pieces(&content.partitions, &chunk.window, content.shape.window_bytes) {
                let size_bytes = piece.end - piece.start;
                let (head, tail) = rest.split_at(size_bytes as usize);
                let refused = |source| ReadError::Sink { gaddr: piece.start, size_bytes, source };
                sink.write(piece.start, head).map_err(refused)?;
                rest = tail;
            }
            Ok(())
        })
    }

    /// Runs `work` for every chunk on the threads asked for.
    fn for_each_chunk(
        &self,
        options: &RestoreOptions,
        work: &(dyn Fn(&Chunk, &mut Bench) -> Result<(), ReadError> + Sync),
    ) -> Result<(), ReadError> {
        let chunks = &self.content.chunks;
        let (progress, cancel) = (options.progress.as_ref(), options.cancel.as_ref());
        let crew = Crew::new(chunks.len(), self.content.footer.used_bytes, progress, cancel);
        let threads = thread_count(options.threads.get(), chunks.len());
        run(threads, &|| {
            let mut bench = Bench::for_chunks(chunks);
            while let Some(index) = crew.claim() {
                match work(&chunks[index], &mut bench) {
                    Ok(()) => crew.advance(chunks[index].window.raw_bytes.into()),
                    Err(error) => crew.fail(index, error),
                }
            }
        })
        .map_err(|source| ReadError::Io { step: "start threads", file_offset: 0, source })?;
        crew.finish(|done_bytes, total_bytes| ReadError::Cancelled { done_bytes, total_bytes })
    }
}

/// What one worker keeps from chunk to chunk.
struct Bench {
    decoder: Decoder,
    /// Record as stored.
    stored: Vec<u8>,
    /// Content, unless it is stored raw.
    content: Vec<u8>,
}

impl Bench {
    /// Room for the largest of `chunks`; the index was checked, so that is at most a window.
    fn for_chunks(chunks: &[Chunk]) -> Self {
        let stored = chunks.iter().map(Chunk::record_bytes).max().unwrap_or(0) as usize;
        let packed = chunks.iter().filter(|chunk| chunk.style != ChunkStyle::Raw);
        let content = packed.map(|chunk| chunk.window.raw_bytes).max().unwrap_or(0) as usize;
        Self { decoder: Decoder::default(), stored: vec![0; stored], content: vec![0; content] }
    }

    /// Reads and checks a chunk; its content. A raw chunk's bytes are its content, so the digest alone
    /// proves them; a compressed chunk may decode right from wrong bytes, which its CRC finds.
    fn load(&mut self, file: &std::fs::File, chunk: &Chunk) -> Result<&[u8], ReadError> {
        let record = &mut self.stored[..chunk.record_bytes() as usize];
        crate::section::read_at(file, record, chunk.file_offset)?;
        let (head, stored) = record.split_at(record::SIZE);
        check_header(chunk, head)?;
        if chunk.style != ChunkStyle::Raw {
            check_stored(chunk, stored)?;
        }
        let content = content(&mut self.decoder, chunk, stored, &mut self.content)?;
        check_digest(chunk, content)?;
        Ok(content)
    }

    /// Reads a chunk and reports everything that is wrong with it.
    fn inspect(&mut self, file: &std::fs::File, chunk: &Chunk, report: &mut dyn FnMut(Fault)) {
        let record = &mut self.stored[..chunk.record_bytes() as usize];
        if let Err(error) = file.read_exact_at(record, chunk.file_offset) {
            let errno = Errno::from_io_error(&error).map_or(0, Errno::raw_os_error) as u32;
            return report(
                Fault::new(What::Unreadable, chunk.file_offset, 0u8, errno).at_gaddr(chunk.gaddr()),
            );
        }
        let (head, stored) = record.split_at(record::SIZE);
        if let Err(fault) = check_header(chunk, head) {
            report(fault);
        }
        let checked = check_stored(chunk, stored)
            .and_then(|()| content(&mut self.decoder, chunk, stored, &mut self.content))
            .and_then(|content| check_digest(chunk, content));
        if let Err(fault) = checked {
            report(fault);
        }
    }
}

/// The record's header is byte for byte what the index says.
fn check_header(chunk: &Chunk, found: &[u8]) -> Result<(), Fault> {
    let expected = chunk.encode_header();
    if expected == *found {
        return Ok(());
    }
    let at = expected.iter().zip(found).position(|(a, b)| a != b).unwrap_or(0) / 8 * 8;
    let word =
        |bytes: &[u8]| bytes[at..at + 8].iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
    let fault = Fault::new(What::ChunkHeader, chunk.file_offset + at as u64, word(&expected), word(found));
    Err(fault.at_gaddr(chunk.gaddr()))
}

fn check_stored(chunk: &Chunk, stored: &[u8]) -> Result<(), Fault> {
    let found = crc(stored);
    if found == chunk.stored_crc {
        return Ok(());
    }
    let at = chunk.file_offset + record::SIZE as u64;
    Err(Fault::new(What::StoredChecksum, at, chunk.stored_crc, found).at_gaddr(chunk.gaddr()))
}

/// The content of a chunk, in `stored` itself or decoded into `room`.
fn content<'a>(
    decoder: &mut Decoder,
    chunk: &Chunk,
    stored: &'a [u8],
    room: &'a mut [u8],
) -> Result<&'a [u8], Fault> {
    if chunk.style == ChunkStyle::Raw {
        return Ok(stored);
    }
    let expected = chunk.window.raw_bytes;
    let room = &mut room[..expected as usize];
    if chunk.style == ChunkStyle::Zero {
        room.fill(0);
        return Ok(room);
    }
    let at = chunk.file_offset + record::SIZE as u64;
    let fault = match decoder.decode(chunk.style, stored, room) {
        Some(found) if found == room.len() => return Ok(room),
        Some(found) => Fault::new(What::DecodedSize, at, expected, found as u64),
        None => Fault::new(What::Codec, at, expected, 0u8),
    };
    Err(fault.at_gaddr(chunk.gaddr()))
}

fn check_digest(chunk: &Chunk, content: &[u8]) -> Result<(), Fault> {
    let found = Digest::of(content);
    if found == chunk.digest {
        return Ok(());
    }
    let at = chunk.file_offset + record::SIZE as u64;
    Err(Fault::new(What::ContentDigest, at, chunk.digest.0, found.0).at_gaddr(chunk.gaddr()))
}

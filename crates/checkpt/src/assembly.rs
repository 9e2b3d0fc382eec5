//! Turns one window into a chunk: gathers its used bytes, hashes and compresses them.

use std::io;
use std::mem::swap;

use crate::codec::Encoder;
use crate::digest::{Digest, DigestStream, crc, is_zero};
use crate::error::{SourceError, WriteError};
use crate::index::Chunk;
use crate::output::Output;
use crate::partition::{Partition, Window, pieces};
use crate::sequencer::Frame;
use crate::style::{ChunkStyle, Style};
use crate::write::Source;

/// Bytes that are hashed right after they were read, while they are in the first-level cache.
const BLOCK_BYTES: usize = 8 << 10;

/// What all workers need to fill frames.
pub(crate) struct Assembly<'a> {
    pub(crate) partitions: &'a [Partition],
    pub(crate) window_bytes: u64,
    pub(crate) style: Style,
    pub(crate) zstd_level: i32,
    /// Content of the largest window.
    pub(crate) payload_max: usize,
    pub(crate) source: &'a dyn Source,
}

/// What one worker keeps from window to window.
pub(crate) struct Bench {
    encoder: Encoder,
    /// Content that is to be compressed into another frame; unused if nothing is.
    content: Frame,
}

/// Why a window could not be filled.
pub(crate) enum FillError {
    Source { gaddr: u64, size_bytes: u64, source: SourceError },
    Codec(io::Error),
}

impl FillError {
    pub(crate) fn into_write_error(self, output: &Output<'_>) -> WriteError {
        match self {
            FillError::Source { gaddr, size_bytes, source } => {
                WriteError::Source { gaddr, size_bytes, source }
            }
            FillError::Codec(error) => output.refusal("compress", error),
        }
    }
}

/// What is known of content once it was gathered.
struct Gathered {
    digest: Digest,
    is_zero: bool,
    /// CRC of the content, if it was asked for.
    crc: u32,
}

impl Gathered {
    /// The chunk with that content; zeros are stored as nothing.
    fn chunk(&self, window: &Window, style: ChunkStyle, stored_bytes: usize, stored_crc: u32) -> Chunk {
        let (style, stored_bytes, stored_crc) = match self.is_zero {
            true => (ChunkStyle::Zero, 0, crc(&[])),
            false => (style, stored_bytes as u32, stored_crc),
        };
        Chunk { window: *window, file_offset: 0, stored_bytes, style, stored_crc, digest: self.digest }
    }
}

impl Assembly<'_> {
    /// Payload room that a frame must have.
    pub(crate) fn frame_bytes(&self) -> io::Result<usize> {
        Ok(Encoder::new(self.style, self.zstd_level)?.bound(self.payload_max).max(self.payload_max))
    }

    pub(crate) fn bench(&self) -> io::Result<Bench> {
        let room = match self.style {
            Style::Raw => 0,
            _ => self.frame_bytes()?,
        };
        Ok(Bench { encoder: Encoder::new(self.style, self.zstd_level)?, content: Frame::new(room) })
    }

    /// Fills `frame` with the payload of `window`. The chunk's file offset is still unknown.
    pub(crate) fn fill(
        &self,
        window: &Window,
        frame: &mut Frame,
        bench: &mut Bench,
    ) -> Result<Chunk, FillError> {
        let raw_bytes = window.raw_bytes as usize;
        if matches!(bench.encoder, Encoder::Raw) {
            let gathered = self.gather(window, &mut frame.payload()[..raw_bytes], true)?;
            return Ok(gathered.chunk(window, ChunkStyle::Raw, raw_bytes, gathered.crc));
        }
        let content = &mut bench.content.payload()[..raw_bytes];
        let gathered = self.gather(window, content, false)?;
        if gathered.is_zero {
            return Ok(gathered.chunk(window, ChunkStyle::Zero, 0, 0));
        }
        if let Some((style, size)) =
            bench.encoder.encode(content, frame.payload()).map_err(FillError::Codec)?
        {
            return Ok(gathered.chunk(window, style, size, crc(&frame.payload()[..size])));
        }
        let stored_crc = crc(content);
        swap(frame, &mut bench.content);
        Ok(gathered.chunk(window, ChunkStyle::Raw, raw_bytes, stored_crc))
    }

    /// Reads the used bytes of `window`, at most [`BLOCK_BYTES`] at a time, and hashes each block while it is
    /// hot.
    fn gather(&self, window: &Window, into: &mut [u8], with_crc: bool) -> Result<Gathered, FillError> {
        let mut pass = Pass::new(with_crc);
        let (mut at, mut hashed) = (0, 0);
        for piece in pieces(self.partitions, window, self.window_bytes) {
            let mut gaddr = piece.start;
            while gaddr < piece.end {
                let room = hashed + BLOCK_BYTES - at;
                let size_bytes = (piece.end - gaddr).min(room as u64);
                let part = &mut into[at..at + size_bytes as usize];
                let failed = |source| FillError::Source { gaddr, size_bytes, source };
                self.source.read(gaddr, part).map_err(failed)?;
                gaddr += size_bytes;
                at += size_bytes as usize;
                if at == hashed + BLOCK_BYTES {
                    pass.write(&into[hashed..at]);
                    hashed = at;
                }
            }
        }
        pass.write(&into[hashed..at]);
        Ok(pass.finish())
    }
}

/// Everything that is computed over content as it comes in.
struct Pass {
    digest: DigestStream,
    crc: Option<crc32fast::Hasher>,
    is_zero: bool,
}

impl Pass {
    fn new(with_crc: bool) -> Self {
        Self { digest: DigestStream::new(), crc: with_crc.then(crc32fast::Hasher::new), is_zero: true }
    }

    fn write(&mut self, block: &[u8]) {
        self.digest.write(block);
        if let Some(crc) = &mut self.crc {
            crc.update(block);
        }
        self.is_zero = self.is_zero && is_zero(block);
    }

    fn finish(self) -> Gathered {
        let crc = self.crc.map_or(0, crc32fast::Hasher::finalize);
        Gathered { digest: self.digest.finish(), is_zero: self.is_zero, crc }
    }
}

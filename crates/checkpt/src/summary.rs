//! Sizes and counts of a checkpoint, the same for the writer and the reader.

use crate::bounds::Footer;
use crate::digest::Digest;
use crate::header::Shape;
use crate::index::Chunk;
use crate::style::{ChunkStyle, Style};

/// Sizes and counts of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Its identity.
    pub id: [u8; 16],
    /// Digest over everything but the chunks, which it covers through their digests: equal roots mean equal
    /// checkpoints.
    pub root: Digest,
    /// What the writer was asked for.
    pub style: Style,
    /// When it was begun, nanoseconds since 1970 in UTC.
    pub clock_unix_ns: u64,
    /// Window size.
    pub window_bytes: u64,
    /// Size of the file.
    pub file_bytes: u64,
    /// Number of partitions.
    pub partition_count: u64,
    /// Number of chunks, which is the number of windows with used bytes.
    pub chunk_count: u64,
    /// Bytes of all partitions.
    pub used_bytes: u64,
    /// What they were stored in, headers and tables not counted.
    pub stored_bytes: u64,
    /// Chunks by style.
    pub style_counts: StyleCounts,
}

/// Number of chunks of each style.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StyleCounts {
    /// [`ChunkStyle::Zero`].
    pub zero: u64,
    /// [`ChunkStyle::Raw`].
    pub raw: u64,
    /// [`ChunkStyle::Lz4`].
    pub lz4: u64,
    /// [`ChunkStyle::Zstd`].
    pub zstd: u64,
}

impl Summary {
    pub(crate) fn new(footer: &Footer, shape: &Shape, chunks: &[Chunk]) -> Self {
        let mut style_counts = StyleCounts::default();
        for chunk in chunks {
            match chunk.style {
                ChunkStyle::Zero => style_counts.zero += 1,
                ChunkStyle::Raw => style_counts.raw += 1,
                ChunkStyle::Lz4 => style_counts.lz4 += 1,
                ChunkStyle::Zstd => style_counts.zstd += 1,
            }
        }
        Self {
            id: footer.id,
            root: footer.root,
            style: shape.style,
            clock_unix_ns: shape.clock_unix_ns,
            window_bytes: shape.window_bytes,
            file_bytes: footer.file_bytes,
            partition_count: footer.partition_count,
            chunk_count: footer.chunk_count,
            used_bytes: footer.used_bytes,
            stored_bytes: footer.stored_bytes,
            style_counts,
        }
    }

    /// Used bytes divided by the size of the file; 0 for an empty checkpoint.
    pub fn ratio(&self) -> f64 {
        self.used_bytes as f64 / self.file_bytes as f64
    }
}

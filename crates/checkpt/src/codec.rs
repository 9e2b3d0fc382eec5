//! Compression of one window's content, with contexts that live as long as their worker.
//!
//! **Invariants**
//! - A stored payload of style LZ4 or zstd is smaller than its content.
//! - Decoding yields exactly the announced size or fails; it never grows a buffer.

use std::io;

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use zstd::bulk::{Compressor, Decompressor};

use crate::style::{ChunkStyle, Style};

/// `auto` keeps a chunk raw unless LZ4 saves at least this share of it.
const AUTO_SAVING_MIN_PERCENT: usize = 3;

/// One worker's compressor.
pub(crate) enum Encoder {
    Raw,
    Lz4 { table: Box<CompressTable>, saving_min_percent: usize },
    Zstd(Compressor<'static>),
}

impl Encoder {
    pub(crate) fn new(style: Style, zstd_level: i32) -> io::Result<Self> {
        let lz4 =
            |saving_min_percent| Encoder::Lz4 { table: Box::new(CompressTable::large()), saving_min_percent };
        Ok(match style {
            Style::Raw => Encoder::Raw,
            Style::Lz4 => lz4(0),
            Style::Auto => lz4(AUTO_SAVING_MIN_PERCENT),
            Style::Zstd => Encoder::Zstd(Compressor::new(zstd_level)?),
        })
    }

    /// Room that [`encode`](Self::encode) needs for `raw_bytes` of content.
    pub(crate) fn bound(&self, raw_bytes: usize) -> usize {
        match self {
            Encoder::Raw => raw_bytes,
            Encoder::Lz4 { .. } => get_maximum_output_size(raw_bytes),
            Encoder::Zstd(_) => zstd::zstd_safe::compress_bound(raw_bytes),
        }
    }

    /// Compresses into `out`; `None` if the content is better stored raw.
    pub(crate) fn encode(
        &mut self,
        content: &[u8],
        out: &mut [u8],
    ) -> io::Result<Option<(ChunkStyle, usize)>> {
        Ok(match self {
            Encoder::Raw => None,
            Encoder::Lz4 { table, saving_min_percent } => {
                let stored = compress_into_with_table(content, out, table).map_err(io::Error::other)?;
                let most = content.len() - content.len() * *saving_min_percent / 100;
                (stored < content.len() && stored <= most).then_some((ChunkStyle::Lz4, stored))
            }
            Encoder::Zstd(compressor) => {
                let stored = compressor.compress_to_buffer(content, out)?;
                (stored < content.len()).then_some((ChunkStyle::Zstd, stored))
            }
        })
    }
}

/// One worker's decompressor.
#[derive(Default)]
pub(crate) struct Decoder {
    zstd: Option<Decompressor<'static>>,
}

impl Decoder {
    /// Decompresses into `out`; the size decoded, `None` if the payload is not one of that style or does
    /// not fit. Only for the two compressed styles.
    pub(crate) fn decode(&mut self, style: ChunkStyle, stored: &[u8], out: &mut [u8]) -> Option<usize> {
        match style {
            ChunkStyle::Lz4 => decompress_into(stored, out).ok(),
            ChunkStyle::Zstd => {
                if self.zstd.is_none() {
                    self.zstd = Decompressor::new().ok();
                }
                self.zstd.as_mut()?.decompress_to_buffer(stored, out).ok()
            }
            ChunkStyle::Zero | ChunkStyle::Raw => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(size: usize) -> Vec<u8> {
        (0..size).map(|i| b"all work and no play "[i % 21] ^ (i / 4096) as u8).collect()
    }

    #[test]
    fn compressed_content_comes_back_and_only_into_the_right_size() {
        for (style, chunk_style) in [(Style::Lz4, ChunkStyle::Lz4), (Style::Zstd, ChunkStyle::Zstd)] {
            let mut encoder = Encoder::new(style, 1).unwrap();
            let mut decoder = Decoder::default();
            for size in [100, 65_536, 262_144] {
                let content = text(size);
                let mut out = vec![0; encoder.bound(size)];
                let (found, stored) = encoder.encode(&content, &mut out).unwrap().unwrap();
                assert_eq!(found, chunk_style);
                let mut back = vec![0; size];
                assert_eq!(decoder.decode(chunk_style, &out[..stored], &mut back), Some(size));
                assert_eq!(back, content);
                assert_eq!(decoder.decode(chunk_style, &out[..stored], &mut back[..size - 1]), None);
                assert_ne!(decoder.decode(chunk_style, &out[..stored - 1], &mut back), Some(size));
            }
        }
    }

    #[test]
    fn what_does_not_shrink_stays_raw() {
        let noise: Vec<u8> = (0u32..5000).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for style in Style::ALL {
            let mut encoder = Encoder::new(style, 1).unwrap();
            for size in [0, 1, 13] {
                let mut out = vec![0; encoder.bound(size)];
                assert_eq!(encoder.encode(&noise[..size], &mut out).unwrap(), None, "{style} {size}");
            }
        }
        // 20000 bytes of noise with 2 % of zeros: LZ4 gains a little, `auto` says it is too little.
        let mut content = noise;
        content[..400].fill(0);
        let encode = |style| {
            let mut encoder = Encoder::new(style, 1).unwrap();
            let mut out = vec![0; encoder.bound(content.len())];
            encoder.encode(&content, &mut out).unwrap()
        };
        assert!(encode(Style::Lz4).is_some());
        assert_eq!(encode(Style::Auto), None);
    }
}

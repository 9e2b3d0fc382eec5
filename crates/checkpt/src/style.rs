//! How bytes are stored: the style asked for a file and the style found of each chunk.

use core::fmt;
use core::str::FromStr;

use thiserror::Error;

/// What a writer is asked for. Whatever it is, a window of zero bytes is stored as [`ChunkStyle::Zero`], and
/// a chunk that would not get smaller is stored raw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Style {
    /// Bytes as they are.
    #[default]
    Raw,
    /// LZ4 blocks.
    Lz4,
    /// zstd frames.
    Zstd,
    /// LZ4 where it saves at least 3 %, raw otherwise.
    Auto,
}

impl Style {
    /// All of them, in the order of their numbers in the file.
    pub const ALL: [Style; 4] = [Style::Raw, Style::Lz4, Style::Zstd, Style::Auto];

    pub(crate) fn number(self) -> u8 {
        match self {
            Style::Raw => 1,
            Style::Lz4 => 2,
            Style::Zstd => 3,
            Style::Auto => 4,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|style| style.number() == number)
    }
}

impl fmt::Display for Style {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Style::Raw => "raw",
            Style::Lz4 => "lz4",
            Style::Zstd => "zstd",
            Style::Auto => "auto",
        })
    }
}

/// The text names no style.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("unknown style: expected raw, lz4, zstd or auto")]
#[non_exhaustive]
pub struct StyleParseError;

impl FromStr for Style {
    type Err = StyleParseError;

    fn from_str(text: &str) -> Result<Self, StyleParseError> {
        match text {
            "raw" => Ok(Style::Raw),
            "lz4" => Ok(Style::Lz4),
            "zstd" => Ok(Style::Zstd),
            "auto" => Ok(Style::Auto),
            _ => Err(StyleParseError),
        }
    }
}

/// How one chunk is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChunkStyle {
    /// Every byte is 0; nothing is stored.
    Zero,
    /// Bytes as they are.
    Raw,
    /// One LZ4 block, smaller than its content.
    Lz4,
    /// One zstd frame, smaller than its content.
    Zstd,
}

impl ChunkStyle {
    /// All of them, in the order of their numbers in the file.
    pub const ALL: [ChunkStyle; 4] = [ChunkStyle::Zero, ChunkStyle::Raw, ChunkStyle::Lz4, ChunkStyle::Zstd];

    pub(crate) fn number(self) -> u8 {
        match self {
            ChunkStyle::Zero => 0,
            ChunkStyle::Raw => 1,
            ChunkStyle::Lz4 => 2,
            ChunkStyle::Zstd => 3,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|style| style.number() == number)
    }

    /// Whether `stored_bytes` is a size that a chunk of `raw_bytes` of content can have in this style.
    pub(crate) fn admits(self, stored_bytes: u32, raw_bytes: u32) -> bool {
        match self {
            ChunkStyle::Zero => stored_bytes == 0,
            ChunkStyle::Raw => stored_bytes == raw_bytes,
            ChunkStyle::Lz4 | ChunkStyle::Zstd => 0 < stored_bytes && stored_bytes < raw_bytes,
        }
    }
}

impl fmt::Display for ChunkStyle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ChunkStyle::Zero => "zero",
            ChunkStyle::Raw => "raw",
            ChunkStyle::Lz4 => "lz4",
            ChunkStyle::Zstd => "zstd",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_go_there_and_back() {
        for style in Style::ALL {
            assert_eq!(style.to_string().parse(), Ok(style));
            assert_eq!(Style::from_number(style.number()), Some(style));
        }
        for style in ChunkStyle::ALL {
            assert_eq!(ChunkStyle::from_number(style.number()), Some(style));
        }
        assert_eq!("RAW".parse::<Style>(), Err(StyleParseError));
        assert_eq!((Style::from_number(0), ChunkStyle::from_number(4)), (None, None));
    }
}

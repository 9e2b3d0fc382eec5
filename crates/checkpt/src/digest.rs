//! The two checks: CRC-32 of bytes as they are stored, and a 128-bit digest of content.

use core::fmt;

use twox_hash::XxHash3_128;
use twox_hash::xxhash3_128::{DEFAULT_SECRET_LENGTH, RawHasher, SecretBuffer};

use crate::layout::DIGEST_XXH3_128;

/// xxh3-128 (seed 0) of some content. It finds accidents, not forgeries.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub u128);

impl Digest {
    pub(crate) const KIND: u8 = DIGEST_XXH3_128;

    /// Digest of `content`; one pass at memory speed.
    pub fn of(content: &[u8]) -> Self {
        Self(XxHash3_128::oneshot(content))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// A digest of content that arrives in pieces; allocates nothing.
pub(crate) struct DigestStream(RawHasher<&'static [u8; DEFAULT_SECRET_LENGTH]>);

impl DigestStream {
    pub(crate) fn new() -> Self {
        Self(RawHasher::new(SecretBuffer::default()))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    pub(crate) fn finish(&self) -> Digest {
        Digest(self.0.finish_128())
    }
}

/// CRC-32 (the zip and gzip polynomial) of `bytes`.
pub(crate) fn crc(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// Whether every byte is 0; stops at the first 256-byte block that has one.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let (blocks, rest) = bytes.as_chunks::<256>();
    blocks.iter().all(|block| block.iter().fold(0, |all, byte| all | byte) == 0)
        && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_and_digest_are_the_published_functions() {
        assert_eq!(crc(b"123456789"), 0xCBF4_3926, "check value of CRC-32/ISO-HDLC");
        assert_eq!(Digest::of(b"").0, 0x99aa_06d3_0147_98d8_6001_c324_468d_497f, "XXH3_128bits of nothing");
        let mut stream = DigestStream::new();
        stream.write(b"1234");
        stream.write(b"56789");
        assert_eq!(stream.finish(), Digest::of(b"123456789"));
    }

    #[test]
    fn one_set_byte_anywhere_is_not_zero() {
        for size in [0, 1, 255, 256, 257, 1000] {
            let mut bytes = vec![0; size];
            assert!(is_zero(&bytes));
            for at in 0..size {
                bytes[at] = 1;
                assert!(!is_zero(&bytes), "byte {at} of {size}");
                bytes[at] = 0;
            }
        }
    }
}

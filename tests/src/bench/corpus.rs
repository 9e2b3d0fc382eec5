//! The bytes that are checkpointed: like a heap of small objects, and like noise.

use crate::draw::Draw;

/// `len` bytes of 64-byte records: a type word, a counter, two addresses near each other, small numbers, a hash
/// and padding. LZ4 halves it, roughly.
pub fn heap_like(len: usize, seed: u64) -> Vec<u8> {
    let mut draw = Draw::new(seed, 0, 0);
    let mut bytes = Vec::with_capacity(len + 64);
    let (mut counter, base) = (0_u64, 0x7f3a_0000_0000_u64);
    while bytes.len() < len {
        counter += 1 + draw.below(3);
        let near = base + (counter << 6);
        let words = [
            0x5ca1_ab1e_0000_0000 | draw.below(12),
            counter,
            near + draw.below(1 << 16) * 64,
            near.wrapping_sub(draw.below(1 << 12) * 64),
            draw.below(1000),
            draw.below(100) << 32 | draw.below(10),
            draw.word() & 0xffff_ffff,
            0,
        ];
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }
    bytes.truncate(len);
    bytes
}

/// `len` random bytes.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut draw = Draw::new(seed, 0, 1);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend(draw.word().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

//! Words that carry their own check, so that a stray write into a table is seen when the word is next read.
//!
//! A *sealed* word holds a 32-bit value and 32 bits of a hash of the value and the word's place. A slot
//! carries a 64-bit hash of its five words of truth. Both find accidents; neither stops a peer that computes
//! them on purpose (such a peer gets wrong answers and typed errors, never undefined behaviour).
//!
//! # Invariants
//! - The all-zero word is no valid seal, so memory that was wiped is noticed.
//! - Changing any one word of a slot always changes its check.

/// What a sealed word at `place` looks like for `value`.
#[inline(always)]
pub(crate) const fn seal(value: u32, place: u64) -> u64 {
    let mut hash =
        (value as u64 ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x5851_f42d_4c95_7f2d);
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    (hash & 0xffff_ffff_0000_0000) | value as u64
}

/// The value of a sealed word, or the word that was expected with this value.
#[inline(always)]
pub(crate) const fn unseal(word: u64, place: u64) -> Result<u32, u64> {
    let value = word as u32;
    let expected = seal(value, place);
    if word == expected { Ok(value) } else { Err(expected) }
}

/// The check of slot `index` over its five words of truth.
#[inline(always)]
pub(crate) const fn slot_check(index: u32, words: [u64; 5]) -> u64 {
    // One multiplication by an odd number a word, combined by xor: a bijection in each word, and the
    // multiplications do not wait for each other.
    let a = (words[0] ^ 0x243f_6a88_85a3_08d3).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let b = (words[1] ^ 0x1319_8a2e_0370_7344).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    let c = (words[2] ^ 0xa409_3822_299f_31d0).wrapping_mul(0x1656_67b1_9e37_79f9);
    let d = (words[3] ^ 0x082e_fa98_ec4e_6c89).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let e = (words[4] ^ index as u64 ^ (index as u64) << 32).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    let mixed = a ^ b.rotate_left(13) ^ c.rotate_left(26) ^ d.rotate_left(39) ^ e.rotate_left(52);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_seal_opens_only_at_its_place(value: u32, place: u64, other: u64, flip in 0..64u32) {
            prop_assert_eq!(unseal(seal(value, place), place), Ok(value));
            prop_assert!(unseal(seal(value, place) ^ (1 << flip), place).is_err());
            if other != place {
                prop_assert!(unseal(seal(value, place), other).is_err());
            }
        }

        #[test]
        fn one_changed_word_changes_the_check(index: u32, words: [u64; 5], at in 0..5usize, to: u64) {
            let mut changed = words;
            changed[at] = to;
            prop_assert_eq!(slot_check(index, words) == slot_check(index, changed), words == changed);
        }
    }

    #[test]
    fn wiped_words_are_noticed() {
        assert!((0..100_000).all(|place| unseal(0, place).is_err()));
        assert_ne!(slot_check(0, [0; 5]), 0);
    }
}

//! Size classes of holes: which list a hole of so many granules is kept in.
//!
//! Two-level segregated fit (Masmano, Ripoll, Crespo and Real, "TLSF: a new dynamic memory allocator for
//! real-time systems", 2004): every length below 32 granules has a class of its own, above there are 16
//! classes to a doubling.
//!
//! # Invariants
//! - `class_of` never decreases as the length grows; `smallest(class_of(n)) <= n`.
//! - Every hole in a class above `class_of(n)` holds at least `n` granules.

use crate::layout::CLASS_COUNT;

/// The class of holes of `granules` granules (at least 1).
#[inline(always)]
pub(crate) const fn class_of(granules: u64) -> usize {
    if granules < 32 {
        return granules as usize;
    }
    let log = granules.ilog2() as u64;
    let class = 32 + (log - 5) * 16 + ((granules >> (log - 4)) & 15);
    class as usize
}

/// The smallest length in `class`, in granules.
#[cfg(test)]
pub(crate) const fn smallest(class: usize) -> u64 {
    if class < 32 {
        return class as u64;
    }
    let (log, step) = ((class as u64 - 32) / 16 + 5, (class as u64 - 32) % 16);
    (16 + step) << (log - 4)
}

const _: () = assert!(class_of((1 << 42) - 1) < CLASS_COUNT && class_of(1 << 42) < CLASS_COUNT);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_tile_the_lengths() {
        let mut last = 0;
        for granules in 1..200_000 {
            let class = class_of(granules);
            assert!(class == last || class == last + 1, "{granules} granules");
            assert!(smallest(class) <= granules && granules < smallest(class + 1));
            last = class;
        }
        for log in 5..42 {
            assert_eq!(smallest(class_of(1 << log)), 1 << log);
            assert_eq!(class_of((1 << log) - 1) + 1, class_of(1 << log));
        }
    }
}

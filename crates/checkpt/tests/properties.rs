//! Random partitions, options and damage: what is written comes back, and damage never goes unnoticed.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fixture;

use fixture::{Image, fixed, read_all};
use outlast_checkpt::{ReadError, Style};
use proptest::collection::vec;
use proptest::prelude::*;

/// Gaps and sizes of partitions, mostly small, some larger than a window.
fn ranges() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let length = prop_oneof![8 => 1u64..500, 2 => 1u64..20_000, 1 => 60_000u64..200_000];
    let gap = prop_oneof![3 => Just(0u64), 5 => 0u64..1000, 1 => 0u64..150_000];
    vec((gap, length), 0..20).prop_map(|pairs| {
        let mut at = 0;
        let place = |(gap, size)| {
            let gaddr = at + gap;
            at = gaddr + size;
            (gaddr, size)
        };
        pairs.into_iter().map(place).collect()
    })
}

/// One byte function per seed: zeros, runs or noise, changing along the way.
fn image(ranges: &[(u64, u64)], seed: u64) -> Image {
    Image::new(ranges, |at| match (at >> 14).wrapping_add(seed) % 4 {
        0 => 0,
        1 => (at.wrapping_mul(seed | 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 53) as u8,
        _ => (at / 9 + seed) as u8,
    })
}

/// What happens to a file on its way.
#[derive(Debug, Clone)]
enum Damage {
    Flip { at: prop::sample::Index, mask: u8 },
    Overwrite { at: prop::sample::Index, with: Vec<u8> },
    Truncate { at: prop::sample::Index },
    Append { with: Vec<u8> },
    Remove { at: prop::sample::Index, size: usize },
    Insert { at: prop::sample::Index, with: Vec<u8> },
}

fn damage() -> impl Strategy<Value = Damage> {
    use prop::sample::Index;
    prop_oneof![
        (any::<Index>(), 1u8..).prop_map(|(at, mask)| Damage::Flip { at, mask }),
        (any::<Index>(), vec(any::<u8>(), 1..200)).prop_map(|(at, with)| Damage::Overwrite { at, with }),
        any::<Index>().prop_map(|at| Damage::Truncate { at }),
        vec(any::<u8>(), 1..300).prop_map(|with| Damage::Append { with }),
        (any::<Index>(), 1usize..300).prop_map(|(at, size)| Damage::Remove { at, size }),
        (any::<Index>(), vec(any::<u8>(), 1..300)).prop_map(|(at, with)| Damage::Insert { at, with }),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    let size = bytes.len();
    match damage {
        Damage::Flip { at, mask } => bytes[at.index(size)] ^= mask,
        Damage::Overwrite { at, with } => {
            let at = at.index(size);
            let end = (at + with.len()).min(size);
            bytes[at..end].copy_from_slice(&with[..end - at]);
        }
        Damage::Truncate { at } => bytes.truncate(at.index(size)),
        Damage::Append { with } => bytes.extend_from_slice(with),
        Damage::Remove { at, size: count } => {
            let at = at.index(size);
            bytes.drain(at..(at + count).min(size));
        }
        Damage::Insert { at, with } => {
            let at = at.index(size);
            bytes.splice(at..at, with.iter().copied());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn round_trip(
        ranges in ranges(),
        seed in any::<u64>(),
        style in prop::sample::select(Style::ALL.to_vec()),
        window_shift in 16u32..=18,
        threads in 1usize..5,
    ) {
        let image = image(&ranges, seed);
        let options = |threads| fixed(style, threads).window_bytes(1 << window_shift);
        let (bytes, _) = image.write(&options(threads));
        prop_assert!(bytes == image.write(&options(1)).0, "bytes depend on the thread count");
        image.assert_restored(read_all(&bytes, image.bytes.len()).unwrap());
    }

    #[test]
    fn damage_is_an_error_or_changes_nothing(
        ranges in ranges(),
        style in prop::sample::select(Style::ALL.to_vec()),
        damages in vec(damage(), 1..4),
    ) {
        let image = image(&ranges, 3);
        let (sound, _) = image.write(&fixed(style, 1).window_bytes(1 << 16));
        let mut bytes = sound.clone();
        damages.iter().for_each(|damage| apply(&mut bytes, damage));
        match read_all(&bytes, image.bytes.len()) {
            Ok(region) => {
                prop_assert!(bytes == sound, "damage went unnoticed");
                image.assert_restored(region);
            }
            Err(ReadError::Sink { .. } | ReadError::Cancelled { .. }) => prop_assert!(false, "wrong error"),
            Err(_) => prop_assert!(bytes != sound),
        }
    }

    #[test]
    fn any_bytes_behind_a_magic_are_an_error(
        tail in vec(any::<u8>(), 0..2000),
        with_magic in any::<bool>(),
    ) {
        let mut bytes = if with_magic { b"\x89OLCK\r\n\x1A".to_vec() } else { Vec::new() };
        bytes.extend_from_slice(&tail);
        prop_assert!(read_all(&bytes, 0).is_err());
    }
}

//! The index against an oracle that is too simple to be wrong: a sorted list of allocations, and "an
//! allocation fails only if no gap fits".
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use outlast_wksp::{AllocError, Block, CreateOptions, Wksp};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Call {
    Alloc { size: u64, align: u64, tag: u64 },
    Free { which: usize },
    TagFree { tag: u64 },
    Reset,
    Rebuild { seed: u32 },
}

fn call() -> impl Strategy<Value = Call> {
    let size = prop_oneof![1..200_u64, 1..9000_u64, 1..70_000_u64];
    let alloc = (size, 0..14_u32, 1..6_u64);
    prop_oneof![
        8 => alloc.prop_map(|(size, log, tag)| Call::Alloc { size, align: 1 << log, tag }),
        6 => any::<usize>().prop_map(|which| Call::Free { which }),
        1 => (1..6_u64).prop_map(|tag| Call::TagFree { tag }),
        1 => any::<u32>().prop_map(|seed| Call::Rebuild { seed }),
        1 => Just(Call::Reset),
    ]
}

/// Granules in use, as (start, end), sorted; everything else is free from 64 to the end of the data.
fn fits(live: &[Block], data_bytes: u64, size: u64, align: u64) -> bool {
    let mut ranges: Vec<(u64, u64)> = live
        .iter()
        .map(|block| (block.gaddr().get(), (block.gaddr().get() + block.size_bytes()).next_multiple_of(64)))
        .collect();
    ranges.push((data_bytes, data_bytes));
    ranges.sort_unstable();
    let mut at = 64_u64;
    for (start, end) in ranges {
        if at.next_multiple_of(align.max(64)) + size <= start {
            return true;
        }
        at = end;
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn an_allocation_fails_only_if_no_gap_fits(calls in prop::collection::vec(call(), 1..160), pages in 1..24_u64) {
        let wksp = Wksp::anonymous(&CreateOptions::with_size(pages * 4096)).unwrap();
        let mut live: Vec<Block> = Vec::new();
        for call in calls {
            match call {
                Call::Alloc { size, align, tag } => match wksp.alloc(size, align, tag) {
                    Ok(block) => {
                        prop_assert!(block.gaddr().get().is_multiple_of(align));
                        live.push(block);
                    }
                    Err(AllocError::NoSpace { .. }) => {
                        prop_assert!(!fits(&live, wksp.data_bytes(), size, align), "{size} at {align} fits");
                    }
                    Err(other) => return Err(TestCaseError::fail(other.to_string())),
                },
                Call::Free { which } if !live.is_empty() => {
                    wksp.free(live.swap_remove(which % live.len())).unwrap();
                }
                Call::Free { .. } => {}
                Call::TagFree { tag } => {
                    let before = live.len() as u64;
                    live.retain(|block| block.tag() != tag);
                    prop_assert_eq!(wksp.tag_free(&[tag]).unwrap().0, before - live.len() as u64);
                }
                Call::Reset => {
                    wksp.reset(1).unwrap();
                    live.clear();
                }
                Call::Rebuild { seed } => {
                    wksp.rebuild(seed).unwrap();
                    let once = wksp.partitions().unwrap();
                    wksp.rebuild(seed).unwrap();
                    prop_assert_eq!(once, wksp.partitions().unwrap());
                }
            }
            let mut expected: Vec<_> =
                live.iter().map(|block| (block.gaddr().get(), block.size_bytes(), block.tag())).collect();
            expected.sort_unstable();
            let found = wksp.partitions().unwrap();
            let found: Vec<_> = found.iter().map(|found| (found.gaddr.get(), found.size_bytes, found.tag)).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(wksp.verify().unwrap().faults, vec![]);
        }
    }
}

#[test]
fn a_fill_with_single_bytes_takes_every_granule() {
    let wksp = Wksp::anonymous(&CreateOptions::with_size(256 << 10)).unwrap();
    let slots = wksp.usage(&[]).unwrap().slot_count;
    let mut count = 0;
    loop {
        match wksp.alloc(1, 1, 1) {
            Ok(_) => count += 1,
            Err(AllocError::NoSpace { free_bytes: 0, .. }) => break,
            Err(other) => panic!("stopped by {other}"),
        }
    }
    assert_eq!(count, (256 << 10) / 64 - 1);
    assert!(slots < count, "the table had to grow");
    assert!(wksp.verify().unwrap().is_sound());
    assert_eq!(wksp.tag_free(&[1]).unwrap(), (count, count));
    assert_eq!(wksp.usage(&[]).unwrap().largest_free_bytes, (256 << 10) - 64);
}

#[test]
fn an_aligned_hole_is_found_again() {
    let wksp = Wksp::anonymous(&CreateOptions::with_size(64 << 10)).unwrap();
    let pages: Vec<Block> = (0..15).map(|_| wksp.alloc(4096, 4096, 1).unwrap()).collect();
    assert!(matches!(wksp.alloc(4096, 4096, 1), Err(AllocError::NoSpace { .. })));
    wksp.free(pages[7]).unwrap();
    assert_eq!(wksp.alloc(4096, 4096, 1).unwrap().gaddr(), pages[7].gaddr());
}

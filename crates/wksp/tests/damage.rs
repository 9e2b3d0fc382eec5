//! Every word of the tables, damaged in several ways, in a small workspace: each call gives a typed error or the
//! right answer, and a reset mends everything.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::FileExt;

use outlast_wksp::{
    AccessError, AllocError, Block, CreateOptions, FaultKind, FreeError, Partition, QueryError, Wksp,
};

/// A workspace with holes, one allocation over several pages, an idle slot; and what is in it.
fn sample() -> (Wksp, Vec<Block>) {
    let wksp = Wksp::anonymous(&CreateOptions::with_size(32 << 10)).unwrap();
    let sizes = [100, 64, 5000, 1, 200, 9000, 64, 300];
    let blocks: Vec<Block> = (1..).zip(sizes).map(|(tag, size)| wksp.alloc(size, 64, tag).unwrap()).collect();
    let (gone, kept): (Vec<(usize, Block)>, _) =
        blocks.into_iter().enumerate().partition(|(index, _)| [1, 3, 4].contains(index));
    for (_, block) in gone {
        wksp.free(block).unwrap();
    }
    (wksp, kept.into_iter().map(|(_, block)| block).collect())
}

/// Everything of the region but the data: (offset, bytes).
fn table_ranges(wksp: &Wksp) -> [(u64, u64); 2] {
    let data = wksp.data_bytes();
    let start = outlast_shm::USER_OFFSET;
    let map_end = (start + 8192 + data / 4096 * 8).next_multiple_of(4096);
    let slots = map_end + 4096 + data + 4096;
    [(start, map_end - start), (slots, wksp.region().len_bytes() - slots)]
}

/// Runs every call; panics if one answers wrongly. Returns whether any said that something is wrong.
fn every_call(wksp: &Wksp, live: &[Block]) -> bool {
    let mut noticed = false;
    let mut live = live.to_vec();
    let corrupt = |access: &AccessError| matches!(access, AccessError::Corrupt(_));
    match wksp.partitions() {
        Ok(found) => assert_eq!(found, expected(&live)),
        Err(QueryError::Access(access)) if corrupt(&access) => noticed = true,
        Err(other) => panic!("{other}"),
    }
    for block in &live {
        match wksp.tag(block.gaddr()) {
            Ok(tag) => assert_eq!(tag, Some(block.tag())),
            Err(QueryError::Access(access)) if corrupt(&access) => noticed = true,
            Err(other) => panic!("{other}"),
        }
    }
    match wksp.alloc(100, 64, 77) {
        Ok(made) => {
            for block in &live {
                let (low, high) = (block.gaddr().get(), block.gaddr().get() + block.size_bytes());
                assert!(
                    high <= made.gaddr().get() || made.gaddr().get() + 100 <= low,
                    "{made:?} overlaps {block:?}"
                );
            }
            live.push(made);
        }
        Err(AllocError::Access(access)) if corrupt(&access) => noticed = true,
        Err(other) => panic!("{other}"),
    }
    for block in live.split_off(live.len() / 2) {
        match wksp.free(block) {
            Ok(()) => {}
            Err(FreeError::Access(access)) if corrupt(&access) => {
                noticed = true;
                live.push(block);
            }
            Err(other) => panic!("{other}"),
        }
    }
    if !noticed {
        assert_eq!(wksp.partitions().map_err(|error| error.to_string()), Ok(expected(&live)));
    }
    match wksp.verify() {
        Ok(report) => noticed |= !report.is_sound(),
        Err(other) => panic!("{other}"),
    }
    noticed
}

fn expected(live: &[Block]) -> Vec<Partition> {
    let mut list: Vec<Partition> = live
        .iter()
        .map(|block| Partition { gaddr: block.gaddr(), size_bytes: block.size_bytes(), tag: block.tag() })
        .collect();
    list.sort_unstable_by_key(|partition| partition.gaddr);
    list
}

#[test]
fn every_damaged_word_is_a_typed_error_or_harmless() {
    let (wksp, live) = sample();
    let file = std::fs::File::from(wksp.as_fd().try_clone_to_owned().unwrap());
    let len = wksp.region().len_bytes();
    let mut image = vec![0; len as usize];
    file.read_exact_at(&mut image, 0).unwrap();
    let (mut noticed, mut words) = (0, 0);
    for (start, bytes) in table_ranges(&wksp) {
        for at in (start..start + bytes).step_by(8) {
            let word = at as usize..at as usize + 8;
            let old = u64::from_le_bytes(image[word].try_into().unwrap());
            // The static words are read once, at attach.
            if at < outlast_shm::USER_OFFSET + 32 {
                continue;
            }
            for new in [
                0,
                u64::MAX,
                old ^ 1,
                old ^ 1 << 63,
                old.wrapping_add(1),
                old.rotate_left(32),
                0x1234_5678_9abc,
            ] {
                if new == old {
                    continue;
                }
                file.write_all_at(&new.to_le_bytes(), at).unwrap();
                words += 1;
                noticed += u64::from(every_call(&wksp, &live));
                // Back to the sound image: what the calls did is gone too.
                file.write_all_at(&image[start as usize..(start + bytes) as usize], start).unwrap();
                let (other, len) = table_ranges(&wksp)[usize::from(start == outlast_shm::USER_OFFSET)];
                file.write_all_at(&image[other as usize..(other + len) as usize], other).unwrap();
            }
        }
    }
    assert!(wksp.verify().unwrap().is_sound());
    assert!(words > 5000 && noticed * 2 > words, "{noticed} of {words}");
}

#[test]
fn wiped_tables_are_mended_by_a_reset() {
    for byte in [0_u8, 0xff, 0x5a] {
        let (wksp, live) = sample();
        for (start, bytes) in table_ranges(&wksp) {
            let skip = if start == outlast_shm::USER_OFFSET { 32 } else { 0 };
            wksp.region().bytes(start + skip..start + bytes).unwrap().fill(0, bytes - skip, byte).unwrap();
        }
        assert!(wksp.alloc(1, 1, 1).is_err());
        assert!(wksp.free(live[0]).is_err());
        assert!(!wksp.verify().unwrap().is_sound());
        wksp.reset(3).unwrap();
        assert_eq!(wksp.partitions().unwrap(), []);
        assert!(wksp.free(live[0]).is_err(), "the old block stays stale");
        let again = wksp.alloc(20_000, 4096, 9).unwrap();
        assert_eq!(wksp.tag(again.gaddr()).unwrap(), Some(9));
    }
}

#[test]
fn the_fault_says_what_where_expected_and_found() {
    let (wksp, live) = sample();
    let slots = table_ranges(&wksp)[1].0;
    let (_, slot, _) = live[2].to_parts();
    let size_at = slots + u64::from(slot) * 64 + 16;
    wksp.region().bytes(size_at..size_at + 8).unwrap().write(0, &7_u64.to_le_bytes()).unwrap();
    let Err(FreeError::Access(AccessError::Corrupt(fault))) = wksp.free(live[2]) else { panic!() };
    assert_eq!((fault.what, fault.at), (FaultKind::SlotCheck, slots + u64::from(slot) * 64 + 40));
    assert_ne!(fault.expected, fault.found);
    let report = wksp.verify().unwrap();
    assert!(report.faults.contains(&fault), "{:?}", report.faults);
    assert!(wksp.rebuild(0).is_err(), "an allocation's own slot is damaged: nothing to rebuild from");
}

#[test]
fn a_damaged_index_is_mended_by_a_rebuild() {
    let (wksp, live) = sample();
    let header = outlast_shm::USER_OFFSET;
    // Everything from the idle head on, but not the epoch: lists, heads, bitmap, page map.
    wksp.region().bytes(header + 17 * 8..header + 8192).unwrap().fill(0, 8192 - 17 * 8, 0xee).unwrap();
    assert!(!wksp.verify().unwrap().is_sound());
    wksp.rebuild(9).unwrap();
    assert_eq!(wksp.partitions().unwrap(), expected(&live));
    let faults = wksp.verify().unwrap().faults;
    assert!(faults.iter().all(|fault| fault.what == FaultKind::Reserved), "{faults:?}");
}

#[test]
fn a_tag_that_no_call_took_away_is_not_taken_for_a_free() {
    let (wksp, live) = sample();
    let slots = table_ranges(&wksp)[1].0;
    let tag_at = slots + u64::from(live[1].to_parts().1) * 64;
    let tag = wksp.region().words(tag_at..tag_at + 8).unwrap();
    let kept = tag.load(0, outlast_probe::sync::Ordering::Relaxed);
    tag.store(0, 0, outlast_probe::sync::Ordering::Relaxed);
    let Err(AccessError::Corrupt(fault)) = wksp.rebuild(0) else { panic!() };
    assert_eq!((fault.what, fault.at), (FaultKind::LostTag, tag_at));
    assert!(!wksp.verify().unwrap().is_sound());
    tag.store(0, kept, outlast_probe::sync::Ordering::Relaxed);
    wksp.rebuild(0).unwrap();
    assert_eq!(wksp.partitions().unwrap(), expected(&live));
}

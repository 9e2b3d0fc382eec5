//! Read-only joins: right answers without the lock, while others change things.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use outlast_probe::sync::{AtomicBool, AtomicU64, Ordering};
use outlast_wksp::{CreateOptions, Domain, QueryError, Reader, RegionName, Wksp};

fn named(options: &CreateOptions) -> (tempfile::TempDir, Domain, RegionName, Wksp) {
    let directory = tempfile::tempdir().unwrap();
    let domain = Domain::open(&directory.path().join("domain")).unwrap();
    let name: RegionName = "read".parse().unwrap();
    let wksp = Wksp::create(&domain, &name, options).unwrap();
    (directory, domain, name, wksp)
}

#[test]
fn a_reader_answers_as_the_workspace_does() {
    let (_directory, domain, name, wksp) = named(&CreateOptions::with_size(64 << 10));
    let reader = Reader::attach(&domain, &name).unwrap();
    assert_eq!(reader.partitions().unwrap(), []);
    let blocks: Vec<_> = (1..60).map(|tag| wksp.alloc(tag * 7, 64, tag).unwrap()).collect();
    wksp.tag_free(&[3, 17, 18, 19, 59]).unwrap();
    wksp.write(blocks[0].gaddr().get(), b"abcdefg").unwrap();
    assert_eq!(reader.partitions().unwrap(), wksp.partitions().unwrap());
    assert_eq!(reader.tag_query(&[4, 5]).unwrap(), wksp.tag_query(&[4, 5]).unwrap());
    assert_eq!(reader.usage(&[4, 17]).unwrap(), wksp.usage(&[4, 17]).unwrap());
    for block in &blocks {
        assert_eq!(reader.tag(block.gaddr()).unwrap(), wksp.tag(block.gaddr()).unwrap());
    }
    let mut bytes = [0; 7];
    reader.read(blocks[0].gaddr().get(), &mut bytes).unwrap();
    assert_eq!(&bytes, b"abcdefg");
    assert!(matches!(reader.read(wksp.data_bytes(), &mut bytes), Err(QueryError::OutOfRange { .. })));
}

#[test]
fn pictures_are_of_one_moment_while_another_thread_allocates() {
    let (_directory, domain, name, wksp) = named(&CreateOptions::with_size(256 << 10));
    let reader = Reader::attach(&domain, &name).unwrap();
    let fixed = wksp.alloc(1000, 64, 1_000_000).unwrap();
    // The writer keeps exactly one allocation of each pair: tag t and tag t + 1 are never both there or both
    // gone once the pair was begun, but for the moment between its two calls; the sizes add up to a constant.
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let blocks: Vec<_> = (1..40).map(|tag| wksp.alloc(tag * 64, 64, tag).unwrap()).collect();
                for block in blocks {
                    wksp.free(block).unwrap();
                }
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut pictures = 0;
        while pictures < 200 || rounds.load(Ordering::Relaxed) < 20 {
            assert_eq!(reader.tag(fixed.gaddr()).unwrap(), Some(1_000_000));
            match reader.partitions() {
                Ok(list) => {
                    pictures += 1;
                    // Tags 1..k in order of allocation, or k..40 in order of freeing, and the fixed one: any
                    // other set was never there.
                    let tags: Vec<u64> = list.iter().map(|found| found.tag).filter(|tag| *tag < 40).collect();
                    let mut sorted = tags.clone();
                    sorted.sort_unstable();
                    assert!(sorted.windows(2).all(|pair| pair[1] == pair[0] + 1), "{sorted:?}");
                    assert!(sorted.first().is_none_or(|first| *first == 1) || sorted.last() == Some(&39));
                }
                Err(QueryError::Unstable { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(wksp.verify().unwrap().is_sound());
}

#[test]
fn a_change_that_never_ends_is_unstable_and_names_the_holder() {
    let (_directory, domain, name, wksp) = named(&CreateOptions::with_size(64 << 10));
    let reader = Reader::attach(&domain, &name).unwrap();
    let block = wksp.alloc(100, 64, 5).unwrap();
    let guard = wksp.region().lock(Duration::from_secs(1)).unwrap();
    // What a holder stopped inside a change leaves: the lock taken and an odd change counter.
    let counter = outlast_shm::USER_OFFSET + 16 * 8;
    let word = wksp.region().words(counter..counter + 8).unwrap();
    let before = word.load(0, Ordering::Relaxed);
    word.store(0, before | 1, Ordering::Relaxed);
    let Err(QueryError::Unstable { tries, holder: Some(holder) }) = reader.partitions() else { panic!() };
    assert!(tries > 1 && holder.tid != 0 && holder.joiner.is_some());
    assert_eq!(reader.tag(block.gaddr()).unwrap(), Some(5), "one slot can be read all the same");
    drop(guard);
    assert_eq!(wksp.tag(block.gaddr()).unwrap(), Some(5), "the next holder finishes the change");
    assert_eq!(reader.partitions().unwrap().len(), 1);
}

#[test]
fn a_damaged_slot_is_a_fault_for_a_reader_too() {
    let (_directory, domain, name, wksp) = named(&CreateOptions::with_size(64 << 10));
    let reader = Reader::attach(&domain, &name).unwrap();
    let block = wksp.alloc(100, 64, 5).unwrap();
    let slots = wksp.region().len_bytes() - wksp.usage(&[]).unwrap().slot_count * 64;
    let at = slots + u64::from(block.to_parts().1) * 64 + 8;
    wksp.region().bytes(at..at + 1).unwrap().write(0, &[0xff]).unwrap();
    assert!(matches!(reader.tag(block.gaddr()), Err(QueryError::Access(_))));
    assert!(matches!(reader.partitions(), Err(QueryError::Access(_))));
}

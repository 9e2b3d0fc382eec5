//! A peer that overwrites what a watcher reads: typed answers, no panic, no endless look.

use std::os::unix::fs::FileExt;

use outlast_probe::sync::{AtomicBool, AtomicU64, Ordering};
use outlast_wksp::{Comparison, Counter, Value};
use proptest::prelude::*;

use crate::actor::Place;

const SLOTS: u64 = 4096;
const WORKSPACE: u64 = 69632;

/// Values that mean something, and any other.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(2), Just(u64::MAX), Just(u64::MAX - 1), any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_words_give_an_answer(
        words in prop::collection::vec((0..256 * 32_u64, word()), 1..200),
        head in prop::collection::vec((4..1024_u64, word()), 0..8),
    ) {
        let place = Place::new(64 << 10);
        let watch = place.watch();
        let first = watch.snapshot().unwrap();
        let file = std::fs::File::options().write(true).open(place.path()).unwrap();
        let places = words.iter().map(|(at, word)| (SLOTS + at * 8, word));
        for (at, word) in places.chain(head.iter().map(|(at, word)| (WORKSPACE + at * 8, word))) {
            file.write_all_at(&word.to_le_bytes(), at).unwrap();
        }
        let snapshot = watch.snapshot().unwrap();
        prop_assert!(snapshot.joiners.len() <= 256);
        let _ = (snapshot.sum(Counter::AllocBytes), snapshot.live_bytes());
        let _ = (Comparison::of(&first, &snapshot), Comparison::of(&snapshot, &first).live_bytes());
    }
}

#[test]
fn a_damaged_record_and_a_sequence_left_odd_are_torn() {
    let place = Place::new(64 << 10);
    let (wksp, watch) = (place.join(), place.watch());
    wksp.alloc(1, 64, 1).unwrap();
    let slot = SLOTS + 256 * wksp.region().slot().unwrap().index() as u64;
    let file = std::fs::File::options().read(true).write(true).open(place.path()).unwrap();
    let value = |counter| watch.snapshot().unwrap().joiners.last().unwrap().values.get(counter);
    assert_eq!(value(Counter::AllocCount), Value::Measured(1));
    for at in [16, 128] {
        let mut word = [0];
        file.read_exact_at(&mut word, slot + at).unwrap();
        file.write_all_at(&[word[0] ^ 1], slot + at).unwrap();
        assert_eq!(Counter::ALL.map(value), [Value::Torn; Counter::ALL.len()], "byte {at}");
        file.write_all_at(&word, slot + at).unwrap();
        assert_eq!(value(Counter::AllocCount), Value::Measured(1));
    }
}

/// Ends the scribbler however the watcher ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn scribbling_during_snapshots_does_no_harm() {
    let place = Place::new(64 << 10);
    let (_wksp, watch) = (place.join(), place.watch());
    let file = std::fs::File::options().write(true).open(place.path()).unwrap();
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut word = 0x9e37_79b9_7f4a_7c15_u64;
            while !stop.load(Ordering::Relaxed) {
                word = word.rotate_left(5).wrapping_mul(0xd6e8_feb8_6659_fd93);
                // The first eight slots, sequences and counters included.
                file.write_all_at(&word.to_le_bytes(), SLOTS + word % 256 * 8).unwrap();
                written.fetch_add(1, Ordering::Relaxed);
            }
        });
        let _stop = Stop(&stop);
        let mut snapshots = 0;
        while snapshots < 200 || written.load(Ordering::Relaxed) < 1000 {
            assert!(watch.snapshot().unwrap().joiners.len() <= 8);
            snapshots += 1;
        }
    });
}

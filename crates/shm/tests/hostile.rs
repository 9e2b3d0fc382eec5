//! A peer that overwrites everything that the region keeps for itself: no panic, no fault, no endless wait.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod actors;

use std::os::unix::fs::FileExt;
use std::time::Duration;

use actors::{EXPECT, Place, WATCHDOG, name};
use outlast_probe::sync::{AtomicBool, AtomicU64, Ordering};
use outlast_shm::{LockError, Region, USER_OFFSET};
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64;

const LOCK: u64 = 256;
const SLOTS: u64 = 4096;
const BRIEF: Duration = Duration::from_millis(2);

/// A word that is random, nearly right, or one of the values that mean something.
fn hostile_word(random: &mut Pcg64, seen: u64) -> u64 {
    match random.random_range(0..6) {
        0 => random.next_u64(),
        1 => seen ^ 1 << random.random_range(0..64),
        2 => seen.wrapping_add(1),
        3 => random.random_range(0..4),
        4 => u64::MAX,
        _ => 0,
    }
}

/// Overwrites the lock word or a word of one of the first slots.
fn overwrite(file: &std::fs::File, random: &mut Pcg64) {
    let at = match random.random_bool(0.5) {
        true => LOCK,
        false => SLOTS + 8 * random.random_range(0..4 * 32),
    };
    let mut word = [0; 8];
    file.read_exact_at(&mut word, at).unwrap();
    let word = hostile_word(random, u64::from_le_bytes(word));
    file.write_all_at(&word.to_le_bytes(), at).unwrap();
}

/// Uses everything that reads what a peer can write.
fn use_all(place: &Place, region: &Region) -> bool {
    let locked = match region.lock(BRIEF) {
        Ok(mut guard) => {
            let _ = (guard.is_held(), guard.needs_recovery(), guard.taken_from().cloned());
            guard.count([(3, 1), (4, 2)]);
            let _ = guard.joiner_number();
            guard.mark_recovered();
            matches!(guard.unlock(), Ok(()) | Err(LockError::Stolen { .. }))
        }
        Err(LockError::Busy { waited, .. }) => {
            assert!(BRIEF <= waited);
            false
        }
        Err(LockError::Reentrant { .. }) => false,
        Err(error) => panic!("{error}"),
    };
    let _ = (region.lock_state(), region.other_joiners());
    for joiner in region.joiners().into_iter().chain(region.roster()) {
        let _ = region.counters(joiner.slot);
    }
    place.domain.info(&name("r")).unwrap();
    let reader = Region::open_read_only(&place.domain, &name("r"), &EXPECT).unwrap();
    let _ = (reader.joiners(), reader.lock_state());
    locked
}

#[test]
fn overwritten_words_between_calls_do_no_harm() {
    let (place, region) = Place::with_region();
    let file = std::fs::File::options().read(true).write(true).open(place.domain.path().join("r")).unwrap();
    let mut random = Pcg64::seed_from_u64(1);
    let mut locked = 0;
    for _ in 0..1000 {
        (0..random.random_range(1..4)).for_each(|_| overwrite(&file, &mut random));
        locked += u64::from(use_all(&place, &region));
    }
    assert!(100 < locked, "the lock is still had, mostly: {locked}");
    // Healed by what any process does anyway.
    file.write_all_at(&[0; 8], LOCK).unwrap();
    region.lock(WATCHDOG).unwrap().unlock().unwrap();
    region.leave().unwrap();
    Region::open(&place.domain, &name("r"), &EXPECT).unwrap().lock(WATCHDOG).unwrap().unlock().unwrap();
}

#[test]
fn overwritten_words_during_calls_do_no_harm() {
    let (place, region) = Place::with_region();
    let file = std::fs::File::options().read(true).write(true).open(place.domain.path().join("r")).unwrap();
    let (stop, overwritten) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Pcg64::seed_from_u64(2);
            while !stop.load(Ordering::Relaxed) {
                overwrite(&file, &mut random);
                overwritten.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..500 {
            use_all(&place, &region);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(1000 < overwritten.load(Ordering::Relaxed));
}

#[test]
fn a_joiner_table_full_of_garbage_is_taken_back() {
    let (place, region) = Place::with_region();
    drop(region);
    let file = std::fs::File::options().read(true).write(true).open(place.domain.path().join("r")).unwrap();
    let mut garbage = vec![0; (USER_OFFSET - SLOTS) as usize];
    Pcg64::seed_from_u64(3).fill_bytes(&mut garbage);
    file.write_all_at(&garbage, SLOTS).unwrap();
    let region = Region::open(&place.domain, &name("r"), &EXPECT).unwrap();
    assert_eq!(region.slot().unwrap().index(), 0, "no proof of life, no claim to the slot");
    let joiners = region.joiners();
    assert_eq!(joiners.len(), 256);
    assert!(joiners[0].intact && joiners[1..].iter().all(|joiner| !joiner.intact));
    assert!(!region.other_joiners(), "garbage is nobody");
    region.lock(WATCHDOG).unwrap().unlock().unwrap();
}

//! Allocating, freeing and reading objects, within one process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ground;

use std::collections::BTreeMap;

use ground::{Ground, MIB};
use outlast_groove::{AllocError, Groove, Joiner, ObjRef, RefError};
use proptest::prelude::*;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64;

/// Allocates until there is no room.
fn fill(joiner: &Joiner, size: u64) -> Vec<ObjRef> {
    let mut objects = Vec::new();
    loop {
        match joiner.alloc(size, 0, 1) {
            Ok(object) => objects.push(object),
            Err(AllocError::Full { .. }) => return objects,
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn an_object_is_what_was_asked_for() {
    let ground = Ground::new();
    let groove = ground.groove(MIB, 1);
    let joiner = groove.joiner().unwrap();
    let max = groove.object_bytes_max();
    assert_eq!(max, 10 << 10);
    let mut objects = Vec::new();
    for size in [0, 1, 511, 512, 513, 4096, 5000, max] {
        for align in [0, 1, 2, 16, 256, 512] {
            let object = joiner.alloc(size, align, size ^ 0xfeed).unwrap();
            let info = joiner.info(object).unwrap();
            assert_eq!((info.size_bytes, info.tag, info.reference), (size, size ^ 0xfeed, object));
            assert_eq!(info.align, if align == 0 { 16 } else { align });
            assert!(info.start.is_multiple_of(512) && info.start + size <= info.stop);
            objects.push(info);
        }
    }
    objects.sort_by_key(|object| object.start);
    assert!(objects.windows(2).all(|pair| pair[0].stop <= pair[1].start), "objects overlap");
    assert_eq!(joiner.objects(None).unwrap().len(), objects.len());
    assert_eq!(joiner.objects(Some(512 ^ 0xfeed)).unwrap().len(), 6);
    assert!(matches!(
        joiner.alloc(max + 1, 0, 0),
        Err(AllocError::TooLarge { size_bytes, max_bytes }) if size_bytes == max + 1 && max_bytes == max
    ));
    assert!(matches!(joiner.alloc(u64::MAX, 0, 0), Err(AllocError::TooLarge { .. })));
    for align in [3, 24, 1024, u64::MAX] {
        assert!(
            matches!(joiner.alloc(1, align, 0), Err(AllocError::Align { align: found }) if found == align)
        );
    }
    for object in objects {
        joiner.free(object.reference).unwrap();
    }
    let report = groove.verify().unwrap();
    assert_eq!((report.objects, report.faults), (0, vec![]));
}

#[test]
fn bytes_are_copied_in_and_out() {
    let ground = Ground::new();
    let groove = ground.groove(MIB, 1);
    let joiner = groove.joiner().unwrap();
    let object = joiner.alloc(5000, 0, 0).unwrap();
    let text: Vec<u8> = (0..5000_u32).map(|n| n as u8).collect();
    joiner.write(object, 0, &text).unwrap();
    let mut back = vec![0; 4999];
    joiner.read(object, 1, &mut back).unwrap();
    assert_eq!(back, text[1..]);
    for (start, len) in [(0, 5001), (5000, 1), (u64::MAX, 1), (4999, 2)] {
        let mut bytes = vec![0; len];
        assert!(matches!(joiner.read(object, start, &mut bytes), Err(RefError::Range { .. })));
        assert!(matches!(joiner.write(object, start, &bytes), Err(RefError::Range { .. })));
    }
    joiner.free(object).unwrap();
    assert!(matches!(joiner.read(object, 0, &mut back), Err(RefError::AlreadyFreed { .. })));
    assert!(matches!(joiner.write(object, 0, &text), Err(RefError::AlreadyFreed { .. })));
}

#[test]
fn a_reference_that_leads_nowhere_says_why() {
    let ground = Ground::new();
    let groove = ground.groove(MIB, 1);
    let joiner = groove.joiner().unwrap();
    let object = joiner.alloc(5000, 0, 0).unwrap();
    let at = |add: u64| ObjRef::from_bits(object.to_bits() + add);
    assert!(matches!(joiner.free(ObjRef::NULL), Err(RefError::Null)));
    // The tenth block of an object of ten blocks, and one after it.
    for add in 1..10 {
        assert!(
            matches!(joiner.free(at(add)), Err(RefError::Interior { object: found, .. }) if found == object)
        );
    }
    assert!(matches!(joiner.free(at(10)), Err(RefError::NeverAllocated { .. })));
    assert!(matches!(joiner.free(at(1 << 32)), Err(RefError::NeverAllocated { .. })), "a later generation");
    for foreign in [at(1 << 22), at(51 << 16), at(63 << 16), at(40), at(0xffff)] {
        assert!(matches!(joiner.free(foreign), Err(RefError::Foreign { .. })), "{foreign}");
    }
    joiner.free(object).unwrap();
    assert!(matches!(joiner.free(object), Err(RefError::AlreadyFreed { reference }) if reference == object));
    let next = joiner.alloc(5000, 0, 0).unwrap();
    assert_eq!((next.block(), next.generation()), (object.block(), object.generation() + 1));
    assert!(matches!(joiner.free(object), Err(RefError::Stale { found, .. }) if found == next.generation()));
    assert_eq!(joiner.info(next).unwrap().size_bytes, 5000, "the new owner's object is untouched");
}

#[test]
fn of_many_that_free_an_object_one_does() {
    let ground = Ground::new();
    let groove = ground.groove(MIB, 1);
    let joiner = groove.joiner().unwrap();
    let gate = std::sync::Barrier::new(2);
    for _ in 0..2000 {
        let object = joiner.alloc(64, 0, 0).unwrap();
        let free = |joiner: &Joiner| {
            gate.wait();
            match joiner.free(object) {
                Ok(()) => 1,
                Err(RefError::AlreadyFreed { .. } | RefError::Stale { .. }) => 0,
                Err(other) => panic!("{other}"),
            }
        };
        let freed = std::thread::scope(|scope| {
            let other = scope.spawn(|| free(&groove.joiner().unwrap()));
            free(&joiner) + other.join().unwrap()
        });
        assert_eq!(freed, 1);
    }
    assert!(groove.verify().unwrap().is_sound());
}

#[test]
fn everything_that_was_freed_can_be_had_in_any_other_size() {
    let ground = Ground::new();
    let groove = ground.groove(2 * MIB, 1);
    let joiner = groove.joiner().unwrap();
    let max = groove.object_bytes_max();
    let mut random = Pcg64::seed_from_u64(7);
    let fresh: BTreeMap<u64, usize> = [64, 700, 5000, max]
        .into_iter()
        .map(|size| {
            let mut objects = fill(&joiner, size);
            objects.shuffle(&mut random);
            objects.iter().for_each(|object| joiner.free(*object).unwrap());
            (size, objects.len())
        })
        .collect();
    assert_eq!(fresh[&max], 102);
    for (size, count) in fresh.iter().chain(fresh.iter().rev()) {
        let mut objects = fill(&joiner, *size);
        assert_eq!(objects.len(), *count, "objects of {size} bytes");
        objects.shuffle(&mut random);
        objects.iter().for_each(|object| joiner.free(*object).unwrap());
        assert!(groove.verify().unwrap().is_sound());
    }
}

/// A joiner that holds superblocks and does nothing withholds no space.
#[test]
fn an_idle_joiner_withholds_nothing() {
    let ground = Ground::new();
    let groove = ground.groove(MIB, 1);
    let (idle, busy) = (groove.joiner().unwrap(), groove.joiner().unwrap());
    let max = groove.object_bytes_max();
    let count = fill(&busy, max).into_iter().map(|object| busy.free(object).unwrap()).count();
    let mut mine = Vec::new();
    for size in [0, 700, 3000, max] {
        mine.push(idle.alloc(size, 0, 0).unwrap());
    }
    for object in mine {
        busy.free(object).unwrap();
    }
    assert_eq!(fill(&busy, max).len(), count);
    drop(idle);
}

#[test]
fn full_says_why() {
    let ground = Ground::new();
    let groove = ground.groove(MIB, 0);
    let joiner = groove.joiner().unwrap();
    let cause = |size| match joiner.alloc(size, 0, 0) {
        Err(AllocError::Full { cause, .. }) => cause.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(cause(1).contains("no volume"), "{}", cause(1));
    groove.add_volume(b"").unwrap();
    let small = joiner.alloc(1, 0, 0).unwrap();
    fill(&joiner, groove.object_bytes_max());
    let said = cause(5000);
    assert!(said.starts_with("19968 bytes are free"), "{said}");
    joiner.free(small).unwrap();
    joiner.alloc(5000, 0, 0).unwrap();
}

fn check_against_model(groove: &Groove, live: &BTreeMap<ObjRef, (u64, u64)>, joiner: &Joiner) {
    let found: BTreeMap<ObjRef, (u64, u64)> = joiner
        .objects(None)
        .unwrap()
        .into_iter()
        .map(|object| (object.reference, (object.size_bytes, object.tag)))
        .collect();
    assert_eq!(&found, live);
    let report = groove.verify().unwrap();
    assert_eq!((report.objects as usize, &report.faults), (live.len(), &vec![]));
    assert!(groove.verify_softly().unwrap().is_sound());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn calls_do_what_a_model_does(log2 in 20..24_u32, seed: u64, steps in 1..800_usize) {
        let ground = Ground::new();
        let groove = ground.groove(1 << log2, 1);
        let joiners = [groove.joiner().unwrap(), groove.joiner().unwrap()];
        let max = groove.object_bytes_max();
        let mut random = Pcg64::seed_from_u64(seed);
        let mut live: BTreeMap<ObjRef, (u64, u64)> = BTreeMap::new();
        let mut dead = Vec::new();
        for _ in 0..steps {
            let joiner = &joiners[random.random_range(0..2)];
            match random.random_range(0..20) {
                0..11 => {
                    let bits = random.random_range(0..=max.ilog2() + 1);
                    let size = (random.next_u64() & ((1 << bits) - 1)).min(max);
                    let tag = random.next_u64();
                    match joiner.alloc(size, 0, tag) {
                        Ok(object) => prop_assert!(live.insert(object, (size, tag)).is_none()),
                        Err(AllocError::Full { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
                11..18 => {
                    let pick = random.random_range(0..live.len().max(1));
                    if let Some(object) = live.keys().nth(pick).copied() {
                        joiner.free(object).unwrap();
                        live.remove(&object);
                        dead.push(object);
                    }
                }
                18 => {
                    joiner.trim().unwrap();
                }
                _ => {
                    if let Some(object) = dead.last() {
                        prop_assert!(joiner.free(*object).is_err());
                    }
                }
            }
        }
        check_against_model(&groove, &live, &joiners[0]);
        drop(joiners);
        drop(groove);
        let (groove, rebuilt) = Groove::rebuild(&ground.domain, &ground::name()).unwrap();
        prop_assert_eq!(rebuilt.objects as usize, live.len());
        let joiner = groove.joiner().unwrap();
        check_against_model(&groove, &live, &joiner);
        live.keys().for_each(|object| joiner.free(*object).unwrap());
        prop_assert_eq!(fill(&joiner, max).len(), 102);
    }
}

//! Volumes come and go, within one process and seen from other joins.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ground;

use ground::{Ground, MIB, name};
use outlast_groove::{AccessError, AllocError, CreateError, CreateOptions, Groove, RefError, VolumeError};
use outlast_shm::RegionError;

#[test]
fn a_groove_is_what_was_asked_for() {
    let ground = Ground::new();
    for volume_bytes in [0, 1, MIB - 1, MIB / 2, 3 * MIB, 2 << 30, u64::MAX] {
        let made = Groove::create(&ground.domain, &name(), &CreateOptions { volume_bytes });
        assert!(matches!(made, Err(CreateError::VolumeSize { found, .. }) if found == volume_bytes));
    }
    let long = "a".repeat(34).parse().unwrap();
    let options = CreateOptions { volume_bytes: 4 * MIB };
    assert!(matches!(Groove::create(&ground.domain, &long, &options), Err(CreateError::LongName { .. })));
    let groove = Groove::create(&ground.domain, &name(), &options).unwrap();
    assert_eq!((groove.volume_bytes(), groove.object_bytes_max()), (4 * MIB, 40 << 10));
    assert_eq!(CreateOptions::default().volume_bytes, 1 << 30);
    assert!(matches!(
        Groove::create(&ground.domain, &name(), &options),
        Err(CreateError::Access(AccessError::Region(RegionError::Exists { .. })))
    ));
    assert!(matches!(
        Groove::open(&ground.domain, &"h".parse().unwrap()),
        Err(AccessError::Region(RegionError::Missing { .. }))
    ));
}

#[test]
fn volumes_are_added_and_removed() {
    let ground = Ground::new();
    let groove = ground.groove(MIB, 0);
    assert!(matches!(groove.remove_empty_volume(), Err(VolumeError::NoneEmpty)));
    for index in [0, 1, 1024, usize::MAX] {
        assert!(
            matches!(groove.remove_volume(index), Err(VolumeError::Missing { index: found }) if found == index)
        );
        assert!(matches!(groove.drain(index), Err(VolumeError::Missing { .. })));
    }
    for (len, kept) in [(0, 0), (7, 7), (480, 480), (481, 480), (960, 480)] {
        let info: Vec<u8> = (0..len).map(|n| n as u8).collect();
        let index = groove.add_volume(&info).unwrap();
        assert_eq!(index, 0, "the lowest that is vacant");
        let volumes = groove.volumes().unwrap();
        assert_eq!(volumes.len(), 1);
        assert_eq!((&volumes[0].info[..], volumes[0].objects), (&info[..kept], 0));
        groove.remove_volume(index).unwrap();
        assert!(matches!(groove.remove_volume(index), Err(VolumeError::Missing { .. })));
    }
    assert_eq!(std::fs::read_dir(ground.domain.path()).unwrap().count(), 1, "the files are gone");
}

#[test]
fn a_volume_that_holds_objects_stays() {
    let ground = Ground::new();
    let groove = ground.groove(MIB, 2);
    let joiner = groove.joiner().unwrap();
    let object = joiner.alloc(100, 0, 0).unwrap();
    assert_eq!(object.volume(), 0);
    assert!(matches!(groove.remove_volume(0), Err(VolumeError::HoldsObjects { index: 0, objects: 1 })));
    assert!(!groove.volumes().unwrap()[0].is_draining, "as it was");
    assert_eq!(groove.remove_empty_volume().unwrap(), 1);
    let next = joiner.alloc(100, 0, 0).unwrap();
    assert_eq!(next.volume(), 0);
    joiner.free(object).unwrap();
    joiner.free(next).unwrap();
    groove.remove_volume(0).unwrap();
    assert!(matches!(joiner.alloc(100, 0, 0), Err(AllocError::Full { .. })));
}

#[test]
fn a_draining_volume_gives_nothing() {
    let ground = Ground::new();
    let groove = ground.groove(MIB, 2);
    let (joiner, other) =
        (groove.joiner().unwrap(), Groove::open(&ground.domain, &name()).unwrap().joiner().unwrap());
    let held = joiner.alloc(100, 0, 5).unwrap();
    other.alloc(100, 0, 6).unwrap();
    groove.drain(0).unwrap();
    for _ in 0..100 {
        assert_eq!(joiner.alloc(100, 0, 0).unwrap().volume(), 1);
        assert_eq!(other.alloc(100, 0, 0).unwrap().volume(), 1);
    }
    assert_eq!(joiner.info(held).unwrap().tag, 5, "what it holds stays");
    let survivors: Vec<_> =
        joiner.objects(None).unwrap().into_iter().filter(|object| object.reference.volume() == 0).collect();
    assert_eq!(survivors.len(), 2);
    survivors.iter().for_each(|object| other.free(object.reference).unwrap());
    groove.end_drain(0).unwrap();
    assert_eq!(joiner.alloc(5000, 0, 0).unwrap().volume(), 0);
    groove.drain(0).unwrap();
    groove.drain(1).unwrap();
    assert!(matches!(joiner.alloc(1, 0, 0), Err(AllocError::Full { .. })));
}

/// References into a removed volume are stale, also when another has its index, in every join.
#[test]
fn a_removed_volumes_references_are_stale_for_ever() {
    let ground = Ground::new();
    let groove = ground.groove(MIB, 1);
    let other = Groove::open(&ground.domain, &name()).unwrap();
    let (joiner, idle) = (groove.joiner().unwrap(), other.joiner().unwrap());
    let mut last = 0;
    let mut old = Vec::new();
    for _ in 0..20 {
        let object = idle.alloc(100, 0, 0).unwrap();
        assert!(last < object.generation());
        last = object.generation();
        idle.free(object).unwrap();
        old.push(object);
        groove.remove_volume(0).unwrap();
        for joiner in [&joiner, &idle] {
            assert!(matches!(joiner.free(object), Err(RefError::Stale { .. })));
        }
        groove.add_volume(b"").unwrap();
        let fresh = joiner.alloc(100, 0, 9).unwrap();
        for object in &old {
            assert!(matches!(idle.free(*object), Err(RefError::Stale { .. })));
        }
        assert_eq!(idle.info(fresh).unwrap().tag, 9);
        joiner.free(fresh).unwrap();
    }
}

/// Removing goes on against threads that allocate, free and read: none of them loses anything.
#[test]
fn volumes_come_and_go_under_traffic() {
    let ground = Ground::new();
    let groove = ground.groove(MIB, 2);
    let stop = outlast_probe::sync::AtomicBool::new(false);
    let relaxed = outlast_probe::sync::Ordering::Relaxed;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2_u64)
            .map(|worker| {
                let (groove, stop) = (&groove, &stop);
                scope.spawn(move || {
                    let joiner = groove.joiner().unwrap();
                    let (mut held, mut rounds) = (Vec::new(), 0_u64);
                    while !stop.load(relaxed) || rounds < 1000 {
                        rounds += 1;
                        let bytes = [rounds.to_le_bytes(), worker.to_le_bytes()].concat();
                        match joiner.alloc(16 + rounds % 3000, 0, rounds) {
                            Ok(object) => {
                                joiner.write(object, 0, &bytes).unwrap();
                                held.push((object, bytes));
                            }
                            Err(AllocError::Full { .. }) => {}
                            Err(other) => panic!("{other}"),
                        }
                        if held.len() == 40 || rounds % 97 == 0 {
                            for (object, bytes) in held.drain(..) {
                                let mut back = vec![0; 16];
                                joiner.read(object, 0, &mut back).unwrap();
                                assert_eq!(back, bytes);
                                joiner.free(object).unwrap();
                            }
                        }
                    }
                    held.into_iter().for_each(|(object, _)| joiner.free(object).unwrap());
                })
            })
            .collect();
        let mut removed = 0;
        for round in 0..2000 {
            match groove.remove_volume(round % 2) {
                Ok(()) => {
                    removed += 1;
                    groove.add_volume(b"").unwrap();
                }
                Err(VolumeError::HoldsObjects { .. }) => std::thread::yield_now(),
                Err(other) => panic!("{other}"),
            }
        }
        stop.store(true, relaxed);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert!(0 < removed, "no volume was ever removed: nothing was shown");
    });
    let report = groove.verify().unwrap();
    assert_eq!((report.objects, report.faults), (0, vec![]));
    groove.remove_volume(0).unwrap();
    groove.remove_volume(1).unwrap();
}

//! Many threads on one groove, each with a joiner of its own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ground;

use std::sync::Mutex;

use ground::{Ground, MIB};
use outlast_groove::{AllocError, ObjRef};
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64;

/// Threads allocate, check, and free each other's objects in a volume that is too small for them, so that trims and
/// cuts go on all the time.
#[test]
fn what_one_thread_allocates_another_frees() {
    const SHELF: usize = 64;
    let ground = Ground::new();
    let groove = ground.groove(MIB, 1);
    let shelf: Vec<Mutex<Option<(ObjRef, u64, u64)>>> = (0..SHELF).map(|_| Mutex::new(None)).collect();
    let max = groove.object_bytes_max();
    let full = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let (groove, shelf) = (&groove, &shelf);
                scope.spawn(move || {
                    let joiner = groove.joiner().unwrap();
                    let mut random = Pcg64::seed_from_u64(worker);
                    let mut full = 0;
                    for _ in 0..20_000 {
                        let mut slot = shelf[random.random_range(0..SHELF)].lock().unwrap();
                        if let Some((object, size, tag)) = slot.take() {
                            let info = joiner.info(object).unwrap();
                            assert_eq!((info.size_bytes, info.tag), (size, tag));
                            let mut bytes = vec![0; size as usize];
                            joiner.read(object, 0, &mut bytes).unwrap();
                            assert!(bytes.iter().all(|byte| *byte == tag as u8), "another owner's bytes");
                            joiner.free(object).unwrap();
                            continue;
                        }
                        let bits = random.random_range(0..=max.ilog2() + 1);
                        let size = (random.next_u64() & ((1 << bits) - 1)).min(max);
                        let tag = random.next_u64();
                        match joiner.alloc(size, 0, tag) {
                            Ok(object) => {
                                joiner.write(object, 0, &vec![tag as u8; size as usize]).unwrap();
                                *slot = Some((object, size, tag));
                            }
                            Err(AllocError::Full { .. }) => full += 1,
                            Err(other) => panic!("{other}"),
                        }
                    }
                    full
                })
            })
            .collect();
        for _ in 0..20 {
            let report = groove.verify_softly().unwrap();
            assert!(report.is_sound(), "{:?}", report.faults);
        }
        workers.into_iter().map(|worker| worker.join().unwrap()).sum::<u64>()
    });
    println!("{full} times full");
    let joiner = groove.joiner().unwrap();
    let left: Vec<ObjRef> =
        shelf.iter().filter_map(|slot| *slot.lock().unwrap()).map(|held| held.0).collect();
    let report = groove.verify().unwrap();
    assert_eq!((report.objects as usize, report.faults), (left.len(), vec![]));
    left.iter().for_each(|object| joiner.free(*object).unwrap());
    let largest = (0..).take_while(|_| joiner.alloc(max, 0, 0).is_ok()).count();
    assert_eq!(largest, 102, "everything can be had again");
}

//! A peer writes any word of the tables at any time: calls answer with typed errors, and neither panic nor hang.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ground;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::mpsc;
use std::time::Duration;

use ground::{Ground, MIB, name};
use outlast_groove::{Groove, Joiner, ObjRef};
use outlast_probe::sync::{AtomicBool, Ordering};
use outlast_shm::USER_OFFSET;
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64;

const WATCHDOG: Duration = Duration::from_secs(120);
const WRITES: usize = 60_000;

fn file(ground: &Ground, name: &str) -> File {
    File::options().read(true).write(true).open(ground.domain.path().join(name)).unwrap()
}

/// A word that may do harm: random, or one that is somewhere in the tables, or one bit from what was there.
fn poison(random: &mut Pcg64, file: &File, at: u64, len: u64) -> u64 {
    let mut word = [0; 8];
    match random.random_range(0..4) {
        0 => random.next_u64(),
        1 => random.random_range(0..6) | random.next_u64() << 58,
        2 => {
            let from = USER_OFFSET + 8 * random.random_range(0..(len - USER_OFFSET) / 8);
            file.read_exact_at(&mut word, from).unwrap();
            u64::from_le_bytes(word)
        }
        _ => {
            file.read_exact_at(&mut word, at).unwrap();
            u64::from_le_bytes(word) ^ 1 << random.random_range(0..64)
        }
    }
}

/// Every call there is; what it answers is its own affair.
fn call(groove: &Groove, joiner: &Joiner, random: &mut Pcg64, held: &mut Vec<ObjRef>) {
    match random.random_range(0..100) {
        0..45 => held.extend(joiner.alloc(random.next_u64() % 9000, 0, 1)),
        45..85 => {
            let pick = random.random_range(0..held.len().max(1));
            if pick < held.len() {
                let _ = joiner.free(held.swap_remove(pick));
            }
        }
        85..88 => drop(joiner.free(ObjRef::from_bits(random.next_u64() & 0xf_0000_0fff))),
        88..91 => {
            let mut bytes = [0; 100];
            let _ = held.last().map(|object| joiner.read(*object, 0, &mut bytes));
            let _ = held.last().map(|object| joiner.write(*object, 0, &bytes));
        }
        91..94 => drop(held.last().map(|object| joiner.info(*object))),
        94 => drop(joiner.trim()),
        95 => drop(joiner.objects(Some(1))),
        96 => drop(groove.verify_softly()),
        97 => drop(groove.verify()),
        98 => drop(groove.volumes()),
        _ => drop(groove.adopt()),
    }
    if 2000 < held.len() {
        held.clear();
    }
}

/// Whether `work` ends in time; its thread is left behind if not.
fn ends(work: impl FnOnce() + Send + 'static) -> bool {
    let (done, wait) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    match wait.recv_timeout(WATCHDOG) {
        Ok(()) => thread.join().is_ok(),
        Err(mpsc::RecvTimeoutError::Disconnected) => false,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("a call hangs"),
    }
}

fn attack(target: &'static str, tables_bytes: u64, seed: u64) {
    assert!(ends(move || {
        let ground = Ground::new();
        let groove = ground.groove(2 * MIB, 2);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Before anything is written: afterwards nobody may get one any more.
            let joiners = [0, 1].map(|worker| (worker, groove.joiner().unwrap()));
            for (worker, mut joiner) in joiners {
                let (groove, stop) = (&groove, &stop);
                scope.spawn(move || {
                    let mut random = Pcg64::seed_from_u64(seed * 100 + worker);
                    let mut held = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        call(groove, &joiner, &mut random, &mut held);
                        if random.random_range(0..1000) == 0 {
                            // A seat may be had or not.
                            joiner = groove.joiner().unwrap_or(joiner);
                        }
                    }
                });
            }
            let mut random = Pcg64::seed_from_u64(seed);
            let file = file(&ground, target);
            for _ in 0..WRITES {
                let at = USER_OFFSET + 8 * random.random_range(0..tables_bytes / 8);
                let word = poison(&mut random, &file, at, USER_OFFSET + tables_bytes);
                file.write_all_at(&word.to_le_bytes(), at).unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        });
        let _ = groove.remove_volume(0);
        let _ = groove.drain(1);
        let _ = groove.add_volume(b"");
        drop(groove);
        // Sound if it succeeds, a typed error if not.
        if let Ok((groove, _)) = Groove::rebuild(&ground.domain, &name()) {
            assert_eq!(groove.verify().unwrap().faults, vec![]);
        }
    }));
}

#[test]
fn a_volume_under_attack() {
    (0..4).for_each(|seed| attack("g.v0000", 77_824, seed));
}

/// The words that everybody looks at first.
#[test]
fn superblocks_under_attack() {
    (10..14).for_each(|seed| attack("g.v0000", 12_288, seed));
}

#[test]
fn a_control_region_under_attack() {
    (20..22).for_each(|seed| attack("g", 135_000, seed));
    (22..24).for_each(|seed| attack("g", 512, seed));
}

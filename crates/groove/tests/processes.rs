//! Processes that allocate and free are killed at random moments while others go on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ground;

use std::os::unix::process::parent_id;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ground::{Ground, MIB, name};
use outlast_groove::{AllocError, Groove, Joiner, ObjRef, RefError};
use outlast_probe::sync::{Ordering, crash_fence};
use outlast_shm::{Domain, Draft, Region, RegionName, Spec, USER_OFFSET, Words};
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64;

/// Lane and domain of a child, and what is killed in it, if anything is to be.
const LANE: &str = "OUTLAST_GROOVE_LANE";
const DOMAIN: &str = "OUTLAST_GROOVE_DOMAIN";
const ENTRIES: usize = 128;
const LANES: usize = 3;
const WATCHDOG: Duration = Duration::from_secs(60);

/// What a child says of one place on its shelf: the reference, the phase, the tag.
const REF: usize = 0;
const PHASE: usize = 1;
const TAG: usize = 2;
/// Phases: nothing there; `alloc` is being called; an object is there; `free` is being called.
const EMPTY: u64 = 0;
const ALLOCATING: u64 = 1;
const HERE: u64 = 2;
const FREEING: u64 = 3;
/// Words before the shelf: calls that have returned, and whether to stop.
const CALLS: usize = 0;
const STOP: usize = 1;
const SHELF: usize = 8;

fn journal_spec() -> Spec {
    Spec::new(7, 7, USER_OFFSET + 4096)
}

fn journal_name(lane: usize) -> RegionName {
    format!("journal{lane}").as_str().parse().unwrap()
}

fn words(region: &Region) -> Words<'_> {
    region.words(USER_OFFSET..USER_OFFSET + 4096).unwrap()
}

const _: () = assert!((SHELF + ENTRIES * 3) * 8 <= 4096);

/// The child: does nothing unless it is asked to by its environment.
#[test]
fn actor() {
    let (Ok(lane), Ok(path)) = (std::env::var(LANE), std::env::var(DOMAIN)) else { return };
    let (lane, parent) = (lane.parse::<usize>().unwrap(), parent_id());
    let domain = Domain::open(Path::new(&path)).unwrap();
    let region = Region::open(&domain, &journal_name(lane), &journal_spec().expect()).unwrap();
    let journal = words(&region);
    let joiner = Groove::open(&domain, &name()).unwrap().joiner().unwrap();
    let mut random = Pcg64::seed_from_u64(std::process::id().into());
    // Relaxed, all of this: the parent reads when the child is dead.
    let store = |at, value| {
        crash_fence();
        journal.store(at, value, Ordering::Relaxed);
        crash_fence();
    };
    let load = |at| journal.load(at, Ordering::Relaxed);
    let mut calls = 0;
    while load(STOP) == 0 {
        let word = random.next_u64();
        let at = SHELF + 3 * (word as usize % ENTRIES);
        if load(at + PHASE) == HERE {
            store(at + PHASE, FREEING);
            joiner.free(ObjRef::from_bits(load(at + REF))).unwrap();
            store(at + PHASE, EMPTY);
        } else {
            store(at + TAG, word);
            store(at + PHASE, ALLOCATING);
            match joiner.alloc(size_of(word), 0, word) {
                Ok(object) => {
                    store(at + REF, object.to_bits());
                    store(at + PHASE, HERE);
                }
                Err(AllocError::Full { .. }) => store(at + PHASE, EMPTY),
                Err(other) => panic!("{other}"),
            }
        }
        calls += 1;
        store(CALLS, calls);
        assert!(calls % 1024 != 0 || parent_id() == parent, "the parent is gone");
    }
}

/// Mostly small, up to 16 KiB.
fn size_of(word: u64) -> u64 {
    let bits = (word >> 32) % 15;
    (word >> 40) & ((1 << bits) - 1)
}

/// A child that does not outlive its handle.
struct Lane(Child);

impl Drop for Lane {
    fn drop(&mut self) {
        // Both fail if it has been reaped already, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(domain: &Domain, lane: usize) -> Lane {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["actor", "--exact", "--nocapture"]);
    command.env(LANE, lane.to_string()).env(DOMAIN, domain.path());
    Lane(command.stdout(Stdio::null()).spawn().unwrap())
}

fn wait_for_calls(journal: &Words<'_>, child: &mut Child) {
    let begin = Instant::now();
    while journal.load(CALLS, Ordering::Relaxed) < 100 {
        assert!(child.try_wait().unwrap().is_none(), "the child has ended by itself");
        assert!(begin.elapsed() < WATCHDOG, "the child does nothing");
        std::thread::yield_now();
    }
}

/// Looks at what a dead child left, and frees it. Returns how many calls were under way: one or none.
fn settle(joiner: &Joiner, journal: &Words<'_>) -> usize {
    let load = |at| journal.load(at, Ordering::Relaxed);
    let mut landed = 0;
    for at in (0..ENTRIES).map(|entry| SHELF + 3 * entry) {
        let (object, tag) = (ObjRef::from_bits(load(at + REF)), load(at + TAG));
        match load(at + PHASE) {
            EMPTY => {
                if !object.is_null() && !matches!(joiner.info(object), Err(RefError::AlreadyFreed { .. })) {
                    assert!(matches!(joiner.info(object), Err(RefError::Stale { .. })), "freed and there");
                }
            }
            ALLOCATING => {
                landed += 1;
                let mut orphans = joiner.objects(Some(tag)).unwrap();
                assert!(orphans.len() <= 1);
                if let Some(orphan) = orphans.pop() {
                    assert_eq!(orphan.size_bytes, size_of(tag));
                    joiner.free(orphan.reference).unwrap();
                }
            }
            HERE => {
                let info = joiner.info(object).unwrap();
                assert_eq!((info.tag, info.size_bytes), (tag, size_of(tag)), "another's object");
                joiner.free(object).unwrap();
            }
            FREEING => {
                landed += 1;
                match joiner.free(object) {
                    Ok(()) | Err(RefError::AlreadyFreed { .. } | RefError::Stale { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            other => panic!("phase {other}"),
        }
    }
    (0..SHELF + 3 * ENTRIES).for_each(|at| journal.store(at, 0, Ordering::Relaxed));
    assert!(landed <= 1);
    landed
}

#[test]
fn killed_processes_lose_nothing_and_stop_nobody() {
    const KILLS: usize = 40;
    let ground = Ground::new();
    let groove = ground.groove(2 * MIB, 2);
    let joiner = groove.joiner().unwrap();
    let journals: Vec<Region> = (0..LANES)
        .map(|lane| {
            Draft::new(&ground.domain, &journal_name(lane), &journal_spec()).unwrap().publish().unwrap()
        })
        .collect();
    let mut children: Vec<Lane> = (0..LANES).map(|lane| start(&ground.domain, lane)).collect();
    let mut random = Pcg64::seed_from_u64(3);
    let (mut landed, mut adopted) = (0, 0);
    for _ in 0..KILLS {
        let lane = random.random_range(0..LANES);
        let journal = words(&journals[lane]);
        wait_for_calls(&journal, &mut children[lane].0);
        // Not to wait for anything: the kill shall come at any instruction.
        std::thread::sleep(Duration::from_micros(random.random_range(0..500)));
        children[lane].0.kill().unwrap();
        children[lane].0.wait().unwrap();
        let done = groove.adopt().unwrap();
        adopted += done.undone + done.finished_frees;
        assert_eq!(groove.verify_softly().unwrap().faults, vec![]);
        landed += settle(&joiner, &journal);
        children[lane] = start(&ground.domain, lane);
    }
    println!("{landed} of {KILLS} kills landed in a call, {adopted} of them with a slot in hand");
    assert!(0 < landed, "no kill landed in a call: nothing was shown");
    for (journal, child) in journals.iter().zip(&mut children) {
        wait_for_calls(&words(journal), &mut child.0);
        words(journal).store(STOP, 1, Ordering::Relaxed);
        assert!(child.0.wait().unwrap().success());
        settle(&joiner, &words(journal));
    }
    let report = groove.verify().unwrap();
    assert_eq!((report.objects, report.faults), (0, vec![]));
    let largest = (0..).take_while(|_| joiner.alloc(groove.object_bytes_max(), 0, 0).is_ok()).count();
    assert_eq!(largest, 204, "everything can be had again");
}

#[cfg(not(outlast_probes))]
#[test]
fn a_kill_at_every_probe_is_survived() {
    println!("skipped: there are no probes in this build; set RUSTFLAGS=\"--cfg outlast_probes\"");
}

/// The probe that a child dies at.
#[cfg(outlast_probes)]
const PROBE: &str = "OUTLAST_GROOVE_PROBE";

#[cfg(outlast_probes)]
mod armed {
    use std::sync::OnceLock;

    use outlast_groove::{AllocError, CreateError, VolumeError};
    use outlast_probe::registry::{PROBES, Probe, duplicate, install};

    use super::*;

    /// Tag of what the victim frees again; those that are kept have others.
    const FILLER: u64 = 1000;
    static TARGET: OnceLock<String> = OnceLock::new();

    fn die_at_target(probe: &'static Probe, _: &[u64]) -> Option<i32> {
        if TARGET.get().is_some_and(|target| target == probe.name()) {
            std::process::abort();
        }
        None
    }

    /// Passes every probe of the crate, and dies at one.
    #[test]
    fn victim() {
        let (Ok(target), Ok(path)) = (std::env::var(PROBE), std::env::var(DOMAIN)) else { return };
        let domain = Domain::open(Path::new(&path)).unwrap();
        TARGET.set(target).unwrap();
        assert!(install(die_at_target));
        let groove = Groove::open(&domain, &name()).unwrap();
        groove.adopt().unwrap();
        let joiner = groove.joiner().unwrap();
        let objects: Vec<ObjRef> = (0..100).map(|tag| joiner.alloc(100, 0, tag + 100).unwrap()).collect();
        while !matches!(joiner.alloc(3000, 0, FILLER), Err(AllocError::Full { .. })) {}
        objects.into_iter().for_each(|object| joiner.free(object).unwrap());
        for object in joiner.objects(Some(FILLER)).unwrap() {
            joiner.free(object.reference).unwrap();
        }
        joiner.trim().unwrap();
        let index = groove.add_volume(b"").unwrap();
        groove.remove_volume(index).unwrap();
        assert!(matches!(groove.remove_volume(9), Err(VolumeError::Missing { .. })));
        drop((joiner, groove));
        match Groove::rebuild(&domain, &name()) {
            Ok(_) => {}
            Err(CreateError::Busy { .. }) => panic!("nobody else is here"),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_kill_at_every_probe_is_survived() {
        assert_eq!(duplicate(), None);
        let probes: Vec<&str> =
            PROBES.iter().map(|probe| probe.name()).filter(|name| name.starts_with("groove.")).collect();
        assert!(15 < probes.len(), "{probes:?}");
        for probe in probes {
            let ground = Ground::new();
            let groove = ground.groove(2 * MIB, 1);
            let joiner = groove.joiner().unwrap();
            let kept: Vec<ObjRef> = (0..50).map(|tag| joiner.alloc(100, 0, tag).unwrap()).collect();
            drop((joiner, groove));
            // A dead one's seat, for the adoption to find.
            die_at(&ground, "groove.take.held");
            die_at(&ground, probe);
            check(&ground, &kept, probe);
        }
    }

    /// A process that passes every probe dies at one.
    fn die_at(ground: &Ground, probe: &str) {
        let mut victim = Command::new(std::env::current_exe().unwrap());
        victim.args(["armed::victim", "--exact", "--nocapture"]);
        victim.env(PROBE, probe).env(DOMAIN, ground.domain.path());
        let output = victim.stdout(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && !said.contains("panicked"), "{probe} was not reached: {said}");
    }

    /// First a survivor, then a rebuild.
    fn check(ground: &Ground, kept: &[ObjRef], probe: &str) {
        let survive = |groove: Groove| {
            groove.adopt().unwrap();
            assert_eq!(groove.verify().unwrap().faults, vec![], "{probe}");
            let joiner = groove.joiner().unwrap();
            for (tag, object) in kept.iter().enumerate() {
                assert_eq!(joiner.info(*object).unwrap().tag, tag as u64, "{probe}");
            }
        };
        match Groove::open(&ground.domain, &name()) {
            Ok(groove) => survive(groove),
            // Killed in the middle of a rebuild.
            Err(other) => assert!(probe.starts_with("groove.rebuild."), "{probe}: {other}"),
        }
        survive(Groove::rebuild(&ground.domain, &name()).unwrap().0);
    }
}

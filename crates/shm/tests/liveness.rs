//! The lock survives whoever holds it: kills, stops, forged records, slots that are given out again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod actors;

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use actors::{Actor, EXPECT, Place, Stage, WATCHDOG, name, play};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;
use outlast_shm::{Liveness, LockError, LockGuard, Region};

const SHORT: Duration = Duration::from_millis(30);

#[test]
fn actor() {
    play(&[("hold", hold), ("join", join), ("wait", wait)]);
}

/// Takes the lock, says whether it had to recover, and holds it to the end.
fn hold(mut stage: Stage) {
    let region = stage.region();
    let guard = region.lock(WATCHDOG).unwrap();
    stage.line.say(if guard.needs_recovery() { "recovering" } else { "locked" });
    stage.until_the_end();
    drop(guard);
}

/// Joins, tells its slot, and leaves at the end.
fn join(mut stage: Stage) {
    let region = stage.region();
    stage.line.say(&region.slot().unwrap().to_string());
    stage.until_the_end();
}

/// Waits for the lock, recovers if told to, and lets go at once.
fn wait(mut stage: Stage) {
    let region = stage.region();
    stage.line.say("waiting");
    let mut guard = region.lock(WATCHDOG).unwrap();
    stage.line.say(if guard.needs_recovery() { "recovered" } else { "locked" });
    guard.mark_recovered();
    guard.unlock().unwrap();
    stage.until_the_end();
}

fn holder(place: &Place) -> Actor {
    let mut actor = place.actor("hold");
    actor.line.expect("locked");
    actor
}

/// Waits until somebody sleeps for the lock.
fn until_somebody_sleeps(region: &Region) {
    let start = Instant::now();
    while !region.lock_state().has_waiters {
        assert!(start.elapsed() < WATCHDOG, "somebody sleeps");
        std::thread::yield_now();
    }
}

#[test]
fn a_killed_holder_is_taken_over_and_named() {
    let (place, region) = Place::with_region();
    let actor = holder(&place);
    let pid = actor.pid();
    assert!(
        matches!(region.lock(SHORT), Err(LockError::Busy { owner: Some(owner), .. }) if owner.pid == pid)
    );
    actor.kill();
    assert_eq!(region.lock_state().holder.unwrap().liveness, Liveness::Dead);
    let guard = region.lock(WATCHDOG).unwrap();
    assert!(guard.needs_recovery());
    assert_eq!(guard.taken_from().unwrap().pid, pid);
    guard.unlock().unwrap();
    assert!(region.lock_state().needs_recovery, "nobody has recovered");
    let mut guard = region.lock(WATCHDOG).unwrap();
    assert!(guard.needs_recovery() && guard.taken_from().is_none());
    guard.mark_recovered();
    assert!(!guard.needs_recovery());
    guard.unlock().unwrap();
    assert!(!region.lock(WATCHDOG).unwrap().needs_recovery());
}

#[test]
fn a_dead_holder_is_found_without_a_wait() {
    let (place, region) = Place::with_region();
    holder(&place).kill();
    assert!(region.lock(Duration::ZERO).unwrap().needs_recovery());
}

#[test]
fn a_killed_recoverer_leaves_the_recovery_to_the_next() {
    let (place, region) = Place::with_region();
    holder(&place).kill();
    for _ in 0..3 {
        let mut recoverer = place.actor("hold");
        recoverer.line.expect("recovering");
        recoverer.kill();
    }
    assert!(region.lock(WATCHDOG).unwrap().needs_recovery());
}

#[test]
fn every_sleeper_gets_the_lock_of_a_killed_holder() {
    let (place, region) = Place::with_region();
    let holder = holder(&place);
    let mut sleepers: Vec<_> = (0..4).map(|_| place.actor("wait")).collect();
    sleepers.iter_mut().for_each(|sleeper| sleeper.line.expect("waiting"));
    until_somebody_sleeps(&region);
    holder.kill();
    let mut heard: Vec<_> = sleepers.iter_mut().map(|sleeper| sleeper.line.hear()).collect();
    heard.sort();
    assert_eq!(heard, ["locked", "locked", "locked", "recovered"], "one death, one recovery");
    sleepers.into_iter().for_each(Actor::finish);
    assert!(!region.lock_state().needs_recovery);
}

#[test]
fn a_sleeper_is_woken_by_an_unlock() {
    let (place, region) = Place::with_region();
    let guard = region.lock(WATCHDOG).unwrap();
    let mut sleeper = place.actor("wait");
    sleeper.line.expect("waiting");
    until_somebody_sleeps(&region);
    guard.unlock().unwrap();
    sleeper.line.expect("locked");
    sleeper.finish();
}

#[test]
fn a_stopped_holder_is_busy_and_not_robbed() {
    let (place, region) = Place::with_region();
    let actor = holder(&place);
    actor.signal(Signal::SIGSTOP);
    let busy = region.lock(SHORT).map(|_| ()).unwrap_err();
    let LockError::Busy { owner: Some(owner), waited, .. } = busy else { panic!("{busy}") };
    assert_eq!((owner.pid, owner.liveness), (actor.pid(), Liveness::Alive));
    assert!(SHORT <= waited);
    actor.signal(Signal::SIGCONT);
    actor.finish();
    assert!(!region.lock(WATCHDOG).unwrap().needs_recovery());
}

#[test]
fn a_dead_holders_slot_is_not_given_out_before_the_recovery() {
    let (place, region) = Place::with_region();
    holder(&place).kill();
    let mut joiner = place.actor("join");
    joiner.line.expect("2");
    region.lock(WATCHDOG).unwrap().mark_recovered();
    let mut next = place.actor("join");
    next.line.expect("1");
    assert_eq!(region.joiners()[1].generation, 2);
    joiner.finish();
    next.finish();
}

#[test]
fn a_thread_that_ends_with_the_lock_is_a_dead_holder() {
    let (place, region) = Place::with_region();
    let second = Region::open(&place.domain, &name("r"), &EXPECT).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| std::mem::forget(second.lock(WATCHDOG).unwrap()));
    });
    let guard = region.lock(WATCHDOG).unwrap();
    assert!(guard.needs_recovery());
    assert_eq!(guard.taken_from().unwrap().pid, std::process::id());
}

#[test]
fn another_process_finds_the_ended_thread_too() {
    let (place, region) = Place::with_region();
    std::thread::scope(|scope| {
        scope.spawn(|| std::mem::forget(region.lock(WATCHDOG).unwrap()));
    });
    let mut actor = place.actor("wait");
    actor.line.expect("waiting");
    actor.line.expect("recovered");
    actor.finish();
}

#[test]
fn a_holder_that_left_is_a_dead_holder() {
    let (place, region) = Place::with_region();
    let path = place.domain.path().join("r");
    let guard = region.lock(WATCHDOG).unwrap();
    std::mem::forget(guard);
    drop(region);
    assert_eq!(slot_words(&path, 0)[0], 0, "the slot is free, and the lock word names it");
    let region = Region::open(&place.domain, &name("r"), &EXPECT).unwrap();
    assert_eq!(region.slot().unwrap().index(), 1, "it is not given out");
    assert!(region.lock(WATCHDOG).unwrap().needs_recovery());
}

// ---- Forged records, written as docs/format/region.md says.

const SLOTS: u64 = 4096;
const LOCK: u64 = 256;
const FORGED: u64 = 5;

fn slot_words(path: &std::path::Path, slot: u64) -> Vec<u64> {
    let mut bytes = [0; 256];
    std::fs::File::open(path).unwrap().read_exact_at(&mut bytes, SLOTS + slot * 256).unwrap();
    bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
}

fn fnv(words: &[u64]) -> u64 {
    words.iter().flat_map(|word| word.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A lock word of a thread of the joiner in slot [`FORGED`].
fn lock_word(generation: u64, tid: u64) -> u64 {
    (FORGED + 1) << 2 | 77 << 11 | tid << 32 | generation << 54
}

/// A region whose lock is held by slot 5, which holds a changed copy of this process's own record, and whose
/// proof of life is really held, by an open file description of this process.
fn forged(change: impl FnOnce(&mut [u64]), damage: u64) -> (Place, Region, std::fs::File) {
    let (place, region) = Place::with_region();
    let path = place.domain.path().join("r");
    let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    let mut words = slot_words(&path, 0);
    let tid = words[2] >> 32;
    change(&mut words);
    let hashed: Vec<u64> = [FORGED].into_iter().chain(words[1..9].iter().copied()).collect();
    words[9] = fnv(&hashed) ^ damage;
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    file.write_all_at(&bytes, SLOTS + FORGED * 256).unwrap();
    file.write_all_at(&lock_word(words[1], tid).to_le_bytes(), LOCK).unwrap();
    let proof = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as i16,
        l_whence: nix::libc::SEEK_SET as i16,
        l_start: (1 << 62) + FORGED as i64,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_OFD_SETLK(&proof)).unwrap();
    (place, region, file)
}

fn busy(result: Result<LockGuard<'_>, LockError>) -> Liveness {
    match result.map(|_| ()).unwrap_err() {
        LockError::Busy { owner: Some(owner), .. } => owner.liveness,
        error => panic!("{error}"),
    }
}

#[test]
fn a_true_copy_of_a_live_record_is_alive() {
    let (_place, region, file) = forged(|_| {}, 0);
    assert_eq!(busy(region.lock(SHORT)), Liveness::Alive);
    drop(file);
    assert!(region.lock(WATCHDOG).unwrap().needs_recovery(), "until its proof of life ends");
}

#[test]
fn a_live_pid_with_another_start_time_is_dead() {
    let (_place, region, _file) = forged(|words| words[3] += 1, 0);
    let guard = region.lock(WATCHDOG).unwrap();
    assert!(guard.needs_recovery());
    assert_eq!(guard.taken_from().unwrap().slot.index(), FORGED as usize);
}

#[test]
fn what_cannot_be_judged_is_never_robbed() {
    type Change = fn(&mut [u64]);
    let cases: [(&str, Change, u64); 6] = [
        ("another boot", |words| words[4] ^= 1, 0),
        ("another pid namespace", |words| words[6] ^= 1, 0),
        ("another time namespace", |words| words[7] ^= 1, 0),
        ("another start time, in another namespace", |words| (words[3], words[6]) = (words[3] + 1, 1), 0),
        ("another start time, but a wrong check", |words| words[3] += 1, 1),
        ("neither free nor live", |words| (words[0], words[3]) = (2, words[3] + 1), 0),
    ];
    for (what, change, damage) in cases {
        let (_place, region, file) = forged(change, damage);
        assert_eq!(busy(region.lock(SHORT)), Liveness::Unknown, "{what}");
        drop(file);
        assert!(region.lock(WATCHDOG).unwrap().needs_recovery(), "{what}: dead when its proof of life ends");
    }
}

#[test]
fn a_holder_of_an_earlier_generation_is_dead() {
    let (_place, region, file) = forged(|_| {}, 0);
    let tid = nix::unistd::gettid().as_raw().cast_unsigned();
    file.write_all_at(&lock_word(0, tid.into()).to_le_bytes(), LOCK).unwrap();
    let guard = region.lock(WATCHDOG).unwrap();
    assert!(guard.needs_recovery() && guard.taken_from().is_none(), "the slot holds somebody else by now");
}

#[test]
fn an_overwritten_lock_word_is_noticed_on_unlock() {
    let (place, region) = Place::with_region();
    let file = std::fs::File::options().write(true).open(place.domain.path().join("r")).unwrap();
    let guard = region.lock(WATCHDOG).unwrap();
    assert!(guard.is_held());
    file.write_all_at(&[0; 8], LOCK).unwrap();
    assert!(!guard.is_held());
    assert!(matches!(guard.unlock(), Err(LockError::Stolen { found: 0, .. })));
    region.lock(Duration::ZERO).unwrap().unlock().unwrap();
}

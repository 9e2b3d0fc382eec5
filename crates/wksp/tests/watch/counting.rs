//! What is counted, by whom, and what is left of a joiner that is gone.

use outlast_wksp::{Counter, Gaddr, JoinerState, Value};

use crate::actor::Place;

#[test]
fn every_call_is_counted_once() {
    let place = Place::new(64 << 10);
    let (wksp, watch) = (place.join(), place.watch());
    let blocks: Vec<_> = (1..=10).map(|size| wksp.alloc(size, 64, size).unwrap()).collect();
    wksp.free(blocks[0]).unwrap();
    wksp.free_at(blocks[1].gaddr()).unwrap();
    assert_eq!(wksp.tag_free(&[3, 4]).unwrap(), (2, 7));
    wksp.free(blocks[0]).unwrap_err();
    wksp.free_at(blocks[1].gaddr()).unwrap_err();
    wksp.alloc(1 << 20, 64, 1).unwrap_err();
    wksp.alloc(0, 64, 1).unwrap_err();
    let snapshot = watch.snapshot().unwrap();
    let [joiner] = snapshot.joiners[..] else { panic!("{snapshot:?}") };
    let found = Counter::ALL.map(|counter| joiner.values.get(counter));
    // A call that is refused for its arguments never took the lock, and counts nowhere.
    let expected = [10, 55, 4, 10, 0, 0, 1, 2, 0].map(Value::Measured);
    assert_eq!(found, expected);
    assert_eq!((joiner.key.pid, joiner.state), (std::process::id(), JoinerState::Alive));
    assert_eq!((joiner.live_bytes(), snapshot.live_bytes()), (Some(45), Some(45)));
    assert_eq!((snapshot.used_bytes, snapshot.used_count), (Value::Measured(45), Value::Measured(6)));
}

#[test]
fn a_free_of_anothers_block_is_a_remote_one() {
    let place = Place::new(1 << 20);
    let mut other = place.actor("hold");
    other.expect("ready");
    let (wksp, watch) = (place.join(), place.watch());
    let own = wksp.alloc(100, 64, 1).unwrap();
    let mut gaddrs = vec![];
    for size in [1000, 2000, 4000] {
        other.say(&size.to_string());
        gaddrs.push(Gaddr::new(other.expect("gaddr").parse().unwrap()).unwrap());
    }
    // The bytes of a known allocation are there before its caller hears of it.
    let others = watch.snapshot().unwrap().joiners[0];
    assert_eq!(
        (others.key.pid, others.values.get(Counter::AllocBytes)),
        (other.pid(), Value::Measured(7000))
    );
    wksp.free_at(gaddrs[0]).unwrap();
    wksp.rebuild(7).unwrap();
    wksp.free_at(gaddrs[1]).unwrap();
    wksp.free(own).unwrap();
    let snapshot = watch.snapshot().unwrap();
    let mine = snapshot.joiners[1];
    let value = |counter| mine.values.get(counter).known().unwrap();
    assert_eq!((value(Counter::FreeCount), value(Counter::FreeBytes)), (3, 3100));
    assert_eq!((value(Counter::RemoteFreeCount), value(Counter::RemoteFreeBytes)), (2, 3000));
    assert_eq!(mine.live_bytes(), Some(-3000), "one joiner alone may be negative");
    assert_eq!(snapshot.live_bytes(), Some(4000));
    assert_eq!(snapshot.used_bytes, Value::Measured(4000));
}

#[test]
fn the_dead_and_the_left_keep_their_last_values() {
    let place = Place::new(1 << 20);
    let (mut killed, mut leaver) = (place.actor("hold"), place.actor("churn"));
    killed.expect("ready");
    leaver.expect("ready");
    killed.say("5000");
    killed.expect("gaddr");
    let watch = place.watch();
    let pids = [killed.pid(), leaver.pid()];
    killed.kill();
    leaver.say("stop");
    let account = leaver.expect("account");
    let (count, bytes) = account.split_once(' ').unwrap();
    assert!(leaver.end().success());
    let snapshot = watch.snapshot().unwrap();
    let of = |pid| *snapshot.joiners.iter().find(|joiner| joiner.key.pid == pid).unwrap();
    let [dead, left] = pids.map(of);
    assert_eq!((dead.state, left.state), (JoinerState::Dead, JoinerState::Left));
    assert_eq!(dead.values.get(Counter::AllocBytes), Value::Dead(5000));
    for (counter, expected) in [
        (Counter::AllocCount, count),
        (Counter::AllocBytes, bytes),
        (Counter::FreeCount, count),
        (Counter::FreeBytes, bytes),
        (Counter::RemoteFreeCount, "0"),
    ] {
        assert_eq!(left.values.get(counter), Value::Dead(expected.parse().unwrap()), "{counter:?}");
    }
    // The next joiner takes the first slot, with another generation and from zero.
    let _wksp = place.join();
    let later = watch.snapshot().unwrap();
    let mine = later.joiners.iter().find(|joiner| joiner.key.pid == std::process::id()).unwrap();
    let before = snapshot.joiners.iter().find(|joiner| joiner.key.slot == mine.key.slot).unwrap();
    assert_eq!(mine.key.generation, before.key.generation + 1);
    assert_eq!(mine.values.get(Counter::AllocCount), Value::Measured(0));
    assert_eq!(later.value(&before.key, Counter::AllocCount), Value::Absent);
}

#[test]
fn nobody_is_an_empty_list_and_not_a_zero() {
    let place = Place::new(1 << 20);
    let path = place.path();
    // The test's own join of a moment ago has left; wipe the table, as in a region that nobody has joined.
    let file = std::fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 65536], 4096).unwrap();
    let snapshot = place.watch().snapshot().unwrap();
    assert_eq!(snapshot.joiners, []);
    assert_eq!((snapshot.sum(Counter::AllocBytes), snapshot.live_bytes()), (None, None));
    assert_eq!(snapshot.used_bytes, Value::Measured(0));
}

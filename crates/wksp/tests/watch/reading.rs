//! That a look changes nothing, sees nothing half, and says so when the workspace is another one.

use std::hash::{DefaultHasher, Hasher};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use nix::sys::signal::Signal;
use outlast_wksp::{AttachError, Counter, CreateOptions, Value, Watch, WatchError, WatchStop, Wksp};

use crate::actor::Place;

fn hash(place: &Place) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(&std::fs::read(place.path()).unwrap());
    hasher.finish()
}

#[test]
fn any_number_of_snapshots_leaves_the_region_as_it_was() {
    let place = Place::new(256 << 10);
    let mut actor = place.actor("churn");
    actor.expect("ready");
    actor.stop();
    let before = hash(&place);
    assert_eq!(before, hash(&place), "it is stopped");
    for _ in 0..20 {
        let watch = place.watch();
        (0..50).for_each(|_| drop(watch.snapshot().unwrap()));
    }
    assert_eq!(hash(&place), before);
    // The check can fail: a joiner that is no watcher changes the region.
    drop(place.join());
    assert_ne!(hash(&place), before);
    actor.go_on();
    actor.say("stop");
    actor.expect("account");
    assert!(actor.end().success(), "it was not disturbed");
}

#[test]
fn a_store_through_the_mapping_is_a_fault() {
    let place = Place::new(64 << 10);
    let before = hash(&place);
    let mut actor = place.actor("fault");
    actor.expect("ready");
    assert_eq!(actor.end().signal(), Some(Signal::SIGSEGV as i32));
    assert_eq!(hash(&place), before);
}

#[test]
fn a_series_over_churning_threads_is_monotone_and_ends_exactly() {
    let place = Place::new(256 << 10);
    let mut actor = place.actor("churn");
    actor.expect("ready");
    let (watch, pid) = (place.watch(), actor.pid());
    let of_actor = |counter| {
        let snapshot = watch.snapshot().unwrap();
        snapshot.joiners.iter().find(|joiner| joiner.key.pid == pid).unwrap().values.get(counter)
    };
    let (mut last, mut measured) = ((0, 0), 0);
    while measured < 300 {
        let snapshot = watch.snapshot().unwrap();
        let joiner = snapshot.joiners.iter().find(|joiner| joiner.key.pid == pid).unwrap();
        let value = |counter| joiner.values.get(counter);
        match (value(Counter::AllocCount), value(Counter::FreeCount)) {
            (Value::Measured(made), Value::Measured(freed)) => {
                assert!(last.0 <= made && last.1 <= freed && freed <= made && made <= freed + 2);
                (last, measured) = ((made, freed), measured + 1);
            }
            (Value::Torn, Value::Torn) => {}
            other => panic!("{other:?}"),
        }
    }
    actor.say("stop");
    let account = actor.expect("account");
    let (count, bytes) = account.split_once(' ').unwrap();
    assert_eq!(of_actor(Counter::FreeCount), Value::Measured(count.parse().unwrap()));
    assert_eq!(of_actor(Counter::FreeBytes), Value::Measured(bytes.parse().unwrap()));
}

#[test]
fn a_series_has_its_count_and_ends_when_it_is_stopped() {
    let place = Place::new(64 << 10);
    let watch = place.watch();
    let series = watch.series(Duration::from_millis(1), Some(3), &WatchStop::new());
    let stamps: Vec<u64> = series.map(|snapshot| snapshot.unwrap().at_monotonic_ns).collect();
    assert!(stamps.len() == 3 && stamps.is_sorted(), "{stamps:?}");
    assert!(1_000_000 <= stamps[2] - stamps[0]);
    assert_eq!(watch.series(Duration::ZERO, Some(0), &WatchStop::new()).count(), 0);
    // Asleep for as long as a watchdog: only a stop ends it earlier.
    let stop = WatchStop::new();
    let (begun, was_begun) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let series = scope.spawn(|| {
            let series = watch.series(Duration::from_secs(3600), None, &stop);
            series.inspect(|_| begun.send(()).unwrap()).count()
        });
        was_begun.recv().unwrap();
        stop.stop();
        assert_eq!(series.join().unwrap(), 1);
    });
    assert!(stop.is_stopped());
    assert_eq!(watch.series(Duration::ZERO, None, &stop).count(), 0, "stopped before it began");
}

#[test]
fn another_region_of_the_name_ends_a_series() {
    let place = Place::new(64 << 10);
    let (watch, stop) = (place.watch(), WatchStop::new());
    let mut series = watch.series(Duration::ZERO, None, &stop);
    series.next().unwrap().unwrap();
    Wksp::delete(&place.domain, &place.name).unwrap();
    assert!(matches!(series.next(), Some(Err(WatchError::Deleted { .. }))));
    assert!(series.next().is_none(), "an error ends it");
    drop(Wksp::create(&place.domain, &place.name, &CreateOptions::with_size(64 << 10)).unwrap());
    match watch.snapshot() {
        Err(WatchError::Replaced { expected, found, .. }) => assert_ne!(expected, found),
        other => panic!("{other:?}"),
    }
    std::fs::write(place.path(), b"").unwrap();
    assert!(matches!(watch.snapshot(), Err(WatchError::Region(_))), "{:?}", watch.snapshot());
}

#[test]
fn each_way_not_to_be_a_workspace_is_an_error_of_its_own() {
    use std::os::unix::fs::FileExt;
    let attach = |change: &dyn Fn(&std::fs::File)| {
        let place = Place::new(64 << 10);
        change(&std::fs::File::options().write(true).open(place.path()).unwrap());
        match Watch::attach(&place.domain, &place.name) {
            Err(WatchError::Attach(AttachError::Region(error))) => format!("{error:?}"),
            other => panic!("{other:?}"),
        }
    };
    for (at, bytes, expected) in [(0, &b"X"[..], "Magic"), (8, &[2], "Version"), (40, &[1], "Checksum")] {
        let found = attach(&|file| file.write_all_at(bytes, at).unwrap());
        assert!(found.starts_with(expected), "{found}");
    }
    for (len, expected) in
        [(0, "Magic"), (100, "Checksum"), (4096, "Size"), (70000, "Size"), (100_000, "Size")]
    {
        let found = attach(&|file| file.set_len(len).unwrap());
        assert!(found.starts_with(expected), "{len}: {found}");
    }
    // Cut while it is watched.
    let place = Place::new(64 << 10);
    let watch = place.watch();
    watch.snapshot().unwrap();
    std::fs::File::options().write(true).open(place.path()).unwrap().set_len(8192).unwrap();
    assert!(matches!(watch.snapshot(), Err(WatchError::Region(_))), "{:?}", watch.snapshot());
}

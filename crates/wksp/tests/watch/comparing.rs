//! Two snapshots: what is between them, and what cannot be said.

use std::time::Duration;

use outlast_wksp::{Comparison, Counter, Gate, Value};

use crate::actor::Place;

#[test]
fn differences_and_rates_of_what_both_know() {
    let place = Place::new(256 << 10);
    let (wksp, watch) = (place.join(), place.watch());
    let block = wksp.alloc(1000, 64, 1).unwrap();
    let mut before = watch.snapshot().unwrap();
    wksp.alloc(3000, 64, 1).unwrap();
    wksp.free(block).unwrap();
    let mut after = watch.snapshot().unwrap();
    (before.at_monotonic_ns, after.at_monotonic_ns) = (1_000_000_000, 3_000_000_000);
    let found = Comparison::of(&before, &after);
    assert_eq!(
        (found.elapsed, found.same_host, found.same_region),
        (Some(Duration::from_secs(2)), true, true)
    );
    assert_eq!((found.was_reset, found.compared, found.live_bytes()), (Some(false), 1, Some(2000)));
    let joiner = found.joiners.iter().find(|joiner| joiner.key.pid == std::process::id()).unwrap();
    let change = joiner.changes[Counter::AllocBytes as usize];
    assert_eq!((change.delta, change.relative, change.per_second), (Some(3000), Some(3.0), Some(1500.0)));
    assert_eq!(joiner.changes[Counter::FreeBytes as usize].relative, None, "it was 0 before");
    assert_eq!(found.used_bytes.delta, Some(2000));
    // Both parts of the gate have to be reached.
    let reaches = |absolute, relative| change.reaches(&Gate { absolute, relative });
    assert!(reaches(3000, 3.0) && !reaches(3001, 0.0) && !reaches(0, 3.1));
    wksp.reset(0).unwrap();
    let reset = Comparison::of(&before, &watch.snapshot().unwrap());
    assert_eq!((reset.was_reset, reset.used_bytes.delta), (Some(true), Some(-1000)));
}

#[test]
fn what_is_not_known_is_never_0() {
    let place = Place::new(256 << 10);
    let (wksp, watch) = (place.join(), place.watch());
    wksp.alloc(1000, 64, 1).unwrap();
    let before = watch.snapshot().unwrap();
    wksp.alloc(1000, 64, 1).unwrap();
    let after = watch.snapshot().unwrap();
    let delta = |comparison: &Comparison| {
        comparison.joiners.iter().map(|joiner| joiner.changes[0].delta).collect::<Vec<_>>()
    };
    let mine = |joiner: &outlast_wksp::JoinerKey| joiner.pid == std::process::id();
    let changed = |change: &dyn Fn(&mut outlast_wksp::Snapshot)| {
        let mut after = after.clone();
        after.joiners.retain(|joiner| mine(&joiner.key));
        change(&mut after);
        Comparison::of(&before, &after)
    };
    assert!(delta(&changed(&|_| {})).contains(&Some(1)));
    // Backwards: the counter was reset, and so was the clock.
    let back = Comparison::of(&after, &before);
    assert!(back.elapsed.is_none() && back.joiners[0].changes[0].delta.is_none());
    let other_generation = changed(&|after| after.joiners[0].key.generation += 1);
    assert_eq!((delta(&other_generation), other_generation.compared), (vec![None, None], 0));
    assert_eq!(other_generation.sums, [None; Counter::ALL.len()]);
    let torn = changed(&|after| after.joiners[0].values = outlast_wksp::Values::default());
    assert_eq!(torn.joiners[0].changes[0].after, Value::Absent);
    assert_eq!((delta(&torn), torn.live_bytes()), (vec![None], None));
    let other_region = changed(&|after| after.region_id ^= 1);
    assert_eq!((delta(&other_region), other_region.same_region), (vec![None], false));
    assert_eq!((other_region.used_bytes.delta, other_region.was_reset), (None, None));
    let other_host = changed(&|after| after.boot_id.clear());
    assert!(!other_host.same_host && other_host.elapsed.is_none());
    assert_eq!(other_host.joiners[0].changes[0].per_second, None);
}

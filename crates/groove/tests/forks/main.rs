//! A forked child takes a joiner of its own, and leaves its parent's alone.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod raw;

use std::process::Command;

use outlast_groove::{CreateOptions, Groove};
use outlast_shm::Domain;

const DOMAIN: &str = "OUTLAST_GROOVE_FORKS";

/// Forks; does nothing unless it is asked to by its environment.
#[test]
fn actor() {
    let Some(path) = std::env::var_os(DOMAIN) else { return };
    let domain = Domain::open(path.as_ref()).unwrap();
    let options = CreateOptions { volume_bytes: 1 << 20 };
    let groove = Groove::create(&domain, &"g".parse().unwrap(), &options).unwrap();
    groove.add_volume(b"").unwrap();
    let joiner = groove.joiner().unwrap();
    let seat = joiner.seat();
    let mut mine = Some(joiner);
    assert!(raw::in_a_fork(|| {
        let own = groove.joiner().unwrap();
        assert_ne!(own.seat(), seat);
        own.alloc(100, 0, 7).unwrap();
        drop(mine.take());
        assert_ne!(groove.joiner().unwrap().seat(), seat, "the parent has it still");
    }));
    let joiner = mine.unwrap();
    let left = joiner.objects(Some(7)).unwrap();
    assert_eq!(left.len(), 1);
    joiner.free(left[0].reference).unwrap();
    assert_ne!(groove.joiner().unwrap().seat(), seat);
}

#[test]
fn a_forked_child_has_a_seat_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let mut actor = Command::new(std::env::current_exe().unwrap());
    actor.args(["actor", "--exact", "--nocapture"]).env(DOMAIN, directory.path().join("domain"));
    let output = actor.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

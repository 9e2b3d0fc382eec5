//! Holders in foreign namespaces: never robbed while they live, found dead when they are.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod actors;

use std::process::Command;
use std::time::Duration;

use actors::{Actor, Place, Stage, WATCHDOG, play};
use outlast_shm::{Liveness, LockError, LockGuard};

const SHORT: Duration = Duration::from_millis(30);

#[test]
fn actor() {
    play(&[("hold", hold), ("meet holder", meet_holder)]);
}

/// Takes the lock and holds it to the end.
fn hold(mut stage: Stage) {
    let region = stage.region();
    let guard = region.lock(WATCHDOG).unwrap();
    stage.line.say("locked");
    stage.until_the_end();
    drop(guard);
}

/// Finds the lock held by somebody that it cannot judge, and gets it once told that the holder is dead.
fn meet_holder(mut stage: Stage) {
    let region = stage.region();
    assert_eq!(busy(region.lock(SHORT)), Liveness::Unknown);
    assert!(region.other_joiners());
    stage.line.say("busy");
    stage.line.expect("dead now");
    let guard = region.lock(WATCHDOG).unwrap();
    stage.line.say(if guard.needs_recovery() { "recovering" } else { "locked" });
    drop(guard);
    stage.until_the_end();
}

fn busy(result: Result<LockGuard<'_>, LockError>) -> Liveness {
    match result.map(|_| ()).unwrap_err() {
        LockError::Busy { owner: Some(owner), .. } => owner.liveness,
        error => panic!("{error}"),
    }
}

/// The command that puts an actor in namespaces of its own, or `None`, said aloud, where that is not allowed.
fn launcher(kinds: &[&'static str]) -> Option<Vec<&'static str>> {
    let mut words = vec!["unshare"];
    if !nix::unistd::geteuid().is_root() {
        words.extend(["--user", "--map-current-user"]);
    }
    words.extend(kinds);
    words.extend(["--fork", "--kill-child=SIGKILL"]);
    let reason = match Command::new(words[0]).args(&words[1..]).arg("true").output() {
        Ok(output) if output.status.success() => return Some(words),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    println!("skipped: {} is not to be had here: {reason}", words.join(" "));
    None
}

const KINDS: [&[&str]; 4] = [
    &["--pid"],
    &["--pid", "--mount", "--mount-proc"],
    &["--time", "--boottime", "100000"],
    &["--time", "--boottime", "100000", "--pid", "--mount", "--mount-proc"],
];

#[test]
fn a_holder_in_a_foreign_namespace_is_busy_until_it_is_dead() {
    for kinds in KINDS {
        let Some(launcher) = launcher(kinds) else { continue };
        let (place, region) = Place::with_region();
        let mut holder = Actor::with_launcher(&launcher, "hold", place.domain.path());
        holder.line.expect("locked");
        assert_eq!(busy(region.lock(SHORT)), Liveness::Unknown, "{kinds:?}");
        assert!(region.other_joiners(), "{kinds:?}");
        holder.kill();
        let guard = region.lock(WATCHDOG).unwrap();
        assert!(guard.needs_recovery(), "{kinds:?}");
        assert!(guard.taken_from().is_some(), "{kinds:?}");
    }
}

#[test]
fn from_a_foreign_namespace_a_holder_is_busy_until_it_is_dead() {
    for kinds in KINDS {
        let Some(launcher) = launcher(kinds) else { continue };
        let (place, region) = Place::with_region();
        drop(region);
        let mut holder = place.actor("hold");
        holder.line.expect("locked");
        let mut other = Actor::with_launcher(&launcher, "meet holder", place.domain.path());
        other.line.expect("busy");
        holder.kill();
        other.line.say("dead now");
        other.line.expect("recovering");
        other.finish();
    }
}

//! SIGKILL at every probe point of the crate: what is left is whole, or is swept; the lock and the slot are
//! had again. Needs a build with `--cfg outlast_probes`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(not(outlast_probes))]
#[test]
fn every_kill_is_recovered_from() {
    println!("skipped: there are no probes in this build; set RUSTFLAGS=\"--cfg outlast_probes\"");
}

#[cfg(outlast_probes)]
mod actors;

#[cfg(outlast_probes)]
#[test]
fn actor() {
    actors::play(&armed::ROLES);
}

#[cfg(outlast_probes)]
mod armed {
    use std::collections::BTreeSet;
    use std::sync::OnceLock;

    use nix::sys::signal::{Signal, raise};
    use outlast_probe::registry::{Kind, PROBES, Probe, duplicate, install};
    use outlast_shm::{Domain, Draft, Liveness, Region, RegionError};

    use crate::actors::{Actor, EXPECT, Place, Role, Stage, WATCHDOG, name, spec};

    pub(crate) const ROLES: [Role; 3] = [("cycle", cycle), ("hold", hold), ("fail", fail)];

    static TARGET: OnceLock<String> = OnceLock::new();

    fn die_at_target(probe: &'static Probe, _: &[u64]) -> Option<i32> {
        if probe.kind() != Kind::Fault && TARGET.get().is_some_and(|target| target == probe.name()) {
            let _ = raise(Signal::SIGKILL);
        }
        None
    }

    /// The domain and, after a colon, the probe.
    fn arm(stage: &Stage, hook: outlast_probe::registry::Hook) -> Domain {
        let (path, target) = stage.argument.rsplit_once(':').unwrap();
        let domain = Domain::open(path.as_ref()).unwrap();
        TARGET.set(target.to_owned()).unwrap();
        assert!(install(hook));
        domain
    }

    /// Does everything once. The lock of region `r` is a dead holder's.
    fn cycle(mut stage: Stage) {
        let domain = arm(&stage, die_at_target);
        let region = Region::open(&domain, &name("r"), &EXPECT).unwrap();
        let mut guard = region.lock(WATCHDOG).unwrap();
        guard.mark_recovered();
        guard.count([(0, 1)]);
        guard.unlock().unwrap();
        region.leave().unwrap();
        let draft = || Draft::new(&domain, &name("s"), &spec()).unwrap();
        let region = draft().publish_replacing().unwrap();
        // A second thread waits, so that every way through the lock is taken.
        std::thread::scope(|scope| {
            let guard = region.lock(WATCHDOG).unwrap();
            scope.spawn(|| region.lock(WATCHDOG).unwrap().unlock().unwrap());
            while !region.lock_state().has_waiters {
                std::thread::yield_now();
            }
            guard.unlock().unwrap();
        });
        drop(draft().publish_replacing().unwrap());
        domain.unlink(&name("s")).unwrap();
        stage.line.say("whole");
        stage.until_the_end();
    }

    fn hold(mut stage: Stage) {
        let guard_of = stage.region();
        let _guard = guard_of.lock(WATCHDOG).unwrap();
        stage.line.say("locked");
        stage.until_the_end();
    }

    fn run(place: &Place, target: &str) -> bool {
        let mut holder = place.actor("hold");
        holder.line.expect("locked");
        holder.kill();
        let path = format!("{}:{target}", place.domain.path().display());
        let mut actor = Actor::new("cycle", path);
        match actor.line.try_hear() {
            Some(text) => {
                assert_eq!(text, "whole");
                actor.finish();
                false
            }
            None => {
                assert_eq!(actor.end(), Some(Signal::SIGKILL as i32), "at {target}");
                true
            }
        }
    }

    #[test]
    fn every_kill_is_recovered_from() {
        assert_eq!(duplicate(), None);
        let targets: BTreeSet<_> = PROBES
            .iter()
            .filter(|probe| probe.name().starts_with("shm.") && probe.kind() != Kind::Fault)
            .map(|probe| probe.name())
            .collect();
        assert!(12 < targets.len(), "{targets:?}");
        for target in targets {
            let (place, region) = Place::with_region();
            assert!(run(&place, target), "{target} is never passed");
            place.domain.sweep().unwrap();
            for listing in place.domain.list().unwrap() {
                assert!(listing.info.is_ok(), "after a kill at {target}: {listing:?}");
            }
            let others = region.joiners().into_iter().filter(|joiner| joiner.pid != std::process::id());
            others.for_each(|other| assert_eq!(other.liveness, Liveness::Dead, "after a kill at {target}"));
            region.lock(WATCHDOG).unwrap().mark_recovered();
            assert!(!region.lock(WATCHDOG).unwrap().needs_recovery());
            assert!(!run(&place, "none"), "the next process goes through");
            assert_eq!(place.entries(), ["r"], "after a kill at {target}");
        }
    }

    fn answer_faults(probe: &'static Probe, _: &[u64]) -> Option<i32> {
        let (target, errno) = TARGET.get()?.split_once('=')?;
        (probe.kind() == Kind::Fault && target == probe.name()).then(|| errno.parse().unwrap())
    }

    fn fail(mut stage: Stage) {
        let domain = arm(&stage, answer_faults);
        let error = Draft::new(&domain, &name("s"), &spec()).and_then(Draft::publish).map(|_| ());
        let text = match error {
            Ok(()) => "made",
            Err(RegionError::NoSpace { .. }) => "no space",
            Err(RegionError::FileSizeLimit { .. }) => "limit",
            Err(RegionError::Io { .. }) => "io",
            Err(error) => panic!("{error}"),
        };
        stage.line.say(text);
        stage.until_the_end();
    }

    #[test]
    fn failing_calls_are_typed_and_leave_nothing() {
        let cases = [
            ("shm.create.fallocate", nix::libc::ENOSPC, "no space"),
            ("shm.create.fallocate", nix::libc::EDQUOT, "no space"),
            ("shm.create.fallocate", nix::libc::EFBIG, "limit"),
            ("shm.create.fallocate", nix::libc::EIO, "io"),
            ("shm.create.tmpfile", nix::libc::EIO, "io"),
            ("shm.create.tmpfile", nix::libc::EOPNOTSUPP, "made"),
        ];
        for (probe, errno, outcome) in cases {
            let place = Place::new();
            let argument = format!("{}:{probe}={errno}", place.domain.path().display());
            let mut actor = Actor::new("fail", argument);
            actor.line.expect(outcome);
            actor.finish();
            let expected: &[&str] = if outcome == "made" { &["s"] } else { &[] };
            assert_eq!(place.entries(), expected, "{probe} {errno}");
        }
    }
}

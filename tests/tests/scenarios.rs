//! Scenarios through the library: their canaries and their interrupts. `tests/stress.rs` has a small run of each.

#![allow(clippy::unwrap_used, reason = "what is unwrapped here is what the test is about")]

use std::ffi::OsString;
use std::path::PathBuf;

use outlast_tests::end::End;
use outlast_tests::place::Place;
use outlast_tests::report::Tally;
use outlast_tests::run::{Profile, Run};
use outlast_tests::scenario::{self, groove, hostile};
use outlast_wksp::Cancel;

/// Runs `scenario` for `iterations` in a domain of its own, and checks that nothing is left in it.
fn run(
    iterations: u64,
    options: &[&str],
    scenario: impl FnOnce(&Run<'_>, &mut Tally) -> Result<(), End>,
) -> (Result<(), End>, Tally) {
    let root = tempfile::tempdir().unwrap();
    let place = Place::open(root.path().join("regions"), 11).unwrap();
    let files = root.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let options: Vec<OsString> = options.iter().map(OsString::from).collect();
    let mut tally = Tally::default();
    let ended = scenario(
        &Run {
            seed: 11,
            iterations: Some(iterations),
            deadline: None,
            profile: Profile::Quick,
            options: &options,
            program: &PathBuf::from(env!("CARGO_BIN_EXE_stress")),
            place: &place,
            directory: &files,
            stop: &Cancel::new(),
        },
        &mut tally,
    );
    assert_eq!(place.domain().list().unwrap().len(), 0);
    drop(place);
    assert!(!root.path().join("regions").exists());
    (ended, tally)
}

fn named(name: &str) -> fn(&Run<'_>, &mut Tally) -> Result<(), End> {
    scenario::ALL.iter().find(|scenario| scenario.name == name).unwrap().run
}

/// The canary: a model that lies about one byte is found out.
#[test]
fn a_wrong_model_is_noticed() {
    let (ended, tally) = run(3000, &[], |run, tally| hostile::traffic_under_damage(run, tally, true));
    let Err(End::Failed(what)) = ended else { panic!("{ended:?} {tally:?}") };
    assert!(what.contains("misses"), "{what}");
}

/// The canaries of a groove's traffic: its last reserved byte changed, an object too many.
#[test]
fn what_is_wrong_with_an_object_is_noticed() {
    for (canary, expected) in [("flip", "are not its own"), ("extra", "objects, expected")] {
        let options = ["--alloc-cnt", "300", "--volume-sz", "16777216", "--canary", canary];
        let (ended, tally) = run(1, &options, named("groove/data"));
        let Err(End::Failed(what)) = ended else { panic!("{canary}: {ended:?} {tally:?}") };
        assert!(what.contains(expected), "{canary}: {what}");
    }
}

/// The canary: an object that is lost after kills is missed.
#[test]
fn a_lost_object_is_noticed() {
    let (ended, tally) = run(2, &[], |run, tally| groove::kill::kills(run, tally, true));
    let Err(End::Failed(what)) = ended else { panic!("{ended:?} {tally:?}") };
    assert!(what.contains("objects, expected"), "{what}");
}

/// The canary: a judge that believes in another tag is contradicted.
#[test]
fn a_wrong_judge_is_noticed() {
    let (ended, tally) = run(3000, &[], |run, tally| groove::hostile::traffic_under_damage(run, tally, true));
    let Err(End::Failed(what)) = ended else { panic!("{ended:?} {tally:?}") };
    assert!(what.contains("Known"), "{what}");
}

#[test]
fn kills_at_every_probe_lose_nothing() {
    if !outlast_probe::ENABLED {
        println!("skipped: this build has no probes; `cargo xtask ci` runs it with them");
        return;
    }
    let (ended, tally) = run(3, &[], named("wksp/kill_at_probe"));
    assert_eq!(ended, Ok(()), "{tally:?}");
    assert_eq!(tally.count("probes"), tally.count("probes_killed_at"));
}

#[test]
fn an_interrupt_ends_a_scenario_early() {
    let (ended, _) = run(1000, &["--page-cnt", "64"], |run, tally| {
        run.stop.cancel();
        named("wksp/roundtrip")(run, tally)
    });
    assert_eq!(ended, Err(End::Interrupted));
}

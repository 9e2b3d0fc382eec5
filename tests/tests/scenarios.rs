//! Small runs of the scenarios, through the library.

#![allow(clippy::unwrap_used, reason = "what is unwrapped here is what the test is about")]

use std::ffi::OsString;
use std::path::PathBuf;

use outlast_tests::end::End;
use outlast_tests::place::Place;
use outlast_tests::progress::Progress;
use outlast_tests::report::Tally;
use outlast_tests::run::{Profile, Run};
use outlast_tests::scenario::{self, hostile};
use outlast_wksp::Cancel;

/// Runs `scenario` for `iterations` in a domain of its own, and checks that nothing is left in it.
fn run(
    iterations: u64,
    options: &[&str],
    scenario: impl FnOnce(&Run<'_>, &mut Tally) -> Result<(), End>,
) -> (Result<(), End>, Tally) {
    let root = tempfile::tempdir().unwrap();
    let place = Place::open(root.path().join("regions"), 11).unwrap();
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
            stop: &Cancel::new(),
            progress: Progress::new("", false),
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

#[test]
fn round_trips() {
    let path = std::env::temp_dir().join(format!("stress-test-{}.checkpt", std::process::id()));
    let options = ["--page-cnt", "2048", "--worker-cnt", "2", "--path", path.to_str().unwrap()];
    let (ended, tally) = run(6, &options, named("wksp/roundtrip"));
    assert_eq!(ended, Ok(()), "{tally:?}");
    assert_eq!((tally.iterations, tally.count("named"), tally.count("anonymous")), (6, 3, 3));
    assert!(!path.exists());
}

#[test]
fn kills_that_land_in_the_lock_lose_nothing() {
    let (ended, tally) = run(25, &[], named("wksp/kill"));
    // So few kills may miss one of the ways to land; that is for the scenario's own amount to show.
    assert!(matches!(ended, Ok(()) | Err(End::Inconclusive(_))), "{ended:?} {tally:?}");
    assert!(tally.iterations >= 25 && tally.count("blocks_checked") > 0, "{tally:?}");
    assert!(tally.count("calls_of_survivors") > 0, "{tally:?}");
}

#[test]
fn damage_during_traffic_gives_typed_errors_or_right_answers() {
    let (ended, tally) = run(3000, &[], named("wksp/hostile"));
    assert_eq!(ended, Ok(()), "{tally:?}");
    assert!(tally.count("words_overwritten") >= 3000 && tally.count("typed_errors") > 0, "{tally:?}");
}

/// The canary: a model that lies about one byte is found out.
#[test]
fn a_wrong_model_is_noticed() {
    let (ended, tally) = run(3000, &[], |run, tally| hostile::traffic_under_damage(run, tally, true));
    let Err(End::Failed(what)) = ended else { panic!("{ended:?} {tally:?}") };
    assert!(what.contains("misses"), "{what}");
}

#[test]
fn every_damaged_word_gives_typed_errors_or_right_answers() {
    let (ended, tally) = run(1, &[], named("wksp/hostile_sweep"));
    assert_eq!(ended, Ok(()), "{tally:?}");
    let (ended, tally) = run(2000, &[], named("wksp/hostile_sweep"));
    assert_eq!(ended, Ok(()), "{tally:?}");
    assert!(tally.count("right_answers") > 2000 && tally.count("error_corrupt_HeaderSeal") > 0, "{tally:?}");
}

#[test]
fn random_calls_agree_with_the_model() {
    let (ended, tally) = run(50_000, &[], named("wksp/user_model"));
    assert_eq!(ended, Ok(()), "{tally:?}");
    assert_eq!(tally.iterations, 50_000);
}

#[test]
fn counters_read_from_outside_are_those_of_the_workers() {
    let (ended, tally) = run(300, &[], named("sched/watch"));
    assert_eq!(ended, Ok(()), "{tally:?}");
    assert!(tally.iterations >= 300 && tally.count("rests") > 0, "{tally:?}");
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

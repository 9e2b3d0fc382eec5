//! Every scenario as one test of `cargo test` and cargo-nextest: a small run of it, named like the scenario.
//!
//! Scenarios that need probes are listed as ignored in a build without them; `cargo xtask ci` runs them in one with.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use outlast_tests::end::End;
use outlast_tests::place::Place;
use outlast_tests::run::{Profile, Run, report};
use outlast_tests::scenario::{self, Scenario};
use outlast_wksp::Cancel;

/// Everything random comes from it.
const SEED: u64 = 11;

fn main() -> ExitCode {
    let trials = scenario::ALL.iter().map(trial).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial(scenario: &'static Scenario) -> Trial {
    let trial = Trial::test(scenario.name, move || small_run(scenario));
    let slow = (scenario.sample.0 == 0)
        .then(|| format!("needs an optimised build: run it with `cargo xtask stress {}`", scenario.name));
    match scenario.missing().or(slow) {
        // The kind is what is printed beside the name.
        Some(reason) => trial.with_kind(reason).with_ignored_flag(true),
        None => trial,
    }
}

/// Runs the scenario's sample in a domain of its own, and checks that nothing is left in it.
fn small_run(scenario: &'static Scenario) -> Result<(), Failed> {
    let root = tempfile::tempdir()?;
    let regions = root.path().join("regions");
    let files = root.path().join("files");
    std::fs::create_dir(&files)?;
    let place = Place::open(regions.clone(), SEED).map_err(|end| end.to_string())?;
    let (iterations, options) = scenario.sample;
    let iterations = iterations.max(1);
    let options: Vec<OsString> = options.iter().map(OsString::from).collect();
    let report = report(
        scenario,
        &Run {
            seed: SEED,
            iterations: Some(iterations),
            deadline: None,
            profile: Profile::Quick,
            options: &options,
            program: &PathBuf::from(env!("CARGO_BIN_EXE_stress")),
            place: &place,
            directory: &files,
            stop: &Cancel::new(),
        },
    );
    println!("{report}");
    let left = place.domain().list()?.len();
    drop(place);
    let left_files = std::fs::read_dir(&files)?.count();
    match report.end {
        // So few iterations may miss one of the things to be shown; that is for the scenario's own amount.
        None | Some(End::Inconclusive(_)) => {}
        Some(end) => return Err(format!("{end}\nreproduce: {}", report.reproduce).into()),
    }
    if left + left_files != 0 || regions.exists() {
        return Err(format!("it left {left} regions and {left_files} files behind").into());
    }
    if report.tally.counts.is_empty() {
        return Err("it counted nothing".into());
    }
    Ok(())
}

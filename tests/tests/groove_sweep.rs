//! The instruction sweep of a groove, and the canaries that it must catch.

#![allow(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

mod child;

use child::{own_program, release_program};
use outlast_tests::sweep::Failure;
use outlast_tests::sweep::groove::{Case, Oracle, Trace, cases, check, record, sweep_all};

/// The calls of a few hundred steps; the scenario `groove/sweep` has those that go through whole volumes, and the
/// adoptions of what all of them leave.
#[test]
fn every_instruction_of_short_calls() {
    let is_short = |name: &str| !["alloc/full", "alloc/after-a-trim"].contains(&name) && !is_long(name);
    match sweep_all(&release_program(), is_short, |line| eprintln!("{line}")) {
        Ok(summary) => {
            eprintln!("{summary:?}");
            assert!(0 < summary.before_count && 0 < summary.after_count);
        }
        Err(failure) if failure.is_skip() => eprintln!("skipped: {failure}"),
        Err(failure) => panic!("{failure}"),
    }
}

fn is_long(name: &str) -> bool {
    ["trim/", "remove/", "rebuild", "adopt/"].iter().any(|long| name.starts_with(long))
}

/// A case, its trace, and an oracle that has seen nothing yet; nothing where a child may not be traced.
fn traced(name: &str) -> Option<(Case, Trace, Oracle)> {
    let case = cases().unwrap().into_iter().find(|case| case.name == name).unwrap();
    match record(&case, &own_program()) {
        Ok((trace, outcome)) => {
            let oracle = Oracle::new(&case, &outcome).unwrap();
            Some((case, trace, oracle))
        }
        Err(failure) if failure.is_skip() => {
            eprintln!("skipped: {failure}");
            None
        }
        Err(failure) => panic!("{failure}"),
    }
}

/// The oracle's verdict on a trace that was tampered with.
fn verdict(case: &Case, trace: &Trace, mut oracle: Oracle) -> String {
    match check(case, trace, &mut oracle) {
        Err(Failure::Broken { reason, .. }) => reason,
        other => panic!("the canary was not caught: {other:?}"),
    }
}

/// The last change whose word in the volume is a descriptor of this state.
fn last_of_state(trace: &Trace, state: u64) -> usize {
    let is = |name: &str, value: u64| name.contains(".v") && value & 0xf == state && 1 << 32 <= value;
    trace.changes_of(is).pop().unwrap()
}

#[test]
fn an_object_that_exists_before_its_tag_is_caught() {
    let Some((case, mut trace, oracle)) = traced("alloc/current") else { return };
    let live = last_of_state(&trace, 2);
    trace.reorder(live, live - 1);
    assert!(verdict(&case, &trace, oracle).contains("strange"));
}

#[test]
fn a_slot_that_is_free_before_its_object_ends_is_caught() {
    let Some((case, mut trace, oracle)) = traced("free/one-of-some") else { return };
    let freeing = last_of_state(&trace, 3);
    trace.reorder(freeing, freeing + 1);
    assert!(verdict(&case, &trace, oracle).contains("outside of its superblocks"));
}

#[test]
fn a_slot_that_leaves_before_its_taker_is_known_is_caught() {
    let Some((case, mut trace, oracle)) = traced("alloc/current") else { return };
    let held = last_of_state(&trace, 1);
    trace.reorder(held, held + 1);
    let said = verdict(&case, &trace, oracle);
    assert!(said.contains("neither free nor in use"), "{said}");
}

#[test]
fn a_store_that_is_lost_is_caught() {
    let Some((case, mut trace, oracle)) = traced("alloc/current") else { return };
    let live = last_of_state(&trace, 2);
    trace.changes.remove(live);
    assert!(verdict(&case, &trace, oracle).contains("has not happened"));
}

//! The instruction sweep on the release build, and the canaries that it must catch.

#![allow(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

mod child;

use child::{own_program, release_program};
use outlast_shm::USER_OFFSET;
use outlast_tests::sweep::cases::{self, TAG};
use outlast_tests::sweep::oracle::{Oracle, Sheet};
use outlast_tests::sweep::trace::Trace;
use outlast_tests::sweep::{Case, Failure, Operation, Profile, Program, check, sweep_all, trace_and_check};

/// Byte of the workspace's change counter; see docs/format/wksp.md.
const SEQUENCE_AT: usize = USER_OFFSET as usize + 16 * 8;

/// Prints why a sweep cannot be made here; anything else that went wrong is a failure of the test.
fn skipped<T>(result: Result<T, Failure>) -> Option<T> {
    match result {
        Ok(made) => Some(made),
        Err(failure) if failure.is_skip() => {
            eprintln!("skipped: {failure}");
            None
        }
        Err(failure) => panic!("{failure}"),
    }
}

fn named(name: &str) -> Case {
    cases::named().unwrap().into_iter().find(|case| case.name == name).unwrap()
}

/// A case, its trace, and an oracle that has seen nothing yet.
fn traced(name: &str) -> Option<(Case, Trace, Oracle)> {
    let case = named(name);
    let (_, trace) = skipped(trace_and_check(&case, &own_program()))?;
    let oracle = Oracle::dry_run(&case, Sheet::new().unwrap()).unwrap();
    Some((case, trace, oracle))
}

/// The checker's verdict on a trace that was tampered with.
fn verdict(case: &Case, trace: &Trace, mut oracle: Oracle) -> String {
    match check(case, trace, &mut oracle) {
        Err(Failure::Broken { reason, .. }) => reason,
        other => panic!("the canary was not caught: {other:?}"),
    }
}

#[test]
fn every_instruction_of_every_call() {
    let program = release_program();
    let Some(summary) = skipped(sweep_all(1, Profile::Quick, &program)) else { return };
    for report in &summary.reports {
        eprintln!("{report}");
    }
    eprintln!("{summary}");
    assert!(40 < summary.reports.len() && 0 < summary.recovery_case_count && 0 < summary.nested_case_count);
    let partial = summary.reports.iter().find(|report| report.name == "tag-free/some").unwrap();
    assert!(partial.before_count != 0 && partial.partial_count != 0 && partial.after_count != 0, "{partial}");
}

#[test]
fn the_cases_are_what_they_are_called() {
    let Some((_, growth, _)) = traced("alloc/table-growth") else { return };
    let lens = |trace: &Trace| trace.changes.iter().map(|change| change.len).max();
    assert!(Some(growth.base.len()) < lens(&growth), "the slot table grows");
    let Some((_, same, _)) = traced("alloc/same-class") else { return };
    assert_eq!(Some(same.base.len()), lens(&same));
    let (Some((_, next, _)), Some((_, both, _))) =
        (traced("free/before-a-hole"), traced("free/between-holes"))
    else {
        return;
    };
    assert!(next.changes.len() < both.changes.len(), "merging two holes takes more than merging one");
}

#[test]
fn canary_commit_before_what_it_commits() {
    let Some((case, mut trace, oracle)) = traced("alloc/idle-slot") else { return };
    // The commit word is the one store of the tag; the change counter opens the change.
    let commit = trace.storing(TAG).unwrap();
    let opened = trace.changes_of(SEQUENCE_AT)[0];
    assert!(opened + 1 < commit);
    trace.reorder(commit, opened + 1);
    let reason = verdict(&case, &trace, oracle);
    assert!(reason.contains("slot check"), "{reason}");
}

#[test]
fn canary_change_that_is_not_opened() {
    let Some((case, mut trace, oracle)) = traced("alloc/rest-both") else { return };
    let opened = trace.changes_of(SEQUENCE_AT)[0];
    trace.changes.remove(opened);
    let reason = verdict(&case, &trace, oracle);
    assert!(reason.contains("fault") || reason.contains("damaged"), "{reason}");
}

#[test]
fn canary_commit_that_is_lost() {
    let Some((case, mut trace, oracle)) = traced("alloc/exact") else { return };
    trace.changes.truncate(trace.storing(TAG).unwrap());
    let reason = verdict(&case, &trace, oracle);
    assert!(reason.contains("the call returned and is lost"), "{reason}");
}

#[test]
fn canary_commit_that_is_undone() {
    let Some((case, mut trace, oracle)) = traced("alloc/exact") else { return };
    // One more store that puts everything back as it was: sound, and yet wrong.
    let mut undone = trace.changes.last().unwrap().clone();
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let touched = trace.changes.iter().flat_map(|change| change.words.iter().map(|&(at, _)| at));
    undone.words = touched.map(|at| (at, word(&trace.base, at))).collect();
    trace.changes.push(undone);
    let reason = verdict(&case, &trace, oracle);
    assert!(reason.contains("undone"), "{reason}");
}

#[test]
fn canary_freed_before_the_tag_is_gone() {
    let Some((case, mut trace, oracle)) = traced("free/alone") else { return };
    // The commit word of a free is a slot's first word, stored with 0. It is moved to the end of the change.
    let slots = trace.geography.slots_start;
    let clears = |&(at, value): &(usize, u64)| slots <= at && (at - slots) % 64 == 0 && value == 0;
    let commit = trace.changes.iter().position(|change| change.words.iter().any(clears)).unwrap();
    let closed = *trace.changes_of(SEQUENCE_AT).last().unwrap();
    trace.reorder(commit, closed - 1);
    let reason = verdict(&case, &trace, oracle);
    assert!(reason.contains("slot"), "{reason}");
}

#[test]
fn canary_stray_tag_in_a_used_table() {
    let Some((case, mut trace, oracle)) = traced("usage") else { return };
    // Any word of the first slot's truth, flipped as by a stray store: not repaired, not believed.
    let at = trace.geography.slots_start + 8;
    let word = u64::from_le_bytes(trace.base[at..at + 8].try_into().unwrap()) ^ 64;
    trace.base[at..at + 8].copy_from_slice(&word.to_le_bytes());
    let reason = verdict(&case, &trace, oracle);
    assert!(reason.contains("slot check"), "{reason}");
}

#[test]
fn canary_store_that_nobody_watches() {
    let mut case = named("free/alone");
    case.operation = Operation::Memset(64, 0xab);
    match trace_and_check(&case, &own_program()) {
        Err(Failure::Setup { reason, .. }) => assert!(reason.contains("nobody looked: payload"), "{reason}"),
        Err(failure) if failure.is_skip() => eprintln!("skipped: {failure}"),
        other => panic!("the canary was not caught: {other:?}"),
    }
}

#[test]
fn a_child_that_is_not_there_is_said_so() {
    let program = Program::new("sweep-child-that-is-not-there", &[]);
    let failure = trace_and_check(&named("usage"), &program).unwrap_err();
    assert!(failure.is_skip(), "{failure}");
    assert!(failure.to_string().contains("sweep-child-that-is-not-there"));
}

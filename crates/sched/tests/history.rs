//! The history: what is remembered, what a damaged file costs, and who may write at once.
#![cfg(feature = "runner")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod made_up;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use made_up::{MadeUp, every_outcome, many, one, tell};
use outlast_sched::{Failed, History, HistorySink, Outcome, Sink};
use proptest::prelude::*;

fn run(path: &Path, run: &MadeUp) {
    tell(&run.events(), &mut HistorySink::new(path, None));
}

/// The same run under another name, so that it is told from the others.
fn named(name: &str, mut run: MadeUp) -> MadeUp {
    run.plan.run = name.to_owned();
    run
}

fn load(path: &Path) -> History {
    let (history, problems) = History::load(path).unwrap();
    assert_eq!(problems, []);
    history
}

fn numbers(history: &History) -> Vec<String> {
    history.failures().iter().map(|Failed { number, name, .. }| format!("{number}={name}")).collect()
}

#[test]
fn a_missing_history_is_empty() {
    let directory = tempfile::tempdir().unwrap();
    let history = load(&directory.path().join("none.jsonl"));
    assert_eq!(history.failures(), []);
    assert_eq!(history.expectation("wksp", "wksp/roundtrip"), Default::default());
    assert!(history.show(|_, _| true).starts_with("Nothing is known"));
}

/// A full disk is an error of each line, and no more.
#[test]
fn a_full_disk_is_an_error_and_no_panic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.jsonl");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let mut sink = HistorySink::new(&path, None);
    let told: Vec<_> = one(Outcome::Failed).events().iter().map(|event| sink.on(event)).collect();
    let errors: Vec<_> = told.into_iter().filter_map(Result::err).collect();
    assert!(!errors.is_empty(), "somebody must be told");
    for error in errors {
        assert!(error.to_string().contains("history.jsonl"), "{error}");
    }
}

#[test]
fn expectations_are_averages_then_medians_then_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/history.jsonl");
    let mut made = many(10, 2, |_| Outcome::Passed);
    for (seconds, name) in [(10, "a"), (20, "b")] {
        made.plan.run = name.to_owned();
        for record in &mut made.records {
            record.duration = Duration::from_secs(seconds + u64::from(record.ordinal));
            record.inputs = Some(format!("inputs {name}"));
        }
        run(&path, &made);
    }
    let history = load(&path);
    let known = history.expectation("wksp", "wksp/scenario_0");
    assert_eq!(known.expected, Some(Duration::from_secs(13)));
    assert_eq!(known.sort, Duration::from_secs(13));
    assert_eq!(known.past, [Duration::from_secs(10), Duration::from_secs(20)]);
    assert_eq!(known.passed_inputs.as_deref(), Some("inputs b"));
    let new = history.expectation("wksp", "wksp/new");
    assert_eq!((new.expected, new.sort), (Some(Duration::from_secs(14)), Duration::from_secs(14)));
    assert_eq!((new.past.len(), new.passed_inputs), (0, None));
    let nothing = history.expectation("other", "other/new");
    assert_eq!((nothing.expected, nothing.sort), (None, Duration::from_secs(22)));
}

#[test]
fn inputs_count_only_while_nothing_but_passes_came_after() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.jsonl");
    let inputs = |outcome, name: &str| {
        let mut made = named(name, one(outcome));
        made.records[0].inputs = Some("same".to_owned());
        run(&path, &made);
        load(&path).expectation("wksp", "wksp/roundtrip").passed_inputs
    };
    assert_eq!(inputs(Outcome::Passed, "a").as_deref(), Some("same"));
    assert_eq!(inputs(Outcome::Cached, "b").as_deref(), Some("same"));
    assert_eq!(inputs(Outcome::Failed, "c"), None);
    assert_eq!(inputs(Outcome::Skipped, "d"), None);
    assert_eq!(inputs(Outcome::Passed, "e").as_deref(), Some("same"));
    assert_eq!(inputs(Outcome::Inconclusive, "f"), None);
}

#[test]
fn numbers_are_stable_until_a_run_with_failures() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.jsonl");
    let failing =
        |bad: &'static [u32]| move |n: u32| if bad.contains(&n) { Outcome::Failed } else { Outcome::Passed };
    run(&path, &named("a", many(5, 2, failing(&[0, 2, 4]))));
    assert_eq!(numbers(&load(&path)), ["1=wksp/scenario_0", "2=checkpt/scenario_2", "3=sched/scenario_4"]);

    // A pass takes a failure away and leaves the other numbers.
    let mut only = named("b", many(5, 2, failing(&[])));
    only.records.retain(|record| record.ordinal == 2);
    run(&path, &only);
    assert_eq!(numbers(&load(&path)), ["1=wksp/scenario_0", "3=sched/scenario_4"]);

    // New failures come first; the old that were not run keep a number after them.
    let mut only = named("c", many(5, 2, failing(&[1, 4])));
    only.records.retain(|record| record.ordinal == 1 || record.ordinal == 4);
    run(&path, &only);
    assert_eq!(numbers(&load(&path)), ["1=shm/scenario_1", "2=sched/scenario_4", "3=wksp/scenario_0"]);
    assert_eq!(load(&path).failures()[1].seed, 1004);

    // A run that was killed has no recital; what failed in it comes last.
    let mut killed = named("d", many(5, 2, failing(&[3])));
    killed.records.retain(|record| record.ordinal == 3);
    let mut events = killed.events();
    events.pop();
    tell(&events, &mut HistorySink::new(&path, None));
    assert_eq!(numbers(&load(&path))[3..], ["4=groove/scenario_3"]);

    run(&path, &named("e", many(5, 2, failing(&[]))));
    assert_eq!(load(&path).failures(), []);
}

#[test]
fn a_repetition_that_passes_does_not_hide_one_that_failed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.jsonl");
    let mut made = many(2, 1, |n| if n == 0 { Outcome::Failed } else { Outcome::Passed });
    for record in &mut made.records {
        (record.group, record.name) = ("g".to_owned(), "g/same".to_owned());
    }
    // Neither in a run that was killed after the pass nor in one that went to its end.
    made.records.sort_by_key(|record| record.ordinal);
    let mut events = made.events();
    events.pop();
    tell(&events, &mut HistorySink::new(&path, None));
    assert_eq!(numbers(&load(&path)), ["1=g/same"]);
    run(&path, &named("again", made));
    assert_eq!(numbers(&load(&path)), ["1=g/same"]);
}

#[test]
fn a_torn_line_costs_only_itself() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.jsonl");
    run(&path, &named("a", one(Outcome::Failed)));
    let whole = fs::read(&path).unwrap();
    // Killed in the middle of the last line, at every byte of it.
    let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for end in last + 1..whole.len() - 1 {
        fs::write(&path, &whole[..end]).unwrap();
        run(&path, &named("b", one(Outcome::Failed)));
        let (history, problems) = History::load(&path).unwrap();
        assert_eq!(problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), [2], "cut at {end}");
        assert_eq!(numbers(&history), ["1=wksp/roundtrip"]);
    }
    // Killed just before the newline: nothing is lost at all.
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    run(&path, &named("b", one(Outcome::Passed)));
    assert_eq!(load(&path).failures(), []);
}

#[test]
fn corrupt_lines_are_reported_and_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.jsonl");
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(b"not json\n\xff\xfe\n{\"kind\":\"other\"}\n\n[1]\n").unwrap();
    file.write_all(b"{\"kind\":\"recital\",\"schema\":99,\"run\":\"\",\"failed\":[]}\n").unwrap();
    file.write_all(&vec![b'x'; 1 << 20]).unwrap();
    file.write_all(b"\n").unwrap();
    drop(file);
    run(&path, &one(Outcome::Failed));
    let (history, problems) = History::load(&path).unwrap();
    assert_eq!(problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), [1, 2, 3, 5, 6, 7]);
    assert!(problems[4].to_string().contains("schema 99, expected 1"), "{}", problems[4]);
    assert!(problems[5].to_string().contains("longer than"), "{}", problems[5]);
    assert_eq!(numbers(&history), ["1=wksp/roundtrip"]);
}

#[test]
fn many_runs_may_write_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.jsonl");
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let path = &path;
            scope.spawn(move || run(path, &named(&writer.to_string(), many(40, 4, |_| Outcome::Passed))));
        }
    });
    let history = load(&path);
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 8 * 41);
    assert_eq!(history.expectation("wksp", "wksp/scenario_0").past.len(), 8);
}

#[test]
fn shown_as_text() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.jsonl");
    for (name, slower) in [("a", 1), ("b", 3), ("c", 2)] {
        let mut made = named(name, every_outcome());
        made.records.iter_mut().for_each(|record| record.duration *= slower);
        run(&path, &made);
    }
    run(&path, &named("d", one(Outcome::Failed)));
    run(&path, &named("e", one(Outcome::Passed)));
    insta::assert_snapshot!(load(&path).show(|group, _| group != "sched"));
}

proptest! {
    #[test]
    fn any_bytes_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.jsonl");
        fs::write(&path, &bytes).unwrap();
        let (history, _) = History::load(&path).unwrap();
        prop_assert!(history.failures().is_empty());
    }

    #[test]
    fn any_damage_is_no_panic(at in 0usize..100_000, bit in 0u8..8) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.jsonl");
        run(&path, &every_outcome());
        let mut bytes = fs::read(&path).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        fs::write(&path, &bytes).unwrap();
        let (history, problems) = History::load(&path).unwrap();
        // A flipped newline joins two lines; nothing else costs more than its line.
        prop_assert!(problems.len() <= 2);
        history.show(|_, _| true);
        history.failures();
        history.expectation("wksp", "wksp/crashed_9");
    }
}

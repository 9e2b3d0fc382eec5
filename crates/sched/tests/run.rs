//! A run as a whole: its directory, its records, what stops it before it begins, and what cannot stop it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod shell;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use outlast_sched::{
    Attempt, Cpus, Event, Expectation, Job, JobRunner, Outcome, PlanInfo, QueueError, Record, RunError,
    Settings, Shard, Stop, Summary, Task, run, run_with,
};
use shell::{Each, job, run_all, settings, try_run};

/// A runner without processes.
struct Function<F>(F);

impl<F: Fn(&Task<'_>) -> Attempt + Sync> JobRunner for Function<F> {
    fn run(&self, task: &Task<'_>) -> Attempt {
        (self.0)(task)
    }
}

fn outcomes(records: &[Record]) -> Vec<Outcome> {
    records.iter().map(|record| record.outcome).collect()
}

fn entries(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default();
    names.sort();
    names
}

#[test]
fn the_directory_tells_the_whole_run() {
    let root = tempfile::tempdir().unwrap();
    let jobs = vec![job("a", "true"), job("b", "false"), job("c", "true")];
    let settings =
        Settings { seed: 5, shard: Some((1, 2)), commit: Some("abc+".into()), ..settings(root.path()) };
    let report = run_all(jobs, &settings);
    assert_eq!(outcomes(&report.records), [Outcome::Passed, Outcome::Failed, Outcome::Passed]);
    let text = |name: &str| fs::read_to_string(report.directory.join(name)).unwrap();
    let plan: PlanInfo = serde_json::from_str(&text("plan.json")).unwrap();
    assert_eq!((plan.seed, plan.shard, plan.jobs.len()), (5, Some((1, 2)), 3));
    assert_eq!(plan.directory, report.directory);
    let mut records: Vec<Record> =
        text("records.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.iter().map(|record| record.completion).collect::<Vec<_>>(), [0, 1, 2]);
    records.sort_by_key(|record| record.ordinal);
    assert_eq!(records, report.records);
    assert_eq!(serde_json::from_str::<Summary>(&text("summary.json")).unwrap(), report.summary);
    assert_eq!(report.summary.exit_code, 100);
    // The failure's sandbox stays, and nothing else does.
    let kept = report.records[1].sandbox.as_ref().unwrap();
    assert!(kept.ends_with("b.1") && kept.join("log").exists());
    let slot = kept.parent().unwrap();
    assert_eq!(entries(slot), ["b.1"]);
    let slot = slot.file_name().unwrap().to_str().unwrap();
    assert_eq!(
        entries(&report.directory),
        ["plan.json", "records.jsonl", "samples.jsonl", slot, "summary.json"]
    );
}

#[test]
fn events_come_in_order_and_each_job_ends_once() {
    let root = tempfile::tempdir().unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = {
        let told = Arc::clone(&told);
        Each(move |event: &Event| {
            told.lock().unwrap().push(match event {
                Event::Planned(_) => "planned".to_owned(),
                Event::Assigned { ordinal, .. } => format!("assigned {ordinal}"),
                Event::Started { ordinal, .. } => format!("started {ordinal}"),
                Event::Finished(record) => format!("finished {}", record.ordinal),
                Event::Ended(_) => "ended".to_owned(),
                _ => return Ok(()),
            });
            Ok(())
        })
    };
    let jobs = vec![job("a", "true"), job("b", "true")];
    let settings = Settings { slots: 1, ..settings(root.path()) };
    try_run(jobs, &settings, vec![Box::new(sink)]).unwrap();
    let expected = [
        "planned",
        "assigned 0",
        "started 0",
        "finished 0",
        "assigned 1",
        "started 1",
        "finished 1",
        "ended",
    ];
    assert_eq!(*told.lock().unwrap(), expected);
}

#[test]
fn skipped_and_cached_jobs_are_never_started() {
    let root = tempfile::tempdir().unwrap();
    let mut jobs = vec![job("skipped", "exit 1"), job("cached", "exit 1"), job("changed", "true")];
    jobs[0].skip = Some("no second machine".to_owned());
    jobs[1].inputs = Some("digest".to_owned());
    jobs[2].inputs = Some("new digest".to_owned());
    let passed = Expectation { passed_inputs: Some("digest".to_owned()), ..Expectation::default() };
    let report = run(jobs, vec![passed; 3], &settings(root.path()), vec![], &Stop::new().unwrap()).unwrap();
    assert_eq!(outcomes(&report.records), [Outcome::Skipped, Outcome::Cached, Outcome::Passed]);
    assert_eq!(report.records[0].reason.as_deref(), Some("no second machine"));
    assert!(report.records[..2].iter().all(|record| record.slot.is_none() && record.exit.is_none()));
    assert_eq!(report.summary.exit_code, 0);
}

#[test]
fn an_empty_plan_is_a_run() {
    let root = tempfile::tempdir().unwrap();
    let report = run_all(vec![], &settings(root.path()));
    assert_eq!((report.records.len(), report.summary.exit_code), (0, 4));
    assert!(report.directory.join("summary.json").exists());
}

#[test]
fn what_is_asked_to_stop_before_it_begins_begins_nothing() {
    let root = tempfile::tempdir().unwrap();
    let stop = Stop::new().unwrap();
    stop.request();
    let report =
        run(vec![job("a", "true")], vec![Expectation::default()], &settings(root.path()), vec![], &stop);
    assert_eq!(outcomes(&report.unwrap().records), [Outcome::Interrupted]);
}

#[test]
fn two_runs_at_once_share_nothing() {
    let root = tempfile::tempdir().unwrap();
    let settings = settings(root.path());
    // Each job holds its sandbox until the other run's job has one too.
    let barrier = Barrier::new(2);
    let runner = Function(|_: &Task<'_>| {
        barrier.wait();
        Attempt::from(Outcome::Passed)
    });
    let one = || {
        let expectations = vec![Expectation::default()];
        run_with(&runner, vec![job("same", "")], expectations, &settings, vec![], &Stop::new().unwrap())
            .unwrap()
    };
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(one);
        (one(), other.join().unwrap())
    });
    assert_ne!(first.directory, second.directory);
    for report in [first, second] {
        assert_eq!(outcomes(&report.records), [Outcome::Passed]);
        assert_eq!(fs::read_to_string(report.directory.join("records.jsonl")).unwrap().lines().count(), 1);
    }
}

#[test]
fn sinks_that_fail_or_panic_stop_nothing() {
    let root = tempfile::tempdir().unwrap();
    let seen = Arc::new(Mutex::new(0));
    let counts = Arc::clone(&seen);
    let fails = Each(|_: &Event| Err(io::Error::other("no paper")));
    let panics = Each(|event: &Event| match event {
        Event::Finished(_) => panic!("out of ink"),
        _ => Ok(()),
    });
    let works = Each(move |event: &Event| {
        *counts.lock().unwrap() += u32::from(matches!(event, Event::Finished(_)));
        Ok(())
    });
    let jobs = vec![job("a", "true"), job("b", "true")];
    let report =
        try_run(jobs, &settings(root.path()), vec![Box::new(fails), Box::new(panics), Box::new(works)])
            .unwrap();
    assert_eq!(outcomes(&report.records), [Outcome::Passed, Outcome::Passed]);
    assert_eq!(report.sink_errors, ["sink 1: no paper", "sink 2: it panicked: out of ink"]);
    assert_eq!(*seen.lock().unwrap(), 2);
}

#[test]
fn a_panic_of_a_runner_is_that_jobs_failure() {
    let root = tempfile::tempdir().unwrap();
    let runner = Function(|task: &Task<'_>| {
        assert!(task.ordinal != 0, "the first is bad");
        Attempt::from(Outcome::Passed)
    });
    let settings = Settings { slots: 1, ..settings(root.path()) };
    let (jobs, expectations) = (vec![job("a", ""), job("b", "")], vec![Expectation::default(); 2]);
    let report = run_with(&runner, jobs, expectations, &settings, vec![], &Stop::new().unwrap()).unwrap();
    assert_eq!(outcomes(&report.records), [Outcome::Failed, Outcome::Passed]);
    assert!(report.records[0].reason.as_ref().unwrap().contains("the first is bad"));
}

#[test]
fn all_slots_work_at_once_and_the_longest_goes_first() {
    let root = tempfile::tempdir().unwrap();
    let order = Mutex::new(Vec::new());
    let barrier = Barrier::new(3);
    let runner = Function(|task: &Task<'_>| {
        order.lock().unwrap().push(task.ordinal);
        barrier.wait();
        Attempt::from(Outcome::Passed)
    });
    let jobs: Vec<Job> = (0..6).map(|place| job(&format!("job {place}"), "")).collect();
    let expectations = (0..6)
        .map(|place| Expectation { sort: Duration::from_secs(place), ..Expectation::default() })
        .collect();
    let settings = Settings { slots: 3, ..settings(root.path()) };
    let report = run_with(&runner, jobs, expectations, &settings, vec![], &Stop::new().unwrap()).unwrap();
    assert!(report.records.iter().all(|record| record.outcome == Outcome::Passed));
    let mut first: Vec<u32> = order.into_inner().unwrap()[..3].to_vec();
    first.sort_unstable();
    assert_eq!(first, [3, 4, 5]);
}

#[test]
fn limits_hold_between_slots() {
    let root = tempfile::tempdir().unwrap();
    // (running in the group, holding the CPU) now and at most.
    let state = Mutex::new([(0, 0), (0, 0)]);
    let runner = Function(|task: &Task<'_>| {
        let kind = usize::from(task.job.demand.cpus != Cpus::Shared);
        let add = |number: i32| {
            let mut state = state.lock().unwrap();
            state[kind].0 += number;
            state[kind].1 = state[kind].1.max(state[kind].0);
        };
        add(1);
        std::thread::sleep(Duration::from_millis(2)); // Gives an overlap, which must not be, time to show.
        add(-1);
        Attempt::from(Outcome::Passed)
    });
    let jobs: Vec<Job> = (0..40)
        .map(|place| {
            let mut job = job(&format!("job {place}"), "");
            if place % 2 == 0 {
                job.demand.cpus = Cpus::Own(3);
                job.group = "other".to_owned();
            }
            job
        })
        .collect();
    let settings = Settings {
        slots: 8,
        cpus: Some(vec![0]),
        group_limits: BTreeMap::from([("group".to_owned(), 2)]),
        ..settings(root.path())
    };
    let expectations = vec![Expectation::default(); 40];
    let report = run_with(&runner, jobs, expectations, &settings, vec![], &Stop::new().unwrap()).unwrap();
    assert!(report.records.iter().all(|record| record.outcome == Outcome::Passed));
    let [(_, in_group), (_, own)] = state.into_inner().unwrap();
    assert!(in_group <= 2 && own == 1, "{in_group} {own}");
}

#[test]
fn each_sandbox_begins_as_a_copy_of_the_skeleton() {
    let root = tempfile::tempdir().unwrap();
    let skeleton = root.path().join("skeleton");
    fs::create_dir_all(skeleton.join("in/side")).unwrap();
    fs::write(skeleton.join("in/side/file"), "content").unwrap();
    fs::write(skeleton.join("script"), "#!/bin/sh\ncat in/side/file\n").unwrap();
    fs::set_permissions(skeleton.join("script"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut jobs =
        vec![job("a", "./script; echo spoilt > in/side/file"), job("a/b", "./script"), job("a-b", "false")];
    jobs.iter_mut().for_each(|job| job.skeleton = Some(skeleton.clone()));
    let settings = Settings { keep: true, slots: 1, ..settings(root.path()) };
    let report = run_all(jobs, &settings);
    assert_eq!(outcomes(&report.records), [Outcome::Passed, Outcome::Passed, Outcome::Failed]);
    for record in &report.records[..2] {
        assert_eq!((record.stdout_tail.as_str(), record.stderr_tail.as_str()), ("content", ""));
    }
    let kept: Vec<_> = report.records.iter().map(|record| record.sandbox.clone().unwrap()).collect();
    assert!(kept[1].ends_with("slot-0/a-b.1") && kept[2].ends_with("slot-0/a-b.1.2"), "{kept:?}");
    assert_eq!(fs::read_to_string(skeleton.join("in/side/file")).unwrap(), "content");
}

#[test]
fn a_program_out_of_a_skeleton_is_not_busy() {
    let root = tempfile::tempdir().unwrap();
    let skeleton = root.path().join("skeleton");
    fs::create_dir(&skeleton).unwrap();
    // Large enough for others to fork while it is copied.
    fs::write(skeleton.join("script"), format!("#!/bin/sh\nexit 0\n#{}\n", "x".repeat(1 << 20))).unwrap();
    fs::set_permissions(skeleton.join("script"), fs::Permissions::from_mode(0o755)).unwrap();
    let jobs = (0..200).map(|place| {
        let mut job = job(&format!("job {place}"), "./script");
        job.skeleton = Some(skeleton.clone());
        job
    });
    let report = run_all(jobs.collect(), &Settings { slots: 8, ..settings(root.path()) });
    let wrong = report.records.iter().find(|record| record.outcome != Outcome::Passed);
    assert!(wrong.is_none(), "{wrong:?}");
}

/// A run that must not begin, and must leave nothing.
fn refused(jobs: Vec<Job>, change: impl FnOnce(&mut Settings)) -> RunError {
    let root = tempfile::tempdir().unwrap();
    let mut settings = settings(root.path());
    change(&mut settings);
    let sink = Each(|event: &Event| panic!("told of {event:?}"));
    let error = try_run(jobs, &settings, vec![Box::new(sink)]).unwrap_err();
    assert_eq!(entries(&settings.root), [""; 0]);
    error
}

#[test]
fn a_skeleton_that_cannot_be_copied_stops_the_run_first() {
    let place = tempfile::tempdir().unwrap();
    let with = |skeleton: &Path| {
        let mut job = job("b", "true");
        job.skeleton = Some(skeleton.to_owned());
        refused(vec![shell::job("a", "true"), job], |_| {}).to_string()
    };
    let missing = place.path().join("missing");
    assert!(with(&missing).starts_with(&format!("{} is part of a skeleton", missing.display())));
    let link = place.path().join("link");
    std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
    let text = with(place.path());
    assert!(text.contains(link.to_str().unwrap()) && text.contains("no links"), "{text}");
}

#[test]
fn a_root_that_cannot_be_made_stops_the_run_first() {
    let place = tempfile::NamedTempFile::new().unwrap();
    let error = refused(vec![job("a", "true")], |settings| settings.root = place.path().join("root"));
    assert!(matches!(&error, RunError::Directory { path, .. } if path.starts_with(place.path())), "{error}");
}

#[test]
fn plans_that_cannot_be_carried_out_are_refused() {
    let mut large = job("large", "true");
    large.demand.memory_bytes = 3000;
    let mut skipped = large.clone();
    skipped.name = "skipped".to_owned();
    skipped.skip = Some("too large".to_owned());
    let error = refused(vec![skipped, large], |settings| settings.memory_bytes = Some(2000));
    assert!(
        matches!(&error, RunError::Memory { job, needed: 3000, budget: 2000 } if job == "large"),
        "{error}"
    );
    let error = refused(vec![], |settings| settings.slots = 257);
    assert!(matches!(error, RunError::Queue(QueueError::Slots { found: 257 })));
    let error = refused(vec![job("a", ""), job("a", "")], |_| {});
    assert!(matches!(error, RunError::Twice { repetition: 1, .. }));
    let error = refused(vec![job("a", ""), job("b", "")], |settings| settings.output_to = Some("out".into()));
    assert!(matches!(error, RunError::OutputTo { first: 1, second: 2, .. }));
    let root = tempfile::tempdir().unwrap();
    let error =
        run(vec![job("a", "")], vec![], &settings(root.path()), vec![], &Stop::new().unwrap()).unwrap_err();
    assert!(matches!(error, RunError::Expectations { jobs: 1, expectations: 0 }));
}

#[test]
fn outputs_are_copied_to_where_they_are_wanted() {
    let root = tempfile::tempdir().unwrap();
    let output_to = Some(root.path().join("out/[NUMBER]-[NAME].txt"));
    let settings = Settings { output_to, ..settings(root.path()) };
    let hostile = job("hostile", "rm stdout; mkfifo stdout; exit 0");
    let report = run_all(vec![job("a/b", "echo one; echo two >&2"), job("c", "exit 1"), hostile], &settings);
    assert_eq!(entries(&root.path().join("out")), ["1-a-b.txt", "2-c.txt", "3-hostile.txt"]);
    assert_eq!(report.records[2].outcome, Outcome::Passed);
    assert!(report.records[2].text.contains("could not be copied"), "{}", report.records[2].text);
    assert_eq!(fs::read_to_string(root.path().join("out/1-a-b.txt")).unwrap(), "one\ntwo\n");
}

#[test]
fn a_trace_has_every_step() {
    let root = tempfile::tempdir().unwrap();
    let settings = Settings { trace: true, slots: 1, ..settings(root.path()) };
    let report = run_all(vec![job("a", "true")], &settings);
    let trace = fs::read_to_string(report.directory.join("trace.log")).unwrap();
    let steps: Vec<&str> = trace.lines().map(|line| line.trim_start().split_once(' ').unwrap().1).collect();
    let pid = steps[1].rsplit(' ').next().unwrap();
    let started = format!("slot 0: started job 0 as process {pid}");
    assert_eq!(
        steps,
        ["slot 0: assigned job 0, CPUs []", &started, "slot 0: finished job 0: passed", "slot 0: joins"]
    );
}

#[test]
fn shards_are_disjoint_and_whole() {
    let plan: Vec<Job> = (0..10).map(|place| job(&format!("job {place}"), "")).collect();
    let mut seen = Vec::new();
    for index in 1..=3 {
        let shard: Shard = format!("{index}/3").parse().unwrap();
        assert_eq!((shard.parts(), shard.to_string()), ((index, 3), format!("{index}/3")));
        for job in shard.select(plan.clone()) {
            assert_eq!(job.name, format!("job {}", job.global_ordinal));
            assert_eq!(job.global_ordinal % 3, index - 1);
            seen.push(job.global_ordinal);
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
    for wrong in ["", "1", "0/3", "4/3", "1/0", "+1/3", "1/3/5", "a/b", "1/99999999999"] {
        let error = wrong.parse::<Shard>().unwrap_err().to_string();
        assert!(error.contains(&format!("{wrong:?}")), "{error}");
    }
}

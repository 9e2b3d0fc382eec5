//! Jobs that are real processes, and every way in which they end.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod shell;

use std::fs;
use std::path::Path;
use std::time::Duration;

use outlast_sched::{Cpus, Event, Exit, Expectation, Job, Limit, Outcome, Record, RunReport, Stop, run};
use shell::{Each, is_alive, job, run_all, settings};

/// The record of one job that runs alone.
fn alone(task: Job) -> Record {
    let root = tempfile::tempdir().unwrap();
    run_all(vec![task], &settings(root.path())).records.remove(0)
}

fn reporting(script: &str) -> Record {
    let mut task = job("reporting", script);
    task.command.reports = true;
    alone(task)
}

fn fifo(directory: &Path, name: &str) -> std::path::PathBuf {
    let path = directory.join(name);
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    path
}

#[test]
fn an_exit_code_decides_where_no_verdict_is_promised() {
    let passed = alone(job("a/b", "echo out; echo err >&2"));
    assert_eq!((passed.outcome, passed.exit, passed.reason), (Outcome::Passed, Some(Exit::Code(0)), None));
    assert_eq!((passed.stdout_tail.as_str(), passed.stderr_tail.as_str()), ("out\n", "err\n"));
    assert_eq!((passed.replay.as_str(), passed.sandbox, passed.slot), ("again a/b", None, Some(0)));
    let failed = alone(job("b", "exit 3"));
    assert_eq!((failed.outcome, failed.reason.as_deref()), (Outcome::Failed, Some("exit code 3")));
}

#[test]
fn a_signal_is_a_crash() {
    for (script, number) in [("kill -SEGV $$", 11), ("kill -KILL $$", 9)] {
        let record = alone(job("crash", script));
        assert_eq!(record.outcome, Outcome::Crashed);
        assert!(matches!(record.exit, Some(Exit::Signal { number: found, .. }) if found == number));
        assert!(record.reason.unwrap().contains("SIG"));
    }
}

#[test]
fn a_verdict_is_taken_for_what_it_says_and_for_no_more() {
    let says = |verdict: &str, exit: i32| reporting(&format!("echo '{verdict}' > verdict.json; exit {exit}"));
    let passed =
        says(r#"{"outcome":"passed","text":"3 kills","report":{"kills":3},"replay":"r","schedule":"s"}"#, 0);
    assert_eq!((passed.outcome, passed.text.as_str()), (Outcome::Passed, "3 kills"));
    assert_eq!((passed.replay.as_str(), passed.schedule.as_deref()), ("r", Some("s")));
    assert_eq!(passed.report["kills"], 3);
    let failed = says(r#"{"outcome":"failed","reason":"a byte is wrong"}"#, 100);
    assert_eq!((failed.outcome, failed.reason.as_deref()), (Outcome::Failed, Some("a byte is wrong")));
    assert_eq!(says(r#"{"outcome":"inconclusive","reason":"no kill"}"#, 5).outcome, Outcome::Inconclusive);
    assert_eq!(says(r#"{"outcome":"passed"}"#, 1).outcome, Outcome::Failed);
    assert_eq!(says("{", 0).outcome, Outcome::Failed);
    let silent = reporting("true");
    assert_eq!(silent.outcome, Outcome::Failed);
    assert!(silent.reason.unwrap().contains("reported nothing"));
    assert_eq!(reporting("mkfifo verdict.json").outcome, Outcome::Failed);
}

#[test]
fn what_cannot_be_started_says_why() {
    let root = tempfile::tempdir().unwrap();
    let plain = root.path().join("plain");
    fs::write(&plain, "no program").unwrap();
    for (program, name) in [(Path::new("/nowhere/at/all"), "ENOENT"), (&plain, "EACCES")] {
        let mut task = job("missing", "");
        task.command.program = program.to_owned();
        let record = alone(task);
        assert_eq!((record.outcome, record.exit), (Outcome::NotStarted, None));
        let reason = record.reason.unwrap();
        assert!(reason.contains(name) && reason.contains(program.to_str().unwrap()), "{reason}");
    }
}

#[test]
fn a_relative_program_is_meant_from_here() {
    let mut task = job("relative", "");
    // The package's own directory is where tests run.
    fs::metadata("Cargo.toml").unwrap();
    task.command.program = "./Cargo.toml".into();
    assert!(alone(task).reason.unwrap().contains("EACCES"), "it is found and is no program");
}

#[test]
fn a_limit_ends_the_whole_group() {
    let mut task = job("endless", "sleep 600 & echo $! > child; wait");
    task.limit =
        Limit { slow: Some(Duration::ZERO), kill: Some(Duration::from_millis(300)), ..Limit::default() };
    let root = tempfile::tempdir().unwrap();
    let record = run_all(vec![task], &settings(root.path())).records.remove(0);
    assert_eq!((record.outcome, record.slow), (Outcome::TimedOut, true));
    assert!(record.reason.unwrap().contains("300ms"));
    let sandbox = record.sandbox.unwrap();
    assert!(fs::read_to_string(sandbox.join("log")).unwrap().contains("SIGTERM to process group"));
    let child = fs::read_to_string(sandbox.join("child")).unwrap_or_default();
    assert!(!is_alive(&child));
}

/// Runs a job that opens `$FIFO` for writing when it is ready, and then asks the run to stop.
fn interrupted(script: &str, more: Vec<Job>) -> (RunReport, tempfile::TempDir) {
    interrupted_with(Duration::from_millis(50), script, more)
}

fn interrupted_with(grace: Duration, script: &str, more: Vec<Job>) -> (RunReport, tempfile::TempDir) {
    let root = tempfile::tempdir().unwrap();
    let ready = fifo(root.path(), "ready");
    let mut task = job("waits", script);
    task.command.environment.push(("FIFO".into(), ready.clone().into()));
    task.limit.grace = grace;
    let jobs: Vec<Job> = std::iter::once(task).chain(more).collect();
    let stop = Stop::new().unwrap();
    let expectations: Vec<_> = (0..jobs.len() as u64)
        .map(|place| Expectation { sort: Duration::from_secs(100 - place), ..Expectation::default() })
        .collect();
    let settings = outlast_sched::Settings { slots: 1, ..settings(root.path()) };
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            fs::read(&ready).unwrap();
            stop.request();
        });
        run(jobs, expectations, &settings, vec![], &stop).unwrap()
    });
    (report, root)
}

#[test]
fn an_interrupt_ends_what_runs_and_begins_nothing() {
    let (report, _root) =
        interrupted("trap 'exit 0' TERM; : > $FIFO; sleep 600 & wait", vec![job("later", "true")]);
    let [first, later] = &report.records[..] else { panic!("{:?}", report.records) };
    assert_eq!((first.outcome, first.exit), (Outcome::Interrupted, Some(Exit::Code(0))));
    assert_eq!((later.outcome, later.slot, later.exit), (Outcome::Interrupted, None, None));
    assert!(report.summary.interrupted);
    assert_eq!(report.summary.exit_code, 130);
}

#[test]
fn the_grace_is_that_of_the_whole_group() {
    // The leader ends at once; the other takes longer over it than leftovers of a job that ends by itself may.
    let script = "sh -c 'trap \"sleep 1.5; echo tidied; exit 0\" TERM; : > $FIFO; \
                  while :; do sleep 0.05; done' & wait";
    let (report, _root) = interrupted_with(Duration::from_secs(30), script, vec![]);
    let record = &report.records[0];
    assert_eq!((record.outcome, &record.leaked), (Outcome::Interrupted, &vec![]));
    assert_eq!(record.stdout_tail, "tidied\n");
}

#[test]
fn who_ignores_sigterm_gets_sigkill() {
    let (report, _root) = interrupted("trap '' TERM; : > $FIFO; while :; do sleep 600; done", vec![]);
    let record = &report.records[0];
    assert_eq!(record.outcome, Outcome::Interrupted);
    assert_eq!(record.exit, Some(Exit::Signal { number: 9, core: false }));
    let log = fs::read_to_string(record.sandbox.as_ref().unwrap().join("log")).unwrap();
    assert!(log.contains("SIGTERM") && log.contains("SIGKILL"), "{log}");
}

#[test]
fn a_grandchild_left_behind_is_named_and_killed() {
    let record = alone(job("leaks", "sleep 600 & echo $!"));
    assert_eq!((record.outcome, record.exit), (Outcome::Leaked, Some(Exit::Code(0))));
    let [leaked] = &record.leaked[..] else { panic!("{:?}", record.leaked) };
    let pid = record.stdout_tail.trim();
    assert!(leaked.starts_with(&format!("{pid} ")), "{leaked}");
    assert!(!is_alive(pid));
}

/// Each process of the chain is gone before anybody can have looked at it, and there is always a next one.
#[test]
fn leftovers_that_are_faster_than_every_look_are_killed_too() {
    let root = tempfile::tempdir().unwrap();
    let chain = "echo . >> links; sh ./chain > /dev/null 2>&1 &";
    let settings = outlast_sched::Settings { keep: true, ..settings(root.path()) };
    let script = format!("echo '{chain}' > chain; while ! [ -s links ]; do sh ./chain; done");
    let record = run_all(vec![job("chain", &script)], &settings).records.remove(0);
    assert!(matches!(record.outcome, Outcome::Passed | Outcome::Leaked), "{record:?}");
    let links = record.sandbox.unwrap().join("links");
    let before = fs::metadata(&links).unwrap().len();
    // So long that a chain that goes on would have some more.
    alone(job("meanwhile", "for i in 1 2 3 4 5 6 7 8 9; do sh -c 'sh -c : &'; sleep 0.01; done"));
    assert_eq!(fs::metadata(&links).unwrap().len(), before);
}

#[test]
fn one_that_left_the_group_is_found_by_its_output() {
    let script = "setsid sh -c 'echo $$ > pid.new; mv pid.new pid; exec sleep 600' & \
                  while ! [ -s pid ]; do sleep 0.01; done; cat pid";
    let record = alone(job("leaks", script));
    assert_eq!(record.outcome, Outcome::Leaked);
    let pid = record.stdout_tail.trim();
    let [leaked] = &record.leaked[..] else { panic!("{:?}", record.leaked) };
    assert!(leaked.starts_with(&format!("{pid} ")), "{leaked}");
    assert!(!is_alive(pid));
}

#[test]
fn a_job_that_failed_and_leaked_has_failed() {
    let record = alone(job("leaks", "sleep 600 & exit 1"));
    assert_eq!((record.outcome, record.leaked.len()), (Outcome::Failed, 1));
}

#[test]
fn what_ends_by_itself_in_time_is_not_left_behind() {
    let record = alone(job("quick", "sleep 600 & kill -KILL $!"));
    assert_eq!((record.outcome, record.leaked), (Outcome::Passed, vec![]));
}

#[test]
fn a_talkative_job_is_not_held_up() {
    let script = "head -c 1048576 /dev/zero | tr '\\0' x >&2; echo; echo done >&2; echo out";
    let root = tempfile::tempdir().unwrap();
    let settings = outlast_sched::Settings { keep: true, ..settings(root.path()) };
    let record = run_all(vec![job("loud", script)], &settings).records.remove(0);
    assert_eq!(record.outcome, Outcome::Passed);
    assert!(record.stderr_tail.ends_with("done\n") && record.stderr_tail.len() <= 8192);
    let kept = record.sandbox.unwrap();
    assert_eq!(fs::metadata(kept.join("stderr")).unwrap().len(), (1 << 20) + 5);
    assert_eq!(fs::read_to_string(kept.join("stdout")).unwrap(), "\nout\n");
}

#[test]
fn a_job_that_closes_its_outputs_is_waited_for() {
    let record = alone(job("mute", "exec >&- 2>&-; sleep 0.2; exit 4"));
    assert_eq!(record.exit, Some(Exit::Code(4)));
}

#[test]
fn a_job_knows_where_and_what_it_is() {
    let script = "test \"$PWD\" = \"$OUTLAST_SANDBOX\" && test -f log && test -z \"$(cat)\" && \
                  echo $OUTLAST_SLOT $OUTLAST_JOB_NAME $OUTLAST_JOB_SEED $WORD; cut -d' ' -f1,5 /proc/$$/stat";
    let record = alone(job("wksp/kill", script));
    let lines: Vec<&str> = record.stdout_tail.lines().collect();
    assert_eq!(lines[0], "0 wksp/kill 7 spoken");
    let (pid, group) = lines[1].split_once(' ').unwrap();
    assert_eq!(pid, group, "it leads a group of its own");
}

#[test]
fn cpus_of_its_own_are_set_before_it_begins() {
    let mut task = job("own", "grep Cpus_allowed_list /proc/self/status");
    task.demand.cpus = Cpus::Own(1);
    let record = alone(task);
    let [cpu] = record.cpus[..] else { panic!("{:?}", record.cpus) };
    assert_eq!(record.stdout_tail, format!("Cpus_allowed_list:\t{cpu}\n"));
    let shared = alone(job("shared", "grep Cpus_allowed_list /proc/self/status"));
    let own = fs::read_to_string("/proc/self/status").unwrap();
    assert!(shared.cpus.is_empty() && own.contains(&shared.stdout_tail), "{}", shared.stdout_tail);
}

#[test]
fn the_cpus_of_a_run_bind_the_jobs_that_share_them() {
    let root = tempfile::tempdir().unwrap();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let allowed = own.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    let first: u32 = allowed.trim().split(['-', ',']).next().unwrap().parse().unwrap();
    let settings = outlast_sched::Settings { cpus: Some(vec![first]), ..settings(root.path()) };
    let report = run_all(vec![job("shared", "grep Cpus_allowed_list /proc/self/status")], &settings);
    assert_eq!(report.records[0].stdout_tail, format!("Cpus_allowed_list:\t{first}\n"));
    let nowhere = outlast_sched::Settings { cpus: Some(vec![99_999]), ..settings };
    let record = run_all(vec![job("nowhere", "true")], &nowhere).records.remove(0);
    assert_eq!(record.outcome, Outcome::NotStarted);
    assert!(record.reason.unwrap().contains("EINVAL"));
}

#[test]
fn memory_is_looked_at_while_it_runs() {
    let root = tempfile::tempdir().unwrap();
    let go = fifo(root.path(), "go");
    let mut task = job("holds", "read word < $FIFO");
    task.command.environment.push(("FIFO".into(), go.clone().into()));
    let mut gone = false;
    let sink = Each(move |event: &Event| match event {
        Event::Sampled(sample) if sample.memory_bytes > 0 && !gone => {
            assert_eq!(sample.running, 1);
            gone = true;
            fs::write(&go, "go\n")
        }
        _ => Ok(()),
    });
    let report = shell::try_run(vec![task], &settings(root.path()), vec![Box::new(sink)]).unwrap();
    assert_eq!(report.records[0].outcome, Outcome::Passed);
    assert!(report.records[0].peak_bytes.unwrap() > 0);
    let samples = fs::read_to_string(report.directory.join("samples.jsonl")).unwrap();
    let last: outlast_sched::Sample = serde_json::from_str(samples.lines().last().unwrap()).unwrap();
    assert_eq!((last.running, last.finished, last.memory_bytes), (0, 1, 0));
}

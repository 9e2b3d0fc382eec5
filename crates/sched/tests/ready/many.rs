//! Many workers at once, counted in a process of its own so that nobody else opens descriptors meanwhile.

use std::process::{Command, ExitCode};
use std::time::Duration;

use outlast_sched::{MarkerSpec, MediumSpec, Spawn, Worker, wait_all_ready};

use crate::{LIMIT, start};

pub(crate) fn many_workers_at_once() {
    for (medium, count) in [("socket", "40"), ("slot", "20"), ("marker", "20")] {
        own_process(&["child", "count", medium, count]);
    }
}

pub(crate) fn a_failed_start_leaves_nothing() {
    own_process(&["child", "count-failed"]);
}

fn own_process(words: &[&str]) {
    let output = Command::new(std::env::current_exe().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Descriptors, mappings and threads of this process.
fn holdings() -> [usize; 3] {
    let entries = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    [entries("fd"), maps.lines().filter(|line| line.contains("memfd:")).count(), entries("task")]
}

/// The role that starts so many workers and looks at what is left.
pub(crate) fn count(medium: &str, count: usize) -> ExitCode {
    let (word, medium) = match medium {
        "socket" => ("ready", MediumSpec::Socket),
        "slot" => ("ready", MediumSpec::Slot),
        _ => ("marker", MediumSpec::Marker(MarkerSpec::default())),
    };
    let before = holdings();
    let mut workers: Vec<Worker> = (0..count).map(|_| start(&[word], medium.clone())).collect();
    let (results, wakeups) = wait_all_ready(&mut workers, LIMIT, None);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    // Hello and phases, ready, each at most one wake-up; nothing wakes by the clock.
    assert!(wakeups <= 8 * count as u64, "{wakeups} wake-ups for {count} workers");
    drop(workers);
    assert_eq!(holdings(), before);
    // One that says nothing: a waiter that looks by the clock would be woken by it.
    let mut silent = [start(&[if word == "marker" { "mute" } else { "hang" }], medium)];
    let (results, wakeups) = wait_all_ready(&mut silent, Duration::from_millis(500), None);
    assert!(results[0].is_err() && wakeups <= 8, "{wakeups} wake-ups by a silent worker");
    ExitCode::SUCCESS
}

/// The role whose fourth start fails.
pub(crate) fn count_failed() -> ExitCode {
    let before = holdings();
    for medium in [MediumSpec::Socket, MediumSpec::Slot, MediumSpec::Marker(MarkerSpec::default())] {
        let mut pids = Vec::new();
        let started = (0..6).try_fold(Vec::new(), |mut workers, index| {
            let program = if index == 3 { "/nonexistent".into() } else { std::env::current_exe().unwrap() };
            let spawn =
                Spawn::new("one of many", program).arguments(["child", "mute"]).medium(medium.clone());
            workers.push(spawn.start()?);
            pids.push(workers[index].pid());
            Ok::<_, outlast_sched::SpawnError>(workers)
        });
        assert!(started.is_err() && pids.len() == 3);
        for pid in pids {
            let found = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), None);
            assert_eq!(found, Err(nix::errno::Errno::ESRCH));
        }
        assert_eq!(holdings(), before);
    }
    ExitCode::SUCCESS
}

//! From the gate to the report, and what is left when a runner or a handle goes.

use std::time::Duration;

use nix::unistd::Pid;
use outlast_sched::{Exit, MarkerSpec, MediumSpec, Mishap, Worker, finish_all, wait_all_ready};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{PidfdFlags, pidfd_open};
use rustix::time::Timespec;

use crate::child::cpus;
use crate::{LIMIT, endpoints, role, start};

pub(crate) fn a_life_from_gate_to_report() {
    for medium in endpoints() {
        // On the last of the CPUs that this thread has; the thread itself keeps all of them.
        let before = cpus();
        let cpu = before[before.len() - 1];
        let mut worker = role(&["ready"]).medium(medium).cpus([cpu]).start().unwrap();
        assert_eq!(cpus(), before);
        worker.wait_ready(LIMIT, None).unwrap();
        // It does nothing before the gate: what it prints first comes after it.
        let error = worker.finish(Duration::from_millis(5), None).unwrap_err();
        assert!(matches!(*error.mishap, Mishap::TimedOut { .. }), "{error}");
        worker.open_gate().unwrap();
        worker.request_stop().unwrap();
        let finished = worker.finish(LIMIT, None).unwrap();
        assert_eq!((finished.exit, finished.report), (Exit::Code(0), Some(vec![7; 1000])));
        assert_eq!(finished.stdout_tail, format!("the first step on [{cpu}]\n"));
        assert_eq!(finished.last_phase.as_deref(), Some("run"));
        // It has ended: being told to is no error.
        worker.request_stop().unwrap();
    }
}

pub(crate) fn a_worker_without_a_report_has_not_succeeded() {
    for medium in endpoints() {
        let error = start(&["no-report"], medium).finish(LIMIT, None).unwrap_err();
        assert!(matches!(*error.mishap, Mishap::NoReport { exit: Exit::Code(0), .. }), "{error}");
    }
}

pub(crate) fn stop_is_heard_at_the_gate() {
    let mut worker = start(&["ready"], MediumSpec::Socket);
    worker.wait_ready(LIMIT, None).unwrap();
    worker.request_stop().unwrap();
    let finished = worker.finish(LIMIT, None).unwrap();
    assert_eq!(
        (finished.stdout_tail.as_str(), finished.report.as_deref()),
        ("", Some(&b"stopped at the gate"[..]))
    );
}

pub(crate) fn a_marker_worker_is_stopped_by_sigterm() {
    let mut worker = start(&["marker"], MediumSpec::Marker(MarkerSpec::default()));
    worker.wait_ready(LIMIT, None).unwrap();
    worker.request_stop().unwrap();
    assert_eq!(worker.finish(LIMIT, None).unwrap().exit, Exit::Signal { number: 15, core: false });
}

/// The number that a role prints as `pid=N`, and its process.
fn named_process(worker: &mut Worker) -> rustix::fd::OwnedFd {
    worker.wait_ready(LIMIT, None).unwrap();
    // What it wrote came before it was ready; a wait takes it in.
    let error = worker.finish(Duration::from_millis(1), None).unwrap_err();
    let text = error.mishap.stderr_tail().unwrap().to_owned();
    let pid = text.trim().strip_prefix("pid=").unwrap().parse().unwrap();
    pidfd_open(rustix::process::Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap()
}

fn ends(process: &rustix::fd::OwnedFd) -> bool {
    let limit = Timespec::try_from(LIMIT).unwrap();
    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&limit)).unwrap() == 1
}

pub(crate) fn the_group_ends_with_the_handle() {
    for medium in endpoints() {
        let mut worker = start(&["parent"], medium);
        let grandchild = named_process(&mut worker);
        let pid = worker.pid();
        drop(worker);
        assert!(ends(&grandchild), "a process of the group runs on");
        let gone = nix::sys::signal::kill(Pid::from_raw(pid.cast_signed()), None);
        assert_eq!(gone, Err(nix::errno::Errno::ESRCH), "it is reaped");
    }
}

pub(crate) fn workers_end_with_their_runner() {
    let mut runner = start(&["runner"], MediumSpec::Socket);
    let worker = named_process(&mut runner);
    // Its worker is in a group of its own, so nothing but the runner's death ends it.
    runner.kill().unwrap();
    assert!(ends(&worker), "a worker runs on without its runner");
}

pub(crate) fn one_deadline_for_all_ends() {
    let mut workers: Vec<Worker> =
        ["ready", "deaf", "ready", "deaf"].iter().map(|role| start(&[role], MediumSpec::Socket)).collect();
    let (ready, _) = wait_all_ready(&mut workers, LIMIT, None);
    assert!(ready.iter().all(Result::is_ok), "{ready:?}");
    // Those that hear the stop have ended for sure; for the others the time of all of them is over at once.
    for index in [0, 2] {
        workers[index].request_stop().unwrap();
        assert!(ends(&workers[index].pidfd().try_clone_to_owned().unwrap()));
    }
    let ends = finish_all(&mut workers, Duration::from_millis(1), None);
    for (end, hears) in ends.into_iter().zip([true, false, true, false]) {
        match end {
            Ok(finished) => assert!(hears && finished.report.is_some()),
            Err(error) => assert!(!hears && matches!(*error.mishap, Mishap::TimedOut { .. }), "{error}"),
        }
    }
}

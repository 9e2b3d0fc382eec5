//! Somebody else speaks in the worker's place, or the worker lives elsewhere.

use std::process::{Command, ExitCode, Stdio};

use outlast_sched::{Acceptance, MarkerSpec, MediumSpec, Mishap, Peer, Protocol, Spawn};

use crate::{LIMIT, TOO_LONG, endpoints, start};

pub(crate) fn a_child_of_the_worker_is_not_the_worker() {
    for medium in endpoints() {
        let mut worker = start(&["speak-through-child"], medium);
        let error = worker.wait_ready(LIMIT, None).unwrap_err();
        let Mishap::WrongPeer { peer: Peer::Process { pid } } = *error.mishap else { panic!("{error}") };
        assert_ne!(pid, worker.pid());
    }
}

/// `unshare` with these options, if this user may use it here.
fn unshare(options: &[&'static str]) -> Option<Vec<&'static str>> {
    for prefix in [&[][..], &["--user", "--map-root-user"]] {
        let all: Vec<&str> = prefix.iter().chain(options).copied().collect();
        let tried = Command::new("unshare").args(&all).arg("true").stderr(Stdio::null()).status();
        if tried.is_ok_and(|status| status.success()) {
            return Some(all);
        }
    }
    eprintln!("skipped: `unshare {}` is not there or not permitted", options.join(" "));
    None
}

fn elsewhere(options: &[&'static str], role: &str, medium: MediumSpec) {
    let Some(options) = unshare(options) else { return };
    let spawn = Spawn::new("elsewhere", "unshare").arguments(options).medium(medium);
    let spawn = spawn.argument(std::env::current_exe().unwrap()).argument("child").argument(role);
    let error = spawn.start().unwrap().wait_ready(LIMIT, None).unwrap_err();
    let Mishap::WrongNamespace { expected, found } = *error.mishap else { panic!("{error}") };
    assert_ne!(expected, found);
    assert!(error.to_string().contains("start both in the same"), "{error}");
}

pub(crate) fn another_pid_namespace_is_said() {
    for medium in endpoints() {
        elsewhere(&["--pid", "--fork"], "ready", medium);
    }
    // The marker of a process that has another number there; it reaches the runner all the same.
    elsewhere(&["--pid", "--fork"], "marker", MediumSpec::Marker(MarkerSpec::default()));
}

pub(crate) fn another_mount_namespace_is_said() {
    for medium in endpoints() {
        elsewhere(&["--mount"], "ready", medium);
    }
    elsewhere(&["--mount"], "marker", MediumSpec::Marker(MarkerSpec::default()));
}

/// The role whose own children begin in another pid namespace. Its worker never speaks, and nobody waits for it to.
pub(crate) fn start_elsewhere() -> ExitCode {
    let mut worker = start(&["mute"], MediumSpec::Marker(MarkerSpec::default()));
    let error = worker.wait_ready(TOO_LONG, None).unwrap_err();
    assert!(matches!(*error.mishap, Mishap::WrongNamespace { .. }), "{error}");
    ExitCode::from(77)
}

pub(crate) fn another_namespace_is_said_at_the_start() {
    let Some(options) = unshare(&["--pid"]) else { return };
    let words = ["child", "start-elsewhere"];
    let spawn =
        Spawn::new("starter", "unshare").arguments(options).argument(std::env::current_exe().unwrap());
    let mut starter =
        spawn.arguments(words).medium(MediumSpec::Marker(MarkerSpec::default())).start().unwrap();
    let finished = starter.finish(LIMIT, None).unwrap();
    assert_eq!(finished.exit, outlast_sched::Exit::Code(77), "{}", finished.stderr_tail);
}

/// The worker publishes under the number that it has there; the runner looks for the one that it has here.
pub(crate) fn a_marker_under_another_namespaces_number_is_said() {
    let Some(options) = unshare(&["--pid", "--fork"]) else { return };
    let directory = tempfile::tempdir().unwrap();
    let protocol = Protocol::new(directory.path().join("ready-"), "OUTLAST_TEST_NOBODY_SETS_THIS");
    let marker = MarkerSpec { acceptance: Acceptance::Strict, protocol: Some(protocol) };
    let spawn = Spawn::new("elsewhere", "unshare").arguments(options).medium(MediumSpec::Marker(marker));
    let spawn = spawn.argument(std::env::current_exe().unwrap()).arguments(["child", "marker-at"]);
    let mut worker = spawn.argument(directory.path().join("ready-")).start().unwrap();
    let (cancel, cancelled) = std::io::pipe().unwrap();
    std::thread::scope(|scope| {
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            // The test's own end, if nothing is heard.
            let _ = is_done.recv_timeout(LIMIT);
            drop(cancelled);
        });
        let error = worker.wait_ready(TOO_LONG, Some(std::os::fd::AsFd::as_fd(&cancel))).unwrap_err();
        drop(done);
        assert!(matches!(*error.mishap, Mishap::WrongNamespace { .. }), "{error}");
    });
}

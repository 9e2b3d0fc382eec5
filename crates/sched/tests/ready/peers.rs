//! Somebody else speaks in the worker's place, or the worker lives elsewhere.

use std::process::{Command, Stdio};

use outlast_sched::{MarkerSpec, MediumSpec, Mishap, Peer, Spawn};

use crate::{LIMIT, endpoints, start};

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

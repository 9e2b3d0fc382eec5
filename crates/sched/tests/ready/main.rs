//! Workers that are started, get ready or do not, and end in every way: each told apart, with real processes.
//!
//! The program is its own worker: with `child ROLE` it plays one (see `child`), else it runs the tests.

#![allow(clippy::unwrap_used, reason = "what is unwrapped here is what the test is about")]

mod child;
mod life;
mod many;
mod markers;
mod outcomes;
mod peers;

use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use outlast_sched::{MarkerSpec, MediumSpec, Spawn, Worker};

/// Outcomes are waited for at most so long.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Who would hear of something only when this is over has not heard of it.
pub(crate) const TOO_LONG: Duration = Duration::from_secs(3600);

/// A worker that plays a role.
pub(crate) fn role(words: &[&str]) -> Spawn {
    Spawn::new(words[0], std::env::current_exe().unwrap())
        .argument("child")
        .arguments(words.iter().copied())
        .legend("3 = tested on purpose")
}

/// A started worker that plays a role.
pub(crate) fn start(words: &[&str], medium: MediumSpec) -> Worker {
    role(words).medium(medium).start().unwrap()
}

/// The three media, each with its defaults.
pub(crate) fn media() -> [MediumSpec; 3] {
    [MediumSpec::Socket, MediumSpec::Slot, MediumSpec::Marker(MarkerSpec::default())]
}

/// The two whose workers have an endpoint.
pub(crate) fn endpoints() -> [MediumSpec; 2] {
    [MediumSpec::Socket, MediumSpec::Slot]
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "child") {
        return child::main(&words[1..]);
    }
    let tests: &[(&str, fn())] = &[
        ("ready_is_heard_by_each_medium", outcomes::ready_is_heard_by_each_medium),
        ("every_exit_before_ready_is_told_apart", outcomes::every_exit_before_ready_is_told_apart),
        ("a_death_alone_is_heard", outcomes::a_death_alone_is_heard),
        ("every_signal_before_ready_has_its_name", outcomes::every_signal_before_ready_has_its_name),
        ("a_death_after_ready_is_never_before", outcomes::a_death_after_ready_is_never_before),
        ("a_death_before_it_attached_is_only_a_death", outcomes::a_death_before_it_attached_is_only_a_death),
        ("a_worker_says_why_it_gives_up", outcomes::a_worker_says_why_it_gives_up),
        (
            "a_worker_that_says_much_is_heard_to_the_end",
            outcomes::a_worker_that_says_much_is_heard_to_the_end,
        ),
        ("a_ready_worker_says_why_it_gives_up", outcomes::a_ready_worker_says_why_it_gives_up),
        ("a_time_out_says_what_the_worker_does", outcomes::a_time_out_says_what_the_worker_does),
        ("a_stopped_worker_is_seen_stopped", outcomes::a_stopped_worker_is_seen_stopped),
        ("a_cancellation_ends_the_wait", outcomes::a_cancellation_ends_the_wait),
        ("a_worker_that_writes_much_does_not_hang", outcomes::a_worker_that_writes_much_does_not_hang),
        ("nonsense_is_an_error_of_that_worker", outcomes::nonsense_is_an_error_of_that_worker),
        ("the_texts_say_what_to_do", outcomes::the_texts_say_what_to_do),
        ("a_start_that_fails_has_its_errno", outcomes::a_start_that_fails_has_its_errno),
        ("a_child_of_the_worker_is_not_the_worker", peers::a_child_of_the_worker_is_not_the_worker),
        ("another_pid_namespace_is_said", peers::another_pid_namespace_is_said),
        ("another_namespace_is_said_at_the_start", peers::another_namespace_is_said_at_the_start),
        (
            "a_marker_under_another_namespaces_number_is_said",
            peers::a_marker_under_another_namespaces_number_is_said,
        ),
        ("another_mount_namespace_is_said", peers::another_mount_namespace_is_said),
        ("a_marker_of_an_earlier_process_is_stale", markers::a_marker_of_an_earlier_process_is_stale),
        ("each_difference_of_a_marker_is_told", markers::each_difference_of_a_marker_is_told),
        ("a_link_and_a_pipe_are_refused", markers::a_link_and_a_pipe_are_refused),
        ("a_bare_line_is_accepted_only_if_asked", markers::a_bare_line_is_accepted_only_if_asked),
        ("an_override_is_honoured_by_both_sides", markers::an_override_is_honoured_by_both_sides),
        (
            "a_marker_that_is_written_slowly_is_waited_for",
            markers::a_marker_that_is_written_slowly_is_waited_for,
        ),
        ("a_private_directory_is_private_and_removed", markers::a_private_directory_is_private_and_removed),
        ("a_life_from_gate_to_report", life::a_life_from_gate_to_report),
        ("a_worker_without_a_report_has_not_succeeded", life::a_worker_without_a_report_has_not_succeeded),
        ("stop_is_heard_at_the_gate", life::stop_is_heard_at_the_gate),
        ("a_marker_worker_is_stopped_by_sigterm", life::a_marker_worker_is_stopped_by_sigterm),
        ("the_group_ends_with_the_handle", life::the_group_ends_with_the_handle),
        ("workers_end_with_their_runner", life::workers_end_with_their_runner),
        ("one_deadline_for_all_ends", life::one_deadline_for_all_ends),
        ("many_workers_at_once", many::many_workers_at_once),
        ("a_failed_start_leaves_nothing", many::a_failed_start_leaves_nothing),
    ];
    let trials = tests.iter().map(|&(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

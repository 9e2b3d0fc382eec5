//! Each outcome of a wait, made to happen.

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use outlast_sched::{Exit, MarkerSpec, MediumSpec, Mishap, Spawn, Worker, WorkerError};
use rustix::event::{EventfdFlags, eventfd};

use crate::{LIMIT, TOO_LONG, endpoints, media, role, start};

pub(crate) fn ready_is_heard_by_each_medium() {
    for medium in media() {
        let is_marker = matches!(medium, MediumSpec::Marker(_));
        let mut worker = start(&[if is_marker { "marker" } else { "ready" }], medium.clone());
        let ready = worker.wait_ready(LIMIT, None).unwrap();
        assert_eq!((ready.medium, ready.bytes), (medium.kind(), (!is_marker).then_some(4096)));
        assert!(ready.elapsed < LIMIT);
        // Once more is the same answer.
        assert_eq!(worker.wait_ready(LIMIT, None).unwrap(), ready);
    }
}

pub(crate) fn every_exit_before_ready_is_told_apart() {
    for medium in endpoints() {
        for code in [0, 2, 3, 4, 5, 6, 101] {
            let error =
                start(&["exit", &code.to_string()], medium.clone()).wait_ready(LIMIT, None).unwrap_err();
            let Mishap::ExitedBeforeReady { exit, last_phase, stderr_tail } = &*error.mishap else {
                panic!("{error}");
            };
            assert_eq!((*exit, last_phase.as_deref()), (Exit::Code(code), Some("fill")));
            assert_eq!(stderr_tail, "leaving on purpose\n");
            assert!(error.to_string().contains("3 = tested on purpose"), "{error}");
        }
    }
}

/// The mishap of a worker that nobody waits for to the end of the time: what is heard only then was not heard.
fn heard(mut worker: Worker) -> WorkerError {
    let (send, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || send.send(worker.wait_ready(TOO_LONG, None)));
    heard.recv_timeout(LIMIT).expect("nothing was heard").unwrap_err()
}

/// No word, no marker, and nothing else in the marker's directory: the death alone wakes the waiter.
pub(crate) fn a_death_alone_is_heard() {
    for medium in media() {
        for (script, exit) in [
            ("exit 0", Exit::Code(0)),
            ("exit 2", Exit::Code(2)),
            ("exit 101", Exit::Code(101)),
            ("kill -9 $$", Exit::Signal { number: 9, core: false }),
        ] {
            // Not before it is waited for: the waiter sleeps when it dies.
            let script = format!("sleep 0.05; {script}");
            let spawn = Spawn::new("silent", "sh").arguments(["-c", &script]).medium(medium.clone());
            let error = heard(spawn.start().unwrap());
            let Mishap::ExitedBeforeReady { exit: found, .. } = *error.mishap else { panic!("{error}") };
            assert_eq!(found, exit);
        }
    }
}

pub(crate) fn every_signal_before_ready_has_its_name() {
    for medium in endpoints() {
        for (number, name) in [(9, "SIGKILL"), (11, "SIGSEGV"), (6, "SIGABRT")] {
            let error =
                start(&["signal", &number.to_string()], medium.clone()).wait_ready(LIMIT, None).unwrap_err();
            let signal = Exit::Signal { number, core: false };
            assert!(
                matches!(*error.mishap, Mishap::ExitedBeforeReady { exit, .. } if exit == signal),
                "{error}"
            );
            assert!(
                error.to_string().contains(name) && error.to_string().contains("crashing on purpose"),
                "{error}"
            );
        }
    }
}

pub(crate) fn a_death_after_ready_is_never_before() {
    let mut after = 0;
    for medium in media() {
        for round in 0..20_u32 {
            let spins = (round * 997 % 20_000).to_string();
            let words = match medium {
                MediumSpec::Marker(_) => vec!["marker-exit"],
                _ => vec!["ready-then-kill", &spins],
            };
            let mut worker = start(&words, medium.clone());
            match worker.wait_ready(LIMIT, None) {
                Ok(_) => {}
                Err(error) => {
                    assert!(matches!(*error.mishap, Mishap::ExitedAfterReady { .. }), "{error}");
                    after += 1;
                }
            }
        }
        // Dead for sure before anybody looks.
        let words: &[_] =
            if matches!(medium, MediumSpec::Marker(_)) { &["marker-exit"] } else { &["no-report"] };
        let mut worker = start(words, medium);
        rustix::event::poll(
            &mut [rustix::event::PollFd::new(&worker.pidfd(), rustix::event::PollFlags::IN)],
            None,
        )
        .unwrap();
        let error = worker.wait_ready(LIMIT, None).unwrap_err();
        assert!(matches!(*error.mishap, Mishap::ExitedAfterReady { .. }), "{error}");
        after += 1;
    }
    assert!(3 <= after);
}

/// Killed before it could even attach: looked at again, it is still only dead.
pub(crate) fn a_death_before_it_attached_is_only_a_death() {
    for medium in media() {
        let mut worker = start(&["mute"], medium);
        worker.kill().unwrap();
        for _ in 0..2 {
            let error = worker.wait_ready(LIMIT, None).unwrap_err();
            assert!(matches!(*error.mishap, Mishap::ExitedBeforeReady { .. }), "{error}");
        }
    }
}

pub(crate) fn a_worker_says_why_it_gives_up() {
    for medium in endpoints() {
        let error = start(&["give-up"], medium).wait_ready(LIMIT, None).unwrap_err();
        let Mishap::WorkerReported { code, text, .. } = &*error.mishap else { panic!("{error}") };
        assert_eq!((*code, text.as_str()), (12, "there is no room"));
    }
}

/// What was said while nobody listened is more than one look takes, and is heard all the same.
pub(crate) fn a_worker_that_says_much_is_heard_to_the_end() {
    for medium in endpoints() {
        let mut worker = start(&["talk-then-end", "200"], medium);
        let limit = rustix::time::Timespec::try_from(LIMIT).unwrap();
        let process = worker.pidfd();
        let ended = &mut [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
        assert_eq!(rustix::event::poll(ended, Some(&limit)), Ok(1));
        let error = worker.wait_ready(LIMIT, None).unwrap_err();
        let Mishap::ExitedAfterReady { last_phase, .. } = &*error.mishap else { panic!("{error}") };
        assert_eq!(last_phase.as_deref(), Some("199"));
        assert_eq!(worker.finish(LIMIT, None).unwrap().exit, Exit::Code(0));
    }
}

/// Also after it was ready, and as often as it is asked.
pub(crate) fn a_ready_worker_says_why_it_gives_up() {
    for medium in endpoints() {
        let mut worker = start(&["ready-then-give-up"], medium);
        worker.wait_ready(LIMIT, None).unwrap();
        worker.open_gate().unwrap();
        for _ in 0..2 {
            let error = worker.finish(LIMIT, None).unwrap_err();
            assert!(matches!(*error.mishap, Mishap::WorkerReported { code: 13, .. }), "{error}");
        }
    }
}

pub(crate) fn a_time_out_says_what_the_worker_does() {
    for medium in endpoints() {
        let mut worker = start(&["hang"], medium.clone());
        // First it is seen to be in its phase, then the time is over at once.
        let begin = Instant::now();
        while worker.last_phase() != Some("fill") {
            assert!(begin.elapsed() < LIMIT, "{:?}", worker.last_phase());
            worker.wait_ready(Duration::from_millis(5), None).unwrap_err();
        }
        let error = worker.wait_ready(Duration::from_millis(1), None).unwrap_err();
        let Mishap::TimedOut { last_phase, task_state, threads, .. } = &*error.mishap else {
            panic!("{error}")
        };
        assert_eq!((last_phase.as_deref(), *threads), (Some("fill"), Some(1)));
        assert!(matches!(task_state, Some('S' | 'R')), "{task_state:?}");
        let text = error.to_string();
        for part in
            ["worker hang", &format!("process {}", worker.pid()), "1ms", "`fill`", &medium.kind().to_string()]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

pub(crate) fn a_stopped_worker_is_seen_stopped() {
    let worker = &mut start(&["stop"], MediumSpec::Socket);
    // Until it has stopped, it is only late.
    let seen = Instant::now();
    loop {
        let error = worker.wait_ready(Duration::from_millis(5), None).unwrap_err();
        match *error.mishap {
            Mishap::TimedOut { task_state: Some('T'), .. } => {
                assert!(error.to_string().contains("SIGCONT"), "{error}");
                break;
            }
            Mishap::TimedOut { .. } => assert!(seen.elapsed() < LIMIT, "{error}"),
            _ => panic!("{error}"),
        }
    }
}

pub(crate) fn a_cancellation_ends_the_wait() {
    let cancel = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    for medium in media() {
        let mut worker = start(&["mute"], medium);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| worker.wait_ready(LIMIT, Some(cancel.as_fd())));
            rustix::io::write(&cancel, &1_u64.to_le_bytes()).unwrap();
            let error = waiting.join().unwrap().unwrap_err();
            assert!(matches!(*error.mishap, Mishap::Cancelled), "{error}");
        });
        rustix::io::read(&cancel, &mut [0; 8]).unwrap();
    }
}

pub(crate) fn a_worker_that_writes_much_does_not_hang() {
    for medium in endpoints() {
        let mut worker = role(&["flood"]).medium(medium).tail_bytes(100).start().unwrap();
        worker.wait_ready(LIMIT, None).unwrap();
        worker.kill().unwrap();
        let error = worker.finish(LIMIT, None).unwrap_err();
        let Mishap::NoReport { exit, stderr_tail } = &*error.mishap else { panic!("{error}") };
        assert_eq!(*exit, Exit::Signal { number: 9, core: false });
        assert!(stderr_tail.len() == 100 && stderr_tail.ends_with("x\nthe end\n"), "{stderr_tail}");
    }
}

pub(crate) fn nonsense_is_an_error_of_that_worker() {
    for text in ["", "?", "nonsense nonsense nonsense nonsense nonsense", &"x".repeat(70_000)] {
        let error = start(&["raw", text], MediumSpec::Socket).wait_ready(LIMIT, None).unwrap_err();
        let Mishap::Io { source, .. } = &*error.mishap else { panic!("{error}") };
        assert_eq!(source.kind(), ErrorKind::InvalidData, "{error}");
    }
}

pub(crate) fn the_texts_say_what_to_do() {
    let mut error = start(&["exit", "3"], MediumSpec::Socket).wait_ready(LIMIT, None).unwrap_err();
    error.pid = 1;
    assert_eq!(
        error.to_string(),
        "worker exit (process 1, medium socket) ended with exit code 3 before it was ready, in phase `fill`; its exit \
         codes: 3 = tested on purpose; its stderr ends with:\nleaving on purpose"
    );
    let text = start(&["deaf"], MediumSpec::Socket).finish(Duration::ZERO, None).unwrap_err().to_string();
    assert!(text.contains("timed out after 0ns"), "{text}");
    let marker = MediumSpec::Marker(MarkerSpec::default());
    let text = start(&["mute"], marker).open_gate().unwrap_err().to_string();
    assert!(text.contains("a worker with a marker has no gate"), "{text}");
}

pub(crate) fn a_start_that_fails_has_its_errno() {
    for medium in media() {
        let error = Spawn::new("nobody", "/nonexistent/program").medium(medium).start().unwrap_err();
        assert_eq!(error.source.kind(), ErrorKind::NotFound);
        let text = error.to_string();
        assert!(
            text.starts_with("worker nobody (/nonexistent/program) was not started: starting its program:"),
            "{text}"
        );
    }
    let error = role(&["mute"]).cpus([1_000_000]).start().unwrap_err();
    assert!(error.to_string().contains("choosing its CPUs"), "{error}");
}

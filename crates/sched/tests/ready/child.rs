//! The roles that the program plays as its own worker.

#![allow(clippy::zombie_processes, reason = "workers are killed with their children, whom nobody waits for")]

use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, raise};
use outlast_sched::{Endpoint, Marker, MediumSpec, Protocol, Signpost, end_with_parent, publish_ready};

use crate::{LIMIT, many, peers, start};

pub(crate) fn main(words: &[String]) -> ExitCode {
    // A crash on purpose leaves no core.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).unwrap();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if words[..] == ["child-of-parent"] {
        // Nothing but the group's end ends it.
        return park();
    }
    // Whoever has an endpoint does so anyway; below a wrapper the parent is another one, which is no matter here.
    let _ = end_with_parent(std::os::unix::process::parent_id());
    if let [role @ ("marker" | "marker-simple" | "marker-slow" | "marker-exit"), ..] = words[..] {
        return marker(role);
    }
    if let ["marker-at", prefix] = words[..] {
        publish_ready(&Protocol::new(prefix, "OUTLAST_TEST_NOBODY_SETS_THIS")).unwrap();
        return park();
    }
    match words[..] {
        ["runner"] => runner(),
        ["mute"] => park(),
        ["count", medium, workers] => many::count(medium, workers.parse().unwrap()),
        ["count-failed"] => many::count_failed(),
        ["start-elsewhere"] => peers::start_elsewhere(),
        ["speak-through-child"] => speak_through_child(),
        ["raw", text] => raw(text),
        _ => endpoint(&words),
    }
}

fn endpoint(words: &[&str]) -> ExitCode {
    let mut runner = match Endpoint::inherited() {
        Ok(runner) => runner,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    runner.phase("first").unwrap();
    runner.phase("fill").unwrap();
    match words {
        ["ready"] => {
            runner.ready(4096).unwrap();
            work(runner)
        }
        ["exit", code] => {
            eprintln!("leaving on purpose");
            ExitCode::from(code.parse::<u8>().unwrap())
        }
        ["signal", number] => {
            eprintln!("crashing on purpose");
            let signal = Signal::try_from(number.parse::<i32>().unwrap()).unwrap();
            // std's handler of SIGSEGV looks for an overflown stack first, and gives way to the second one.
            loop {
                raise(signal).unwrap();
            }
        }
        ["ready-then-kill", spins] => {
            runner.ready(1).unwrap();
            (0..spins.parse::<u32>().unwrap()).for_each(|_| core::hint::spin_loop());
            raise(Signal::SIGKILL).unwrap();
            park()
        }
        ["give-up"] => {
            runner.failed(12, "there is no room").unwrap();
            park()
        }
        ["hang"] => {
            eprintln!("hanging on purpose");
            park()
        }
        ["stop"] => {
            raise(Signal::SIGSTOP).unwrap();
            park()
        }
        ["talk-then-end", phases] => {
            (0..phases.parse::<u32>().unwrap()).for_each(|phase| runner.phase(&phase.to_string()).unwrap());
            runner.ready(1).unwrap();
            runner.report(&[]).unwrap();
            ExitCode::SUCCESS
        }
        ["ready-then-give-up"] => {
            runner.ready(1).unwrap();
            runner.wait_at_gate(LIMIT).unwrap();
            runner.failed(13, "the work went wrong").unwrap();
            ExitCode::from(13)
        }
        ["parent"] => {
            let program = std::env::current_exe().unwrap();
            let child = Command::new(program).args(["child", "child-of-parent"]).spawn().unwrap();
            eprintln!("pid={}", child.id());
            runner.ready(0).unwrap();
            park()
        }
        ["flood"] => {
            let block = [b'x'; 1 << 16];
            for _ in 0..64 {
                std::io::stderr().write_all(&block).unwrap();
                std::io::stdout().write_all(&block).unwrap();
            }
            eprintln!("\nthe end");
            runner.ready(0).unwrap();
            park()
        }
        ["no-report"] => {
            runner.ready(0).unwrap();
            ExitCode::SUCCESS
        }
        ["deaf"] => {
            runner.ready(0).unwrap();
            park()
        }
        _ => ExitCode::from(99),
    }
}

/// The CPUs that the calling thread may use.
pub(crate) fn cpus() -> Vec<usize> {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap();
    (0..nix::sched::CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap()).collect()
}

/// Ready, gate, run, stop, report.
fn work(mut runner: Endpoint) -> ExitCode {
    match runner.wait_at_gate(LIMIT).unwrap() {
        Signpost::Stop => {
            runner.report(b"stopped at the gate").unwrap();
            return ExitCode::SUCCESS;
        }
        Signpost::Begin => println!("the first step on {:?}", cpus()),
    }
    runner.phase("run").unwrap();
    assert!(runner.wait_for_stop(LIMIT).unwrap() && runner.is_stopped().unwrap());
    runner.report(&[7; 1000]).unwrap();
    ExitCode::SUCCESS
}

fn marker(role: &str) -> ExitCode {
    let protocol = Protocol::default();
    let path = protocol.own_path();
    match role {
        "marker-simple" => Marker::Simple.publish(&path).unwrap(),
        "marker-slow" => {
            let mut file = std::fs::File::create(&path).unwrap();
            file.write_all(b"rea").unwrap();
            file.sync_all().unwrap();
            std::thread::sleep(Duration::from_millis(20));
            file.write_all(b"dy\n").unwrap();
        }
        _ => _ = publish_ready(&protocol).unwrap(),
    }
    if role == "marker-exit" { ExitCode::from(3) } else { park() }
}

/// A runner itself, whose worker must end with it.
fn runner() -> ExitCode {
    let mut own = Endpoint::inherited().unwrap();
    let mut worker = start(&["deaf"], MediumSpec::Socket);
    worker.wait_ready(LIMIT, None).unwrap();
    eprintln!("pid={}", worker.pid());
    own.ready(0).unwrap();
    park()
}

/// A child of the worker that has its socket and speaks in its place.
fn speak_through_child() -> ExitCode {
    let program = std::env::current_exe().unwrap();
    let _child = Command::new(program).args(["child", "ready"]).stdin(Stdio::inherit()).spawn().unwrap();
    park()
}

/// What is no message.
fn raw(text: &str) -> ExitCode {
    let stdin = std::io::stdin();
    rustix::net::send(&stdin, text.as_bytes(), rustix::net::SendFlags::NOSIGNAL).unwrap();
    park()
}

fn park() -> ExitCode {
    loop {
        std::thread::park();
    }
}

//! Ctrl-C in the long commands.

use std::fs::{read_dir, read_to_string};
use std::process::{Child, Stdio};
use std::thread::yield_now;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::sandbox::{Ran, Sandbox};

/// Starts the command and waits until it has its handler: from there on SIGINT does not end it by itself.
fn start(sandbox: &Sandbox, line: &str) -> Child {
    let mut child = sandbox.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let path = format!("/proc/{}/status", child.id());
    loop {
        let status = read_to_string(&path).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
        if caught >> (Signal::SIGINT as i32 - 1) & 1 == 1 {
            return child;
        }
        assert_eq!(child.try_wait().unwrap(), None, "{line}: it waits for the lock");
        yield_now();
    }
}

fn interrupt(child: &Child) {
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
}

/// Interrupts it, and waits until its handler has run. The kernel wakes the thread that takes the signal before
/// `kill` returns, and that one wakes the handler's thread before it sleeps again: so once the main thread and
/// after it the others are seen asleep, there is nothing left to do.
fn interrupt_and_wait(child: &Child) {
    interrupt(child);
    let id = child.id();
    let asleep = |thread: &str| {
        let stat = read_to_string(format!("/proc/{id}/task/{thread}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.starts_with('S')
    };
    loop {
        let main_sleeps = asleep(&id.to_string());
        let threads = read_dir(format!("/proc/{id}/task")).unwrap();
        let mut names = threads.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        if main_sleeps && names.all(|name| asleep(&name)) {
            return;
        }
        yield_now();
    }
}

/// The commands wait for the lock that the test holds, so the interruption comes before the first chunk.
#[test]
fn the_first_ends_it_cleanly() {
    let sandbox = Sandbox::with_wksp("a");
    sandbox.ok("wksp alloc a --size 100 --tag 7");
    sandbox.ok("wksp checkpoint a saved.ckpt");
    for line in ["wksp checkpoint a other.ckpt --json", "wksp restore a saved.ckpt --in-place --json"] {
        let wksp = sandbox.attach("a");
        let guard = wksp.region().lock(Duration::from_secs(10)).unwrap();
        let child = start(&sandbox, &format!("{line} --timeout 30s"));
        interrupt_and_wait(&child);
        drop(guard);
        let ran = Ran::of(child.wait_with_output().unwrap());
        assert_eq!((ran.code, ran.stdout.as_str()), (130, ""), "{line}: {}", ran.stderr);
        assert_eq!(ran.error()["status"], "interrupted", "{line}");
    }
    assert!(!sandbox.path("other.ckpt").exists());
    let left = read_dir(sandbox.root()).unwrap().count();
    assert_eq!(left, 2, "the domain and the checkpoint");
    assert_eq!(sandbox.ok("wksp tag a:4096"), "7\n", "nothing was changed");
    sandbox.ok("wksp verify a");
}

#[test]
fn the_second_ends_it_at_once() {
    let sandbox = Sandbox::with_wksp("a");
    let wksp = sandbox.attach("a");
    let guard = wksp.region().lock(Duration::from_secs(10)).unwrap();
    let child = start(&sandbox, "wksp checkpoint a saved.ckpt --timeout 30s");
    interrupt_and_wait(&child);
    interrupt(&child);
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (130, "", ""));
    drop(guard);
    sandbox.ok("wksp checkpoint a saved.ckpt");
}

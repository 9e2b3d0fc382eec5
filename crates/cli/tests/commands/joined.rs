//! What the command does while other processes are at work in the workspace: here, the test itself.

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;

use crate::sandbox::{Ran, Sandbox};

/// Looking works while somebody holds the lock; changing says who does.
#[test]
fn a_held_lock_stops_changes_only() {
    let sandbox = Sandbox::with_wksp("a");
    sandbox.ok("wksp alloc a --size 100 --tag 7");
    let wksp = sandbox.attach("a");
    let guard = wksp.region().lock(Duration::from_secs(10)).unwrap();
    for line in [
        "wksp list",
        "wksp info a",
        "wksp tag a:4096",
        "wksp partitions a",
        "wksp usage a",
        "region list",
        "region info a",
    ] {
        sandbox.ok(line);
    }
    let pid = std::process::id();
    let lock = &sandbox.json("wksp info a")["lock"];
    assert_eq!((&lock["holder"]["pid"], &lock["holder"]["liveness"]), (&json!(pid), &json!("alive")));
    for line in [
        "wksp alloc a --size 1 --tag 1",
        "wksp free a:4096",
        "wksp fill a:4096 1",
        "wksp tag-free a 7",
        "wksp verify a",
        "wksp rebuild a",
        "wksp reset a",
        "wksp checkpoint a saved.ckpt",
    ] {
        let complaint = sandbox.fails(5, &format!("{line} --timeout 20ms"));
        assert!(complaint.contains("process [n], thread [n]"), "{line}: {complaint}");
        let error = sandbox.run(&format!("{line} --timeout 20ms --json")).error();
        assert_eq!((&error["status"], &error["pid"]), (&json!("busy"), &json!(pid)), "{line}");
    }
    drop(guard);
    sandbox.ok("wksp free a:4096 --timeout 20ms");
}

#[test]
fn joiners_are_shown() {
    let sandbox = Sandbox::with_wksp("a");
    let wksp = sandbox.attach("a");
    let info = sandbox.json("wksp info a");
    assert_eq!(info["joiners"].as_array().unwrap().len(), 1);
    assert_eq!(info["joiners"][0]["pid"], std::process::id());
    assert_eq!(info["has_readers"], false, "the command does not count itself");
    insta::assert_snapshot!(sandbox.redacted(&sandbox.ok("wksp info a")));
    assert_eq!(sandbox.json("wksp list")[0]["joiner_count"], 1);
    drop(wksp);
    assert_eq!(sandbox.json("wksp info a")["joiners"], json!([]));
}

/// A restore with other joiners goes in place unless a fresh region is asked for.
#[test]
fn a_restore_keeps_joiners() {
    let sandbox = Sandbox::with_wksp("a");
    sandbox.ok("wksp alloc a --size 100 --tag 7");
    sandbox.ok("wksp checkpoint a saved.ckpt");
    assert_eq!(sandbox.json("wksp restore a saved.ckpt")["fresh"], true);
    let wksp = sandbox.attach("a");
    wksp.reset(0).unwrap();
    let complaint = sandbox.fails(1, "wksp restore a saved.ckpt --fresh");
    assert!(complaint.contains("`--in-place` restores under its joiners"), "{complaint}");
    sandbox.fails(1, "wksp restore a saved.ckpt --size 2MiB");
    assert_eq!(wksp.partitions().unwrap().len(), 0);
    let restored = sandbox.json("wksp restore a saved.ckpt");
    assert_eq!((&restored["fresh"], &restored["made"]), (&json!(false), &json!(false)));
    assert_eq!(wksp.partitions().unwrap().len(), 1, "the joiner sees it");
}

/// Deleting a workspace takes only its name.
#[test]
fn a_delete_leaves_joiners_their_memory() {
    let sandbox = Sandbox::with_wksp("a");
    let wksp = sandbox.attach("a");
    let block = wksp.alloc(100, 64, 7).unwrap();
    sandbox.ok("wksp delete a");
    sandbox.fails(4, "wksp info a");
    assert_eq!(wksp.tag(block.gaddr()).unwrap(), Some(7));
}

/// A reader that has seen enough is no failure, and nothing panics.
#[test]
fn a_closed_pipe_is_no_failure() {
    let sandbox = Sandbox::with_wksp("a");
    let wksp = sandbox.attach("a");
    // More than a pipe holds.
    for tag in 1..=8000 {
        wksp.alloc(1, 1, tag).unwrap();
    }
    for line in ["wksp partitions a", "wksp partitions a --json", "wksp usage a", "--help", "completions zsh"]
    {
        let mut child = sandbox.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        if line.starts_with("wksp partitions") {
            stdout.read_exact(&mut [0; 10]).unwrap();
        }
        drop(stdout);
        let ran = Ran::of(child.wait_with_output().unwrap());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{line}");
    }
}

/// An answer that cannot be written is a failure; an allocation that nobody was told of does not stay.
#[test]
fn a_full_disk_under_stdout_is_a_failure() {
    let sandbox = Sandbox::with_wksp("a");
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for line in ["wksp usage a", "wksp alloc a --size 1 --tag 1", "wksp alloc a --size 1 --tag 1 --json"] {
        let ran = Ran::of(sandbox.command(line).stdout(full()).output().unwrap());
        assert_eq!(ran.code, 1, "{line}");
        assert!(ran.stderr.contains("could not be written to stdout"), "{line}: {}", ran.stderr);
    }
    assert_eq!(sandbox.json("wksp partitions a"), json!([]));
}

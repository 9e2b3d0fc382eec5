//! A small run of `sched/readiness`, in a process of its own: it counts its open descriptors.

#![allow(clippy::unwrap_used, reason = "what is unwrapped here is what the test is about")]

use std::process::Command;

#[test]
fn readiness_passes() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_stress"))
        .args(["sched/readiness", "--iters", "20", "--seed", "7"])
        .env("OUTLAST_DIR", directory.path().join("regions"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("20 kills after ready"), "{text}");
}

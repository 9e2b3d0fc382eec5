//! The marker module as a worker has it: without a dependency, and never seen empty or cut.

#![allow(clippy::unwrap_used, reason = "what is unwrapped here is what the test is about")]

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::Command;

use outlast_sched::{Identity, Marker, MarkerParseError, Protocol};

#[test]
fn the_protocol_needs_nothing_but_std() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-p", "outlast-sched", "--no-default-features"])
        .args(["--edges", "normal", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let (text, stderr) = (String::from_utf8(tree.stdout).unwrap(), String::from_utf8_lossy(&tree.stderr));
    let lines: Vec<&str> = text.lines().collect();
    assert!(matches!(lines[..], [one] if one.starts_with("outlast-sched ")), "{text}{stderr}");
}

#[test]
fn a_marker_is_never_seen_empty_or_cut() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ready");
    let marker = Marker::Strict(Identity::of_self().unwrap());
    let rounds = 1000;
    std::thread::scope(|scope| {
        let observer = scope.spawn(|| {
            let mut seen = 0_u64;
            loop {
                match fs::read(&path) {
                    Ok(bytes) => assert_eq!(Marker::parse(&bytes), Ok(marker)),
                    Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
                }
                seen += 1;
                if directory.path().join("over").exists() {
                    return seen;
                }
            }
        });
        for _ in 0..rounds {
            marker.publish(&path).unwrap();
            fs::remove_file(&path).unwrap();
        }
        fs::write(directory.path().join("over"), "").unwrap();
        assert!(0 < observer.join().unwrap());
    });
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn publishing_replaces_a_link_and_leaves_its_target() {
    let directory = tempfile::tempdir().unwrap();
    let (path, target) = (directory.path().join("ready"), directory.path().join("target"));
    fs::write(&target, "precious").unwrap();
    symlink(&target, &path).unwrap();
    Marker::Simple.publish(&path).unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    let metadata = fs::symlink_metadata(&path).unwrap();
    assert_eq!((metadata.is_file(), metadata.mode() & 0o7777), (true, 0o600));
    assert_eq!(Marker::parse(&fs::read(&path).unwrap()), Ok(Marker::Simple));
}

#[test]
fn what_a_killed_process_left_does_not_stop_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ready");
    let left = directory.path().join(format!(".ready.{}.new", std::process::id()));
    fs::write(&left, "rea").unwrap();
    assert_eq!(Marker::parse(&fs::read(&left).unwrap()), Err(MarkerParseError::Incomplete));
    Marker::Simple.publish(&path).unwrap();
    assert!(!left.exists());
}

#[test]
fn failures_name_the_path_and_the_step() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing/ready");
    let text = Marker::Simple.publish(&path).unwrap_err().to_string();
    assert!(text.starts_with(&format!("making a file for the ready marker {}: ", path.display())), "{text}");
    let text = Marker::Simple.publish(directory.path().join("..").as_path()).unwrap_err().to_string();
    assert!(text.contains("ends in no file name"), "{text}");
    fs::create_dir(directory.path().join("taken")).unwrap();
    let text = Marker::Simple.publish(&directory.path().join("taken")).unwrap_err().to_string();
    assert!(text.starts_with("renaming to the ready marker"), "{text}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn another_protocol_has_its_own_prefix_and_variable() {
    let protocol = Protocol::new("/tmp/mine-", "OUTLAST_TEST_NOBODY_SETS_THIS");
    assert_eq!(protocol.own_path().to_str().unwrap(), format!("/tmp/mine-{}", std::process::id()));
    // A variable that everybody has stands for the override: it is taken verbatim.
    let path = Protocol::new("/tmp/mine-", "PATH").own_path();
    assert_eq!(path.as_os_str(), std::env::var_os("PATH").unwrap());
}

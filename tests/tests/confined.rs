//! The built binary as user 65534 in a tmpfs of 64 MiB. Needs root, to mount and to become somebody else.

#![allow(clippy::unwrap_used, reason = "what is unwrapped here is what the test is about")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

const NOBODY: u32 = 65534;

/// Runs `with` in a thread that has a mount namespace of its own, with a tmpfs of 64 MiB that belongs to nobody.
/// The mount ends with the thread and its children.
fn in_small_tmpfs(with: impl FnOnce(&Path) + Send) {
    if !geteuid().is_root() {
        println!("skipped: not root, so nothing can be mounted");
        return;
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            if let Err(errno) = unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS) {
                println!("skipped: no mount namespace of its own: {errno}");
                return;
            }
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            let root = tempfile::Builder::new().prefix("confined").tempdir_in("/tmp").unwrap();
            fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
            let small = root.path().join("small");
            fs::create_dir(&small).unwrap();
            if let Err(errno) =
                mount(Some("tmpfs"), &small, Some("tmpfs"), MsFlags::empty(), Some("size=64m,mode=0777"))
            {
                println!("skipped: no tmpfs can be mounted: {errno}");
                return;
            }
            // A copy, for nobody may not enter the directories above the build's.
            fs::copy(env!("CARGO_BIN_EXE_stress"), root.path().join("stress")).unwrap();
            fs::set_permissions(root.path().join("stress"), fs::Permissions::from_mode(0o755)).unwrap();
            fs::create_dir(small.join("files")).unwrap();
            chown(small.join("files"), Some(NOBODY), Some(NOBODY)).unwrap();
            with(root.path());
            nix::mount::umount(&small).unwrap();
        });
    });
}

fn as_nobody(root: &Path, words: &[&str]) -> (i32, String) {
    let small = root.join("small");
    let output = Command::new(root.join("stress"))
        .args(words)
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/")
        .env("OUTLAST_DIR", small.join("regions"))
        .env("OUTLAST_STRESS_DIR", small.join("files/stress"))
        .env("TMPDIR", small.join("files"))
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), text)
}

fn names(directory: &Path) -> Vec<std::ffi::OsString> {
    fs::read_dir(directory).unwrap().flatten().map(|entry| entry.file_name()).collect()
}

#[test]
fn every_scenario_passes_as_nobody_in_64_mib() {
    in_small_tmpfs(|root| {
        for (scenario, iterations) in [
            ("wksp/roundtrip", "4"),
            ("wksp/kill", "4"),
            ("wksp/hostile", "500"),
            ("wksp/hostile_sweep", "500"),
            ("wksp/user_model", "5000"),
            ("sched/queue", "300"),
            ("sched/runner", "3"),
            ("sched/readiness", "3"),
            ("sched/watch", "100"),
        ] {
            let (code, text) = as_nobody(root, &[scenario, "--iters", iterations, "--seed", "2"]);
            // So few iterations may miss one of the things to be shown.
            assert!(code == 0 || code == 5, "{scenario}: {code} {text}");
            if scenario == "wksp/roundtrip" {
                assert!(text.contains("instead of 512 MiB"), "a shrunken size is said: {text}");
            }
            assert_eq!(names(&root.join("small")), ["files"], "{scenario}");
            assert_eq!(names(&root.join("small/files")), ["stress"], "{scenario}");
            fs::remove_dir_all(root.join("small/files/stress")).unwrap();
        }
    });
}

#[test]
fn no_room_at_all_is_a_skip_with_its_reason() {
    in_small_tmpfs(|root| {
        fs::write(root.join("small/files/full"), vec![0; 63 << 20]).unwrap();
        let (code, text) = as_nobody(root, &["wksp/roundtrip", "--iters", "1"]);
        assert!(code == 4 && text.contains("no room"), "{code} {text}");
    });
}

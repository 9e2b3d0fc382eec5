//! Help, completions, manual pages; and the whole life of a workspace as a user without rights.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;

use crate::sandbox::{Ran, Sandbox};

#[test]
fn help() {
    let sandbox = Sandbox::new();
    insta::assert_snapshot!("help", sandbox.ok("--help"));
    for family in ["wksp", "checkpt", "region"] {
        insta::assert_snapshot!(format!("help_{family}"), sandbox.ok(&format!("{family} --help")));
    }
    let commands = [
        "new",
        "delete",
        "list",
        "info",
        "alloc",
        "free",
        "fill",
        "tag",
        "tag-free",
        "partitions",
        "usage",
        "verify",
        "rebuild",
        "reset",
        "checkpoint",
        "restore",
    ];
    let mut shown = String::new();
    for line in commands.map(|command| format!("wksp {command}")).iter().map(String::as_str).chain([
        "checkpt inspect",
        "checkpt verify",
        "region list",
        "region info",
        "region unlink",
        "watch",
    ]) {
        let help = sandbox.ok(&format!("{line} --help"));
        assert_eq!(help, sandbox.ok(&format!("help {line}")), "{line}");
        shown += &format!("$ outlast {line} --help\n{help}\n");
    }
    insta::assert_snapshot!("help_of_commands", shown);
    assert!(!sandbox.path("domain").exists(), "help does nothing");
}

#[test]
fn the_exit_codes_are_documented() {
    let sandbox = Sandbox::new();
    let table = sandbox.ok("exit-codes");
    assert!(sandbox.ok("--help").ends_with(&table), "{table}");
    assert!(sandbox.ok("help exit-codes").ends_with(&table), "{table}");
    let codes: Vec<u64> = sandbox
        .json("exit-codes")
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["exit_code"].as_u64().unwrap())
        .collect();
    assert_eq!(codes, [0, 1, 2, 3, 4, 5, 130]);
    assert!(sandbox.ok("--version").starts_with("outlast "));
}

#[test]
fn completions_and_manual_pages_cover_every_command() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = sandbox.ok(&format!("completions {shell}"));
        assert!(script.contains("tag-free") && script.contains("in-place"), "{shell}");
    }
    let pages = sandbox.path("pages");
    std::fs::create_dir(&pages).unwrap();
    sandbox.ok("man pages");
    for page in [
        "outlast.1",
        "outlast-wksp.1",
        "outlast-wksp-restore.1",
        "outlast-checkpt-verify.1",
        "outlast-region-unlink.1",
    ] {
        let text = std::fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains("SYNOPSIS"), "{page}");
    }
}

/// Needs root to become somebody else; without it the whole suite runs as whoever that is.
#[test]
fn a_user_without_rights_can_do_everything() {
    const NOBODY: u32 = 65534;
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: not root, so this is a user without rights already");
        return;
    }
    let sandbox = Sandbox::new();
    chown(sandbox.root(), Some(NOBODY), Some(NOBODY)).unwrap();
    for line in [
        "wksp new a --size 1MiB",
        "wksp alloc a --size 4096 --tag 7",
        "wksp fill a:4096 1",
        "wksp checkpoint a saved.ckpt",
        "checkpt verify saved.ckpt",
        "wksp delete a",
        "wksp restore a saved.ckpt",
        "wksp tag a:4096",
        "wksp info a",
        "region list",
        "wksp verify a",
    ] {
        match sandbox.command(line).uid(NOBODY).gid(NOBODY).output() {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                println!("skipped: user {NOBODY} may not run the binary where it was built ({error})");
                return;
            }
            output => {
                let ran = Ran::of(output.unwrap());
                assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{line}");
            }
        }
    }
    let complaint = sandbox.fails(1, "wksp list");
    assert!(complaint.contains("belongs to user [n]"), "root looks into its own domain only: {complaint}");
}

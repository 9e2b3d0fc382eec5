//! Damaged workspaces: bytes of the region's file are changed behind the library's back.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use outlast_shm::USER_OFFSET;
use serde_json::json;

use crate::sandbox::Sandbox;

/// Words of the workspace header, as docs/format/wksp.md numbers them.
const STATIC_CHECK: u64 = 3;
const STATE: u64 = 8;
const SEQUENCE: u64 = 16;
const FIRST: u64 = 19;

fn region(sandbox: &Sandbox, name: &str) -> File {
    OpenOptions::new().read(true).write(true).open(sandbox.path("domain").join(name)).unwrap()
}

fn overwrite(sandbox: &Sandbox, offset: u64, word: u64) {
    region(sandbox, "a").write_all_at(&word.to_le_bytes(), offset).unwrap();
}

fn with_allocation() -> Sandbox {
    let sandbox = Sandbox::with_wksp("a");
    sandbox.ok("wksp alloc a --size 100 --tag 7");
    sandbox
}

#[test]
fn a_damaged_index_is_listed_and_rebuilt() {
    let sandbox = with_allocation();
    overwrite(&sandbox, USER_OFFSET + FIRST * 8, 0xdead_beef);
    let ran = sandbox.run("wksp verify a");
    assert_eq!(ran.code, 3);
    insta::assert_snapshot!(format!("{}---\n{}", ran.stdout, ran.stderr));
    let ran = sandbox.run("wksp verify a --json");
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &report["sound"]), (3, &json!(false)));
    let fault = &report["faults"][0];
    assert_eq!((&fault["what"], &fault["found"]), (&json!("sealed header word"), &json!("0xdeadbeef")));
    assert_eq!(fault["region_offset"], USER_OFFSET + FIRST * 8);
    assert_eq!(ran.error()["status"], "damaged");
    sandbox.fails(3, "wksp checkpoint a saved.ckpt");
    assert_eq!(sandbox.ok("wksp tag a:4096"), "7\n", "readers do not need the index");
    sandbox.ok("wksp rebuild a");
    sandbox.ok("wksp verify a");
    assert_eq!(sandbox.ok("wksp tag a:4096"), "7\n");
}

#[test]
fn a_damaged_allocation_is_not_rebuilt_but_reset() {
    let sandbox = with_allocation();
    let len = region(&sandbox, "a").metadata().unwrap().len();
    let mut slots = vec![0; 4096];
    region(&sandbox, "a").read_exact_at(&mut slots, len - 4096).unwrap();
    let tagged = slots.chunks(64).position(|slot| slot[..8] == 7_u64.to_le_bytes()).unwrap() as u64;
    overwrite(&sandbox, len - 4096 + tagged * 64 + 16, 1 << 40);
    for line in ["wksp rebuild a", "wksp partitions a", "wksp usage a"] {
        let complaint = sandbox.fails(3, line);
        assert!(complaint.contains("slot check at region offset 0x"), "{line}: {complaint}");
    }
    let ran = sandbox.run("wksp info a");
    assert_eq!(ran.code, 3);
    assert!(
        ran.stdout.contains("\ntrouble     workspace a: damaged workspace: slot check"),
        "{}",
        ran.stdout
    );
    assert_eq!(sandbox.run("wksp verify a").code, 3);
    sandbox.ok("wksp reset a");
    sandbox.ok("wksp verify a");
    sandbox.ok("wksp alloc a --size 100 --tag 8");
}

/// A process was killed in the middle of a change: whoever comes next finishes it, even if it only asks.
#[test]
fn a_torn_change_is_mended_by_asking() {
    let sandbox = with_allocation();
    overwrite(&sandbox, USER_OFFSET + SEQUENCE * 8, 0x101);
    assert_eq!(sandbox.json("wksp usage a")["used_count"], 1);
    sandbox.ok("wksp verify a");
}

#[test]
fn a_damaged_state_is_mended_by_a_restore_in_place() {
    let sandbox = with_allocation();
    sandbox.ok("wksp checkpoint a saved.ckpt");
    let mut sealed = [0; 8];
    region(&sandbox, "a").read_exact_at(&mut sealed, USER_OFFSET + STATE * 8).unwrap();
    overwrite(&sandbox, USER_OFFSET + STATE * 8, 0);
    let complaint = sandbox.fails(3, "wksp alloc a --size 1 --tag 1");
    assert!(complaint.contains("sealed header word"), "{complaint}");
    assert_eq!(sandbox.json("wksp restore a saved.ckpt --in-place")["partition_count"], 1);
    let mut mended = [0; 8];
    region(&sandbox, "a").read_exact_at(&mut mended, USER_OFFSET + STATE * 8).unwrap();
    assert_eq!(mended, sealed);
    sandbox.ok("wksp verify a");
}

#[test]
fn a_workspace_that_cannot_be_joined_can_be_removed() {
    let sandbox = with_allocation();
    overwrite(&sandbox, USER_OFFSET + STATIC_CHECK * 8, 1);
    for line in ["wksp verify a", "wksp usage a", "wksp alloc a --size 1 --tag 1", "wksp reset a"] {
        let complaint = sandbox.fails(3, line);
        assert!(
            complaint.contains("workspace geometry") && complaint.contains("region unlink a"),
            "{complaint}"
        );
    }
    let ran = sandbox.run("wksp info a");
    assert_eq!(ran.code, 3);
    assert!(ran.stdout.contains("\ntrouble     "), "{}", ran.stdout);
    sandbox.ok("wksp delete a");
    sandbox.fails(4, "wksp info a");
}

#[test]
fn a_damaged_region_is_listed_with_the_reason_and_can_be_removed() {
    let sandbox = with_allocation();
    region(&sandbox, "a").write_all_at(&[0xff], 100).unwrap();
    for line in ["wksp verify a", "wksp info a", "wksp delete a", "region info a"] {
        let complaint = sandbox.fails(3, line);
        assert!(complaint.contains("checksum") && complaint.contains("region unlink a"), "{complaint}");
    }
    assert_eq!(sandbox.json("wksp list"), json!([]));
    let listed = sandbox.json("region list");
    assert!(listed[0]["refused"].as_str().unwrap().contains("checksum"), "{listed}");
    sandbox.ok("region unlink a");
    assert_eq!(sandbox.json("region list"), json!([]));
}

#[test]
fn a_cut_region_is_refused() {
    let sandbox = with_allocation();
    region(&sandbox, "a").set_len(USER_OFFSET).unwrap();
    let complaint = sandbox.fails(3, "wksp usage a");
    assert!(complaint.contains("the file has 69632 bytes"), "{complaint}");
}

//! Checkpoint files: damaged, in the way, too large.

use std::os::unix::fs::FileExt;

use serde_json::{Value, json};

use crate::sandbox::Sandbox;

fn saved(style: &str) -> Sandbox {
    let sandbox = Sandbox::with_wksp("a");
    let wksp = sandbox.attach("a");
    let block = wksp.alloc(300_000, 4096, 7).unwrap();
    let bytes: Vec<u8> = (0..300_000_u32).map(|at| (at / 7) as u8).collect();
    wksp.write(block.gaddr().get(), &bytes).unwrap();
    sandbox.ok(&format!("wksp checkpoint a saved.ckpt --style {style}"));
    sandbox
}

fn flip(sandbox: &Sandbox, offset: u64) {
    let path = sandbox.path("saved.ckpt");
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

#[test]
fn a_damaged_chunk_is_found_located_and_never_restored() {
    for style in ["raw", "lz4", "zstd"] {
        let sandbox = saved(style);
        let inspected = sandbox.json("checkpt inspect saved.ckpt --chunks");
        let chunk = &inspected["chunks"][1];
        flip(&sandbox, chunk["file_offset"].as_u64().unwrap() + 64);
        assert_eq!(sandbox.json("checkpt inspect saved.ckpt --chunks"), inspected, "chunks are not read");
        let ran = sandbox.run("checkpt verify saved.ckpt --json --threads 2");
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!((ran.code, &ran.error()["exit_code"]), (3, &json!(3)));
        assert_eq!((report["faults"].as_array().unwrap().len(), &report["sound"]), (1, &json!(false)));
        let fault = &report["faults"][0];
        assert_eq!((&fault["gaddr"], &fault["gaddr_end"]), (&chunk["gaddr"], &chunk["gaddr_end"]));
        for line in
            ["wksp restore a saved.ckpt", "wksp restore a saved.ckpt --in-place", "wksp restore b saved.ckpt"]
        {
            sandbox.fails(3, line);
        }
        assert_eq!(sandbox.json("wksp list").as_array().unwrap().len(), 1, "b was not left behind");
        assert_eq!(sandbox.ok("wksp tag a:4096"), "7\n", "a is as it was");
        sandbox.ok("wksp verify a");
    }
}

#[test]
fn damaged_tables_are_a_fault_too() {
    let sandbox = saved("raw");
    let offset =
        sandbox.json("checkpt inspect saved.ckpt --chunks")["chunks"][0]["file_offset"].as_u64().unwrap();
    // The last byte of the partition table.
    flip(&sandbox, offset - 1);
    let ran = sandbox.run("checkpt verify saved.ckpt");
    assert_eq!(ran.code, 3);
    assert!(ran.stdout.contains("checksum of a payload at file offset"), "{}", ran.stdout);
    assert!(
        ran.stdout.ends_with("its tables are damaged, so its chunks were not looked at\n"),
        "{}",
        ran.stdout
    );
    let complaint = sandbox.fails(3, "checkpt inspect saved.ckpt");
    assert!(complaint.contains(" next: take another copy of it"), "{complaint}");
    sandbox.fails(3, "wksp restore a saved.ckpt");
}

#[test]
fn what_is_no_checkpoint_is_refused() {
    let sandbox = saved("auto");
    let whole = std::fs::read(sandbox.path("saved.ckpt")).unwrap();
    std::fs::write(sandbox.path("cut"), &whole[..whole.len() - 1]).unwrap();
    std::fs::write(sandbox.path("longer"), [&whole[..], b"x"].concat()).unwrap();
    std::fs::write(sandbox.path("empty"), "").unwrap();
    std::fs::write(
        sandbox.path("text"),
        "this is something else altogether, and longer than a preamble is\n",
    )
    .unwrap();
    for path in ["cut", "longer", "empty", "text"] {
        for line in ["checkpt inspect", "checkpt verify", "wksp restore a", "wksp restore b"] {
            sandbox.fails(3, &format!("{line} {path}"));
        }
    }
    sandbox.fails(1, "checkpt verify domain");
    assert_eq!(sandbox.json("wksp list").as_array().unwrap().len(), 1);
}

#[test]
fn nothing_is_overwritten() {
    let sandbox = saved("raw");
    let before = std::fs::read(sandbox.path("saved.ckpt")).unwrap();
    let complaint = sandbox.fails(1, "wksp checkpoint a saved.ckpt");
    assert!(complaint.contains("exists: remove it or choose another name"), "{complaint}");
    sandbox.fails(1, "wksp checkpoint a nowhere/saved.ckpt");
    assert_eq!(std::fs::read(sandbox.path("saved.ckpt")).unwrap(), before);
}

/// A workspace that is made for a restore goes again if the restore fails.
#[test]
fn a_restore_that_does_not_fit_leaves_nothing() {
    let sandbox = saved("raw");
    for line in ["wksp restore b saved.ckpt --size 64K", "wksp restore b saved.ckpt --size 64K --fresh"] {
        let complaint = sandbox.fails(1, line);
        assert!(
            complaint.contains("the checkpoint needs 304096 bytes of data region, the target has 65536"),
            "{complaint}"
        );
    }
    sandbox.ok("wksp new small --size 64K");
    sandbox.fails(1, "wksp restore small saved.ckpt");
    assert_eq!(sandbox.json("wksp list").as_array().unwrap().len(), 2);
    let restored = sandbox.json("wksp restore small saved.ckpt --size 512K");
    assert_eq!((&restored["fresh"], &restored["content_bytes"]), (&json!(true), &json!(300_000)));
    assert_eq!(sandbox.attach("small").data_bytes(), 512 << 10);
}

/// The same bytes come back whatever the style and the counts of threads.
#[test]
fn round_trips() {
    let sandbox = saved("raw");
    let wksp = sandbox.attach("a");
    let mut expected = vec![0; 300_000];
    wksp.read(4096, &mut expected).unwrap();
    for (style, save, restore) in [("raw", 1, 3), ("lz4", 2, 1), ("zstd", 3, 2), ("auto", 1, 2)] {
        sandbox.ok(&format!("wksp checkpoint a {style} --style {style} --threads {save}"));
        sandbox.ok(&format!("wksp restore {style} {style} --threads {restore}"));
        let mut found = vec![0; 300_000];
        sandbox.attach(style).read(4096, &mut found).unwrap();
        assert_eq!(found, expected);
        assert_eq!(sandbox.json(&format!("wksp partitions {style}")), sandbox.json("wksp partitions a"));
        sandbox.ok(&format!("wksp delete {style}"));
    }
}

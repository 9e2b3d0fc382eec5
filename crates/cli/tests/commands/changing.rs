//! Commands that make and change workspaces.

use crate::sandbox::Sandbox;

/// The forms that scripts use, to the letter.
#[test]
fn the_forms_of_scripts() {
    let sandbox = Sandbox::new();
    sandbox.ok("wksp new prices --size 16MiB");
    let printed = sandbox.ok("wksp alloc prices --size 4096 --tag 7");
    let address = printed.lines().last().unwrap().to_owned();
    assert_eq!(address, "prices:4096");
    sandbox.ok(&format!("wksp fill {address} 0xab"));
    assert_eq!(sandbox.json(&format!("wksp tag {address}"))["tag"], 7);
    assert_eq!(sandbox.ok(&format!("wksp tag {address}")), "7\n");
    sandbox.ok("wksp verify prices");
    sandbox.ok("wksp usage prices --tag 7 --tag 8");
    for style in ["raw", "lz4", "zstd", "auto"] {
        sandbox.ok(&format!("wksp checkpoint prices {style}.ckpt --style {style} --threads 2"));
        sandbox.ok(&format!("checkpt verify {style}.ckpt"));
    }
    sandbox.ok("wksp checkpoint prices saved.ckpt");
    sandbox.ok("checkpt inspect saved.ckpt");
    sandbox.ok("wksp delete prices");
    assert_eq!(sandbox.json("wksp list"), serde_json::json!([]));
    sandbox.ok("wksp restore prices saved.ckpt");
    let partitions = sandbox.json("wksp partitions prices");
    assert_eq!(partitions, serde_json::json!([{ "gaddr": 4096, "size": 4096, "tag": 7 }]));
    let mut bytes = [0; 4096];
    let wksp = sandbox.attach("prices");
    wksp.read(4096, &mut bytes).unwrap();
    assert_eq!(bytes, [0xab; 4096]);
    assert_eq!(wksp.data_bytes(), 16 << 20);
    sandbox.ok("wksp rebuild prices");
    sandbox.ok(&format!("wksp free {address}"));
    assert_eq!(sandbox.json("wksp partitions prices"), serde_json::json!([]));
    sandbox.ok("wksp info prices");
    sandbox.ok("region list");
    sandbox.ok("region info prices");
    sandbox.ok("region unlink prices");
    sandbox.fails(4, "wksp info prices");
}

#[test]
fn json_stands_before_or_after_the_command() {
    let sandbox = Sandbox::with_wksp("a");
    let tag = sandbox.ok("wksp alloc a --size 1 --tag 3");
    let tag = tag.trim();
    let last = sandbox.ok(&format!("wksp tag {tag} --json"));
    assert_eq!(last, "{\"address\":\"a:4096\",\"gaddr\":4096,\"tag\":3}\n");
    for line in ["--json wksp tag a:4096", "wksp --json tag a:4096", "wksp tag --json a:4096"] {
        assert_eq!(sandbox.ok(line), last, "{line}");
    }
}

#[test]
fn every_change_has_its_answer() {
    let sandbox = Sandbox::new();
    let mut shown = String::new();
    for line in [
        "wksp new a --size 1MiB --mode 0640 --slots 128 --seed 0x10",
        "wksp alloc a --size 100 --tag 7 --align 64",
        "wksp alloc a --size 64K --tag 0x8",
        "wksp alloc a --size 1 --tag 7",
        "wksp fill a:65 255",
        "wksp free a:163",
        "wksp tag-free a 7 8 7",
        "wksp tag-free a 9",
        "wksp rebuild a --seed 3",
        "wksp alloc a --size 10 --tag 1",
        "wksp reset a --seed 4",
        "wksp verify a",
        "wksp checkpoint a saved.ckpt --mode 0644",
        "wksp restore a saved.ckpt --threads 1 --seed 5",
        "wksp restore b saved.ckpt --size 2MiB",
        "wksp restore b saved.ckpt --in-place",
        "wksp restore b saved.ckpt --fresh --size 3MiB",
        "wksp delete a",
        "region unlink b",
    ] {
        shown += &format!("$ outlast {line}\n{}", sandbox.redacted(&sandbox.ok(line)));
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn every_change_has_its_answer_in_json() {
    let sandbox = Sandbox::new();
    let answers: Vec<serde_json::Value> = [
        "wksp new a --size 1MiB",
        "wksp alloc a --size 100 --tag 7 --align 64",
        "wksp fill a:65 0x10",
        "wksp free a:163",
        "wksp tag-free a 7",
        "wksp rebuild a --seed 3",
        "wksp reset a",
        "wksp checkpoint a saved.ckpt --style zstd",
        "wksp restore b saved.ckpt",
        "wksp delete a",
        "region unlink b",
    ]
    .map(|line| sandbox.json(line))
    .into();
    insta::assert_json_snapshot!(answers, { "[].id" => "[id]" });
}

#[test]
fn modes_are_exact() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::new();
    sandbox.ok("wksp new a --size 4096 --mode 0640");
    sandbox.ok("wksp checkpoint a saved.ckpt --mode 0604");
    let mode = |path: &str| sandbox.path(path).metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("domain/a"), mode("saved.ckpt"), mode("domain")), (0o640, 0o604, 0o700));
}

#[test]
fn what_cannot_be_done_changes_nothing() {
    let sandbox = Sandbox::with_wksp("a");
    sandbox.ok("wksp alloc a --size 64 --tag 1");
    let mut shown = String::new();
    for (code, line) in [
        (1, "wksp new a --size 1MiB"),
        (1, "wksp new b --size 1MiB --page-size huge"),
        (2, "wksp new b --size 1000TiB"),
        (1, "wksp new b --size 16TiB"),
        (4, "wksp delete b"),
        (1, "wksp alloc a --size 2MiB --tag 1"),
        (4, "wksp alloc b --size 1 --tag 1"),
        (4, "wksp free a:64"),
        (4, "wksp free a:0x100000"),
        (4, "wksp free b:64"),
        (4, "wksp fill a:64 0"),
        (4, "wksp fill a:0xffffffffffffffff 0"),
        (4, "wksp tag a:64"),
        (4, "wksp tag a:1048576"),
        (4, "wksp tag-free b 1"),
        (4, "wksp partitions b"),
        (4, "wksp usage b"),
        (4, "wksp info b"),
        (4, "wksp verify b"),
        (4, "wksp rebuild b"),
        (4, "wksp reset b"),
        (4, "wksp checkpoint b saved.ckpt"),
        (4, "wksp restore b none.ckpt"),
        (4, "wksp list --dir nowhere"),
        (4, "region info b"),
        (4, "region unlink b"),
        (4, "checkpt verify none.ckpt"),
        (4, "checkpt inspect none.ckpt"),
        (1, "man nowhere"),
    ] {
        let complaint = sandbox.fails(code, line);
        // How much room there is differs.
        if !line.ends_with("16TiB") {
            shown += &format!("$ outlast {line}\n{complaint}");
        }
    }
    insta::assert_snapshot!(shown);
    assert_eq!(sandbox.json("wksp partitions a").as_array().unwrap().len(), 1);
    let entries: Vec<_> = std::fs::read_dir(sandbox.root()).unwrap().collect();
    assert_eq!(entries.len(), 1, "only the domain: {entries:?}");
}

/// The address that `alloc` prints is freed only by whoever knows it.
#[test]
fn a_second_free_fails() {
    let sandbox = Sandbox::with_wksp("a");
    let address = sandbox.ok("wksp alloc a --size 100 --tag 1").trim().to_owned();
    sandbox.ok(&format!("wksp free {address}"));
    sandbox.fails(4, &format!("wksp free {address}"));
    sandbox.fails(4, &format!("wksp tag {address}"));
}

#[test]
fn allocations_are_aligned() {
    let sandbox = Sandbox::with_wksp("a");
    for align in [1_u64, 64, 4096, 65536] {
        let gaddr = &sandbox.json(&format!("wksp alloc a --size 100 --tag 1 --align {align}"))["gaddr"];
        assert_eq!(gaddr.as_u64().unwrap() % align, 0, "{gaddr}");
    }
}

//! Command lines that are wrong: exit code 2, nothing done.

use crate::sandbox::Sandbox;

const WRONG: &[&str] = &[
    "",
    "frobnicate",
    "wksp",
    "wksp frobnicate",
    "wksp list extra",
    "wksp list --frobnicate",
    "wksp new",
    "wksp new a",
    "wksp new a --size",
    "wksp new a b --size 1MiB",
    "wksp new --size 1MiB",
    "wksp new a --size 1MB",
    "wksp new a --size 0",
    "wksp new a --size -1",
    "wksp new a --size 1.5MiB",
    "wksp new a --size 16777216TiB",
    "wksp new .a --size 1MiB",
    "wksp new a/b --size 1MiB",
    "wksp new a123456789b123456789c123456789d123456789 --size 1MiB",
    "wksp new %ff --size 1MiB",
    "wksp new a --size 1MiB --mode 888",
    "wksp new a --size 1MiB --mode 1777",
    "wksp new a --size 1MiB --page-size enormous",
    "wksp new a --size 1MiB --seed 4294967296",
    "wksp new a --size 1MiB --slots x",
    "wksp delete",
    "wksp delete a b",
    "wksp info",
    "wksp alloc a",
    "wksp alloc a --size 1",
    "wksp alloc a --tag 1",
    "wksp alloc a --size 1 --tag 0",
    "wksp alloc a --size 0 --tag 1",
    "wksp alloc a --size 1 --tag 18446744073709551616",
    "wksp alloc a --size 1 --tag 1 --align 3",
    "wksp alloc a --size 1 --tag 1 --align 0",
    "wksp free",
    "wksp free a",
    "wksp free a:",
    "wksp free a:0",
    "wksp free a:+1",
    "wksp free :64",
    "wksp free a:64 b:64",
    "wksp fill a:64",
    "wksp fill a:64 256",
    "wksp fill a:64 0x100",
    "wksp fill a:64 -1",
    "wksp fill a:64 ab",
    "wksp tag",
    "wksp tag a:64x",
    "wksp tag-free a",
    "wksp tag-free a 0",
    "wksp partitions",
    "wksp usage",
    "wksp usage a --tag 0",
    "wksp verify",
    "wksp verify a b",
    "wksp rebuild",
    "wksp rebuild a --seed x",
    "wksp reset",
    "wksp checkpoint a",
    "wksp checkpoint a path extra",
    "wksp checkpoint a path --style gzip",
    "wksp checkpoint a path --style RAW",
    "wksp checkpoint a path --threads 0",
    "wksp checkpoint a path --threads 1025",
    "wksp restore a",
    "wksp restore a path --in-place --fresh",
    "wksp restore a path --in-place --size 1MiB",
    "wksp list --timeout 10",
    "checkpt",
    "checkpt verify",
    "checkpt verify a b",
    "checkpt verify a --threads 0",
    "checkpt inspect",
    "region",
    "region list a",
    "region info",
    "region unlink",
    "region unlink ..",
    "completions",
    "completions tcsh",
    "man",
];

#[test]
fn wrong_command_lines_are_refused() {
    let sandbox = Sandbox::new();
    for line in WRONG {
        let ran = sandbox.run(line);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{line}: {}", ran.stderr);
        assert!(
            ran.stderr.contains("Usage: outlast") || ran.stderr.contains("try '--help'"),
            "{line}: {}",
            ran.stderr
        );
        let ran = sandbox.run(&format!("{line} --json"));
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{line}: {}", ran.stderr);
        assert_eq!(ran.error()["exit_code"], 2, "{line}");
    }
    assert!(!sandbox.path("domain").exists(), "nothing was done");
}

#[test]
fn refusals_say_what_was_expected() {
    let sandbox = Sandbox::new();
    let mut shown = String::new();
    for line in [
        "wksp new a --size 1MB",
        "wksp new .a --size 1MiB",
        "wksp alloc a --size 1 --tag 0",
        "wksp fill a:64 256",
        "wksp tag a",
        "wksp checkpoint a path --style gzip",
        "wksp restore a path --in-place --fresh",
        "wksp verify a --json b",
    ] {
        shown += &format!("$ outlast {line}\n{}\n", sandbox.run(line).stderr);
    }
    insta::assert_snapshot!(shown);
}

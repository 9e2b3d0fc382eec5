//! What somebody gets who depends on one crate only.

#![allow(clippy::unwrap_used, reason = "what is unwrapped here is what the test is about")]

use std::process::Command;

fn tree(words: &[&str]) -> Option<String> {
    let cargo = std::env::var_os("CARGO")?;
    let output = Command::new(cargo)
        .args(["tree", "--offline", "--edges", "normal", "--prefix", "none"])
        .args(words)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn has(tree: &str, package: &str) -> bool {
    tree.lines().any(|line| line.split(' ').next() == Some(package))
}

const CODECS: [&str; 5] = ["rayon", "lz4_flex", "zstd", "zstd-sys", "outlast-checkpt"];

#[test]
fn a_workspace_without_checkpoints_has_no_codec_and_no_thread_pool() {
    let Some(plain) = tree(&["-p", "outlast-wksp", "--no-default-features"]) else {
        println!("skipped: not run by cargo");
        return;
    };
    for package in CODECS {
        assert!(!has(&plain, package), "{package} in\n{plain}");
    }
    // And the check can fail: with default features they are there.
    let whole = tree(&["-p", "outlast-wksp"]).unwrap();
    for package in CODECS {
        assert!(has(&whole, package), "{package} not in\n{whole}");
    }
}

#[test]
fn a_region_alone_depends_on_nothing_above_it() {
    let Some(tree) = tree(&["-p", "outlast-shm"]) else {
        println!("skipped: not run by cargo");
        return;
    };
    for package in CODECS.iter().chain(&["outlast-wksp", "serde", "bincode"]) {
        assert!(!has(&tree, package), "{package} in\n{tree}");
    }
    assert!(has(&tree, "outlast-probe"));
}

//! A crate outside the workspace that depends, by path, on one of ours and nothing else: it must build with
//! what that crate brings along, and its program must run.
//!
//! The program for `outlast-wksp` is the example of the README, so that a newcomer's first lines are known to work.

use std::path::{Path, PathBuf};

use super::Outcome;
use crate::cargo::{Cargo, TestCount};
use crate::failure::Failure;
use crate::tidy::{self, Tree};
use crate::workspace::Workspace;

/// The program that uses `outlast-shm` alone.
const SHM_PROGRAM: &str = include_str!("../../consumers/shm.rs");

/// A directory that goes when the check ends, however it ends.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed lies in the system's temporary directory and harms nobody.
        _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) fn check(workspace: &Workspace, _: &mut TestCount) -> Result<Outcome, Failure> {
    let tree = Tree::load(workspace)?;
    let example = tidy::library_example(&tree).ok_or_else(|| {
        Failure::Check("README.md has no block of Rust code below its heading `Library`".into())
    })?;
    for (product, program) in [("shm", SHM_PROGRAM), ("wksp", example)] {
        let scratch = Scratch(std::env::temp_dir().join(format!("outlast-consumer-{}", std::process::id())));
        write_crate(&scratch.0, workspace, product, program)?;
        let call = Cargo::new(&scratch.0, &["run", "--quiet"]);
        // Everything that the program makes lies in its own directory and goes with it.
        let call = call.env("OUTLAST_DIR", scratch.0.join("domain")).env("TMPDIR", &scratch.0);
        // With the packages just verified it shares the profile, so the libraries are built once for both.
        call.target(&workspace.target).run()?;
        println!("a crate that depends on outlast-{product} alone builds and runs");
    }
    Ok(Outcome::Passed)
}

fn write_crate(directory: &Path, workspace: &Workspace, product: &str, program: &str) -> Result<(), Failure> {
    let path = workspace.root.join("crates").join(product);
    let manifest = format!(
        "[package]\nname = \"consumer-of-{product}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [workspace]\n\n[dependencies]\noutlast-{product} = {{ path = {path:?} }}\n"
    );
    let source = directory.join("src");
    std::fs::create_dir_all(&source).map_err(|error| Failure::file("create", &source, &error))?;
    let lock = workspace.root.join("Cargo.lock");
    let locked = directory.join("Cargo.lock");
    // The versions that the workspace is tested with, not whatever is newest today.
    std::fs::copy(&lock, &locked).map_err(|error| Failure::file("copy", &lock, &error))?;
    for (path, text) in [(directory.join("Cargo.toml"), manifest.as_str()), (source.join("main.rs"), program)]
    {
        std::fs::write(&path, text).map_err(|error| Failure::file("write", &path, &error))?;
    }
    Ok(())
}

//! `stress`, `bench` and `probes`: build a binary of the tests package, then become it.
//!
//! The arguments reach the binary unchanged, its exit code is the command's, and since xtask is replaced by
//! it (`exec`), so are the signals: Ctrl-C is the binary's own affair from then on.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::cargo::Cargo;
use crate::failure::Failure;
use crate::workspace::Workspace;

/// Directory, inside the normal target directory, of the release builds of `stress` and `bench`.
pub(crate) const STRESS_DIRECTORY: &str = "stress";

/// Directory, inside the normal target directory, of every build with probes.
pub(crate) const PROBES_DIRECTORY: &str = "probes";

/// `cargo xtask stress`.
pub(crate) fn stress(words: &[OsString]) -> Result<(), Failure> {
    let workspace = Workspace::load()?;
    let binary = release_build(&workspace, "stress").build_binary("stress")?;
    become_binary(&binary, words)
}

/// `cargo xtask bench`.
pub(crate) fn bench(words: &[OsString]) -> Result<(), Failure> {
    let workspace = Workspace::load()?;
    let binary = release_build(&workspace, "bench").build_binary("bench")?;
    become_binary(&binary, words)
}

/// `cargo xtask probes`: the table of probes, or a run with probes.
pub(crate) fn probes(words: &[OsString]) -> Result<(), Failure> {
    let workspace = Workspace::load()?;
    let binary = probes_build(&workspace).build_binary("stress")?;
    let wants_table = words.iter().all(|word| word == "--json");
    let table = wants_table.then(|| OsString::from("probes-table"));
    become_binary(&binary, &table.into_iter().chain(words.iter().cloned()).collect::<Vec<_>>())
}

/// The normal release build of one binary of the tests package.
pub(crate) fn release_build(workspace: &Workspace, binary: &str) -> Cargo {
    workspace
        .cargo(&["build", "--release", "--package", "outlast-tests", "--bin", binary])
        .target(&workspace.target.join(STRESS_DIRECTORY))
}

/// The release build of the stress binary with its probes.
pub(crate) fn probes_build(workspace: &Workspace) -> Cargo {
    workspace
        .cargo(&["build", "--release", "--package", "outlast-tests", "--bin", "stress"])
        .probes()
        .target(&workspace.target.join(PROBES_DIRECTORY))
}

fn become_binary(binary: &Path, words: &[OsString]) -> Result<(), Failure> {
    let error = Command::new(binary).args(words).exec();
    Err(Failure::file("start", binary, &error))
}

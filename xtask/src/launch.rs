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

/// Where the stress binary keeps its history, its sandboxes and its reports.
const DIRECTORY_VARIABLE: &str = "OUTLAST_STRESS_DIR";

/// What the stress binary was built from.
const COMMIT_VARIABLE: &str = "OUTLAST_COMMIT";

/// Directory, inside the normal target directory, of every build with probes.
pub(crate) const PROBES_DIRECTORY: &str = "probes";

/// `cargo xtask stress`.
pub(crate) fn stress(words: &[OsString]) -> Result<(), Failure> {
    let workspace = Workspace::load()?;
    let binary = release_build(&workspace, "stress").build_binary("stress")?;
    become_stress(&workspace, &binary, words)
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
    let words: Vec<OsString> = table.into_iter().chain(words.iter().cloned()).collect();
    become_stress(&workspace, &binary, &words)
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

/// The stress binary, told what was built and where its history and its sandboxes are.
fn become_stress(workspace: &Workspace, binary: &Path, words: &[OsString]) -> Result<(), Failure> {
    let mut command = Command::new(binary);
    if std::env::var_os(DIRECTORY_VARIABLE).is_none() {
        command.env(DIRECTORY_VARIABLE, workspace.target.join(STRESS_DIRECTORY));
    }
    if let Some(commit) = commit(&workspace.root) {
        command.env(COMMIT_VARIABLE, commit);
    }
    let error = command.args(words).exec();
    Err(Failure::file("start", binary, &error))
}

fn become_binary(binary: &Path, words: &[OsString]) -> Result<(), Failure> {
    let error = Command::new(binary).args(words).exec();
    Err(Failure::file("start", binary, &error))
}

/// The commit that is checked out, with `+` if anything has changed since; `None` where git does not say.
fn commit(root: &Path) -> Option<String> {
    let ask = |words: &[&str]| {
        let output = Command::new("git").current_dir(root).args(words).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = ask(&["rev-parse", "--short=12", "HEAD"])?;
    let changes = ask(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changes.is_empty() { commit } else { format!("{commit}+") })
}

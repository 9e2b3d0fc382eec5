//! The program that a sweep steps: the one of this build, or a release build of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use outlast_tests::sweep::Program;

/// The child of this build, whatever its profile.
pub(crate) fn own_program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_sweep_child"), &[])
}

/// The child in release: what is shipped is what is stepped. Built here if the environment names none; without
/// cargo the child of this build has to do.
pub(crate) fn release_program() -> Program {
    if let Some(path) = std::env::var_os("OUTLAST_SWEEP_CHILD") {
        return Program::new(path, &[]);
    }
    if outlast_probe::ENABLED {
        // With probes nothing is as it is shipped; the run without them has the release build.
        return own_program();
    }
    match build_release() {
        Ok(path) => Program::new(path, &[]),
        Err(reason) => {
            eprintln!("no release build of the child ({reason}): stepping the one of this build");
            own_program()
        }
    }
}

fn build_release() -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").ok_or("not run by cargo")?;
    // Beside the directory of this build, and shared with `cargo xtask stress`.
    let own = Path::new(env!("CARGO_BIN_EXE_sweep_child"));
    let target = own.ancestors().nth(2).ok_or("no target directory")?.join("stress");
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--quiet", "--package", "outlast-tests", "--bin", "sweep_child"]);
    command.arg("--target-dir").arg(&target).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(target.join("release").join("sweep_child"))
}

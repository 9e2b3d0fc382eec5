//! One call of cargo: its words, its flags, and what to do with its output.
//!
//! # Invariants
//! - Compiler flags are appended to those the user has set, never put in their place.
//! - A child cargo does not see the variables that `cargo run` set for xtask itself, nor any of insta's.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use serde_json::Value;

use crate::failure::Failure;
use crate::interrupt;

/// The flag that turns the probes on.
pub(crate) const PROBES_CFG: [&str; 2] = ["--cfg", "outlast_probes"];

/// A call that has been put together but not yet made.
#[derive(Debug)]
pub(crate) struct Cargo {
    command: Command,
}

/// What test binaries reported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TestCount {
    /// Tests that ran and passed.
    pub(crate) passed: u64,
    /// Tests that ran and failed.
    pub(crate) failed: u64,
    /// Tests that were not run.
    pub(crate) ignored: u64,
}

impl TestCount {
    /// Adds another count to this one.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }

    /// Reads libtest's closing line: `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    fn from_line(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let of = |word: &str| {
            let part = counts.split("; ").find_map(|part| part.strip_suffix(word))?;
            part.trim().parse::<u64>().ok()
        };
        Some(Self { passed: of("passed")?, failed: of("failed")?, ignored: of("ignored")? })
    }
}

impl Cargo {
    /// `cargo WORDS...` in a directory.
    pub(crate) fn new(directory: &Path, words: &[&str]) -> Self {
        let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(program);
        command.current_dir(directory).args(words);
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_private(name)) {
            command.env_remove(name);
        }
        Self { command }
    }

    /// Further words.
    pub(crate) fn args(mut self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(words);
        self
    }

    /// One environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Another directory for what is built. Set for the child by its variable, so that it holds after `--` too.
    pub(crate) fn target(self, directory: &Path) -> Self {
        self.env("CARGO_TARGET_DIR", directory)
    }

    /// Builds with `--cfg outlast_probes`.
    ///
    /// Where the user has flags in the environment they are kept and ours follow; else ours go through
    /// `--config`, which cargo joins with the flags of the user's configuration for the target.
    pub(crate) fn probes(mut self) -> Self {
        if let Some((name, value)) = appended_rustflags(|name| std::env::var_os(name)) {
            return self.env(name, value);
        }
        let [flag, value] = PROBES_CFG;
        self.command.arg("--config").arg(format!("target.'cfg(all())'.rustflags=['{flag}', '{value}']"));
        self
    }

    /// The call as a user would type it.
    pub(crate) fn shown(&self) -> String {
        let words = self.command.get_args().map(|word| word.to_string_lossy().into_owned());
        std::iter::once("cargo".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
    }

    /// Makes the call; its output goes where ours goes.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let status = interrupt::wait_for(&mut self.command, |_| Ok(()))?;
        self.judge(status)
    }

    /// Makes the call and returns what it wrote to stdout.
    pub(crate) fn output(mut self) -> Result<String, Failure> {
        let mut text = String::new();
        self.command.stdout(Stdio::piped());
        let status = interrupt::wait_for(&mut self.command, |stdout| {
            stdout.read_to_string(&mut text)?;
            Ok(())
        })?;
        self.judge(status).map(|()| text)
    }

    /// Makes a call of `cargo test`, passing its output on and adding up what the test binaries report,
    /// also when it fails.
    pub(crate) fn run_tests(mut self, count: &mut TestCount) -> Result<(), Failure> {
        self.command.stdout(Stdio::piped());
        let status = interrupt::wait_for(&mut self.command, |stdout| {
            for_each_line(stdout, |line| {
                println!("{line}");
                count.add(TestCount::from_line(line).unwrap_or_default());
            })
        })?;
        self.judge(status)
    }

    /// Makes a call of `cargo build` and returns the path of the binary it built.
    pub(crate) fn build_binary(mut self, name: &str) -> Result<PathBuf, Failure> {
        self.command.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
        let mut built = None;
        let status = interrupt::wait_for(&mut self.command, |stdout| {
            for_each_line(stdout, |line| built = built.take().or_else(|| executable(line, name)))
        })?;
        if !status.success() {
            return Err(Failure::Build(format!("`{}` failed", self.shown())));
        }
        built.ok_or_else(|| Failure::Build(format!("`{}` built no binary `{name}`", self.shown())))
    }

    fn judge(&self, status: ExitStatus) -> Result<(), Failure> {
        if status.success() {
            return Ok(());
        }
        Err(Failure::Check(format!("`{}` failed ({status})", self.shown())))
    }
}

fn for_each_line(stdout: &mut dyn Read, mut take: impl FnMut(&str)) -> std::io::Result<()> {
    for line in BufReader::new(stdout).split(b'\n') {
        take(&String::from_utf8_lossy(&line?));
    }
    Ok(())
}

/// The executable that one line of cargo's JSON output tells of, if it is the binary `name`.
fn executable(line: &str, name: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    let is_it = message["reason"] == "compiler-artifact" && message["target"]["name"] == name;
    is_it.then(|| message["executable"].as_str().map(PathBuf::from))?
}

/// Variables that `cargo run` set for xtask, and insta's.
fn is_private(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "INSTA_"]
        .iter()
        .any(|p| name.starts_with(p))
        || name == "OUT_DIR"
}

/// The variable of the environment that holds compiler flags, with ours behind the user's.
fn appended_rustflags(get: impl Fn(&str) -> Option<OsString>) -> Option<(&'static str, OsString)> {
    let (name, separator) = [("CARGO_ENCODED_RUSTFLAGS", "\u{1f}"), ("RUSTFLAGS", " ")]
        .into_iter()
        .find(|(name, _)| get(name).is_some())?;
    let mut flags = get(name)?;
    for word in PROBES_CFG {
        if !flags.is_empty() {
            flags.push(separator);
        }
        flags.push(word);
    }
    Some((name, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appended(name: &str, value: &str) -> Option<(&'static str, OsString)> {
        appended_rustflags(|asked| (asked == name).then(|| value.into()))
    }

    #[test]
    fn flags_are_appended_never_replaced() {
        assert_eq!(appended("RUSTFLAGS", "-Copt").unwrap().1, "-Copt --cfg outlast_probes");
        assert_eq!(appended("RUSTFLAGS", "").unwrap().1, "--cfg outlast_probes");
        let (name, encoded) = appended("CARGO_ENCODED_RUSTFLAGS", "-Ca\u{1f}-Cb").unwrap();
        assert_eq!(
            (name, encoded),
            ("CARGO_ENCODED_RUSTFLAGS", "-Ca\u{1f}-Cb\u{1f}--cfg\u{1f}outlast_probes".into())
        );
        assert_eq!(appended("OTHER", "x"), None);
    }

    #[test]
    fn test_counts_are_read_from_the_closing_line() {
        let line = "test result: FAILED. 31 passed; 2 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.1s";
        assert_eq!(TestCount::from_line(line), Some(TestCount { passed: 31, failed: 2, ignored: 1 }));
        assert_eq!(TestCount::from_line("test names::are_checked ... ok"), None);
    }

    #[test]
    fn only_the_wanted_binary_is_found() {
        let line =
            r#"{"reason":"compiler-artifact","target":{"name":"stress"},"executable":"/t/release/stress"}"#;
        assert_eq!(executable(line, "stress"), Some("/t/release/stress".into()));
        assert_eq!(executable(line, "bench"), None);
        assert_eq!(executable(r#"{"reason":"build-finished","success":true}"#, "stress"), None);
    }
}

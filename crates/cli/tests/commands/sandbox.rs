//! A directory for one test, and the binary run in it.
//!
//! # Invariants
//! - Everything that a test makes is in the directory, which goes with the sandbox.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use outlast_shm::Domain;
use outlast_wksp::Wksp;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) struct Sandbox {
    root: TempDir,
}

/// What a run of the binary left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let in_memory = tempfile::Builder::new().prefix("cli-test-").tempdir_in("/dev/shm");
        let root = in_memory.or_else(|_| TempDir::with_prefix("cli-test-")).expect("a directory to work in");
        Self { root }
    }

    /// A sandbox with a workspace of 1 MiB.
    pub(crate) fn with_wksp(name: &str) -> Self {
        let sandbox = Self::new();
        sandbox.ok(&format!("wksp new {name} --size 1MiB"));
        sandbox
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn domain(&self) -> Domain {
        Domain::open(&self.path("domain")).unwrap()
    }

    /// Joins a workspace from the test's own process.
    pub(crate) fn attach(&self, name: &str) -> Wksp {
        Wksp::attach(&self.domain(), &name.try_into().unwrap()).unwrap()
    }

    /// The binary with the words of `line` as arguments; `%xx` in a word is a byte.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outlast"));
        command.args(line.split_whitespace().map(decode)).current_dir(self.root.path());
        command.env("OUTLAST_DIR", self.path("domain")).env("COLUMNS", "100").stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, line: &str) -> Ran {
        Ran::of(self.command(line).output().unwrap())
    }

    /// Runs it and expects success: what it printed.
    #[track_caller]
    pub(crate) fn ok(&self, line: &str) -> String {
        let ran = self.run(line);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{line}");
        ran.stdout
    }

    /// Runs it with `--json` and expects success: the answer.
    #[track_caller]
    pub(crate) fn json(&self, line: &str) -> Value {
        let printed = self.ok(&format!("{line} --json"));
        assert_eq!(printed.lines().count(), 1, "{printed}");
        serde_json::from_str(&printed).unwrap()
    }

    /// Runs it and expects it to fail with `code` and without an answer: what it complained about. The same
    /// with `--json` has to complain the same.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, line: &str) -> String {
        let ran = self.run(line);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{line}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("error: "), "{line}: {}", ran.stderr);
        let json = self.run(&format!("--json {line}"));
        assert_eq!((json.code, json.stdout.as_str()), (code, ""), "{line}: {}", json.stderr);
        let error = json.error();
        assert_eq!(error["exit_code"], code, "{line}");
        if code != 2 {
            // How long it waited may differ.
            let message = digitless(error["message"].as_str().unwrap());
            assert!(digitless(&ran.stderr).contains(&message), "{line}: {} {error}", ran.stderr);
        }
        self.redacted(&ran.stderr)
    }

    /// `text` without what differs from run to run.
    pub(crate) fn redacted(&self, text: &str) -> String {
        let text = text.replace(&self.root.path().display().to_string(), "[dir]");
        let lines = text.split('\n').map(|line| {
            let mut before = "";
            let words = line.split(' ').map(|word| {
                let redacted = redact_word(before, word);
                before = word;
                redacted
            });
            words.collect::<Vec<String>>().join(" ")
        });
        lines.collect::<Vec<String>>().join("\n")
    }
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap_or_else(|| panic!("ended by {}", output.status));
        Self { code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The error object.
    #[track_caller]
    pub(crate) fn error(&self) -> Value {
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        let value: Value = serde_json::from_str(&self.stderr).unwrap();
        value["error"].clone()
    }
}

fn decode(word: &str) -> OsString {
    let mut parts = word.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    OsString::from_vec(bytes)
}

fn digitless(text: &str) -> String {
    text.chars().filter(|character| !character.is_ascii_digit()).collect()
}

fn redact_word(before: &str, word: &str) -> String {
    let bare = word.trim_end_matches([',', ':', ';', ')']);
    let tail = &word[bare.len()..];
    let is_id = bare.len() == 32 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_time = bare.len() == 20 && bare.starts_with("20") && bare.ends_with('Z');
    let is_number = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit());
    let who = ["process", "thread", "user", "(process"].contains(&before);
    match () {
        () if is_id => format!("[id]{tail}"),
        () if is_time => format!("[time]{tail}"),
        () if is_number && who => format!("[n]{tail}"),
        () => word.to_owned(),
    }
}

//! Where a test starts the `stress` binary: directories of its own, and what is left in them afterwards.

#![allow(clippy::unwrap_used, reason = "what is unwrapped here is what the test is about")]
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A directory for regions and one for files, both of which have to be empty in the end.
pub(crate) struct Ground {
    pub(crate) root: TempDir,
}

impl Ground {
    pub(crate) fn new() -> Self {
        let root = tempfile::Builder::new().prefix("stress").tempdir().unwrap();
        std::fs::create_dir(root.path().join("files")).unwrap();
        Self { root }
    }

    pub(crate) fn stress(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stress"));
        command
            .args(words)
            .env("OUTLAST_DIR", self.root.path().join("regions"))
            .env("OUTLAST_STRESS_DIR", self.root.path().join("stress"))
            .env("TMPDIR", self.root.path().join("files"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> (i32, String) {
        let Output { status, stdout, stderr } = self.stress(words).output().unwrap();
        let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
        (status.code().unwrap_or(-1), text)
    }

    /// Neither regions, nor their directory, nor checkpoints.
    pub(crate) fn is_left_clean(&self) -> bool {
        !self.root.path().join("regions").exists()
            && std::fs::read_dir(self.root.path().join("files")).unwrap().next().is_none()
    }

    /// Sandboxes that are still there, of all runs.
    pub(crate) fn sandboxes(&self) -> Vec<PathBuf> {
        let below = |path: &Path| -> Vec<PathBuf> {
            std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
        };
        let runs = below(&self.root.path().join("stress/runs"));
        let slots = runs.iter().flat_map(|run| below(run)).filter(|path| path.is_dir());
        slots.flat_map(|slot| below(&slot)).collect()
    }

    /// Command lines of processes that were started with this ground, and what each has open.
    pub(crate) fn processes(&self) -> Vec<(String, Vec<String>)> {
        let mark = self.root.path().as_os_str().as_encoded_bytes().to_vec();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            if !environment.windows(mark.len()).any(|window| window == mark) {
                continue;
            }
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let descriptors = std::fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
            let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
            let targets = targets.map(|target| target.to_string_lossy().into_owned()).collect();
            found.push((String::from_utf8_lossy(&line).replace('\0', " "), targets));
        }
        found
    }
}

/// Few pages, so that a round trip takes milliseconds.
pub(crate) const SMALL: [&str; 3] = ["--", "--page-cnt", "1024"];

pub(crate) fn words<'a>(words: &[&'a str], after: &[&'a str]) -> Vec<&'a str> {
    words.iter().chain(after).copied().collect()
}

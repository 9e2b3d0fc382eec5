//! From what a process left behind to its outcome.
//!
//! # Invariants
//! - What a job says of itself makes nothing better than its exit says: a signal is a crash, an exit code other than 0
//!   is no pass nor, but for 4, a skip, and no verdict where one was promised is a failure.
//! - Whatever the bytes of a verdict, they are an outcome; no more than [`VERDICT_BYTES_MAX`] of them are read.

use std::io::{self, Read};
use std::path::Path;

use crate::outcome::{Exit, Outcome, Verdict};
use crate::sandbox::open_file;

/// Name of the file in the sandbox.
pub(crate) const VERDICT_FILE: &str = "verdict.json";

/// A verdict longer than this is damaged.
pub(crate) const VERDICT_BYTES_MAX: u64 = 4 << 20;

/// Reads the verdict of a sandbox: none if there is no such file.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn read(sandbox: &Path) -> Result<Option<Verdict>, String> {
    let damaged = |why: &dyn core::fmt::Display| format!("its {VERDICT_FILE} is damaged: {why}");
    let file = match open_file(&sandbox.join(VERDICT_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| damaged(&error))?,
    };
    let mut bytes = Vec::new();
    file.take(VERDICT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| damaged(&error))?;
    if bytes.len() as u64 > VERDICT_BYTES_MAX {
        return Err(damaged(&format_args!("it is longer than {VERDICT_BYTES_MAX} bytes")));
    }
    let verdict: Verdict = serde_json::from_slice(&bytes).map_err(|error| damaged(&error))?;
    match verdict.outcome {
        Outcome::Passed
        | Outcome::Unblessed
        | Outcome::Skipped
        | Outcome::Inconclusive
        | Outcome::Failed
        | Outcome::Usage
        | Outcome::Interrupted => Ok(Some(verdict)),
        other => Err(damaged(&format_args!("no job can say of itself that it is `{other}`"))),
    }
}

/// The outcome and, unless it is a pass, the reason.
pub(crate) fn judge(
    exit: Exit,
    reports: bool,
    verdict: &Result<Option<Verdict>, String>,
) -> (Outcome, Option<String>) {
    let code = match exit {
        Exit::Signal { .. } => return (Outcome::Crashed, Some(format!("it was ended by {exit}"))),
        Exit::Code(code) => code,
    };
    let failed = |reason: String| (Outcome::Failed, Some(reason));
    match verdict {
        _ if !reports => match code {
            0 => (Outcome::Passed, None),
            _ => failed(exit.to_string()),
        },
        Err(damage) => failed(damage.clone()),
        Ok(None) => failed(format!("it reported nothing: {exit} without a {VERDICT_FILE}")),
        Ok(Some(verdict)) if verdict.outcome.is_pass() && code != 0 => {
            failed(format!("it reported `{}` and ended with {exit}", verdict.outcome))
        }
        // A job that was not run ends with 0, or with what a run ends with in which nothing was.
        Ok(Some(verdict)) if verdict.outcome == Outcome::Skipped && code != 0 && code != 4 => {
            failed(format!("it reported `{}` and ended with {exit}", verdict.outcome))
        }
        Ok(Some(verdict)) => {
            let unsaid = || (!verdict.outcome.is_pass()).then(|| "it gave no reason".to_owned());
            (verdict.outcome, verdict.reason.clone().or_else(unsaid))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn sandbox(bytes: &[u8]) -> tempfile::TempDir {
        let sandbox = tempfile::tempdir().unwrap();
        fs::write(sandbox.path().join(VERDICT_FILE), bytes).unwrap();
        sandbox
    }

    #[test]
    fn a_verdict_is_read_and_what_is_none_is_damage() {
        let whole = sandbox(br#"{"outcome":"inconclusive","reason":"no kill landed"}"#);
        let verdict = read(whole.path()).unwrap().unwrap();
        assert_eq!(
            (verdict.outcome, verdict.reason.as_deref()),
            (Outcome::Inconclusive, Some("no kill landed"))
        );
        for (bytes, why) in [
            (&b""[..], "EOF"),
            (b"{\"outcome\":\"pas", "EOF"),
            (b"{\"outcome\":\"perfect\"}", "unknown variant"),
            (b"{\"outcome\":\"cached\"}", "no job can say of itself"),
            (b"\xff\xfe", "expected value"),
            (&vec![b' '; VERDICT_BYTES_MAX as usize + 1], "longer than"),
        ] {
            let error = read(sandbox(bytes).path()).unwrap_err();
            assert!(error.starts_with("its verdict.json is damaged: ") && error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_link_or_a_directory_is_no_verdict() {
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(read(empty.path()), Ok(None));
        let path = empty.path().join(VERDICT_FILE);
        fs::create_dir(&path).unwrap();
        assert!(read(empty.path()).unwrap_err().contains("not a file"));
        fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("/proc/self/status", &path).unwrap();
        read(empty.path()).unwrap_err();
    }

    #[test]
    fn the_exit_and_the_verdict_are_weighed() {
        let verdict = |outcome, reason: Option<&str>| {
            let reason = reason.map(str::to_owned);
            let (text, report) = (String::new(), serde_json::Value::Null);
            Ok(Some(Verdict { outcome, reason, text, report, replay: None, schedule: None }))
        };
        let passed = verdict(Outcome::Passed, None);
        let signal = Exit::Signal { number: 11, core: false };
        for (exit, reports, verdict, outcome) in [
            (Exit::Code(0), true, &passed, Outcome::Passed),
            (Exit::Code(1), true, &passed, Outcome::Failed),
            (signal, true, &passed, Outcome::Crashed),
            (Exit::Code(0), true, &Ok(None), Outcome::Failed),
            (Exit::Code(0), true, &Err("damage".to_owned()), Outcome::Failed),
            (Exit::Code(100), true, &verdict(Outcome::Failed, Some("wrong")), Outcome::Failed),
            (Exit::Code(5), true, &verdict(Outcome::Inconclusive, None), Outcome::Inconclusive),
            (Exit::Code(4), true, &verdict(Outcome::Skipped, Some("no probes")), Outcome::Skipped),
            (Exit::Code(101), true, &verdict(Outcome::Skipped, Some("no probes")), Outcome::Failed),
            (Exit::Code(0), false, &Ok(None), Outcome::Passed),
            (Exit::Code(3), false, &passed, Outcome::Failed),
        ] {
            let (found, reason) = judge(exit, reports, verdict);
            assert_eq!(found, outcome, "{exit} {reports} {verdict:?}");
            assert_eq!(reason.is_none(), outcome == Outcome::Passed);
        }
    }
}

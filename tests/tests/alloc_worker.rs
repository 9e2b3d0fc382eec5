//! The allocation worker from outside: its exit codes, its words, its memory.

#![allow(clippy::unwrap_used, reason = "what is unwrapped here is what the test is about")]

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use outlast_sched::{
    Acceptance, Exit, MarkerSpec, MediumSpec, Mishap, Spawn, WORKER_READY_MARKER_OVERRIDE_ENV,
    WORKER_STDERR_PREFIX, WORKER_STDOUT_READY_PREFIX, Worker,
};
use outlast_wksp::{CreateOptions, Domain, RegionName, Wksp};

const LIMIT: Duration = Duration::from_secs(30);
const PROGRAM: &str = env!("CARGO_BIN_EXE_alloc-worker");

fn run(words: &[&str], marker: &Path) -> Output {
    Command::new(PROGRAM).args(words).env(WORKER_READY_MARKER_OVERRIDE_ENV, marker).output().unwrap()
}

fn assert_code(words: &[&str], marker: &Path, code: i32, part: &str) {
    let output = run(words, marker);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {stderr}");
    assert!(stderr.contains(part), "{words:?}: {stderr}");
    assert!(
        !stderr.is_empty() && stderr.lines().all(|line| line.starts_with(WORKER_STDERR_PREFIX)),
        "{stderr}"
    );
    assert!(output.stdout.is_empty() || code == 4, "{words:?}");
}

#[test]
fn each_way_to_end_has_its_code() {
    let directory = tempfile::tempdir().unwrap();
    let marker = directory.path().join("ready");
    let missing = directory.path().join("missing");
    let domain = directory.path().join("domain");
    let shared = ["--wksp", "known", "--dir", domain.to_str().unwrap()];
    let shared = |bytes: &'static str| [&shared[..], &[bytes]].concat();
    let at = |words: &[&str], code, part| assert_code(words, &marker, code, part);

    at(&["0"], 2, "BYTES is 0");
    at(&["--extra-thread", "1"], 3, "2 threads, expected 1");
    assert_code(&["1"], &missing.join("ready"), 4, "making a file for the ready marker");
    at(&["--medium", "socket", "1"], 4, "standard input is no socket of a runner");
    at(&[], 5, "BYTES");
    at(&["--heap"], 5, "BYTES");
    at(&["--proc-root", missing.to_str().unwrap(), "1"], 6, "self/task");
    for wrong in ["many", "-5", "1.5", "18446744073709551616", "--unknown"] {
        at(&[wrong], 7, wrong);
    }
    at(&["1", "2"], 7, "2");
    at(&["--churn", "1"], 7, "--churn");
    at(&["--wksp", "known", "1"], 7, "--dir");
    at(&["--heap", "--align", "3", "1"], 7, "no power of two");
    at(&shared("1"), 8, "known");
    at(&["--heap", "4611686018427387904"], 9, "bytes on the heap");
    at(&["--heap", "18446744073709551615"], 9, "bytes on the heap");

    let opened = Domain::open(&domain).unwrap();
    let name: RegionName = "known".parse().unwrap();
    Wksp::create(&opened, &name, &CreateOptions::with_size(1 << 20)).unwrap();
    at(&shared("1048577"), 9, "no hole fits");
    assert!(!marker.exists(), "nobody was ready");
}

/// Where nothing can be written, the code is still the one of the table, and nothing panics.
#[test]
fn a_full_disk_changes_no_code() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let marker = tempfile::tempdir().unwrap().path().join("ready");
    let command = || {
        let mut command = Command::new(PROGRAM);
        command.env(WORKER_READY_MARKER_OVERRIDE_ENV, &marker);
        command
    };
    assert_eq!(command().arg("0").stderr(full()).status().unwrap().code(), Some(2));
    for words in ["--help", "100"] {
        let output = command().arg(words).stdout(full()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(4), "{stderr}");
        assert!(stderr.starts_with(WORKER_STDERR_PREFIX), "{stderr}");
    }
}

#[test]
fn the_help_has_the_table() {
    let output = run(&["--help"], Path::new("/nonexistent"));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    for line in ["   0  asked to end", "   2  BYTES is 0", "   6  /proc/self/task", "   9  out of memory"] {
        assert!(text.contains(line), "{text}");
    }
    assert!(!text.contains("proc-root"), "what is for tests is hidden");
}

fn media() -> [(&'static str, MediumSpec); 4] {
    let marker = |acceptance| MediumSpec::Marker(MarkerSpec { acceptance, protocol: None });
    [
        ("socket", MediumSpec::Socket),
        ("slot", MediumSpec::Slot),
        ("marker", marker(Acceptance::Strict)),
        ("marker", marker(Acceptance::Compatible)),
    ]
}

fn ready(words: &[&str], medium: MediumSpec) -> Worker {
    let mut worker =
        Spawn::new("alloc-worker", PROGRAM).arguments(words.iter().copied()).medium(medium).start().unwrap();
    worker.wait_ready(LIMIT, None).unwrap();
    worker
}

/// Bytes of resident memory, in pages that were touched.
fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn ready_means_that_every_page_is_there() {
    const BYTES: u64 = 8 << 20;
    for (word, medium) in media() {
        let mut worker = ready(&["--medium", word, &BYTES.to_string()], medium);
        assert!(BYTES <= resident_bytes(worker.pid()), "{word}");
        let parked = std::fs::read_to_string(format!("/proc/{}/stat", worker.pid())).unwrap();
        assert!(parked.contains(") S ") || parked.contains(") R "), "{parked}");
        worker.request_stop().unwrap();
        let finished = worker.finish(LIMIT, None).unwrap();
        assert_eq!((finished.exit, finished.stderr_tail.as_str()), (Exit::Code(0), ""), "{word}");
        let line = format!("{WORKER_STDOUT_READY_PREFIX} pid={} bytes={BYTES}\n", worker.pid());
        assert_eq!(finished.stdout_tail, line, "{word}");
    }
}

#[test]
fn sigterm_ends_it_on_every_medium() {
    for (word, medium) in media() {
        let mut worker = ready(&["--medium", word, "4096"], medium);
        let pid = nix::unistd::Pid::from_raw(worker.pid().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let exit = match worker.finish(LIMIT, None) {
            Ok(finished) => finished.exit,
            Err(error) => match *error.mishap {
                Mishap::NoReport { exit, .. } => exit,
                _ => panic!("{error}"),
            },
        };
        assert_eq!(exit, Exit::Code(0), "{word}");
    }
}

#[test]
fn a_shared_allocation_is_seen_from_outside_and_outlasts_it() {
    let directory = tempfile::tempdir().unwrap();
    let domain = Domain::open(&directory.path().join("domain")).unwrap();
    let name: RegionName = "known".parse().unwrap();
    let wksp = Wksp::create(&domain, &name, &CreateOptions::with_size(4 << 20)).unwrap();
    let path = domain.path().to_str().unwrap();
    for (tag, (word, medium)) in (100_u64..).zip(media()) {
        let tag = tag.to_string();
        let words =
            ["--wksp", "known", "--dir", path, "--align", "4096", "--tag", &tag, "--medium", word, "100000"];
        let mut worker = ready(&words, medium);
        let usage = wksp.usage(&[tag.parse().unwrap()]).unwrap();
        assert_eq!((usage.matched_count, usage.matched_bytes), (1, 100_000), "{usage:?}");
        worker.kill().unwrap();
        assert_eq!(wksp.usage(&[tag.parse().unwrap()]).unwrap().matched_bytes, 100_000);
    }
}

#[test]
fn why_it_gives_up_is_heard_by_its_runner() {
    for (word, medium) in [("socket", MediumSpec::Socket), ("slot", MediumSpec::Slot)] {
        let words = ["--medium", word, "--heap", "18446744073709551615"];
        let spawn = Spawn::new("alloc-worker", PROGRAM).arguments(words).medium(medium);
        let error = spawn.start().unwrap().wait_ready(LIMIT, None).unwrap_err();
        let Mishap::WorkerReported { code, text, .. } = &*error.mishap else { panic!("{error}") };
        assert_eq!(*code, 9);
        assert!(text.contains("on the heap"), "{text}");
    }
}

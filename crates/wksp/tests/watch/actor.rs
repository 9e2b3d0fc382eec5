//! Other processes: this test binary again, in a role that the environment names.
//!
//! # Invariants
//! - An actor ends with its handle, and by itself when its input is closed.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use outlast_wksp::{CreateOptions, Domain, RegionName, Watch, Wksp};

const ROLE: &str = "OUTLAST_TEST_ROLE";
const DIRECTORY: &str = "OUTLAST_TEST_DIRECTORY";

/// A domain of its own with workspace `w` in it.
pub(crate) struct Place {
    _directory: tempfile::TempDir,
    pub(crate) domain: Domain,
    pub(crate) name: RegionName,
}

impl Place {
    /// With a workspace that nobody has joined.
    pub(crate) fn new(size_bytes: u64) -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let domain = Domain::open(&directory.path().join("domain")).unwrap();
        let name: RegionName = "w".parse().unwrap();
        Wksp::create(&domain, &name, &CreateOptions::with_size(size_bytes)).unwrap();
        Self { _directory: directory, domain, name }
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.domain.path().join("w")
    }

    pub(crate) fn join(&self) -> Wksp {
        Wksp::attach(&self.domain, &self.name).unwrap()
    }

    pub(crate) fn watch(&self) -> Watch {
        Watch::attach(&self.domain, &self.name).unwrap()
    }

    /// Starts an actor and waits for its first line.
    pub(crate) fn actor(&self, role: &str) -> Actor {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "actor::play", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(DIRECTORY, self.domain.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        Actor { child, input, output }
    }
}

/// A running actor.
pub(crate) struct Actor {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Actor {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its next line that begins with `word`, without it. The test harness writes lines of its own.
    pub(crate) fn expect(&mut self, word: &str) -> String {
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() != 0 {
            if let Some((_, rest)) = line.split_once(word) {
                return rest.trim().to_owned();
            }
            line.clear();
        }
        panic!("it ended before it said {word}");
    }

    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Stops it; returns when it has stopped.
    pub(crate) fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        let pid = Pid::from_raw(self.child.id().cast_signed());
        assert_eq!(
            waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap(),
            WaitStatus::Stopped(pid, Signal::SIGSTOP)
        );
    }

    pub(crate) fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Closes its input and waits for its end.
    pub(crate) fn end(mut self) -> std::process::ExitStatus {
        self.input = None;
        self.child.wait().unwrap()
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Does nothing unless it is started as an actor.
#[test]
fn play() {
    let (Ok(role), Ok(directory)) = (std::env::var(ROLE), std::env::var(DIRECTORY)) else { return };
    let domain = Domain::open(directory.as_ref()).unwrap();
    let name: RegionName = "w".parse().unwrap();
    match role.as_str() {
        "hold" => hold(&Wksp::attach(&domain, &name).unwrap()),
        "churn" => churn(&Wksp::attach(&domain, &name).unwrap()),
        "fault" => {
            let watch = Watch::attach(&domain, &name).unwrap();
            watch.snapshot().unwrap();
            println!("ready");
            crate::raw::store_into_mapping_of(&format!("{directory}/w"));
            println!("stored");
        }
        other => panic!("no role {other}"),
    }
}

/// Allocates what it is asked for, line by line, and keeps it.
fn hold(wksp: &Wksp) {
    println!("ready");
    for line in std::io::stdin().lines() {
        let size: u64 = line.unwrap().parse().unwrap();
        let block = wksp.alloc(size, 64, 1).unwrap();
        println!("gaddr {}", block.gaddr().get());
    }
}

/// Allocates and frees on two threads until its input is closed; then says what it did.
fn churn(wksp: &Wksp) {
    use outlast_probe::sync::{AtomicBool, AtomicU64, Ordering};
    let (stop, count, bytes) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (stop, count, bytes) = (&stop, &count, &bytes);
            scope.spawn(move || {
                let mut size = 1 + thread;
                while !stop.load(Ordering::Relaxed) {
                    let block = wksp.alloc(size, 64, 2).unwrap();
                    wksp.free(block).unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                    bytes.fetch_add(size, Ordering::Relaxed);
                    size = size % 5000 + 7;
                }
            });
        }
        println!("ready");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        stop.store(true, Ordering::Relaxed);
    });
    // Nobody is left to be told if the test has failed.
    let _ = writeln!(
        std::io::stdout(),
        "account {} {}",
        count.load(Ordering::Relaxed),
        bytes.load(Ordering::Relaxed)
    );
    let _ = std::io::stdin().lines().count();
}

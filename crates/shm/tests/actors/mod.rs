//! Other processes for a test: the test binary, run again with a role to play and a socket as its stdin.
//!
//! A test file has one test named `actor` that calls [`play`]; it does nothing unless it is run as an actor.
//! Lines over the socket are the only synchronisation: no test sleeps and hopes.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use outlast_shm::{Domain, Draft, Expect, Region, RegionName, Spec, USER_OFFSET};

pub(crate) mod raw;

/// Ends a test that would hang.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(30);
pub(crate) const PAGE: u64 = 4096;
const ROLE: &str = "OUTLAST_SHM_ROLE";
const ARGUMENT: &str = "OUTLAST_SHM_ARGUMENT";

/// One end of the conversation.
pub(crate) struct Line(BufReader<UnixStream>);

impl Line {
    fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(WATCHDOG)).unwrap();
        Self(BufReader::new(stream))
    }

    pub(crate) fn say(&mut self, text: &str) {
        // In one piece: a forked child may be saying something on the same line.
        self.0.get_mut().write_all(format!("{text}\n").as_bytes()).unwrap();
    }

    /// The next line; `None` at the end of the conversation.
    pub(crate) fn try_hear(&mut self) -> Option<String> {
        let mut text = String::new();
        let heard = self.0.read_line(&mut text).expect("an answer before the watchdog ends the test");
        (heard != 0).then(|| text.trim_end().to_owned())
    }

    pub(crate) fn hear(&mut self) -> String {
        self.try_hear().expect("a line, not the end of the conversation")
    }

    pub(crate) fn expect(&mut self, text: &str) {
        assert_eq!(self.hear(), text);
    }
}

/// What an actor is given: its line to the test and its argument.
pub(crate) struct Stage {
    pub(crate) line: Line,
    pub(crate) argument: String,
}

impl Stage {
    /// The domain that the argument names.
    pub(crate) fn domain(&self) -> Domain {
        Domain::open(self.argument.as_ref()).unwrap()
    }

    /// The region `r` of that domain.
    pub(crate) fn region(&self) -> Region {
        Region::open(&self.domain(), &name("r"), &EXPECT).unwrap()
    }

    /// Waits for the end of the conversation, which a test's end brings about too.
    pub(crate) fn until_the_end(&mut self) {
        while self.line.try_hear().is_some() {}
    }
}

/// A name and what to do under it.
pub(crate) type Role = (&'static str, fn(Stage));

/// Plays a role if this process is an actor.
pub(crate) fn play(roles: &[Role]) {
    let Some(role) = std::env::var_os(ROLE) else { return };
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
    let argument = std::env::var(ARGUMENT).unwrap();
    let (_, act) = roles.iter().find(|(name, _)| **name == role).expect("a known role");
    act(Stage { line: Line::new(stream), argument });
}

/// Another process; killed when dropped.
pub(crate) struct Actor {
    child: Child,
    pub(crate) line: Line,
}

impl Actor {
    pub(crate) fn new(role: &str, argument: impl AsRef<std::path::Path>) -> Self {
        Self::with_launcher(&[], role, argument)
    }

    /// Run by another program, such as `unshare`.
    pub(crate) fn with_launcher(
        launcher: &[&str],
        role: &str,
        argument: impl AsRef<std::path::Path>,
    ) -> Self {
        let (mine, theirs) = UnixStream::pair().unwrap();
        let mut words: Vec<OsString> = launcher.iter().map(OsString::from).collect();
        words.push(std::env::current_exe().unwrap().into());
        words.extend(["--exact", "actor", "--nocapture", "--test-threads=1"].map(OsString::from));
        let child = Command::new(&words[0])
            .args(&words[1..])
            .env(ROLE, role)
            .env(ARGUMENT, argument.as_ref())
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, line: Line::new(mine) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// SIGKILL, and waits until the process is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends the conversation and waits for a good end.
    pub(crate) fn finish(mut self) {
        self.line.0.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    /// Waits for the end; the signal that brought it about, if any.
    pub(crate) fn end(mut self) -> Option<i32> {
        self.child.wait().unwrap().signal()
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // Does nothing to a process that was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A domain of its own for each test.
pub(crate) struct Place {
    _directory: tempfile::TempDir,
    pub(crate) domain: Domain,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let domain = Domain::open(&directory.path().join("domain")).unwrap();
        Self { _directory: directory, domain }
    }

    /// With a region `r` of four user pages.
    pub(crate) fn with_region() -> (Self, Region) {
        let place = Self::new();
        let region = Draft::new(&place.domain, &name("r"), &spec()).unwrap().publish().unwrap();
        (place, region)
    }

    pub(crate) fn actor(&self, role: &str) -> Actor {
        Actor::new(role, self.domain.path())
    }

    pub(crate) fn entries(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.domain.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

pub(crate) const EXPECT: Expect = Expect { kind: 7, fingerprint: 8 };

pub(crate) fn name(text: &str) -> RegionName {
    text.parse().unwrap()
}

/// Four user pages.
pub(crate) fn spec() -> Spec {
    Spec::new(EXPECT.kind, EXPECT.fingerprint, USER_OFFSET + 4 * PAGE)
}

//! Marker files that are not the worker's, or not as they should be.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use outlast_sched::{
    Acceptance, Difference, Identity, Marker, MarkerParseError, MarkerSpec, MediumSpec, Mishap, Peer,
    Protocol, WORKER_NONCE_ENV, WORKER_READY_MARKER_OVERRIDE_ENV, Worker, WorkerError,
};
use tempfile::TempDir;

use crate::{LIMIT, role, start};

/// The environment of a worker; a process has one a moment after its program was found.
fn environ(pid: u32) -> Vec<u8> {
    let begin = Instant::now();
    loop {
        let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap();
        if !bytes.is_empty() {
            return bytes;
        }
        assert!(begin.elapsed() < LIMIT, "a process without an environment");
        std::thread::yield_now();
    }
}

/// A worker that publishes nothing itself, and the path where its marker is looked for.
struct Mute {
    worker: Worker,
    path: PathBuf,
    _directory: TempDir,
}

impl Mute {
    fn start(acceptance: Acceptance) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let prefix = directory.path().join("ready-");
        let protocol = Protocol::new(prefix, "OUTLAST_TEST_NOBODY_SETS_THIS");
        let marker = MarkerSpec { acceptance, protocol: Some(protocol.clone()) };
        let worker = start(&["mute"], MediumSpec::Marker(marker));
        let path = protocol.path(worker.pid(), None);
        Self { worker, path, _directory: directory }
    }

    /// The worker as a marker would name it.
    fn identity(&self) -> Identity {
        let environ = environ(self.worker.pid());
        let nonce = environ.split(|byte| *byte == 0).find_map(|line| {
            line.strip_prefix(WORKER_NONCE_ENV.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec)
        });
        let nonce = u128::from_str_radix(std::str::from_utf8(&nonce.unwrap()).unwrap(), 16).unwrap();
        Identity::of(self.worker.pid(), nonce).unwrap()
    }

    fn wait(&mut self) -> WorkerError {
        self.worker.wait_ready(LIMIT, None).unwrap_err()
    }

    fn difference(&mut self) -> Difference {
        let error = self.wait();
        let Mishap::Stale { difference } = *error.mishap else { panic!("{error}") };
        difference
    }
}

pub(crate) fn a_marker_of_an_earlier_process_is_stale() {
    for acceptance in [Acceptance::Strict, Acceptance::Compatible] {
        // Its own number, as after a reuse, but older than the worker.
        let mut mute = Mute::start(acceptance);
        Marker::Strict(mute.identity()).publish(&mute.path).unwrap();
        let file = fs::File::options().write(true).open(&mute.path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
        assert_eq!(mute.difference(), Difference::OlderThanSpawn);
    }
}

pub(crate) fn each_difference_of_a_marker_is_told() {
    let found_after = |change: fn(&mut Identity)| {
        let mut mute = Mute::start(Acceptance::Strict);
        let mut identity = mute.identity();
        change(&mut identity);
        Marker::Strict(identity).publish(&mute.path).unwrap();
        mute.difference()
    };
    assert_eq!(found_after(|identity| identity.nonce ^= 1 << 100), Difference::Nonce);
    assert_eq!(found_after(|identity| identity.nonce = 0), Difference::Nonce);
    assert_eq!(found_after(|identity| identity.boot_id ^= 1), Difference::BootId);
    let found = found_after(|identity| identity.start_time += 1);
    assert!(matches!(found, Difference::StartTime { .. }), "{found:?}");
    // Everything right but the number: another process that has the nonce.
    let mut mute = Mute::start(Acceptance::Strict);
    let identity = Identity { pid: std::process::id(), ..mute.identity() };
    Marker::Strict(identity).publish(&mute.path).unwrap();
    let error = mute.wait();
    let Mishap::WrongPeer { peer } = *error.mishap else { panic!("{error}") };
    assert_eq!(peer, Peer::Process { pid: std::process::id() });

    let mut mute = Mute::start(Acceptance::Compatible);
    fs::write(&mute.path, "done\n").unwrap();
    assert_eq!(mute.difference(), Difference::Content(MarkerParseError::NotReady));
    // What is right is accepted, so the differences above were the reason.
    let mut mute = Mute::start(Acceptance::Strict);
    Marker::Strict(mute.identity()).publish(&mute.path).unwrap();
    mute.worker.wait_ready(LIMIT, None).unwrap();
    let path = mute.path.clone();
    assert!(path.exists());
    drop(mute.worker);
    assert!(!path.exists(), "the next process of that number must not find it");
}

/// Waits until a thread of this process sleeps.
fn asleep(tid: nix::unistd::Pid) {
    let begin = Instant::now();
    while !fs::read_to_string(format!("/proc/self/task/{tid}/stat")).unwrap().contains(") S ") {
        assert!(begin.elapsed() < LIMIT, "the waiter does not sleep");
        std::thread::yield_now();
    }
}

pub(crate) fn a_link_and_a_pipe_are_refused() {
    for acceptance in [Acceptance::Strict, Acceptance::Compatible] {
        let mut mute = Mute::start(acceptance);
        let target = mute.path.with_file_name("target");
        Marker::Strict(mute.identity()).publish(&target).unwrap();
        let path = mute.path.clone();
        let (send, tid) = std::sync::mpsc::channel();
        let error = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                send.send(nix::unistd::gettid()).unwrap();
                mute.wait()
            });
            // Asleep it has looked once: from then on only the link's own event tells of it.
            asleep(tid.recv().unwrap());
            symlink(&target, &path).unwrap();
            waiting.join().unwrap()
        });
        assert!(matches!(*error.mishap, Mishap::WrongPeer { peer: Peer::Symlink }), "{error}");

        let mut mute = Mute::start(acceptance);
        fs::create_dir(&mute.path).unwrap();
        let error = mute.wait();
        assert!(matches!(*error.mishap, Mishap::WrongPeer { peer: Peer::NotAFile }), "{error}");
    }
    if nix::unistd::geteuid().is_root() {
        let mut mute = Mute::start(Acceptance::Strict);
        let other = mute.path.with_file_name("other");
        Marker::Strict(mute.identity()).publish(&other).unwrap();
        std::os::unix::fs::chown(&other, Some(1234), None).unwrap();
        fs::rename(&other, &mute.path).unwrap();
        let error = mute.wait();
        assert!(matches!(*error.mishap, Mishap::WrongPeer { peer: Peer::Owner { uid: 1234 } }), "{error}");
    } else {
        eprintln!("skipped: only root can make a marker of another user");
    }
}

pub(crate) fn a_bare_line_is_accepted_only_if_asked() {
    let spec = |acceptance| MediumSpec::Marker(MarkerSpec { acceptance, protocol: None });
    start(&["marker-simple"], spec(Acceptance::Compatible)).wait_ready(LIMIT, None).unwrap();
    let error = start(&["marker-simple"], spec(Acceptance::Strict)).wait_ready(LIMIT, None).unwrap_err();
    let Mishap::Stale { difference } = *error.mishap else { panic!("{error}") };
    assert_eq!(difference, Difference::Unsigned);
}

pub(crate) fn an_override_is_honoured_by_both_sides() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("here");
    let spawn = role(&["marker"]).medium(MediumSpec::Marker(MarkerSpec::default()));
    let mut worker = spawn.clone().variable(WORKER_READY_MARKER_OVERRIDE_ENV, &path).start().unwrap();
    worker.wait_ready(LIMIT, None).unwrap();
    assert!(path.exists());
    drop(worker);
    assert!(!path.exists());
    // Empty is none: with a protocol of the default prefix, the marker is where the number says.
    let marker = MarkerSpec { acceptance: Acceptance::Strict, protocol: Some(Protocol::default()) };
    let spawn = spawn.medium(MediumSpec::Marker(marker)).variable(WORKER_READY_MARKER_OVERRIDE_ENV, "");
    let mut worker = spawn.start().unwrap();
    worker.wait_ready(LIMIT, None).unwrap();
    let path = PathBuf::from(outlast_sched::worker_ready_marker_path(worker.pid()));
    assert!(path.exists());
    drop(worker);
    assert!(!path.exists());
}

pub(crate) fn a_marker_that_is_written_slowly_is_waited_for() {
    let spec = MarkerSpec { acceptance: Acceptance::Compatible, protocol: None };
    start(&["marker-slow"], MediumSpec::Marker(spec)).wait_ready(LIMIT, None).unwrap();
}

pub(crate) fn a_private_directory_is_private_and_removed() {
    let mut worker = start(&["marker"], MediumSpec::Marker(MarkerSpec::default()));
    worker.wait_ready(LIMIT, None).unwrap();
    let environ = environ(worker.pid());
    let path = String::from_utf8(environ).unwrap().split('\0').find_map(|line| {
        Some(PathBuf::from(line.strip_prefix(WORKER_READY_MARKER_OVERRIDE_ENV)?.strip_prefix('=')?))
    });
    let path = path.unwrap();
    let directory = path.parent().unwrap();
    assert_eq!(fs::metadata(directory).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    drop(worker);
    assert!(!directory.exists());
}

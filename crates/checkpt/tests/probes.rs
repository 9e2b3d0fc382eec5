//! Failures that only an injected fault or a stop at a probe can show. Needs `--cfg outlast_probes`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fixture;

#[cfg(not(outlast_probes))]
#[test]
fn injected_faults() {
    println!("skipped: built without --cfg outlast_probes");
}

#[cfg(outlast_probes)]
mod with_probes {
    use std::sync::Mutex;

    use outlast_checkpt::{Checkpoint, RestoreOptions, Style, WriteError, WriteOptions, write_file};
    use outlast_probe::registry::{PROBES, Probe, duplicate, install};
    use outlast_probe::sync::{AtomicI32, AtomicU64, Ordering};

    use super::fixture::{Image, names};

    /// The fault that is to happen, its errno, and how many passes it lets by first.
    static FAULT: Mutex<&str> = Mutex::new("");
    static ERRNO: AtomicI32 = AtomicI32::new(0);
    static LATER: AtomicU64 = AtomicU64::new(0);
    /// Where the hook kills the process, if it is asked to.
    const KILL: &str = "OUTLAST_CHECKPT_TEST_KILL";

    // Relaxed throughout: the mutex orders what matters, the rest are counters.
    fn hook(probe: &'static Probe, _arguments: &[u64]) -> Option<i32> {
        if std::env::var(KILL).is_ok_and(|name| name == probe.name()) {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
        }
        if *FAULT.lock().unwrap() != probe.name() {
            return None;
        }
        let due =
            LATER.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |later| later.checked_sub(1)).is_err();
        due.then(|| ERRNO.load(Ordering::Relaxed))
    }

    fn inject(name: &'static str, errno: i32, later: u64) {
        *FAULT.lock().unwrap() = name;
        ERRNO.store(errno, Ordering::Relaxed);
        LATER.store(later, Ordering::Relaxed);
    }

    fn write(path: &std::path::Path, image: &Image, threads: usize) -> Result<(), WriteError> {
        let options = WriteOptions::default().style(Style::Raw).threads(threads).window_bytes(64 << 10);
        write_file(path, &image.meta(), &image.partitions, image, &options).map(drop)
    }

    /// One test, because the hook and the fault belong to the whole process.
    #[test]
    fn injected_faults_and_kills() {
        assert!(install(hook));
        assert_eq!(duplicate(), None);
        let image = Image::new(&[(0, 1 << 20)], |at| at as u8 | 1);
        if let Some(path) = std::env::var_os("OUTLAST_CHECKPT_TEST_PATH") {
            let _ = write(path.as_ref(), &image, 2);
            panic!("the writer was to be killed");
        }
        faults(&image);
        kills(&image);
        let passed = |name: &str| PROBES.iter().any(|probe| probe.name() == name && probe.hit_count() > 0);
        for name in [
            "checkpt.write.chunk",
            "checkpt.write.pwrite",
            "checkpt.publish.before_fsync",
            "checkpt.publish.fsync",
            "checkpt.publish.before_rename",
            "checkpt.publish.rename",
            "checkpt.publish.after_rename",
            "checkpt.publish.dirsync",
            "checkpt.publish.after_dirsync",
        ] {
            assert!(passed(name), "{name} was never passed");
        }
    }

    fn faults(image: &Image) {
        const ENOSPC: i32 = rustix::io::Errno::NOSPC.raw_os_error();
        const EIO: i32 = rustix::io::Errno::IO.raw_os_error();
        const EDQUOT: i32 = rustix::io::Errno::DQUOT.raw_os_error();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        let mut cases = vec![
            ("checkpt.publish.fsync", EIO, 0),
            ("checkpt.publish.fsync", ENOSPC, 0),
            ("checkpt.publish.rename", EIO, 0),
            ("checkpt.publish.dirsync", EIO, 0),
        ];
        // The front, each of 16 chunks, the tail: 18 writes.
        cases.extend(
            (0..18)
                .flat_map(|later| [ENOSPC, EDQUOT, EIO].map(|errno| ("checkpt.write.pwrite", errno, later))),
        );
        for (name, errno, later) in cases {
            for threads in [1, 3] {
                inject(name, errno, later);
                match (write(&path, image, threads), errno) {
                    (Err(WriteError::NoSpace { .. }), ENOSPC | EDQUOT) => {}
                    (Err(WriteError::Io { source, .. }), EIO) => assert_eq!(source.raw_os_error(), Some(EIO)),
                    (other, _) => panic!("{name} {errno} after {later}: {other:?}"),
                }
                assert_eq!(names(directory.path()), [""; 0], "{name} after {later}");
            }
        }
        inject("", 0, 0);
        write(&path, image, 2).unwrap();
    }

    /// At each step of publishing a kill leaves either nothing under the name or the whole checkpoint, and
    /// the next writer sweeps the rest.
    fn kills(image: &Image) {
        for (name, is_published) in [
            ("checkpt.write.chunk", false),
            ("checkpt.publish.before_fsync", false),
            ("checkpt.publish.before_rename", false),
            ("checkpt.publish.after_rename", true),
            ("checkpt.publish.after_dirsync", true),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("x");
            let mut command = std::process::Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "with_probes::injected_faults_and_kills"]).env(KILL, name);
            let output = command.env("OUTLAST_CHECKPT_TEST_PATH", &path).output().unwrap();
            let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
            assert_eq!(signal, Some(9), "{name}: {}", String::from_utf8_lossy(&output.stdout));
            assert_eq!(names(directory.path()).len(), 1, "{name}: a temporary file or the final one");
            assert_eq!(path.exists(), is_published, "{name}");
            if !is_published {
                write(&path, image, 1).unwrap();
            }
            assert_eq!(names(directory.path()), ["x"], "{name}: swept");
            let report = Checkpoint::open(&path).unwrap().verify(&RestoreOptions::default()).unwrap();
            assert!(report.faults.is_empty());
        }
    }
}

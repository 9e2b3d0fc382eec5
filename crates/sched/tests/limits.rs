//! What the limits of the runner's own process do to a run. They are those of all its threads, so that there is one test.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod shell;

use std::fs;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, chown, setresgid, setresuid};
use outlast_sched::{Event, Job, Outcome, RunError, Settings};
use shell::{Each, job, settings, try_run};

#[test]
fn limits_of_the_process_are_met_or_told() {
    many_slots_need_many_descriptors();
    a_process_too_many_is_that_jobs_result();
}

/// All slots work at once although the soft limit is too low for that; a hard limit that is too low stops the run first.
fn many_slots_need_many_descriptors() {
    const SLOTS: u32 = 40;
    let root = tempfile::tempdir().unwrap();
    let go = root.path().join("go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 100, hard).unwrap();
    let jobs: Vec<Job> = (0..SLOTS)
        .map(|number| {
            let mut job = job(&format!("job-{number}"), "read word < $GO");
            job.command.environment.push(("GO".into(), go.clone().into()));
            job
        })
        .collect();
    // Opened for both, it never ends, and a word waits for each that reads.
    let mut words = fs::OpenOptions::new().read(true).write(true).open(&go).unwrap();
    let mut begun = 0;
    let sink = Each(move |event: &Event| {
        begun += u32::from(matches!(event, Event::Started { .. } | Event::Finished(_)));
        if begun != SLOTS {
            return Ok(());
        }
        (0..SLOTS).try_for_each(|_| std::io::Write::write_all(&mut words, b"\n"))
    });
    let many = Settings { slots: SLOTS, ..settings(root.path()) };
    let report = try_run(jobs.clone(), &many, vec![Box::new(sink)]).unwrap();
    let wrong = report.records.iter().find(|record| record.outcome != Outcome::Passed);
    assert!(wrong.is_none(), "{wrong:?}");

    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let many = Settings { slots: 256, ..many };
    let more: Vec<Job> = (0..256).map(|number| job(&format!("job-{number}"), "true")).collect();
    setrlimit(Resource::RLIMIT_NOFILE, soft, soft).unwrap();
    let error = try_run(more, &many, vec![]).unwrap_err();
    assert!(matches!(error, RunError::Descriptors { limit, .. } if limit == soft), "{error}");
    assert!(error.to_string().contains("ulimit -Hn"), "{error}");
}

/// `fork` is refused with EAGAIN where the user has as many processes as allowed. Root is always allowed, so that as
/// root this becomes another user.
fn a_process_too_many_is_that_jobs_result() {
    let root = tempfile::tempdir().unwrap();
    if Uid::effective().is_root() {
        let (user, group) = (Uid::from_raw(65534), Gid::from_raw(65534));
        chown(root.path(), Some(user), Some(group)).unwrap();
        if setresgid(group, group, group).and_then(|()| setresuid(user, user, user)).is_err() {
            println!("skipped: there is no other user here to become");
            return;
        }
        if fs::read_dir(root.path()).is_err() {
            println!("skipped: no other user may enter the temporary directory");
            return;
        }
    }
    let go = root.path().join("go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut first = job("first", "read word < $GO");
    first.command.environment.push(("GO".into(), go.clone().into()));
    let sink = Each(move |event: &Event| match event {
        Event::Started { ordinal: 0, .. } => {
            let (_, hard) = getrlimit(Resource::RLIMIT_NPROC)?;
            setrlimit(Resource::RLIMIT_NPROC, 1, hard)?;
            fs::write(&go, "on\n")
        }
        _ => Ok(()),
    });
    let one = Settings { slots: 1, ..settings(root.path()) };
    let report =
        try_run(vec![first, job("second", "true"), job("third", "true")], &one, vec![Box::new(sink)]);
    let report = report.unwrap();
    assert_eq!(report.sink_errors, [""; 0]);
    let [first, refused @ ..] = &report.records[..] else { panic!("{report:?}") };
    assert_eq!(first.outcome, Outcome::Passed);
    for record in refused {
        let reason = record.reason.as_deref().unwrap_or_default();
        assert_eq!((record.outcome, record.exit), (Outcome::NotStarted, None));
        assert!(reason.contains("/bin/sh") && reason.contains("EAGAIN"), "{reason}");
    }
    assert_eq!((refused.len(), report.summary.exit_code), (2, 100));
}

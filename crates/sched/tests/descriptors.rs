//! A run leaves no descriptor, no thread and no process behind. Alone in its process, since others would change the count.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod shell;

use shell::{job, run_all, settings};

fn count(what: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count()
}

#[test]
fn nothing_is_left_open_whatever_jobs_do() {
    let root = tempfile::tempdir().unwrap();
    let run = |run: u32| {
        let jobs = (0..20)
            .map(|place| {
                let script = ["true", "exit 1", "kill -KILL $$", "sleep 600 &"][place % 4];
                let mut job = job(&format!("run {run} job {place}"), script);
                if place % 5 == 0 {
                    job.command.program = "/nowhere".into();
                }
                job
            })
            .collect();
        run_all(jobs, &settings(root.path()))
    };
    run(0); // What is opened once and for all is open now.
    let before = (count("fd"), count("task"));
    let report = run(1);
    assert_eq!(report.records.len(), 20);
    assert_eq!((count("fd"), count("task")), before);
    let child = nix::sys::wait::waitpid(None, None);
    assert_eq!(child, Err(nix::errno::Errno::ECHILD), "every process was reaped");
}

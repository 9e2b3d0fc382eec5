//! The `stress` command as its users meet it: the binary itself, in a domain of its own.

#![allow(clippy::unwrap_used, reason = "what is unwrapped here is what the test is about")]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

mod ground;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use ground::{Ground, SMALL, words};

#[test]
fn a_round_trip_passes_and_reports_in_json() {
    let ground = Ground::new();
    let json = ground.root.path().join("out.json");
    let json = json.to_str().unwrap();
    let (code, text) =
        ground.run(&words(&["wksp/roundtrip", "--iters", "4", "--seed", "1", "--json", json], &SMALL));
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("passed") && text.contains("seed 1"), "{text}");
    let lines = std::fs::read_to_string(json).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [line] = &lines[..] else { panic!("{lines:?}") };
    let report = &line["report"];
    assert_eq!(
        (&line["name"], &line["outcome"], &line["seed"], &report["iterations"]),
        (&"wksp/roundtrip".into(), &"passed".into(), &1.into(), &4.into())
    );
    assert!(line["duration_ns"].as_u64().unwrap() > 0);
    let saved = report["bytes_checkpointed"].as_u64().unwrap();
    assert!(saved > 0 && report["bytes_restored"].as_u64() == Some(saved));
    let counts = &report["counts"];
    assert_eq!((counts["named"].as_u64(), counts["anonymous"].as_u64()), (Some(2), Some(2)));
    assert_eq!(counts["checked_by_second_process"].as_u64(), Some(2));
    assert_eq!((counts["restored_fresh"].as_u64(), counts["restored_in_place"].as_u64()), (Some(2), Some(2)));
    assert!(line["reason"].is_null());
    assert!(ground.is_left_clean() && ground.sandboxes().is_empty(), "{:?}", ground.sandboxes());
}

#[test]
fn the_same_seed_makes_the_same_round_trips() {
    let ground = Ground::new();
    let run = |seed: &str| {
        let json = ground.root.path().join("out.json");
        let first = ["wksp/roundtrip", "--iters", "3", "--seed", seed, "--json", json.to_str().unwrap()];
        let (code, text) = ground.run(&words(&first, &words(&SMALL, &["--worker-cnt", "3"])));
        assert_eq!(code, 0, "{text}");
        let line: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
        (line["report"]["bytes_checkpointed"].clone(), line["report"]["counts"].clone())
    };
    let first = run("5");
    assert_eq!(first, run("5"));
    assert_ne!(first, run("6"));
}

/// Every way to break what was restored is noticed, whoever does the checking, and the line that reproduces it
/// is printed and does.
#[test]
fn a_wrong_restore_fails_and_says_how_to_see_it_again() {
    let ground = Ground::new();
    for (canary, expected) in
        [("flip", "expected"), ("extra", "allocations instead of"), ("lose", "tag of byte")]
    {
        for iterations in ["1", "2"] {
            let broken = ["--page-cnt", "1024", "--canary", canary];
            let (code, text) =
                ground.run(&words(&["wksp/roundtrip", "--iters", iterations, "--seed", "3", "--"], &broken));
            assert_eq!(code, 100, "{canary}: {text}");
            assert!(text.contains(expected), "{canary}: {text}");
            let line = text.lines().find_map(|line| line.trim().strip_prefix("again: cargo xtask ")).unwrap();
            let again: Vec<&str> = line.split(' ').skip(1).collect();
            assert!(again.starts_with(&["wksp/roundtrip", "--seed", "3", "--iters", "1"]), "{line}");
            let (code, text) = ground.run(&again);
            assert!(code == 100 && text.contains(expected), "{text}");
        }
    }
    assert!(ground.is_left_clean());
}

#[test]
fn usage_errors_exit_with_2_and_selecting_nothing_with_4() {
    let ground = Ground::new();
    for bad in [
        &["--no-such-option"][..],
        &["1"],
        &["merge"],
        &["merge", "/no/such/run"],
        &["--slots", "0"],
        &["--slots", "257"],
        &["--shard", "3/2"],
        &["--junit", "/no/such/directory/out.xml", "wksp/roundtrip"],
        &["--iters", "0"],
        &["--for", "30"],
        &["--profile", "slow"],
        &["--json", "/no/such/directory/out.json", "wksp/roundtrip"],
        &["wksp/roundtrip", "--", "--no-such-option"],
        &["wksp/roundtrip", "--", "--page-sz", "large"],
        &["wksp/kill", "--", "--keep"],
        &["wksp/roundtrip", "--iters", "1", "--", "--page-sz", "huge"],
        &["wksp/roundtrip", "--iters", "1", "--", "--page-cnt", "64", "--near-cpu", "0"],
    ] {
        let (code, text) = ground.run(bad);
        assert!(code == 2 && !text.trim().is_empty(), "{bad:?}: {code} {text}");
    }
    let (code, text) = ground.run(&["wksp/nothing"]);
    assert!(code == 4 && text.contains("wksp/roundtrip"), "{text}");
    if !outlast_probe::ENABLED {
        let (code, text) = ground.run(&["wksp/kill_at_probe"]);
        assert!(code == 4 && text.contains("needs probes"), "{text}");
    }
    assert!(ground.is_left_clean());
}

#[test]
fn lists_and_helps_without_running_anything() {
    let ground = Ground::new();
    let (code, text) = ground.run(&["--list"]);
    assert_eq!(code, 0);
    for scenario in outlast_tests::scenario::ALL {
        assert!(text.contains(scenario.name), "{text}");
    }
    let (code, text) = ground.run(&["wksp/kill", "--list"]);
    assert!(code == 0 && text.contains("wksp/kill ") && !text.contains("wksp/roundtrip"), "{text}");
    let (code, text) = ground.run(&["--help"]);
    assert!(code == 0 && text.contains("--worker-cnt") && text.contains("130 interrupted"), "{text}");
    assert!(ground.is_left_clean());
}

#[test]
fn a_kept_checkpoint_has_the_mode_that_was_asked_for() {
    use std::os::unix::fs::PermissionsExt;
    let ground = Ground::new();
    let path = ground.root.path().join("kept");
    std::fs::write(&path, "something old").unwrap();
    let options = ["--keep", "--mode", "0640", "--path", path.to_str().unwrap()];
    let (code, text) = ground.run(&words(&["wksp/roundtrip", "--iters", "2"], &words(&SMALL, &options)));
    assert_eq!(code, 0, "{text}");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o640);
    outlast_checkpt::Checkpoint::open(&path).unwrap();
    assert!(ground.is_left_clean());
}

#[test]
fn a_workspace_that_is_given_stays_in_place() {
    use outlast_wksp::{CreateOptions, Domain, Wksp};
    let ground = Ground::new();
    let domain = Domain::open(&ground.root.path().join("regions")).unwrap();
    let name = "mine".parse().unwrap();
    let wksp = Wksp::create(&domain, &name, &CreateOptions::with_size(2 << 20)).unwrap();
    wksp.alloc(1, 1, 1).unwrap();
    // Joined by us as well: the restore has to be in place.
    let (code, text) = ground.run(&["wksp/roundtrip", "--iters", "2", "--", "--wksp", "mine"]);
    assert!(code == 0 && text.contains("restored_in_place 2"), "{text}");
    assert!(wksp.usage(&[]).unwrap().used_count > 1);
    drop(wksp);
    let (code, text) = ground.run(&["wksp/roundtrip", "--iters", "2", "--", "--wksp", "mine"]);
    assert!(code == 0 && text.contains("restored_fresh 2"), "{text}");
    assert!(Wksp::attach(&domain, &name).unwrap().verify().unwrap().is_sound());
    Wksp::delete(&domain, &name).unwrap();
    let (code, text) = ground.run(&["wksp/roundtrip", "--iters", "1", "--", "--wksp", "mine"]);
    assert!(code == 100 && text.contains("mine"), "{text}");
}

/// Ctrl-C at some moment of each scenario: 130, soon, and nothing is left, no process either.
#[test]
fn an_interrupt_leaves_nothing_behind() {
    for (scenario, signal) in [
        ("wksp/roundtrip", Signal::SIGINT),
        ("wksp/kill", Signal::SIGTERM),
        ("wksp/hostile", Signal::SIGINT),
        ("wksp/hostile_sweep", Signal::SIGINT),
        ("wksp/sweep", Signal::SIGINT),
        ("wksp/user_model", Signal::SIGHUP),
    ] {
        let ground = Ground::new();
        let options: &[&str] = if scenario == "wksp/roundtrip" { &SMALL } else { &[] };
        let child = ground
            .stress(&words(&[scenario, "--for", "10m"], options))
            .process_group_of_its_own()
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        // Once there is a region the scenario is running; an anonymous one shows itself by its descriptor.
        let begin = Instant::now();
        while !is_at_work(&ground) {
            assert!(begin.elapsed() < Duration::from_secs(30), "{scenario} does not begin");
            std::thread::yield_now();
        }
        kill(pid, signal).unwrap();
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
        assert_eq!(status.code(), Some(130), "{scenario}: {status:?} {:?} {text}", status.signal());
        assert!(text.contains("interrupted"), "{scenario}: {text}");
        assert!(ground.is_left_clean(), "{scenario}");
        assert_eq!(ground.processes(), [], "{scenario}");
    }
}

trait OwnGroup {
    fn process_group_of_its_own(&mut self) -> &mut Self;
}

impl OwnGroup for Command {
    fn process_group_of_its_own(&mut self) -> &mut Self {
        std::os::unix::process::CommandExt::process_group(self, 0)
    }
}

fn is_at_work(ground: &Ground) -> bool {
    let named = std::fs::read_dir(ground.root.path().join("regions"));
    let is_memory = |target: &String| target.contains("memfd:");
    named.is_ok_and(|mut entries| entries.next().is_some())
        || ground.processes().iter().any(|(_, targets)| targets.iter().any(is_memory))
}

fn workers_of(ground: &Ground) -> Vec<String> {
    let lines = ground.processes().into_iter().map(|(line, _)| line);
    lines.filter(|line| line.contains(" worker ") || line.contains(" job ")).collect()
}

/// Neither the job's process nor its workers outlive the runner, and the next run takes away what they left: all of
/// it, and nothing of anybody who lives.
#[test]
fn a_worker_does_not_outlive_the_runner() {
    use outlast_wksp::{CreateOptions, Domain, Wksp};
    let ground = Ground::new();
    let mut child =
        ground.stress(&["wksp/kill", "wksp/hostile", "--slots", "2", "--for", "10m"]).spawn().unwrap();
    let regions = ground.root.path().join("regions");
    let has_region = || std::fs::read_dir(&regions).is_ok_and(|mut entries| entries.next().is_some());
    let begin = Instant::now();
    while !(has_region() && workers_of(&ground).iter().any(|line| line.contains(" worker "))) {
        assert!(begin.elapsed() < Duration::from_secs(30), "no worker was started");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let begin = Instant::now();
    while !workers_of(&ground).is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", workers_of(&ground));
        std::thread::yield_now();
    }
    assert!(has_region(), "nothing was left that could be taken away");
    let domain = Domain::open(&regions).unwrap();
    // One that looks like a job's, and whose maker lives.
    let name = format!("stress-{}-00000001-mine", std::process::id()).parse().unwrap();
    let wksp = Wksp::create(&domain, &name, &CreateOptions::with_size(2 << 20)).unwrap();
    let (code, text) = ground.run(&["sched/queue", "--iters", "30"]);
    assert_eq!(code, 0, "{text}");
    let left: Vec<_> = domain.list().unwrap().into_iter().map(|listing| listing.file_name).collect();
    assert_eq!(left, [name.as_str()]);
    drop(wksp);
}

/// Whoever stops reading changes nothing of a run and of its exit code.
#[test]
fn nobody_has_to_read_what_is_said() {
    let ground = Ground::new();
    for (words, expected) in [
        (&["sched/queue", "--iters", "30"][..], 100),
        (&["sched/queue", "--list"], 0),
        (&["--slots", "0"], 2),
    ] {
        // Only the ends for writing are kept.
        let [stdout, stderr] = [std::io::pipe(), std::io::pipe()].map(|pipe| pipe.unwrap().1);
        // A report that could not be printed is no success.
        let status = ground.stress(words).stdout(stdout).stderr(stderr).status().unwrap();
        assert_eq!(status.code(), Some(expected), "{words:?}");
    }
}

#[test]
fn roles_and_tables_are_not_for_users() {
    let ground = Ground::new();
    for bad in [&["worker"][..], &["worker", "check"], &["worker", "no-such", "1"], &["worker", "check", "1"]]
    {
        assert_eq!(ground.run(bad).0, 1, "{bad:?}");
    }
    let job = ["job", "wksp/kill", "--seed", "1", "--profile", "quick", "--parent", "1", "--base", "/"];
    for bad in [&["job"][..], &["job", "wksp/kill"], &job] {
        let (code, text) = ground.run(bad);
        assert!(code == 2 && text.contains("started by the runner"), "{bad:?}: {code} {text}");
    }
    let (code, text) = ground.run(&["probes-table"]);
    if outlast_probe::ENABLED {
        assert!(code == 0 && text.contains("wksp.alloc.committed"), "{text}");
    } else {
        assert!(code == 5 && text.contains("cargo xtask probes"), "{text}");
    }
    assert_eq!(ground.run(&["probes-table", "--no-such"]).0, 2);
}

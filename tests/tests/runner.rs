//! What the runner remembers and writes: numbers of failures, history, sandboxes, shards, and reports that agree.

#![allow(clippy::unwrap_used, reason = "what is unwrapped here is what the test is about")]

mod ground;

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use ground::{Ground, SMALL, words};

/// A run of two round trips that fails: the check of the second process is made to see a flipped byte.
const FAILING: [&str; 11] = [
    "wksp/roundtrip",
    "--iters",
    "2",
    "--seed",
    "3",
    "--repeat",
    "1",
    "--",
    "--page-cnt=1024",
    "--canary",
    "flip",
];

fn records(path: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_failure_has_a_number_until_it_passes() {
    let ground = Ground::new();
    let json = ground.root.path().join("out.jsonl");
    let with_json = ["--json", json.to_str().unwrap()];
    let (code, text) = ground.run(&FAILING);
    assert!(code == 100 && text.contains("1=wksp/roundtrip"), "{code} {text}");

    // Its sandbox is kept, with an image of the region and everything that was printed.
    let [sandbox] = &ground.sandboxes()[..] else { panic!("{:?}", ground.sandboxes()) };
    let names: BTreeSet<String> = std::fs::read_dir(sandbox)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for name in ["stdout", "stderr", "log", "verdict.json"] {
        assert!(names.contains(name), "{name} of {names:?}");
    }
    assert!(text.contains(sandbox.to_str().unwrap()), "{text}");

    // The number runs the stored seed with the stored options first, then explores again.
    let (code, text) = ground.run(&words(&["1"], &with_json));
    assert_eq!(code, 100, "{text}");
    let seeds: Vec<u64> = records(&json).iter().map(|record| record["seed"].as_u64().unwrap()).collect();
    assert!(seeds.len() == 2 && seeds.contains(&3), "{seeds:?}");
    assert!(ground.run(&["7"]).1.contains("no failure 7"));

    // Without the canary the very same passes, and the number is gone.
    let (code, text) = ground.run(&words(&["last-failed", "--seed", "3"], &SMALL));
    assert_eq!(code, 0, "{text}");
    assert_eq!(ground.run(&["1"]).0, 2);
    assert_eq!(ground.run(&["last-failed"]).0, 4);
    let (code, text) = ground.run(&["--history"]);
    assert!(code == 0 && text.contains("wksp/roundtrip"), "{text}");
    assert!(ground.is_left_clean());
}

#[test]
fn one_failure_of_several_repetitions_is_a_failure() {
    let ground = Ground::new();
    let json = ground.root.path().join("out.jsonl");
    let run =
        ["wksp/roundtrip", "--iters", "1", "--repeat", "3", "--seed", "9", "--json", json.to_str().unwrap()];
    let (code, text) = ground.run(&words(&run, &SMALL));
    assert_eq!(code, 0, "{text}");
    let found: BTreeSet<(u64, u64)> = records(&json)
        .iter()
        .map(|record| (record["repetition"].as_u64().unwrap(), record["seed"].as_u64().unwrap()))
        .collect();
    assert_eq!(found, BTreeSet::from([(1, 9), (2, 10), (3, 11)]));
}

#[test]
fn what_has_not_changed_is_left_out_when_asked_for() {
    let ground = Ground::new();
    let run = |more: &[&str]| {
        ground.run(&words(&words(&["sched/queue", "--iters", "30", "--skip-unchanged"], more), &[]))
    };
    let (code, text) = run(&[]);
    assert!(code == 0 && text.contains("[1]"), "{text}");
    let (code, text) = run(&[]);
    assert!(code == 0 && text.contains("(1)"), "{text}");
    let (code, text) = run(&["--seed", "4"]);
    assert!(code == 0 && text.contains("[1]"), "{text}");
    // Not asked for, nothing is left out.
    let (code, text) = ground.run(&["sched/queue", "--iters", "30"]);
    assert!(code == 0 && text.contains("[1]"), "{text}");
}

#[test]
fn what_is_asked_to_be_kept_is_kept_and_output_goes_where_it_is_wanted() {
    let ground = Ground::new();
    let pattern = ground.root.path().join("[NUMBER]-[NAME].txt");
    let run = ["sched/queue", "--iters", "30", "--keep", "--trace", "--output-to", pattern.to_str().unwrap()];
    let (code, text) = ground.run(&run);
    assert_eq!(code, 0, "{text}");
    assert_eq!(ground.sandboxes().len(), 1);
    let outputs: Vec<PathBuf> = std::fs::read_dir(ground.root.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    let [output] = &outputs[..] else { panic!("{outputs:?}") };
    assert!(output.file_name().unwrap().to_str().unwrap().starts_with("1-"), "{output:?}");
    assert!(std::fs::read_to_string(output).unwrap().contains("sched/queue"));
    for word in ["assign", "start", "finish", "join"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

/// The three files of one run say the same, and so do those of its parts put together.
#[test]
fn shards_merge_into_the_report_of_the_whole() {
    let ground = Ground::new();
    let file = |name: &str| ground.root.path().join(name);
    let plan = ["sched/queue", "sched/runner", "--iters", "6", "--seed", "5", "--repeat", "3"];
    for part in ["1/3", "3/3", "2/3"] {
        let (code, text) = ground.run(&words(&plan, &["--shard", part]));
        assert_eq!(code, 0, "{part}: {text}");
    }
    let parts: Vec<String> = std::fs::read_dir(ground.root.path().join("stress/runs"))
        .unwrap()
        .map(|entry| entry.unwrap().path().to_str().unwrap().to_owned())
        .collect();
    let (json, junit, html) = (file("m.jsonl"), file("m.xml"), file("m.html"));
    let mut merge = vec!["merge"];
    merge.extend(parts.iter().map(String::as_str));
    merge.extend(["--json", json.to_str().unwrap(), "--junit", junit.to_str().unwrap()]);
    merge.extend(["--html", html.to_str().unwrap()]);
    let (code, text) = ground.run(&merge);
    assert_eq!(code, 0, "{text}");
    let names: Vec<String> = records(&json)
        .iter()
        .map(|record| format!("{} {}", record["name"].as_str().unwrap(), record["repetition"]))
        .collect();
    assert_eq!(names.len(), 6, "{names:?}");
    let (junit, html) = (std::fs::read_to_string(junit).unwrap(), std::fs::read_to_string(html).unwrap());
    for name in ["sched/queue", "sched/runner"] {
        assert!(junit.contains(name) && html.contains(name), "{name}");
    }
    // A part that is missing is no pass, and a part of another plan is refused.
    let (code, text) = ground.run(&["merge", &parts[0], &parts[1]]);
    assert!(code != 0 && code != 2, "{code} {text}");
    let other_plan = ["sched/queue", "--iters", "7", "--seed", "5", "--repeat", "3"];
    let (code, text) = ground.run(&words(&other_plan, &["--shard", "2/3"]));
    assert_eq!(code, 0, "{text}");
    let other = std::fs::read_dir(ground.root.path().join("stress/runs")).unwrap();
    let other: Vec<String> = other
        .map(|entry| entry.unwrap().path().to_str().unwrap().to_owned())
        .filter(|path| !parts.contains(path))
        .collect();
    let first = parts.iter().find(|part| {
        let plan = std::fs::read_to_string(PathBuf::from(part).join("plan.json")).unwrap();
        serde_json::from_str::<Value>(&plan).unwrap()["shard"][0] == 1
    });
    let (code, text) = ground.run(&["merge", first.unwrap(), &other[0]]);
    assert!(code == 2 && text.contains("plan"), "{text}");
}

#[test]
fn a_directory_that_cannot_be_written_is_named_with_the_way_out() {
    let ground = Ground::new();
    let file = ground.root.path().join("file");
    std::fs::write(&file, "").unwrap();
    let output =
        ground.stress(&["sched/queue", "--iters", "1"]).env("OUTLAST_STRESS_DIR", &file).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() != Some(0) && text.contains(file.to_str().unwrap()), "{text}");
    assert!(text.contains("OUTLAST_STRESS_DIR"), "{text}");
}

/// In jobs of their own the scenarios of the runner count descriptors too.
#[test]
fn the_runners_own_scenarios_leave_no_descriptor_open() {
    let ground = Ground::new();
    let json = ground.root.path().join("out.jsonl");
    let (code, text) =
        ground.run(&["sched/runner", "sched/readiness", "--iters", "6", "--json", json.to_str().unwrap()]);
    assert_eq!(code, 0, "{text}");
    let records = records(&json);
    let runner = records.iter().find(|record| record["name"] == "sched/runner").unwrap();
    assert_eq!(runner["report"]["counts"]["runs_without_a_leaked_descriptor"], 6, "{runner}");
    assert!(ground.is_left_clean());
}

/// Nobody can be told, and the run goes its way all the same: its directory is whole and its code says that a report
/// was not written.
#[test]
fn a_full_terminal_loses_no_run() {
    let ground = Ground::new();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    // Something to complain of before the run begins.
    std::fs::create_dir(ground.root.path().join("stress")).unwrap();
    std::fs::write(ground.root.path().join("stress/history.jsonl"), "garbage\n").unwrap();
    let words = words(&["wksp/roundtrip", "--iters", "1", "--seed", "3"], &SMALL);
    let status = ground.stress(&words).stdout(full()).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(100));
    let runs = std::fs::read_dir(ground.root.path().join("stress/runs")).unwrap();
    let [run] = &runs.map(|run| run.unwrap().path()).collect::<Vec<_>>()[..] else { panic!("not one run") };
    assert!(run.join("summary.json").exists() && run.join("report.html").exists());
    let status = ground.stress(&["--list"]).stdout(full()).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(100));
    assert!(ground.is_left_clean());
}

//! `outlast watch`: series, their ends, and snapshots that were saved.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::sandbox::{Ran, Sandbox};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_series_is_lines_of_json_and_an_end() {
    let sandbox = Sandbox::with_wksp("a");
    let wksp = sandbox.attach("a");
    wksp.alloc(5000, 64, 1).unwrap();
    let shown = lines(&sandbox.ok("watch a --count 2 --interval 1ms --json"));
    assert_eq!(shown.len(), 3);
    assert!(shown.iter().all(|line| line["schema_version"] == 1));
    assert_eq!(shown[2], json!({ "schema_version": 1, "snapshots": 2, "interrupted": false }));
    let joiner = shown[1]["joiners"].as_array().unwrap().last().unwrap();
    assert_eq!((&joiner["key"]["pid"], &joiner["state"]), (&json!(std::process::id()), &json!("alive")));
    assert_eq!(joiner["values"]["alloc_bytes"], json!({ "measured": 5000 }));
    assert_eq!(shown[1]["used_bytes"], json!({ "measured": 5000 }));
    assert!(shown[0]["at_monotonic_ns"].as_u64() <= shown[1]["at_monotonic_ns"].as_u64());
}

#[test]
fn people_see_who_is_who() {
    let sandbox = Sandbox::with_wksp("a");
    let wksp = sandbox.attach("a");
    wksp.alloc(5000, 64, 1).unwrap();
    let shown = sandbox.ok("watch a --count 1");
    let row = shown.lines().find(|line| line.contains("alive")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    let pid = std::process::id().to_string();
    assert_eq!((cells[2], cells[6], cells[7], cells.last()), (pid.as_str(), "1", "5000", Some(&"5000")));
    assert!(shown.contains("used        5000 bytes") || shown.contains("5000"), "{shown}");
    drop(wksp);
    let shown = sandbox.ok("watch a --count 1");
    assert!(shown.contains(" left ") && shown.contains(" 5000 "), "{shown}");
}

/// Starts a series and waits for its first line.
fn begun(sandbox: &Sandbox, line: &str) -> (Child, BufReader<ChildStdout>, String) {
    let mut child = sandbox.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    stdout.read_line(&mut first).unwrap();
    (child, stdout, first)
}

fn ended(child: Child, mut stdout: BufReader<ChildStdout>) -> (Ran, String) {
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    (Ran::of(child.wait_with_output().unwrap()), rest)
}

#[test]
fn an_interruption_is_an_end() {
    let sandbox = Sandbox::with_wksp("a");
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        for (line, end) in [
            (
                "watch a --interval 60min --json",
                "{\"schema_version\":1,\"snapshots\":1,\"interrupted\":true}\n",
            ),
            ("watch a --interval 60min", "interrupted after 1 snapshot\n"),
        ] {
            let (child, stdout, first) = begun(&sandbox, line);
            assert!(!first.is_empty());
            kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
            let (ran, rest) = ended(child, stdout);
            assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{line} {signal}");
            assert!(rest.ends_with(end), "{line} {signal}: {rest}");
        }
    }
}

#[test]
fn an_error_in_a_series_keeps_what_was_shown() {
    let sandbox = Sandbox::with_wksp("a");
    let (child, stdout, first) = begun(&sandbox, "watch a --interval 1ms --json");
    sandbox.ok("wksp delete a");
    let (ran, rest) = ended(child, stdout);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert!(ran.error()["message"].as_str().unwrap().contains("deleted"), "{}", ran.stderr);
    assert!(lines(&(first + &rest)).iter().all(|line| line.get("interrupted").is_none()));
    // Made again between two looks, it is another one.
    sandbox.ok("wksp new a --size 1MiB");
    let (child, stdout, _) = begun(&sandbox, "watch a --interval 1ms");
    let other = sandbox.path("domain/a");
    std::fs::write(sandbox.path("domain/b"), b"no region").unwrap();
    std::fs::rename(sandbox.path("domain/b"), other).unwrap();
    let (ran, _) = ended(child, stdout);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
}

#[test]
fn what_cannot_be_watched() {
    let sandbox = Sandbox::with_wksp("a");
    sandbox.fails(4, "watch b --count 1");
    std::fs::write(sandbox.path("domain/c"), b"no region").unwrap();
    sandbox.fails(3, "watch c --count 1");
    for line in [
        "watch",
        "watch a --count 0",
        "watch a --count 1 --interval 0ms",
        "watch a --count 1 --compare x y",
        "watch --compare x",
        "watch a --count 1 --min-change 5",
        "watch --compare x y --min-percent nan",
        "watch --compare x y --min-percent -1",
    ] {
        sandbox.fails(2, line);
    }
}

fn save(sandbox: &Sandbox, name: &str) -> String {
    let text = sandbox.ok("watch a --count 1 --json");
    std::fs::write(sandbox.path(name), &text).unwrap();
    text
}

#[test]
fn saved_snapshots_are_compared() {
    let sandbox = Sandbox::with_wksp("a");
    let wksp = sandbox.attach("a");
    wksp.alloc(1000, 64, 1).unwrap();
    save(&sandbox, "before");
    wksp.alloc(500, 64, 1).unwrap();
    wksp.alloc(1 << 30, 64, 1).unwrap_err();
    let after = save(&sandbox, "after");
    let found = sandbox.json("watch --compare before after --min-change 100 --min-percent 50");
    assert_eq!((&found["same_host"], &found["same_region"]), (&json!(true), &json!(true)));
    assert_eq!(found["live_bytes"], 500);
    let joiner = found["joiners"].as_array().unwrap().last().unwrap();
    let change = &joiner["changes"]["alloc_bytes"];
    assert_eq!((&change["delta"], &change["relative"]), (&json!(500), &json!(0.5)));
    assert_eq!(change["after"], json!({ "measured": 1500 }));
    let reached: Vec<&Value> =
        found["reached"].as_array().unwrap().iter().map(|reached| &reached["counter"]).collect();
    assert_eq!(reached, ["alloc_bytes"], "the one call without space is below 100");
    let shown = sandbox.ok("watch --compare before after --min-change 1");
    assert!(
        shown.contains("alloc bytes *") && shown.contains("+500") && shown.contains("+50.0 %"),
        "{shown}"
    );
    // Another region and another host: no difference, and said so.
    let mut other = lines(&after)[0].clone();
    other["region_id"] = json!("00000000000000000000000000000001");
    other["boot_id"] = json!("another");
    std::fs::write(sandbox.path("other"), other.to_string()).unwrap();
    let found = sandbox.json("watch --compare before other");
    assert_eq!((&found["same_region"], &found["used_bytes"]["delta"]), (&json!(false), &Value::Null));
    assert_eq!((&found["elapsed_ns"], &found["reached"]), (&Value::Null, &json!([])));
    let shown = sandbox.ok("watch --compare before other");
    assert!(shown.contains("another host") && shown.contains("nothing can be compared"), "{shown}");
    assert!(shown.contains("unknown"), "{shown}");
    // A counter that an older or newer build does not know is absent, not 0.
    let mut fewer = lines(&after)[0].clone();
    fewer["new"] = json!([1]);
    for joiner in fewer["joiners"].as_array_mut().unwrap() {
        joiner["values"] = json!({ "other": "torn" });
    }
    std::fs::write(sandbox.path("fewer"), fewer.to_string()).unwrap();
    let found = sandbox.json("watch --compare before fewer");
    let change = &found["joiners"].as_array().unwrap().last().unwrap()["changes"]["alloc_bytes"];
    assert_eq!((&change["after"], &change["delta"]), (&json!("absent"), &Value::Null));
}

#[test]
fn files_that_hold_no_snapshot_are_refused() {
    let sandbox = Sandbox::with_wksp("a");
    let _wksp = sandbox.attach("a");
    let good = save(&sandbox, "good");
    let first = good.lines().next().unwrap();
    let deep = "[".repeat(100_000);
    let cases: [(&str, i32); 12] = [
        ("", 3),
        ("{", 3),
        ("[]", 3),
        ("{}", 3),
        ("null", 3),
        (&deep, 3),
        (r#"{"schema_version":2}"#, 1),
        (r#"{"schema_version":1}"#, 3),
        (r#"{"schema_version":1,"snapshots":0,"interrupted":true}"#, 3),
        (&first[..first.len() / 2], 3),
        (&first.replace("\"measured\"", "\"guessed\""), 3),
        (&first.replace("\"data_bytes\":", "\"data_bytes\":-"), 3),
    ];
    for (text, code) in cases {
        std::fs::write(sandbox.path("bad"), text).unwrap();
        let complaint = sandbox.fails(code, "watch --compare good bad");
        assert!(complaint.contains("expected") && complaint.contains("next:"), "{complaint}");
        sandbox.fails(code, "watch --compare bad good");
    }
    sandbox.fails(4, "watch --compare good none");
    std::fs::write(sandbox.path("bad"), b"\xff\xfe").unwrap();
    sandbox.fails(3, "watch --compare good bad");
    std::fs::File::create(sandbox.path("bad")).unwrap().set_len((64 << 20) + 1).unwrap();
    sandbox.fails(1, "watch --compare good bad");
}

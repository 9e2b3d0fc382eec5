//! The HTML report in a real browser: what it shows after its script has run is what the JSON lines say.
//!
//! Skipped, and says so, where there is no Chromium.

#![allow(clippy::unwrap_used, reason = "what is unwrapped here is what the test is about")]

mod ground;

use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::geteuid;
use serde_json::Value;

use ground::Ground;

/// The page's document after the browser has loaded it and run its script; `None` without a browser.
fn rendered(page: &Path, profile: &Path) -> Option<String> {
    let programs = ["chromium", "chromium-browser", "google-chrome"];
    let found = |program: &&str| {
        let run = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        run.is_ok_and(|status| status.success())
    };
    let Some(program) = programs.into_iter().find(found) else {
        println!("skipped: none of {programs:?} is installed");
        return None;
    };
    let mut command = Command::new(program);
    command.args(["--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]);
    command.args([
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-dev-shm-usage",
    ]);
    if geteuid().is_root() {
        command.arg("--no-sandbox");
    }
    let profile = format!("--user-data-dir={}", profile.display());
    let output = command.args([&profile, "--dump-dom"]).arg(format!("file://{}", page.display())).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_page_shows_in_a_browser_what_the_lines_say() {
    let ground = Ground::new();
    let file = |name: &str| ground.root.path().join(name);
    let (json, html) = (file("out.jsonl"), file("out.html"));
    let (code, text) = ground.run(&[
        "sched/queue",
        "wksp/user_model",
        "wksp/roundtrip",
        "--iters",
        "3",
        "--repeat",
        "2",
        "--json",
        json.to_str().unwrap(),
        "--html",
        html.to_str().unwrap(),
        "--",
        "--page-cnt=1024",
        "--canary=flip",
    ]);
    assert_eq!(code, 100, "{text}");
    let Some(page) = rendered(&html, &file("profile")) else { return };
    let lines = std::fs::read_to_string(&json).unwrap();
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 6);
    assert_eq!(page.matches("<tr data-ordinal=").count(), records.len());
    for record in &records {
        let row = format!(
            "<tr data-ordinal=\"{}\" data-name=\"{}\" data-outcome=\"{}\"",
            record["ordinal"],
            record["name"].as_str().unwrap(),
            record["outcome"].as_str().unwrap()
        );
        assert!(page.contains(&row), "{row}");
        if record["outcome"] == "failed" {
            assert!(page.contains(record["replay"].as_str().unwrap()), "the line that repeats it");
        }
    }
    assert!(page.contains("<svg") && !page.contains("src=\"http"), "drawn, and without the network");
}

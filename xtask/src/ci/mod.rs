//! `cargo xtask ci`: every check that a change must pass, as a list of steps, each timed.
//!
//! # Invariants
//! - The first step that fails ends the run; its name and the command that repeats it alone are the last words.
//! - A step that cannot run here says so and counts as skipped, never as passed.

mod blanked;
mod consumer;
mod elf;
mod probe_free;

use std::time::{Duration, Instant};

use crate::cargo::{Cargo, TestCount};
use crate::failure::Failure;
use crate::flags;
use crate::launch::PROBES_DIRECTORY;
use crate::tidy;
use crate::workspace::Workspace;

/// What a step did.
enum Outcome {
    Passed,
    /// Could not run on this machine, for this reason.
    Skipped(&'static str),
}

struct Step {
    name: &'static str,
    what: &'static str,
    run: fn(&Workspace, &mut TestCount) -> Result<Outcome, Failure>,
}

/// Cheap ones first; those that share a target directory side by side.
const STEPS: &[Step] = &[
    Step { name: "fmt", what: "sources are formatted", run: fmt },
    Step { name: "tidy", what: "the rules that no compiler checks", run: tidy_rules },
    Step { name: "clippy", what: "no warning in any target", run: clippy },
    Step { name: "alone", what: "crates compile without their default features", run: alone },
    Step { name: "docs", what: "no warning in the documentation", run: docs },
    Step { name: "deny", what: "bans, licences and sources of dependencies", run: deny },
    Step { name: "test", what: "the README's test command", run: test },
    Step { name: "package", what: "every crate can be packaged and builds from its package", run: package },
    Step { name: "consumer", what: "a stranger's crate builds on one of ours alone", run: consumer::check },
    Step { name: "clippy-probes", what: "no warning with probes", run: clippy_probes },
    Step {
        name: "test-probes",
        what: "tests of the library crates, and those that need probes, with them",
        run: test_probes,
    },
    Step {
        name: "probe-free",
        what: "a normal release build has no trace of a probe",
        run: probe_free::check,
    },
];

/// Runs the chosen steps.
pub(crate) fn run(flags: &flags::Ci) -> Result<(), Failure> {
    if flags.list {
        STEPS.iter().for_each(|step| println!("{:14} {}", step.name, step.what));
        return Ok(());
    }
    if let Some(unknown) = flags.only.iter().find(|name| !STEPS.iter().any(|step| step.name == **name)) {
        return Err(Failure::Usage(format!(
            "there is no step `{unknown}`; `cargo xtask ci --list` shows them"
        )));
    }
    let workspace = Workspace::load()?;
    let chosen =
        STEPS.iter().filter(|step| flags.only.is_empty() || flags.only.iter().any(|name| name == step.name));
    let mut count = TestCount::default();
    let mut report = Vec::new();
    let mut ended = Ok(());
    for step in chosen {
        println!("\n== {}: {}", step.name, step.what);
        let begin = Instant::now();
        let outcome = (step.run)(&workspace, &mut count);
        report.push(line(step.name, begin.elapsed(), &outcome));
        if let Err(failure) = outcome {
            ended = Err(at_step(step.name, failure));
            break;
        }
    }
    println!("\n== summary");
    report.iter().for_each(|line| println!("{line}"));
    if count != TestCount::default() {
        println!("{} passed, {} failed, {} skipped", count.passed, count.failed, count.ignored);
    }
    ended
}

fn line(name: &str, took: Duration, outcome: &Result<Outcome, Failure>) -> String {
    let word = match outcome {
        Ok(Outcome::Passed) => "passed".to_owned(),
        Ok(Outcome::Skipped(reason)) => format!("skipped: {reason}"),
        Err(Failure::Interrupted) => "interrupted".to_owned(),
        Err(_) => "FAILED".to_owned(),
    };
    format!("{name:14} {:7.1} s  {word}", took.as_secs_f64())
}

fn at_step(name: &str, failure: Failure) -> Failure {
    let again = format!("step `{name}` failed; to run it alone: cargo xtask ci --only {name}");
    match failure {
        Failure::Check(what) | Failure::Build(what) => Failure::Check(format!("{what}\n{again}")),
        other => other,
    }
}

fn passed(result: Result<(), Failure>) -> Result<Outcome, Failure> {
    result.map(|()| Outcome::Passed)
}

fn with_probes(workspace: &Workspace, words: &[&str]) -> Cargo {
    workspace.cargo(words).probes().target(&workspace.target.join(PROBES_DIRECTORY))
}

fn fmt(workspace: &Workspace, _: &mut TestCount) -> Result<Outcome, Failure> {
    passed(workspace.cargo(&["fmt", "--all", "--check"]).run())
}

fn tidy_rules(_: &Workspace, _: &mut TestCount) -> Result<Outcome, Failure> {
    passed(tidy::run(&flags::Tidy { bless: false }))
}

fn clippy(workspace: &Workspace, _: &mut TestCount) -> Result<Outcome, Failure> {
    passed(workspace.cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]).run())
}

fn clippy_probes(workspace: &Workspace, _: &mut TestCount) -> Result<Outcome, Failure> {
    let call = with_probes(workspace, &["clippy", "--workspace", "--exclude", "xtask", "--all-targets"]);
    passed(call.args(["--", "--deny", "warnings"]).run())
}

/// What a crate is without its default features: `wksp` has neither codec nor thread pool, `sched` nothing at all.
fn alone(workspace: &Workspace, _: &mut TestCount) -> Result<Outcome, Failure> {
    // With its default features each crate is built by itself in the step `package`.
    workspace.cargo(&["check", "--package", "outlast-wksp", "--no-default-features"]).run()?;
    workspace.cargo(&["check", "--package", "outlast-sched", "--no-default-features"]).run()?;
    let worker = ["check", "--package", "outlast-sched", "--no-default-features", "--features", "worker"];
    workspace.cargo(&worker).run()?;
    workspace.cargo(&["check", "--package", "outlast-tests", "--features", "notify"]).run()?;
    let words = [
        "tree",
        "--package",
        "outlast-wksp",
        "--no-default-features",
        "--edges",
        "normal",
        "--prefix",
        "none",
    ];
    let tree = workspace.cargo(&words).output()?;
    match heavy_dependency(&tree) {
        Some(found) => {
            Err(Failure::Check(format!("outlast-wksp without default features depends on {found}")))
        }
        None => Ok(Outcome::Passed),
    }
}

/// The first dependency in the output of `cargo tree` that belongs to checkpoints alone.
fn heavy_dependency(tree: &str) -> Option<&str> {
    let names = tree.lines().filter_map(|line| line.split_whitespace().next());
    let heavy = ["rayon", "lz4_flex", "zstd", "crc32fast", "twox-hash", "outlast-checkpt"];
    names.into_iter().find(|name| heavy.contains(name))
}

fn docs(workspace: &Workspace, _: &mut TestCount) -> Result<Outcome, Failure> {
    let mut rustdoc_flags = std::env::var_os("RUSTDOCFLAGS").unwrap_or_default();
    rustdoc_flags.push(" --deny warnings");
    let call = workspace.cargo(&["doc", "--workspace", "--exclude", "xtask", "--no-deps"]);
    passed(call.env("RUSTDOCFLAGS", rustdoc_flags).run())
}

fn deny(workspace: &Workspace, _: &mut TestCount) -> Result<Outcome, Failure> {
    if !workspace.cargo(&["--list"]).output()?.lines().any(|line| line.trim_start().starts_with("deny")) {
        return Ok(Outcome::Skipped("cargo-deny is not installed (`cargo install cargo-deny` installs it)"));
    }
    passed(workspace.cargo(&["deny", "check", "bans", "licenses", "sources"]).run())
}

/// Runs what the README tells a newcomer to run, word for word.
fn test(workspace: &Workspace, count: &mut TestCount) -> Result<Outcome, Failure> {
    let tree = tidy::Tree::load(workspace)?;
    let command = tidy::test_command(&tree)
        .ok_or_else(|| Failure::Check("README.md has no test command in its quick start".into()))?;
    let words: Vec<&str> = command.split_whitespace().skip(1).collect();
    passed(workspace.cargo(&words).run_tests(count))
}

/// Crates whose tests would show nothing new in a build with probes: no fault can be injected through the process of the
/// command line, and the runner has none to inject.
const WITHOUT_PROBES: &[&str] = &["outlast-cli", "outlast-sched"];

/// Not the documentation's examples, which show the normal build. Of the tests across crates, those that have `probe`
/// in their name.
fn test_probes(workspace: &Workspace, count: &mut TestCount) -> Result<Outcome, Failure> {
    let libraries = workspace.products().filter(|member| !WITHOUT_PROBES.contains(&member.name.as_str()));
    let packages = libraries.flat_map(|member| ["--package".to_owned(), member.name.clone()]);
    with_probes(workspace, &["test", "--lib", "--bins", "--tests"]).args(packages).run_tests(count)?;
    let across =
        with_probes(workspace, &["test", "--package", "outlast-tests", "--tests"]).args(["--", "probe"]);
    let mut across_count = TestCount::default();
    let result = across.run_tests(&mut across_count);
    count.add(across_count);
    result?;
    match across_count.passed {
        0 => Err(Failure::Check("outlast-tests has no test with `probe` in its name".into())),
        _ => Ok(Outcome::Passed),
    }
}

fn package(workspace: &Workspace, _: &mut TestCount) -> Result<Outcome, Failure> {
    passed(workspace.cargo(&["package", "--workspace", "--allow-dirty", "--quiet"]).run())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_codec_in_the_small_tree_is_found() {
        let small = "outlast-wksp v0.1.0 (crates/wksp)\nlibc v0.2.0\nrustix v1.1.0\n";
        assert_eq!(heavy_dependency(small), None);
        assert_eq!(heavy_dependency(&format!("{small}zstd v0.14.0\n")), Some("zstd"));
    }

    #[test]
    fn a_failing_step_says_how_to_repeat_it() {
        let Failure::Check(text) = at_step("docs", Failure::Check("bad".into())) else { unreachable!() };
        assert!(text.ends_with("cargo xtask ci --only docs"), "{text}");
    }

    #[test]
    fn step_names_are_unique() {
        let names: std::collections::BTreeSet<&str> = STEPS.iter().map(|step| step.name).collect();
        assert_eq!(names.len(), STEPS.len());
    }
}

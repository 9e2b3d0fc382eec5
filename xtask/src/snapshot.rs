//! `cargo xtask snapshot`: runs every snapshot test and shows, or takes, what differs.
//!
//! The tests are found in the sources: each test of a package that depends on insta whose body, or a function
//! of its file that it calls, uses insta. They run with insta set to write what differs beside the snapshot
//! (`NAME.snap.new`) and to pass nevertheless, so that one run shows all differences.
//!
//! # Invariants
//! - Nothing is taken that was not shown in the same run.
//! - A run leaves no `.snap.new` behind.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use similar::TextDiff;

use crate::cargo::TestCount;
use crate::failure::Failure;
use crate::flags;
use crate::lexer::{self, Kind, Token};
use crate::tidy::Tree;
use crate::workspace::{Member, Workspace};

/// Runs the tests, shows the differences and takes them if asked.
pub(crate) fn run(flags: &flags::Snapshot) -> Result<(), Failure> {
    let workspace = Workspace::load()?;
    pending(&workspace.root)?.iter().try_for_each(|path| remove(path))?;
    let count = run_tests(&workspace)?;
    let pending = pending(&workspace.root)?;
    for path in &pending {
        show(&workspace.root, path)?;
    }
    for path in &pending {
        if flags.accept {
            accept(path)?;
        } else {
            remove(path)?;
        }
    }
    println!("{} snapshot tests ran, {} snapshots differ", count.passed + count.failed, pending.len());
    match (pending.len(), flags.accept) {
        _ if count.failed > 0 => Err(Failure::Check(format!("{} snapshot tests failed", count.failed))),
        _ if count.passed == 0 => Err(Failure::Check("no snapshot test was found".into())),
        (0, _) | (_, true) => Ok(()),
        (differ, false) => Err(Failure::Check(format!(
            "{differ} snapshots differ, shown above; `cargo xtask snapshot --accept` takes them"
        ))),
    }
}

fn run_tests(workspace: &Workspace) -> Result<TestCount, Failure> {
    let tree = Tree::load(workspace)?;
    let mut count = TestCount::default();
    let users = workspace.members.iter().filter(|member| uses_insta(member));
    for member in users {
        let tests = snapshot_tests(&tree, &member.directory);
        if tests.is_empty() {
            continue;
        }
        let words = [
            "test",
            "--quiet",
            "--package",
            &member.name,
            "--lib",
            "--bins",
            "--tests",
            "--no-fail-fast",
            "--",
        ];
        let call = workspace.cargo(&words).args(&tests);
        let call = call.env("INSTA_UPDATE", "new").env("INSTA_FORCE_PASS", "1").env("INSTA_OUTPUT", "none");
        // A failure is in the count; the differences are shown all the same.
        match call.run_tests(&mut count) {
            Err(Failure::Check(what)) if count.failed == 0 => return Err(Failure::Check(what)),
            Err(failure @ Failure::Interrupted) => return Err(failure),
            _ => {}
        }
    }
    Ok(count)
}

fn uses_insta(member: &Member) -> bool {
    member.dependencies.iter().any(|dependency| dependency.name == "insta")
}

/// The names of all tests below a directory that compare a snapshot.
fn snapshot_tests(tree: &Tree, directory: &str) -> BTreeSet<String> {
    let prefix = format!("{directory}/");
    let files = tree.rust().filter(|(path, _)| path.starts_with(&prefix));
    files.flat_map(|(_, text)| tests_of(&lexer::code(text))).collect()
}

/// The tests of one file that use insta, directly or through functions of the file.
fn tests_of(code: &[Token<'_>]) -> Vec<String> {
    let functions = functions(code);
    let mut users: BTreeSet<&str> = BTreeSet::from(["insta", "assert_snapshot", "assert_json_snapshot"]);
    loop {
        let before = users.len();
        for (name, body, _) in &functions {
            if body.iter().any(|token| token.kind == Kind::Word && users.contains(token.text)) {
                users.insert(name);
            }
        }
        if users.len() == before {
            break;
        }
    }
    let tests = functions.iter().filter(|(name, _, is_test)| *is_test && users.contains(name));
    tests.map(|(name, ..)| (*name).to_owned()).collect()
}

/// Name, body and whether `#[test]` stands before it, of every function.
fn functions<'c, 't>(code: &'c [Token<'t>]) -> Vec<(&'t str, &'c [Token<'t>], bool)> {
    let mut functions = Vec::new();
    let mut is_test = false;
    for at in 0..code.len() {
        is_test |= lexer::row_at(code, at, &["#", "[", "test", "]"]);
        if !code[at].is("fn") || code.get(at + 1).is_none_or(|name| name.kind != Kind::Word) {
            continue;
        }
        let open = (at..code.len()).find(|at| code[*at].is("{")).unwrap_or(code.len() - 1);
        functions.push((code[at + 1].text, &code[open..=lexer::closing(code, open)], is_test));
        is_test = false;
    }
    functions
}

/// Every snapshot that waits for a decision.
fn pending(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    let refused = |error| Failure::file("read", directory, &error);
    for entry in std::fs::read_dir(directory).map_err(refused)? {
        let path = entry.map_err(refused)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() && !path.is_symlink() && !matches!(name.as_str(), "target" | ".git") {
            found.extend(pending(&path)?);
        } else if name.ends_with(".snap.new") {
            found.push(path);
        } else if name.ends_with(".pending-snap") {
            let what =
                format!("{}: an inline snapshot differs; snapshots belong in files here", path.display());
            return Err(Failure::Check(what));
        }
    }
    found.sort();
    Ok(found)
}

fn show(root: &Path, new: &Path) -> Result<(), Failure> {
    let old = new.with_extension("");
    let name = old.strip_prefix(root).unwrap_or(&old).display().to_string();
    let before = if old.exists() { read(&old)? } else { String::new() };
    let (before, after) = (body(&before), read(new)?);
    let diff = TextDiff::from_lines(before, body(&after));
    println!("{}", diff.unified_diff().header(&name, &format!("{name} (new)")));
    Ok(())
}

/// A snapshot without the lines that say where it comes from.
fn body(snapshot: &str) -> &str {
    snapshot
        .strip_prefix("---\n")
        .and_then(|rest| rest.split_once("\n---\n"))
        .map_or(snapshot, |(_, body)| body)
}

/// Takes a new snapshot, without the line number of its assertion, which would change with every edit.
fn accept(new: &Path) -> Result<(), Failure> {
    let text = read(new)?;
    let lines = text.split_inclusive('\n').filter(|line| !line.starts_with("assertion_line: "));
    let old = new.with_extension("");
    std::fs::write(&old, lines.collect::<String>()).map_err(|error| Failure::file("write", &old, &error))?;
    println!("took {}", old.display());
    remove(new)
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))
}

fn remove(path: &Path) -> Result<(), Failure> {
    std::fs::remove_file(path).map_err(|error| Failure::file("remove", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_tests_are_found_through_functions_of_the_file() {
        let source = "fn show(x: u8) { insta::assert_snapshot!(x); }\n#[test] fn direct() { assert_snapshot!(1); }\n\
                      #[test] fn by_way() { show(1) }\n#[test] fn other() { assert!(true) }";
        assert_eq!(tests_of(&lexer::code(source)), ["direct", "by_way"]);
    }

    #[test]
    fn the_head_of_a_snapshot_is_no_part_of_it() {
        assert_eq!(body("---\nsource: a.rs\nexpression: x\n---\nfirst\nsecond\n"), "first\nsecond\n");
        assert_eq!(body("no head\n"), "no head\n");
    }
}

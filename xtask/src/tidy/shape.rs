//! The shape of source files: what they begin with, what they are called, how long they and their functions are.

use super::{Fault, File, Tree};
use crate::lexer::{self, Kind, Token};

/// Lines past which a file needs a reason.
const FILE_LINES_MAX: usize = 650;

/// Files that may be longer, with the reason: `PATH: REASON` on each line.
const LONG_FILES: &str = "xtask/long-files.txt";

/// Lines past which a function outside tests is an offence.
const FUNCTION_LINES_MAX: usize = 100;

/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "manager", "managers", "common"];

/// Every module says first what it is.
pub(super) fn module_docs(tree: &Tree) -> Vec<Fault> {
    let files = tree.with_extension("rs").filter(|file| !begins_with_docs(file));
    files.map(|file| file.fault(1, "begins without `//!`: say what the module is")).collect()
}

/// Whether the first thing in a file is a `//!`; inner attributes may stand before it.
fn begins_with_docs(file: &File) -> bool {
    let tokens = lexer::tokens(&file.text);
    let mut at = 0;
    while lexer::row_at(&tokens, at, &["#", "!", "["]) {
        at = lexer::closing(&tokens, at + 2) + 1;
    }
    tokens.get(at).is_some_and(|token| token.kind == Kind::Comment && token.text.starts_with("//!"))
}

/// No module is called by a name that says nothing.
pub(super) fn module_names(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in tree.with_extension("rs") {
        let parts = file.path.split('/').map(|part| part.trim_end_matches(".rs"));
        for part in parts.filter(|part| EMPTY_NAMES.contains(part)) {
            faults.push(file.fault(0, format!("`{part}` says nothing: name what is in it")));
        }
        let code = lexer::code(&file.text);
        for pair in code.windows(2).filter(|pair| pair[0].is("mod") && EMPTY_NAMES.contains(&pair[1].text)) {
            faults.push(
                file.fault(pair[1].line, format!("`{}` says nothing: name what is in it", pair[1].text)),
            );
        }
    }
    faults
}

/// A long file has a reason, and the list of reasons has no stale row.
pub(super) fn file_length(tree: &Tree) -> Vec<Fault> {
    let reasons = tree.file(LONG_FILES).map_or("", |file| &file.text);
    let rows: Vec<&str> = reasons.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let excused = |path: &str| {
        rows.iter()
            .any(|row| row.strip_prefix(path).is_some_and(|rest| rest.starts_with(": ") && rest.len() > 10))
    };
    let long = |file: &File| file.text.lines().count() > FILE_LINES_MAX;
    let mut faults: Vec<Fault> = tree
        .with_extension("rs")
        .filter(|file| long(file) && !excused(&file.path))
        .map(|file| {
            file.fault(
                0,
                format!("more than {FILE_LINES_MAX} lines: divide it, or give the reason in {LONG_FILES}"),
            )
        })
        .collect();
    for row in rows {
        let path = row.split(": ").next().unwrap_or(row);
        if !tree.file(path).is_some_and(long) {
            let what = format!("`{path}` is not a long file (any more): drop its row");
            faults.push(Fault { path: LONG_FILES.into(), line: 0, what });
        }
    }
    faults
}

/// No function outside tests is longer than [`FUNCTION_LINES_MAX`].
pub(super) fn function_length(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in tree.with_extension("rs").filter(|file| !file.is_test()) {
        for (name, line, length) in functions(&file.product_code()) {
            if length > FUNCTION_LINES_MAX {
                faults.push(
                    file.fault(line, format!("`{name}` has {length} lines, more than {FUNCTION_LINES_MAX}")),
                );
            }
        }
    }
    faults
}

/// Name, first line and number of lines of every function with a body.
fn functions<'t>(code: &[Token<'t>]) -> Vec<(&'t str, usize, usize)> {
    let starts = code.windows(2).enumerate();
    let starts = starts.filter(|(_, pair)| pair[0].is("fn") && pair[1].kind == Kind::Word);
    let spans = starts.map(|(at, pair)| {
        let end = super::item_end(code, at);
        (pair[1].text, pair[0].line, code[end].line - pair[0].line + 1)
    });
    spans.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_without_docs_is_reported() {
        let tree = Tree::of(&[
            ("crates/x/src/a.rs", "// not docs\nfn f() {}"),
            ("crates/x/src/b.rs", "//! Docs.\nfn f() {}"),
            ("crates/x/src/raw.rs", "#![allow(unsafe_code, reason = \"x\")]\n//! Docs."),
        ]);
        let paths: Vec<String> = module_docs(&tree).into_iter().map(|fault| fault.path).collect();
        assert_eq!(paths, ["crates/x/src/a.rs"]);
    }

    #[test]
    fn empty_names_are_reported() {
        let tree =
            Tree::of(&[("crates/x/src/lib.rs", "mod helpers;"), ("crates/x/tests/common/mod.rs", "//!")]);
        assert_eq!(module_names(&tree).len(), 2);
    }

    #[test]
    fn a_long_file_needs_a_reason_and_a_reason_a_long_file() {
        let long = "//\n".repeat(FILE_LINES_MAX + 1);
        assert_eq!(file_length(&Tree::of(&[("a.rs", &long)])).len(), 1);
        let excuse = "a.rs: one table, read from top to bottom\n";
        assert_eq!(file_length(&Tree::of(&[("a.rs", &long), (LONG_FILES, excuse)])), []);
        assert_eq!(file_length(&Tree::of(&[("a.rs", "//"), (LONG_FILES, excuse)])).len(), 1);
    }

    #[test]
    fn a_long_function_is_reported_where_it_begins() {
        let body = "let x = [1; 2];\n".repeat(FUNCTION_LINES_MAX);
        let source = format!("type F = fn(u8);\nfn short() {{}}\nfn long(a: [u8; 3]) -> u8 {{\n{body}}}\n");
        let faults = function_length(&Tree::of(&[("crates/x/src/a.rs", &source)]));
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(faults[0].line, 3);
        let in_tests = format!("#[cfg(test)]\nmod tests {{\n{source}}}\n");
        assert_eq!(function_length(&Tree::of(&[("crates/x/src/a.rs", &in_tests)])), []);
    }
}

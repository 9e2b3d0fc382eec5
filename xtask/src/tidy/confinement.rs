//! What may be written only in a few places: unsafe code and atomics.

use super::{Fault, File, Tree};
use crate::lexer::{self, Kind, Token};

/// The recorded list of files with unsafe code.
const UNSAFE_LIST: &str = "xtask/unsafe-files.txt";

/// The one file that imports atomics.
const ATOMICS: &str = "crates/probe/src/sync.rs";

/// Crate roots that must forbid unsafe code.
const FORBIDDING: &[&str] = &["crates/checkpt/src/lib.rs", "crates/cli/src/main.rs", "xtask/src/main.rs"];

/// Unsafe code stands only in `raw.rs` and below `sys/`, and the list of such files is a recorded one.
pub(super) fn unsafe_code(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in tree.with_extension("rs") {
        if let Some(line) = unsafe_line(file).filter(|_| !may_be_unsafe(file)) {
            faults.push(file.fault(line, "unsafe code belongs in a `raw.rs` or below a `sys/`"));
        }
    }
    let recorded = tree.file(UNSAFE_LIST).map_or("", |file| &file.text);
    if recorded != unsafe_list(tree) {
        let what = "the files with unsafe code are others than recorded: look at them, then `cargo xtask tidy --bless`";
        faults.push(Fault { path: UNSAFE_LIST.into(), line: 0, what: what.into() });
    }
    faults
}

/// The list of files with unsafe code as it should be recorded.
pub(super) fn blessed(tree: &Tree) -> Option<(String, String)> {
    let list = unsafe_list(tree);
    let recorded = tree.file(UNSAFE_LIST).map_or("", |file| &file.text);
    (recorded != list).then(|| (UNSAFE_LIST.into(), list))
}

fn unsafe_list(tree: &Tree) -> String {
    let files = tree.with_extension("rs").filter(|file| may_be_unsafe(file) && unsafe_line(file).is_some());
    files.map(|file| format!("{}\n", file.path)).collect()
}

fn may_be_unsafe(file: &File) -> bool {
    file.name() == "raw.rs" || file.has_directory("sys")
}

fn unsafe_line(file: &File) -> Option<usize> {
    lexer::code(&file.text).iter().find(|token| token.is("unsafe")).map(|token| token.line)
}

/// Some crates forbid unsafe code altogether.
pub(super) fn forbidden_crates(tree: &Tree) -> Vec<Fault> {
    let files = FORBIDDING.iter().filter_map(|path| tree.file(path));
    let lacking = files.filter(|file| {
        let code = lexer::code(&file.text);
        !(0..code.len()).any(|at| lexer::row_at(&code, at, &["forbid", "(", "unsafe_code", ")"]))
    });
    lacking.map(|file| file.fault(0, "this crate must say `forbid(unsafe_code)`")).collect()
}

/// Atomics come from `outlast_probe::sync`; a model test may use loom's.
pub(super) fn atomics(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in tree.with_extension("rs").filter(|file| file.path != ATOMICS) {
        let code = lexer::code(&file.text);
        for (at, token) in code.iter().enumerate() {
            if token.is("atomic") && (is_path_step(&code, at) || in_use(&code, at)) && !is_looms(&code, at) {
                faults.push(file.fault(token.line, "atomics are imported from `outlast_probe::sync`"));
            }
        }
    }
    faults
}

fn is_path_step(code: &[Token<'_>], at: usize) -> bool {
    at >= 3 && lexer::row_at(code, at - 3, &["sync", ":", ":"])
}

/// Whether the statement around `at` is a `use` of something in `std` or `core`.
fn in_use(code: &[Token<'_>], at: usize) -> bool {
    let begin = code[..at].iter().rposition(|token| token.is(";")).map_or(0, |end| end + 1);
    let words = code[begin..at].iter().filter(|token| token.kind == Kind::Word);
    let words: Vec<&str> = words.map(|token| token.text).collect();
    let import = words.iter().rposition(|word| *word == "use");
    import.is_some_and(|import| matches!(words.get(import + 1), Some(&("std" | "core"))))
}

fn is_looms(code: &[Token<'_>], at: usize) -> bool {
    at >= 6 && lexer::row_at(code, at - 6, &["loom", ":", ":", "sync"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_code_outside_its_files_is_reported() {
        let block = "fn f() { unsafe { g() } }";
        let tree = Tree::of(&[
            ("crates/x/src/lib.rs", block),
            ("crates/x/src/raw.rs", block),
            ("crates/x/src/sys/map.rs", block),
            (
                "crates/x/src/quiet.rs",
                "// unsafe\nconst S: &str = \"unsafe\"; #[allow(unsafe_code)] fn f() {}",
            ),
            (UNSAFE_LIST, "crates/x/src/raw.rs\ncrates/x/src/sys/map.rs\n"),
        ]);
        let faults = unsafe_code(&tree);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!((faults[0].path.as_str(), faults[0].line), ("crates/x/src/lib.rs", 1));
    }

    #[test]
    fn a_new_file_with_unsafe_code_must_be_recorded() {
        let tree = Tree::of(&[("a/raw.rs", "unsafe fn f() {}"), (UNSAFE_LIST, "")]);
        assert_eq!(unsafe_code(&tree).len(), 1);
        assert_eq!(blessed(&tree).unwrap().1, "a/raw.rs\n");
    }

    #[test]
    fn a_crate_that_must_forbid_and_does_not_is_reported() {
        assert_eq!(forbidden_crates(&Tree::of(&[(FORBIDDING[0], "#![deny(unsafe_code)]")])).len(), 1);
        let good = "#![cfg_attr(not(outlast_probes), forbid(unsafe_code))]";
        assert_eq!(forbidden_crates(&Tree::of(&[(FORBIDDING[0], good)])), []);
    }

    #[test]
    fn atomics_from_elsewhere_are_reported() {
        for bad in [
            "use std::sync::atomic::AtomicU64;",
            "use core::sync::{atomic::AtomicU64};",
            "use std::{io, sync::{Mutex, atomic}};",
            "fn f() -> core::sync::atomic::AtomicU64 {}",
        ] {
            assert_eq!(atomics(&Tree::of(&[("crates/x/src/a.rs", bad)])).len(), 1, "{bad}");
        }
        for good in ["use loom::sync::atomic::AtomicU64;", "let atomic = 1;", "// std::sync::atomic"] {
            assert_eq!(atomics(&Tree::of(&[("crates/x/tests/a.rs", good)])), [], "{good}");
        }
        assert_eq!(atomics(&Tree::of(&[(ATOMICS, "pub use core::sync::atomic::AtomicU64;")])), []);
    }
}

//! A copy of the sources in which every call of a probe macro is written out as what it should be in a normal
//! build: nothing, the constant `None`, or the expression alone.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::cargo::Cargo;
use crate::failure::Failure;
use crate::launch::STRESS_DIRECTORY;
use crate::lexer::{self, Token};
use crate::tidy::Tree;
use crate::workspace::Workspace;

/// The macros of the probe crate.
const MACROS: [&str; 3] = ["probe", "fault", "blocking"];

/// Builds the `outlast` command from the blanked sources and returns its path.
pub(super) fn build(workspace: &Workspace, tree: &Tree) -> Result<PathBuf, Failure> {
    let copy = workspace.target.join("blanked-sources");
    for (path, text) in tree.texts() {
        let is_product =
            path.starts_with("crates/") && !path.starts_with("crates/probe/") && path.ends_with(".rs");
        let text = if is_product { quiet(path, blank(text)) } else { text.to_owned() };
        write(copy.join(path), &text)?;
    }
    let words = ["build", "--release", "--package", "outlast-cli", "--bin", "outlast"];
    // Not the directory of the normal builds: cargo would take one copy's artefacts for the other's.
    let target = workspace.target.join("blanked");
    lend(&workspace.target.join(STRESS_DIRECTORY).join("release"), &target.join("release"))?;
    Cargo::new(&copy, &words).target(&target).build_binary("outlast")
}

/// Links what the normal release build has made of other people's crates, which are the same here, into a directory
/// that is not there yet: they need not be built again.
fn lend(from: &Path, to: &Path) -> Result<(), Failure> {
    if to.exists() {
        return Ok(());
    }
    for folder in [".fingerprint", "build", "deps"] {
        link_tree(&from.join(folder), &to.join(folder))
            .map_err(|error| Failure::file("link", &from.join(folder), &error))?;
    }
    Ok(())
}

fn link_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        // Our own are to be built.
        if ["outlast", "stress", "bench"].iter().any(|own| name.to_string_lossy().contains(own)) {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => link_tree(&entry.path(), &to.join(name))?,
            false => fs::hard_link(entry.path(), to.join(name))?,
        }
    }
    Ok(())
}

/// Blanked code has imports and brackets that it no longer needs; the normal build is the one to warn.
fn quiet(path: &str, text: String) -> String {
    let is_root = path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs");
    if is_root { format!("#![allow(warnings)] {text}") } else { text }
}

/// Writes what is not there yet, so that a second run builds only what has changed.
fn write(path: PathBuf, text: &str) -> Result<(), Failure> {
    if std::fs::read(&path).is_ok_and(|present| present == text.as_bytes()) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(&path);
    std::fs::create_dir_all(folder).map_err(|error| Failure::file("create", folder, &error))?;
    std::fs::write(&path, text).map_err(|error| Failure::file("write", &path, &error))
}

/// Whether a call of one of the macros, with its bracket, begins at a token.
pub(super) fn is_call(code: &[Token<'_>], at: usize) -> bool {
    MACROS.iter().any(|name| lexer::row_at(code, at, &[name, "!", "("]))
}

/// The text with every call written out; no line moves.
fn blank(text: &str) -> String {
    let code = lexer::code(text);
    let mut blanked = String::with_capacity(text.len());
    let mut kept = 0;
    for at in (0..code.len()).filter(|at| is_call(&code, *at)) {
        let close = lexer::closing(&code, at + 2);
        let begin = place(text, path_start(&code, at));
        let end = place(text, code[close]) + 1;
        if begin < kept {
            continue;
        }
        blanked.push_str(&text[kept..begin]);
        blanked.push_str(&written_out(&code[at], &text[begin..end]));
        kept = end;
    }
    blanked.push_str(&text[kept..]);
    blanked
}

/// The first token of the path by which the macro is called: `outlast_probe::probe!` begins earlier than `probe`.
fn path_start<'t>(code: &[Token<'t>], at: usize) -> Token<'t> {
    match at.checked_sub(3) {
        Some(crate_name) if lexer::row_at(code, crate_name, &["outlast_probe", ":", ":"]) => code[crate_name],
        _ => code[at],
    }
}

/// What a call stands for in a normal build, on as many lines as the call.
fn written_out(name: &Token<'_>, call: &str) -> String {
    let lines = "\n".repeat(call.matches('\n').count());
    match name.text {
        "fault" => format!("::core::option::Option::<i32>::None{lines}"),
        "blocking" => {
            // `blocking!("name", BODY)`: what follows the comma behind the name, up to the closing bracket.
            let body =
                call.split_once('"').and_then(|(_, rest)| rest.split_once('"')).map_or("", |(_, body)| body);
            let body = body.trim_start().trim_start_matches(',');
            let body = body.strip_suffix(')').unwrap_or(body).trim_end().trim_end_matches(',');
            let missing = call.matches('\n').count() - body.matches('\n').count();
            format!("({}{})", "\n".repeat(missing), blank(body))
        }
        _ => format!("{{{lines}}}"),
    }
}

/// Byte offset of a token in the text that it was cut from.
fn place(text: &str, token: Token<'_>) -> usize {
    token.text.as_ptr().addr() - text.as_ptr().addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_written_out_and_no_line_moves() {
        let text = "fn f(i: u64) {\n    probe!(\"a.b.c\", i, g(i));\n    if let Some(e) = outlast_probe::fault!(\"a.b.d\") {\n\
                    }\n    let x = blocking!(\n        \"a.b.e\",\n        h(i, \"s\")\n    );\n}\n";
        let blanked = blank(text);
        assert_eq!(blanked.lines().count(), text.lines().count());
        assert!(blanked.contains("    {};\n"), "{blanked}");
        assert!(blanked.contains("Some(e) = ::core::option::Option::<i32>::None {"), "{blanked}");
        assert!(blanked.contains("h(i, \"s\"))"), "{blanked}");
        assert!(!blanked.contains("a.b."), "{blanked}");
    }

    #[test]
    fn other_text_stays() {
        let text = "// probe!(\"a\")\nlet s = \"probe!(x)\"; probe(1); my_probe!(2);";
        assert_eq!(blank(text), text);
    }
}

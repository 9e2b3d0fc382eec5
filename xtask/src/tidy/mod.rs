//! The rules of the tree that no compiler checks, one function per rule.
//!
//! Each rule looks at a [`Tree`] in memory, so that its own test can show it a bad sample: a rule that
//! would let its sample pass is broken, and its test says so.
//!
//! # Invariants
//! - A rule reads nothing but the [`Tree`]; only [`run`] touches files.
//! - Every rule of [`RULES`] has a test with a sample that it must report.

mod arrows;
mod confinement;
mod dependencies;
mod documents;
mod formats;
mod shape;
mod text;

pub(crate) use documents::{library_example, test_command};

use std::fmt;
use std::path::Path;

use crate::failure::Failure;
use crate::flags;
use crate::lexer::{self, Kind, Token};
use crate::workspace::{Member, Workspace};

/// What the rules look at.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: Vec<File>,
    members: Vec<Member>,
}

/// One text file of the repository.
#[derive(Debug)]
struct File {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

/// One offence.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    path: String,
    /// From 1; 0 when the whole file is meant.
    line: usize,
    what: String,
}

struct Rule {
    name: &'static str,
    check: fn(&Tree) -> Vec<Fault>,
}

/// Every rule, in the order of the report.
const RULES: &[Rule] = &[
    Rule { name: "arrows", check: arrows::check },
    Rule { name: "dependencies", check: dependencies::check },
    Rule { name: "unsafe", check: confinement::unsafe_code },
    Rule { name: "forbid-unsafe", check: confinement::forbidden_crates },
    Rule { name: "atomics", check: confinement::atomics },
    Rule { name: "formats", check: formats::check },
    Rule { name: "module-docs", check: shape::module_docs },
    Rule { name: "module-names", check: shape::module_names },
    Rule { name: "file-length", check: shape::file_length },
    Rule { name: "function-length", check: shape::function_length },
    Rule { name: "machine-paths", check: text::machine_paths },
    Rule { name: "registry-hosts", check: text::registry_hosts },
    Rule { name: "open-ends", check: text::open_ends },
    Rule { name: "links", check: documents::links },
    Rule { name: "quick-start", check: documents::quick_start },
];

/// `cargo xtask tidy`.
pub(crate) fn run(flags: &flags::Tidy) -> Result<(), Failure> {
    let workspace = Workspace::load()?;
    let mut tree = Tree::load(&workspace)?;
    if flags.bless {
        for (path, text) in formats::blessed(&tree).into_iter().chain(confinement::blessed(&tree)) {
            let full = workspace.root.join(&path);
            std::fs::write(&full, text).map_err(|error| Failure::file("write", &full, &error))?;
            println!("blessed {path}");
        }
        tree = Tree::load(&workspace)?;
    }
    let mut count = 0usize;
    for rule in RULES {
        for fault in (rule.check)(&tree) {
            println!("{fault} [{}]", rule.name);
            count += 1;
        }
    }
    match count {
        0 => {
            println!("tidy: {} rules hold over {} files", RULES.len(), tree.files.len());
            Ok(())
        }
        count => Err(Failure::Check(format!("tidy: {count} offences, listed above"))),
    }
}

impl Tree {
    /// Reads every text file of the repository, apart from what builds leave.
    pub(crate) fn load(workspace: &Workspace) -> Result<Self, Failure> {
        let mut tree = Self { files: Vec::new(), members: workspace.members.clone() };
        tree.read_directory(&workspace.root, "")?;
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    fn read_directory(&mut self, root: &Path, relative: &str) -> Result<(), Failure> {
        let directory = root.join(relative);
        let refused = |error| Failure::file("read", &directory, &error);
        for entry in std::fs::read_dir(&directory).map_err(refused)? {
            let entry = entry.map_err(refused)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if relative.is_empty() { name.clone() } else { format!("{relative}/{name}") };
            let kind = entry.file_type().map_err(refused)?;
            if kind.is_dir() && !matches!(name.as_str(), "target" | ".git") {
                self.read_directory(root, &path)?;
            } else if kind.is_file() {
                // What is not UTF-8 is no text: golden files and the like.
                let text = std::fs::read(entry.path())
                    .map_err(|error| Failure::file("read", &entry.path(), &error))?;
                self.files.extend(String::from_utf8(text).ok().map(|text| File { path, text }));
            }
        }
        Ok(())
    }

    /// A tree of samples.
    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| File { path: (*path).into(), text: (*text).into() });
        Self { files: files.collect(), members: Vec::new() }
    }

    fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    fn with_extension<'t>(&'t self, extension: &'static str) -> impl Iterator<Item = &'t File> {
        self.files.iter().filter(move |file| file.extension() == extension)
    }

    /// Path and text of every file.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|file| (file.path.as_str(), file.text.as_str()))
    }

    /// Path and text of every Rust source file.
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.with_extension("rs").map(|file| (file.path.as_str(), file.text.as_str()))
    }
}

impl File {
    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    fn extension(&self) -> &str {
        self.name().rsplit_once('.').map_or("", |(_, extension)| extension)
    }

    fn has_directory(&self, name: &str) -> bool {
        self.path.rsplit('/').skip(1).any(|part| part == name)
    }

    /// Whether all of it is test code.
    fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.name() == "tests.rs" || self.name().ends_with("_tests.rs")
    }

    /// Code without comments and without `#[cfg(test)]` items.
    fn product_code(&self) -> Vec<Token<'_>> {
        let tokens = lexer::code(&self.text);
        let mut kept = Vec::with_capacity(tokens.len());
        let mut at = 0;
        while at < tokens.len() {
            if lexer::row_at(&tokens, at, &["#", "[", "cfg", "(", "test", ")", "]"]) {
                at = item_end(&tokens, at + 7) + 1;
            } else {
                kept.push(tokens[at]);
                at += 1;
            }
        }
        kept
    }

    fn fault(&self, line: usize, what: impl Into<String>) -> Fault {
        Fault { path: self.path.clone(), line, what: what.into() }
    }
}

/// Index of the token that ends the item beginning at `at`: its `;` or the brace that closes its body.
fn item_end(tokens: &[Token<'_>], mut at: usize) -> usize {
    while at < tokens.len() {
        match tokens[at] {
            token if token.is(";") => return at,
            token if token.is("{") => return lexer::closing(tokens, at),
            token if token.is("(") || token.is("[") => at = lexer::closing(tokens, at) + 1,
            _ => at += 1,
        }
    }
    tokens.len().saturating_sub(1)
}

/// The text of every comment of a source file, without what stands between backticks.
fn comments(text: &str) -> Vec<(usize, String)> {
    let tokens = lexer::tokens(text);
    let comments = tokens.iter().filter(|token| token.kind == Kind::Comment);
    comments.map(|token| (token.line, without_quoted(token.text))).collect()
}

/// A text without what stands between backticks.
fn without_quoted(text: &str) -> String {
    text.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_items_are_no_product_code() {
        let tree = Tree::of(&[("a.rs", "fn a() {} #[cfg(test)] mod tests { fn b() { [1; 2]; } } fn c() {}")]);
        let names = tree.files[0].product_code().into_iter().filter(|token| token.kind == Kind::Word);
        assert_eq!(names.map(|token| token.text).collect::<Vec<_>>(), ["fn", "a", "fn", "c"]);
    }

    #[test]
    fn faults_are_shown_as_editors_read_them() {
        let fault = Fault { path: "a/b.rs".into(), line: 7, what: "wrong".into() };
        assert_eq!(fault.to_string(), "a/b.rs:7: wrong");
    }
}

//! What no file may contain: traces of one machine, and work left open.

use super::{Fault, File, Tree, comments, without_quoted};
use crate::lexer;

/// Where the files of one machine live. Written in two parts, so that this file does not offend.
const MACHINE_PATHS: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("/fa", "rm/"),
];

/// Hosts of package registries. A manifest names packages; which host serves them is the machine's affair.
const REGISTRY_HOSTS: &[&str] = &[
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("registry.", "npmjs.org"),
    concat!("deb.", "debian.org"),
];

/// What a lock file calls the one registry.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Words that stand for work not done.
const OPEN_WORDS: &[&str] = &["TODO", "FIXME", "XXX"];

/// No path of a machine in any file.
pub(super) fn machine_paths(tree: &Tree) -> Vec<Fault> {
    for_lines(tree, |line| {
        let found = MACHINE_PATHS.iter().find(|path| {
            line.match_indices(**path).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || "._-$}".contains(c))
            })
        })?;
        Some(format!("`{found}` is a path of one machine"))
    })
}

/// No host of a registry, and only the one registry in the lock file.
pub(super) fn registry_hosts(tree: &Tree) -> Vec<Fault> {
    for_lines(tree, |line| {
        let host = REGISTRY_HOSTS.iter().find(|host| line.contains(**host)).copied();
        let source = line.strip_prefix("source = \"").filter(|source| !source.starts_with(REGISTRY));
        host.or(source).map(|found| format!("`{found}` is no name for a package"))
    })
}

fn for_lines(tree: &Tree, judge: impl Fn(&str) -> Option<String>) -> Vec<Fault> {
    let lines =
        tree.files.iter().flat_map(|file| file.text.lines().enumerate().map(move |line| (file, line)));
    lines.filter_map(|(file, (at, line))| judge(line).map(|what| file.fault(at + 1, what))).collect()
}

/// Nothing is marked as still to be done, and no test is switched off without a reason.
pub(super) fn open_ends(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in &tree.files {
        match file.extension() {
            "rs" => {
                faults.extend(open_words(file, comments(&file.text)));
                faults.extend(open_code(file));
            }
            "md" => faults.extend(open_words(file, prose(&file.text))),
            "toml" | "yml" | "yaml" | "sh" | "py" => {
                let lines = file.text.lines().enumerate();
                faults.extend(open_words(file, lines.map(|(at, line)| (at + 1, line.to_owned())).collect()));
            }
            _ => {}
        }
    }
    faults
}

fn prose(text: &str) -> Vec<(usize, String)> {
    text.lines().enumerate().map(|(at, line)| (at + 1, without_quoted(line))).collect()
}

fn open_words(file: &File, texts: Vec<(usize, String)>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (line, text) in texts {
        let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        if let Some(word) = words.find(|word| OPEN_WORDS.contains(word)) {
            faults.push(file.fault(line, format!("`{word}`: do it, or say in prose what is not there")));
        }
    }
    faults
}

fn open_code(file: &File) -> Vec<Fault> {
    let code = lexer::code(&file.text);
    let mut faults = Vec::new();
    for (at, token) in code.iter().enumerate() {
        for name in ["todo", "unimplemented"] {
            if lexer::row_at(&code, at, &[name, "!"]) {
                faults.push(file.fault(token.line, format!("`{name}!`: what is not there is not there")));
            }
        }
        if lexer::row_at(&code, at, &["#", "[", "ignore", "]"]) {
            faults.push(file.fault(token.line, "a test is switched off without a reason"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_machine_are_reported() {
        for path in MACHINE_PATHS {
            let bad = Tree::of(&[("a.md", &format!("see {path}x"))]);
            assert_eq!(machine_paths(&bad).len(), 1, "{path}");
            let good = Tree::of(&[("a.md", &format!("see crates{path}x and ${{HOME}}{path}"))]);
            assert_eq!(machine_paths(&good), [], "{path}");
        }
    }

    #[test]
    fn hosts_of_registries_are_reported() {
        let line = format!("source = \"{REGISTRY}\"");
        assert_eq!(registry_hosts(&Tree::of(&[("Cargo.lock", &line)])), []);
        let mirror = Tree::of(&[("Cargo.lock", "source = \"registry+https://mirror.example/index\"")]);
        assert_eq!(registry_hosts(&mirror).len(), 1);
        for host in REGISTRY_HOSTS {
            assert_eq!(registry_hosts(&Tree::of(&[(".ci/run", &format!("curl https://{host}/"))])).len(), 1);
        }
    }

    #[test]
    fn open_ends_are_reported() {
        for bad in [
            "// TODO: later",
            "/* a\n FIXME */",
            "fn f() { todo!() }",
            "fn f() { unimplemented!(\"x\") }",
            "#[test] #[ignore] fn f() {}",
        ] {
            assert_eq!(open_ends(&Tree::of(&[("a.rs", bad)])).len(), 1, "{bad}");
        }
        assert_eq!(open_ends(&Tree::of(&[("Cargo.toml", "description = \"TODO\"")])).len(), 1);
        assert_eq!(open_ends(&Tree::of(&[("a.md", "TODO")])).len(), 1);
    }

    #[test]
    fn speaking_of_them_is_not_reported() {
        let good = "// no `TODO` here\nconst W: &str = \"TODO\"; #[ignore = \"needs root\"] fn f() {}";
        assert_eq!(open_ends(&Tree::of(&[("a.rs", good), ("a.md", "No `TODO` in the tree.")])), []);
    }
}

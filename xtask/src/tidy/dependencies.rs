//! Every declared dependency has a user in the source of the member that declares it, and the libraries
//! that the project is built on are declared by somebody.

use super::{Fault, File, Tree};
use crate::lexer;
use crate::workspace::Member;

/// What somebody must use directly.
const EXPECTED: &[&str] = &["rayon", "memmap2", "nix", "rand", "serde", "bincode", "clap", "insta"];

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for member in &tree.members {
        let prefix = format!("{}/", member.directory);
        let sources: Vec<&File> =
            tree.with_extension("rs").filter(|file| file.path.starts_with(&prefix)).collect();
        for dependency in &member.dependencies {
            let name = dependency.name.replace('-', "_");
            if !sources.iter().any(|file| lexer::code(&file.text).iter().any(|token| token.is(&name))) {
                let what =
                    format!("`{}` is declared but no source of `{}` names it", dependency.name, member.name);
                faults.push(Fault { path: format!("{prefix}Cargo.toml"), line: 0, what });
            }
        }
    }
    for name in EXPECTED.iter().filter(|name| !tree.members.iter().any(|member| declares(member, name))) {
        let what = format!("no member declares `{name}`");
        faults.push(Fault { path: "Cargo.toml".into(), line: 0, what });
    }
    faults
}

fn declares(member: &Member, name: &str) -> bool {
    member.dependencies.iter().any(|dependency| dependency.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn tree(source: &str, declared: &[&str]) -> Tree {
        let mut tree = Tree::of(&[("crates/x/src/lib.rs", source)]);
        let declared = declared.iter().map(|name| Dependency {
            name: (*name).into(),
            optional: false,
            is_member: false,
            is_dev: false,
        });
        tree.members =
            vec![Member { name: "x".into(), directory: "crates/x".into(), dependencies: declared.collect() }];
        tree
    }

    #[test]
    fn a_dependency_named_only_in_a_comment_is_reported() {
        let source = "// rayon\nuse memmap2 as _; use nix as _; use rand as _; use serde as _;\n\
                      use bincode as _; use clap as _; use insta as _;";
        let faults = check(&tree(source, EXPECTED));
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].what.contains("rayon"), "{faults:?}");
    }

    #[test]
    fn a_library_that_nobody_declares_is_reported() {
        let source =
            "use memmap2 as _; use nix as _; use rand as _; use serde as _; use bincode as _; use clap as _;";
        let faults = check(&tree(source, &EXPECTED[1..7]));
        let what: Vec<&str> = faults.iter().map(|fault| fault.what.as_str()).collect();
        assert_eq!(what, ["no member declares `rayon`", "no member declares `insta`"]);
    }
}

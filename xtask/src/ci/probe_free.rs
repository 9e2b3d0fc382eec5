//! A normal build has no trace of a probe: no name, no section of the registry, not one instruction.
//!
//! - The names are read from the sources, so that a new probe is looked for from its first day.
//! - The machine code of the `outlast` command is compared with that of a build of the same sources with every
//!   call blanked ([`blanked`](super::blanked)).
//! - The canary: the stress binary built *with* probes must show what is looked for, else looking proves nothing.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Outcome, blanked, elf};
use crate::cargo::{Cargo, TestCount};
use crate::failure::Failure;
use crate::launch::{self, STRESS_DIRECTORY};
use crate::lexer::{self, Kind};
use crate::tidy::Tree;
use crate::workspace::Workspace;

/// What a binary with a registry contains whatever the names: the crate that collects it names its section so.
const SECTION: &str = "linkm2_PROBES";

pub(super) fn check(workspace: &Workspace, _: &mut TestCount) -> Result<Outcome, Failure> {
    let tree = Tree::load(workspace)?;
    let names = probe_names(&tree);
    let with_probes = read(&launch::probes_build(workspace).build_binary("stress")?)?;
    let shown = names.iter().filter(|name| contains(&with_probes, name)).count();
    if shown == 0 || !contains(&with_probes, SECTION) {
        let what =
            format!("the build with probes shows {shown} of {} names: this check sees nothing", names.len());
        return Err(Failure::Check(what));
    }
    let stress = read(&launch::release_build(workspace, "stress").build_binary("stress")?)?;
    let command = read(&command_build(workspace).build_binary("outlast")?)?;
    // Scenarios may name a probe; the product may not.
    let named = names.iter().find(|name| contains(&command, name)).map(String::as_str);
    let section = [&stress, &command].into_iter().any(|binary| contains(binary, SECTION)).then_some(SECTION);
    if let Some(found) = named.or(section) {
        return Err(Failure::Check(format!("a normal release build contains `{found}`")));
    }
    let bare = read(&blanked::build(workspace, &tree)?)?;
    compare_code(&command, &bare)?;
    println!(
        "none of {} probes leaves a trace in a normal build; the build with probes shows {shown}",
        names.len()
    );
    Ok(Outcome::Passed)
}

fn command_build(workspace: &Workspace) -> Cargo {
    let words = ["build", "--release", "--package", "outlast-cli", "--bin", "outlast"];
    workspace.cargo(&words).target(&workspace.target.join(STRESS_DIRECTORY))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::file("read", path, &error))
}

fn compare_code(normal: &[u8], bare: &[u8]) -> Result<(), Failure> {
    let (Some(normal), Some(bare)) = (elf::section(normal, ".text"), elf::section(bare, ".text")) else {
        return Err(Failure::Check("a binary has no section `.text`".into()));
    };
    if normal == bare {
        return Ok(());
    }
    let at = normal.iter().zip(bare).take_while(|(a, b)| a == b).count();
    let (normal, bare) = (normal.len(), bare.len());
    Err(Failure::Check(format!(
        "with every probe call blanked the machine code differs from byte {at} on ({bare} bytes instead of {normal})"
    )))
}

fn contains(bytes: &[u8], text: &str) -> bool {
    let (first, rest) = text.as_bytes().split_first().unwrap_or((&0, &[]));
    let mut places = bytes.iter().enumerate().filter(|(_, byte)| *byte == first);
    places.any(|(at, _)| bytes[at + 1..].starts_with(rest))
}

/// The names that the product's sources give to their probes.
fn probe_names(tree: &Tree) -> BTreeSet<String> {
    let products = tree.rust().filter(|(path, _)| path.starts_with("crates/") && path.contains("/src/"));
    let mut names = BTreeSet::new();
    // The probe crate itself has only examples and tests of the macros.
    for (_, text) in products.filter(|(path, _)| !path.starts_with("crates/probe/")) {
        let code = lexer::code(text);
        for at in 0..code.len() {
            let name = code.get(at + 3).filter(|token| token.kind == Kind::Text);
            names.extend(
                blanked::is_call(&code, at).then_some(name).flatten().map(|name| name.text.to_owned()),
            );
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_wherever_it_stands() {
        assert!(contains(b"..shm.lock.acquired..", "shm.lock.acquired"));
        assert!(contains(b"sshm.x", "shm.x"));
        assert!(!contains(b"shm.lock.acquire", "shm.lock.acquired"));
    }

    #[test]
    fn code_that_differs_is_reported() {
        let one = elf::tests::sample(".text", b"\x90\x90\xc3");
        let two = elf::tests::sample(".text", b"\x90\xcc\xc3");
        assert!(compare_code(&one, &one).is_ok());
        assert!(compare_code(&one, &two).is_err());
        assert!(compare_code(&one, &elf::tests::sample(".text", b"\x90\x90")).is_err());
    }
}

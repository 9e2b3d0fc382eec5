//! The Markdown pages: their links lead somewhere, and the README's quick start is what it promises to be.

use super::{Fault, File, Tree};

/// The page with the quick start.
const README: &str = "README.md";

/// Heading of the quick start.
const QUICK_START: &str = "## Quick start";

/// Heading of the example of the library.
const LIBRARY: &str = "## Library";

/// First words of the two commands of the quick start: the main job, then the tests.
const COMMANDS: [&str; 2] = ["cargo xtask stress", "cargo test"];

/// Every link to a file leads to one.
pub(super) fn links(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for page in tree.with_extension("md") {
        for (line, target) in link_targets(&page.text) {
            let path = target.split('#').next().unwrap_or(target);
            let outside = target.contains("://") || target.starts_with("mailto:");
            if !outside && !path.is_empty() && !exists(tree, &resolved(&page.path, path)) {
                faults.push(page.fault(line, format!("links to `{target}`, which does not exist")));
            }
        }
    }
    faults
}

/// The target of every `[text](target)` outside code, with its line.
fn link_targets(text: &str) -> Vec<(usize, &str)> {
    let mut targets = Vec::new();
    let mut in_code = false;
    for (at, line) in text.lines().enumerate() {
        in_code ^= line.trim_start().starts_with("```");
        if in_code {
            continue;
        }
        for (_, rest) in line.match_indices("](").map(|(begin, _)| (begin, &line[begin + 2..])) {
            targets.extend(rest.find(')').map(|end| (at + 1, &rest[..end])));
        }
    }
    targets
}

fn resolved(page: &str, target: &str) -> String {
    let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn exists(tree: &Tree, path: &str) -> bool {
    let folder = format!("{path}/");
    tree.files.iter().any(|file| file.path == path || file.path.starts_with(&folder))
}

/// The quick start has exactly two commands.
pub(super) fn quick_start(tree: &Tree) -> Vec<Fault> {
    let Some(readme) = tree.file(README) else {
        return vec![Fault { path: README.into(), line: 0, what: "does not exist".into() }];
    };
    let commands = commands(readme);
    let good = commands.len() == COMMANDS.len()
        && commands.iter().zip(COMMANDS).all(|(command, begin)| command.starts_with(begin));
    if good {
        return Vec::new();
    }
    vec![readme.fault(
        0,
        format!("the quick start must have exactly the commands {COMMANDS:?}, it has {commands:?}"),
    )]
}

/// What stands below a heading, up to the next one of its rank.
fn section<'t>(page: &'t str, heading: &str) -> Option<&'t str> {
    let (_, below) = page.split_once(&format!("\n{heading}\n"))?;
    Some(below.split("\n## ").next().unwrap_or(below))
}

/// The commands in the code blocks of the quick start, comments left out.
fn commands(readme: &File) -> Vec<&str> {
    let section = section(&readme.text, QUICK_START).unwrap_or_default();
    let lines = section.split("```").skip(1).step_by(2).flat_map(|block| block.lines().skip(1));
    let commands = lines.map(|line| line.split(" #").next().unwrap_or(line).trim());
    commands.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// The README's test command, which `ci` runs as it stands there.
pub(crate) fn test_command(tree: &Tree) -> Option<&str> {
    tree.file(README).and_then(|readme| commands(readme).get(1).copied())
}

/// The README's example of the library: a whole program, which `ci` builds and runs.
pub(crate) fn library_example(tree: &Tree) -> Option<&str> {
    let (_, program) = section(&tree.file(README)?.text, LIBRARY)?.split_once("```rust\n")?;
    program.split("```").next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readme(body: &str) -> Tree {
        Tree::of(&[(README, &format!("# X\n\n## Quick start\n\n{body}\n\n## Next\n\n```sh\nother\n```\n"))])
    }

    #[test]
    fn a_link_that_leads_nowhere_is_reported() {
        let page =
            "[a](b.md) [c](../x/d.md#part) [e](https://example.org) [f](#here)\n```\n[g](h)\n```\n[i](j.md)";
        let tree = Tree::of(&[("docs/a.md", page), ("docs/b.md", ""), ("x/d.md", "")]);
        let faults = links(&tree);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(faults[0].line, 5);
    }

    #[test]
    fn a_third_command_is_reported() {
        let two = "```sh\ncargo xtask stress          # the main job\ncargo test --workspace\n```";
        assert_eq!(quick_start(&readme(two)), []);
        assert_eq!(test_command(&readme(two)), Some("cargo test --workspace"));
        assert_eq!(quick_start(&readme(&two.replace("stress ", "stress\nmake "))).len(), 1);
        assert_eq!(quick_start(&readme("")).len(), 1);
        assert_eq!(quick_start(&Tree::of(&[])).len(), 1);
    }

    #[test]
    fn the_library_example_is_the_block_below_its_heading() {
        let text = "# X\n```rust\nno\n```\n## Library\n\nText.\n\n```rust\nfn main() {}\n```\n\n## Other\n";
        assert_eq!(library_example(&Tree::of(&[(README, text)])), Some("fn main() {}\n"));
        assert_eq!(library_example(&Tree::of(&[(README, "# X\n")])), None);
    }
}

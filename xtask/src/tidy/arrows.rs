//! Who may depend on whom: lower floors never name upper ones.

use super::{Fault, Tree};

/// Every arrow there may be: a package and the members it may name, in any dependency table.
const ARROWS: &[(&str, &[&str])] = &[
    ("outlast-probe", &[]),
    ("outlast-shm", &["outlast-probe"]),
    ("outlast-checkpt", &["outlast-probe"]),
    ("outlast-wksp", &["outlast-shm", "outlast-probe", "outlast-checkpt"]),
    ("outlast-groove", &["outlast-shm", "outlast-probe"]),
    ("outlast-sched", &["outlast-shm", "outlast-probe"]),
    ("outlast-cli", &["outlast-shm", "outlast-wksp", "outlast-checkpt"]),
    (
        "outlast-tests",
        &[
            "outlast-probe",
            "outlast-shm",
            "outlast-checkpt",
            "outlast-wksp",
            "outlast-groove",
            "outlast-sched",
            "outlast-cli",
        ],
    ),
    ("xtask", &[]),
];

/// Arrows that must hang on a feature.
const OPTIONAL: &[(&str, &str)] = &[("outlast-wksp", "outlast-checkpt")];

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for member in &tree.members {
        let manifest = format!("{}/Cargo.toml", member.directory);
        let mut report = |what: String| faults.push(Fault { path: manifest.clone(), line: 0, what });
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == member.name) else {
            report(format!("`{}` has no row in the table of arrows", member.name));
            continue;
        };
        for edge in member.dependencies.iter().filter(|edge| edge.is_member) {
            let pair = (member.name.as_str(), edge.name.as_str());
            if !allowed.contains(&pair.1) {
                report(format!("`{}` must not depend on `{}`", pair.0, pair.1));
            } else if OPTIONAL.contains(&pair) && !edge.optional && !edge.is_dev {
                report(format!("`{}` may depend on `{}` only through a feature", pair.0, pair.1));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Dependency, Member};

    fn tree(from: &str, to: &str, optional: bool) -> Tree {
        let edge = Dependency { name: to.into(), optional, is_member: true, is_dev: false };
        let member = Member { name: from.into(), directory: "crates/x".into(), dependencies: vec![edge] };
        Tree { members: vec![member], ..Tree::default() }
    }

    #[test]
    fn an_arrow_upwards_is_reported() {
        assert_eq!(check(&tree("outlast-shm", "outlast-wksp", false)).len(), 1);
        assert_eq!(check(&tree("xtask", "outlast-probe", false)).len(), 1);
        assert_eq!(check(&tree("outlast-newcomer", "outlast-probe", false)).len(), 1);
        assert_eq!(check(&tree("outlast-wksp", "outlast-checkpt", false)).len(), 1, "must be optional");
    }

    #[test]
    fn an_arrow_of_the_table_is_not() {
        assert_eq!(check(&tree("outlast-wksp", "outlast-shm", false)), []);
        assert_eq!(check(&tree("outlast-wksp", "outlast-checkpt", true)), []);
    }
}

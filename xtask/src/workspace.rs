//! The workspace as `cargo metadata` tells it: where it is, its members and what they depend on.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cargo::Cargo;
use crate::failure::Failure;

/// The workspace that xtask belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    /// Directory of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Directory of the normal builds; those with other flags get a directory inside it.
    pub(crate) target: PathBuf,
    /// Its members, in cargo's order.
    pub(crate) members: Vec<Member>,
}

/// One package of the workspace.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Package name.
    pub(crate) name: String,
    /// Its directory, relative to the root.
    pub(crate) directory: String,
    /// What its manifest asks for.
    pub(crate) dependencies: Vec<Dependency>,
}

/// One entry of a manifest's dependency tables.
#[derive(Debug, Clone)]
pub(crate) struct Dependency {
    /// Package name.
    pub(crate) name: String,
    /// Only present when a feature asks for it.
    pub(crate) optional: bool,
    /// A `path` dependency, that is: another member.
    pub(crate) is_member: bool,
    /// Only for tests, examples and benchmarks.
    pub(crate) is_dev: bool,
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn load() -> Result<Self, Failure> {
        let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_else(|| ".".into());
        let text = Cargo::new(&here, &["metadata", "--no-deps", "--format-version", "1"]).output()?;
        let metadata: Value = serde_json::from_str(&text)
            .map_err(|error| Failure::Check(format!("`cargo metadata` gave no JSON: {error}")))?;
        Self::from_metadata(&metadata)
            .ok_or_else(|| Failure::Check("`cargo metadata` lacks a field that xtask needs".into()))
    }

    fn from_metadata(metadata: &Value) -> Option<Self> {
        let root = PathBuf::from(metadata["workspace_root"].as_str()?);
        let members: Option<Vec<Member>> = metadata["packages"]
            .as_array()?
            .iter()
            .map(|package| Member::from_metadata(&root, package))
            .collect();
        Some(Self { target: PathBuf::from(metadata["target_directory"].as_str()?), members: members?, root })
    }

    /// The members under `crates/`: what users depend on.
    pub(crate) fn products(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.directory.starts_with("crates/"))
    }

    /// A cargo call in the root.
    pub(crate) fn cargo(&self, words: &[&str]) -> Cargo {
        Cargo::new(&self.root, words)
    }
}

impl Member {
    fn from_metadata(root: &Path, package: &Value) -> Option<Self> {
        let manifest = Path::new(package["manifest_path"].as_str()?);
        let directory = manifest.parent()?.strip_prefix(root).ok()?.to_str()?.to_owned();
        let dependencies: Option<Vec<Dependency>> =
            package["dependencies"].as_array()?.iter().map(Dependency::from_metadata).collect();
        Some(Self { name: package["name"].as_str()?.to_owned(), directory, dependencies: dependencies? })
    }
}

impl Dependency {
    fn from_metadata(entry: &Value) -> Option<Self> {
        Some(Self {
            name: entry["name"].as_str()?.to_owned(),
            optional: entry["optional"].as_bool()?,
            is_member: entry["path"].is_string(),
            is_dev: entry["kind"].as_str() == Some("dev"),
        })
    }
}

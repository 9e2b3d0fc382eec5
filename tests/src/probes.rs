//! `stress probes-table`: every probe of this binary. Only a build with `--cfg outlast_probes` has any.

use std::ffi::OsString;
use std::process::ExitCode;

/// One probe as the table shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Row {
    /// `crate.operation.step`.
    pub name: &'static str,
    /// The first part of the name.
    #[serde(rename = "crate")]
    pub owner: &'static str,
    /// `point`, `fault` or `blocking`.
    pub kind: &'static str,
    /// Source file.
    pub file: &'static str,
    /// Line in it.
    pub line: u32,
}

/// Every probe, by name; none in a build without probes.
pub fn rows() -> Vec<Row> {
    let mut rows = registered();
    rows.sort_unstable();
    rows
}

#[cfg(not(outlast_probes))]
fn registered() -> Vec<Row> {
    Vec::new()
}

#[cfg(outlast_probes)]
fn registered() -> Vec<Row> {
    use outlast_probe::registry::{Kind, PROBES};
    let row = |probe: &'static outlast_probe::registry::Probe| {
        let (file, line) = probe.location();
        let kind = match probe.kind() {
            Kind::Point => "point",
            Kind::Fault => "fault",
            Kind::Blocking => "blocking",
        };
        let owner = probe.name().split('.').next().unwrap_or_default();
        Row { name: probe.name(), owner, kind, file, line }
    };
    PROBES.iter().map(row).collect()
}

/// Prints the table; `words` may be `--json`. Exits with 5 if this build has no probes.
pub fn main(words: &[OsString]) -> ExitCode {
    let json = match words {
        [] => false,
        [word] if word == "--json" => true,
        _ => {
            eprintln!("stress probes-table: expected nothing or --json");
            return ExitCode::from(2);
        }
    };
    if !outlast_probe::ENABLED {
        eprintln!(
            "this build has no probes: run `cargo xtask probes`, which builds with --cfg outlast_probes"
        );
        return ExitCode::from(5);
    }
    let rows = rows();
    if json {
        println!("{}", serde_json::json!(rows));
    } else {
        for Row { name, kind, file, line, .. } in &rows {
            println!("{name:40} {kind:8} {file}:{line}");
        }
        println!("{} probes", rows.len());
    }
    ExitCode::SUCCESS
}

//! The command line, declared. `stress`, `bench` and `probes` take no flags of their own: their arguments
//! go unchanged to the binary they start.

use std::ffi::OsString;

use clap::Parser;

use crate::failure::Failure;

/// What `cargo xtask help` prints.
pub(crate) const HELP: &str = "\
cargo xtask COMMAND

  ci [--list] [--only STEP]...     every check that a change must pass, each timed
  tidy [--bless]                   the rules of the tree that no compiler checks; --bless records new
                                   layout hashes and the list of files with unsafe code
  stress [SCENARIO...] [OPTIONS]   build and run the stress binary (`cargo xtask stress --help` asks it)
  snapshot [--accept]              run all snapshot tests, show what differs; --accept takes it
  bench [NAME...]                  build and run the benchmarks, which print figures and judge nothing
  probes [--json]                  build the stress binary with its probes and print their table
  probes SCENARIO... [OPTIONS]     the same build, run like `stress`
  help                             this text

exit codes: 0 passed, 1 a check failed, 2 usage, 101 a build failed, 130 interrupted;
`stress` adds 4 nothing ran or all skipped, 5 inconclusive, 100 failed
";

/// `cargo xtask ci`.
#[derive(Debug, Parser)]
pub(crate) struct Ci {
    /// Print the steps, run nothing.
    #[arg(long)]
    pub(crate) list: bool,
    /// Run only this step; may be repeated.
    #[arg(long, value_name = "STEP")]
    pub(crate) only: Vec<String>,
}

/// `cargo xtask tidy`.
#[derive(Debug, Parser)]
pub(crate) struct Tidy {
    /// Record the present layout hashes and the present list of files with unsafe code.
    #[arg(long)]
    pub(crate) bless: bool,
}

/// `cargo xtask snapshot`.
#[derive(Debug, Parser)]
pub(crate) struct Snapshot {
    /// Take every difference that was shown as the new truth.
    #[arg(long)]
    pub(crate) accept: bool,
}

/// Parses the words after the command's name; prints help and version requests itself.
pub(crate) fn parse<T: Parser>(command: &'static str, words: Vec<OsString>) -> Result<T, Failure> {
    let name = OsString::from(format!("cargo xtask {command}"));
    T::try_parse_from(std::iter::once(name).chain(words)).map_err(|error| match error.exit_code() {
        0 => Failure::Shown(error.to_string()),
        _ => Failure::Usage(error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_flag_is_a_usage_error() {
        let failure = parse::<Tidy>("tidy", vec!["--blessed".into()]).unwrap_err();
        assert_eq!(failure.code(), 2, "{failure:?}");
    }

    #[test]
    fn steps_may_be_repeated() {
        let ci: Ci = parse("ci", ["--only", "fmt", "--only", "tidy"].map(OsString::from).into()).unwrap();
        assert_eq!(ci.only, ["fmt", "tidy"]);
    }
}

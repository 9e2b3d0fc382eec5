//! The words of the command line, parsed and held against each other.
//!
//! # Invariants
//! - Whatever is wrong with the command line is found here, before anything runs.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use outlast_sched::Shard;

use super::Ending;
use crate::run::Profile;
use crate::scenario::{self, Scenario};

/// Runs stress scenarios of the workspace, several at once, and reports what each of them did.
#[derive(Debug, Clone, Parser)]
#[command(name = "stress", bin_name = "cargo xtask stress", disable_version_flag = true)]
pub(super) struct Arguments {
    /// Scenarios to run: exact names, or leading parts of their paths (`wksp` is all of `wksp/*`). All if none.
    /// A number runs that failure of the last report again, with its seed first; `last-failed` runs all of them.
    #[arg(value_name = "SCENARIO")]
    pub(super) scenarios: Vec<String>,
    /// List the scenarios that would run, and run nothing.
    #[arg(long)]
    pub(super) list: bool,
    /// Show what earlier runs have left: outcomes, durations, failures.
    #[arg(long, conflicts_with = "list")]
    pub(super) history: bool,
    /// Everything random comes from it. Default: another one each time, printed.
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    /// Exactly so many iterations of each scenario (`--list` says what one is).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) iters: Option<u64>,
    /// Run that long in all, such as 30s, 5m, 8h or 500ms, instead of a number of iterations.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    pub(super) time: Option<Duration>,
    /// How much to do.
    #[arg(long, value_enum, default_value_t = Profile::Quick)]
    pub(super) profile: Profile,
    /// Scenarios at a time, 1 to 256; those that need the same cores wait for each other all the same.
    /// Default: the cores that this process may use.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(super) slots: Option<u32>,
    /// Run each scenario so often, each time with another seed. One failure among them is a failure.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) repeat: u32,
    /// Run part I of N of the plan, such as 2/4; `merge` makes one report of the parts.
    #[arg(long, value_name = "I/N", value_parser = parse_shard)]
    pub(super) shard: Option<Shard>,
    /// Leave out what has passed before and has not changed since: program, options and, if given, seed.
    #[arg(long)]
    pub(super) skip_unchanged: bool,
    /// Say so when a scenario takes longer. Default: 1m, 20m in the full profile.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(super) slow: Option<Duration>,
    /// End a scenario that takes longer. Default: 10m, 6h in the full profile, each besides `--for`.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(super) limit: Option<Duration>,
    /// From asking a scenario to end to killing it.
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "5s")]
    pub(super) grace: Duration,
    /// Keep the sandboxes of scenarios that pass as well.
    #[arg(long)]
    pub(super) keep: bool,
    /// Copy what each scenario prints to this file; [NAME] and [NUMBER] in it stand for the scenario's own.
    #[arg(long, value_name = "FILE")]
    pub(super) output_to: Option<PathBuf>,
    /// Log every assignment, start, end and join of a slot to stderr and into the run's directory.
    #[arg(long)]
    pub(super) trace: bool,
    /// Tell the desktop when it is over (from 10 scenarios on, in a build with the feature `notify`).
    #[arg(long)]
    pub(super) notify: bool,
    /// Write one line of JSON for each scenario to this file.
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Write a JUnit report to this file.
    #[arg(long, value_name = "FILE")]
    pub(super) junit: Option<PathBuf>,
    /// Write the report as one HTML file to this path too; there is one in the run's directory in any case.
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
    /// Options of the scenarios, below.
    #[arg(last = true, value_name = "OPTIONS")]
    pub(super) options: Vec<OsString>,
}

/// The command line of `merge`.
#[derive(Debug, Clone, Parser)]
#[command(name = "merge", bin_name = "cargo xtask stress merge", disable_version_flag = true)]
pub(super) struct Merge {
    /// Directories of runs, each of one part of the same plan.
    #[arg(required = true, value_name = "DIR")]
    pub(super) directories: Vec<PathBuf>,
    /// Write one line of JSON for each scenario to this file.
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Write a JUnit report to this file.
    #[arg(long, value_name = "FILE")]
    pub(super) junit: Option<PathBuf>,
    /// Write the report as one HTML file to this path.
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
}

/// Reads the words of `stress`.
pub(super) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Arguments, Ending> {
    let command = <Arguments as clap::CommandFactory>::command().after_help(after_help());
    let name = OsString::from("stress");
    let parsed = command.try_get_matches_from(std::iter::once(name).chain(words));
    let arguments =
        parsed.and_then(|matches| <Arguments as clap::FromArgMatches>::from_arg_matches(&matches));
    arguments.map_err(Ending::from_clap)
}

/// Reads the words behind `merge`.
pub(super) fn parse_merge(words: &[OsString]) -> Result<Merge, Ending> {
    let name = OsString::from("merge");
    Merge::try_parse_from(std::iter::once(name).chain(words.iter().cloned())).map_err(Ending::from_clap)
}

fn after_help() -> String {
    let mut text = String::from("Scenarios:\n");
    for scenario in scenario::ALL {
        text.push_str(&format!("  {}", listing(scenario)));
    }
    for scenario in scenario::ALL {
        if let Some(command) = scenario.options {
            text.push_str(&format!("\nOptions of {}, after `--`:\n", scenario.name));
            let help = command().disable_help_flag(true).help_template("{options}").render_help();
            text.push_str(&help.to_string());
            text.push('\n');
        }
    }
    text.push_str(
        "\n`merge DIR...` makes one report of the directories of several runs; see `merge --help`.\n\
         \nExit codes: 0 passed, 2 usage, 4 nothing ran or all were skipped, 5 inconclusive, 100 failed,\n\
         101 the build failed, 130 interrupted. The regions are made in $OUTLAST_DIR, else /dev/shm/outlast-$UID;\n\
         sandboxes, reports and the history are in $OUTLAST_STRESS_DIR, else target/stress.\n",
    );
    text
}

/// One line about a scenario.
pub(super) fn listing(scenario: &Scenario) -> String {
    let missing = scenario.missing().map(|reason| format!(" (ignored: {reason})")).unwrap_or_default();
    format!("{:20} {} [{}]{missing}\n", scenario.name, scenario.about, scenario.unit)
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let split = text.find(|symbol: char| !symbol.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("expected a number and ms, s, m or h, such as 30s, found {text:?}")),
    };
    let number: u64 =
        number.parse().map_err(|_| format!("expected a number before the unit, found {text:?}"))?;
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(|| format!("{text} is too long"))
}

fn parse_shard(text: &str) -> Result<Shard, String> {
    text.parse().map_err(|error: outlast_sched::ShardError| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(parse_time("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_time("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse_time("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "30", "s", "-1s", "1.5s", "99999999999999999h", "1 s"] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn slots_are_from_1_to_256() {
        let slots = |text: &str| parse(["--slots".into(), text.into()]).map(|arguments| arguments.slots);
        assert!(matches!(slots("1"), Ok(Some(1))));
        assert!(matches!(slots("256"), Ok(Some(256))));
        for bad in ["0", "257", "-1", "many", ""] {
            assert!(matches!(slots(bad), Err(Ending::Refused(2, _))), "{bad}");
        }
        for bad in ["", "1", "0/4", "5/4", "1/0", "a/b", "-1/2"] {
            assert!(matches!(parse(["--shard".into(), bad.into()]), Err(Ending::Refused(2, _))), "{bad}");
        }
    }

    #[test]
    fn help_lists_everything() {
        for words in [&["--help"][..], &["-h"]] {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            let Err(Ending::Shown(text)) = parse(words) else { panic!() };
            for option in
                ["--path", "--worker-cnt", "--near-cpu", "--slots", "--shard", "merge", "last-failed"]
            {
                assert!(text.contains(option), "{option}: {text}");
            }
        }
    }
}

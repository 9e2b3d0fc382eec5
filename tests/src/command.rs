//! The command line of `stress`.
//!
//! # Invariants
//! - Whatever is wrong with the command line is found before anything runs, and exits with 2.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::end::End;
use crate::interrupt;
use crate::probes;
use crate::progress::Progress;
use crate::report::exit_code;
use crate::run::{Plan, Profile};
use crate::scenario::{self, Scenario};
use crate::worker;

/// Runs stress scenarios of the workspace and reports what each of them did.
#[derive(Debug, Parser)]
#[command(name = "stress", bin_name = "cargo xtask stress", disable_version_flag = true)]
pub struct Arguments {
    /// Scenarios to run: exact names, or leading parts of their paths (`wksp` is all of `wksp/*`). All if none.
    #[arg(value_name = "SCENARIO")]
    pub scenarios: Vec<String>,
    /// List the scenarios that would run, and run nothing.
    #[arg(long)]
    pub list: bool,
    /// Everything random comes from it. Default: another one each time, printed.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Exactly so many iterations of each scenario (`--list` says what one is).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub iters: Option<u64>,
    /// Run that long in all, such as 30s, 5m, 8h or 500ms, instead of a number of iterations.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    pub time: Option<Duration>,
    /// How much to do.
    #[arg(long, value_enum, default_value_t = Profile::Quick)]
    pub profile: Profile,
    /// Write one line of JSON for each scenario to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Options of the scenarios, below.
    #[arg(last = true, value_name = "OPTIONS")]
    pub options: Vec<OsString>,
}

/// What the command line asks for.
#[derive(Debug)]
enum Ending {
    /// Print this and exit with 0.
    Shown(String),
    /// Print this on stderr and exit with the code.
    Refused(u8, String),
}

/// Runs the command; `words` are the arguments without the program's name.
pub fn main(words: Vec<OsString>) -> ExitCode {
    match words.first().and_then(|word| word.to_str()) {
        Some("worker") => return worker::role::main(&words[1..]),
        Some(scenario::instructions::CHILD) => {
            let words: Vec<String> =
                words[1..].iter().map(|word| word.to_string_lossy().into_owned()).collect();
            return crate::sweep::child::main(&words);
        }
        Some("probes-table") => return probes::main(&words[1..]),
        _ => {}
    }
    match stress(words) {
        Ok(code) => ExitCode::from(code),
        Err(Ending::Shown(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(Ending::Refused(code, text)) => {
            eprintln!("{}", text.trim_end());
            ExitCode::from(code)
        }
    }
}

fn stress(words: Vec<OsString>) -> Result<u8, Ending> {
    let arguments = parse(words)?;
    let selected = select(&arguments.scenarios)?;
    if arguments.list {
        return Err(Ending::Shown(selected.iter().map(|scenario| listing(scenario)).collect()));
    }
    let selected = assign(selected, &arguments.options)?;
    let mut json = arguments.json.as_deref().map(open_json).transpose()?;
    let plan = Plan {
        selected,
        seed: arguments.seed.unwrap_or_else(fresh_seed),
        iterations: arguments.iters,
        time: arguments.time,
        profile: arguments.profile,
        program: std::env::current_exe()
            .map_err(|error| refused(format!("cannot find this program: {error}")))?,
        stop: interrupt::install().map_err(refused)?,
        shows_progress: Progress::is_wanted(),
    };
    let ran = plan.run(&mut std::io::stdout().lock(), |report| match &mut json {
        Some(file) => writeln!(file, "{}", report.to_json()),
        None => Ok(()),
    });
    match ran {
        Ok(reports) => Ok(exit_code(&reports)),
        Err(error) => Err(Ending::Refused(100, format!("stress: cannot write the report: {error}"))),
    }
}

fn refused(text: String) -> Ending {
    Ending::Refused(100, format!("stress: {text}"))
}

fn usage(text: String) -> Ending {
    Ending::Refused(2, format!("stress: {text}"))
}

fn parse(words: Vec<OsString>) -> Result<Arguments, Ending> {
    let command = <Arguments as clap::CommandFactory>::command().after_help(after_help());
    let name = OsString::from("stress");
    let parsed = command.try_get_matches_from(std::iter::once(name).chain(words));
    let arguments =
        parsed.and_then(|matches| <Arguments as clap::FromArgMatches>::from_arg_matches(&matches));
    arguments.map_err(from_clap)
}

fn from_clap(error: clap::Error) -> Ending {
    match error.exit_code() {
        0 => Ending::Shown(error.to_string()),
        _ => Ending::Refused(2, error.to_string()),
    }
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
        "\nExit codes: 0 passed, 2 usage, 4 nothing ran or all were skipped, 5 inconclusive, 100 failed,\n\
         101 the build failed, 130 interrupted. The regions are made in $OUTLAST_DIR, else /dev/shm/outlast-$UID.\n",
    );
    text
}

fn listing(scenario: &Scenario) -> String {
    let missing = scenario.missing().map(|reason| format!(" (ignored: {reason})")).unwrap_or_default();
    format!("{:20} {} [{}]{missing}\n", scenario.name, scenario.about, scenario.unit)
}

/// The scenarios that the words select, each once, in the registry's order.
fn select(words: &[String]) -> Result<Vec<&'static Scenario>, Ending> {
    for word in words {
        if !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(usage(format!(
                "{word}: numbers are reserved for recorded failures, which are not kept yet"
            )));
        }
        if ["merge", "compare"].contains(&word.as_str()) {
            return Err(usage(format!("{word}: reserved for a later command")));
        }
        if !scenario::ALL.iter().any(|scenario| scenario.is_selected_by(word)) {
            let names: Vec<&str> = scenario::ALL.iter().map(|scenario| scenario.name).collect();
            let text = format!(
                "stress: nothing to run: no scenario is {word} or below it; there are {}",
                names.join(", ")
            );
            return Err(Ending::Refused(4, text));
        }
    }
    let wanted =
        |scenario: &Scenario| words.is_empty() || words.iter().any(|word| scenario.is_selected_by(word));
    Ok(scenario::ALL.iter().filter(|scenario| wanted(scenario)).collect())
}

/// Gives the words after `--` to the scenarios that know them all; there must be one.
fn assign(
    selected: Vec<&'static Scenario>,
    options: &[OsString],
) -> Result<Vec<(&'static Scenario, Vec<OsString>)>, Ending> {
    let mut refusal = None;
    let mut known = options.is_empty();
    let mut assigned = Vec::new();
    for scenario in selected {
        match scenario.check_options(options) {
            Ok(()) => {
                known = true;
                assigned.push((scenario, options.to_vec()));
            }
            Err(error) => {
                // Of several refusals the one by a scenario that has options at all says most.
                if refusal.is_none() || scenario.options.is_some() {
                    refusal = Some(error);
                }
                assigned.push((scenario, Vec::new()));
            }
        }
    }
    match refusal {
        Some(error) if !known || error.exit_code() == 0 => Err(from_clap(error)),
        _ => Ok(assigned),
    }
}

fn open_json(path: &std::path::Path) -> Result<File, Ending> {
    File::create(path).map_err(|error| usage(format!("--json {}: {error}", path.display())))
}

/// A seed that is another one each time and short enough to be read aloud.
fn fresh_seed() -> u64 {
    let mut seed = [0_u8; 4];
    match rand::TryRng::try_fill_bytes(&mut rand::rngs::SysRng, &mut seed) {
        Ok(()) => u64::from(u32::from_le_bytes(seed)),
        // Any number will do.
        Err(_) => u64::from(std::process::id()),
    }
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

impl From<End> for Ending {
    fn from(end: End) -> Self {
        refused(end.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &[&str]) -> Result<Vec<(&'static str, usize)>, (u8, String)> {
        let words = words.iter().map(OsString::from).collect();
        let assigned = parse(words).and_then(|arguments| {
            let selected = select(&arguments.scenarios)?;
            assign(selected, &arguments.options)
        });
        match assigned {
            Ok(assigned) => {
                Ok(assigned.iter().map(|(scenario, options)| (scenario.name, options.len())).collect())
            }
            Err(Ending::Shown(text)) => Err((0, text)),
            Err(Ending::Refused(code, text)) => Err((code, text)),
        }
    }

    #[test]
    fn scenarios_are_selected_by_name_or_path() {
        assert_eq!(run(&["wksp/roundtrip"]), Ok(vec![("wksp/roundtrip", 0)]));
        let count = |words: &[&str]| run(words).unwrap().len();
        assert_eq!(count(&["wksp"]) + count(&["sched"]), count(&[]));
        assert_eq!(run(&["wksp/round"]).unwrap_err().0, 4, "half a part of a path is no part");
        assert_eq!(run(&["wksp/kill", "wksp/kill"]), Ok(vec![("wksp/kill", 0)]));
    }

    #[test]
    fn reserved_words_say_so() {
        for word in ["1", "42", "merge", "compare"] {
            let (code, text) = run(&[word]).unwrap_err();
            assert!(code == 2 && text.contains("reserved"), "{text}");
        }
    }

    #[test]
    fn options_go_to_the_scenarios_that_know_them() {
        let assigned = run(&["--", "--iter-max", "3"]).unwrap();
        let given: Vec<&str> = assigned.iter().filter(|(_, len)| *len == 2).map(|(name, _)| *name).collect();
        assert_eq!(given, ["wksp/roundtrip"]);
        assert_eq!(run(&["wksp/roundtrip", "--", "--no-such"]).unwrap_err().0, 2);
        assert_eq!(run(&["wksp/kill", "--", "--iter-max", "3"]).unwrap_err().0, 2);
        assert_eq!(run(&["--no-such"]).unwrap_err().0, 2);
        assert_eq!(run(&["--iters", "0"]).unwrap_err().0, 2);
    }

    #[test]
    fn help_lists_everything() {
        for words in [&["--help"][..], &["-h"], &["wksp/roundtrip", "--", "--help"]] {
            let (code, text) = run(words).unwrap_err();
            assert_eq!(code, 0);
            for option in [
                "--path",
                "--mode",
                "--keep",
                "--worker-cnt",
                "--wksp",
                "--page-sz",
                "--page-cnt",
                "--near-cpu",
                "--iter-max",
                "--seed",
            ] {
                assert!(text.contains(option), "{words:?} {option}: {text}");
            }
        }
    }

    #[test]
    fn times_have_units() {
        assert_eq!(parse_time("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_time("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse_time("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "30", "s", "-1s", "1.5s", "99999999999999999h", "1 s"] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }
}

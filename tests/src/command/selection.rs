//! Which scenarios the words select, each with its options and, for a recorded failure, with what is stored of it.
//!
//! # Invariants
//! - A scenario is selected once, however many words select it; a recorded failure once for each number.

use std::ffi::OsString;

use outlast_sched::Failed;

use super::Ending;
use super::arguments::{self, Arguments};
use crate::run::Profile;
use crate::scenario::{self, Scenario};

/// The word that selects every recorded failure.
const LAST_FAILED: &str = "last-failed";

/// One scenario that is to be run.
#[derive(Debug, Clone)]
pub(super) struct Selected {
    /// The scenario.
    pub(super) scenario: &'static Scenario,
    /// Its words after `--`.
    pub(super) options: Vec<OsString>,
    /// How much to do.
    pub(super) profile: Profile,
    /// What failed before, to be repeated first.
    pub(super) again: Option<Again>,
}

/// What is stored of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Again {
    /// Its seed.
    pub(super) seed: u64,
    /// Iterations up to it.
    pub(super) iterations: Option<u64>,
    /// Its schedule.
    pub(super) schedule: Option<String>,
}

/// What the words select: recorded failures in their order, then scenarios in the registry's.
pub(super) fn select(arguments: &Arguments, failures: &[Failed]) -> Result<Vec<Selected>, Ending> {
    let mut again = Vec::new();
    let mut paths = Vec::new();
    for word in &arguments.scenarios {
        match word.parse::<u32>() {
            _ if word == LAST_FAILED => again.extend(failures),
            Ok(number) => again.push(numbered(number, failures)?),
            Err(_) => paths.push(word.as_str()),
        }
    }
    if again.is_empty() && arguments.scenarios.iter().any(|word| word == LAST_FAILED) {
        return Err(Ending::Refused(4, "stress: nothing to run: no failure is recorded".into()));
    }
    let mut selected = Vec::new();
    for (index, failed) in again.iter().enumerate() {
        if !again[..index].iter().any(|earlier| earlier.number == failed.number) {
            selected.push(recorded(failed, arguments)?);
        }
    }
    let none = again.is_empty() && paths.is_empty();
    let scenarios = by_path(&paths, none)?;
    selected.extend(assign(scenarios, &arguments.options, arguments.profile)?);
    Ok(selected)
}

fn numbered(number: u32, failures: &[Failed]) -> Result<&Failed, Ending> {
    failures.iter().find(|failed| failed.number == number).ok_or_else(|| {
        let known: Vec<String> =
            failures.iter().map(|failed| format!("{}={}", failed.number, failed.name)).collect();
        let known = if known.is_empty() { "none is recorded".into() } else { known.join(" ") };
        Ending::usage(format!("there is no failure {number} (any more): {known}"))
    })
}

/// A recorded failure as the line that repeats it says.
fn recorded(failed: &Failed, arguments: &Arguments) -> Result<Selected, Ending> {
    let unknown = |what: &str| {
        Ending::usage(format!("failure {}={} cannot be run again: {what}", failed.number, failed.name))
    };
    let scenario = scenario::ALL.iter().find(|scenario| scenario.name == failed.name);
    let scenario = scenario.ok_or_else(|| unknown("there is no such scenario any more"))?;
    let words = shlex::split(&failed.replay).ok_or_else(|| unknown("its line cannot be read"))?;
    // `cargo xtask stress`, or with probes.
    let stored = match arguments::parse(words.into_iter().skip(3).map(OsString::from)) {
        Ok(stored) => stored,
        Err(Ending::Refused(_, text) | Ending::Shown(text)) => return Err(unknown(&text)),
    };
    let options = if arguments.options.is_empty() { stored.options } else { arguments.options.clone() };
    scenario.check_options(&options).map_err(Ending::from_clap)?;
    let (seed, schedule) = (failed.seed, failed.schedule.clone());
    let again = Some(Again { seed, iterations: stored.iters, schedule });
    Ok(Selected { scenario, options, profile: stored.profile, again })
}

/// The scenarios that the words select, each once, in the registry's order.
fn by_path(words: &[&str], all: bool) -> Result<Vec<&'static Scenario>, Ending> {
    if let Some(word) =
        words.iter().find(|word| !scenario::ALL.iter().any(|known| known.is_selected_by(word)))
    {
        let names: Vec<&str> = scenario::ALL.iter().map(|scenario| scenario.name).collect();
        let names = names.join(", ");
        let text = format!("stress: nothing to run: no scenario is {word} or below it; there are {names}");
        return Err(Ending::Refused(4, text));
    }
    let wanted = |scenario: &Scenario| all || words.iter().any(|word| scenario.is_selected_by(word));
    Ok(scenario::ALL.iter().filter(|scenario| wanted(scenario)).collect())
}

/// Gives the words after `--` to the scenarios that know them all; there must be one, unless there are no words.
fn assign(
    scenarios: Vec<&'static Scenario>,
    options: &[OsString],
    profile: Profile,
) -> Result<Vec<Selected>, Ending> {
    let mut refusal = None;
    let mut known = options.is_empty() || scenarios.is_empty();
    let mut selected = Vec::new();
    for scenario in scenarios {
        let mut given = Vec::new();
        match scenario.check_options(options) {
            Ok(()) => {
                known = true;
                given = options.to_vec();
            }
            // Of several refusals the one by a scenario that has options at all says most.
            Err(error) if refusal.is_none() || scenario.options.is_some() => refusal = Some(error),
            Err(_) => {}
        }
        selected.push(Selected { scenario, options: given, profile, again: None });
    }
    match refusal {
        Some(error) if !known || error.exit_code() == 0 => Err(Ending::from_clap(error)),
        _ => Ok(selected),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures() -> Vec<Failed> {
        let failed = |number, name: &str, replay: &str| Failed {
            number,
            group: "wksp".into(),
            name: name.into(),
            seed: 5,
            schedule: None,
            replay: replay.into(),
        };
        vec![
            failed(
                1,
                "wksp/roundtrip",
                "cargo xtask stress wksp/roundtrip --seed 5 --iters 3 --profile full -- --path 'a b'",
            ),
            failed(3, "wksp/kill", "cargo xtask stress wksp/kill --seed 5 --profile quick"),
            failed(4, "wksp/gone", "cargo xtask stress wksp/gone --seed 5 --profile quick"),
            failed(5, "wksp/kill", "cargo xtask stress wksp/kill --no-such"),
        ]
    }

    fn run(words: &[&str]) -> Result<Vec<(&'static str, usize)>, (u8, String)> {
        match chosen(words) {
            Ok(selected) => Ok(selected.iter().map(|one| (one.scenario.name, one.options.len())).collect()),
            Err(Ending::Shown(text)) => Err((0, text)),
            Err(Ending::Refused(code, text)) => Err((code, text)),
        }
    }

    fn chosen(words: &[&str]) -> Result<Vec<Selected>, Ending> {
        let arguments = arguments::parse(words.iter().map(OsString::from))?;
        select(&arguments, &failures())
    }

    #[test]
    fn scenarios_are_selected_by_name_or_path() {
        assert_eq!(run(&["wksp/roundtrip"]), Ok(vec![("wksp/roundtrip", 0)]));
        assert_eq!(run(&[]).unwrap().len(), scenario::ALL.len());
        assert!(run(&["wksp"]).unwrap().len() < run(&[]).unwrap().len());
        assert_eq!(run(&["wksp/round"]).unwrap_err().0, 4, "half a part of a path is no part");
        assert_eq!(run(&["wksp/kill", "wksp/kill"]), Ok(vec![("wksp/kill", 0)]));
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
        let (code, text) = run(&["wksp/roundtrip", "--", "--help"]).unwrap_err();
        assert!(code == 0 && text.contains("--iter-max"), "{text}");
    }

    #[test]
    fn a_number_is_a_recorded_failure_with_all_that_is_stored_of_it() {
        let selected = chosen(&["1", "3", "1"]).unwrap_or_default();
        let [first, second] = &selected[..] else { panic!("{selected:?}") };
        assert_eq!((first.scenario.name, first.profile), ("wksp/roundtrip", Profile::Full));
        assert_eq!(first.options, ["--path", "a b"]);
        assert_eq!(first.again, Some(Again { seed: 5, iterations: Some(3), schedule: None }));
        assert_eq!(second.again, Some(Again { seed: 5, iterations: None, schedule: None }));
    }

    #[test]
    fn a_number_that_cannot_be_run_says_why() {
        let (code, text) = run(&["2"]).unwrap_err();
        assert!(code == 2 && text.contains("1=wksp/roundtrip"), "{text}");
        assert!(run(&["4"]).unwrap_err().1.contains("no such scenario"));
        assert!(run(&["5"]).unwrap_err().1.contains("--no-such"));
        assert_eq!(run(&["last-failed"]).unwrap_err().0, 2, "one of them cannot be run");
        let arguments = arguments::parse(["last-failed".into()]).unwrap_or_else(|_| panic!());
        assert!(matches!(select(&arguments, &[]), Err(Ending::Refused(4, _))));
        assert_eq!(select(&arguments, &failures()[..2]).unwrap_or_default().len(), 2);
    }
}

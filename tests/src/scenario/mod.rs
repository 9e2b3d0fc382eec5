//! The registry of scenarios.
//!
//! # Invariants
//! - A scenario's name is a path; no name is the path above another one.

use std::ffi::OsString;

use crate::end::End;
use crate::report::Tally;
use crate::run::Run;

pub mod groove;
pub mod hostile;
pub mod instructions;
pub mod kill;
pub mod roundtrip;
pub mod sched;
pub mod user_model;

/// One scenario.
#[derive(Debug)]
pub struct Scenario {
    /// Its path, such as `wksp/roundtrip`.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// What one iteration is.
    pub unit: &'static str,
    /// Whether it needs a build with `--cfg outlast_probes`.
    pub needs_probes: bool,
    /// CPUs that it keeps busy and that no other job shall use meanwhile; more than there are means all.
    pub cpus: u32,
    /// Bytes that its regions and its processes may fill, where there is so much.
    pub memory_bytes: u64,
    /// Iterations that show within seconds that it works at all, and options to go with them: for `cargo test`. 0 if
    /// nothing is shown within seconds by a build that is not optimised.
    pub sample: (u64, &'static [&'static str]),
    /// Its options, if it has any.
    pub options: Option<fn() -> clap::Command>,
    /// Runs it, counting in the tally what it does.
    pub run: fn(&Run<'_>, &mut Tally) -> Result<(), End>,
}

/// Every scenario, in the order in which they run.
pub static ALL: &[Scenario] = &[
    roundtrip::SCENARIO,
    kill::SCENARIO,
    kill::at_probe::SCENARIO,
    hostile::SCENARIO,
    hostile::sweep::SCENARIO,
    instructions::SCENARIO,
    user_model::SCENARIO,
    groove::data::SCENARIO,
    groove::kill::SCENARIO,
    groove::hostile::SCENARIO,
    groove::header::SCENARIO,
    groove::volume::SCENARIO,
    groove::sweep::SCENARIO,
    sched::queue::SCENARIO,
    sched::runner::SCENARIO,
    sched::readiness::SCENARIO,
    sched::watch::SCENARIO,
];

impl Scenario {
    /// Whether `word` is its name or a leading part of its path.
    pub fn is_selected_by(&self, word: &str) -> bool {
        self.name.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The part of its name before the `/`.
    pub fn group(&self) -> &'static str {
        self.name.split('/').next().unwrap_or(self.name)
    }

    /// Why it cannot run in this build, if it cannot.
    pub fn missing(&self) -> Option<String> {
        let missing = self.needs_probes && !outlast_probe::ENABLED;
        missing.then(|| "needs probes, which this build has not: run it with `cargo xtask probes`".to_owned())
    }

    /// Whether it knows all of these options.
    ///
    /// # Errors
    /// What clap says of them.
    pub fn check_options(&self, words: &[OsString]) -> Result<(), clap::Error> {
        let command = match self.options {
            Some(command) => command(),
            None => clap::Command::new(self.name).disable_help_flag(true),
        };
        let name = OsString::from(self.name);
        command.try_get_matches_from(std::iter::once(name).chain(words.iter().cloned())).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths_and_unique() {
        for (index, scenario) in ALL.iter().enumerate() {
            assert!(scenario.name.split('/').count() == 2, "{}", scenario.name);
            for other in &ALL[index + 1..] {
                assert!(!other.is_selected_by(scenario.name) && !scenario.is_selected_by(other.name));
            }
        }
    }
}

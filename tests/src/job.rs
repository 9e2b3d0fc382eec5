//! `stress job`: one scenario in a process of its own, started by the runner in a sandbox.
//!
//! # Invariants
//! - It ends with the runner: the kernel kills it when the slot's thread is gone.
//! - Its verdict is in the sandbox, whole, before it exits; if it cannot be written the exit code is not 0.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use outlast_sched::{Outcome, Verdict};

use crate::end::End;
use crate::interrupt;
use crate::place::Place;
use crate::run::{Profile, Run, report};
use crate::scenario::{self, Scenario};

/// The first word of the command line that makes the binary a job.
pub const WORD: &str = "job";

/// The command line of a job, which the plan writes and only a job reads.
#[derive(Debug, Clone, Parser, PartialEq, Eq)]
#[command(name = "job", disable_help_flag = true, disable_version_flag = true)]
pub struct Arguments {
    /// The scenario.
    pub name: String,
    /// Seed.
    #[arg(long)]
    pub seed: u64,
    /// Exactly so many iterations.
    #[arg(long)]
    pub iters: Option<u64>,
    /// No iteration begins after so many milliseconds.
    #[arg(long)]
    pub millis: Option<u64>,
    /// How much to do where neither is given.
    #[arg(long, value_enum)]
    pub profile: Profile,
    /// The process that has started it.
    #[arg(long)]
    pub parent: i32,
    /// The directory in which relative paths among the options begin.
    #[arg(long)]
    pub base: PathBuf,
    /// Options of the scenario.
    #[arg(last = true)]
    pub options: Vec<OsString>,
}

impl Arguments {
    /// The words that parse to this, the first of them [`WORD`].
    pub fn words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec![WORD.into(), self.name.clone().into()];
        let mut option = |name: &str, value: OsString| words.extend([name.into(), value]);
        option("--seed", self.seed.to_string().into());
        self.iters.into_iter().for_each(|count| option("--iters", count.to_string().into()));
        self.millis.into_iter().for_each(|millis| option("--millis", millis.to_string().into()));
        option("--profile", self.profile.as_str().into());
        option("--parent", self.parent.to_string().into());
        option("--base", self.base.clone().into());
        if !self.options.is_empty() {
            words.push("--".into());
            words.extend(self.options.iter().cloned());
        }
        words
    }
}

/// Runs the job; `words` are those behind [`WORD`].
pub fn main(words: &[OsString]) -> ExitCode {
    let name = OsString::from(WORD);
    let arguments = match Arguments::try_parse_from(std::iter::once(name).chain(words.iter().cloned())) {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&format!("jobs are started by the runner: {error}")),
    };
    let Some(sandbox) = std::env::var_os("OUTLAST_SANDBOX").map(PathBuf::from) else {
        return refuse("jobs are started by the runner, in a sandbox");
    };
    let verdict = match begin(&arguments, &sandbox) {
        Ok(verdict) => verdict,
        Err(end) => early(&arguments, &end),
    };
    println!("{}", verdict.text);
    match write(&verdict, &sandbox) {
        Ok(()) => ExitCode::from(outlast_sched::exit_code([verdict.outcome])),
        Err(error) => {
            eprintln!("stress: cannot write the verdict into {}: {error}", sandbox.display());
            ExitCode::from(100)
        }
    }
}

fn refuse(text: &str) -> ExitCode {
    eprintln!("stress: {}", text.trim_end());
    ExitCode::from(2)
}

fn begin(arguments: &Arguments, sandbox: &Path) -> Result<Verdict, End> {
    let begin = Instant::now();
    set_pdeathsig(Signal::SIGKILL).map_err(|error| End::Failed(format!("prctl: {error}")))?;
    if getppid().as_raw() != arguments.parent {
        return Err(End::Interrupted);
    }
    let stop = interrupt::install().map_err(End::Failed)?;
    let scenario = named(&arguments.name)?;
    let enter = |error| End::Failed(format!("entering {}: {error}", arguments.base.display()));
    std::env::set_current_dir(&arguments.base).map_err(enter)?;
    let program = std::env::current_exe().map_err(|error| End::Failed(format!("no own program: {error}")))?;
    let place = Place::open_default(arguments.seed)?.with_images_in(sandbox.to_owned());
    let run = Run {
        seed: arguments.seed,
        iterations: arguments.iters,
        deadline: arguments.millis.map(|millis| begin + Duration::from_millis(millis)),
        profile: arguments.profile,
        options: &arguments.options,
        program: &program,
        place: &place,
        directory: sandbox,
        stop: &stop,
    };
    Ok(report(scenario, &run).verdict())
}

fn named(name: &str) -> Result<&'static Scenario, End> {
    let found = scenario::ALL.iter().find(|scenario| scenario.name == name);
    found.ok_or_else(|| End::Usage(format!("there is no scenario {name}")))
}

/// The verdict of a job that did not get as far as its scenario.
fn early(arguments: &Arguments, end: &End) -> Verdict {
    let outcome = match end {
        End::Failed(_) => Outcome::Failed,
        End::Inconclusive(_) => Outcome::Inconclusive,
        End::Skipped(_) => Outcome::Skipped,
        End::Usage(_) => Outcome::Usage,
        End::Interrupted => Outcome::Interrupted,
    };
    let text = format!("{outcome:12}  {}  {end}", arguments.name);
    let reason = Some(end.to_string());
    Verdict { outcome, reason, text, report: serde_json::Value::Null, replay: None, schedule: None }
}

/// Beside its name first, so that nobody reads half of it.
fn write(verdict: &Verdict, sandbox: &Path) -> io::Result<()> {
    let bytes = serde_json::to_vec(verdict)?;
    let beside = sandbox.join("verdict.json.part");
    std::fs::write(&beside, bytes)?;
    std::fs::rename(beside, sandbox.join("verdict.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_job_are_read_back() {
        let full = Arguments {
            name: "wksp/roundtrip".into(),
            seed: u64::MAX,
            iters: Some(3),
            millis: Some(250),
            profile: Profile::Full,
            parent: 42,
            base: "/some where".into(),
            options: vec!["--path".into(), "a b".into()],
        };
        let bare = Arguments { iters: None, millis: None, options: Vec::new(), ..full.clone() };
        for arguments in [full, bare] {
            let words = arguments.words();
            assert_eq!(words[0], WORD);
            assert_eq!(Arguments::try_parse_from(words).unwrap(), arguments);
        }
    }
}

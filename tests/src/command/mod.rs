//! The `stress` command: what it is asked for, the run, the report.
//!
//! # Invariants
//! - Whatever is wrong with the command line is found before anything runs, and exits with 2.
//! - A sink that fails is told of at the end and spoils nothing else.

mod arguments;
mod plan;
mod regions;
mod selection;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use outlast_sched::{
    Expectation, History, HistorySink, Html, JUnit, Job, JsonLines, Progress, RunError, Settings, Shard,
    Sink, Stop, Terminal, TerminalOptions,
};

use self::arguments::{Arguments, listing};
use self::plan::Setting;
use self::regions::Regions;
use crate::end::End;
use crate::job;
use crate::place::Place;
use crate::probes;
use crate::scenario;
use crate::worker;

/// So many jobs or fewer are told of in full when they pass.
const DETAILED_JOBS: usize = 16;

/// So many directories of earlier runs stay.
const RUNS_KEPT: usize = 50;

/// What the command line asks for.
#[derive(Debug)]
enum Ending {
    /// Print this and exit with 0.
    Shown(String),
    /// Print this on stderr and exit with the code.
    Refused(u8, String),
}

impl Ending {
    fn failed(text: impl std::fmt::Display) -> Self {
        Self::Refused(100, format!("stress: {text}"))
    }

    fn usage(text: impl std::fmt::Display) -> Self {
        Self::Refused(2, format!("stress: {text}"))
    }

    fn from_clap(error: clap::Error) -> Self {
        match error.exit_code() {
            0 => Self::Shown(error.to_string()),
            _ => Self::Refused(2, error.to_string()),
        }
    }
}

impl From<End> for Ending {
    fn from(end: End) -> Self {
        Self::failed(end)
    }
}

/// Runs the command; `words` are the arguments without the program's name.
pub fn main(words: Vec<OsString>) -> ExitCode {
    match words.first().and_then(|word| word.to_str()) {
        Some("worker") => return worker::role::main(&words[1..]),
        Some(job::WORD) => return job::main(&words[1..]),
        Some(scenario::instructions::CHILD) => {
            let words: Vec<String> =
                words[1..].iter().map(|word| word.to_string_lossy().into_owned()).collect();
            return crate::sweep::child::main(&words);
        }
        Some("probes-table") => return probes::main(&words[1..]),
        _ => {}
    }
    let ended = match words.first() {
        Some(word) if word == "merge" => merge(&words[1..]),
        _ => stress(words),
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(Ending::Shown(text)) => {
            // Who closes the pipe has seen enough.
            match std::io::stdout().write_all(text.as_bytes()) {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    say(std::io::stderr(), format_args!("stress: standard output: {error}"));
                    ExitCode::from(100)
                }
                _ => ExitCode::SUCCESS,
            }
        }
        Err(Ending::Refused(code, text)) => {
            say(std::io::stderr(), text.trim_end());
            ExitCode::from(code)
        }
    }
}

fn stress(words: Vec<OsString>) -> Result<u8, Ending> {
    let arguments = arguments::parse(words)?;
    let base = std::env::current_dir().map_err(Ending::failed)?;
    let root = plan::root(&base);
    let (history, problems) =
        History::load(&root.join("history.jsonl")).map_err(|error| elsewhere(&error))?;
    for problem in problems {
        say(std::io::stderr(), format_args!("stress: history: {problem}"));
    }
    if arguments.history {
        let is_below = |path: &str, name: &str| {
            name.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let paths = &arguments.scenarios;
        let wanted = |_: &str, name: &str| paths.is_empty() || paths.iter().any(|path| is_below(path, name));
        return Err(Ending::Shown(history.show(wanted)));
    }
    let selected = selection::select(&arguments, &history.failures())?;
    if arguments.list {
        return Err(Ending::Shown(selected.iter().map(|one| listing(one.scenario)).collect()));
    }
    let seed = arguments.seed.unwrap_or_else(fresh_seed);
    let domain = Place::default_path();
    regions::take_away_orphans(&domain)?;
    let place = Place::open(domain, seed)?;
    let memory_bytes = room(&place)?;
    let program = std::env::current_exe()
        .map_err(|error| Ending::failed(format!("cannot find this program: {error}")))?;
    let cpus = outlast_sched::allowed_cpus().map_err(Ending::failed)?;
    let setting = Setting {
        arguments: &arguments,
        seed,
        program: &program,
        base: &base,
        cpus: cpus.len() as u32,
        memory_bytes,
    };
    let jobs = setting.jobs(&selected).map_err(Ending::failed)?;
    let whole = plan::digest(&jobs);
    let jobs = match arguments.shard {
        Some(shard) => shard.select(jobs),
        None => jobs,
    };
    let expectations: Vec<Expectation> =
        jobs.iter().map(|job| history.expectation(&job.group, &job.name)).collect();
    let settings =
        Settings { whole: Some(whole), ..settings(&arguments, &root, seed, memory_bytes, cpus.len() as u32) };
    let stop = stop_on_interrupt()?;
    let sinks = sinks(&arguments, &root, &place, &jobs)?;
    announce(&jobs, &settings);
    let report = outlast_sched::run(jobs, expectations, &settings, sinks, &stop).map_err(refused)?;
    for error in &report.sink_errors {
        say(std::io::stderr(), format_args!("stress: {error}"));
    }
    let page = report.directory.join("report.html");
    say(std::io::stdout(), format_args!("report: {}", page.display()));
    match report.summary.exit_code {
        0 if !report.sink_errors.is_empty() => Ok(100),
        code => Ok(code),
    }
}

/// A run that did not begin, with the way out where there is one.
fn refused(error: RunError) -> Ending {
    match error {
        RunError::Directory { .. } => elsewhere(&error),
        RunError::OutputTo { .. } => Ending::usage(error),
        error => Ending::failed(error),
    }
}

/// The directory of sandboxes and history is no good.
fn elsewhere(error: &dyn std::error::Error) -> Ending {
    Ending::failed(format!("{error}: set OUTLAST_STRESS_DIR to a directory that you may write to"))
}

/// Makes one report of several run directories.
fn merge(words: &[OsString]) -> Result<u8, Ending> {
    let arguments = arguments::parse_merge(words)?;
    let merged = outlast_sched::merge(&arguments.directories).map_err(Ending::usage)?;
    let options = TerminalOptions::for_stdout();
    let mut sinks: Vec<Box<dyn Sink>> = vec![Box::new(Terminal::new(Box::new(std::io::stdout()), options))];
    let lanes = merged.lanes().to_vec();
    files(&mut sinks, (&arguments.json, &arguments.junit, &arguments.html), lanes)?;
    let mut sinks: Vec<&mut dyn Sink> = sinks.iter_mut().map(|sink| &mut **sink as &mut dyn Sink).collect();
    let told = merged.replay(&mut sinks);
    for note in merged.notes() {
        say(std::io::stderr(), format_args!("stress: {note}"));
    }
    told.map_err(Ending::failed)?;
    Ok(merged.run().summary.as_ref().map_or(100, |summary| summary.exit_code))
}

fn settings(arguments: &Arguments, root: &Path, seed: u64, memory_bytes: u64, cpus: u32) -> Settings {
    Settings {
        slots: arguments.slots.unwrap_or(cpus.clamp(1, 256)),
        root: root.join("runs"),
        keep: arguments.keep,
        output_to: arguments.output_to.clone(),
        trace: arguments.trace,
        seed,
        profile: arguments.profile.as_str().to_owned(),
        shard: arguments.shard.map(Shard::parts),
        commit: commit(),
        memory_bytes: Some(memory_bytes),
        runs_kept: Some(RUNS_KEPT),
        ..Settings::default()
    }
}

/// What was built, as `cargo xtask` says.
fn commit() -> Option<String> {
    std::env::var("OUTLAST_COMMIT").ok().filter(|commit| !commit.is_empty())
}

/// Where everything that happens goes.
fn sinks(
    arguments: &Arguments,
    root: &Path,
    place: &Place,
    jobs: &[Job],
) -> Result<Vec<Box<dyn Sink>>, Ending> {
    // First of all: what a job has left behind is gone, or in its sandbox, when the others are told of its end.
    let mut sinks: Vec<Box<dyn Sink>> = vec![Box::new(Regions::new(place.domain().clone()))];
    let progress = Progress::new();
    let options = TerminalOptions { details: jobs.len() <= DETAILED_JOBS, ..TerminalOptions::for_stdout() };
    sinks.push(Box::new(Terminal::new(progress.beside(Box::new(std::io::stdout())), options)));
    sinks.push(Box::new(progress));
    sinks.push(Box::new(HistorySink::new(root.join("history.jsonl"), commit())));
    sinks.push(Box::new(Html::in_run_directory()));
    files(&mut sinks, (&arguments.json, &arguments.junit, &arguments.html), Vec::new())?;
    if arguments.notify {
        sinks.push(notification()?);
    }
    Ok(sinks)
}

#[cfg(feature = "notify")]
fn notification() -> Result<Box<dyn Sink>, Ending> {
    Ok(Box::new(outlast_sched::Notify::new()))
}

#[cfg(not(feature = "notify"))]
fn notification() -> Result<Box<dyn Sink>, Ending> {
    Err(Ending::usage("--notify: this build has no notifications: build it with `--features notify`"))
}

/// The sinks that write the files which were asked for; those that cannot be written are refused before anything runs.
fn files(
    sinks: &mut Vec<Box<dyn Sink>>,
    (json, junit, html): (&Option<PathBuf>, &Option<PathBuf>, &Option<PathBuf>),
    lanes: Vec<String>,
) -> Result<(), Ending> {
    let refused = |option: &str, path: &Path, error: std::io::Error| {
        Ending::usage(format!("{option} {}: {error}", path.display()))
    };
    if let Some(path) = json {
        sinks.push(Box::new(JsonLines::create(path).map_err(|error| refused("--json", path, error))?));
    }
    if let Some(path) = junit {
        parent_exists(path).map_err(|error| refused("--junit", path, error))?;
        sinks.push(Box::new(JUnit::new(path)));
    }
    if let Some(path) = html {
        parent_exists(path).map_err(|error| refused("--html", path, error))?;
        sinks.push(Box::new(Html::new(path).with_lanes(lanes)));
    }
    Ok(())
}

/// Whether a file can appear under this path at the end of a run, as far as can be told before.
fn parent_exists(path: &Path) -> std::io::Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) if !parent.metadata()?.is_dir() => Err(std::io::ErrorKind::NotADirectory.into()),
        _ => Ok(()),
    }
}

/// A line for whoever looks. That nobody can be told is no reason to lose a run: its exit code and its reports are
/// there all the same.
fn say(mut out: impl std::io::Write, text: impl std::fmt::Display) {
    let _ = writeln!(out, "{text}");
}

fn announce(jobs: &[Job], settings: &Settings) {
    let count = jobs.len();
    let noun = if count == 1 { "scenario" } else { "scenarios" };
    let slots = settings.slots;
    let slot = if slots == 1 { "slot" } else { "slots" };
    let Settings { profile, seed, .. } = settings;
    let text = format_args!("stress: {count} {noun} on {slots} {slot}, profile {profile}, seed {seed}");
    say(std::io::stdout(), text);
}

/// Bytes that all regions and processes of a run may fill.
fn room(place: &Place) -> Result<u64, Ending> {
    let space = place.domain().space().map_err(Ending::failed)?;
    let limits = [Some(space.available_bytes), space.control_group_bytes, space.memory_bytes];
    Ok(limits.into_iter().flatten().min().unwrap_or(0))
}

/// Asks the run to end on SIGINT, SIGTERM and SIGHUP.
fn stop_on_interrupt() -> Result<Stop, Ending> {
    let stop = Stop::new().map_err(Ending::failed)?;
    let flag = stop.clone();
    ctrlc::set_handler(move || flag.request())
        .map_err(|error| Ending::failed(format!("cannot take over Ctrl-C: {error}")))?;
    Ok(stop)
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

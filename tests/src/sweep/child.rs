//! The process that makes the call: how it is started and what it does.
//!
//! Its region is its standard input, its only argument the call. It asks to be traced, raises SIGSTOP, makes the
//! call, raises SIGSTOP again and prints what the call returned.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};

use super::operation::Operation;
use super::report::Failure;

/// Exit code of a child that may not be traced.
pub(super) const DENIED: i32 = 77;

/// Names the program that plays the child.
const PROGRAM_VARIABLE: &str = "OUTLAST_SWEEP_CHILD";

/// How to start the child: a program, and the arguments before the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// A program that takes the call as its argument after `arguments` and runs [`main`].
    pub fn new(path: impl Into<PathBuf>, arguments: &[&str]) -> Self {
        Self { path: path.into(), arguments: arguments.iter().map(OsString::from).collect() }
    }

    /// What `OUTLAST_SWEEP_CHILD` names, else the `sweep_child` beside this program.
    ///
    /// # Errors
    /// [`Failure::NoProgram`].
    pub fn find() -> Result<Self, Failure> {
        if let Some(path) = std::env::var_os(PROGRAM_VARIABLE) {
            return Ok(Self::new(path, &[]));
        }
        let here =
            std::env::current_exe().map_err(|error| Failure::NoProgram { reason: error.to_string() })?;
        let path = here.with_file_name("sweep_child");
        if path.is_file() {
            return Ok(Self::new(path, &[]));
        }
        let reason = format!("there is no {} and {PROGRAM_VARIABLE} names none", path.display());
        Err(Failure::NoProgram { reason })
    }

    /// The program's file.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The program with other arguments after its own.
    pub(super) fn command_with(&self, arguments: &[OsString]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).args(arguments);
        command
    }

    pub(super) fn command(&self, operation: &Operation) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).arg(operation.to_string());
        command
    }
}

/// Plays the child: `arguments` is the call, standard input the region.
pub fn main(arguments: &[String]) -> ExitCode {
    match play(arguments) {
        Ok(code) => code,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn play(arguments: &[String]) -> Result<ExitCode, String> {
    if let [word, rest @ ..] = arguments
        && word == super::groove::WORD
    {
        return super::groove::play(rest);
    }
    let [operation] = arguments else { return Err("the call is the only argument".to_owned()) };
    let operation: Operation = operation.parse()?;
    let region =
        io::stdin().as_fd().try_clone_to_owned().map_err(|error| format!("standard input: {error}"))?;
    let prepared = operation.prepare(region)?;
    if let Err(errno) = ptrace::traceme() {
        eprintln!("ptrace: {errno}");
        return Ok(ExitCode::from(DENIED as u8));
    }
    raise(Signal::SIGSTOP).map_err(|errno| format!("raise: {errno}"))?;
    let made = operation.perform(prepared);
    raise(Signal::SIGSTOP).map_err(|errno| format!("raise: {errno}"))?;
    let (outcome, _wksp) = made?;
    println!("{outcome}");
    Ok(ExitCode::SUCCESS)
}

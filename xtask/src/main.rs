//! `cargo xtask`: builds and drives everything of this repository that plain cargo cannot.
//!
//! It depends on no crate of the workspace: it starts cargo and the workspace's own binaries as child
//! processes, each build with the flags and the target directory that belong to it ([`cargo`]).
//!
//! # Invariants
//! - A build with other compiler flags never shares a target directory with the normal one.
//! - Only [`snapshot`] sets environment variables of insta; every other command removes them.

#![forbid(unsafe_code)]

mod cargo;
mod ci;
mod failure;
mod flags;
mod interrupt;
mod launch;
mod lexer;
mod snapshot;
mod tidy;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use failure::Failure;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let command = words.next().unwrap_or_else(|| "help".into());
    let rest: Vec<OsString> = words.collect();
    match interrupt::install().and_then(|()| dispatch(&command.to_string_lossy(), rest)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.code())
        }
    }
}

fn dispatch(command: &str, rest: Vec<OsString>) -> Result<(), Failure> {
    match command {
        "ci" => ci::run(&flags::parse("ci", rest)?),
        "tidy" => tidy::run(&flags::parse("tidy", rest)?),
        "snapshot" => snapshot::run(&flags::parse("snapshot", rest)?),
        "stress" => launch::stress(&rest),
        "bench" => launch::bench(&rest),
        "probes" => launch::probes(&rest),
        "help" | "--help" | "-h" => {
            print!("{}", flags::HELP);
            Ok(())
        }
        unknown => Err(Failure::Usage(format!("there is no command `{unknown}`\n\n{}", flags::HELP))),
    }
}

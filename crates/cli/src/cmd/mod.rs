//! What the commands do: one module for each family, one function for each command.
//!
//! # Invariants
//! - A command prints exactly one answer, or fails. Verify and info do both when what they show is damage, and
//!   watch prints one answer after the other.

mod checkpt;
mod region;
mod watch;
mod wksp;

use std::path::Path;

use clap::CommandFactory;
use outlast_shm::Domain;

use crate::args::{Command, Global, Outlast};
use crate::exit::{Status, Table};
use crate::failure::Failure;
use crate::render::Screen;

/// Does what the command line says.
pub(crate) fn run(outlast: &Outlast, screen: Screen) -> Result<(), Failure> {
    match &outlast.command {
        Command::Wksp(command) => wksp::run(command, &outlast.global, screen),
        Command::Checkpt(command) => checkpt::run(command, screen),
        Command::Region(command) => region::run(command, &outlast.global, screen),
        Command::Watch(arguments) => watch::run(arguments, &outlast.global, screen),
        Command::ExitCodes => screen.print(&Table::new()),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Outlast::command(), "outlast", &mut script);
            screen.print_bytes(&script)
        }
        Command::Man { directory } => manual(directory),
    }
}

fn manual(directory: &Path) -> Result<(), Failure> {
    clap_mangen::generate_to(Outlast::command(), directory).map_err(|error| {
        Failure::new(Status::Failed, format!("manual pages in {}: {error}", directory.display()))
            .or_next("name an existing directory that you may write to")
    })
}

/// The directory of the regions, for a command that makes one.
fn domain(global: &Global) -> Result<Domain, Failure> {
    let domain = match &global.dir {
        Some(path) => Domain::open(path),
        None => Domain::open_default(),
    };
    Ok(domain?)
}

/// The directory of the regions, for a command that does not make one: a mistyped `--dir` is not made either.
fn existing_domain(global: &Global) -> Result<Domain, Failure> {
    match &global.dir {
        Some(path)
            if path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) =>
        {
            let failure = Failure::new(Status::NotFound, format!("domain {} does not exist", path.display()));
            Err(failure.or_next("`wksp new` and `wksp restore` make it"))
        }
        _ => domain(global),
    }
}

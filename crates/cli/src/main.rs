//! The `outlast` command: workspaces, checkpoints and regions from the command line.
//!
//! ```text
//! outlast wksp new prices --size 16MiB
//! outlast wksp alloc prices --size 4096 --tag 7        # prints prices:4096
//! outlast wksp fill prices:4096 0xab
//! outlast wksp checkpoint prices saved.ckpt --style zstd
//! outlast checkpt verify saved.ckpt
//! outlast wksp delete prices
//! outlast wksp restore prices saved.ckpt
//! outlast wksp partitions prices --json                # [{"gaddr":4096,"size":4096,"tag":7}]
//! ```
//!
//! Everything is done by the libraries; here is what turns arguments into calls, answers into text or JSON, and
//! errors into messages and exit codes.
//!
//! # Invariants
//! - Answers go to stdout, errors and progress to stderr; the exit code is 0 exactly if the command succeeded.
//! - Looking disturbs nobody: commands that only ask join read-only, or do not join at all, as long as that
//!   gives an answer.
//!
//! # What it does not do
//! It keeps no state and no configuration, talks to no service, and does nothing that a program cannot do through
//! the libraries. It cannot unlink what is not a region's file by name, nor decide that a live process is dead.

#![forbid(unsafe_code)]

mod args;
mod cmd;
mod exit;
mod failure;
mod progress;
mod render;
mod size;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::args::Outlast;
use crate::exit::Status;
use crate::failure::Failure;
use crate::render::Screen;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let status = match Outlast::try_parse_from(&words) {
        Ok(outlast) => run(&outlast),
        Err(error) => refuse(&words, &error),
    };
    ExitCode::from(status.code())
}

fn run(outlast: &Outlast) -> Status {
    let screen = Screen { json: outlast.global.json };
    match cmd::run(outlast, screen) {
        Ok(()) => Status::Ok,
        Err(failure) => {
            if failure.status != Status::Ok {
                screen.complain(&failure);
            }
            failure.status
        }
    }
}

/// Shows help and version, which the parser hands over as errors, and refuses everything else.
fn refuse(words: &[OsString], error: &clap::Error) -> Status {
    let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    // The parser did not get as far as telling.
    let json = words.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    if !is_help && json {
        let text = error.render().to_string();
        let message = text.trim_end();
        Screen { json }.complain(&Failure::usage(message.strip_prefix("error: ").unwrap_or(message)));
    } else {
        // Nobody is left to be told if that fails.
        let _ = error.print();
    }
    if is_help { Status::Ok } else { Status::Usage }
}

//! `cargo xtask stress`: runs scenarios, or one of the worker roles that a scenario starts.

use std::process::ExitCode;

fn main() -> ExitCode {
    outlast_tests::command::main(std::env::args_os().skip(1).collect())
}

//! The process that the instruction sweep steps through one call; see [`outlast_tests::sweep::child`].

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    outlast_tests::sweep::child::main(&arguments)
}

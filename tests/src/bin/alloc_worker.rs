//! A process with a known number of bytes, for whoever looks at allocators from outside.

use std::process::ExitCode;

fn main() -> ExitCode {
    outlast_tests::alloc_worker::main(std::env::args_os())
}

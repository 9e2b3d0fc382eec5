//! The command line of `alloc-worker`.
//!
//! # Invariants
//! - What is not known is refused.

use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Parser, ValueEnum};
use outlast_wksp::RegionName;

use super::Refusal;
use super::exit::Exit;

/// By what it says that it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Medium {
    /// A marker file; its path is printed by nothing: it is that of the protocol.
    Marker,
    /// The socket on standard input.
    Socket,
    /// The slot whose descriptor comes by the socket on standard input.
    Slot,
    /// Only the line on standard output.
    None,
}

impl Medium {
    /// Whether the runner's socket is on standard input.
    pub fn is_inherited(self) -> bool {
        matches!(self, Self::Socket | Self::Slot)
    }
}

/// Allocates BYTES bytes, touches every page of them, says that it is ready, and parks until SIGTERM.
#[derive(Debug, Clone, Parser)]
#[command(name = "alloc-worker", disable_version_flag = true, after_help = Exit::table())]
pub struct Arguments {
    /// Allocates in this workspace of the domain.
    #[arg(long, value_name = "NAME", requires = "dir", conflicts_with = "heap")]
    pub wksp: Option<RegionName>,
    /// Directory of the domain.
    #[arg(long, requires = "wksp")]
    pub dir: Option<PathBuf>,
    /// Allocates on its own heap, as without --wksp.
    #[arg(long)]
    pub heap: bool,
    /// Alignment in the workspace, a power of two.
    #[arg(long, value_name = "N", requires = "wksp", default_value_t = 64, value_parser = power_of_two)]
    pub align: u64,
    /// Tag in the workspace.
    #[arg(long, value_name = "N", requires = "wksp", default_value = "1")]
    pub tag: NonZeroU64,
    /// By what it says that it is ready.
    #[arg(long, default_value = "marker")]
    pub medium: Medium,
    /// Where procfs is, for tests.
    #[arg(long, hide = true, default_value = "/proc")]
    pub proc_root: PathBuf,
    /// Starts a thread, for tests.
    #[arg(long, hide = true)]
    pub extra_thread: bool,
    /// How many bytes.
    #[arg(value_name = "BYTES")]
    pub bytes: u64,
}

fn power_of_two(text: &str) -> Result<u64, String> {
    let number: u64 = text.parse().map_err(|error| format!("{error}"))?;
    if number.is_power_of_two() { Ok(number) } else { Err(format!("{number} is no power of two")) }
}

/// What a command line turned out to be.
#[derive(Debug)]
pub enum Parsed {
    /// Right.
    Right(Arguments),
    /// A call for help, and the text.
    Help(String),
    /// Wrong, and why.
    Wrong(Refusal),
}

impl Arguments {
    /// Reads a command line, whose first word is the program's name.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Parsed {
        match Self::try_parse_from(words) {
            Ok(Self { bytes: 0, .. }) => {
                Parsed::Wrong(Refusal::new(Exit::Zero, "BYTES is 0, expected at least 1"))
            }
            Ok(arguments) => Parsed::Right(arguments),
            Err(error) => match error.kind() {
                ErrorKind::DisplayHelp => Parsed::Help(error.to_string()),
                ErrorKind::MissingRequiredArgument if is_bytes_missing(&error) => {
                    Parsed::Wrong(Refusal::new(Exit::Missing, error))
                }
                _ => Parsed::Wrong(Refusal::new(Exit::BadArgument, error)),
            },
        }
    }
}

/// Whether it is BYTES that is missing, and not what another argument requires.
fn is_bytes_missing(error: &clap::Error) -> bool {
    use clap::error::{ContextKind, ContextValue};
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(names)) => names.iter().any(|name| name.contains("BYTES")),
        _ => false,
    }
}

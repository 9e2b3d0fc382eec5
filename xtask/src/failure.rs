//! How a command ends other than well, and the exit code that says so.

use std::path::Path;

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// Not a failure: the command line asked for a text, which is printed.
    Shown(String),
    /// A check failed or could not be made.
    Check(String),
    /// A build failed; the compiler has said why.
    Build(String),
    /// SIGINT or SIGTERM arrived.
    Interrupted,
}

impl Failure {
    /// An operation on a file that the system refused.
    pub(crate) fn file(doing: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::Check(format!("cannot {doing} {}: {error}", path.display()))
    }

    /// What the process exits with.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Shown(_) => 0,
            Self::Check(_) => 1,
            Self::Usage(_) => 2,
            Self::Build(_) => 101,
            Self::Interrupted => 130,
        }
    }

    /// Tells the user: on stderr, unless the text was asked for.
    pub(crate) fn print(&self) {
        match self {
            Self::Shown(text) => print!("{text}"),
            Self::Usage(text) => eprintln!("{}", text.trim_end()),
            Self::Check(text) | Self::Build(text) => eprintln!("xtask: {text}"),
            Self::Interrupted => eprintln!("xtask: interrupted"),
        }
    }
}

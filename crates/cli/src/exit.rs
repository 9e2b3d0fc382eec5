//! The one table of exit codes.
//!
//! # Invariants
//! - A code never changes its meaning: scripts branch on it. The table is pinned by a snapshot.

use core::fmt::Write;
use std::io;

use serde::Serialize;

use crate::render::Show;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Status {
    Ok,
    Failed,
    Usage,
    Damaged,
    NotFound,
    Busy,
    Interrupted,
}

impl Status {
    const ALL: [Self; 7] =
        [Self::Ok, Self::Failed, Self::Usage, Self::Damaged, Self::NotFound, Self::Busy, Self::Interrupted];

    /// The exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Damaged => 3,
            Self::NotFound => 4,
            Self::Busy => 5,
            Self::Interrupted => 130,
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done",
            Self::Failed => "the operation failed, and nothing was changed unless the message says so",
            Self::Usage => "the command line is wrong: an unknown command or option, or a value out of range",
            Self::Damaged => "a workspace, region or checkpoint is damaged, or verify found faults",
            Self::NotFound => "there is no such workspace, region, file or allocation",
            Self::Busy => "a live process holds the lock; the message names its pid",
            Self::Interrupted => "interrupted by Ctrl-C",
        }
    }
}

/// One line of the table.
#[derive(Debug, Serialize)]
struct Row {
    exit_code: u8,
    status: Status,
    meaning: &'static str,
}

/// All exit codes, for printing.
#[derive(Debug, Serialize)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    pub(crate) fn new() -> Self {
        let row = |status: Status| Row { exit_code: status.code(), status, meaning: status.meaning() };
        Self(Status::ALL.into_iter().map(row).collect())
    }
}

impl Show for Table {
    fn text(&self, out: &mut dyn io::Write) -> io::Result<()> {
        writeln!(out, "{}", help())
    }
}

/// The table as the end of `--help` shows it.
pub(crate) fn help() -> String {
    let mut text = String::from("Exit codes:");
    for status in Status::ALL {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n  {:<5}{}", status.code(), status.meaning());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        insta::assert_snapshot!(help());
        insta::assert_json_snapshot!(Table::new());
    }
}

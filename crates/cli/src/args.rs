//! The command line: every command, argument and option, and nothing of what they do.
//!
//! # Invariants
//! - A value is parsed to its type here, strictly; commands never see text that could still be wrong.
//! - `--json` and `--dir` are taken before and after the command alike.

use core::time::Duration;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand};
use clap_complete::Shell;
use outlast_shm::{PageSize, RegionName};
use outlast_wksp::{Address, Style};

use crate::{exit, size};

/// Heading of the options that every command of a family takes.
const COMMON: &str = "Common options";

/// Memory that outlasts the process that wrote it: workspaces, checkpoints and regions.
#[derive(Debug, Parser)]
#[command(name = "outlast", version, after_help = exit::help(), max_term_width = 100)]
pub(crate) struct Outlast {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Print the answer to stdout, and an error to stderr, as one line of JSON
    #[arg(long, global = true, help_heading = COMMON)]
    pub(crate) json: bool,
    /// Directory of the regions [default: $OUTLAST_DIR, else /dev/shm/outlast-UID]
    #[arg(long, global = true, value_name = "PATH", help_heading = COMMON)]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Workspaces: make, look into, change, save and bring back
    Wksp(Wksp),
    /// Checkpoint files: look into and verify
    #[command(subcommand)]
    Checkpt(Checkpt),
    /// Regions: the files that workspaces live in
    #[command(subcommand)]
    Region(Region),
    /// Watch a workspace while it is used: what every process in it has allocated and freed
    ///
    /// Joins read-only, waits for nobody and stops nobody. Ctrl-C ends it with exit code 0 and what there is, even
    /// before the first snapshot. With --json each snapshot is a line, and a last line says how many there were
    /// and whether it was interrupted; an error takes its place.
    Watch(Watch),
    /// Print the table of exit codes
    #[command(hide = true, after_help = exit::help())]
    ExitCodes,
    /// Print a completion script for a shell
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write a manual page for every command
    #[command(hide = true)]
    Man {
        /// Existing directory to write them to
        directory: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The workspace
    #[arg(required_unless_present = "compare")]
    pub(crate) name: Option<RegionName>,
    /// Time from one snapshot to the next, such as 500ms, 1s or 2min
    #[arg(long, value_name = "TIME", value_parser = size::interval, default_value = "1s")]
    pub(crate) interval: Duration,
    /// Snapshots to take, the first of them at once [default: until Ctrl-C]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Compare the last snapshots of two files that --json has printed before
    #[arg(long, num_args = 2, value_names = ["BEFORE", "AFTER"], conflicts_with_all = ["name", "count", "interval"])]
    pub(crate) compare: Option<Vec<PathBuf>>,
    /// Mark changes of at least this much, such as 1, 4K or 1MiB, that also reach --min-percent
    #[arg(long, conflicts_with = "name", value_name = "SIZE", value_parser = size::bytes, default_value = "1")]
    pub(crate) min_change: u64,
    /// Mark changes of at least this part of the earlier value that also reach --min-change
    #[arg(long, conflicts_with = "name", value_name = "PERCENT", value_parser = size::percent, default_value = "0")]
    pub(crate) min_percent: f64,
}

/// The workspace commands and their common option.
#[derive(Debug, Args)]
pub(crate) struct Wksp {
    /// How long to wait for the lock of a live process, such as 500ms, 10s or 2min
    #[arg(long, global = true, value_name = "TIME", value_parser = size::time, default_value = "10s")]
    #[arg(help_heading = COMMON)]
    pub(crate) timeout: Duration,
    #[command(subcommand)]
    pub(crate) command: WkspCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WkspCommand {
    /// Make a workspace; its memory is reserved at once
    New(New),
    /// Take a workspace's name away; processes that have joined it keep their memory until they leave
    Delete {
        /// The workspace
        name: RegionName,
    },
    /// List the workspaces
    List,
    /// Show what there is to know about a workspace: size, use, lock, joiners
    Info {
        /// The workspace
        name: RegionName,
    },
    /// Allocate; the last line of the answer is the address, NAME:GADDR
    Alloc(Alloc),
    /// Free the allocation that holds the byte at an address
    Free {
        /// The workspace and the address in it, as `alloc` printed it or further on
        #[arg(value_name = "NAME:GADDR")]
        address: Address,
    },
    /// Fill all of the allocation that holds the byte at an address
    Fill {
        /// The workspace and the address in it, as `alloc` printed it or further on
        #[arg(value_name = "NAME:GADDR")]
        address: Address,
        /// 0 to 255, or 0x00 to 0xff
        #[arg(value_parser = size::byte)]
        byte: u8,
    },
    /// Print the tag of the allocation that holds the byte at an address
    Tag {
        /// The workspace and the address in it, as `alloc` printed it or further on
        #[arg(value_name = "NAME:GADDR")]
        address: Address,
    },
    /// Free every allocation that has one of the tags
    TagFree {
        /// The workspace
        name: RegionName,
        /// Tags, each at least 1
        #[arg(required = true, value_name = "TAG", value_parser = size::tag)]
        tags: Vec<u64>,
    },
    /// List the allocations in address order
    Partitions {
        /// The workspace
        name: RegionName,
    },
    /// Show how full a workspace is
    Usage {
        /// The workspace
        name: RegionName,
        /// Count the allocations with this tag apart (may be given several times)
        #[arg(long = "tag", value_name = "TAG", value_parser = size::tag)]
        tags: Vec<u64>,
    },
    /// Check every rule of the layout and list every fault
    Verify {
        /// The workspace
        name: RegionName,
    },
    /// Make the index anew from the allocations, which are kept
    Rebuild(Seeded),
    /// End every allocation at once, however damaged the tables are
    Reset(Seeded),
    /// Save every allocation to a new file, published whole or not at all
    Checkpoint(Checkpoint),
    /// Replace everything in a workspace by what a checkpoint holds; make the workspace if there is none
    Restore(Restore),
}

#[derive(Debug, Args)]
pub(crate) struct New {
    /// The workspace
    pub(crate) name: RegionName,
    /// Bytes that allocations share, such as 4096, 64K, 16MiB or 2GiB; rounded up to pages
    #[arg(long, value_parser = size::bytes)]
    pub(crate) size: u64,
    /// Permission bits of the file, exact whatever the umask
    #[arg(long, value_parser = size::mode, default_value = "0600")]
    pub(crate) mode: u32,
    /// Slots (one for every allocation and every hole) to reserve at once [default: one for 16 KiB]
    #[arg(long, value_parser = size::number)]
    pub(crate) slots: Option<u64>,
    /// normal; huge and gigantic are not supported yet
    #[arg(long, value_name = "SIZE", default_value = "normal")]
    pub(crate) page_size: PageSize,
    /// Seed of the index
    #[arg(long, value_parser = size::seed, default_value = "0")]
    pub(crate) seed: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Alloc {
    /// The workspace
    pub(crate) name: RegionName,
    /// Bytes to allocate, such as 4096, 64K or 1MiB
    #[arg(long, value_parser = size::bytes)]
    pub(crate) size: u64,
    /// What to call it, at least 1
    #[arg(long, value_parser = size::tag)]
    pub(crate) tag: u64,
    /// A power of two that the address is a multiple of
    #[arg(long, value_parser = size::align, default_value_t = outlast_wksp::DEFAULT_ALIGN)]
    pub(crate) align: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Seeded {
    /// The workspace
    pub(crate) name: RegionName,
    /// Seed of the new index
    #[arg(long, value_parser = size::seed, default_value = "0")]
    pub(crate) seed: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Checkpoint {
    /// The workspace
    pub(crate) name: RegionName,
    /// The file to make; it must not exist
    pub(crate) path: PathBuf,
    /// How the bytes are stored: raw, lz4, zstd, or auto (LZ4 where it saves something)
    #[arg(long, default_value_t = Style::Auto)]
    pub(crate) style: Style,
    /// Threads to use; the file does not depend on it [default: one for each core]
    #[arg(long, value_name = "N", value_parser = size::threads)]
    pub(crate) threads: Option<usize>,
    /// Permission bits of the file, exact whatever the umask
    #[arg(long, value_parser = size::mode, default_value = "0600")]
    pub(crate) mode: u32,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("where"))]
pub(crate) struct Restore {
    /// The workspace
    pub(crate) name: RegionName,
    /// The checkpoint
    pub(crate) path: PathBuf,
    /// Threads to use [default: one for each core]
    #[arg(long, value_name = "N", value_parser = size::threads)]
    pub(crate) threads: Option<usize>,
    /// Into the workspace as it is: its joiners stay, and the file is checked whole before
    #[arg(long, group = "where")]
    pub(crate) in_place: bool,
    /// Into a fresh one that takes over the name when it is complete; nobody may have joined the old one
    #[arg(long, group = "where")]
    pub(crate) fresh: bool,
    /// Seed of the index [default: the checkpoint's]
    #[arg(long, value_parser = size::seed)]
    pub(crate) seed: Option<u32>,
    /// Size of a fresh workspace [default: that of the old one, else the checkpoint's]
    #[arg(long, value_parser = size::bytes, conflicts_with = "in_place")]
    pub(crate) size: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Checkpt {
    /// Show what a checkpoint holds; reads its tables, never its chunks
    Inspect {
        /// The checkpoint
        path: PathBuf,
        /// List the allocations too
        #[arg(long)]
        partitions: bool,
        /// List the chunks too
        #[arg(long)]
        chunks: bool,
    },
    /// Read every byte of a checkpoint, check it, and list every fault
    Verify {
        /// The checkpoint
        path: PathBuf,
        /// Threads to use [default: one for each core]
        #[arg(long, value_name = "N", value_parser = size::threads)]
        threads: Option<usize>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Region {
    /// List every entry of the directory, what is not a region with the reason
    List,
    /// Show what there is to know about a region without joining it
    Info {
        /// The region
        name: RegionName,
    },
    /// Remove a region's file, damaged or not; processes that have joined it keep their memory
    Unlink {
        /// The region
        name: RegionName,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Outlast::command().debug_assert();
    }
}

//! Options of the round trip, given after `--`.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Parser;
use outlast_wksp::{PageSize, RegionName};

use super::check::Canary;
use crate::end::End;

/// Options of `wksp/roundtrip`.
#[derive(Debug, Clone, Parser)]
#[command(name = "wksp/roundtrip", disable_version_flag = true)]
pub struct Options {
    /// The checkpoint; one that exists is removed. Default: a file in the sandbox of the run.
    #[arg(long, value_name = "FILE")]
    pub path: Option<PathBuf>,
    /// Permission bits of the checkpoint and of the region, octal.
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = parse_mode)]
    pub mode: u32,
    /// Keep the last checkpoint.
    #[arg(long)]
    pub keep: bool,
    /// Threads that fill, wipe and check; checkpoint and restore take a random number up to it. Default: cores.
    #[arg(long, value_name = "N")]
    pub worker_cnt: Option<NonZeroUsize>,
    /// Attach to this workspace, reset it, and leave it in place. Default: regions of its own.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["page_sz", "page_cnt", "near_cpu"])]
    pub wksp: Option<RegionName>,
    /// Page size of the regions: normal, huge or gigantic.
    #[arg(long, value_name = "SIZE", default_value = "normal")]
    pub page_sz: PageSize,
    /// Pages of each workspace. Default: 512 MiB of them, or as many as there is room for.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub page_cnt: Option<u64>,
    /// A CPU near which the pages should lie, or `current`. Default: current.
    #[arg(long, value_name = "CPU", value_parser = parse_cpu)]
    pub near_cpu: Option<Cpu>,
    /// Round trips. Default: 100, or what fits the quick profile.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub iter_max: Option<u64>,
    /// Seed. Default: that of the run.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Break what was restored, to see that the check notices.
    #[arg(long, value_enum, default_value_t = Canary::None, hide = true)]
    pub canary: Canary,
}

/// Where pages shall lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cpu {
    /// Where the process runs: nothing to be asked for.
    Current,
    /// Near this one.
    Number(u32),
}

impl Options {
    /// Reads the words after `--`.
    ///
    /// # Errors
    /// [`End::Usage`] with what clap says.
    pub fn read(words: &[OsString]) -> Result<Self, End> {
        let name = OsString::from("wksp/roundtrip");
        Self::try_parse_from(std::iter::once(name).chain(words.iter().cloned()))
            .map_err(|error| End::Usage(error.to_string().trim_end().to_owned()))
    }

    /// Where the checkpoint goes.
    pub fn path(&self, directory: &Path, seed: u64) -> PathBuf {
        self.path.clone().unwrap_or_else(|| {
            directory.join(format!("outlast-stress-{}-{seed:08x}.checkpt", std::process::id()))
        })
    }

    /// The CPU that pages have to be near to, if any.
    pub fn near_cpu(&self) -> Option<u32> {
        match self.near_cpu {
            Some(Cpu::Number(cpu)) => Some(cpu),
            Some(Cpu::Current) | None => None,
        }
    }
}

fn parse_mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("expected octal permission bits up to 777, such as 0600, found {text:?}"))
}

fn parse_cpu(text: &str) -> Result<Cpu, String> {
    match text {
        "current" => Ok(Cpu::Current),
        number => number
            .parse()
            .map(Cpu::Number)
            .map_err(|_| format!("expected a number or current, found {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Options, End> {
        Options::read(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_defaults_are_those_of_the_prior_art() {
        let options = read(&[]).unwrap();
        assert_eq!((options.mode, options.keep, options.page_sz), (0o600, false, PageSize::Normal));
        assert_eq!(
            (options.worker_cnt, options.wksp, options.page_cnt, options.near_cpu()),
            (None, None, None, None)
        );
        assert_eq!(options.canary, Canary::None);
        let directory = Path::new("files");
        assert_ne!(options.path(directory, 1), options.path(directory, 2));
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        for words in [
            &["--mode", "0888"][..],
            &["--mode", "1777"],
            &["--worker-cnt", "0"],
            &["--page-cnt", "0"],
            &["--page-sz", "large"],
            &["--near-cpu", "x"],
            &["--wksp", "a b"],
            &["--wksp", "a", "--page-cnt", "1"],
            &["--iter-max", "0"],
            &["--seed", "-1"],
            &["--keep", "1"],
            &["--unknown"],
        ] {
            assert!(matches!(read(words), Err(End::Usage(_))), "{words:?}");
        }
        assert_eq!(read(&["--near-cpu", "current"]).unwrap().near_cpu(), None);
        assert_eq!(read(&["--near-cpu", "3"]).unwrap().near_cpu(), Some(3));
    }
}

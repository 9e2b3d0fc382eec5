//! Options of the traffic, given after `--`.

use std::ffi::OsString;

use clap::Parser;
use outlast_shm::PageSize;
use outlast_wksp::RegionName;

use crate::end::End;

/// Options of `groove/data`.
#[derive(Debug, Clone, Parser)]
#[command(name = "groove/data", disable_version_flag = true)]
pub struct Options {
    /// Join this groove, and leave it in place with what is in it. Default: one of its own, released at the end.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["page_sz", "near_cpu"])]
    pub name: Option<RegionName>,
    /// Volumes that workers may add.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    pub volume_cnt: u64,
    /// Bytes of each volume of a groove of its own, a power of two. Default: 1 GiB, or what there is room for.
    #[arg(long, value_name = "BYTES")]
    pub volume_sz: Option<u64>,
    /// Page size of the volumes; only normal so far.
    #[arg(long, value_name = "SIZE", default_value = "normal")]
    pub page_sz: PageSize,
    /// A CPU near which the pages should lie; only `current` so far.
    #[arg(long, value_name = "CPU", default_value = "current")]
    pub near_cpu: String,
    /// Half of the steps of each worker. Default: 1048576, or what fits the quick profile.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub alloc_cnt: Option<u64>,
    /// Bytes of the largest object.
    #[arg(long, value_name = "BYTES", default_value_t = 10_485_760)]
    pub sz_max: u64,
    /// Workers at a time. Default: cores, and at least two.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    pub worker_cnt: Option<u64>,
    /// Break something in the middle, to see that the check notices.
    #[arg(long, value_enum, default_value_t = Canary::None, hide = true)]
    pub canary: Canary,
}

/// What is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Canary {
    /// Nothing.
    None,
    /// The last byte that is reserved for an object.
    Flip,
    /// An object that no slot knows is left.
    Extra,
}

impl Options {
    /// Reads the words after `--`.
    ///
    /// # Errors
    /// [`End::Usage`] with what clap says, or for placement that regions do not support so far.
    pub fn read(words: &[OsString]) -> Result<Self, End> {
        let name = OsString::from("groove/data");
        let options = Self::try_parse_from(std::iter::once(name).chain(words.iter().cloned()))
            .map_err(|error| End::Usage(error.to_string().trim_end().to_owned()))?;
        if options.page_sz != PageSize::Normal {
            let found = options.page_sz;
            return Err(End::Usage(format!("--page-sz {found}: regions have normal pages only so far")));
        }
        if options.near_cpu != "current" {
            let found = &options.near_cpu;
            return Err(End::Usage(format!(
                "--near-cpu {found}: placement is not supported so far, say `current`"
            )));
        }
        Ok(options)
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
        assert_eq!((options.volume_cnt, options.sz_max), (1, 10 << 20));
        assert_eq!((options.name, options.alloc_cnt, options.canary), (None, None, Canary::None));
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        for words in [
            &["--volume-cnt", "0"][..],
            &["--volume-cnt", "65"],
            &["--page-sz", "huge"],
            &["--near-cpu", "3"],
            &["--name", "a b"],
            &["--alloc-cnt", "0"],
            &["--worker-cnt", "0"],
            &["--unknown"],
        ] {
            assert!(matches!(read(words), Err(End::Usage(_))), "{words:?}");
        }
    }
}

//! The benchmarks: figures in multiples of something measured in the same run, and nothing that fails.
//!
//! Method: files are touched before they are measured; each figure comes from at least 11 pairs of measurement and
//! yardstick, taken in turn and with the order swapped every time, so that both see the same machine; what is
//! given is the median of the pairs' quotients and their smallest and largest. Page cache and disk are measured
//! apart.
//!
//! - [`figure`] is one line of the result, [`measure`] the pairs, [`corpus`] the bytes.
//! - The others are the benchmarks, one module for each part of the product.
//!
//! # What it does not do
//! It judges nothing: a target that is not met is shown as such and the command still succeeds.

pub mod allocation;
pub mod checkpoint;
pub mod copy;
pub mod corpus;
pub mod figure;
pub mod groove;
pub mod machine;
pub mod measure;
pub mod ready;
pub mod recovery;
pub mod restore;
pub mod sched;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use outlast_wksp::Cancel;

use crate::end::End;
use crate::place::Place;
use figure::Figure;

/// What every benchmark is given.
#[derive(Debug)]
pub struct Context {
    /// Pairs to measure for each figure.
    pub pairs: usize,
    /// Where checkpoint files go.
    pub directory: PathBuf,
    /// Where named regions go.
    pub place: Place,
    /// Set by Ctrl-C.
    pub stop: Cancel,
}

impl Context {
    /// Ends the run if it was interrupted.
    ///
    /// # Errors
    /// [`End::Interrupted`].
    pub fn check(&self) -> Result<(), End> {
        if self.stop.is_cancelled() { Err(End::Interrupted) } else { Ok(()) }
    }

    /// The number of threads that "two threads" are here: one on a machine with one core.
    pub fn two(&self) -> usize {
        std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(2)
    }
}

/// One benchmark.
#[derive(Clone, Copy)]
pub struct Bench {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it measures.
    pub about: &'static str,
    /// Measures.
    pub run: fn(&Context) -> Result<Vec<Figure>, End>,
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Every benchmark, in the order in which they run.
pub const ALL: &[Bench] = &[
    Bench {
        name: "wksp/alloc",
        about: "alloc and free, 8192 live objects, one thread",
        run: allocation::one_thread,
    },
    Bench {
        name: "wksp/alloc-two",
        about: "the same, two threads against one",
        run: allocation::two_threads,
    },
    Bench {
        name: "wksp/recovery",
        about: "a killed holder: the next comer and sleepers",
        run: recovery::killed,
    },
    Bench { name: "groove/alloc", about: "alloc and free of a groove, one thread", run: groove::one_thread },
    Bench { name: "groove/alloc-two", about: "the same, two threads against one", run: groove::two_threads },
    Bench { name: "groove/volumes", about: "trim and rebuild of a 1 GiB volume", run: groove::volumes },
    Bench { name: "shm/copy", about: "copies of shared bytes against memcpy", run: copy::against_memcpy },
    Bench { name: "checkpt/raw", about: "raw checkpoint against pwrite", run: checkpoint::raw },
    Bench {
        name: "checkpt/codec",
        about: "LZ4 and zstd checkpoints against codec loops",
        run: checkpoint::codecs,
    },
    Bench { name: "checkpt/verify", about: "verify of a checkpoint file", run: restore::verify },
    Bench { name: "wksp/restore", about: "raw restore against memcpy", run: restore::raw },
    Bench { name: "sched/simulated", about: "makespans of the queue in virtual time", run: sched::simulated },
    Bench {
        name: "sched/sleeping",
        about: "makespans and gaps with sleeping processes",
        run: sched::sleeping,
    },
    Bench {
        name: "sched/ready",
        about: "start of a worker to its readiness, on each medium",
        run: ready::latency,
    },
    Bench { name: "sched/many", about: "two hundred workers at once", run: ready::many },
    Bench { name: "sched/floor", about: "a run of nothing", run: sched::floor },
    Bench { name: "wksp/restore-one", about: "LZ4 restore of one allocation", run: restore::one_allocation },
];

//! What the machine has: CPUs, memory, and how to keep a child on some of its CPUs.
//!
//! # Invariants
//! - A thread's affinity after [`on_cpus`] is what it was before, whatever happened in between.

use std::io;
use std::path::Path;

use outlast_shm::Space;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::event::Host;
use crate::run::RunError;

/// The CPUs that this thread may run on.
///
/// # Errors
/// If the machine has more CPUs than the kernel interface is asked about (1024).
pub fn allowed_cpus() -> io::Result<Vec<u32>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .filter_map(|cpu| u32::try_from(cpu).ok())
        .collect())
}

/// Does something, such as starting a child, with this thread on the given CPUs: the child inherits them before its
/// first instruction.
///
/// # Errors
/// If the kernel does not allow these CPUs; then nothing is done.
pub(crate) fn on_cpus<T>(cpus: &[u32], act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = sched_getaffinity(None)?;
    let mut wanted = CpuSet::new();
    for &cpu in cpus {
        if cpu as usize >= CpuSet::MAX_CPU {
            return Err(io::Error::from(rustix::io::Errno::INVAL));
        }
        wanted.set(cpu as usize);
    }
    sched_setaffinity(None, &wanted)?;
    let done = act();
    // Nothing to be done if it fails: the CPUs were this thread's a moment ago, so it fails only if they were taken
    // from the whole process, and then the kernel has chosen others.
    let _ = sched_setaffinity(None, &before);
    done
}

/// The machine as the plan of a run describes it.
pub(crate) fn host(cpus: Vec<u32>) -> Host {
    let system = rustix::system::uname();
    let word = |word: &core::ffi::CStr| word.to_string_lossy().into_owned();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    Host {
        cpus,
        memory_bytes: memory_line("MemTotal:").unwrap_or(0),
        system: format!("{} {} {}", word(system.sysname()), word(system.release()), word(system.machine())),
        load: load.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0),
    }
}

/// How much memory jobs may fill together, unless the caller says otherwise: what is available, to this control group
/// too, and no more than what is free in the memory file system where regions are made.
pub(crate) fn memory_budget_bytes() -> u64 {
    let directory = std::env::var_os("OUTLAST_DIR").unwrap_or_else(|| "/dev/shm".into());
    let shared = Path::new("/dev/shm");
    let spaces = [Path::new(&directory), shared].map(|path| Space::of_directory(path).ok());
    let free = spaces.iter().flatten().next().map(|space| space.available_bytes);
    // The control group counts wherever regions are made; only a memory file system is asked about it.
    let group = spaces.iter().flatten().filter_map(|space| space.control_group_bytes).min();
    [free, group, memory_line("MemAvailable:")].into_iter().flatten().min().unwrap_or(u64::MAX)
}

/// Makes room for so many more open files, below the limit that only root can raise. Children inherit it.
pub(crate) fn allow_descriptors(more: u64) -> Result<(), RunError> {
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    let needed = open + more;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| needed <= current) {
        return Ok(());
    }
    let refused = |limit| RunError::Descriptors { needed, limit };
    match limit.maximum {
        Some(maximum) if maximum < needed => Err(refused(maximum)),
        maximum => setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum })
            .map_err(|_| refused(limit.current.unwrap_or_default())),
    }
}

fn memory_line(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_described() {
        let cpus = allowed_cpus().unwrap();
        assert!(!cpus.is_empty());
        let host = host(cpus);
        assert!(host.memory_bytes > 0 && host.system.starts_with("Linux "));
        assert!((1..=host.memory_bytes).contains(&memory_budget_bytes()));
    }

    #[test]
    fn a_thread_gets_its_cpus_back() {
        let all = allowed_cpus().unwrap();
        let first = *all.first().unwrap();
        assert_eq!(on_cpus(&[first], allowed_cpus).unwrap(), [first]);
        assert_eq!(allowed_cpus().unwrap(), all);
        on_cpus(&[first], || Err::<(), _>(io::Error::other("no"))).unwrap_err();
        assert_eq!(allowed_cpus().unwrap(), all);
        assert_eq!(on_cpus(&[u32::MAX], || Ok(())).unwrap_err().raw_os_error(), Some(22));
    }
}

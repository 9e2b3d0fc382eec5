//! The table of all probes of a binary and the hook that they call. Exists only with `--cfg outlast_probes`.
//!
//! # Invariants
//! - At most one hook is installed in the life of a process; it can be switched off and on again.

use std::sync::OnceLock;

use linkme::distributed_slice;

use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// Every probe of the binary, in link order.
#[allow(unsafe_code, reason = "the linker section is how the registry collects its entries")]
#[distributed_slice]
pub static PROBES: [Probe];

/// What a probe stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A step of a change of shared state.
    Point,
    /// A site at which a failure can be injected.
    Fault,
    /// A call that may block in the kernel.
    Blocking,
}

/// One probe point.
#[derive(Debug)]
pub struct Probe {
    name: &'static str,
    file: &'static str,
    line: u32,
    kind: Kind,
    hit_count: AtomicU64,
}

impl Probe {
    /// Used by the macros.
    #[doc(hidden)]
    pub const fn new(name: &'static str, file: &'static str, line: u32, kind: Kind) -> Self {
        Self { name, file, line, kind, hit_count: AtomicU64::new(0) }
    }

    /// `crate.operation.step`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Source file and line.
    pub fn location(&self) -> (&'static str, u32) {
        (self.file, self.line)
    }

    /// What it stands for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How often it was passed while a hook was armed.
    pub fn hit_count(&self) -> u64 {
        // Relaxed: a statistic, nothing is ordered by it.
        self.hit_count.load(Ordering::Relaxed)
    }
}

/// What a hook is: it sees the probe and its arguments, and may answer a [`Kind::Fault`] with an errno.
pub type Hook = fn(&'static Probe, &[u64]) -> Option<i32>;

static ARMED: AtomicBool = AtomicBool::new(false);
static HOOK: OnceLock<Hook> = OnceLock::new();

/// Installs the process's hook and arms it; `false` if another one is installed already.
pub fn install(hook: Hook) -> bool {
    let installed = HOOK.set(hook).is_ok();
    if installed {
        set_armed(true);
    }
    installed
}

/// Switches the installed hook on or off.
pub fn set_armed(armed: bool) {
    // Relaxed: the hook itself is published by `OnceLock`; a probe that sees the flag late is not yet armed.
    ARMED.store(armed, Ordering::Relaxed);
}

/// Whether probes call the hook; the one load that an armed-off probe costs.
#[inline]
pub fn armed() -> bool {
    // Relaxed: see `set_armed`.
    ARMED.load(Ordering::Relaxed)
}

/// Calls the hook. Used by the macros.
#[doc(hidden)]
pub fn hit(probe: &'static Probe, arguments: &[u64]) -> Option<i32> {
    // Relaxed: a statistic, nothing is ordered by it.
    probe.hit_count.fetch_add(1, Ordering::Relaxed);
    HOOK.get().and_then(|hook| hook(probe, arguments))
}

/// The first name that two probes at different places share, if any.
pub fn duplicate() -> Option<&'static str> {
    let mut seen: Vec<(&str, (&str, u32))> = Vec::with_capacity(PROBES.len());
    for probe in PROBES {
        if seen.iter().any(|(name, place)| *name == probe.name && *place != probe.location()) {
            return Some(probe.name);
        }
        seen.push((probe.name, probe.location()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deny_marked(probe: &'static Probe, arguments: &[u64]) -> Option<i32> {
        assert!(arguments.len() <= 4);
        (probe.name() == "probe.test.fault").then_some(28)
    }

    #[test]
    fn hook_sees_points_and_answers_faults() {
        let pass = || {
            crate::probe!("probe.test.point", 1u32, 2u64);
            crate::blocking!("probe.test.blocking", ());
            crate::fault!("probe.test.fault")
        };
        assert_eq!(pass(), None, "no hook, no fault");
        assert!(install(deny_marked));
        assert_eq!(pass(), Some(28));
        assert!(!install(deny_marked), "a second hook is refused");
        set_armed(false);
        assert_eq!(pass(), None);
        let point = PROBES.iter().find(|probe| probe.name() == "probe.test.point").unwrap();
        assert_eq!((point.hit_count(), point.kind()), (1, Kind::Point));
        let blocking = PROBES.iter().find(|probe| probe.name() == "probe.test.blocking").unwrap();
        assert_eq!(blocking.hit_count(), 2, "before and after");
        assert_eq!(duplicate(), None);
    }
}

//! A domain of its own for each test, and a groove in it.

use outlast_groove::{CreateOptions, Groove};
use outlast_shm::{Domain, RegionName};

/// A domain that goes away with it.
pub(crate) struct Ground {
    pub(crate) domain: Domain,
    _directory: tempfile::TempDir,
}

impl Ground {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let domain = Domain::open(&directory.path().join("domain")).unwrap();
        Self { domain, _directory: directory }
    }

    /// A groove with `volumes` volumes of `volume_bytes`.
    pub(crate) fn groove(&self, volume_bytes: u64, volumes: usize) -> Groove {
        let groove = Groove::create(&self.domain, &name(), &CreateOptions { volume_bytes }).unwrap();
        for index in 0..volumes {
            assert_eq!(groove.add_volume(b"").unwrap(), index);
        }
        groove
    }
}

pub(crate) fn name() -> RegionName {
    "g".parse().unwrap()
}

pub(crate) const MIB: u64 = 1 << 20;

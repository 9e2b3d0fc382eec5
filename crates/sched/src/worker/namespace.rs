//! Which pid and mount namespace a process lives in: numbers and paths mean the same only within one.
//!
//! # Invariants
//! - What `/proc` does not tell is not compared.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

/// The namespaces of a process, as the inode numbers of `/proc/PID/ns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Of process numbers.
    pub pid: u64,
    /// Of mounted file systems.
    pub mount: u64,
}

impl Namespaces {
    /// Of the calling process. Two system calls.
    ///
    /// # Errors
    /// If there is no `/proc`.
    pub fn of_self() -> io::Result<Self> {
        Self::at("self", "pid")
    }

    /// Of a process that `/proc` shows. Two system calls.
    ///
    /// # Errors
    /// If it has gone, or belongs to somebody else.
    pub fn of(pid: u32) -> io::Result<Self> {
        Self::at(&pid.to_string(), "pid")
    }

    /// Those that children of a process begin in.
    #[cfg(feature = "runner")]
    pub(crate) fn of_children(pid: u32) -> io::Result<Self> {
        Self::at(&pid.to_string(), "pid_for_children")
    }

    fn at(process: &str, pid: &str) -> io::Result<Self> {
        let inode = |kind| fs::metadata(format!("/proc/{process}/ns/{kind}")).map(|metadata| metadata.ino());
        Ok(Self { pid: inode(pid)?, mount: inode("mnt")? })
    }
}

impl fmt::Display for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid:[{}] mnt:[{}]", self.pid, self.mount)
    }
}

//! The exit codes of `alloc-worker`: one for each way to end, the same in its help and its tests.
//!
//! # Invariants
//! - No code stands for two things, and none is one of the shell's or of a panic.

/// A way to end that is not the normal one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// No bytes were asked for.
    Zero,
    /// The process has more than one thread.
    Threads,
    /// It could not say that it is ready, or not hear its runner.
    Ready,
    /// BYTES is missing.
    Missing,
    /// `/proc/self/task` cannot be read.
    Procfs,
    /// An argument is not known or not as expected.
    BadArgument,
    /// The workspace could not be attached.
    Attach,
    /// There is not so much memory.
    Memory,
}

impl Exit {
    /// Every way, with its code and its line of the table.
    pub const ALL: [(Self, u8, &'static str); 8] = [
        (Self::Zero, 2, "BYTES is 0"),
        (Self::Threads, 3, "the process is not single-threaded"),
        (Self::Ready, 4, "the marker, the line on standard output or the word on another medium failed"),
        (Self::Missing, 5, "BYTES is missing"),
        (Self::Procfs, 6, "/proc/self/task cannot be read"),
        (Self::BadArgument, 7, "an argument is unknown or not as expected"),
        (Self::Attach, 8, "the workspace cannot be attached"),
        (Self::Memory, 9, "out of memory: no room in the workspace or on the heap"),
    ];

    /// The code.
    pub fn code(self) -> u8 {
        Self::ALL.iter().find(|(exit, ..)| *exit == self).map_or(1, |(_, code, _)| *code)
    }

    /// The table for people.
    pub fn table() -> String {
        let mut text = String::from("Exit codes:\n   0  asked to end, by SIGTERM or by its runner\n");
        for (_, code, about) in Self::ALL {
            text.push_str(&format!("{code:4}  {about}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_documented() {
        for (index, (exit, code, _)) in Exit::ALL.iter().enumerate() {
            assert_eq!(exit.code(), *code);
            assert!((2..100).contains(code) && Exit::ALL[..index].iter().all(|(_, other, _)| other != code));
            assert!(Exit::table().contains(&format!("{code:4}  ")));
        }
    }
}

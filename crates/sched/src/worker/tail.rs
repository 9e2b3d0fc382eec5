//! The last bytes that came through a pipe.
//!
//! # Invariants
//! - Reading never blocks, and one call reads at most [`TURN_BYTES`]: a writer without end starves nobody.
//! - No more than `limit` bytes are kept.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

/// Most that one call reads.
const TURN_BYTES: usize = 1 << 20;

/// A pipe and the last of what came through it.
#[derive(Debug)]
pub(crate) struct Tail {
    pipe: Option<OwnedFd>,
    bytes: VecDeque<u8>,
    limit: usize,
}

impl Tail {
    /// Of a pipe, which is made non-blocking.
    pub(crate) fn new(pipe: OwnedFd, limit: usize) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Self { pipe: Some(pipe), bytes: VecDeque::new(), limit })
    }

    /// The pipe; `None` once it has ended.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(OwnedFd::as_fd)
    }

    /// Takes what has come.
    pub(crate) fn fill(&mut self) -> io::Result<()> {
        let mut buffer = [0; 1 << 16];
        for _ in 0..TURN_BYTES / buffer.len() {
            let Some(pipe) = &self.pipe else { break };
            match rustix::io::read(pipe, &mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(len) => self.push(&buffer[..len]),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) {
        let kept = &bytes[bytes.len().saturating_sub(self.limit)..];
        let over = (self.bytes.len() + kept.len()).saturating_sub(self.limit);
        self.bytes.drain(..over);
        self.bytes.extend(kept);
    }

    /// The text, with what is no UTF-8 replaced.
    pub(crate) fn text(&self) -> String {
        let (front, back) = self.bytes.as_slices();
        String::from_utf8_lossy(&[front, back].concat()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_last_bytes_are_kept() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut tail = Tail::new(reader.into(), 5).unwrap();
        tail.fill().unwrap();
        assert_eq!(tail.text(), "");
        for (written, kept) in [("abc", "abc"), ("def", "bcdef"), ("0123456789", "56789"), ("x", "6789x")] {
            writer.write_all(written.as_bytes()).unwrap();
            tail.fill().unwrap();
            assert_eq!(tail.text(), kept);
        }
        assert!(tail.fd().is_some());
        drop(writer);
        tail.fill().unwrap();
        assert!(tail.fd().is_none());
    }
}

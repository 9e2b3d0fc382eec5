//! One output of a job: read as it comes, so that the job never waits for its reader, into a file and a bounded tail.
//!
//! # Invariants
//! - A failing or full file stops the file, never the reading.
//! - No more than [`TAIL_BYTES`] are held in memory, and no more than [`FILE_BYTES_MAX`] on disk.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};

use super::timespec;

/// How much of an output's end a record holds.
pub(crate) const TAIL_BYTES: usize = 8 << 10;

/// How much of an output is kept in the sandbox.
pub(crate) const FILE_BYTES_MAX: u64 = 256 << 20;

/// What is read after the job's end, at most: what a pipe can hold, and then some. A process left behind that writes
/// without end is not waited for.
const DRAIN_BYTES_MAX: usize = 4 << 20;

/// One output.
#[derive(Debug)]
pub(crate) struct Output {
    name: &'static str,
    pipe: Option<File>,
    file: Option<File>,
    tail: VecDeque<u8>,
    read_bytes: u64,
    trouble: Option<String>,
}

impl Output {
    /// An output called `name`, also as a file in the sandbox.
    pub(crate) fn new(name: &'static str, pipe: OwnedFd, sandbox: &Path) -> Self {
        let (file, trouble) = match File::create_new(sandbox.join(name)) {
            Ok(file) => (Some(file), None),
            Err(error) => (None, Some(format!("{name} could not be kept: {error}"))),
        };
        Self { name, pipe: Some(pipe.into()), file, tail: VecDeque::new(), read_bytes: 0, trouble }
    }

    /// The pipe to wait for; `None` after its end.
    pub(crate) fn pipe(&self) -> Option<&File> {
        self.pipe.as_ref()
    }

    /// The inode of the pipe, if it is still open.
    pub(crate) fn open_inode(&self) -> Option<u64> {
        use std::os::unix::fs::MetadataExt;
        self.pipe.as_ref().and_then(|pipe| pipe.metadata().ok()).map(|metadata| metadata.ino())
    }

    /// Reads once, after a wait said that this would not block. How many bytes came; 0 at the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> usize {
        let Some(pipe) = &mut self.pipe else { return 0 };
        let count = match pipe.read(buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return 0,
            Err(error) => {
                self.trouble = Some(format!("{} could not be read: {error}", self.name));
                0
            }
        };
        if count == 0 {
            self.pipe = None;
        }
        self.keep(&buffer[..count]);
        count
    }

    /// Reads what is there now and does not wait for more.
    pub(crate) fn drain(&mut self, buffer: &mut [u8]) {
        let mut total = 0;
        while let Some(pipe) = &self.pipe
            && total < DRAIN_BYTES_MAX
        {
            let mut descriptors = [PollFd::new(pipe, PollFlags::IN)];
            match poll(&mut descriptors, Some(&timespec(std::time::Duration::ZERO))) {
                Ok(1..) => total += self.read(buffer),
                Err(rustix::io::Errno::INTR) => {}
                _ => return,
            }
        }
    }

    /// The last lines, and what went wrong with the file. Both are gone from here then.
    pub(crate) fn end(&mut self) -> (String, Option<String>) {
        let cut = self.read_bytes > self.tail.len() as u64;
        let bytes = Vec::from(std::mem::take(&mut self.tail));
        let whole = match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) if cut && end + 1 < bytes.len() => &bytes[end + 1..],
            _ => &bytes[..],
        };
        (String::from_utf8_lossy(whole).into_owned(), self.trouble.take())
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.read_bytes += bytes.len() as u64;
        let last = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        let surplus = (self.tail.len() + last.len()).saturating_sub(TAIL_BYTES);
        self.tail.drain(..surplus);
        self.tail.extend(last);
        let Some(file) = &mut self.file else { return };
        let written = if self.read_bytes > FILE_BYTES_MAX {
            Err(io::Error::other(format!("it is longer than {FILE_BYTES_MAX} bytes")))
        } else {
            file.write_all(bytes)
        };
        if let Err(error) = written {
            self.trouble = Some(format!("{} could not be kept whole: {error}", self.name));
            self.file = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_bounded_and_begins_with_a_line() {
        let sandbox = tempfile::tempdir().unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        let mut output = Output::new("stdout", reader.into(), sandbox.path());
        let mut buffer = [0; 1000];
        let mut expected = Vec::new();
        for line in 0..3000 {
            let line = format!("line {line}\n");
            writer.write_all(line.as_bytes()).unwrap();
            expected.extend(line.into_bytes());
            output.drain(&mut buffer);
        }
        assert!(output.open_inode().is_some());
        drop(writer);
        output.drain(&mut buffer);
        assert_eq!(output.open_inode(), None);
        let (tail, trouble) = output.end();
        assert_eq!(trouble, None);
        assert!(tail.len() <= TAIL_BYTES && tail.len() > TAIL_BYTES - 20);
        assert!(tail.starts_with("line ") && tail.ends_with("line 2999\n"));
        assert_eq!(std::fs::read(sandbox.path().join("stdout")).unwrap(), expected);
    }

    #[test]
    fn a_file_that_cannot_be_made_stops_no_reading() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut output = Output::new("stdout", reader.into(), Path::new("/nowhere"));
        writer.write_all(b"still here").unwrap();
        output.drain(&mut [0; 100]);
        let (tail, trouble) = output.end();
        assert_eq!(tail, "still here");
        assert!(trouble.unwrap().starts_with("stdout could not be kept: "));
    }
}

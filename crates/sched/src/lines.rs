//! Files of one JSON value a line, read without trust.
//!
//! # Invariants
//! - A line longer than the limit costs no more memory than the limit; it is passed over and said to be too long.
//! - A last line without its newline is told from a whole one: its writer may have been killed.

use std::io::{self, BufRead, BufReader, Read};

/// One line of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// With its newline, which is left out here.
    Whole(Vec<u8>),
    /// The last, without a newline.
    Torn(Vec<u8>),
    /// Longer than the limit.
    TooLong,
}

/// Reads lines and counts them from 1.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: BufReader<R>,
    limit_bytes: usize,
    number: u64,
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(reader: R, limit_bytes: usize) -> Self {
        Self { reader: BufReader::new(reader), limit_bytes, number: 0 }
    }

    /// The next line and its number; `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u64, Line)>> {
        let mut line = Vec::new();
        let limit = self.limit_bytes as u64 + 1;
        if self.reader.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        let line = if line.last() == Some(&b'\n') {
            line.pop();
            Line::Whole(line)
        } else if line.len() > self.limit_bytes {
            self.pass_over()?;
            Line::TooLong
        } else {
            Line::Torn(line)
        };
        Ok(Some((self.number, line)))
    }

    /// Goes behind the next newline.
    fn pass_over(&mut self) -> io::Result<()> {
        loop {
            let bytes = self.reader.fill_buf()?;
            if bytes.is_empty() {
                return Ok(());
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(bytes.len(), |at| at + 1);
            self.reader.consume(used);
            if end.is_some() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Vec<Line> {
        let mut lines = Lines::new(bytes, 4);
        std::iter::from_fn(|| lines.next().unwrap()).map(|(_, line)| line).collect()
    }

    #[test]
    fn whole_torn_and_too_long() {
        assert_eq!(read(b""), []);
        let whole = |text: &str| Line::Whole(text.into());
        assert_eq!(read(b"abcd\n\nx\n"), [whole("abcd"), whole(""), whole("x")]);
        assert_eq!(read(b"abcde\nx"), [Line::TooLong, Line::Torn("x".into())]);
        assert_eq!(read(b"abcdefghijklm"), [Line::TooLong]);
    }
}

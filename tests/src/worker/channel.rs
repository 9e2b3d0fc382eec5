//! Messages between a scenario and its workers: serde values in bincode, each behind its length.
//!
//! # Invariants
//! - A message is written by one system call, so a kill leaves all of it or nothing in the channel.
//! - No length is believed beyond [`LIMIT_BYTES`].
//! - Both ends are the same binary: the encoding is never stored.

use std::io::{self, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest message.
pub const LIMIT_BYTES: usize = 4 << 20;

type Encoding = Configuration<LittleEndian, Fixint, Limit<LIMIT_BYTES>>;

fn encoding() -> Encoding {
    bincode::config::standard().with_fixed_int_encoding().with_limit::<LIMIT_BYTES>()
}

/// One end of a connection.
#[derive(Debug)]
pub struct Channel {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    frame: Vec<u8>,
}

impl Channel {
    /// Over one end of a socket pair.
    ///
    /// # Errors
    /// If the descriptor cannot be duplicated.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        Ok(Self { reader: BufReader::new(stream.try_clone()?), writer: stream, frame: Vec::new() })
    }

    /// The channel that a worker was started with: its standard input.
    ///
    /// # Errors
    /// If there is none.
    pub fn inherited() -> io::Result<Self> {
        Self::new(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?))
    }

    /// Another handle on the same end; only one of them may receive.
    ///
    /// # Errors
    /// If the descriptor cannot be duplicated.
    pub fn try_clone(&self) -> io::Result<Self> {
        Self::new(self.writer.try_clone()?)
    }

    /// Sends a message. Blocks while the other end does not read and the socket is full.
    ///
    /// # Errors
    /// If the other end is closed, or the message is longer than [`LIMIT_BYTES`].
    pub fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        self.frame.clear();
        self.frame.extend_from_slice(&[0; 4]);
        bincode::serde::encode_into_std_write(message, &mut self.frame, encoding())
            .map_err(io::Error::other)?;
        let len = self.frame.len() - 4;
        let len = u32::try_from(len).ok().filter(|len| *len as usize <= LIMIT_BYTES).ok_or_else(too_long)?;
        self.frame[..4].copy_from_slice(&len.to_le_bytes());
        self.writer.write_all(&self.frame)
    }

    /// The next message; `None` if the other end was closed between two messages, or in one.
    ///
    /// # Errors
    /// If what arrives is no message.
    pub fn receive<M: DeserializeOwned>(&mut self) -> io::Result<Option<M>> {
        let mut len = [0; 4];
        if !filled(self.reader.read_exact(&mut len))? {
            return Ok(None);
        }
        let len = u32::from_le_bytes(len) as usize;
        if LIMIT_BYTES < len {
            return Err(too_long());
        }
        let mut bytes = vec![0; len];
        if !filled(self.reader.read_exact(&mut bytes))? {
            return Ok(None);
        }
        let (message, used) =
            bincode::serde::decode_from_slice(&bytes, encoding()).map_err(io::Error::other)?;
        if used == len { Ok(Some(message)) } else { Err(io::Error::other("bytes behind a message")) }
    }
}

/// The descriptor that a worker was handed: its standard output.
///
/// # Errors
/// If there is none.
pub fn handed_over() -> io::Result<OwnedFd> {
    io::stdout().as_fd().try_clone_to_owned()
}

fn too_long() -> io::Error {
    io::Error::other(format!("a message of more than {LIMIT_BYTES} bytes"))
}

fn filled(read: io::Result<()>) -> io::Result<bool> {
    match read {
        Ok(()) => Ok(true),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_whole_and_in_order() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut a, mut b) = (Channel::new(a).unwrap(), Channel::new(b).unwrap());
        a.send(&(1_u64, "one".to_owned())).unwrap();
        a.send(&(2_u64, String::new())).unwrap();
        drop(a);
        assert_eq!(b.receive::<(u64, String)>().unwrap(), Some((1, "one".into())));
        assert_eq!(b.receive::<(u64, String)>().unwrap(), Some((2, String::new())));
        assert_eq!(b.receive::<(u64, String)>().unwrap(), None);
    }

    #[test]
    fn lengths_are_not_believed() {
        for bytes in [
            &[0xff, 0xff, 0xff, 0xff, 0][..],
            &[3, 0, 0, 0, 1, 2, 3],
            &[9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7],
        ] {
            let (mut a, b) = UnixStream::pair().unwrap();
            a.write_all(bytes).unwrap();
            drop(a);
            assert!(Channel::new(b).unwrap().receive::<u64>().is_err(), "{bytes:?}");
        }
        // A vector's own length is bounded by the limit as well, before anything is reserved for it.
        let (mut a, b) = UnixStream::pair().unwrap();
        a.write_all(&[8, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).unwrap();
        drop(a);
        assert!(Channel::new(b).unwrap().receive::<Vec<u64>>().is_err());
    }

    #[test]
    fn a_message_that_is_too_long_is_refused() {
        let (a, _b) = UnixStream::pair().unwrap();
        assert!(Channel::new(a).unwrap().send(&vec![0_u8; LIMIT_BYTES + 1]).is_err());
    }
}

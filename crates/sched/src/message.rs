//! What a runner and a worker say to each other: one packet of a `SOCK_SEQPACKET` socket for each message.
//!
//! # Invariants
//! - No packet and no text in it is longer than its limit, and none is believed beyond it.
//! - Both ends are builds of one tree: the encoding is never stored, and [`PROTOCOL`] changes with it.

use std::io;

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::worker::namespace::Namespaces;

/// Changes with every change of a message or of the slot.
pub(crate) const PROTOCOL: u32 = 1;

/// Longest message in bytes, as it is sent.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// Longest report of a worker in bytes: a message without its frame.
pub const REPORT_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 64;

/// By what a worker says that it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediumKind {
    /// A message on its standard input.
    Socket,
    /// A word of a shared region.
    Slot,
    /// A file.
    Marker,
}

impl std::fmt::Display for MediumKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Socket => "socket",
            Self::Slot => "slot",
            Self::Marker => "marker",
        })
    }
}

/// To a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// The first message; with the descriptor of the slot's region if that is the medium.
    Welcome { protocol: u32, nonce: u128, parent: u32, medium: MediumKind, generation: u32 },
    /// Everybody is ready: begin.
    Gate,
    /// Come to an end.
    Stop,
}

/// From a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Word {
    /// The first message.
    Hello { protocol: u32, nonce: u128, pid: u32, namespaces: Namespaces },
    /// What it does from now on.
    Phase(String),
    /// It is in place; so many bytes are as they were asked for.
    Ready { bytes: u64 },
    /// It gives up.
    Failed { code: i32, text: String },
    /// What came of it.
    Report(Vec<u8>),
}

type Encoding = Configuration<LittleEndian, Fixint, Limit<MESSAGE_BYTES_MAX>>;

fn encoding() -> Encoding {
    bincode::config::standard().with_fixed_int_encoding().with_limit::<MESSAGE_BYTES_MAX>()
}

/// The packet of a message.
///
/// # Errors
/// If it is longer than [`MESSAGE_BYTES_MAX`].
pub(crate) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let bytes = bincode::serde::encode_to_vec(message, encoding()).map_err(io::Error::other)?;
    match bytes.len() <= MESSAGE_BYTES_MAX {
        true => Ok(bytes),
        false => {
            let text = format!("a message of {} bytes, at most {MESSAGE_BYTES_MAX} are sent", bytes.len());
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}

/// The message of a packet.
///
/// # Errors
/// If it is none.
pub(crate) fn decode<M: DeserializeOwned>(packet: &[u8]) -> io::Result<M> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let (message, used) = bincode::serde::decode_from_slice(packet, encoding())
        .map_err(|error| invalid(format!("no message: {error}")))?;
    if used == packet.len() { Ok(message) } else { Err(invalid("bytes behind a message".into())) }
}

/// The longest beginning of `text` that has at most `len` bytes.
pub(crate) fn cut(text: &str, len: usize) -> &str {
    &text[..text.floor_char_boundary(len)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_longest_report_fits_and_a_longer_one_is_refused() {
        assert!(encode(&Word::Report(vec![1; REPORT_BYTES_MAX])).is_ok());
        assert!(encode(&Word::Report(vec![1; MESSAGE_BYTES_MAX])).is_err());
    }

    #[test]
    fn lengths_inside_a_message_are_not_believed() {
        let mut packet = encode(&Word::Report(vec![7; 3])).unwrap();
        packet[4..12].fill(0x7f);
        assert!(decode::<Word>(&packet).is_err());
        let mut packet = encode(&Word::Phase("p".into())).unwrap();
        packet.push(0);
        assert!(decode::<Word>(&packet).is_err(), "a byte too many");
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!((cut("aé", 2), cut("aé", 3), cut("", 5)), ("a", "aé", ""));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(word) = decode::<Word>(&bytes) {
                prop_assert_eq!(encode(&word).unwrap(), bytes);
            }
        }
    }
}

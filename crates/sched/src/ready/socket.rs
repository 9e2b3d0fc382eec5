//! The worker's words on its socket.
//!
//! # Invariants
//! - The kernel says who sent each packet; only the worker is believed, and only after its hello.
//! - No descriptor is taken from a worker.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc::ucred;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use super::mishap::{Difference, Mishap};
use super::{Expected, Medium, Sign};
use crate::message::{MESSAGE_BYTES_MAX, MediumKind, PROTOCOL, Word, decode};

/// How many packets one look takes.
const TURN_PACKETS: usize = 64;

/// The runner's end of the socket.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: Arc<OwnedFd>,
    /// Whether ready and failed are said here.
    kind: MediumKind,
    greeted: bool,
    closed: bool,
}

impl Socket {
    /// Of a worker whose medium is `kind`.
    pub(crate) fn new(socket: Arc<OwnedFd>, kind: MediumKind) -> Self {
        Self { socket, kind, greeted: false, closed: false }
    }

    fn sign(&mut self, sender: u32, word: Word, expected: &Expected) -> Result<Option<Sign>, Mishap> {
        if sender != expected.identity.pid {
            return Err(match (expected.foreign(sender), &word) {
                // It may have gone already; then its own words are what is known of it.
                (Mishap::WrongPeer { .. }, Word::Hello { namespaces, .. })
                    if *namespaces != expected.namespaces =>
                {
                    expected.elsewhere(*namespaces)
                }
                (mishap, _) => mishap,
            });
        }
        let misplaced = |what: &str| Err(protocol(format!("{what} does not belong there")));
        match word {
            Word::Hello { .. } if self.greeted => misplaced("a second hello"),
            Word::Hello { protocol: found, .. } if found != PROTOCOL => {
                Err(protocol(format!("the worker speaks protocol {found}, the runner {PROTOCOL}")))
            }
            Word::Hello { namespaces, .. } if namespaces != expected.namespaces => {
                Err(expected.elsewhere(namespaces))
            }
            Word::Hello { nonce, .. } if nonce != expected.identity.nonce => {
                Err(Mishap::Stale { difference: Difference::Nonce })
            }
            Word::Hello { .. } => {
                self.greeted = true;
                Ok(None)
            }
            _ if !self.greeted => misplaced("a word before the hello"),
            Word::Phase(text) => Ok(Some(Sign::Phase(text))),
            Word::Ready { .. } | Word::Failed { .. } if self.kind != MediumKind::Socket => {
                misplaced("a word of the medium on the socket")
            }
            Word::Ready { bytes } => Ok(Some(Sign::Ready { bytes: Some(bytes) })),
            Word::Failed { code, text } => Ok(Some(Sign::Failed { code, text })),
            Word::Report(bytes) => Ok(Some(Sign::Report(bytes))),
        }
    }
}

fn protocol(text: String) -> Mishap {
    Mishap::Io { doing: "hearing the worker", source: io::Error::new(io::ErrorKind::InvalidData, text) }
}

impl Medium for Socket {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        (!self.closed).then(|| self.socket.as_fd())
    }

    fn look(&mut self, expected: &Expected) -> io::Result<Vec<Sign>> {
        let mut signs = Vec::new();
        let mut packet = vec![0; MESSAGE_BYTES_MAX];
        for _ in 0..TURN_PACKETS {
            if self.closed {
                break;
            }
            match receive(self.socket.as_fd(), &mut packet)? {
                Received::Nothing => break,
                Received::Closed => self.closed = true,
                Received::Packet { sender, len } => {
                    let sign = decode(&packet[..len])
                        .map_err(|source| Mishap::Io { doing: "hearing the worker", source })
                        .and_then(|word| self.sign(sender, word, expected));
                    signs.extend(sign.unwrap_or_else(|mishap| Some(Sign::Wrong(mishap))));
                }
                Received::Unreadable(what) => signs.push(Sign::Wrong(protocol(what.into()))),
            }
        }
        Ok(signs)
    }
}

enum Received {
    Nothing,
    Closed,
    Packet { sender: u32, len: usize },
    Unreadable(&'static str),
}

fn receive(socket: BorrowedFd<'_>, packet: &mut [u8]) -> io::Result<Received> {
    // Room for the credentials and nothing else, so that the kernel drops descriptors instead of handing them over.
    let mut space = cmsg_space!(ucred);
    let mut slices = [IoSliceMut::new(packet)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = match recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags) {
        Ok(message) => message,
        Err(Errno::EAGAIN | Errno::EINTR) => return Ok(Received::Nothing),
        Err(Errno::ECONNRESET) => return Ok(Received::Closed),
        Err(error) => return Err(error.into()),
    };
    if message.flags.contains(MsgFlags::MSG_TRUNC) {
        return Ok(Received::Unreadable("a message of more than 64 KiB"));
    }
    let Ok(mut ancillary) = message.cmsgs() else {
        return Ok(Received::Unreadable("a descriptor from the worker"));
    };
    let sender = ancillary.find_map(|entry| match entry {
        ControlMessageOwned::ScmCredentials(credentials) => Some(credentials.pid().cast_unsigned()),
        _ => None,
    });
    Ok(match sender {
        Some(sender) => Received::Packet { sender, len: message.bytes },
        // An empty packet has a sender, the end has none.
        None if message.bytes == 0 => Received::Closed,
        None => Received::Unreadable("a message without a sender"),
    })
}

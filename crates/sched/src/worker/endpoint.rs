//! The worker's side: says hello, phases, ready or why not, waits at the gate, hears the stop, reports.
//!
//! # Invariants
//! - Whoever has an endpoint ends with the thread that started it.
//! - Nothing is waited for without a limit of time.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use outlast_shm::RegionError;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, SocketType, recvmsg, send,
};
use rustix::time::Timespec;

use super::namespace::Namespaces;
use super::slot::{PHASE_BYTES_MAX, Slot};
use crate::marker::Identity;
use crate::message::{MESSAGE_BYTES_MAX, MediumKind, Order, PROTOCOL, Word, cut, decode, encode};

/// How long a worker waits for the first word of its runner, and to get its own words off.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest text of a failure in bytes; a longer one is cut.
const TEXT_BYTES_MAX: usize = 4096;

/// Why a worker has no connection to its runner, or no longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Standard input is not the socket of a runner.
    #[error(
        "standard input is no socket of a runner: this program is started as a worker, by outlast_sched::Spawn"
    )]
    NotAWorker,
    /// The runner speaks another protocol.
    #[error("the runner speaks protocol {found}, this worker {expected}: build both from one tree")]
    Protocol {
        /// That of this worker.
        expected: u32,
        /// That of the runner.
        found: u32,
    },
    /// The runner has ended, or is not the parent of this process.
    #[error("the runner, process {expected}, is not the parent of this process, {found} is")]
    Orphaned {
        /// The runner, as it says.
        expected: u32,
        /// The parent; 0 if it lives in another pid namespace.
        found: u32,
    },
    /// The runner has closed its end.
    #[error("the runner has closed the connection")]
    Closed,
    /// The runner said nothing.
    #[error("the runner said nothing for {0:?}")]
    TimedOut(Duration),
    /// The runner said what does not belong there.
    #[error("expected {expected} from the runner")]
    Unexpected {
        /// What belonged there.
        expected: &'static str,
    },
    /// The region of the slot.
    #[error("the region of the slot: {0}")]
    Region(#[from] RegionError),
    /// The kernel refused.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

fn failed<E: Into<io::Error>>(doing: &'static str) -> impl Fn(E) -> EndpointError {
    move |error| EndpointError::Io { doing, source: error.into() }
}

/// What a worker is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signpost {
    /// Everybody is ready: begin.
    Begin,
    /// Come to an end.
    Stop,
}

/// A worker's connection to the runner that started it.
///
/// ```no_run
/// use std::time::Duration;
/// use outlast_sched::{Endpoint, Signpost};
///
/// let mut runner = Endpoint::inherited()?;
/// runner.phase("fill")?;
/// let memory = vec![1_u8; 1 << 20];
/// runner.ready(memory.len() as u64)?;
/// if runner.wait_at_gate(Duration::from_secs(30))? == Signpost::Begin {
///     while !runner.is_stopped()? {
///         // one step of the work
///     }
/// }
/// runner.report(b"done")?;
/// # Ok::<(), outlast_sched::EndpointError>(())
/// ```
#[derive(Debug)]
pub struct Endpoint {
    socket: OwnedFd,
    slot: Option<Slot>,
    medium: MediumKind,
    stopped: bool,
}

impl AsFd for Endpoint {
    /// Readable when the runner has said something; for a `poll` of one's own before [`Endpoint::is_stopped`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Endpoint {
    /// The connection that this process was started with as its standard input, which is `/dev/null` afterwards.
    /// Says hello, and has the kernel kill this process when the thread that started it ends. Waits up to 30 s for
    /// the runner's first word.
    ///
    /// # Errors
    /// [`EndpointError`]: not started as a worker, another protocol, an orphan.
    pub fn inherited() -> Result<Self, EndpointError> {
        let stdin = io::stdin();
        if sockopt::socket_type(stdin.as_fd()) != Ok(SocketType::SEQPACKET) {
            return Err(EndpointError::NotAWorker);
        }
        let socket = stdin.as_fd().try_clone_to_owned().map_err(failed("taking standard input"))?;
        // Children of this process must not find the connection.
        let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        null.and_then(rustix::stdio::dup2_stdin).map_err(failed("replacing standard input by /dev/null"))?;
        sockopt::set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))
            .map_err(failed("setting a timeout"))?;

        let (order, fd) = receive(&socket, Some(PATIENCE))?.ok_or(EndpointError::TimedOut(PATIENCE))?;
        let Order::Welcome { protocol, nonce, parent, medium, generation } = order else {
            return Err(EndpointError::Unexpected { expected: "a welcome" });
        };
        if protocol != PROTOCOL {
            return Err(EndpointError::Protocol { expected: PROTOCOL, found: protocol });
        }
        let mut endpoint = Self { socket, slot: None, medium, stopped: false };
        // Before anything that may fail, so that the runner knows why.
        let namespaces = Namespaces::of_self().map_err(failed("reading /proc/self/ns"))?;
        endpoint.say(&Word::Hello { protocol, nonce, pid: std::process::id(), namespaces })?;
        end_with_parent(parent)?;
        if medium == MediumKind::Slot {
            let fd = fd.ok_or(EndpointError::Unexpected { expected: "the descriptor of a slot" })?;
            let slot = Slot::join(fd, generation)?;
            if !slot.is_whole() {
                return Err(EndpointError::Unexpected { expected: "a region with a slot" });
            }
            let identity = Identity::of(std::process::id(), nonce).map_err(failed("reading /proc/self"))?;
            slot.attach(&identity);
            endpoint.slot = Some(slot);
        }
        Ok(endpoint)
    }

    /// By what this worker says that it is ready.
    pub fn medium(&self) -> MediumKind {
        self.medium
    }

    /// Says what this worker does from now on; named if it does not get further. At most 56 bytes are kept.
    ///
    /// # Errors
    /// [`EndpointError::Io`] if the runner is gone.
    pub fn phase(&mut self, name: &str) -> Result<(), EndpointError> {
        match &self.slot {
            Some(slot) => slot.phase(name),
            None => self.say(&Word::Phase(cut(name, PHASE_BYTES_MAX).to_owned()))?,
        }
        Ok(())
    }

    /// Says that this worker is in place, with `bytes` as they were asked for.
    ///
    /// # Errors
    /// [`EndpointError::Io`] if the runner is gone.
    pub fn ready(&mut self, bytes: u64) -> Result<(), EndpointError> {
        match &self.slot {
            Some(slot) => slot.ready(bytes),
            None => self.say(&Word::Ready { bytes })?,
        }
        Ok(())
    }

    /// Says that this worker gives up, and why. The text is cut at 4096 bytes (256 in a slot).
    ///
    /// # Errors
    /// [`EndpointError::Io`] if the runner is gone.
    pub fn failed(&mut self, code: i32, text: &str) -> Result<(), EndpointError> {
        match &self.slot {
            Some(slot) => slot.failed(code, text),
            None => self.say(&Word::Failed { code, text: cut(text, TEXT_BYTES_MAX).to_owned() })?,
        }
        Ok(())
    }

    /// Says what came of the work, at most [`REPORT_BYTES_MAX`](crate::REPORT_BYTES_MAX) bytes.
    ///
    /// # Errors
    /// [`EndpointError::Io`] if it is longer, or the runner is gone.
    pub fn report(&mut self, bytes: &[u8]) -> Result<(), EndpointError> {
        self.say(&Word::Report(bytes.to_owned()))
    }

    /// Waits until the runner says where to go.
    ///
    /// # Errors
    /// [`EndpointError::TimedOut`], [`EndpointError::Closed`].
    pub fn wait_at_gate(&mut self, timeout: Duration) -> Result<Signpost, EndpointError> {
        if self.stopped {
            return Ok(Signpost::Stop);
        }
        self.hear(Some(timeout))?.ok_or(EndpointError::TimedOut(timeout))
    }

    /// Whether the runner wants an end. Does not block; one system call.
    ///
    /// # Errors
    /// [`EndpointError::Closed`] if the runner is gone.
    pub fn is_stopped(&mut self) -> Result<bool, EndpointError> {
        while !self.stopped && self.hear(Some(Duration::ZERO))?.is_some() {}
        Ok(self.stopped)
    }

    /// Waits until the runner wants an end, at most `timeout`; whether it does.
    ///
    /// # Errors
    /// [`EndpointError::Closed`] if the runner is gone.
    pub fn wait_for_stop(&mut self, timeout: Duration) -> Result<bool, EndpointError> {
        let begin = Instant::now();
        while !self.stopped && self.hear(Some(timeout.saturating_sub(begin.elapsed())))?.is_some() {}
        Ok(self.stopped)
    }

    fn hear(&mut self, timeout: Option<Duration>) -> Result<Option<Signpost>, EndpointError> {
        match receive(&self.socket, timeout)? {
            None => Ok(None),
            Some((Order::Gate, _)) => Ok(Some(Signpost::Begin)),
            Some((Order::Stop, _)) => {
                self.stopped = true;
                Ok(Some(Signpost::Stop))
            }
            Some((Order::Welcome { .. }, _)) => Err(EndpointError::Unexpected { expected: "gate or stop" }),
        }
    }

    fn say(&self, word: &Word) -> Result<(), EndpointError> {
        let packet = encode(word).map_err(failed("encoding a message"))?;
        send(&self.socket, &packet, SendFlags::NOSIGNAL).map_err(failed("sending to the runner"))?;
        Ok(())
    }
}

/// Has the kernel kill this process when the thread that started it ends, which must be one of `parent`.
///
/// ```no_run
/// if let Some(parent) = std::env::var(outlast_sched::WORKER_PARENT_ENV).ok().and_then(|text| text.parse().ok()) {
///     outlast_sched::end_with_parent(parent)?;
/// }
/// # Ok::<(), outlast_sched::EndpointError>(())
/// ```
///
/// # Errors
/// [`EndpointError::Orphaned`] if it has ended already.
pub fn end_with_parent(parent: u32) -> Result<(), EndpointError> {
    set_pdeathsig(Signal::SIGKILL).map_err(failed("asking to end with the runner"))?;
    let found = getppid().as_raw().cast_unsigned();
    if found == parent { Ok(()) } else { Err(EndpointError::Orphaned { expected: parent, found }) }
}

/// The next message, with a descriptor if one came along; `None` after `timeout`.
fn receive(
    socket: &OwnedFd,
    timeout: Option<Duration>,
) -> Result<Option<(Order, Option<OwnedFd>)>, EndpointError> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut [PollFd::new(socket, PollFlags::IN)], left.as_ref()) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(failed("waiting for the runner")(error)),
        }
    }
    let mut packet = vec![0; MESSAGE_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut [io::IoSliceMut::new(&mut packet)], &mut ancillary, flags);
    let received = match received {
        Ok(received) => received,
        Err(Errno::CONNRESET) => return Err(EndpointError::Closed),
        Err(error) => return Err(failed("hearing from the runner")(error)),
    };
    if received.bytes == 0 {
        return Err(EndpointError::Closed);
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(EndpointError::Unexpected { expected: "a message of at most 64 KiB" });
    }
    let fd = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let order = decode(&packet[..received.bytes]).map_err(failed("reading a message"))?;
    Ok(Some((order, fd)))
}

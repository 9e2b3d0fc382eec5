//! The other processes of a scenario: the same binary in a role, with a channel to it.
//!
//! # Invariants
//! - A worker ends with its scenario: it is killed and reaped when its handle is dropped, and the kernel kills it
//!   if the scenario's thread ends in any other way.
//! - Ctrl-C in a terminal reaches the scenario only; a worker is in a process group of its own.
//! - Nobody waits for a worker without a limit.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::end::{Doing, End};
use crate::failed;
use crate::run::Run;

pub mod channel;
pub mod role;

use self::channel::Channel;
use self::role::Role;

/// How long a worker may be silent before it counts as hanging.
pub const WATCHDOG: Duration = Duration::from_secs(30);

/// A worker process; `M` is what it sends.
#[derive(Debug)]
pub struct Worker<M> {
    role: Role,
    child: Child,
    channel: Channel,
    inbox: Receiver<io::Result<M>>,
    reader: Option<JoinHandle<()>>,
    stderr: Option<ChildStderr>,
    ended: Option<ExitStatus>,
}

impl<M: DeserializeOwned + Send + 'static> Worker<M> {
    /// Starts the binary of `run` in `role`, sends it `parameters`, and leaves `hand` with it, if any, as a
    /// descriptor that it may take ([`channel::handed_over`]).
    ///
    /// # Errors
    /// [`End::Failed`] if it cannot be started.
    pub fn start(
        run: &Run<'_>,
        role: Role,
        parameters: &impl Serialize,
        hand: Option<OwnedFd>,
    ) -> Result<Self, End> {
        let what = format!("starting worker {}", role.as_str());
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().doing(&what)?;
        let mut child = Command::new(run.program)
            .args(["worker", role.as_str(), &std::process::id().to_string()])
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(hand.map_or_else(Stdio::null, Stdio::from))
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .doing(&what)?;
        let stderr = child.stderr.take();
        let mut channel = Channel::new(ours).doing(&what)?;
        let mut incoming = channel.try_clone().doing(&what)?;
        let (sender, inbox) = channel_pair();
        let reader = std::thread::spawn(move || {
            loop {
                let message = match incoming.receive() {
                    Ok(Some(message)) => Ok(message),
                    Ok(None) => return,
                    Err(error) => Err(error),
                };
                let last = message.is_err();
                if sender.send(message).is_err() || last {
                    return;
                }
            }
        });
        // A worker that dies at once makes this fail with a broken pipe; its own words say why.
        let sent = channel.send(parameters);
        let mut worker = Self { role, child, channel, inbox, reader: Some(reader), stderr, ended: None };
        match sent {
            Ok(()) => Ok(worker),
            Err(error) => Err(worker.died(&format!("sending it its parameters: {error}"))),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a message.
    ///
    /// # Errors
    /// [`End::Failed`] if it has ended.
    pub fn send(&mut self, message: &impl Serialize) -> Result<(), End> {
        let sent = self.channel.send(message);
        sent.map_err(|error| self.died(&format!("sending to it: {error}")))
    }

    /// Its next message.
    ///
    /// # Errors
    /// [`End::Failed`] if it has ended or is silent for [`WATCHDOG`], [`End::Interrupted`] after Ctrl-C.
    pub fn receive(&mut self, run: &Run<'_>) -> Result<M, End> {
        let begin = Instant::now();
        loop {
            match self.inbox.recv_timeout(Duration::from_millis(20)) {
                Ok(Ok(message)) => return Ok(message),
                Ok(Err(error)) => return Err(self.died(&format!("a message that is none: {error}"))),
                Err(RecvTimeoutError::Disconnected) => return Err(self.died("it closed its channel")),
                Err(RecvTimeoutError::Timeout) => run.check_stop()?,
            }
            if WATCHDOG < begin.elapsed() {
                return Err(failed!(
                    "worker {} hangs: silent for {} s",
                    self.role.as_str(),
                    WATCHDOG.as_secs()
                ));
            }
        }
    }

    /// A message that has arrived already, if any.
    ///
    /// # Errors
    /// [`End::Failed`] if it has ended.
    pub fn arrived(&mut self) -> Result<Option<M>, End> {
        match self.inbox.try_recv() {
            Ok(Ok(message)) => Ok(Some(message)),
            Ok(Err(error)) => Err(self.died(&format!("a message that is none: {error}"))),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(self.died("it closed its channel")),
        }
    }

    /// Kills it with SIGKILL, reaps it, and returns every message that it got off before.
    ///
    /// # Errors
    /// [`End::Failed`] if it had ended by itself.
    pub fn kill(&mut self) -> Result<Vec<M>, End> {
        // The pid is ours until the child is reaped.
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL).doing("killing a worker")?;
        let status = self.child.wait().doing("waiting for a killed worker")?;
        self.ended = Some(status);
        if std::os::unix::process::ExitStatusExt::signal(&status) != Some(Signal::SIGKILL as i32) {
            return Err(self.died("it was to be killed"));
        }
        Ok(self.rest())
    }

    /// Waits until it has ended by itself, and returns every message that it got off before, with its status.
    ///
    /// # Errors
    /// [`End::Failed`] if it is silent for [`WATCHDOG`] and still there, [`End::Interrupted`] after Ctrl-C.
    pub fn wait(&mut self, run: &Run<'_>) -> Result<(ExitStatus, Vec<M>), End> {
        let mut begin = Instant::now();
        let mut messages = Vec::new();
        loop {
            match self.inbox.recv_timeout(Duration::from_millis(20)) {
                Ok(Ok(message)) => {
                    messages.push(message);
                    begin = Instant::now();
                }
                Ok(Err(error)) => return Err(self.died(&format!("a message that is none: {error}"))),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => run.check_stop()?,
            }
            if WATCHDOG < begin.elapsed() {
                return Err(failed!(
                    "worker {} hangs: silent for {} s",
                    self.role.as_str(),
                    WATCHDOG.as_secs()
                ));
            }
        }
        let status = self.child.wait().doing("waiting for a worker")?;
        self.ended = Some(status);
        Ok((status, messages))
    }

    /// What is left in the channel of a worker that has ended.
    fn rest(&mut self) -> Vec<M> {
        if let Some(reader) = self.reader.take() {
            // It ends with the channel and has nothing to panic about.
            let _ = reader.join();
        }
        self.inbox.try_iter().filter_map(Result::ok).collect()
    }

    /// The end of a scenario whose worker has failed: its status and its last words.
    pub fn died(&mut self, how: &str) -> End {
        if self.ended.is_none() {
            // It may be on its way out; then its status says more than our signal.
            std::thread::sleep(Duration::from_millis(50));
            if let Ok(None) = self.child.try_wait() {
                let _ = self.child.kill();
            }
            self.ended = self.child.wait().ok();
        }
        let mut words = String::new();
        if let Some(mut stderr) = self.stderr.take() {
            // Its last words are a courtesy.
            let _ = stderr.read_to_string(&mut words);
        }
        let status = self.ended.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
        failed!("worker {}: {how} ({status}) {}", self.role.as_str(), words.trim())
    }
}

/// `std::sync::mpsc::channel` under a name that the module below does not take.
fn channel_pair<T>() -> (std::sync::mpsc::Sender<T>, Receiver<T>) {
    channel()
}

impl<M> Drop for Worker<M> {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // It may have ended by itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

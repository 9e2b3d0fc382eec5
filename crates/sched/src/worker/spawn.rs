//! What worker to start, and how.
//!
//! # Invariants
//! - The medium is there, and watched, before the process is.
//! - A start that fails leaves no process, descriptor or mapping behind.

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socketpair,
};
use rustix::time::{ClockId, clock_gettime};

use super::handle::{Worker, kill_group};
use super::namespace::Namespaces;
use super::slot::Slot;
use super::tail::Tail;
use crate::marker::{Identity, WORKER_NONCE_ENV, WORKER_PARENT_ENV};
use crate::message::{MediumKind, Order, PROTOCOL, encode};
use crate::ready::file::{MarkerSpec, Watch};
use crate::ready::slot::WatchedSlot;
use crate::ready::socket::Socket;
use crate::ready::{Expected, Medium};

/// By what a worker is to say that it is ready.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum MediumSpec {
    /// A message on its standard input, which its [`Endpoint`](crate::Endpoint) sends.
    #[default]
    Socket,
    /// A word in an anonymous shared region, which its [`Endpoint`](crate::Endpoint) sets, beside who it is, its phase,
    /// a heartbeat and why it failed. The gate, the stop and the report stay on the socket.
    Slot,
    /// A file. The worker needs nothing but [`publish_ready`](crate::publish_ready): it has no gate and no report, its
    /// standard input is empty, and it is stopped by SIGTERM. Each one takes an inotify instance until it is dropped, of
    /// which a user has 128 by default (`fs.inotify.max_user_instances`).
    Marker(MarkerSpec),
}

impl MediumSpec {
    /// Which one.
    pub fn kind(&self) -> MediumKind {
        match self {
            Self::Socket => MediumKind::Socket,
            Self::Slot => MediumKind::Slot,
            Self::Marker(_) => MediumKind::Marker,
        }
    }
}

/// A worker that could not be started.
#[derive(Debug, thiserror::Error)]
#[error("worker {role} ({}) was not started: {doing}: {source}", program.display())]
#[non_exhaustive]
pub struct SpawnError {
    /// What the worker is for.
    pub role: String,
    /// Its program.
    pub program: PathBuf,
    /// What was being done.
    pub doing: &'static str,
    /// What the kernel says.
    pub source: io::Error,
}

/// A worker to be started.
///
/// ```no_run
/// use std::time::Duration;
/// use outlast_sched::Spawn;
///
/// let limit = Duration::from_secs(30);
/// let mut worker = Spawn::new("filler", "target/release/filler").argument("--bytes=1048576").start()?;
/// let ready = worker.wait_ready(limit, None)?;
/// println!("ready after {:?}", ready.elapsed);
/// worker.open_gate()?;
/// // ... the work of others ...
/// worker.request_stop()?;
/// let finished = worker.finish(limit, None)?;
/// println!("{}: {:?}", finished.exit, finished.report);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Spawn {
    role: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    medium: MediumSpec,
    legend: Option<String>,
    tail_bytes: usize,
    cpus: Vec<usize>,
}

impl Spawn {
    /// The program `program`, which is called `role` in messages.
    pub fn new(role: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self {
            role: role.into(),
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
            medium: MediumSpec::default(),
            legend: None,
            tail_bytes: 16 << 10,
            cpus: Vec::new(),
        }
    }

    /// With one more argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// With more arguments.
    #[must_use]
    pub fn arguments(mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// With a variable set on top of the caller's own environment.
    #[must_use]
    pub fn variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// In a directory other than the caller's.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// With another medium than the socket.
    #[must_use]
    pub fn medium(mut self, medium: MediumSpec) -> Self {
        self.medium = medium;
        self
    }

    /// With what its exit codes mean, for messages.
    #[must_use]
    pub fn legend(mut self, legend: impl Into<String>) -> Self {
        self.legend = Some(legend.into());
        self
    }

    /// With so many bytes kept of the end of its standard output, and of its standard error; 16 KiB else.
    #[must_use]
    pub fn tail_bytes(mut self, bytes: usize) -> Self {
        self.tail_bytes = bytes;
        self
    }

    /// On these CPUs only, from its first instruction on; on those of the calling thread else.
    #[must_use]
    pub fn cpus(mut self, cpus: impl IntoIterator<Item = usize>) -> Self {
        self.cpus = cpus.into_iter().collect();
        self
    }

    /// Starts it, in a process group of its own. Its [`Endpoint`](crate::Endpoint) has the kernel kill it when the
    /// *thread* that called this ends: start workers from a thread that outlives them. Blocks until the program is
    /// loaded.
    ///
    /// # Errors
    /// [`SpawnError`] with the errno; nothing is left behind.
    pub fn start(&self) -> Result<Worker, SpawnError> {
        let failed = |doing: &'static str| {
            move |source: io::Error| SpawnError {
                role: self.role.clone(),
                program: self.program.clone(),
                doing,
                source,
            }
        };
        let nonce = random().map_err(failed("drawing a nonce"))?;
        let mut link = Link::make(self, nonce).map_err(failed("making its medium"))?;
        let now = clock_gettime(ClockId::RealtimeCoarse);
        let namespaces = Namespaces::of_self().map_err(failed("reading /proc/self/ns"))?;
        let begun = Instant::now();
        let pinned = Pinned::new(&self.cpus).map_err(failed("choosing its CPUs"))?;
        let child = self.command(nonce, &mut link).spawn().map_err(failed("starting its program"))?;
        drop(pinned);
        let mut child = Guard(Some(child));
        let identity = Identity::of(child.id(), nonce).map_err(failed("reading /proc"))?;
        let expected = Expected {
            identity,
            uid: rustix::process::geteuid().as_raw(),
            namespaces,
            since: (now.tv_sec, now.tv_nsec),
        };
        let (stdout, stderr) = child.pipes();
        let tail = |pipe: Option<OwnedFd>| match pipe {
            Some(pipe) => Tail::new(pipe, self.tail_bytes),
            None => unreachable!("both are piped"),
        };
        let process = pid_of(&child)
            .and_then(|pid| Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?));
        let process = process.map_err(failed("opening its process"))?;
        let stdout = tail(stdout).map_err(failed("reading its standard output"))?;
        let stderr = tail(stderr).map_err(failed("reading its standard error"))?;
        let (media, sender) = link.media(child.id()).map_err(failed("watching its medium"))?;
        let (role, legend, kind) = (self.role.clone(), self.legend.clone(), self.medium.kind());
        let mut worker = Worker::new(
            role,
            legend,
            kind,
            child.release(),
            process,
            expected,
            media,
            sender,
            (stdout, stderr),
            begun,
        );
        worker.check_namespaces();
        Ok(worker)
    }

    fn command(&self, nonce: u128, link: &mut Link) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env(WORKER_NONCE_ENV, format!("{nonce:032x}"));
        command.env(WORKER_PARENT_ENV, std::process::id().to_string());
        if let Link::Marker(Some(watch)) = link
            && let Some((name, path)) = watch.variable()
        {
            command.env(name, path);
        }
        command.stdin(link.stdin()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }

    /// What the worker will find under a variable's name.
    fn inherits(&self, name: &OsStr) -> Option<OsString> {
        let own = self.environment.iter().rev().find(|(own, _)| own == name).map(|(_, value)| value.clone());
        own.or_else(|| std::env::var_os(name))
    }
}

/// The calling thread, for a moment on the CPUs that its child is to inherit.
struct Pinned(Option<CpuSet>);

impl Pinned {
    fn new(cpus: &[usize]) -> io::Result<Self> {
        if cpus.is_empty() {
            return Ok(Self(None));
        }
        let own = Pid::from_raw(0);
        let before = sched_getaffinity(own)?;
        let mut wanted = CpuSet::new();
        cpus.iter().try_for_each(|cpu| wanted.set(*cpu))?;
        sched_setaffinity(own, &wanted)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // It was allowed a moment ago; if the machine has lost those CPUs, the kernel has moved the thread.
            let _ = sched_setaffinity(Pid::from_raw(0), before);
        }
    }
}

/// A child that is killed and reaped unless it is released.
struct Guard(Option<Child>);

impl Guard {
    fn child(&mut self) -> &mut Child {
        match &mut self.0 {
            Some(child) => child,
            None => unreachable!("it is released once, by value"),
        }
    }

    fn id(&self) -> u32 {
        self.0.as_ref().map_or(0, Child::id)
    }

    fn pipes(&mut self) -> (Option<OwnedFd>, Option<OwnedFd>) {
        let child = self.child();
        (child.stdout.take().map(Into::into), child.stderr.take().map(Into::into))
    }

    fn release(mut self) -> Child {
        match self.0.take() {
            Some(child) => child,
            None => unreachable!("it is released once, by value"),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            kill_group(child.id());
            // Killed, so it ends; there is nobody to tell an error.
            let _ = child.wait();
        }
    }
}

fn pid_of(child: &Guard) -> io::Result<rustix::process::Pid> {
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed());
    pid.ok_or_else(|| io::Error::other("a process without a number"))
}

/// The two ends of what connects runner and worker, before the worker is.
enum Link {
    Socket { ours: Arc<OwnedFd>, theirs: Option<OwnedFd>, slot: Option<WatchedSlot> },
    Marker(Option<Watch>),
}

impl Link {
    fn make(spawn: &Spawn, nonce: u128) -> io::Result<Self> {
        let medium = match &spawn.medium {
            MediumSpec::Marker(spec) => {
                let watch = Watch::begin(spec, nonce, |name| spawn.inherits(name))?;
                return Ok(Self::Marker(Some(watch)));
            }
            other => other.kind(),
        };
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        // From now on the kernel adds the sender to every packet that comes this way.
        setsockopt(&ours, sockopt::PassCred, &true)?;
        let generation = nonce as u32;
        let slot = match medium {
            MediumKind::Slot => Some(Slot::make(generation).map_err(io::Error::other)?),
            _ => None,
        };
        let parent = std::process::id();
        let welcome = encode(&Order::Welcome { protocol: PROTOCOL, nonce, parent, medium, generation })?;
        // The worker finds it when it looks; the slot's descriptor travels with it.
        let fds: Vec<_> = slot.iter().map(Slot::fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
            unreachable!("the space is for one descriptor");
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&ours, &[IoSlice::new(&welcome)], &mut ancillary, flags)?;
        let slot = slot.map(WatchedSlot::new).transpose()?;
        Ok(Self::Socket { ours: Arc::new(ours), theirs: Some(theirs), slot })
    }

    fn stdin(&mut self) -> Stdio {
        match self {
            Self::Socket { theirs, .. } => theirs.take().map_or_else(Stdio::null, Stdio::from),
            Self::Marker(_) => Stdio::null(),
        }
    }

    #[allow(clippy::type_complexity, reason = "media and the way back, taken apart at once")]
    fn media(self, pid: u32) -> io::Result<(Vec<Box<dyn Medium>>, Option<Arc<OwnedFd>>)> {
        Ok(match self {
            Self::Marker(watch) => {
                let watch = watch.ok_or_else(|| io::Error::other("the marker is watched already"))?;
                (vec![Box::new(watch.of(pid))], None)
            }
            Self::Socket { ours, slot, .. } => {
                let kind = if slot.is_some() { MediumKind::Slot } else { MediumKind::Socket };
                let mut media: Vec<Box<dyn Medium>> = vec![Box::new(Socket::new(Arc::clone(&ours), kind))];
                media.extend(slot.map(|slot| Box::new(slot) as Box<dyn Medium>));
                (media, Some(ours))
            }
        })
    }
}

fn random() -> io::Result<u128> {
    let mut bytes = [0; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    // 0 stands for none.
    Ok(u128::from_le_bytes(bytes) | 1)
}

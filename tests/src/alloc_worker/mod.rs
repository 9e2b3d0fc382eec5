//! `alloc-worker`: allocates a known number of bytes, touches every page, says that it is ready, and parks.
//!
//! - [`arguments`] is the command line; [`exit`] the table of exit codes; [`memory`] what is allocated.
//!
//! # Invariants
//! - It says ready once, after every page was touched and before it parks.
//! - Every line on standard error begins with [`WORKER_STDERR_PREFIX`], and every way to end has its own code.

pub mod arguments;
pub mod exit;
pub mod memory;

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use outlast_sched::{
    Endpoint, EndpointError, Protocol, WORKER_PARENT_ENV, WORKER_STDERR_PREFIX, WORKER_STDOUT_READY_PREFIX,
    end_with_parent, publish_ready,
};

use arguments::{Arguments, Parsed};
use exit::Exit;
use memory::Memory;

/// Why it ends, and what it says of it.
#[derive(Debug)]
pub struct Refusal {
    /// The exit code.
    pub exit: Exit,
    /// The text, of any number of lines.
    pub text: String,
}

impl Refusal {
    fn new(exit: Exit, text: impl ToString) -> Self {
        Self { exit, text: text.to_string() }
    }
}

/// Runs it with the words of a command line, the first of which is the program's name.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let refusal = match Arguments::parse(words) {
        Parsed::Help(text) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => Refusal::new(Exit::Ready, format!("writing the help: {error}")),
        },
        Parsed::Wrong(refusal) => refusal,
        Parsed::Right(arguments) => match run(&arguments) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(refusal) => refusal,
        },
    };
    for line in refusal.text.lines().filter(|line| !line.is_empty()) {
        // The exit code says it too, whether or not anybody can be told.
        let _ = writeln!(std::io::stderr(), "{WORKER_STDERR_PREFIX} {line}");
    }
    ExitCode::from(refusal.exit.code())
}

fn run(arguments: &Arguments) -> Result<(), Refusal> {
    // Before anything that takes time: from now on SIGTERM is waited for, not suffered.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals
        .thread_block()
        .map_err(|error| Refusal::new(Exit::Ready, format!("blocking SIGTERM: {error}")))?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)
        .map_err(|error| Refusal::new(Exit::Ready, format!("a descriptor for SIGTERM: {error}")))?;
    let mut runner = connect(arguments)?;
    let told = prepare(arguments, &mut runner);
    let memory = match told {
        Ok(memory) => memory,
        Err(refusal) => {
            if let Some(runner) = &mut runner {
                // The exit code says it too.
                let _ = runner.failed(refusal.exit.code().into(), &refusal.text);
            }
            return Err(refusal);
        }
    };
    say_ready(arguments, &mut runner, &memory)?;
    park(&signals, runner.as_mut());
    drop(memory);
    Ok(())
}

/// The runner's connection if a medium of it is asked for; else only its death, if there is a runner.
fn connect(arguments: &Arguments) -> Result<Option<Endpoint>, Refusal> {
    let refusal = |error: EndpointError| Refusal::new(Exit::Ready, error);
    if arguments.medium.is_inherited() {
        return Endpoint::inherited().map(Some).map_err(refusal);
    }
    let parent = std::env::var(WORKER_PARENT_ENV).ok().filter(|text| !text.is_empty());
    let Some(parent) = parent else { return Ok(None) };
    let parent = parent.parse().map_err(|_| {
        Refusal::new(Exit::BadArgument, format!("{WORKER_PARENT_ENV} is {parent:?}, expected a process id"))
    })?;
    end_with_parent(parent).map_err(refusal)?;
    Ok(None)
}

fn prepare(arguments: &Arguments, runner: &mut Option<Endpoint>) -> Result<Memory, Refusal> {
    phase(runner, "check")?;
    if arguments.extra_thread {
        std::thread::spawn(|| {
            loop {
                std::thread::park();
            }
        });
    }
    check_single_thread(&arguments.proc_root)?;
    phase(runner, "allocate")?;
    Memory::make(arguments)
}

fn phase(runner: &mut Option<Endpoint>, name: &str) -> Result<(), Refusal> {
    match runner {
        Some(runner) => runner.phase(name).map_err(|error| Refusal::new(Exit::Ready, error)),
        None => Ok(()),
    }
}

/// Counters of a process with threads would not be those of one.
fn check_single_thread(proc_root: &Path) -> Result<(), Refusal> {
    let path = proc_root.join("self/task");
    let tasks = std::fs::read_dir(&path).map_err(|error| {
        Refusal::new(Exit::Procfs, format!("reading {}: {error}; mount procfs there", path.display()))
    })?;
    match tasks.count() {
        1 => Ok(()),
        found => {
            let hint = "an allocator or a preloaded library has started threads: switch them off";
            Err(Refusal::new(Exit::Threads, format!("{found} threads, expected 1; {hint}")))
        }
    }
}

fn say_ready(arguments: &Arguments, runner: &mut Option<Endpoint>, memory: &Memory) -> Result<(), Refusal> {
    let line = format!("{WORKER_STDOUT_READY_PREFIX} pid={} bytes={}", std::process::id(), memory.bytes());
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .map_err(|error| Refusal::new(Exit::Ready, format!("writing the line that says ready: {error}")))?;
    match runner {
        Some(runner) => runner.ready(memory.bytes()).map_err(|error| Refusal::new(Exit::Ready, error)),
        None if arguments.medium == arguments::Medium::None => Ok(()),
        None => {
            publish_ready(&Protocol::default()).map(|_| ()).map_err(|error| Refusal::new(Exit::Ready, error))
        }
    }
}

/// Sleeps until SIGTERM, or until the runner says stop or is gone.
fn park(signals: &SignalFd, mut runner: Option<&mut Endpoint>) {
    loop {
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(runner.as_ref().map(|runner| PollFd::new(runner.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            // Nothing else can be waited for.
            Err(_) => return,
            Ok(_) => {}
        }
        if fds[0].any() == Some(true) {
            return;
        }
        drop(fds);
        // A runner that is gone wants nothing any more; one that stops gets an empty report.
        match runner.as_mut().map(|runner| runner.is_stopped()) {
            Some(Ok(false)) | None => {}
            Some(Err(_)) => return,
            Some(Ok(true)) => {
                if let Some(runner) = runner {
                    let _ = runner.report(&[]);
                }
                return;
            }
        }
    }
}

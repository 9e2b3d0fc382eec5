//! The ready marker: a file whose appearance says that a worker is ready. Needs nothing but std, so that a worker
//! links it without the runner.
//!
//! The *simple form* is the line `ready`. The *strict form* has a second line that says who is ready:
//! `v1 pid=P start=T boot=B nonce=N`, with `B` and `N` as 32 hexadecimal digits.
//!
//! # Invariants
//! - A marker is published by rename: whoever sees the file sees all of it.
//! - An empty override is no override.
//! - What is read is bounded by [`MARKER_BYTES_MAX`] and never believed further than it parses.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What the path of a ready marker begins with; the process id in decimal follows.
pub const WORKER_READY_MARKER_PREFIX: &str = "/tmp/outlast-worker-ready-";

/// The environment variable that, if it is set and not empty, is the whole path of the marker.
pub const WORKER_READY_MARKER_OVERRIDE_ENV: &str = "OUTLAST_WORKER_READY_MARKER_OVERRIDE";

/// The environment variable in which a runner hands a worker its nonce, as 32 hexadecimal digits.
pub const WORKER_NONCE_ENV: &str = "OUTLAST_WORKER_NONCE";

/// The environment variable in which a runner hands a worker its own process id, in decimal.
pub const WORKER_PARENT_ENV: &str = "OUTLAST_WORKER_PARENT";

/// What every line of `alloc-worker` on standard error begins with.
pub const WORKER_STDERR_PREFIX: &str = "outlast-alloc-worker:";

/// What the line begins with that `alloc-worker` prints when it is ready; ` pid=P bytes=N` follows.
pub const WORKER_STDOUT_READY_PREFIX: &str = "outlast-alloc-worker ready";

/// The content of a marker in the simple form, and the first line of one in the strict form.
pub const MARKER_READY: &str = "ready\n";

/// No marker is longer.
pub const MARKER_BYTES_MAX: usize = 256;

/// Path of the ready marker of process `pid` where nothing overrides it:
/// [`WORKER_READY_MARKER_PREFIX`] and the number in decimal.
///
/// ```
/// assert_eq!(outlast_sched::worker_ready_marker_path(12345), "/tmp/outlast-worker-ready-12345");
/// ```
pub fn worker_ready_marker_path(pid: u32) -> String {
    format!("{WORKER_READY_MARKER_PREFIX}{pid}")
}

/// Where markers are: the prefix of their paths, and the variable that overrides it.
///
/// ```
/// use outlast_sched::Protocol;
///
/// let protocol = Protocol::new("/run/user/1000/ready-", "MY_MARKER");
/// assert_eq!(protocol.path(7, None).to_str(), Some("/run/user/1000/ready-7"));
/// assert_eq!(protocol.path(7, Some("".as_ref())).to_str(), Some("/run/user/1000/ready-7"));
/// assert_eq!(protocol.path(7, Some("/tmp/x".as_ref())).to_str(), Some("/tmp/x"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    /// What a path begins with.
    pub prefix: OsString,
    /// The variable that is the whole path if it is set and not empty.
    pub variable: OsString,
}

impl Default for Protocol {
    /// [`WORKER_READY_MARKER_PREFIX`] and [`WORKER_READY_MARKER_OVERRIDE_ENV`].
    fn default() -> Self {
        Self::new(WORKER_READY_MARKER_PREFIX, WORKER_READY_MARKER_OVERRIDE_ENV)
    }
}

impl Protocol {
    /// With a prefix and a variable of one's own.
    pub fn new(prefix: impl Into<OsString>, variable: impl Into<OsString>) -> Self {
        Self { prefix: prefix.into(), variable: variable.into() }
    }

    /// Path of the marker of `pid`, where the variable holds `override_path`.
    pub fn path(&self, pid: u32, override_path: Option<&OsStr>) -> PathBuf {
        if let Some(path) = override_path.filter(|path| !path.is_empty()) {
            return path.into();
        }
        let mut path = self.prefix.clone();
        path.push(pid.to_string());
        path.into()
    }

    /// Path of the marker of the calling process, by its own environment.
    pub fn own_path(&self) -> PathBuf {
        self.path(std::process::id(), std::env::var_os(&self.variable).as_deref())
    }
}

/// Who is ready: a process told from every other, also from an earlier one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Number of the process, in its own pid namespace.
    pub pid: u32,
    /// When it began, in clock ticks since the machine did.
    pub start_time: u64,
    /// Which start of the machine.
    pub boot_id: u128,
    /// The number that its runner gave it; 0 if none did.
    pub nonce: u128,
}

impl Identity {
    /// Of the calling process, with the nonce of [`WORKER_NONCE_ENV`] if there is one. Reads `/proc`.
    ///
    /// # Errors
    /// If `/proc` is not there or not as expected, or the variable is no nonce.
    pub fn of_self() -> io::Result<Self> {
        let nonce = match std::env::var_os(WORKER_NONCE_ENV).filter(|text| !text.is_empty()) {
            None => 0,
            Some(text) => text.to_str().and_then(hex128).ok_or_else(|| {
                let text = format!("{WORKER_NONCE_ENV} is {text:?}, expected 32 hexadecimal digits");
                io::Error::new(io::ErrorKind::InvalidInput, text)
            })?,
        };
        let (start_time, boot_id) = (start_time_of(Path::new("/proc/self/stat"))?, boot_id()?);
        Ok(Self { pid: std::process::id(), start_time, boot_id, nonce })
    }

    /// Of process `pid`, to which `nonce` was given. Reads `/proc`.
    ///
    /// # Errors
    /// If `/proc` does not show it.
    pub fn of(pid: u32, nonce: u128) -> io::Result<Self> {
        let start_time = start_time_of(Path::new(&format!("/proc/{pid}/stat")))?;
        Ok(Self { pid, start_time, boot_id: boot_id()?, nonce })
    }
}

/// Field 22; the second field, the command in brackets, may hold anything.
fn start_time_of(path: &Path) -> io::Result<u64> {
    let text = fs::read(path)?;
    let after = text.iter().rposition(|byte| *byte == b')').map_or(0, |at| at + 1);
    std::str::from_utf8(&text[after..])
        .ok()
        .and_then(|rest| rest.split_ascii_whitespace().nth(19)?.parse().ok())
        .ok_or_else(|| not_as_expected(path))
}

fn boot_id() -> io::Result<u128> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = fs::read_to_string(path)?;
    u128::from_str_radix(&text.trim().replace('-', ""), 16).map_err(|_| not_as_expected(path))
}

fn not_as_expected(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} is not as expected", path.display()))
}

/// Exactly 32 hexadecimal digits.
fn hex128(text: &str) -> Option<u128> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

/// What a marker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// Somebody is ready.
    Simple,
    /// This process is ready.
    Strict(Identity),
}

impl fmt::Display for Marker {
    /// The content of the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MARKER_READY)?;
        match self {
            Self::Simple => Ok(()),
            Self::Strict(Identity { pid, start_time, boot_id, nonce }) => {
                writeln!(f, "v1 pid={pid} start={start_time} boot={boot_id:032x} nonce={nonce:032x}")
            }
        }
    }
}

impl Marker {
    /// Reads the content of a marker.
    ///
    /// # Errors
    /// One variant for each way not to be one.
    pub fn parse(bytes: &[u8]) -> Result<Self, MarkerParseError> {
        if MARKER_BYTES_MAX < bytes.len() {
            return Err(MarkerParseError::TooLong);
        }
        let Some(rest) = bytes.strip_prefix(MARKER_READY.as_bytes()) else {
            let cut = MARKER_READY.as_bytes().starts_with(bytes);
            return Err(if cut { MarkerParseError::Incomplete } else { MarkerParseError::NotReady });
        };
        if rest.is_empty() {
            return Ok(Self::Simple);
        }
        let line = rest.strip_suffix(b"\n").ok_or(MarkerParseError::Incomplete)?;
        let line = std::str::from_utf8(line).map_err(|_| MarkerParseError::Field { name: "version" })?;
        let mut words = line.split(' ');
        if words.next() != Some("v1") {
            return Err(MarkerParseError::Field { name: "version" });
        }
        let mut field = |name: &'static str| {
            let value = words.next().and_then(|word| word.strip_prefix(name)?.strip_prefix('='));
            value.ok_or(MarkerParseError::Field { name })
        };
        let bad = |name: &'static str| MarkerParseError::Field { name };
        let identity = Identity {
            pid: field("pid")?.parse().map_err(|_| bad("pid"))?,
            start_time: field("start")?.parse().map_err(|_| bad("start"))?,
            boot_id: hex128(field("boot")?).ok_or(bad("boot"))?,
            nonce: hex128(field("nonce")?).ok_or(bad("nonce"))?,
        };
        match words.next() {
            None => Ok(Self::Strict(identity)),
            Some(_) => Err(MarkerParseError::Field { name: "end of line" }),
        }
    }

    /// Publishes the marker at `path`, in place of what was there: a file of mode 0600 beside it, renamed. A symbolic
    /// link at `path` is replaced, not followed. Half a dozen system calls.
    ///
    /// # Errors
    /// [`MarkerError`] with the step that failed; nothing is left behind.
    pub fn publish(&self, path: &Path) -> Result<(), MarkerError> {
        let failed = |step| move |source| MarkerError { step, path: path.to_owned(), source };
        let name = path.file_name().ok_or_else(|| {
            failed("naming")(io::Error::new(io::ErrorKind::InvalidInput, "the path ends in no file name"))
        })?;
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.new", std::process::id()));
        let temporary = path.with_file_name(hidden);
        // `create_new` neither follows a link nor takes a file that somebody else put there. What a killed process of
        // the same number left is ours to remove.
        let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&temporary).map_err(failed("removing an old temporary file of"))?;
                open()
            }
            other => other,
        };
        let mut file = file.map_err(failed("making a file for"))?;
        let written = file.write_all(self.to_string().as_bytes()).map_err(failed("writing"));
        let published = written.and_then(|()| fs::rename(&temporary, path).map_err(failed("renaming to")));
        if published.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_file(&temporary);
        }
        published
    }
}

/// Publishes the strict marker of the calling process where `protocol` and its environment say.
///
/// ```no_run
/// // After everything is in place:
/// outlast_sched::publish_ready(&outlast_sched::Protocol::default())?;
/// # Ok::<(), outlast_sched::MarkerError>(())
/// ```
///
/// # Errors
/// As [`Marker::publish`], and if `/proc` does not say who the calling process is.
pub fn publish_ready(protocol: &Protocol) -> Result<PathBuf, MarkerError> {
    let path = protocol.own_path();
    match Identity::of_self() {
        Ok(identity) => Marker::Strict(identity).publish(&path).map(|()| path),
        Err(source) => Err(MarkerError { step: "finding out who publishes", path, source }),
    }
}

/// A marker that could not be published.
#[derive(Debug)]
pub struct MarkerError {
    /// What was being done.
    pub step: &'static str,
    /// The marker.
    pub path: PathBuf,
    /// What the kernel says.
    pub source: io::Error,
}

impl fmt::Display for MarkerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, path, source } = self;
        write!(f, "{step} the ready marker {}: {source}; its directory has to be writable", path.display())
    }
}

impl std::error::Error for MarkerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Why bytes are no marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MarkerParseError {
    /// Longer than [`MARKER_BYTES_MAX`].
    TooLong,
    /// It may be the beginning of one: it was not published by rename.
    Incomplete,
    /// The first line is not `ready`.
    NotReady,
    /// This part of the second line is missing or not as expected.
    Field {
        /// Its name.
        name: &'static str,
    },
}

impl fmt::Display for MarkerParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "more than {MARKER_BYTES_MAX} bytes"),
            Self::Incomplete => f.write_str("cut short, so not published by rename"),
            Self::NotReady => f.write_str("the first line is not `ready`"),
            Self::Field { name } => write!(f, "no valid {name} in the second line"),
        }
    }
}

impl std::error::Error for MarkerParseError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_is_pinned() {
        assert_eq!(WORKER_READY_MARKER_PREFIX, "/tmp/outlast-worker-ready-");
        assert_eq!(WORKER_READY_MARKER_OVERRIDE_ENV, "OUTLAST_WORKER_READY_MARKER_OVERRIDE");
        assert_eq!(WORKER_STDERR_PREFIX, "outlast-alloc-worker:");
        assert_eq!(WORKER_STDOUT_READY_PREFIX, "outlast-alloc-worker ready");
        assert_eq!(Marker::Simple.to_string(), "ready\n");
        for (pid, path) in [
            (0, "/tmp/outlast-worker-ready-0"),
            (1, "/tmp/outlast-worker-ready-1"),
            (12345, "/tmp/outlast-worker-ready-12345"),
            (u32::MAX, "/tmp/outlast-worker-ready-4294967295"),
        ] {
            assert_eq!(worker_ready_marker_path(pid), path);
            assert_eq!(Protocol::default().path(pid, None), Path::new(path));
        }
    }

    fn identity() -> Identity {
        Identity { pid: 12, start_time: 34, boot_id: u128::MAX, nonce: 5 }
    }

    #[test]
    fn what_is_written_is_read() {
        let text = Marker::Strict(identity()).to_string();
        let line =
            "v1 pid=12 start=34 boot=ffffffffffffffffffffffffffffffff nonce=00000000000000000000000000000005";
        assert_eq!(text, format!("ready\n{line}\n"));
        assert_eq!(Marker::parse(text.as_bytes()), Ok(Marker::Strict(identity())));
        let most = Identity { pid: u32::MAX, start_time: u64::MAX, boot_id: u128::MAX, nonce: u128::MAX };
        assert_eq!(
            Marker::parse(Marker::Strict(most).to_string().as_bytes()),
            Ok(Marker::Strict(most)),
            "the longest fits"
        );
    }

    #[test]
    fn every_cut_and_every_wrong_byte_is_refused() {
        let text = Marker::Strict(identity()).to_string();
        for len in 0..text.len() {
            let expected = if len == MARKER_READY.len() {
                Ok(Marker::Simple)
            } else {
                Err(MarkerParseError::Incomplete)
            };
            assert_eq!(Marker::parse(&text.as_bytes()[..len]), expected, "{len}");
        }
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = b'\xff';
            assert!(Marker::parse(&bytes).is_err(), "{at}");
        }
        let field = |name| Err(MarkerParseError::Field { name });
        assert_eq!(Marker::parse(b"done\n"), Err(MarkerParseError::NotReady));
        assert_eq!(Marker::parse(b"ready\nv2 pid=1\n"), field("version"));
        assert_eq!(Marker::parse(b"ready\nv1 pid=-1\n"), field("pid"));
        assert_eq!(Marker::parse(text.replace("00000005", "5").as_bytes()), field("nonce"));
        assert_eq!(Marker::parse(text.replace("5\n", "5 x\n").as_bytes()), field("end of line"));
        assert_eq!(Marker::parse(&[b'r'; MARKER_BYTES_MAX + 1]), Err(MarkerParseError::TooLong));
    }
}

//! Who a process is: more than its number, so that a number that was given out again is noticed.
//!
//! # Invariants
//! - What /proc does not tell is 0, and 0 never proves anything.
//! - `/proc/PID` is only believed if this /proc shows the pid namespace that this process lives in.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::Liveness;

/// Identity of a process and of the thread that joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    pub(crate) start_time: u64,
    pub(crate) boot_id: u128,
    pub(crate) pid_ns: u64,
    pub(crate) time_ns: u64,
}

impl Identity {
    /// Of the calling process. Half a dozen reads of /proc.
    pub(crate) fn of_self(tid: u32) -> Self {
        Self {
            pid: std::process::id(),
            tid,
            start_time: read_stat("/proc/self/stat").map_or(0, |stat| stat.start_time),
            boot_id: boot_id().unwrap_or(0),
            pid_ns: namespace("pid"),
            time_ns: namespace("time"),
        }
    }

    /// Whether process and thread numbers and start times mean the same to `self` and `other`.
    fn is_comparable(&self, other: &Self) -> bool {
        self.boot_id != 0
            && self.start_time != 0
            && self.pid_ns != 0
            && self.time_ns != 0
            && (self.boot_id, self.pid_ns, self.time_ns) == (other.boot_id, other.pid_ns, other.time_ns)
    }

    /// What /proc says about the process of this identity and, if given, one of its threads.
    pub(crate) fn judge(&self, tid: Option<u32>) -> Liveness {
        if !self.is_comparable(&Self::of_self(0)) || !proc_is_ours() {
            return Liveness::Unknown;
        }
        let process = format!("/proc/{}", self.pid);
        let stat = match read_stat(&format!("{process}/stat")) {
            Ok(stat) => stat,
            Err(error) if is_gone(&error) => return self.judge_hidden(),
            Err(_) => return Liveness::Unknown,
        };
        if stat.start_time != self.start_time || (stat.has_ended() && stat.threads <= 1) {
            return Liveness::Dead;
        }
        match tid.map(|tid| read_stat(&format!("{process}/task/{tid}/stat"))) {
            Some(Ok(thread)) if thread.has_ended() => Liveness::Dead,
            Some(Err(error)) if is_gone(&error) => Liveness::Dead,
            _ => Liveness::Alive,
        }
    }

    /// Of a process that /proc does not show: it may be hidden (`hidepid`) rather than gone.
    fn judge_hidden(&self) -> Liveness {
        match kill(Pid::from_raw(self.pid.cast_signed()), None) {
            Err(Errno::ESRCH) if 0 < self.pid.cast_signed() => Liveness::Dead,
            _ => Liveness::Unknown,
        }
    }
}

/// Whether a thread of this process has ended; `false` if that cannot be found out.
pub(crate) fn own_thread_has_ended(tid: u32) -> bool {
    if !proc_is_ours() {
        return false;
    }
    match read_stat(&format!("/proc/self/task/{tid}/stat")) {
        Ok(stat) => stat.has_ended(),
        Err(error) => is_gone(&error),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: u8,
    threads: u64,
    start_time: u64,
}

impl Stat {
    /// Fields 3, 20 and 22; the second field, the command in brackets, may hold anything.
    fn parse(text: &[u8]) -> Option<Self> {
        let after = text.iter().rposition(|byte| *byte == b')')? + 1;
        let rest = core::str::from_utf8(&text[after..]).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let threads = fields.nth(16)?.parse().ok()?;
        let start_time = fields.nth(1)?.parse().ok()?;
        Some(Self { state, threads, start_time })
    }

    fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

fn read_stat(path: &str) -> io::Result<Stat> {
    Stat::parse(&fs::read(path)?).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

fn boot_id() -> Option<u128> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    u128::from_str_radix(&text.trim().replace('-', ""), 16).ok()
}

/// Inode of one of this process's namespaces.
fn namespace(kind: &str) -> u64 {
    fs::metadata(format!("/proc/self/ns/{kind}")).map_or(0, |metadata| metadata.ino())
}

/// `NSpid` lists this process's number in the namespace that /proc shows and in each one nested in it down
/// to the process's own: a single number if the two are the same.
fn proc_is_ours() -> bool {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return false };
    let Some(line) = status.lines().find_map(|line| line.strip_prefix("NSpid:")) else { return false };
    let mut numbers = line.split_ascii_whitespace();
    numbers.next().and_then(|number| number.parse().ok()) == Some(std::process::id())
        && numbers.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_survives_any_command_name() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 3 0 8734 0 0";
        for command in ["a", "a b) c", ")", "((", "x) Z 1 1 1 1"] {
            let line = format!("12 ({command}) {tail}");
            let expected = Stat { state: b'S', threads: 3, start_time: 8734 };
            assert_eq!(Stat::parse(line.as_bytes()), Some(expected), "{command}");
        }
        for damaged in
            ["", "12", "12 (a)", "12 (a) S 1 2 3", "12 (a) S a b c d e f g h i j k l m n o p q r s"]
        {
            assert_eq!(Stat::parse(damaged.as_bytes()), None, "{damaged}");
        }
    }

    #[test]
    fn own_identity_is_alive_and_a_changed_one_is_not() {
        let own = Identity::of_self(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs());
        assert!(own.start_time != 0 && own.boot_id != 0 && own.pid_ns != 0, "{own:?}");
        if !proc_is_ours() {
            println!("skipped: /proc shows another pid namespace");
            return;
        }
        assert_eq!(own.judge(None), Liveness::Alive);
        assert_eq!(own.judge(Some(own.tid)), Liveness::Alive);
        assert_eq!(Identity { start_time: own.start_time + 1, ..own }.judge(None), Liveness::Dead);
        assert_eq!(Identity { boot_id: own.boot_id ^ 1, ..own }.judge(None), Liveness::Unknown);
        assert_eq!(Identity { pid_ns: own.pid_ns ^ 1, ..own }.judge(None), Liveness::Unknown);
        assert_eq!(Identity { time_ns: own.time_ns ^ 1, ..own }.judge(None), Liveness::Unknown);
        assert_eq!(Identity { time_ns: 0, ..own }.judge(None), Liveness::Unknown);
        assert_eq!(Identity { pid: u32::MAX, ..own }.judge(None), Liveness::Unknown, "no such pid can be");
        let ended = std::thread::spawn(|| rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs());
        let tid = ended.join().unwrap();
        // The kernel may list a thread for an instant after it was joined.
        while std::path::Path::new(&format!("/proc/self/task/{tid}")).exists() {
            std::thread::yield_now();
        }
        assert!(own_thread_has_ended(tid) && !own_thread_has_ended(own.tid));
        assert_eq!(own.judge(Some(tid)), Liveness::Dead);
    }
}

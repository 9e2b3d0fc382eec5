//! What a command that did not succeed tells: what failed and why, how it counts, and what to do next.
//!
//! # Invariants
//! - Every error of the libraries is classified here and nowhere else, so the same cause ends with the same
//!   exit code whatever the command was.

use core::error::Error;
use core::fmt;
use std::io;

use outlast_checkpt::{ReadError, WriteError};
use outlast_shm::{DomainError, JoinError, LockError, RegionError};
use outlast_wksp::{
    AccessError, AllocError, AttachError, CheckpointError, CreateError, FreeError, QueryError, RestoreError,
    WatchError,
};
use serde_json::json;

use crate::exit::Status;

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// How it counts.
    pub(crate) status: Status,
    /// What failed, what was expected and what was found, in one line.
    message: String,
    /// What to do about it, where the message does not say.
    next: Option<String>,
    /// The live process that is in the way.
    pid: Option<u32>,
}

impl Failure {
    pub(crate) fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), next: None, pid: None }
    }

    /// A command line that cannot be carried out.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Status::Usage, message)
    }

    /// The answer could not be printed. A reader that has seen enough and closed the pipe is no failure.
    pub(crate) fn output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Status::Ok, ""),
            _ => Self::new(Status::Failed, format!("the answer could not be written to stdout: {error}")),
        }
    }

    /// Says what it was about: `subject` comes in front of the message.
    pub(crate) fn about(mut self, subject: impl fmt::Display) -> Self {
        self.message = format!("{subject}: {}", self.message);
        self
    }

    /// Says what to do about it, unless that is known already.
    pub(crate) fn or_next(mut self, next: impl Into<String>) -> Self {
        self.next.get_or_insert(next.into());
        self
    }

    /// Says what to do about it if it counts as `status`.
    pub(crate) fn next_if(self, status: Status, next: impl Into<String>) -> Self {
        if self.status == status { self.or_next(next) } else { self }
    }

    /// The message alone.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// One line of JSON.
    pub(crate) fn to_json(&self) -> String {
        let Self { status, message, next, pid } = self;
        let (status, exit_code) = (json!(status), status.code());
        let error =
            json!({ "status": status, "exit_code": exit_code, "message": message, "next": next, "pid": pid });
        json!({ "error": error }).to_string()
    }

    /// A failure that counts as `status`, with the text of `error` and of what caused it.
    fn of(status: Status, error: &dyn Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Many errors show their cause in their own text.
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = error.source();
        }
        Self::new(status, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match &self.next {
            Some(next) => write!(f, "\n next: {next}"),
            None => Ok(()),
        }
    }
}

/// How an error counts, and who is in the way if somebody is.
type Class = (Status, Option<u32>);

macro_rules! classified {
    ($($error:ident => $class:ident,)*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                let (status, pid) = $class(&error);
                Self { pid, ..Self::of(status, &error) }
            }
        }
    )*};
}

classified! {
    DomainError => domain,
    RegionError => region,
    AccessError => access,
    AttachError => attach,
    CreateError => create,
    AllocError => alloc,
    FreeError => free,
    QueryError => query,
    ReadError => read,
    CheckpointError => checkpoint,
    RestoreError => restore,
    WatchError => watch,
}

fn domain(error: &DomainError) -> Class {
    let absent = matches!(error, DomainError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound);
    (if absent { Status::NotFound } else { Status::Failed }, None)
}

fn region(error: &RegionError) -> Class {
    let status = match error {
        RegionError::Missing { .. } => Status::NotFound,
        RegionError::Magic { .. }
        | RegionError::Checksum { .. }
        | RegionError::Header { .. }
        | RegionError::HeaderName { .. }
        | RegionError::Size { .. } => Status::Damaged,
        RegionError::Spec { .. } => Status::Usage,
        RegionError::Join(error) => return join(error),
        _ => Status::Failed,
    };
    (status, None)
}

fn join(error: &JoinError) -> Class {
    match error {
        JoinError::TableFull { .. } => (Status::Busy, None),
        _ => (Status::Failed, None),
    }
}

fn lock(error: &LockError) -> Class {
    match error {
        LockError::Busy { owner, .. } => (Status::Busy, owner.as_ref().map(|owner| owner.pid)),
        LockError::Stolen { .. } => (Status::Damaged, None),
        LockError::Join(error) => join(error),
        _ => (Status::Failed, None),
    }
}

fn access(error: &AccessError) -> Class {
    match error {
        AccessError::Lock(error) => lock(error),
        AccessError::Corrupt(_) | AccessError::Restoring { .. } => (Status::Damaged, None),
        AccessError::Region(error) => region(error),
        _ => (Status::Failed, None),
    }
}

fn attach(error: &AttachError) -> Class {
    match error {
        AttachError::Region(error) => region(error),
        AttachError::Corrupt(_) => (Status::Damaged, None),
        _ => (Status::Failed, None),
    }
}

fn create(error: &CreateError) -> Class {
    match error {
        CreateError::Size { .. } => (Status::Usage, None),
        CreateError::Region(error) => region(error),
        CreateError::Access(error) => access(error),
        _ => (Status::Failed, None),
    }
}

fn alloc(error: &AllocError) -> Class {
    match error {
        AllocError::ZeroSize | AllocError::ZeroTag | AllocError::Align { .. } => (Status::Usage, None),
        AllocError::Access(error) => access(error),
        _ => (Status::Failed, None),
    }
}

fn free(error: &FreeError) -> Class {
    match error {
        FreeError::OutOfRange { .. } | FreeError::NotAllocated { .. } | FreeError::Stale { .. } => {
            (Status::NotFound, None)
        }
        FreeError::Access(error) => access(error),
        _ => (Status::Failed, None),
    }
}

fn query(error: &QueryError) -> Class {
    match error {
        QueryError::OutOfRange { .. } | QueryError::NotAllocated { .. } => (Status::NotFound, None),
        QueryError::Unstable { .. } => (Status::Busy, None),
        QueryError::Access(error) => access(error),
        _ => (Status::Failed, None),
    }
}

fn read(error: &ReadError) -> Class {
    let status = match error {
        ReadError::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => Status::NotFound,
        ReadError::NotACheckpoint { .. }
        | ReadError::Truncated { .. }
        | ReadError::TrailingBytes { .. }
        | ReadError::Corrupt(_) => Status::Damaged,
        ReadError::Cancelled { .. } => Status::Interrupted,
        _ => Status::Failed,
    };
    (status, None)
}

fn checkpoint(error: &CheckpointError) -> Class {
    match error {
        CheckpointError::Write(WriteError::Cancelled { .. }) => (Status::Interrupted, None),
        CheckpointError::Access(error) => access(error),
        _ => (Status::Failed, None),
    }
}

fn restore(error: &RestoreError) -> Class {
    match error {
        RestoreError::Read(error) => read(error),
        RestoreError::Interrupted(ReadError::Cancelled { .. }) => (Status::Interrupted, None),
        RestoreError::Interrupted(_) => (Status::Damaged, None),
        RestoreError::Create(error) => create(error),
        RestoreError::Region(error) => region(error),
        RestoreError::Access(error) => access(error),
        _ => (Status::Failed, None),
    }
}

fn watch(error: &WatchError) -> Class {
    match error {
        WatchError::Attach(error) => attach(error),
        WatchError::Region(error) => region(error),
        WatchError::Deleted { .. } => (Status::NotFound, None),
        _ => (Status::Failed, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_cause_counts_the_same_however_deep_it_is() {
        let busy = || LockError::Busy { owner: None, tid: 7, waited: core::time::Duration::from_millis(20) };
        for failure in [
            Failure::from(AccessError::Lock(busy())),
            QueryError::Access(busy().into()).into(),
            FreeError::Access(busy().into()).into(),
            AllocError::Access(busy().into()).into(),
            CheckpointError::Access(busy().into()).into(),
            RestoreError::Access(busy().into()).into(),
        ] {
            assert_eq!(failure.status, Status::Busy, "{failure}");
        }
        let missing = || RegionError::Missing { name: "a".try_into().unwrap() };
        for failure in [
            Failure::from(missing()),
            AttachError::Region(missing()).into(),
            CreateError::Region(missing()).into(),
            RestoreError::Region(missing()).into(),
            RestoreError::Create(missing().into()).into(),
        ] {
            assert_eq!(failure.status, Status::NotFound, "{failure}");
        }
    }

    #[test]
    fn causes_are_told_once() {
        let source = io::Error::from(io::ErrorKind::NotFound);
        let failure = Failure::from(RestoreError::Read(ReadError::Open { path: "x".into(), source }));
        assert_eq!(failure.to_string(), "error: x could not be opened: entity not found");
        let failure = failure.about("here").or_next("look there").or_next("not this");
        assert_eq!(
            failure.to_string(),
            "error: here: x could not be opened: entity not found\n next: look there"
        );
        let json: serde_json::Value = serde_json::from_str(&failure.to_json()).unwrap();
        assert_eq!(
            (json["error"]["status"].as_str(), json["error"]["exit_code"].as_u64()),
            (Some("not-found"), Some(4))
        );
    }
}

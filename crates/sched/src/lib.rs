//! Jobs on bounded slots, worker processes and their readiness, and reports of what happened.

#[cfg(feature = "runner")]
mod event;
#[cfg(feature = "runner")]
mod job;
mod marker;
#[cfg(feature = "worker")]
mod message;
#[cfg(feature = "runner")]
mod outcome;
#[cfg(feature = "runner")]
mod ready;
#[cfg(feature = "runner")]
mod sink;
#[cfg(feature = "worker")]
mod worker;

#[cfg(feature = "runner")]
pub use event::{Event, Host, JobInfo, PlanInfo, Record, SCHEMA, Sample, Summary};
#[cfg(feature = "runner")]
pub use job::{Command, Cpus, Demand, Expectation, Job, Limit};
pub use marker::{
    Identity, MARKER_BYTES_MAX, MARKER_READY, Marker, MarkerError, MarkerParseError, Protocol,
    WORKER_NONCE_ENV, WORKER_PARENT_ENV, WORKER_READY_MARKER_OVERRIDE_ENV, WORKER_READY_MARKER_PREFIX,
    WORKER_STDERR_PREFIX, WORKER_STDOUT_READY_PREFIX, publish_ready, worker_ready_marker_path,
};
#[cfg(feature = "worker")]
pub use message::{MESSAGE_BYTES_MAX, MediumKind, REPORT_BYTES_MAX};
#[cfg(feature = "runner")]
pub use outcome::{Exit, Outcome, Verdict, exit_code};
#[cfg(feature = "runner")]
pub use ready::file::{Acceptance, MarkerSpec};
#[cfg(feature = "runner")]
pub use ready::mishap::{Difference, Mishap, Peer, WorkerError};
#[cfg(feature = "runner")]
pub use sink::Sink;
#[cfg(feature = "worker")]
pub use worker::endpoint::{Endpoint, EndpointError, Signpost, end_with_parent};
#[cfg(feature = "runner")]
pub use worker::handle::{Finished, Ready, Worker, finish_all, wait_all_ready};
#[cfg(feature = "worker")]
pub use worker::namespace::Namespaces;
#[cfg(feature = "runner")]
pub use worker::spawn::{MediumSpec, Spawn, SpawnError};

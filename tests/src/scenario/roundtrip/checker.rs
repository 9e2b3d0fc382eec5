//! The second process of a round trip: it joins the anonymous region by its descriptor and does the checking.

use outlast_wksp::Wksp;
use serde::{Deserialize, Serialize};

use super::check;
use super::fill::{Allocation, Workers};
use crate::worker::channel::{Channel, handed_over};

/// What it is to check.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// Seed of the run.
    pub seed: u64,
    /// Which iteration it is, for the random bytes to look at.
    pub iteration: u64,
    /// Threads to check with.
    pub workers: usize,
    /// What has to be there.
    pub made: Vec<Allocation>,
}

/// What it says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It has joined the region, before anything is in it.
    Joined,
    /// Everything is there and nothing else.
    Right,
    /// The first difference.
    Wrong(String),
}

/// The role.
///
/// # Errors
/// Why it could not do its work.
pub fn main(mut channel: Channel) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let () = channel.receive().map_err(text)?.ok_or("no parameters")?;
    let fd = handed_over().map_err(text)?;
    let wksp = Wksp::from_fd(fd).map_err(|error| format!("joining: {error}"))?;
    channel.send(&Verdict::Joined).map_err(text)?;
    let Some(Request { seed, iteration, workers, made }) = channel.receive().map_err(text)? else {
        return Ok(());
    };
    let workers = Workers::new(workers).map_err(|end| end.to_string())?;
    let mut draws = workers.draws(seed, iteration);
    let verdict = match check::everything(&wksp, &workers, &mut draws, &made) {
        Ok(()) => Verdict::Right,
        Err(end) => Verdict::Wrong(end.to_string()),
    };
    channel.send(&verdict).map_err(text)
}

//! Measurements in pairs, taken in turn.
//!
//! # Invariants
//! - Of each pair the one or the other comes first in turn, so that neither profits from its place.
//! - The first pair warms up and does not count.

use std::time::{Duration, Instant};

use super::Context;
use super::figure::Spread;
use crate::end::End;

/// Seconds of measurement and yardstick, pair by pair.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairs {
    /// What is measured.
    pub subject: Vec<f64>,
    /// What it is measured by.
    pub yardstick: Vec<f64>,
}

impl Pairs {
    /// How many times as fast as the yardstick the subject is.
    pub fn speed(&self) -> Spread {
        let pairs = self.subject.iter().zip(&self.yardstick);
        Spread::of(pairs.map(|(subject, yardstick)| yardstick / subject).collect())
    }

    /// Units of work a second, given how many one run does.
    pub fn rate(seconds: &[f64], work: f64) -> Spread {
        Spread::of(seconds.iter().map(|seconds| work / seconds).collect())
    }
}

/// Measures pairs: both closures return how long they took.
///
/// # Errors
/// Those of the closures, and [`End::Interrupted`].
pub fn pairs(
    context: &Context,
    mut subject: impl FnMut() -> Result<Duration, End>,
    mut yardstick: impl FnMut() -> Result<Duration, End>,
) -> Result<Pairs, End> {
    let mut found = Pairs { subject: Vec::new(), yardstick: Vec::new() };
    for turn in 0..=context.pairs {
        context.check()?;
        let (ours, theirs) = if turn % 2 == 0 {
            let ours = subject()?;
            (ours, yardstick()?)
        } else {
            let theirs = yardstick()?;
            (subject()?, theirs)
        };
        if turn != 0 {
            found.subject.push(ours.as_secs_f64());
            found.yardstick.push(theirs.as_secs_f64());
        }
    }
    Ok(found)
}

/// A span of time as figures give it.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// How long `work` takes, and what it returns.
pub fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let begin = Instant::now();
    let made = work();
    (begin.elapsed(), made)
}

/// How long `threads` threads take that each do `work` with their number, from the first's start to the last's
/// end; the threads are there before it begins.
pub fn threads_timed(threads: usize, work: impl Fn(usize) + Sync) -> Duration {
    let barrier = std::sync::Barrier::new(threads);
    let (work, barrier) = (&work, &barrier);
    let spans: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    barrier.wait();
                    let begin = Instant::now();
                    work(thread);
                    (begin, Instant::now())
                })
            })
            .collect();
        handles.into_iter().filter_map(|handle| handle.join().ok()).collect()
    });
    let begin = spans.iter().map(|span| span.0).min();
    let end = spans.iter().map(|span| span.1).max();
    end.zip(begin).map_or(Duration::ZERO, |(end, begin)| end - begin)
}

//! A part of a plan, for one of several machines.
//!
//! # Invariants
//! - The n shards of a plan are disjoint and together are the plan; which job is in which depends on its place alone.

use core::fmt;
use core::str::FromStr;

use crate::job::Job;

/// Part `i` of `n`, `i` from 1: every n-th job of the plan, beginning with the i-th.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shard {
    index: u32,
    count: u32,
}

/// What is no shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no shard: write I/N with 1 <= I <= N, such as 2/3 for the second of three parts")]
pub struct ShardError {
    found: String,
}

impl Shard {
    /// Part `index` of `count`.
    ///
    /// # Errors
    /// Unless `1 <= index <= count`.
    pub fn new(index: u32, count: u32) -> Result<Self, ShardError> {
        if (1..=count).contains(&index) {
            Ok(Self { index, count })
        } else {
            Err(ShardError { found: format!("{index}/{count}") })
        }
    }

    /// As `(i, n)`.
    pub fn parts(self) -> (u32, u32) {
        (self.index, self.count)
    }

    /// Keeps the jobs of this shard, in plan order, and notes in each its place in the whole plan.
    pub fn select(self, plan: Vec<Job>) -> Vec<Job> {
        (0..)
            .zip(plan)
            .filter(|(place, _)| place % self.count == self.index - 1)
            .map(|(global_ordinal, job)| Job { global_ordinal, ..job })
            .collect()
    }
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let number = |digits: &str| {
            // `parse` alone would take a sign.
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
        };
        text.split_once('/')
            .and_then(|(index, count)| Self::new(number(index)?, number(count)?).ok())
            .ok_or_else(|| ShardError { found: text.to_owned() })
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

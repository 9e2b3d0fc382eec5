//! Mixes of durations as test suites have them: the five in which earlier queues were measured.
//!
//! # Invariants
//! - Durations come from [`Draw`] alone, so a seed gives the same ones everywhere that `ln`, `exp` and `cos` round alike.

use std::time::Duration;

use crate::draw::Draw;

/// A mix of durations with a mean of about 0.1 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// All of them 0.1 s.
    Equal,
    /// Exponential.
    Exponential,
    /// Log-normal with sigma 1.5.
    LogNormal,
    /// Exponential, and five of 8 to 12 s.
    Stragglers,
    /// The same, with a tenth of the jobs.
    FewWithStragglers,
}

impl Mix {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Equal, Self::Exponential, Self::LogNormal, Self::Stragglers, Self::FewWithStragglers];

    /// What it is called.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "all 0.1 s",
            Self::Exponential => "exponential",
            Self::LogNormal => "log-normal, sigma 1.5",
            Self::Stragglers => "exponential + 5 of 8..12 s",
            Self::FewWithStragglers => "the same, a tenth of the jobs",
        }
    }

    /// Seconds of `count` jobs; a tenth of them for [`FewWithStragglers`](Self::FewWithStragglers).
    pub fn seconds(self, count: usize, draw: &mut Draw) -> Vec<f64> {
        const MEAN: f64 = 0.1;
        let count = if self == Self::FewWithStragglers { count / 10 } else { count };
        let mut seconds: Vec<f64> = (0..count)
            .map(|_| match self {
                Self::Equal => MEAN,
                // The mean of exp(sigma * z) is exp(sigma^2 / 2).
                Self::LogNormal => MEAN * (1.5 * normal(draw) - 1.125).exp(),
                _ => -MEAN * open_unit(draw).ln(),
            })
            .collect();
        if matches!(self, Self::Stragglers | Self::FewWithStragglers) {
            for straggler in seconds.iter_mut().take(5) {
                *straggler = 8.0 + 4.0 * open_unit(draw);
            }
        }
        seconds
    }
}

/// A factor by which an expectation is off: log-normal with sigma 0.5.
pub fn noise(draw: &mut Draw) -> f64 {
    (0.5 * normal(draw)).exp()
}

/// Whole microseconds.
pub fn duration(seconds: f64) -> Duration {
    Duration::from_micros((seconds * 1e6).round() as u64)
}

/// Uniform between 0 and 1, neither of them included.
fn open_unit(draw: &mut Draw) -> f64 {
    ((draw.word() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
}

/// Normal with mean 0 and variance 1 (Box and Muller 1958).
fn normal(draw: &mut Draw) -> f64 {
    (-2.0 * open_unit(draw).ln()).sqrt() * (std::f64::consts::TAU * open_unit(draw)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_about_a_tenth_of_a_second() {
        for mix in [Mix::Equal, Mix::Exponential, Mix::LogNormal] {
            let seconds = mix.seconds(100_000, &mut Draw::new(1, 0, 0));
            let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
            assert!((0.09..0.11).contains(&mean), "{mix:?}: {mean}");
        }
        let few = Mix::FewWithStragglers.seconds(2000, &mut Draw::new(1, 0, 0));
        assert_eq!((few.len(), few.iter().filter(|seconds| 8.0 <= **seconds).count()), (200, 5));
    }
}

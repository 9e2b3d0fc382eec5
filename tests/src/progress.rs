//! One line of progress on standard error, where somebody is looking.
//!
//! # Invariants
//! - Nothing is shown unless standard error is a terminal and `CI` is not set.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// The line of one scenario.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A line for the scenario `name` that shows itself if `shown`.
    pub fn new(name: &str, shown: bool) -> Self {
        if !shown {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner().with_prefix(name.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}  {pos} {msg}  {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// Whether somebody is looking.
    pub fn is_wanted() -> bool {
        std::io::stderr().is_terminal() && std::env::var_os("CI").is_none()
    }

    /// How far the scenario is.
    pub fn set(&self, iterations: u64, stage: impl Into<std::borrow::Cow<'static, str>>) {
        self.0.set_position(iterations);
        self.0.set_message(stage);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

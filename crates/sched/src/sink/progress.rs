//! What runs at this moment: a line for each slot and one for the whole, below the report.
//!
//! # Invariants
//! - Nothing is drawn if standard error is no terminal or `CI` is set.
//! - A time to the end is only given when every job that is left has an expectation.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::Sink;
use super::words::{one_line, short, span};
use crate::event::{Event, PlanInfo};

/// Slots that get a line; with more of them only the total would fit on a screen.
const MOST_LINES: usize = 16;

/// Draws the jobs that run.
pub struct Progress {
    area: MultiProgress,
    on: bool,
    run: Option<Run>,
}

impl Progress {
    /// On standard error if that is a terminal and `CI` is not set; otherwise it draws nothing.
    pub fn new() -> Self {
        if io::stderr().is_terminal() && std::env::var_os("CI").is_none() {
            Self::with_target(ProgressDrawTarget::stderr())
        } else {
            Self { on: false, ..Self::with_target(ProgressDrawTarget::hidden()) }
        }
    }

    fn with_target(target: ProgressDrawTarget) -> Self {
        Self { area: MultiProgress::with_draw_target(target), on: true, run: None }
    }

    /// Whether it draws.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// A writer to the same screen that does not tear the lines of the progress, nor they its own: what is written
    /// goes out at `flush`, while the progress is taken away.
    pub fn beside(&self, out: Box<dyn Write + Send>) -> Box<dyn Write + Send> {
        if self.on { Box::new(Beside { area: self.area.clone(), out, text: Vec::new() }) } else { out }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("on", &self.on).finish_non_exhaustive()
    }
}

impl Sink for Progress {
    fn on(&mut self, event: &Event) -> io::Result<()> {
        if !self.on {
            return Ok(());
        }
        if let Event::Planned(plan) = event {
            self.run = Some(Run::new(&self.area, plan));
        }
        let Some(run) = &mut self.run else { return Ok(()) };
        match event {
            Event::Assigned { ordinal, slot, .. } => run.begin(*ordinal, *slot),
            Event::Finished(record) => run.end(record.ordinal, record.slot, record.outcome.is_failure()),
            Event::Ended(_) => {
                self.run = None;
                self.area.clear()?;
            }
            _ => {}
        }
        Ok(())
    }
}

struct Beside {
    area: MultiProgress,
    out: Box<dyn Write + Send>,
    text: Vec<u8>,
}

impl Write for Beside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let text = std::mem::take(&mut self.text);
        self.area.suspend(|| self.out.write_all(&text).and_then(|()| self.out.flush()))
    }
}

/// The lines of a run.
struct Run {
    names: Vec<String>,
    estimate: Estimate,
    slots: Vec<ProgressBar>,
    total: ProgressBar,
    failed: u64,
    /// When the run will be over; the total's line counts down to it between events.
    over: Arc<Mutex<Option<Instant>>>,
}

impl Run {
    fn new(area: &MultiProgress, plan: &PlanInfo) -> Self {
        let over = Arc::new(Mutex::new(None));
        let total = area.add(ProgressBar::new(plan.jobs.len() as u64));
        total.set_style(total_style(Arc::clone(&over)));
        total.enable_steady_tick(Duration::from_millis(250));
        let lines = (plan.slots as usize).min(plan.jobs.len());
        let lines = if lines > MOST_LINES { 0 } else { lines };
        let slots = (0..lines)
            .map(|slot| {
                let line = area.insert_before(&total, ProgressBar::new_spinner());
                line.set_style(slot_style());
                line.set_prefix(format!("{:>2}", slot + 1));
                line.set_message("idle");
                line
            })
            .collect();
        let names = plan.jobs.iter().map(|job| one_line(&job.name).into_owned()).collect();
        let mut run = Self { names, estimate: Estimate::new(plan), slots, total, failed: 0, over };
        run.refresh();
        run
    }

    fn begin(&mut self, ordinal: u32, slot: u32) {
        self.estimate.begin(ordinal, Instant::now());
        if let (Some(line), Some(name)) = (self.slots.get(slot as usize), self.names.get(ordinal as usize)) {
            let expected = match self.estimate.expected(ordinal) {
                Some(expected) => format!(" of about {}", span(expected)),
                None => String::new(),
            };
            line.reset_elapsed();
            line.set_message(format!("{}{expected}", short(name, 60)));
            line.enable_steady_tick(Duration::from_millis(250));
        }
        self.refresh();
    }

    fn end(&mut self, ordinal: u32, slot: Option<u32>, failed: bool) {
        self.estimate.end(ordinal);
        if let Some(line) = slot.and_then(|slot| self.slots.get(slot as usize)) {
            line.disable_steady_tick();
            line.reset_elapsed();
            line.set_message("idle");
        }
        self.failed += u64::from(failed);
        self.total.inc(1);
        if self.failed > 0 {
            self.total.set_message(format!(", {} failed", self.failed));
        }
        self.refresh();
    }

    fn refresh(&mut self) {
        let now = Instant::now();
        let left = self.estimate.left(now).and_then(|left| now.checked_add(left));
        *self.over.lock().unwrap_or_else(PoisonError::into_inner) = left;
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.slots.iter().chain([&self.total]).for_each(ProgressBar::finish_and_clear);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn slot_style() -> ProgressStyle {
    style("{prefix:.dim} {elapsed:>5} {wide_msg}")
}

fn total_style(over: Arc<Mutex<Option<Instant>>>) -> ProgressStyle {
    let left = move |_: &ProgressState, out: &mut dyn fmt::Write| {
        if let Some(over) = *over.lock().unwrap_or_else(PoisonError::into_inner) {
            let left = over.saturating_duration_since(Instant::now());
            let _ = write!(out, ", about {} left", span(Duration::from_secs(left.as_secs())));
        }
    };
    style("{elapsed:>8} [{bar:30}] {pos}/{len}{msg}{left}").with_key("left", left).progress_chars("=> ")
}

/// How much there is left to do.
struct Estimate {
    slots: u32,
    jobs: Vec<Left>,
}

#[derive(Clone, Copy)]
enum Left {
    Waiting(Option<Duration>),
    Running(Option<Duration>, Instant),
    Done,
}

impl Estimate {
    fn new(plan: &PlanInfo) -> Self {
        let jobs = plan.jobs.iter().map(|job| Left::Waiting(job.expected)).collect();
        Self { slots: plan.slots.max(1), jobs }
    }

    fn expected(&self, ordinal: u32) -> Option<Duration> {
        match self.jobs.get(ordinal as usize)? {
            Left::Waiting(expected) | Left::Running(expected, _) => *expected,
            Left::Done => None,
        }
    }

    fn begin(&mut self, ordinal: u32, now: Instant) {
        if let Some(job) = self.jobs.get_mut(ordinal as usize)
            && let Left::Waiting(expected) = *job
        {
            *job = Left::Running(expected, now);
        }
    }

    fn end(&mut self, ordinal: u32) {
        if let Some(job) = self.jobs.get_mut(ordinal as usize) {
            *job = Left::Done;
        }
    }

    /// The work that is left, divided by the slots, but no less than the longest of it; `None` if that of any job is
    /// not known.
    fn left(&self, now: Instant) -> Option<Duration> {
        let (mut sum, mut longest) = (Duration::ZERO, Duration::ZERO);
        for job in &self.jobs {
            let left = match *job {
                Left::Waiting(expected) => expected?,
                Left::Running(expected, since) => {
                    expected?.saturating_sub(now.saturating_duration_since(since))
                }
                Left::Done => continue,
            };
            sum = sum.saturating_add(left);
            longest = longest.max(left);
        }
        Some((sum / self.slots).max(longest))
    }
}

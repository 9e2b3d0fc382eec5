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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Host, JobInfo, Summary};
    use crate::outcome::Outcome;
    use crate::run_record::interrupted;
    use std::path::PathBuf;

    fn plan(slots: u32, expected: &[Option<u64>]) -> PlanInfo {
        let job = |(expected, ordinal): (&Option<u64>, u32)| JobInfo {
            ordinal,
            global_ordinal: ordinal,
            project: "p".to_owned(),
            group: "g".to_owned(),
            name: format!("g/job_{ordinal}"),
            repetition: 1,
            repetitions: 1,
            seed: 0,
            expected: expected.map(Duration::from_secs),
            past_ns: Vec::new(),
        };
        PlanInfo {
            schema: 1,
            run: "run".to_owned(),
            directory: PathBuf::new(),
            started_unix_ms: 0,
            seed: 0,
            profile: "quick".to_owned(),
            shard: None,
            whole: None,
            slots,
            commit: None,
            host: Host { cpus: vec![0], memory_bytes: 0, system: String::new(), load: 0.0 },
            jobs: expected.iter().zip(0..).map(job).collect(),
        }
    }

    #[test]
    fn what_is_left_is_shared_by_the_slots() {
        let start = Instant::now();
        let left = |estimate: &Estimate, after| {
            estimate.left(start + Duration::from_secs(after)).map(|left| left.as_secs())
        };
        let mut estimate = Estimate::new(&plan(2, &[Some(10), Some(6), Some(4)]));
        assert_eq!(left(&estimate, 0), Some(10));
        estimate.begin(0, start);
        estimate.begin(1, start);
        assert_eq!(left(&estimate, 2), Some(8), "8, 4 and 4 on two slots");
        assert_eq!(left(&estimate, 20), Some(4), "what is overdue may end at any moment");
        estimate.end(1);
        estimate.end(2);
        assert_eq!(left(&estimate, 4), Some(6));
        estimate.end(0);
        assert_eq!(left(&estimate, 4), Some(0));
        assert_eq!(left(&Estimate::new(&plan(2, &[Some(10), None])), 0), None);
        // Numbers that are not in the plan, and no slots at all.
        let mut estimate = Estimate::new(&plan(0, &[Some(1)]));
        estimate.begin(7, start);
        estimate.end(u32::MAX);
        assert_eq!(left(&estimate, 0), Some(1));
    }

    /// A terminal of 60 columns that remembers its lines.
    #[derive(Debug, Clone, Default)]
    struct Screen(Arc<Mutex<Cells>>);

    #[derive(Debug, Default)]
    struct Cells {
        lines: Vec<Vec<char>>,
        line: usize,
        column: usize,
        most: usize,
    }

    impl Cells {
        fn put(&mut self, text: &str) {
            for c in text.chars() {
                match c {
                    '\n' => (self.line, self.column) = (self.line + 1, 0),
                    '\r' => self.column = 0,
                    c => {
                        // As terminals do: the line is left when a character no longer fits, not before.
                        if self.column == 60 {
                            (self.line, self.column) = (self.line + 1, 0);
                        }
                        self.lines.resize(self.lines.len().max(self.line + 1), Vec::new());
                        let line = &mut self.lines[self.line];
                        line.resize(line.len().max(self.column + 1), ' ');
                        line[self.column] = c;
                        self.column += 1;
                    }
                }
            }
            self.most = self.most.max(self.lines.iter().filter(|line| !line.is_empty()).count());
        }
    }

    impl Screen {
        fn with<T>(&self, work: impl FnOnce(&mut Cells) -> T) -> T {
            work(&mut self.0.lock().unwrap())
        }
    }

    impl indicatif::TermLike for Screen {
        fn width(&self) -> u16 {
            60
        }

        fn move_cursor_up(&self, n: usize) -> io::Result<()> {
            self.with(|cells| cells.line = cells.line.saturating_sub(n));
            Ok(())
        }

        fn move_cursor_down(&self, n: usize) -> io::Result<()> {
            self.with(|cells| cells.line += n);
            Ok(())
        }

        fn move_cursor_right(&self, n: usize) -> io::Result<()> {
            self.with(|cells| cells.column += n);
            Ok(())
        }

        fn move_cursor_left(&self, n: usize) -> io::Result<()> {
            self.with(|cells| cells.column = cells.column.saturating_sub(n));
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.with(|cells| cells.put(&format!("{text}\n")));
            Ok(())
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.with(|cells| cells.put(text));
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            self.with(|cells| {
                cells.column = 0;
                let line = cells.line;
                if let Some(line) = cells.lines.get_mut(line) {
                    line.clear();
                }
            });
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.with(|cells| cells.put(&String::from_utf8_lossy(bytes)));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_report_is_not_torn() {
        let screen = Screen::default();
        let mut progress = Progress::with_target(ProgressDrawTarget::term_like(Box::new(screen.clone())));
        let mut beside = progress.beside(Box::new(screen.clone()));
        let plan = plan(3, &[Some(5); 30]);
        progress.on(&Event::Planned(Box::new(plan.clone()))).unwrap();
        let mut said = Vec::new();
        for (job, ordinal) in plan.jobs.iter().zip(0..) {
            let slot = ordinal % 3;
            progress.on(&Event::Assigned { ordinal, slot, cpus: vec![], at: Duration::ZERO }).unwrap();
            // In parts, as `write!` does; it goes out at the flush.
            write!(beside, "line {ordinal} of the report").unwrap();
            writeln!(beside, ", whole").unwrap();
            beside.flush().unwrap();
            said.push(format!("line {ordinal} of the report, whole"));
            let mut record = interrupted(job, 0);
            (record.slot, record.outcome) = (Some(slot), Outcome::Failed);
            progress.on(&Event::Finished(Box::new(record))).unwrap();
        }
        let most = screen.with(|cells| cells.most);
        assert!(most > said.len(), "nothing was drawn beside the report: {most} lines");
        let summary = Summary { schema: 1, elapsed: Duration::ZERO, interrupted: false, exit_code: 100 };
        progress.on(&Event::Ended(summary)).unwrap();
        let lines: Vec<String> =
            screen.with(|cells| cells.lines.iter().map(|line| line.iter().collect()).collect());
        let lines: Vec<_> =
            lines.iter().map(|line| line.trim_end()).filter(|line| !line.is_empty()).collect();
        assert_eq!(lines, said);
    }
}

//! The report for people at a terminal or in a log: results in plan order, failures at once, and the end.
//!
//! # Invariants
//! - Output is whole lines, flushed after each event: what runs beside it cannot tear them.
//! - Results stand in plan order; only the one line of a failure comes when it happens.
//! - Escape sequences are its own, and only with `colours`.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};

use super::Sink;
use super::brackets::{Line, Palette, heading, mark, word};
use super::closing::Closing;
use super::words::{many_lines, one_line, span};
use crate::event::{Event, PlanInfo, Record};
use crate::outcome::{Exit, Outcome};

/// How the terminal's report looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalOptions {
    /// Whether to use colours.
    pub colours: bool,
    /// Columns after which a line of results is broken.
    pub width: usize,
    /// Whether passed jobs are shown in full too, which suits a run of few jobs.
    pub details: bool,
}

impl TerminalOptions {
    /// For standard output: colours if it is a terminal and `NO_COLOR` is unset or empty, 100 columns, no details.
    pub fn for_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colours: io::stdout().is_terminal() && !refused, ..Self::default() }
    }
}

impl Default for TerminalOptions {
    /// No colours, 100 columns, no details.
    fn default() -> Self {
        Self { colours: false, width: 100, details: false }
    }
}

/// Writes the report for people.
///
/// Results are collected by group on lines such as `PROJECT -> GROUP: [1] [2] (3) -4- !5 failed!`, where the numbers
/// are places in the plan: `[n]` passed, `(n)` cached, `-n-` unblessed, `{n}` skipped, `?n?` inconclusive, `<n>`
/// interrupted, and failures have their word. A line is written when it is full or its group is done.
///
/// ```
/// use outlast_sched::{Terminal, TerminalOptions};
/// let sink = Terminal::new(Box::new(std::io::stdout()), TerminalOptions::for_stdout());
/// ```
pub struct Terminal {
    out: Box<dyn Write + Send>,
    options: TerminalOptions,
    run: Option<Run>,
}

impl Terminal {
    /// A report that goes to `out`. Beside a [`Progress`](crate::Progress), wrap `out` with
    /// [`Progress::beside`](crate::Progress::beside).
    pub fn new(out: Box<dyn Write + Send>, options: TerminalOptions) -> Self {
        Self { out, options, run: None }
    }
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminal").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Sink for Terminal {
    fn on(&mut self, event: &Event) -> io::Result<()> {
        let options = self.options;
        if let Event::Planned(plan) = event {
            self.run = Some(Run::new((**plan).clone(), options));
        }
        let Some(run) = &mut self.run else { return Ok(()) };
        match event {
            Event::Slow { ordinal, ran } => run.slow(*ordinal, &span(*ran)),
            Event::Finished(record) => run.finished((**record).clone()),
            Event::Ended(summary) => {
                run.place_rest();
                run.text += &run.closing.text(&run.plan, summary, Palette(options.colours));
            }
            _ => {}
        }
        if run.text.is_empty() {
            return Ok(());
        }
        let text = std::mem::take(&mut run.text);
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

/// A run as far as it has been shown.
struct Run {
    plan: PlanInfo,
    options: TerminalOptions,
    /// Ended, but not yet their turn.
    waiting: BTreeMap<u32, Record>,
    next: u32,
    line: Line,
    closing: Closing,
    /// What is to be written.
    text: String,
}

impl Run {
    fn new(plan: PlanInfo, options: TerminalOptions) -> Self {
        let line = Line::new(options.width);
        Self {
            plan,
            options,
            waiting: BTreeMap::new(),
            next: 0,
            line,
            closing: Closing::default(),
            text: String::new(),
        }
    }

    fn palette(&self) -> Palette {
        Palette(self.options.colours)
    }

    fn slow(&mut self, ordinal: u32, ran: &str) {
        let name = self.plan.jobs.get(ordinal as usize).map_or("?", |job| &job.name);
        let _ = writeln!(self.text, "slow: {} still runs after {ran}", one_line(name));
    }

    fn finished(&mut self, record: Record) {
        if record.outcome.is_failure() && record.ordinal != self.next {
            let line = at_once(&record);
            self.text += &self.palette().paint(record.outcome, &line);
            self.text.push('\n');
        }
        self.waiting.insert(record.ordinal, record);
        while let Some(record) = self.waiting.remove(&self.next) {
            self.place(&record);
            self.next = self.next.saturating_add(1);
        }
    }

    /// What never got its turn: only if a job of the plan has no end, which is against the rules of events.
    fn place_rest(&mut self) {
        for record in std::mem::take(&mut self.waiting).into_values() {
            self.place(&record);
        }
        self.flush();
    }

    /// Shows a job at its place.
    fn place(&mut self, record: &Record) {
        self.closing.add(record);
        let jobs = &self.plan.jobs;
        let place = record.ordinal as usize;
        let head = jobs.get(place).map(heading).unwrap_or_default();
        let mark = mark(record.outcome, record.ordinal);
        let painted = self.palette().paint(record.outcome, &mark);
        let full = self.line.push(&head, &mark, &painted);
        self.text.extend(full);
        let last = jobs.get(place + 1).is_none_or(|job| heading(job) != head);
        if last {
            self.flush();
        }
        let inconclusive = record.outcome == Outcome::Inconclusive;
        let shown = self.options.details && record.slot.is_some();
        if record.outcome.is_failure() || inconclusive || shown {
            self.flush();
            self.text += &full_text(record, self.palette());
        }
    }

    fn flush(&mut self) {
        self.text.extend(self.line.take());
    }
}

/// `name`, or `name (repetition 2 of 5)`.
pub(crate) fn title(record: &Record) -> String {
    let name = one_line(&record.name);
    match record.repetitions {
        0 | 1 => name.into_owned(),
        n => format!("{name} (repetition {} of {n})", record.repetition),
    }
}

/// The one line of a failure.
fn at_once(record: &Record) -> String {
    format!(
        "{} {}: {}; again: {}",
        mark(record.outcome, record.ordinal),
        title(record),
        one_line(record.reason.as_deref().unwrap_or("no reason given")),
        one_line(&record.replay)
    )
}

/// Everything about a job.
fn full_text(record: &Record, palette: Palette) -> String {
    let took = record.slot.map(|_| format!(" after {}", span(record.duration))).unwrap_or_default();
    let number = u64::from(record.ordinal) + 1;
    let head = format!("{number} {}: {}{took}", title(record), word(record.outcome));
    let reason = record.reason.as_deref().map(|reason| format!(": {}", one_line(reason))).unwrap_or_default();
    let mut text = format!("{}{reason}\n", palette.paint(record.outcome, &head));
    block(&mut text, "", &record.text);
    if record.outcome.is_pass() {
        return text;
    }
    // What it says of itself it may have printed as well.
    if !record.text.contains(record.stdout_tail.trim()) {
        block(&mut text, "the end of its standard output:", &record.stdout_tail);
    }
    block(&mut text, "the end of its standard error:", &record.stderr_tail);
    let mut fact = |what: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {what}: {}", one_line(value));
        }
    };
    // A plain code adds nothing to what the reason says.
    if let Some(exit @ Exit::Signal { .. }) = record.exit {
        fact("ended by", &exit.to_string());
    }
    fact("left behind", &record.leaked.join(", "));
    fact("seed", &record.seed.to_string());
    fact("schedule", record.schedule.as_deref().unwrap_or_default());
    fact("sandbox", &record.sandbox.as_deref().map(|path| path.display().to_string()).unwrap_or_default());
    fact("again", &record.replay);
    text
}

/// A text of several lines, indented.
fn block(text: &mut String, title: &str, content: &str) {
    let content = many_lines(content.trim_end());
    if content.is_empty() {
        return;
    }
    if !title.is_empty() {
        let _ = writeln!(text, "  {title}");
    }
    for line in content.lines() {
        let _ = writeln!(text, "{}", format!("    {line}").trim_end());
    }
}

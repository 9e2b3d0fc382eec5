//! What went wrong, with everything that helps, and what did not run.
//!
//! # Invariants
//! - Every failed, inconclusive or stopped job is here by name; of very many, the later ones without their output.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::escape;
use super::jobs::tag;
use crate::event::Record;
use crate::outcome::{Exit, Outcome};
use crate::run_record::RunRecord;
use crate::sink::recital::Recital;
use crate::sink::terminal::title;
use crate::sink::words::{span, tail};

/// Failures that have their output on the page.
const MOST_FULL: usize = 200;
/// Bytes of one text on the page.
const MOST_TEXT: usize = 64 << 10;
/// Failures whose output is unfolded.
const OPEN: usize = 10;

/// The sections, or nothing.
pub(crate) fn section(run: &RunRecord) -> String {
    let mut recital = Recital::default();
    run.records.iter().for_each(|record| recital.add(record));
    let numbers: BTreeMap<(String, String), u32> =
        recital.numbered().into_iter().map(|failed| ((failed.group, failed.name), failed.number)).collect();
    let mut bad = run.in_plan_order();
    bad.retain(|record| {
        let stopped = record.outcome == Outcome::Interrupted && record.slot.is_some();
        record.outcome.is_failure() || record.outcome == Outcome::Inconclusive || stopped
    });
    if bad.is_empty() {
        return String::new();
    }
    // Failures first: they are what one is here for.
    bad.sort_by_key(|record| !record.outcome.is_failure());
    let mut html = format!("<section id=\"wrong\"><h2>What went wrong ({})</h2>", bad.len());
    for (place, record) in bad.into_iter().enumerate() {
        let number = numbers.get(&(record.group.clone(), record.name.clone())).copied();
        article(&mut html, record, number.filter(|_| record.outcome.is_failure()), place);
    }
    html + "</section>"
}

fn article(html: &mut String, record: &Record, number: Option<u32>, place: usize) {
    let _ = write!(
        html,
        "<article class=\"o-{}\" id=\"job-{}\"><div class=\"head\">{}<h3>{}</h3><span class=\"dim small\">{}</span></div>",
        record.outcome.as_str(),
        u64::from(record.ordinal) + 1,
        tag(record.outcome),
        escape::text(&title(record)),
        escape::text(&place_and_time(record, number))
    );
    if let Some(reason) = &record.reason {
        let _ = write!(html, "<p class=\"reason\">{}</p>", escape::text(reason));
    }
    if !record.replay.is_empty() {
        let _ = write!(
            html,
            "<div class=\"replay\"><pre aria-label=\"to run it again\">{}</pre>\
             <button type=\"button\" class=\"copy\">Copy</button></div>",
            escape::text(&record.replay)
        );
    }
    let facts = facts(record);
    if !facts.is_empty() {
        let _ = write!(html, "<dl class=\"facts small\">{facts}</dl>");
    }
    let texts = if place < MOST_FULL { texts(record) } else { String::new() };
    if !texts.is_empty() {
        let open = if place < OPEN { " open" } else { "" };
        let _ = write!(html, "<details{open}><summary>Output</summary>{texts}</details>");
    }
    html.push_str("</article>");
}

fn place_and_time(record: &Record, number: Option<u32>) -> String {
    let mut text = number.map(|number| format!("failure {number}, ")).unwrap_or_default();
    let _ = write!(text, "job {} of {}", u64::from(record.ordinal) + 1, record.group);
    if record.slot.is_some() {
        let _ = write!(text, ", after {}", span(record.duration));
    }
    let _ = write!(text, ", seed {}", record.seed);
    text
}

fn facts(record: &Record) -> String {
    let mut html = String::new();
    let mut fact = |what: &str, value: &str| {
        if !value.is_empty() {
            let _ = write!(html, "<div><dt>{what}</dt><dd>{}</dd></div>", escape::text(value));
        }
    };
    fact("Schedule", record.schedule.as_deref().unwrap_or_default());
    if let Some(exit @ Exit::Signal { .. }) = record.exit {
        fact("Ended by", &exit.to_string());
    }
    fact("Processes left behind", &record.leaked.join(", "));
    fact("Sandbox", &record.sandbox.as_deref().map(|path| path.display().to_string()).unwrap_or_default());
    html
}

fn texts(record: &Record) -> String {
    let mut html = String::new();
    let parts = [
        ("What the job says", &record.text),
        ("Standard output, its end", &record.stdout_tail),
        ("Standard error, its end", &record.stderr_tail),
    ];
    // What a job says is often all that it printed: once is enough.
    let said = |what: &str, text: &str| what != parts[0].0 && text.trim() == record.text.trim();
    for (what, text) in parts.into_iter().filter(|(what, text)| !text.trim().is_empty() && !said(what, text)) {
        let (end, left_out) = tail(text.trim_end(), MOST_TEXT);
        let cut = match left_out {
            0 => String::new(),
            bytes => format!(" ({bytes} bytes before it are left out)"),
        };
        let _ = write!(html, "<p class=\"dim small\">{what}{cut}</p><pre>{}</pre>", escape::lines(end));
    }
    html
}

/// Skipped, cached and never begun jobs, by their reasons.
pub(crate) fn not_run(run: &RunRecord) -> String {
    let mut reasons: BTreeMap<(Outcome, &str), Vec<String>> = BTreeMap::new();
    for record in run.in_plan_order().into_iter().filter(|record| record.slot.is_none()) {
        let reason = match record.outcome {
            Outcome::Cached => "inputs unchanged since the last pass",
            Outcome::Skipped | Outcome::Interrupted => record.reason.as_deref().unwrap_or("no reason given"),
            _ => continue,
        };
        reasons.entry((record.outcome, reason)).or_default().push(escape::text(&title(record)));
    }
    if reasons.is_empty() {
        return String::new();
    }
    let mut html = String::from("<section id=\"not-run\"><h2>What did not run</h2>");
    for ((outcome, reason), names) in reasons {
        let _ = write!(html, "<p>{} {}</p><ul>", tag(outcome), escape::text(reason));
        let (shown, more) = names.split_at(names.len().min(100));
        let _ = write!(html, "<li>{}</li>", shown.join("</li><li>"));
        if !more.is_empty() {
            let _ = write!(html, "<li class=\"dim\">and {} more, in the table above</li>", more.len());
        }
        html.push_str("</ul>");
    }
    html + "</section>"
}

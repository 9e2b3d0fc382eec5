//! How many ended how, and every job with its duration against its history.
//!
//! # Invariants
//! - There is one row for each record, in plan order, with `data-` attributes that say the same as its cells.

use std::fmt::Write;
use std::time::Duration;

use super::escape;
use super::style::sign;
use crate::event::{JobInfo, Record};
use crate::outcome::Outcome;
use crate::run_record::RunRecord;
use crate::sink::brackets::word;
use crate::sink::terminal::title;
use crate::sink::words::{size, span};

/// Groups that have a row.
const MOST_GROUPS: usize = 200;

/// An outcome as sign and word in its colour.
pub(crate) fn tag(outcome: Outcome) -> String {
    format!(
        "<span class=\"tag o-{}\"><i aria-hidden=\"true\">{}</i>{}</span>",
        outcome.as_str(),
        sign(outcome),
        word(outcome)
    )
}

/// One bar, divided as the outcomes are.
pub(crate) fn stack(run: &RunRecord) -> String {
    let part = |outcome: Outcome| match run.records.iter().filter(|record| record.outcome == outcome).count()
    {
        0 => String::new(),
        count => format!("<i class=\"o-{}\" style=\"flex:{count} 0 0\"></i>", outcome.as_str()),
    };
    let parts: String = Outcome::ALL.into_iter().map(part).collect();
    format!("<div class=\"stack\" aria-hidden=\"true\">{parts}</div>")
}

/// How many ended how.
pub(crate) fn outcomes(run: &RunRecord) -> String {
    let mut rows = String::new();
    for outcome in Outcome::ALL {
        let of_it: Vec<_> = run.records.iter().filter(|record| record.outcome == outcome).collect();
        if of_it.is_empty() {
            continue;
        }
        let _ = write!(
            rows,
            "<tr data-count-of=\"{}\"><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{:.1} %</td>\
             <td class=\"n\">{}</td></tr>",
            outcome.as_str(),
            tag(outcome),
            of_it.len(),
            of_it.len() as f64 / run.records.len() as f64 * 100.0,
            span(total(of_it.into_iter()))
        );
    }
    format!(
        "<div class=\"scroll\"><table><thead><tr><th>Outcome</th><th class=\"n\">Jobs</th>\
         <th class=\"n\">Share</th><th class=\"n\">Time of slots</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
}

/// How the groups fared, in plan order.
pub(crate) fn groups(run: &RunRecord) -> String {
    let records = run.in_plan_order();
    let mut seen = std::collections::HashMap::new();
    let mut groups: Vec<(&str, Vec<&Record>)> = Vec::new();
    for record in records {
        let place = *seen.entry(record.group.as_str()).or_insert_with(|| {
            groups.push((&record.group, Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(record);
    }
    let mut rows = String::new();
    for (group, records) in groups.iter().take(MOST_GROUPS) {
        let count = |what: fn(Outcome) -> bool| match records.iter().filter(|r| what(r.outcome)).count() {
            0 => "<span class=\"dim\">0</span>".to_owned(),
            count => count.to_string(),
        };
        let _ = write!(
            rows,
            "<tr><td class=\"job\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escape::text(group),
            records.len(),
            count(Outcome::is_pass),
            count(Outcome::is_failure),
            count(|outcome| !outcome.is_pass() && !outcome.is_failure()),
            span(total(records.iter().copied()))
        );
    }
    if groups.len() > MOST_GROUPS {
        let _ = write!(rows, "<tr><td class=\"dim\">and {} more</td></tr>", groups.len() - MOST_GROUPS);
    }
    format!(
        "<div class=\"scroll\"><table><thead><tr><th>Group</th><th class=\"n\">Jobs</th><th class=\"n\">Passed</th>\
         <th class=\"n\">Failed</th><th class=\"n\">Others</th><th class=\"n\">Time of slots</th></tr></thead>\
         <tbody>{rows}</tbody></table></div>"
    )
}

fn total<'a>(records: impl Iterator<Item = &'a Record>) -> Duration {
    records.fold(Duration::ZERO, |sum, record| sum.saturating_add(record.duration))
}

/// Every job.
pub(crate) fn table(run: &RunRecord) -> String {
    let mut rows = String::new();
    for record in run.in_plan_order() {
        row(&mut rows, record, run.plan.jobs.get(record.ordinal as usize));
    }
    format!(
        "<div class=\"tools\"><input id=\"find\" type=\"search\" placeholder=\"Find a job\" aria-label=\"Find a job\">\
         <select id=\"only\" aria-label=\"Outcome\"><option value=\"\">every outcome</option></select></div>\
         <p class=\"dim small\">The bar is this run, the line is what was expected, the dots are earlier passes. \
         A click on a column's head sorts.</p>\
         <div class=\"scroll\"><table id=\"jobs\"><thead><tr><th class=\"n\" data-key=\"ordinal\">Nr.</th>\
         <th data-key=\"name\">Job</th><th data-key=\"outcome\">Outcome</th><th class=\"n\" data-key=\"durationNs\">Took</th>\
         <th class=\"n\" data-key=\"expectedNs\">Expected</th><th data-key=\"ratio\">Against history</th>\
         <th class=\"n\" data-key=\"startNs\">Began</th><th class=\"n\" data-key=\"slot\">Slot</th>\
         <th class=\"n\" data-key=\"peakBytes\">Memory</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
}

fn row(html: &mut String, record: &Record, job: Option<&JobInfo>) {
    let dash = || "–".to_owned();
    let ran = record.slot.is_some();
    let took = if ran { span(record.duration) } else { dash() };
    let expected = record.expected.map_or_else(dash, span);
    let slot = record.slot.map_or_else(dash, |slot| (u64::from(slot) + 1).to_string());
    let began = if ran { span(record.start) } else { dash() };
    let memory = record.peak_bytes.map_or_else(dash, size);
    let ratio = match record.expected {
        Some(expected) if ran && !expected.is_zero() => {
            record.duration.as_secs_f64() / expected.as_secs_f64()
        }
        _ => 0.0,
    };
    let name = escape::text(&title(record));
    let number = u64::from(record.ordinal) + 1;
    let name = match record.outcome.is_failure() {
        true => format!("<a href=\"#job-{number}\">{name}</a>"),
        false => name,
    };
    let slow = if record.slow { " <span class=\"dim small\">slow</span>" } else { "" };
    let _ = writeln!(
        html,
        "<tr data-ordinal=\"{}\" data-name=\"{}\" data-outcome=\"{}\" data-duration-ns=\"{}\" data-expected-ns=\"{}\" \
         data-ratio=\"{ratio:.3}\" data-start-ns=\"{}\" data-slot=\"{}\" data-peak-bytes=\"{}\">\
         <td class=\"n\">{number}</td><td class=\"job\">{name} <span class=\"dim small\">{}</span></td><td>{}{slow}</td>\
         <td class=\"n\">{took}</td><td class=\"n\">{expected}</td><td class=\"history\">{}</td>\
         <td class=\"n\">{began}</td><td class=\"n\">{slot}</td><td class=\"n\">{memory}</td></tr>",
        record.ordinal,
        escape::text(&record.name),
        record.outcome.as_str(),
        record.duration.as_nanos(),
        record.expected.map_or(-1, |expected| i128::try_from(expected.as_nanos()).unwrap_or(i128::MAX)),
        record.start.as_nanos(),
        record.slot.map_or(-1, i64::from),
        record.peak_bytes.map_or(-1, i128::from),
        escape::text(&record.group),
        tag(record.outcome),
        if ran { history(record, job) } else { String::new() },
    );
}

/// This run's duration as a bar, the expected one as a line, earlier ones as dots, all on one scale of its own.
fn history(record: &Record, job: Option<&JobInfo>) -> String {
    let past = job.map(|job| job.past_ns.as_slice()).unwrap_or_default();
    let past = &past[past.len().saturating_sub(20)..];
    let expected = record.expected.map(|expected| expected.as_nanos() as f64);
    let now = record.duration.as_nanos() as f64;
    if past.is_empty() && expected.is_none() {
        return "<span class=\"dim small\">first time</span>".to_owned();
    }
    let longest = past.iter().map(|ns| *ns as f64).chain(expected).fold(now, f64::max).max(1.0);
    let x = |ns: f64| 2.0 + ns / longest * 164.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 170 18\" class=\"o-{}\" role=\"img\"><title>{}</title>\
         <rect class=\"track\" x=\"2\" y=\"4\" width=\"164\" height=\"10\" rx=\"2\"/>\
         <rect class=\"bar\" x=\"2\" y=\"4\" width=\"{:.1}\" height=\"10\" rx=\"2\"/>",
        record.outcome.as_str(),
        compared(record),
        (x(now) - 2.0).max(1.0)
    );
    for ns in past {
        let _ = write!(svg, "<circle class=\"past\" cx=\"{:.1}\" cy=\"16\" r=\"1.6\"/>", x(*ns as f64));
    }
    if let Some(expected) = expected {
        let _ = write!(svg, "<path class=\"mark\" d=\"M{:.1} 1V14\"/>", x(expected));
    }
    svg + "</svg>"
}

fn compared(record: &Record) -> String {
    match record.expected.filter(|expected| !expected.is_zero()) {
        Some(expected) => {
            let ratio = record.duration.as_secs_f64() / expected.as_secs_f64();
            format!("{}, expected {}: {ratio:.2} times", span(record.duration), span(expected))
        }
        None => span(record.duration),
    }
}

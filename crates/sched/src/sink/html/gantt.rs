//! Slots over time: which job ran where, and when.
//!
//! # Invariants
//! - Every job that ran has a bar with its name and outcome in words, at least wide enough to be seen; what did not pass
//!   is drawn last, above the rest.
//! - The height grows with the slots, the width never.

use std::fmt::Write;
use std::time::Duration;

use super::chart::Time;
use super::escape;
use super::style::sign;
use crate::event::Record;
use crate::run_record::RunRecord;
use crate::sink::brackets::word;
use crate::sink::terminal::title;
use crate::sink::words::{short, span};

const WIDTH: f64 = 1200.0;
/// Columns that a character of a label takes.
const CHARACTER: f64 = 6.3;

/// The chart.
pub(crate) fn chart(run: &RunRecord, lanes: &[String], whole: Duration) -> String {
    let ran: Vec<&Record> = run.records.iter().filter(|record| record.slot.is_some()).collect();
    if ran.is_empty() {
        return "<p class=\"dim\">No job ran.</p>".to_owned();
    }
    let count = run.plan.slots.max(1);
    let labels: Vec<String> = (0..count as usize).map(|slot| label(lanes, slot)).collect();
    let longest = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let left = (longest as f64 * CHARACTER + 12.0).clamp(50.0, 260.0);
    let lane = match count {
        0..=20 => 26.0,
        21..=64 => 15.0,
        _ => 8.0,
    };
    let bottom = f64::from(count) * lane + 4.0;
    let time = Time::new(whole, left, WIDTH - left - 24.0);
    let mut svg = String::new();
    time.axis(&mut svg, 0.0, bottom, 10.0);
    for (slot, label) in labels.iter().enumerate() {
        track(&mut svg, &time, slot, lane, label);
    }
    let (good, bad): (Vec<&Record>, Vec<&Record>) = ran.iter().partition(|record| record.outcome.is_pass());
    for record in good.into_iter().chain(bad) {
        bar(&mut svg, &time, record, lane);
    }
    format!(
        "<div class=\"scroll\"><svg class=\"gantt\" viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\" \
         aria-label=\"{} jobs on {count} slots over {}; the table of all jobs has the same in words\">{svg}</svg></div>",
        bottom + 22.0,
        ran.len(),
        span(whole)
    )
}

fn label(lanes: &[String], slot: usize) -> String {
    lanes.get(slot).cloned().unwrap_or_else(|| format!("slot {}", slot + 1))
}

fn track(svg: &mut String, time: &Time, slot: usize, lane: f64, label: &str) {
    let y = slot as f64 * lane + 2.0;
    let _ = write!(
        svg,
        "<rect class=\"track\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\" fill-opacity=\".6\"/>",
        time.left,
        y + 1.0,
        time.width,
        lane - 2.0
    );
    // Labels of narrow lanes would cover each other.
    let every = (13.0 / lane).ceil() as usize;
    if slot.is_multiple_of(every) {
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            time.left - 7.0,
            y + lane / 2.0 + 4.0,
            escape::text(&short(label, 40))
        );
    }
}

fn bar(svg: &mut String, time: &Time, record: &Record, lane: f64) {
    let Some(slot) = record.slot else { return };
    let start = record.start.as_secs_f64();
    let x = time.x(start);
    let least = if record.outcome.is_pass() { 1.2 } else { 3.0 };
    let width = (time.x(start + record.duration.as_secs_f64()) - x).max(least);
    let y = f64::from(slot) * lane + 3.0;
    let _ = write!(
        svg,
        "<g class=\"o-{}\"><rect class=\"bar\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" \
         rx=\"2\"><title>{}</title></rect>",
        record.outcome.as_str(),
        lane - 2.0,
        tooltip(record)
    );
    let room = ((width - 8.0) / CHARACTER).floor();
    if lane >= 15.0 && room >= 1.0 {
        // Names often begin with their group, which would fill a narrow bar.
        let title = title(record);
        let name =
            title.strip_prefix(&record.group).map_or(&*title, |name| name.trim_start_matches(['/', ':']));
        let text = format!("{} {}", sign(record.outcome), if name.is_empty() { &title } else { name });
        // Less than a few letters of a name say nothing; the sign alone does.
        let room = if room < 5.0 { 1 } else { room as usize };
        let text = if room == 1 { sign(record.outcome).to_owned() } else { short(&text, room).into_owned() };
        let _ = write!(
            svg,
            "<text class=\"in\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x + 4.0,
            y + lane / 2.0 + 3.0,
            escape::text(&text)
        );
    }
    svg.push_str("</g>");
}

/// All about a bar in words.
fn tooltip(record: &Record) -> String {
    let mut text = format!(
        "{}. {}\n{} after {}, from {}",
        u64::from(record.ordinal) + 1,
        title(record),
        word(record.outcome),
        span(record.duration),
        span(record.start)
    );
    if let Some(expected) = record.expected {
        let _ = write!(text, "\nexpected {}", span(expected));
    }
    if !record.cpus.is_empty() {
        let cpus: Vec<_> = record.cpus.iter().take(64).map(u32::to_string).collect();
        let _ = write!(text, "\nCPUs {}", cpus.join(" "));
    }
    if let Some(reason) = &record.reason {
        let _ = write!(text, "\n{}", short(reason, 200));
    }
    escape::lines(&text)
}

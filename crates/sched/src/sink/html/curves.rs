//! Throughput, running jobs and memory over time.
//!
//! # Invariants
//! - Throughput and running jobs come from the records alone, so that they are exact and always there; only memory needs
//!   samples.

use std::time::Duration;

use super::chart::{Curve, step};
use crate::run_record::RunRecord;
use crate::sink::words::size;

/// The three figures.
pub(crate) fn figures(run: &RunRecord, whole: Duration) -> String {
    let memory = memory(run, whole).unwrap_or_else(|| {
        "<figure><figcaption>Memory</figcaption><p class=\"dim\">No samples were taken in this run.</p></figure>".to_owned()
    });
    format!("<div class=\"charts\">{}{}{memory}</div>", throughput(run, whole), running(run, whole))
}

fn plain(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn throughput(run: &RunRecord, whole: Duration) -> String {
    let ends: Vec<f64> = run
        .records
        .iter()
        .filter(|record| record.slot.is_some())
        .map(|record| record.start.saturating_add(record.duration).as_secs_f64())
        .collect();
    let seconds = whole.as_secs_f64().max(1e-6);
    let bins = (ends.len() / 6).clamp(6, 60);
    let width = seconds / bins as f64;
    let mut counts = vec![0u32; bins];
    for end in &ends {
        counts[((end / width) as usize).min(bins - 1)] += 1;
    }
    let points: Vec<_> = counts
        .iter()
        .enumerate()
        .map(|(bin, count)| (bin as f64 * width, f64::from(*count) / width))
        .collect();
    let highest = points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let note = format!("{} a second on average", plain(ends.len() as f64 / seconds));
    Curve { title: "Jobs ended a second", note, whole, points, step: step(highest, 4.0), label: plain }
        .figure()
}

fn running(run: &RunRecord, whole: Duration) -> String {
    let mut changes: Vec<(Duration, i64)> = Vec::new();
    let mut busy = Duration::ZERO;
    for record in run.records.iter().filter(|record| record.slot.is_some()) {
        changes.push((record.start, 1));
        changes.push((record.start.saturating_add(record.duration), -1));
        busy = busy.saturating_add(record.duration);
    }
    // At one moment, ends come before beginnings.
    changes.sort_unstable();
    let mut count = 0;
    let mut points = vec![(0.0, 0.0)];
    for (at, change) in changes {
        count += change;
        points.push((at.as_secs_f64(), count as f64));
    }
    let highest = points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let slots = f64::from(run.plan.slots.max(1));
    let used = busy.as_secs_f64() / (whole.as_secs_f64().max(1e-6) * slots) * 100.0;
    let note = format!("{used:.0} % of all slots' time was used");
    let step = step(highest, 4.0).max(1.0);
    Curve { title: "Jobs running", note, whole, points, step, label: plain }.figure()
}

fn memory(run: &RunRecord, whole: Duration) -> Option<String> {
    let points: Vec<_> =
        run.samples.iter().map(|sample| (sample.at.as_secs_f64(), sample.memory_bytes as f64)).collect();
    let highest = run.samples.iter().map(|sample| sample.memory_bytes).max()?;
    let note = format!("{} at most", size(highest));
    let label =
        |value: f64| if value == 0.0 { "0".to_owned() } else { size(value as u64).replace(".0 ", " ") };
    Some(Curve { title: "Memory", note, whole, points, step: binary_step(highest), label }.figure())
}

/// A power of two bytes, so that there are two to four lines.
fn binary_step(highest: u64) -> f64 {
    ((highest / 2).max(1024).checked_next_power_of_two().unwrap_or(1 << 63) / 2) as f64
}

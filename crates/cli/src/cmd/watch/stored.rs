//! `outlast watch --compare`: two snapshots that `outlast watch --json` printed before.
//!
//! # Invariants
//! - A file is read as far as 64 MiB, and nothing in it is believed: what is no snapshot is refused.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use core::time::Duration;

use outlast_wksp::{Change, Comparison, Counter, Gate, SNAPSHOT_SCHEMA, Snapshot};
use serde::Serialize;
use serde_json::{Deserializer, Value as Json};

use super::{TITLES, cell};
use crate::args;
use crate::exit::Status;
use crate::failure::Failure;
use crate::render::{Align, Count, Screen, Show, fact, table};

/// Bytes of the longest series that is read.
const FILE_MAX: u64 = 64 << 20;

pub(super) fn compare(
    before: &Path,
    after: &Path,
    arguments: &args::Watch,
    screen: Screen,
) -> Result<(), Failure> {
    let comparison = Comparison::of(&last_of(before)?, &last_of(after)?);
    let gate = Gate { absolute: arguments.min_change, relative: arguments.min_percent / 100.0 };
    let reached = comparison.joiners.iter().flat_map(|joiner| {
        let reached = Counter::ALL.into_iter().filter(|it| joiner.changes[*it as usize].reaches(&gate));
        reached.map(|counter| Reached { slot: joiner.key.slot, pid: joiner.key.pid, counter: counter.name() })
    });
    let reached = reached.collect();
    let (min_change, min_percent) = (arguments.min_change, arguments.min_percent);
    let live_bytes = comparison.live_bytes();
    screen.print(&Answer {
        schema_version: SNAPSHOT_SCHEMA,
        min_change,
        min_percent,
        gate,
        live_bytes,
        comparison,
        reached,
    })
}

/// The last snapshot in a file of them.
fn last_of(path: &Path) -> Result<Snapshot, Failure> {
    let about = |status, what: String| {
        Failure::new(status, format!("{}: {what}", path.display()))
            .or_next("`outlast watch NAME --count 1 --json > FILE` saves a snapshot")
    };
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => about(Status::NotFound, error.to_string()),
        _ => about(Status::Failed, error.to_string()),
    };
    let file = File::open(path).map_err(failed)?;
    if FILE_MAX < file.metadata().map_err(failed)?.len() {
        return Err(about(Status::Failed, format!("expected at most {} MiB of snapshots", FILE_MAX >> 20)));
    }
    let values = Deserializer::from_reader(BufReader::new(file.take(FILE_MAX))).into_iter::<Json>();
    let mut last = None;
    for value in values {
        let value = value.map_err(|error| match error.io_error_kind() {
            Some(_) => about(Status::Failed, error.to_string()),
            None => about(Status::Damaged, format!("expected lines of JSON: {error}")),
        })?;
        match value.get("schema_version").and_then(Json::as_u64) {
            Some(found) if found == u64::from(SNAPSHOT_SCHEMA) => {}
            Some(found) => {
                let what = format!("expected schema_version {SNAPSHOT_SCHEMA}, found {found}");
                return Err(about(Status::Failed, what));
            }
            None => return Err(about(Status::Damaged, "expected a snapshot with a schema_version".into())),
        }
        // The last line of a series.
        if value.get("interrupted").is_none() {
            let snapshot = serde_json::from_value(value);
            let wrong = |error| about(Status::Damaged, format!("expected a snapshot: {error}"));
            last = Some(snapshot.map_err(wrong)?);
        }
    }
    last.ok_or_else(|| about(Status::Damaged, "expected a snapshot, found none".into()))
}

#[derive(Debug, Serialize)]
struct Answer {
    schema_version: u32,
    min_change: u64,
    min_percent: f64,
    #[serde(skip)]
    gate: Gate,
    /// Allocated less freed in between.
    live_bytes: Option<i64>,
    #[serde(flatten)]
    comparison: Comparison,
    /// Changes that reach both of the least ones.
    reached: Vec<Reached>,
}

#[derive(Debug, Serialize)]
struct Reached {
    slot: u32,
    pid: u32,
    counter: &'static str,
}

const COLUMNS: usize = 10;

fn or_unknown<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "unknown".to_owned(), |value| value.to_string())
}

/// The cells of one change: before, after, absolute, relative, rate, and whether it reaches the gate.
fn cells(who: [String; 4], what: &str, change: &Change, gate: &Gate) -> [String; COLUMNS] {
    let [slot, generation, pid, start] = who;
    let signed = |delta: i64| format!("{delta:+}");
    let percent = change.relative.map_or_else(|| "-".to_owned(), |part| format!("{:+.1} %", part * 100.0));
    let rate = change.per_second.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}/s"));
    let mark = if change.reaches(gate) { "*" } else { "" };
    let (before, after) = (cell(change.before), cell(change.after));
    let delta = change.delta.map_or_else(|| "unknown".to_owned(), signed);
    [
        slot,
        generation,
        pid,
        start,
        format!("{what} {mark}").trim().to_owned(),
        before,
        after,
        delta,
        percent,
        rate,
    ]
}

impl Show for Answer {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Comparison { elapsed, same_host, same_region, was_reset, .. } = self.comparison;
        let time = |elapsed: Duration| format!("{:.3} s", elapsed.as_secs_f64());
        fact(out, "time", or_unknown(elapsed.map(time)))?;
        let host = if same_host { "the same" } else { "another host, or another boot: no rates" };
        fact(out, "host", host)?;
        let region = if same_region { "the same" } else { "another one: nothing can be compared" };
        fact(out, "region", region)?;
        let reset =
            was_reset.map(|reset| if reset { "yes: the counters went on, its use began anew" } else { "no" });
        fact(out, "reset", or_unknown(reset))?;
        fact(out, "live bytes", or_unknown(self.live_bytes.map(|bytes| format!("{bytes:+}"))))?;
        let (compared, not) = (self.comparison.compared, self.comparison.not_compared);
        fact(out, "compared", format_args!("{}, {not} not", Count(compared, "joiner")))?;
        fact(
            out,
            "marked *",
            format_args!("changes of at least {} and {} %", self.min_change, self.min_percent),
        )?;
        let whole = || ["all", "", "", ""].map(str::to_owned);
        let mut rows = vec![
            cells(whole(), "used bytes", &self.comparison.used_bytes, &self.gate),
            cells(whole(), "used count", &self.comparison.used_count, &self.gate),
        ];
        for joiner in &self.comparison.joiners {
            let key = joiner.key;
            let who = [key.slot.into(), key.generation, key.pid.into(), key.start_time];
            let changes = TITLES.iter().zip(&joiner.changes);
            rows.extend(changes.map(|(what, change)| {
                cells(who.map(|number: u64| number.to_string()), what, change, &self.gate)
            }));
        }
        let right = |title| (title, Align::Right);
        let mut titles =
            ["slot", "gen", "pid", "start", "counter", "before", "after", "change", "%", "rate"].map(right);
        titles[4].1 = Align::Left;
        table(out, titles, &rows)
    }
}

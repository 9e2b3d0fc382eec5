//! `outlast watch`: what every joiner of a workspace has counted, as it goes on. `stored` compares two
//! snapshots that were saved before.
//!
//! # Invariants
//! - It joins read-only: whoever is watched is never stopped, waited for, or written to.
//! - With `--json` every snapshot is one line, and one last line says how the series ended. An interruption is
//!   such an end, even before the first snapshot; an error has no last line.

mod stored;

use std::io::{self, Write};

use outlast_wksp::{Counter, JoinerCounters, SNAPSHOT_SCHEMA, Snapshot, Value, Watch, WatchError, WatchStop};
use serde::Serialize;

use crate::args::{self, Global};
use crate::exit::Status;
use crate::failure::Failure;
use crate::progress;
use crate::render::{Align, Count, Moment, Screen, Show, fact, table};
use crate::size::{Bytes, Human};

pub(super) fn run(arguments: &args::Watch, global: &Global, screen: Screen) -> Result<(), Failure> {
    if let Some([before, after]) = arguments.compare.as_deref() {
        return stored::compare(before, after, arguments, screen);
    }
    let Some(name) = &arguments.name else {
        return Err(Failure::usage("expected a workspace to watch, or --compare and two files"));
    };
    let domain = super::existing_domain(global)?;
    let explained = |error: WatchError| {
        Failure::from(error)
            .about(format_args!("workspace {name}"))
            .next_if(Status::NotFound, "`outlast wksp list` shows what there is")
            .next_if(Status::Damaged, format!("`outlast region info {name}` shows what is left of it"))
    };
    let watch = Watch::attach(&domain, name).map_err(explained)?;
    let stop = progress::stop_on_interrupt()?;
    let series = watch.series(arguments.interval, arguments.count, &stop);
    follow(series.map(|snapshot| snapshot.map_err(explained)), &stop, &mut |answer| screen.print(answer))
}

/// Prints a series until it ends, and how it ended.
fn follow(
    series: impl Iterator<Item = Result<Snapshot, Failure>>,
    stop: &WatchStop,
    print: &mut dyn FnMut(&Answer) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut snapshots = 0;
    for snapshot in series {
        print(&Answer::Snapshot(Box::new(snapshot?)))?;
        snapshots += 1;
    }
    print(&Answer::End { schema_version: SNAPSHOT_SCHEMA, snapshots, interrupted: stop.is_stopped() })
}

/// A part of a series.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Answer {
    Snapshot(Box<Snapshot>),
    /// The last one.
    End {
        schema_version: u32,
        snapshots: u64,
        interrupted: bool,
    },
}

impl Show for Answer {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Snapshot(snapshot) => show(snapshot, out),
            Self::End { snapshots, interrupted: true, .. } => {
                writeln!(out, "interrupted after {}", Count(*snapshots, "snapshot"))
            }
            Self::End { .. } => Ok(()),
        }
    }
}

/// A value for people: a number, or the reason why there is none.
fn cell(value: Value) -> String {
    match value {
        Value::Measured(value) | Value::Dead(value) => value.to_string(),
        Value::Absent => "absent".to_owned(),
        Value::Torn => "torn".to_owned(),
    }
}

/// Columns that the counters have in a table, in their order.
const TITLES: [&str; Counter::ALL.len()] = [
    "allocs",
    "alloc bytes",
    "frees",
    "free bytes",
    "remote frees",
    "remote bytes",
    "no space",
    "failures",
    "recoveries",
];

fn show(snapshot: &Snapshot, out: &mut dyn Write) -> io::Result<()> {
    fact(out, "workspace", &snapshot.name)?;
    fact(out, "at", Moment(snapshot.at_unix_ns))?;
    let used = match (snapshot.used_bytes.known(), snapshot.used_count.known()) {
        (Some(bytes), Some(count)) => format!("{} in {}", Bytes(bytes), Count(count, "allocation")),
        _ => cell(snapshot.used_bytes),
    };
    fact(out, "used", format_args!("{used}, of {}", Human(snapshot.data_bytes)))?;
    if snapshot.joiners.is_empty() {
        return writeln!(out, "nobody has joined\n");
    }
    let right = |title| (title, Align::Right);
    let mut titles = [right(""); 6 + TITLES.len() + 1];
    titles[..5].copy_from_slice(&["slot", "gen", "pid", "tid", "start"].map(right));
    titles[5] = ("state", Align::Left);
    titles[6..6 + TITLES.len()].copy_from_slice(&TITLES.map(right));
    titles[6 + TITLES.len()] = right("live bytes");
    table(out, titles, &snapshot.joiners.iter().map(row).collect::<Vec<_>>())?;
    writeln!(out)
}

fn row(joiner: &JoinerCounters) -> [String; 6 + TITLES.len() + 1] {
    let key = joiner.key;
    let who = [key.slot.into(), key.generation, key.pid.into(), joiner.tid.into(), key.start_time];
    let live = joiner.live_bytes().map_or_else(|| "unknown".to_owned(), |live| live.to_string());
    let counters = Counter::ALL.map(|counter| cell(joiner.values.get(counter)));
    let mut cells = who
        .map(|number: u64| number.to_string())
        .into_iter()
        .chain([joiner.state.as_str().to_owned()])
        .chain(counters)
        .chain([live]);
    core::array::from_fn(|_| cells.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The one result of an interruption before the first snapshot: an end, no snapshot, no error.
    #[test]
    fn an_interruption_before_the_first_snapshot_is_an_end() {
        let stop = WatchStop::new();
        stop.stop();
        let mut answers = vec![];
        let mut keep = |answer: &Answer| {
            answers.push(serde_json::to_string(answer).unwrap());
            Ok(())
        };
        follow(std::iter::empty(), &stop, &mut keep).unwrap();
        assert_eq!(answers, [r#"{"schema_version":1,"snapshots":0,"interrupted":true}"#]);
    }

    #[test]
    fn an_error_is_no_end() {
        let mut count = 0;
        let series = std::iter::once(Err(Failure::new(Status::NotFound, "gone")));
        let ended = follow(series, &WatchStop::new(), &mut |_| {
            count += 1;
            Ok(())
        });
        assert_eq!((ended.unwrap_err().status, count), (Status::NotFound, 0));
    }
}

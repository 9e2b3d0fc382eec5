//! Output: every answer is one value that shows itself as text or as JSON.
//!
//! # Invariants
//! - Answers go to stdout, everything else to stderr, so that stdout can be parsed.
//! - With `--json` an answer is one line: one JSON object or array.

use core::fmt;
use std::io::{self, BufWriter, Write};

use serde::{Serialize, Serializer};

use crate::failure::Failure;

/// An answer.
pub(crate) trait Show: Serialize {
    /// Writes it for people, each line ended.
    fn text(&self, out: &mut dyn Write) -> io::Result<()>;
}

/// Where answers go, and in which form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    pub(crate) json: bool,
}

impl Screen {
    /// Prints an answer to stdout, to the last byte.
    pub(crate) fn print(self, shown: &impl Show) -> Result<(), Failure> {
        self.write(shown).map_err(Failure::output)
    }

    fn write(self, shown: &impl Show) -> io::Result<()> {
        let mut out = BufWriter::new(io::stdout().lock());
        if self.json {
            serde_json::to_writer(&mut out, shown)?;
            out.write_all(b"\n")?;
        } else {
            shown.text(&mut out)?;
        }
        out.flush()
    }

    /// Prints bytes to stdout as they are.
    pub(crate) fn print_bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(Failure::output)
    }

    /// Prints a failure to stderr. Nobody is left to be told if that fails.
    pub(crate) fn complain(self, failure: &Failure) {
        let text = if self.json { failure.to_json() } else { failure.to_string() };
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// How a column of a table is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Writes rows under their titles, each column as wide as its widest cell. Costs a pass over `rows` before the
/// first line.
pub(crate) fn table<const N: usize>(
    out: &mut dyn Write,
    titles: [(&str, Align); N],
    rows: &[[String; N]],
) -> io::Result<()> {
    let widest = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; N] = core::array::from_fn(|column| widest(column).max(titles[column].0.len()));
    let mut line = |cells: [&str; N]| {
        let mut text = String::new();
        for (column, cell) in cells.into_iter().enumerate() {
            let width = widths[column];
            match titles[column].1 {
                Align::Left => text += &format!("{cell:<width$}  "),
                Align::Right => text += &format!("{cell:>width$}  "),
            }
        }
        writeln!(out, "{}", text.trim_end())
    };
    line(titles.map(|(title, _)| title))?;
    rows.iter().try_for_each(|row| line(row.each_ref().map(String::as_str)))
}

/// Writes one fact: its name, then its value in a column of its own.
pub(crate) fn fact(out: &mut dyn Write, name: &str, value: impl fmt::Display) -> io::Result<()> {
    writeln!(out, "{name:<11} {value}")
}

/// One allocation, of a workspace or in a checkpoint.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Partition {
    pub(crate) gaddr: u64,
    pub(crate) size: u64,
    pub(crate) tag: u64,
}

/// Writes allocations as a table.
pub(crate) fn partition_table(out: &mut dyn Write, partitions: &[Partition]) -> io::Result<()> {
    let cells =
        |partition: &Partition| [partition.gaddr, partition.size, partition.tag].map(|n| n.to_string());
    let rows: Vec<[String; 3]> = partitions.iter().map(cells).collect();
    table(out, [("gaddr", Align::Right), ("size", Align::Right), ("tag", Align::Right)], &rows)
}

/// A number of things, in words: `1 hole`, `2 holes`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count(pub(crate) u64, pub(crate) &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, thing) = self;
        write!(f, "{count} {thing}{}", if *count == 1 { "" } else { "s" })
    }
}

/// 128 bits of an id, as 32 hexadecimal digits in text and JSON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Id(pub(crate) u128);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Permission bits, as octal digits in text and JSON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mode(pub(crate) u32);

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:04o}", self.0))
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A moment, as nanoseconds since 1970 in UTC; to the second in text.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(transparent)]
pub(crate) struct Moment(pub(crate) u64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000_000_000;
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Year, month and day of the Gregorian calendar, `days` days after 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years begin in March here, so that the leap day is the last of a year.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates() {
        let text = |seconds: u64| Moment(seconds * 1_000_000_000 + 999_999_999).to_string();
        assert_eq!(text(0), "1970-01-01T00:00:00Z");
        assert_eq!(text(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(text(951_868_800), "2000-03-01T00:00:00Z");
        assert_eq!(text(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(text(4_102_444_799), "2099-12-31T23:59:59Z");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut before = civil(0);
        for days in 1..200_000 {
            let (year, month, day) = civil(days);
            let next_day = (before.0, before.1, before.2 + 1);
            let next_month = (before.0, before.1 + 1, 1);
            assert!([next_day, next_month, (before.0 + 1, 1, 1)].contains(&(year, month, day)), "{days}");
            before = (year, month, day);
        }
    }

    #[test]
    fn words_and_digits() {
        assert_eq!(
            (Count(1, "hole").to_string(), Count(0, "hole").to_string()),
            ("1 hole".into(), "0 holes".into())
        );
        assert_eq!((Mode(0o600).to_string(), Id(0xab).to_string().len()), ("0600".into(), 32));
    }
}
